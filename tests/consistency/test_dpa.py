"""dpa2 and dpa3 in their options, on every backend."""

from __future__ import annotations

from dataclasses import replace

from test_fittings import FITTINGS
from tolerances import assert_close

from deepmd.array_model.descriptors.dpa2 import Dpa2, Repinit
from deepmd.array_model.descriptors.dpa3 import Dpa3
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.repflow import Repflow
from deepmd.array_model.repformer import Repformer
from deepmd.testing import DescriptorAgreement, DescriptorConformance, ModelAgreement
from deepmd.testing.conformance import REALISTIC

INIT = Repinit(rcut=3.0, rcut_smth=0.5, nsel=48, neuron=(2, 4), axis_neuron=2, tebd_dim=3)
BLOCK = Repformer(
    **{"rcut": 2.2, "rcut_smth": 0.5, "nsel": 30, "nlayers": 2, "g1_dim": 4, "g2_dim": 3, "axis_neuron": 2},
    **{
        "attn1_hidden": 2,
        "attn1_nhead": 2,
        "attn2_hidden": 2,
        "attn2_nhead": 2,
        "update_h2": True,
        "update_residual": 0.5,
    },
)
THREE = replace(
    INIT, use_three_body=True, three_body_neuron=(2,), three_body_rcut=2.0, three_body_sel=24, three_body_rcut_smth=0.5
)
DPA2 = Dpa2(INIT, BLOCK)
FLOW = Repflow(
    **{"e_rcut": 3.0, "e_rcut_smth": 0.5, "e_sel": 48, "a_rcut": 2.2, "a_rcut_smth": 0.5, "a_sel": 30},
    **{
        "n_dim": 4,
        "e_dim": 3,
        "a_dim": 4,
        "nlayers": 2,
        "axis_neuron": 2,
        "smooth_edge_update": True,
        "update_residual": 0.5,
        "fix_stat_std": 0.0,
    },
)
DPA3 = Dpa3(FLOW)
HARD = replace(
    BLOCK, g1_out_conv=False, g1_out_mlp=False, use_sqrt_nnei=False, attn2_has_gate=True, update_style="res_residual"
)


class TestDpa2(DescriptorConformance):
    # without a mean of the rows: with one, results depend on the type of the first atom
    configs = {"three-body": replace(DPA2, repinit=THREE)}
    deviations = REALISTIC


class TestDpa3(DescriptorConformance):
    configs = {"smooth": DPA3}
    deviations = REALISTIC


class TestOptions(DescriptorAgreement):
    configs = {
        "dpa2, not smooth": Dpa2(replace(INIT, set_davg_zero=False, tebd_input_mode="strip"), HARD, smooth=False),
        "dpa2, float32": replace(DPA2, precision="float32", exclude_types=((0, 1),)),
        "dpa3, compressed": Dpa3(
            replace(FLOW, a_compress_rate=1, n_multi_edge_message=2, use_exp_switch=True), concat_output_tebd=True
        ),
        "dpa3, charge and spin": replace(DPA3, add_chg_spin_ebd=True, concat_output_tebd=True),
        "dpa3, sequential": replace(
            DPA3, repflow=replace(FLOW, sequential_update=True, smooth_edge_update=False), exclude_types=((0, 1),)
        ),
    }
    deviations = REALISTIC


class TestFittings(ModelAgreement):
    """Other quantities than energies of atoms that read messages, and the derivatives of vectors."""

    configs = {
        f"{kind}, {name}": StandardModel(("O", "H"), descriptor, FITTINGS[name])
        for kind, descriptor in (("dpa2", DPA2), ("dpa3", DPA3))
        for name in ("dipole", "polar", "dos", "property")
    }
    deviations = REALISTIC

    def test_atomic_virials_sum_to_the_virial(self, reference):
        results = reference(reference.systems["one_frame"])
        if "virial" in results:
            assert_close(results["atom_virial"].sum(axis=0), results["virial"][0], "virial")
