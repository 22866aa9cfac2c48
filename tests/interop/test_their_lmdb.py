"""LMDB data sets: every frame, label and size of a batch as DeePMD-kit's reader gives it."""

from __future__ import annotations

import json

import numpy as np
from support import require

from deepmd.data.sampling import make_rule
from deepmd.data.systems import find_systems, load_system

require("lmdb")
require("msgpack")
from unit.lmdb_data import write_lmdb  # noqa: E402

READ = """
import json
import numpy as np
from deepmd.dpmodel.utils.lmdb_data import LmdbDataReader
from deepmd.utils.data import DataRequirementItem

LABELS = {"energy": (1, False), "force": (3, True), "virial": (9, False), "fparam": (2, False), "aparam": (1, True)}
out, sizes = {}, {}
for rule in json.load(open("rules.json")):
    reader = LmdbDataReader("data.lmdb", ["O", "C", "H"], rule)
    sizes[str(rule)] = {int(n): reader.get_batch_size_for_nloc(int(n)) for n in reader.nloc_groups}
    if rule == 1:
        reader.add_data_requirement([DataRequirementItem(k, n, atomic=a, must=False) for k, (n, a) in LABELS.items()])
        for number in range(len(reader)):
            frame = reader[number]
            for name in ("atype", "coord", "box", *LABELS):
                if name in frame and frame.get(f"find_{name}", 1):
                    out[f"{number}|{name}"] = frame[name]
    reader.close()
np.savez("frames.npz", **out)
json.dump(sizes, open("sizes.json", "w"))
"""

RULES = [1, 4, "auto", "auto:50", "max:30", "filter:8"]
SIZES = [3, 7, 3, 12, 7, 3, 12, 5]
RNG = np.random.default_rng(5)


def frame(number, natoms):
    """Frame 2 has an open boundary, frame 4 no forces; frames differ in the type of their numbers."""
    kind = np.float32 if number % 2 else np.float64
    fields = {
        "types": RNG.integers(0, 2, natoms).astype(np.int32),
        "coord": RNG.normal(size=(natoms, 3)).astype(kind),
        "cell": (np.eye(3) * 9.0 + RNG.normal(size=(3, 3))).astype(kind),
        "energy": np.float64(RNG.normal()),
        "force": RNG.normal(size=(natoms, 3)).astype(kind),
        "virial": RNG.normal(size=(3, 3)),
        "fparam": RNG.normal(size=2),
        "aparam": RNG.normal(size=(natoms, 1)),
    }
    return {name: each for name, each in fields.items() if (number, name) not in [(2, "cell"), (4, "force")]}


def test_frames_and_batches_are_theirs(kit, tmp_path):
    frames = [frame(number, natoms) for number, natoms in enumerate(SIZES)]
    path = write_lmdb(tmp_path / "data.lmdb", frames, type_map=["H", "O"])
    (tmp_path / "rules.json").write_text(json.dumps(RULES))
    kit.run(["python", "-c", READ], tmp_path)
    theirs = dict(np.load(tmp_path / "frames.npz"))
    systems = [load_system(each, ["O", "C", "H"]) for each in find_systems(str(path))]
    ours = {}
    for system in systems:
        for k in range(system.num_frames):
            (number,) = (n for n, each in enumerate(frames) if np.array_equal(each["coord"], system.coord[k]))
            ours |= {f"{number}|atype": system.types_of(k), f"{number}|coord": system.coord[k]}
            ours |= {} if system.cell is None else {f"{number}|box": system.cell[k]}
            ours |= {f"{number}|{name}": values[k] for name, values in system.data.items()}
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_allclose(np.ravel(values), np.ravel(theirs[name]), rtol=1e-15, err_msg=name)
    sizes = json.loads((tmp_path / "sizes.json").read_text())
    for rule in RULES:
        chosen = make_rule(systems, rule, "prob_sys_size", None, "training_data")
        pairs = zip(chosen.systems, chosen.batch_size, strict=True)
        assert {str(system.num_atoms): size for system, size in pairs} == sizes[str(rule)]
