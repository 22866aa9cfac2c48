"""`copy.deepcopy` and `pickle` of models of every class: the copy is the same model wherever it goes."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from support import FRAMEWORKS, mark_slow

from deepmd import infer
from deepmd.array_model.errors import InputError
from deepmd.infer import DeepEval, DeepPot
from deepmd.infer.deep_pot import ExpansionWarning

GOLDEN = Path(__file__).parents[1] / "golden"
CLASSES = {
    **{"se_e2_a": "DeepPot", "dpa3": "DeepPot", "dipole": "DeepDipole"},
    **{"polar": "DeepGlobalPolar", "dos": "DeepDOS", "property": "DeepProperty"},
}
COPIES = {"deepcopy": copy.deepcopy, "copy": copy.copy, "pickle": lambda model: pickle.loads(pickle.dumps(model))}
MODEL = GOLDEN / "se_e2_a" / "model.dp"
FRAME = np.array([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]), None, [0, 1, 1]
NEAR = np.array([[[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 1.0, 0.0]]]), None, [0, 1, 1]


def values(model):
    """The first result of a frame."""
    out = model.eval(*FRAME)
    return out[0] if isinstance(out, tuple) else out


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("case", CLASSES)
@pytest.mark.filterwarnings("ignore::deepmd.infer.inputs.OrderWarning")
def test_a_copy_gives_the_same(case, how):
    model = getattr(infer, CLASSES[case])(GOLDEN / case / "model.dp")
    other = COPIES[how](model)
    assert type(other) is type(model)
    assert np.array_equal(values(other), values(model))
    assert np.array_equal(values(COPIES[how](model)), values(model))  # of one that has been used


@pytest.mark.parametrize("backend", mark_slow(FRAMEWORKS, ["numpy", "torch"]))
def test_a_copy_keeps_its_options(backend):
    model = DeepPot(MODEL, backend=backend, evaluation="direct")
    other = COPIES["pickle"](model)
    assert (other.backend, other.evaluation) == (backend, "direct")
    assert np.array_equal(values(other), values(model))


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_counts_and_closes_for_itself(how):
    model = DeepPot(MODEL)
    with pytest.warns(ExpansionWarning):
        model.eval(*NEAR)
    met = model.outside
    other = COPIES[how](model)
    other.eval(*NEAR)  # the original has warned already; a second warning would be an error
    assert (other.outside, model.outside) == (2 * met, met)
    other.close()
    model.eval(*FRAME)
    with pytest.raises(InputError, match="has been closed"):
        COPIES[how](other).eval(*FRAME)


@pytest.mark.parametrize("file", ["gone", "another"])
def test_a_pickled_model_does_not_need_its_file(file, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model.dp").write_bytes(MODEL.read_bytes())
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(DeepEval("model.dp"))
    (tmp_path / "model.dp").unlink()
    if file == "another":
        (tmp_path / "model.dp").write_bytes((GOLDEN / "se_e2_r" / "model.dp").read_bytes())
    else:
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert np.array_equal(values(pickle.loads(pickled)), values(DeepPot(MODEL)))
