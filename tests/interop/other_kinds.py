"""Small models of every kind that DeePMD-kit's torch trains: sections of its input, labels for the water examples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from interop.dpa_options import DPA2, DPA3
from interop.kit import ROOT, Kit

DATA = ROOT / "examples/water/data/water_330a"
FRAMES, ATOMS = 3, 96

SECTIONED = {"sel": [16, 32], "rcut": 3.7, "rcut_smth": 0.6, "neuron": [3, 6], "seed": 1}
MIXED = {**SECTIONED, "sel": 48, "tebd_dim": 3, "set_davg_zero": False}
DPA1 = {"type": "se_atten", **MIXED, "axis_neuron": 2, "attn": 5, "attn_layer": 0}
SE_E2_A = {"type": "se_e2_a", **SECTIONED, "axis_neuron": 2, "type_one_side": True}
SE_E2_R = {"type": "se_e2_r", **SECTIONED}
SE_E3 = {"type": "se_e3", **SECTIONED, "rcut": 2.8, "sel": [6, 12]}
SE_E3_TEBD = {"type": "se_e3_tebd", **MIXED, "rcut": 2.8, "sel": 18}

ENER = {"type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1}
TENSOR = {"type": "tensor", "pref": 1.0, "pref_atomic": 0.0}
DOS = {"type": "dos", "start_pref_dos": 1.0, "limit_pref_dos": 1.0, "start_pref_cdf": 0.0, "limit_pref_cdf": 0.0}
DOS |= {f"{name}_pref_{kind}": 0.0 for name in ("start", "limit") for kind in ("ados", "acdf")}
PROPERTY = {"type": "property", "loss_func": "mse", "metric": ["mae"]}


def fitting(kind: str = "ener", **options: Any) -> dict[str, Any]:
    """Section of a small fitting net."""
    return {"type": kind, "neuron": [7, 7], "seed": 1, **options}


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # name: (descriptor, fitting net, loss)
    "se_e2_r": (SE_E2_R, fitting(numb_fparam=1, default_fparam=[0.5]), ENER),
    "se_e3": ({**SE_E3, "resnet_dt": True}, fitting(), ENER),
    "se_e3_tebd": (SE_E3_TEBD, fitting(), ENER),
    "se_e3_tebd_strip": ({**SE_E3_TEBD, "tebd_input_mode": "strip", "use_econf_tebd": True}, fitting(), ENER),
    "se_atten": ({**DPA1, "use_tebd_bias": True, "exclude_types": [[0, 1]]}, fitting(), ENER),
    "se_atten_attention": (
        {**DPA1, "attn_layer": 2, "scaling_factor": 0.7, "ln_eps": 1e-4, "attn_dotr": False},
        fitting(),
        ENER,
    ),
    "se_atten_strip": (
        {**DPA1, "tebd_input_mode": "strip", "smooth_type_embedding": True, "type_one_side": True},
        fitting(),
        ENER,
    ),
    "se_atten_v2": (
        {**DPA1, "type": "se_atten_v2", "attn_layer": 1, "concat_output_tebd": False, "use_econf_tebd": True},
        fitting(),
        ENER,
    ),
    "hybrid": ({"type": "hybrid", "list": [SE_E2_A, {**SE_E2_R, "rcut": 3.0, "sel": [9, 18]}]}, fitting(), ENER),
    "hybrid_mixed": ({"type": "hybrid", "list": [SE_E2_A, {**DPA1, "attn_layer": 1}, SE_E3_TEBD]}, fitting(), ENER),
    "dpa2": (DPA2["all_avg"]["descriptor"], fitting(), ENER),
    "dpa2_three_strip": (DPA2["three_strip"]["descriptor"], fitting(), ENER),
    "dpa3": (DPA3["base"]["descriptor"], fitting(numb_fparam=1, default_fparam=[0.5]), ENER),
    "dpa3_compress": (DPA3["compress_split"]["descriptor"], fitting(), ENER),
    **dict.fromkeys(("linear", "linear_pairtab", "linear_messages", "zbl", "zbl_excluded"), (DPA1, fitting(), ENER)),
    "dipole": (SE_E2_A, fitting("dipole"), TENSOR),
    "dipole_mixed": (DPA1, fitting("dipole", resnet_dt=False), TENSOR),
    "polar": (SE_E2_A, fitting("polar", scale=[1.5, 0.7], fit_diag=False), TENSOR),
    "polar_diagonal": (DPA1, fitting("polar", fit_diag=True, shift_diag=True), TENSOR),
    "dos": (SE_E2_A, fitting("dos", numb_dos=5), DOS),
    "property": (DPA1, fitting("property", property_name="gap", task_dim=2, intensive=True), PROPERTY),
    "property_extensive": (
        SE_E2_A,
        fitting("property", property_name="gap", task_dim=2, distinguish_types=True),
        PROPERTY,
    ),
}


TABLE = {"type": "pairtab", "tab_file": "../data/table.txt", "rcut": 3.3, "sel": 40}
SHORT = {"use_srtab": "../data/table.txt", "sw_rmin": 0.7, "sw_rmax": 1.4, "smin_alpha": 0.2}
ONE, OTHER = (
    {"descriptor": descriptor, "fitting_net": fitting()}
    for descriptor in (DPA1, {**SE_E3_TEBD, "rcut": 3.0, "sel": 24})
)
PASSING = [{**options, "fitting_net": fitting()} for options in (DPA2["three_strip"], DPA3["base"])]

COMBINATIONS: dict[str, dict[str, Any]] = {
    # name: the section `model` of a kind that is made of others, in DeePMD-kit's torch of mixed ones only
    "linear": {"type": "linear_ener", "models": [ONE, OTHER], "weights": "mean"},
    "linear_pairtab": {
        "type": "linear_ener",
        "models": [ONE, TABLE],
        "weights": [0.7, 0.4],
        "pair_exclude_types": [[0, 0]],
    },
    "linear_messages": {"type": "linear_ener", "models": [*PASSING, TABLE], "weights": "sum"},
    "zbl": {**ONE, **SHORT},
    "zbl_excluded": {**OTHER, **SHORT, "atom_exclude_types": [1]},
}


def write_table(path: Path) -> None:
    """Write energies (eV) of the three pairs of types, which repel each other to 2.5 Angstrom."""
    distance = np.arange(0.1, 2.5, 0.05)[:, None]
    np.savetxt(path, np.concatenate([distance, np.exp(-2.0 * distance) * [[8.0, 3.0, 1.0]]], axis=1), fmt="%.10f")


DP_CASES = {
    # stored case whose `.dp` is given to DeePMD-kit: kind of output
    **dict.fromkeys(("se_e2_r", "se_e3", "se_e3_tebd", "hybrid", "zbl", "zbl_tables"), "ener"),
    **dict.fromkeys(
        (f"se_atten{ending}" for ending in ("", "_attn", "_strip", "_masked", "_one_side", "_scaled")), "ener"
    ),
    **dict.fromkeys(("dpa2", "dpa3"), "ener"),
    **{kind: kind for kind in ("dipole", "polar", "dos", "property")},
}

SUMS = ("linear", "linear_tables", "linear_pairtab", "pairtab")
"""Kinds whose `.dp` DeePMD-kit's DeepPot and conversion refuse, its own files included.

