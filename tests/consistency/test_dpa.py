"""dpa2 and dpa3 in their options, on every backend."""

from __future__ import annotations

from dataclasses import replace

import pytest
from consistency.small_models import DPA2, DPA3, FITTINGS, FLOW, HARD, INIT, THREE
from consistency.suites import DescriptorAgreement, DescriptorConformance, ModelAgreement
from tolerances import assert_close

from deepmd.array_model.descriptors.dpa2 import Dpa2
from deepmd.array_model.descriptors.dpa3 import Dpa3
from deepmd.array_model.models.standard import StandardModel
from deepmd.testing.conformance import REALISTIC


class TestDpa2(DescriptorConformance):
    # without a mean of the rows: with one, results depend on the type of the first atom
    configs = {"three-body": replace(DPA2, repinit=THREE)}
    deviations = REALISTIC


class TestDpa3(DescriptorConformance):
    configs = {"smooth": DPA3}
    deviations = REALISTIC


@pytest.mark.slow  # quick: the golden cases with options
class TestOptions(DescriptorAgreement):
    configs = {
        "dpa2, not smooth": Dpa2(replace(INIT, set_davg_zero=False, tebd_input_mode="strip"), HARD, smooth=False),
        "dpa2, float32": replace(DPA2, precision="float32", exclude_types=((0, 1),)),
        "dpa2, lists of one cutoff": replace(DPA2, repinit=replace(THREE, three_body_rcut=DPA2.repformer.rcut)),
        "dpa3, compressed": Dpa3(
            replace(FLOW, a_compress_rate=1, n_multi_edge_message=2, use_exp_switch=True), concat_output_tebd=True
        ),
        "dpa3, charge and spin": replace(DPA3, add_chg_spin_ebd=True, concat_output_tebd=True),
        "dpa3, sequential": replace(
            DPA3, repflow=replace(FLOW, sequential_update=True, smooth_edge_update=False), exclude_types=((0, 1),)
        ),
    }
    deviations = REALISTIC


@pytest.mark.slow  # quick: the golden case dipole_dpa3
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
