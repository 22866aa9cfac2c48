"""Stored forms of dpa2 and dpa3: what is read is written again, and what older programs have written is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import differences, stored_tree

from deepmd.array_model.descriptors.dpa2 import Dpa2, Repinit
from deepmd.array_model.descriptors.dpa3 import Dpa3
from deepmd.array_model.errors import InputError
from deepmd.array_model.repformer import Repformer
from deepmd.host import plain
from deepmd.io import load_model
from deepmd.io.model_file import to_tree

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(path.name for path in GOLDEN.glob("dpa*"))
OLD = Dpa2(
    Repinit(rcut=4.0, rcut_smth=0.5, nsel=8, neuron=(2,), axis_neuron=2, tebd_dim=2),
    Repformer(
        **{"rcut": 3.0, "rcut_smth": 0.5, "nsel": 4, "nlayers": 2, "g1_dim": 4, "g2_dim": 2, "axis_neuron": 2, "attn1_hidden": 2},
        **{"use_sqrt_nnei": False, "g1_out_conv": False, "g1_out_mlp": False, "update_style": "res_residual", "ln_eps": 1e-5},
    ),
    use_tebd_bias=True,
    precision="float64",
)
PARAMS = OLD.fresh(("O", "H"), lambda _: np.random.default_rng(1), xp=plain)


@pytest.mark.parametrize("case", CASES)
def test_written_as_it_was_read(case):
    path = GOLDEN / case / "model.dp"
    assert differences(to_tree(load_model(path), "numpy")["model"], stored_tree(path)["model"]) == []


def old_tree(version):
    """What a program from before some options has written."""
    tree = OLD.serialize(PARAMS, ("O", "H"))
    layers = tree["repformers_variable"]["repformer_layers"]
    for item in (tree["repformer_args"], *layers):
        for name in ("use_sqrt_nnei", "g1_out_conv", "g1_out_mlp"):
            del item[name]
    if version == 1:
        del tree["use_tebd_bias"], tree["type_embedding"]["use_tebd_bias"]
        for layer in layers:  # once beside the other keys
            layer.update(layer.pop("@variables"))
            layer["@version"] = 1
    return {**tree, "@version": version}


@pytest.mark.parametrize("version", [1, 2])
def test_older_dpa2(version):
    expected = OLD.serialize(PARAMS, ("O", "H"))
    config, params = Dpa2.deserialize(old_tree(version))
    assert config == OLD
    written = config.serialize(params, ("O", "H"))
    assert differences(written["repformers_variable"], expected["repformers_variable"]) == []
    assert written["use_tebd_bias"] is True


@pytest.mark.parametrize("case", ["dpa2", "dpa3"])
def test_newer_files_are_refused(case):
    descriptor = stored_tree(GOLDEN / case / "model.dp")["model"]["descriptor"]
    with pytest.raises(InputError, match="version 9"):
        {"dpa2": Dpa2, "dpa3": Dpa3}[case].deserialize({**descriptor, "@version": 9})


def test_charge_and_spin_are_refused():
    descriptor = stored_tree(GOLDEN / "dpa3" / "model.dp")["model"]["descriptor"]
    with pytest.raises(InputError, match="add_chg_spin_ebd"):
        Dpa3.deserialize({**descriptor, "add_chg_spin_ebd": True})
