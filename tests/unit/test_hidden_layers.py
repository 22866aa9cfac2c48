"""Vectors inside of models: of the types, and of the atoms in the last hidden layer of the fitting net."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import require

from deepmd.array_model.errors import InputError
from deepmd.backends import BACKENDS
from deepmd.infer import DeepEval
from deepmd.io import load_model

pytestmark = pytest.mark.filterwarnings("ignore::deepmd.infer.inputs.OrderWarning")

GOLDEN = Path(__file__).parent.parent / "golden"
EXCLUDED = [
    [-0.619685413771961, 0.06416969673558376, 0.5544820105705907],
    [-0.5339108869416844, 0.8577461876451011, 0.8379636262063632],
]
VECTORS = [
    [1.9069632720289753, -0.13599641819200634, 0.027350392121504277, -0.797563858239238],
    [1.9499107414707681, -0.06699462445518686, -0.0010813896975555362, -0.8583456901970951],
    [0.0, 0.0, 0.0, 0.0],
]


def evaluated(case, backend="numpy"):
    """A model, and its last hidden layer and atomic output for a stored frame."""
    stored = np.load(GOLDEN / case / "expected.npz")
    frame = {name.removeprefix("pbc/"): stored[name] for name in stored.files if name.startswith("pbc/")}
    model: Any = DeepEval(GOLDEN / case / "model.dp", backend=backend)
    given = {name: frame[name] for name in ("fparam", "aparam") if name in frame}
    arguments = frame["coord"][None], frame["cell"][None], frame["type"]
    return (
        model,
        frame["type"],
        model.eval_fitting_last_layer(*arguments, **given),
        model.eval(*arguments, True, **given),
    )


@pytest.mark.parametrize(
    ("case", "backend"), [("se_e2_a_fparam", "numpy"), ("se_atten_attn", "torch"), ("dos", "numpy")]
)
def test_the_last_layer_of_the_net_makes_the_output_of_it(case, backend):
    if package := BACKENDS[backend].package:
        require(package)
    model, types, hidden, results = evaluated(case, backend)
    params = load_model(GOLDEN / case / "model.dp").params
    nets = params["fitting"]["nets"]
    last = [nets[kind if len(nets) > 1 else 0]["layers"][-1] for kind in types]
    values = np.array([row @ layer["w"] + layer["b"] for row, layer in zip(hidden[0], last, strict=True)])
    values += params["fitting"]["bias_atom_e"][types] + params["out_bias"][0][types]
    atomic = results[3] if model.output.name == "energy" else results[1]
    np.testing.assert_allclose(values, atomic[0], rtol=1e-12, atol=1e-12)


def test_atoms_of_excluded_types_have_a_layer():
    """Numbers of DeePMD-kit 3.2."""
    _, _, hidden, results = evaluated("excluded")
    assert 0 in results[3], "an excluded atom has no energy"
    np.testing.assert_allclose(hidden[0, :2, :3], EXCLUDED, rtol=1e-12)


def test_type_vectors():
    """One row for each type, and zeros for no atom; numbers of DeePMD-kit 3.2."""
    vectors = DeepEval(GOLDEN / "se_atten_econf" / "model.dp").eval_typeebd()
    np.testing.assert_allclose(vectors, VECTORS, rtol=1e-12)
    with pytest.raises(InputError, match="no type embedding"):
        DeepEval(GOLDEN / "se_e2_a" / "model.dp").eval_typeebd()


def test_a_model_without_a_hidden_layer():
    with pytest.raises(InputError, match="pairtab has no fitting net"):
        evaluated("pairtab")


@pytest.mark.parametrize(
    "name",
    ["eval.DeepEval", "pot.DeepPot", "dipole.DeepDipole", "polar.DeepPolar", "dos.DeepDOS", "property.DeepProperty"],
)
def test_classes_are_where_deepmd_kit_has_them(name):
    module, cls = name.split(".")
    assert getattr(import_module(f"deepmd.infer.deep_{module}"), cls) is getattr(import_module("deepmd.infer"), cls)
