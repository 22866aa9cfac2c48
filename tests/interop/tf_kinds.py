"""Small models of kinds that DeePMD-kit's TensorFlow trains and `trained.py` lacks, as sections of its input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from interop.kit import Kit
from interop.other_kinds import DOS, ENER, SE_E2_A, SE_E2_R, SE_E3, SECTIONED, TENSOR, fitting, training_options, work

E2R = {**SE_E2_R, "type_one_side": True, "rcut": 3.0, "sel": [9, 18]}
ATTEN = {"type": "se_atten", **SECTIONED, "sel": 48, "axis_neuron": 2, "attn": 5, "attn_layer": 0, "attn_dotr": False}
STRIP = {**ATTEN, "tebd_input_mode": "strip"}
V2 = {**ATTEN, "type": "se_atten_v2"}
TWO = {**SE_E2_A, "type_one_side": False}
TYPES = {"neuron": [3, 6], "seed": 1}


def hybrid(*members: dict[str, Any]) -> dict[str, Any]:
    """Section of a hybrid."""
    return {"type": "hybrid", "list": list(members)}


def linear(**options: Any) -> dict[str, Any]:
    """A `type_embedding` section of the form that se_atten has in all backends."""
    return {"type_embedding": {"neuron": [4], "activation_function": "Linear", "seed": 1, **options}}


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # name: (descriptor, fitting net, loss, rest of the section model)
    "dipole": (SE_E2_A, fitting("dipole"), TENSOR, {}),
    "dipole_first": (SE_E2_A, fitting("dipole", sel_type=[0]), TENSOR, {}),
    "dipole_chosen": (TWO, fitting("dipole", sel_type=[1]), TENSOR, {}),
    "dipole_hybrid": (hybrid(SE_E2_A, {**TWO, "rcut": 3.0}), fitting("dipole"), TENSOR, {}),
    "dipole_mixed": (ATTEN, fitting("dipole", resnet_dt=False), TENSOR, {}),
    "polar": (SE_E2_A, fitting("polar", scale=[1.5, 0.7], fit_diag=False), TENSOR, {}),
    "polar_diagonal": (TWO, fitting("polar", fit_diag=True, shift_diag=True, scale=[1.5, 0.7]), TENSOR, {}),
    "polar_chosen": (SE_E2_A, fitting("polar", sel_type=[1]), TENSOR, {}),
    "polar_not_shifted": (SE_E2_A, fitting("polar", shift_diag=False), TENSOR, {}),
    "polar_mixed": (ATTEN, fitting("polar", scale=[1.5, 0.7]), TENSOR, {}),
    "polar_mixed_chosen": (ATTEN, fitting("polar", sel_type=[1], scale=[1.5, 0.7]), TENSOR, {}),
    "dipole_mixed_chosen": (ATTEN, fitting("dipole", sel_type=[1]), TENSOR, {}),
    "dos": (SE_E2_A, fitting("dos", numb_dos=5), DOS, {}),
    "dos_mixed": (STRIP, fitting("dos", numb_dos=5), DOS, {}),
    "hybrid": (hybrid(SE_E2_A, E2R, SE_E3), fitting(numb_fparam=1), ENER, {}),
    "hybrid_mixed": (hybrid(SE_E2_A, ATTEN), fitting(), ENER, {}),
    "hybrid_mixed_first": (hybrid({**ATTEN, "attn_layer": 1}, TWO), fitting(), ENER, {}),
    "hybrid_attention": (hybrid({**STRIP, "rcut": 3.0, "sel": 30}, {**ATTEN, "attn_layer": 2}), fitting(), ENER, {}),
    "hybrid_typed": (hybrid(SE_E2_A, {**TWO, "rcut": 3.0}), fitting(), ENER, {"type_embedding": TYPES}),
    "hybrid_typed_distances": (hybrid(E2R, SE_E2_A), fitting(numb_fparam=1), ENER, {"type_embedding": TYPES}),
    "se_atten": (ATTEN, fitting(), ENER, {}),
    "se_atten_mean": ({**ATTEN, "set_davg_zero": False}, fitting(), ENER, {}),
    "se_atten_one_side": (
        {**ATTEN, "type_one_side": True, "resnet_dt": True, "neuron": [3, 6, 6]},
        fitting(numb_fparam=1),
        ENER,
        linear(),
    ),
    "se_atten_bias": (ATTEN, fitting(), ENER, linear(use_tebd_bias=True)),
    "se_atten_electrons": (ATTEN, fitting(), ENER, linear(use_econf_tebd=True)),
    "se_atten_excluded": ({**ATTEN, "exclude_types": [[0, 1]], "attn_layer": 1}, fitting(), ENER, {}),
    "se_atten_deep_types": (ATTEN, fitting(), ENER, {"type_embedding": TYPES}),
    "se_atten_attention": ({**ATTEN, "attn_layer": 2}, fitting(), ENER, {}),
    "se_atten_options": ({**STRIP, "attn_layer": 1, "attn": 4, "trainable_ln": False}, fitting(), ENER, {}),
    "se_atten_dotr": ({**ATTEN, "attn_layer": 1, "attn_dotr": True}, fitting(), ENER, {}),
    "hybrid_shorter": (hybrid(ATTEN, {**ATTEN, "rcut": 3.0, "sel": 30, "attn_layer": 1}), fitting(), ENER, {}),
    "hybrid_shorter_excluded": (
        hybrid({**SE_E2_A, "exclude_types": [[0, 1]]}, {**ATTEN, "rcut": 3.0, "sel": 30}),
        fitting(),
        ENER,
        {},
    ),
    "se_atten_strip": (STRIP, fitting(), ENER, {}),
    "se_atten_smooth": ({**ATTEN, "smooth_type_embedding": True, "attn_layer": 1}, fitting(), ENER, {}),
    "se_atten_v2": (V2, fitting(), ENER, {}),
    "se_atten_vacuum": (STRIP, fitting(atom_ener=[-1.0, -2.0]), ENER, {}),
    "typed": (SE_E2_A, fitting(), ENER, {"type_embedding": TYPES}),
    "typed_two_side": (
        {**TWO, "resnet_dt": True},
        fitting(),
        ENER,
        {"type_embedding": {**TYPES, "resnet_dt": True, "use_tebd_bias": True}},
    ),
    "typed_electrons": (TWO, fitting(), ENER, {"type_embedding": {**TYPES, "use_econf_tebd": True}}),
    "typed_excluded": ({**TWO, "exclude_types": [[0, 0]]}, fitting(), ENER, {"type_embedding": TYPES}),
    "typed_distances": (E2R, fitting(atom_ener=[-1.0, -2.0]), ENER, {"type_embedding": TYPES}),
    "typed_triples": (SE_E3, fitting(), ENER, {"type_embedding": TYPES}),
}


REFUSED = {
    # kind whose graphs compute what no other format can say: what the error says
    "hybrid_shorter": "model/descriptor/list/1/rcut: its attention layers see atoms up to 3 Angstrom",
    "se_atten_dotr": "model/descriptor/attn_dotr: true with attention layers",
    "se_atten_mean": "model/descriptor: trained with set_davg_zero false",
    "se_atten_smooth": "model/descriptor: smooth_type_embedding",
    "se_atten_vacuum": "model/fitting_net/atom_ener: with a type embedding",
    "se_atten_v2": "model/descriptor: smooth_type_embedding",
}


def write_input(folder: Path, name: str) -> None:
    """Write the input of a training of two steps."""
    descriptor, fitting_net, loss, rest = KINDS[name]
    folder.mkdir(parents=True)
    model = {"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": fitting_net, **rest}
    (folder / "input.json").write_text(json.dumps(training_options(model, loss)))


WORK = """
import json, os
import numpy as np
from deepmd.main import main
from deepmd.infer import DeepPot
from deepmd.infer.deep_dipole import DeepDipole
from deepmd.infer.deep_dos import DeepDOS
from deepmd.infer.deep_polar import DeepPolar
from deepmd.tf.env import tf

