"""Stored forms of dpa2 and dpa3: what is read is written again, and what older programs have written is read."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support import differences, mark_slow, options, require, stored_tree
from tolerances import assert_close

from deepmd import DeepPot
from deepmd.array_model.descriptors.dpa2 import Dpa2, Repinit
from deepmd.array_model.errors import InputError
from deepmd.array_model.repformer import Repformer
from deepmd.array_model.tree import flatten
from deepmd.host import plain
from deepmd.io import load_model, save_model
from deepmd.io.model_file import to_tree
from deepmd.kit.layouts.descriptors import descriptor_from_dict, descriptor_to_dict

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(path.name for path in GOLDEN.glob("dpa*"))
COMPILED = (
    *("dpa2", "dpa2_all_residual_norm", "dpa2_not_smooth_no_sqrt", "dpa2_three_excluded", "dpa3", "dpa3_charge_spin"),
    *("dpa3_compress_2", "dpa3_sequential_smooth", "dpa3_use_dist_exp_switch"),
)
"""Cases that are written as TorchScript, which takes seconds each."""
QUICK = ("dpa2_three_excluded", "dpa3_charge_spin")
"""One of dpa2 with every part and excluded types, one of dpa3; physics is written once, and NumPy compares all."""
QUANTITIES = ("energy", "force", "virial", "atom_energy", "atom_virial")
needs_torchscript = pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
OLD = Dpa2(
    Repinit(rcut=4.0, rcut_smth=0.5, nsel=8, neuron=(2,), axis_neuron=2, tebd_dim=2),
    Repformer(
        **{
            "rcut": 3.0,
            "rcut_smth": 0.5,
            "nsel": 4,
            "nlayers": 2,
            "g1_dim": 4,
            "g2_dim": 2,
            "axis_neuron": 2,
            "attn1_hidden": 2,
        },
        **{
            "use_sqrt_nnei": False,
            "g1_out_conv": False,
            "g1_out_mlp": False,
            "update_style": "res_residual",
            "ln_eps": 1e-5,
        },
    ),
    use_tebd_bias=True,
    precision="float64",
)
PARAMS = OLD.init(("O", "H"), lambda _: np.random.default_rng(1), xp=plain)


@pytest.fixture(scope="module")
def compiled(file_of):
    """Our `.pth` of a stored model.

    Writing it has made the name of DeePMD-kit's operator known, which is all that loading needs.
    """
    torch = require("torch")

    @cache
    def made(case):
        path = file_of(case, ".pth")
        return path, torch.jit.load(str(path))

    return made


def of_case(case, boundary):
    """The structure of a stored result as tensors, all atoms inside the cell; and the result."""
    torch, stored = require("torch"), np.load(GOLDEN / case / "expected.npz")
    found = {key.split("/")[1]: stored[key] for key in stored.files if key.startswith(f"{boundary}/")}
    coord, cell = found["coord"], found.get("cell")
    coord = coord if cell is None else coord @ np.linalg.inv(cell) % 1.0 @ cell
    return torch.tensor(coord[None]), torch.tensor(found["type"][None]), cell, found


def images(coord, types, cell, rcut):
    """Atoms with all images within the cutoff, and a list of neighbours within a little more, shuffled."""
    torch, rng = require("torch"), np.random.default_rng(0)
    coord, types = coord[0].numpy(), types[0].numpy()
    reach = np.ceil((rcut + 1.0) * np.linalg.norm(np.linalg.inv(cell), axis=0)).astype(int)
    shifts = np.stack(np.meshgrid(*(np.arange(-k, k + 1) for k in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    shifts = shifts[np.argsort(np.abs(shifts).sum(axis=1), kind="stable")]
    everything = (coord[None] + (shifts @ cell)[:, None]).reshape(-1, 3)
    owner = np.tile(np.arange(len(coord)), len(shifts))
    distance = np.linalg.norm(everything[None] - coord[:, None], axis=-1)
    near = [rng.permutation(np.flatnonzero((row < rcut + 0.7) & (row > 0.0))) for row in distance]
    nlist = np.full((len(coord), max(map(len, near)) + 2), -1)
    for row, found in zip(nlist, near, strict=True):
        row[: len(found)] = found
    return (torch.tensor(array[None]) for array in (everything, types[owner], nlist, owner))


def agree(found, expected, names):
    for name, ours in names.items():
        values = found[ours].detach().numpy()
        assert_close(values.reshape(expected[name].shape), expected[name], "golden", what=name)


@needs_torchscript
@pytest.mark.parametrize("boundary", ["pbc", "nopbc"])
@pytest.mark.parametrize("case", mark_slow(COMPILED, QUICK))
def test_torchscript(compiled, case, boundary):
    coord, types, cell, expected = of_case(case, boundary)
    box = None if cell is None else require("torch").tensor(cell.reshape(1, 9))
    _, module = compiled(case)
    assert module.has_message_passing()
    more = {"charge_spin": require("torch").tensor(expected["charge_spin"])} if "charge_spin" in expected else {}
    for _ in range(3):  # the executor optimises after the first calls
        found = module(coord, types, box, None, None, True, **more)
    agree(found, expected, {name: name for name in QUANTITIES})


@needs_torchscript
def test_torchscript_of_a_vector(compiled):
    """Each component has forces, virials and atomic virials of its own."""
    coord, types, cell, expected = of_case("dipole_dpa3", "pbc")
    found = compiled("dipole_dpa3")[1](coord, types, require("torch").tensor(cell.reshape(1, 9)), None, None, True)
    names = {"dipole_redu": "global_dipole", "dipole": "dipole", "dipole_derv_c_redu": "virial"}
    agree(found, expected, names)
    natoms = types.shape[1]
    for stored, ours, shape in (("r", "force", (natoms, 3, 3)), ("c", "atom_virial", (natoms, 3, 9))):
        values = expected[f"dipole_derv_{stored}"].reshape(shape)  # in the order atom, component
        assert_close(found[ours].detach().numpy().reshape(shape), values, "golden", what=ours)


@needs_torchscript
@pytest.mark.parametrize("case", mark_slow(QUICK, ["dpa3_charge_spin"]))
def test_torchscript_with_images(compiled, case):
    coord, types, cell, expected = of_case(case, "pbc")
    _, module = compiled(case)
    extended, kinds, nlist, owner = images(coord, types, cell, module.get_rcut())
    more = {"charge_spin": require("torch").tensor(expected["charge_spin"])} if "charge_spin" in expected else {}
    found = module.forward_lower(extended, kinds, nlist, owner, None, None, True, **more)
    agree(
        {**found, "extended_force": found["extended_force"][:, : types.shape[1]]},
        expected,
        {"energy": "energy", "force": "extended_force"},
    )
    folded = np.zeros((types.shape[1], 9))
    np.add.at(folded, owner[0].numpy(), found["extended_virial"][0].numpy())
    assert_close(folded, expected["atom_virial"].reshape(folded.shape), "golden", what="atomic virial")
    with pytest.raises(require("torch").jit.Error, match="atom_modify map yes"):
        module.forward_lower(extended, kinds, nlist, None)


@needs_torchscript
@pytest.mark.parametrize("case", mark_slow(COMPILED, QUICK))
def test_torchscript_is_read_back(compiled, case):
    expected, found = (flatten(load_model(path).params) for path in (GOLDEN / case / "model.dp", compiled(case)[0]))
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[path], found[path]) for path in expected)


@pytest.mark.parametrize("case", CASES)
def test_written_as_it_was_read(case):
    path = GOLDEN / case / "model.dp"
    assert differences(to_tree(load_model(path), "numpy")["model"], stored_tree(path)["model"]) == []


def old_tree(version):
    """What a program from before some options has written."""
    tree = descriptor_to_dict(OLD, PARAMS, ("O", "H"))
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
    expected = descriptor_to_dict(OLD, PARAMS, ("O", "H"))
    config, params = descriptor_from_dict(old_tree(version))
    assert config == OLD
    written = descriptor_to_dict(config, params, ("O", "H"))
    assert differences(written["repformers_variable"], expected["repformers_variable"]) == []
    assert written["use_tebd_bias"] is True


@pytest.mark.parametrize("case", ["dpa2", "dpa3"])
def test_newer_files_are_refused(case):
    descriptor = stored_tree(GOLDEN / case / "model.dp")["model"]["descriptor"]
    with pytest.raises(InputError, match="version 9"):
        descriptor_from_dict({**descriptor, "@version": 9})


@needs_torchscript
def test_charge_and_spin_in_torchscript(compiled):
    """What C++ asks for, and what is refused."""
    torch = require("torch")
    coord, types, _, expected = of_case("dpa3_charge_spin", "nopbc")
    _, module = compiled("dpa3_charge_spin")
    assert (module.get_dim_chg_spin(), module.has_chg_spin_ebd(), module.has_default_chg_spin()) == (2, True, False)
    assert module.get_default_chg_spin() is None
    for given in ([1.0, 0.0], [[1.0, 0.0]]):  # for all frames, or for each
        assert_close(
            module(coord, types, charge_spin=torch.tensor(given))["energy"].numpy(),
            expected["energy"].reshape(1, 1),
            "golden",
        )
    for given, text in (
        (None, "charge_spin is missing"),
        ([[0.0, 100.0]], "holds 100. in column 1; accepted: 0 to 99"),
        ([1.0], "has 1 values"),
    ):
        with pytest.raises(torch.jit.Error, match=text):
            module(coord, types, charge_spin=None if given is None else torch.tensor(given))
    _, without = compiled("dpa2_three_excluded")
    assert (without.get_dim_chg_spin(), without.has_chg_spin_ebd()) == (0, False)


@needs_torchscript
def test_default_charge_and_spin(tmp_path):
    """It stands in for what is not given, in every kind of file."""
    torch, frame = require("torch"), of_case("dpa3_charge_spin", "nopbc")
    coord, types, _, expected = frame
    content = load_model(GOLDEN / "dpa3_charge_spin" / "model.dp")
    descriptor = replace(options(content.model).descriptor, default_chg_spin=(1.0, 0.0))
    path = tmp_path / "model.pth"
    save_model(path, replace(content, model=replace(options(content.model), descriptor=descriptor)))
    module = torch.jit.load(str(path))
    assert module.has_default_chg_spin()
    assert module.get_default_chg_spin().tolist() == [1.0, 0.0]
    assert_close(module(coord, types)["energy"].numpy(), expected["energy"].reshape(1, 1), "golden")
    with DeepPot(path, backend="numpy") as potential:
        assert potential.has_default_chg_spin()
        assert_close(
            potential.eval(coord.numpy(), None, types[0].numpy())[0], expected["energy"].reshape(1, 1), "golden"
        )


def test_charge_and_spin_of_an_evaluation():
    frame = np.load(GOLDEN / "dpa3_charge_spin" / "expected.npz")
    coord, types = frame["nopbc/coord"][None, :5], frame["nopbc/type"][None, :5]
    with DeepPot(GOLDEN / "dpa3_charge_spin" / "model.dp") as potential:
        assert potential.has_chg_spin_ebd()
        assert not potential.has_default_chg_spin()

        def energies(charge_spin):
            return potential.eval(np.tile(coord, (2, 1, 1)), None, types[0], charge_spin=charge_spin)[0].ravel()

        both = energies([[-2.0, 3.0], [1.0, 0.0]])
        assert both[0] != both[1]
        np.testing.assert_array_equal(energies([1.0, 0.0]), both[[1, 1]])
        np.testing.assert_array_equal(energies([[-2.9, 3.9], [1.2, 0.0]]), both)  # digits behind the point are dropped
        for given, text in (
            (None, r"charge_spin: missing.*\(2, 2\), \(2,\)"),
            ([[0.0, 0.0], [100.0, 0.0]], "charge_spin, frame 1: the charge is 100; accepted: -100 to 99"),
            ([0.0, -1.0], "the spin is -1; accepted: 0 to 99"),
            ([[1.0, 2.0, 3.0]], "has shape"),
        ):
            with pytest.raises(InputError, match=text):
                energies(given)
    with DeepPot(GOLDEN / "dpa3" / "model.dp") as potential, pytest.raises(InputError, match="charge_spin: given, but"):
        potential.eval(coord, None, types[0], charge_spin=[0.0, 0.0])
