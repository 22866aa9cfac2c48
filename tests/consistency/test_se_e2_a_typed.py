"""se_e2_a with a type embedding: what DeePMD-kit's TensorFlow computes, on every backend."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from consistency.suites import DescriptorAgreement, DescriptorConformance
from tolerances import assert_close

from deepmd import DeepPot
from deepmd.array_model.descriptors.hybrid import Hybrid
from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.descriptors.se_e2_a_typed import SeE2ATyped
from deepmd.array_model.descriptors.se_e2_r import SeE2R
from deepmd.array_model.type_embedding import TypeEmbedding
from deepmd.host import plain
from deepmd.testing.conformance import REALISTIC

GOLDEN = Path(__file__).parents[1] / "golden"
BASE = SeE2ATyped(
    sel=(24, 24),
    rcut=3.0,
    rcut_smth=0.5,
    neuron=(2, 4),
    axis_neuron=2,
    types=TypeEmbedding((3,), activation_function="tanh"),
)
EXPANDED = replace(BASE, evaluation="spectral")
MORE = replace(
    BASE,
    type_one_side=True,
    exclude_types=((0, 1),),
    types=TypeEmbedding((2, 4), use_econf_tebd=True, use_tebd_bias=True),
)

# torch says of TorchScript as a whole that it is deprecated; loops of evaluations are compiled with it
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")


class TestTyped(DescriptorConformance):
    configs = {"base": BASE}


class TestTypedOptions(DescriptorAgreement):
    deviations = REALISTIC
    type_map = ("O", "H", "C")
    configs = {
        "one side": replace(MORE, sel=(9, 9, 9)),
        "expanded": replace(EXPANDED, sel=(9, 9, 9), precision="default"),
    }


class TestHybrid(DescriptorAgreement):
    """Beside another with types, and one that does not read them."""

    deviations = REALISTIC
    configs = {
        "hybrid": Hybrid(
            (BASE, replace(MORE, rcut=2.5, sel=(9, 30)), SeE2R(sel=(16, 20), rcut=3.0, rcut_smth=0.5, neuron=(2, 4)))
        )
    }

    def test_one_fitting_net_serves_all_types(self):
        model = self.model(self.configs["hybrid"])
        assert len(self.parameters(model)["fitting"]["nets"]) == 1


class TestFollowing(TestTypedOptions):
    """Expansions whose coefficients follow the nets, as in training."""

    stored = False
    on_tensorflow = ("expanded",)
    configs = {"expanded": TestTypedOptions.configs["expanded"]}


@pytest.mark.parametrize("evaluation", ["direct", "spectral"])
@pytest.mark.parametrize("backend", ["numpy", "torch", "tf"])
@pytest.mark.parametrize("case", ["typed_se_e2_a", "typed_se_e2_a_one_side"])
def test_equals_deepmd_kit(case, backend, evaluation):
    """Its features stop before the vector of the type of the centre."""
    stored = np.load(GOLDEN / case / "expected.npz")
    with DeepPot(GOLDEN / case / "model.dp", backend=backend, evaluation=evaluation) as potential:
        for boundary in ("pbc", "nopbc"):
            of = {
                key.removeprefix(f"{boundary}/"): stored[key] for key in stored.files if key.startswith(f"{boundary}/")
            }
            cell = of["cell"][None] if "cell" in of else None
            results = potential.eval(of["coord"][None], cell, of["type"], atomic=True)
            names = ("energy", "force", "virial", "atom_energy", "atom_virial")
            for name, values in zip(names, results, strict=True):
                assert_close(
                    values[0].reshape(of[name].shape), of[name], "golden", floor=0.0, what=f"{boundary}: {name}"
                )
            features = potential.eval_descriptor(of["coord"][None], cell, of["type"])[0]
            assert_close(features[:, : of["descriptor"].shape[1]], of["descriptor"], "golden", floor=0.0, what=boundary)


def test_an_input_without_a_type_embedding_is_as_before():
    assert not [field for field in fields(SeE2A) if field.name == "types"]
    assert BASE.widths.invariant == SeE2A(neuron=(2, 4), axis_neuron=2).widths.invariant + 3
    assert set(BASE.init(("O", "H"), np.random.default_rng, xp=plain)) == {
        "davg",
        "dstd",
        "embeddings",
        "type_embedding",
    }
