"""LMDB data sets as dpdata writes them, in the layout that DeePMD-kit 3.2 reads."""

import lmdb
import msgpack
import numpy as np

FIELDS = {
    "coord": "coords",
    "cell": "cells",
    "energy": "energies",
    "force": "forces",
    "virial": "virials",
    "types": "atom_types",
}


def encode(array):
    array = np.asarray(array)
    return {"type": str(array.dtype), "shape": list(array.shape), "data": array.tobytes()}


def write_lmdb(path, frames, **metadata):
    """Write frames, {name: array} each; None as a value of `metadata` leaves an entry out."""
    entries = {
        "nframes": len(frames),
        "frame_idx_fmt": "012d",
        "type_map": ["O", "H"],
        "frame_nlocs": [len(frame["types"]) for frame in frames],
        "frame_system_ids": [0] * len(frames),
        **metadata,
    }
    with lmdb.open(str(path), map_size=2**26) as environment, environment.begin(write=True) as transaction:
        kept = {key: value for key, value in entries.items() if value is not None}
        transaction.put(b"__metadata__", msgpack.packb(kept))
        for number, frame in enumerate(frames):
            record = {FIELDS.get(name, name): encode(values) for name, values in frame.items()}
            transaction.put(f"{number:012d}".encode(), msgpack.packb({**record, "atom_numbs": [0]}))
    return path