home, given = os.getcwd(), dict(np.load("given.npz"))


def evaluate(kind, options, arrays):
    model = {"ener": DeepPot, "dipole": DeepDipole, "polar": DeepPolar, "dos": DeepDOS}[kind]("frozen.pb")
    if kind == "ener":
        names = ("energy", "force", "virial", "atom_energy", "atom_virial")
        return dict(zip(names, model.eval(*arrays, atomic=True, **options)))
    if kind in ("dipole", "polar"):
        return {f"atom_{kind}": model.eval(*arrays, atomic=True), kind: model.eval(*arrays, atomic=False)}
    return dict(zip((kind, f"atom_{kind}"), model.eval(*arrays, atomic=True)))


for name, (kind, fparam) in json.load(open("jobs.json")).items():
    os.chdir(os.path.join(home, name))
    for command in (["train", "input.json", "--skip-neighbor-stat"], ["freeze", "-o", "frozen.pb"]):
        tf.reset_default_graph()
        main(["--tf", *command])
    out, options = {}, {"fparam": given["fparam"]} if fparam else {}
    for boundary, cell in (("pbc", given["cell"][None]), ("nopbc", None)):
        values = evaluate(kind, options, (given["coord"][None], cell, given["types"]))
        out.update({f"{boundary}/{key}": value for key, value in values.items()})
    np.savez("expected.npz", **out)
"""


def train_all(kit: Kit, folder: Path, given: dict[str, np.ndarray]) -> None:
    """Train, freeze and evaluate every kind."""
    for name in KINDS:
        write_input(folder / name, name)
    work(
        kit, folder, given, {name: (row[1]["type"], row[1].get("numb_fparam", 0)) for name, row in KINDS.items()}, WORK
    )