They say "Unknown model type" or "cannot reshape".
"""

NOT_READ = {"dp": ("zbl", "zbl_tables"), "pth": ()}
"""Its NumPy leaves out the biases of the members of a sum, which its torch adds; these cases have some."""


def write_data(folder: Path) -> None:
    """Copy some frames of water, with random labels for what the data lack."""
    draw, labels = np.random.default_rng(0), {"dipole": 3, "polarizability": 9, "dos": 5, "gap": 2, "fparam": 1}
    (folder / "set.000").mkdir(parents=True)
    for name in ("coord", "box", "energy", "force"):
        np.save(folder / f"set.000/{name}.npy", np.load(DATA / f"set.000/{name}.npy")[:FRAMES])
    for name, size in labels.items():
        np.save(folder / f"set.000/{name}.npy", draw.normal(size=(FRAMES, size)))
    write_table(folder / "table.txt")
    for name in ("type.raw", "type_map.raw"):
        shutil.copy(DATA / name, folder)


def training_options(model: dict[str, Any], loss: dict[str, Any]) -> dict[str, Any]:
    """Return the input of a training of two steps on the data beside its folder."""
    training = {
        "training_data": {"systems": ["../data"], "batch_size": 1},
        "numb_steps": 2,
        "seed": 1,
        "disp_freq": 2,
        "save_freq": 2,
    }
    return {
        "model": {"type_map": ["O", "H"], **model},
        "learning_rate": {"type": "exp", "start_lr": 0.001, "stop_lr": 1e-5, "decay_steps": 20},
        "loss": loss,
        "training": {**training, "save_ckpt": "model.ckpt"},
    }


def write_input(folder: Path, name: str) -> None:
    """Write the input of a training of two steps."""
    descriptor, fitting_net, loss = KINDS[name]
    model = COMBINATIONS.get(name, {"descriptor": descriptor, "fitting_net": fitting_net})
    folder.mkdir(parents=True)
    (folder / "input.json").write_text(json.dumps(training_options(model, loss)))


WORK = """
import json, os, sys
import numpy as np
from deepmd.main import main
from deepmd.infer import DeepPot
from deepmd.infer.deep_dipole import DeepDipole
from deepmd.infer.deep_dos import DeepDOS
from deepmd.infer.deep_polar import DeepPolar
from deepmd.infer.deep_property import DeepProperty

