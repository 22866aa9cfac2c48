"""Stored cases and random frames in the shapes that native files take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parent.parent / "golden"

KEYS = ("energy", "force", "virial", "atom_energy", "atom_virial")


def golden(case: str, boundary: str) -> dict[str, np.ndarray]:
    stored = np.load(GOLDEN / case / "expected.npz")
    return {key.split("/")[1]: stored[key] for key in stored.files if key.startswith(f"{boundary}/")}


def whole(case: str, boundary: str) -> dict[str, np.ndarray]:
    """The inputs of a stored result, as one frame."""
    data = golden(case, boundary)
    inputs = {"coord": data["coord"][None], "atype": data["type"][None].astype(np.int64)}
    if "cell" in data:
        inputs["box"] = data["cell"].reshape(1, 9)
    return {**inputs, **{key: data[key] for key in ("fparam", "aparam") if key in data}}


def random_frames(frames: int, atoms: int, periodic: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(atoms)
    cell = np.array([[4.0, 0.3, 0.0], [1.0, 3.5, 0.2], [-0.5, 0.1, -6.0]])  # smaller than the cutoff, left-handed
    inputs = {"coord": rng.normal(0.0, 3.0, (frames, atoms, 3)), "atype": rng.integers(0, 2, (frames, atoms))}
    if atoms > 3:
        inputs["atype"][-1, -2] = -1  # a virtual atom
    if atoms == 3:
        inputs["atype"][:] = 1  # no atom of the first type
    return {**inputs, "box": np.stack([cell * (1 + 0.1 * k) for k in range(frames)])} if periodic else inputs


def extended(coord, types, cell=None, reach=4.0 + 1.0) -> dict[str, np.ndarray]:
    """One frame as LAMMPS gives it: images as atoms, a list beyond the cutoff, shuffled and padded."""
    rng, n = np.random.default_rng(1), len(types)
    shifts = [(0, 0, 0)]
    if cell is not None:
        coord = coord @ np.linalg.inv(cell) % 1.0 @ cell
        shifts += [
            (a, b, c) for a in range(-2, 3) for b in range(-2, 3) for c in range(-2, 3) if (a, b, c) != (0, 0, 0)
        ]
    everyone = np.concatenate([coord + np.array(s) @ (np.zeros((3, 3)) if cell is None else cell) for s in shifts])
    mapping = np.tile(np.arange(n), len(shifts))
    near = np.linalg.norm(everyone[:, None] - coord[None], axis=2).min(axis=1) < reach
    ghosts = rng.permutation(np.flatnonzero(near[n:])) + n
    chosen = np.concatenate([np.arange(n), ghosts])
    everyone, mapping = everyone[chosen], mapping[chosen]
    dist = np.linalg.norm(everyone[None] - coord[:, None], axis=2)
    lists = [rng.permutation(np.flatnonzero((dist[i] < reach) & (np.arange(len(chosen)) != i))) for i in range(n)]
    nlist = np.full((1, n, max(map(len, lists)) + 3), -1)
    for i, row in enumerate(lists):
        nlist[0, i, : len(row)] = row
    return {
        "coord": everyone[None],
        "atype": types[mapping][None].astype(np.int64),
        "nlist": nlist,
        "mapping": mapping[None],
    }


def lower(case: str, boundary: str) -> dict[str, np.ndarray]:
    """The inputs of a stored result, with a neighbour list."""
    data = golden(case, boundary)
    return {
        **extended(data["coord"], data["type"], data.get("cell")),
        **{key: data[key] for key in ("fparam", "aparam") if key in data},
    }


def session_of(path: Path):
    """A session with the graph of a `.pb`; TensorFlow does not rewrite the graph, which takes longer than a run."""
    tf = pytest.importorskip("tensorflow")
    with tf.Graph().as_default() as graph:
        tf.compat.v1.import_graph_def(tf.compat.v1.GraphDef.FromString(path.read_bytes()), name="")
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return tf.compat.v1.Session(graph=graph, config=config)
