"""Models of loc_frame that DeePMD-kit trains, and their outputs: run by the Python of its environment.

Its `prod_force` and `prod_virial` count the derivative by the k-th distance of `sel_r` once more on the neighbour in
slot k of all slots, if that neighbour is on an axis. Summed in two parts, that of `sel_r` with axes that no slot is on,
the same operators give the derivatives of its energy.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf  # noqa: TID253 - this is a program of its own
from deepmd.main import main
from deepmd.tf.env import op_module

from deepmd.infer import DeepPot

KEYS = ("energy", "force", "virial", "atom_energy", "atom_virial")
NOWHERE = 2**20


def read(path):
    """Graph of a file."""
    definition = tf.compat.v1.GraphDef.FromString(Path(path).read_bytes())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
    return graph


def derivatives(path, coord, cell, types):
    """Forces, virials and atomic virials; atoms are sorted by type."""
    graph, natoms = read(path), len(types)
    counts = [natoms, natoms, *np.bincount(types, minlength=2)]
    mesh = np.array([] if cell is None else [0, 0, 0, 2, 2, 2], dtype=np.int32)
    box = np.eye(3) if cell is None else cell
    feed = {"t_coord": coord.reshape(-1), "t_type": types, "t_natoms": counts, "t_box": box.reshape(-1), "t_mesh": mesh}
    (force,) = (op for op in graph.get_operations() if op.type == "ProdForce")
    (virial,) = (op for op in graph.get_operations() if op.type == "ProdVirial")
    slope, jacobian, disp, slots, axes, number = virial.inputs
    sizes = {"n_a_sel": force.get_attr("n_a_sel"), "n_r_sel": force.get_attr("n_r_sel")}
    whole = np.arange(4 * sizes["n_a_sel"] + sizes["n_r_sel"]) < 4 * sizes["n_a_sel"]
    forces, virials = [], []
    with graph.as_default():
        for part, on in ((whole, axes), (~whole, axes * 0 + NOWHERE)):
            chosen = tf.reshape(tf.reshape(slope, (-1, len(part))) * part.astype(float), tf.shape(slope))
            forces.append(op_module.prod_force(chosen, jacobian, slots, on, number, **sizes))
            virials.append(op_module.prod_virial(chosen, jacobian, disp, slots, on, number, **sizes))
        with tf.compat.v1.Session(graph=graph) as session:
            forces, virials = session.run((forces, virials), {f"{name}:0": value for name, value in feed.items()})
    total, each = (sum(arrays) for arrays in zip(*virials, strict=True))
    return {
        "force": sum(forces).reshape(natoms, 3),
        "virial": total.reshape(3, 3),
        "atom_virial": each.reshape(natoms, 3, 3),
    }


def results(path, coord, cell, types):
    """What it gives, its derivatives under names of their own, and the derivatives of its energy."""
    order = np.argsort(types, kind="stable")
    frame = coord[None], None if cell is None else cell[None], types
    model = DeepPot(path)
    given = dict(zip(KEYS, (value[0] for value in model.eval(*frame, atomic=True)), strict=True))
    out = {**given, "descriptor": model.eval_descriptor(*frame)[0], "given_force": given["force"]}
    for name, values in derivatives(path, coord[order], cell, types[order]).items():
        out[name] = np.zeros_like(values)
        out[name][... if name == "virial" else order] = values
    return out


home, given = Path.cwd(), dict(np.load(sys.argv[1]))
for name in json.loads(Path("jobs.json").read_text()):
    os.chdir(home / name)
    main(["--tf", "train", "input.json", "--skip-neighbor-stat"])
    main(["--tf", "freeze", "-o", "frozen.pb"])
    out = {}
    for boundary in ("pbc", "nopbc"):
        frame = {key: given.get(f"{boundary}/{key}") for key in ("coord", "cell", "types")}
        found = results("frozen.pb", **frame) | {"coord": frame["coord"], "type": frame["types"]}
        found |= {} if frame["cell"] is None else {"cell": frame["cell"]}
        out |= {f"{boundary}/{key}": value for key, value in found.items()}
    np.savez("expected.npz", **out)