home, given = os.getcwd(), dict(np.load("given.npz"))
for name, kind in json.load(open("jobs.json")).items():
    os.chdir(os.path.join(home, name))
    main(["--pt", "train", "input.json", "--skip-neighbor-stat"])
    main(["--pt", "freeze", "-o", "frozen"])
    if not name.startswith("linear"):  # its frozen sums lack their input, which its conversion needs
        main(["convert-backend", "frozen.pth", "theirs.dp"])
    cls = {"ener": DeepPot, "dipole": DeepDipole, "polar": DeepPolar, "dos": DeepDOS, "property": DeepProperty}[kind]
    options = {"fparam": given["fparam"]} if name in ("se_e2_r", "dpa3") else {}
    model, arrays = cls("frozen.pth"), (given["coord"][None], given["cell"][None], given["types"])
    if kind == "ener":
        names = ("energy", "force", "virial", "atom_energy", "atom_virial")
        values = dict(zip(names, model.eval(*arrays, atomic=True, **options)))
    elif kind in ("dipole", "polar"):
        values = {f"atom_{kind}": model.eval(*arrays, atomic=True), kind: model.eval(*arrays, atomic=False)}
    else:
        values = dict(zip((kind, f"atom_{kind}"), model.eval(*arrays, atomic=True)))
    np.savez("expected.npz", **values)
"""


def work(kit: Kit, folder: Path, given: dict[str, np.ndarray], jobs: dict[str, Any], script: str) -> None:
    """Let DeePMD-kit do `script` for all jobs in one process, since its start takes long."""
    write_data(folder / "data")
    np.savez(folder / "given.npz", **given)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    kit.run(["python", "-c", script], folder)


def train_all(kit: Kit, folder: Path, given: dict[str, np.ndarray]) -> None:
    """Train, freeze, convert and evaluate every kind."""
    for name in KINDS:
        write_input(folder / name, name)
    work(kit, folder, given, {name: row[1]["type"] for name, row in KINDS.items()}, WORK)
