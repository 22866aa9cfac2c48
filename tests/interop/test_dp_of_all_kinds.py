"""Our `.dp` of every kind in DeePMD-kit: read by its NumPy, and by its torch after its own conversion.

Its NumPy has no derivatives.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from interop.golden_files import GOLDEN, golden_frame
from interop.other_kinds import DP_CASES as CASES
from interop.other_kinds import NOT_READ
from tolerances import assert_close

pytestmark = pytest.mark.filterwarnings("ignore::deepmd.data.packing.SelWarning")

WORK = """
import json
import numpy as np
from deepmd.main import main
from deepmd.infer import DeepPot
from deepmd.infer.deep_dipole import DeepDipole
from deepmd.infer.deep_dos import DeepDOS
from deepmd.infer.deep_polar import DeepPolar
from deepmd.infer.deep_property import DeepProperty

classes = {"ener": DeepPot, "dipole": DeepDipole, "polar": DeepPolar, "dos": DeepDOS, "property": DeepProperty}
given, out = np.load("given.npz"), {}
jobs = json.load(open("jobs.json"))
for case, (path, kind, suffixes) in jobs.items():
    files = {suffix: path if suffix == "dp" else f"{case}.{suffix}" for suffix in suffixes}
    for suffix, file in files.items():
        if suffix != "dp":
            main(["convert-backend", path, file])
        model = classes[kind](file)
        for boundary in ("pbc", "nopbc"):
            coord, types = given[f"{case}|{boundary}|coord"], given[f"{case}|{boundary}|types"]
            cell = given[f"{case}|{boundary}|cell"] if boundary == "pbc" else None
            arrays = coord[None], None if cell is None else cell[None], types
            if kind == "ener":
                names = ("energy", "force", "virial", "atom_energy", "atom_virial")
                found = dict(zip(names, model.eval(*arrays, atomic=True)))
            elif kind in ("dipole", "polar"):
                found = {kind: model.eval(*arrays, atomic=True), f"{kind}_redu": model.eval(*arrays, atomic=False)}
            elif kind == "dos":
                found = dict(zip(("dos_redu", "dos"), model.eval(*arrays, atomic=True)))
            else:
                found = dict(zip(("property", "atom_property"), model.eval(*arrays, atomic=True)))
            out.update({f"{case}|{suffix}|{boundary}|{key}": value for key, value in found.items()})
np.savez("found.npz", **out)
"""


@pytest.fixture(scope="module")
def found(kit, files, place):
    """What DeePMD-kit gives for all of them, from one process."""
    folder, given, jobs = place / "all_kinds", {}, {}
    folder.mkdir()
    for case, kind in CASES.items():
        jobs[case] = str(files[case, "model.dp"]), kind, [suffix for suffix in NOT_READ if case not in NOT_READ[suffix]]
        for boundary in ("pbc", "nopbc"):
            for name, value in golden_frame(case, boundary).fields().items():
                given[f"{case}|{boundary}|{name}"] = value
    np.savez(folder / "given.npz", **given)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    kit.run(["python", "-c", WORK], folder)
    return dict(np.load(folder / "found.npz"))


READ = [(case, suffix) for case in CASES for suffix in ("dp", "pth") if case not in NOT_READ[suffix]]
DERIVATIVES = ("force", "virial", "atom_virial")


@pytest.mark.parametrize("boundary", ["pbc", "nopbc"])
@pytest.mark.parametrize(("case", "suffix"), READ)
def test_equal_to_the_stored_results(found, case, suffix, boundary):
    stored, prefix = np.load(GOLDEN / case / "expected.npz"), f"{case}|{suffix}|{boundary}|"
    results = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    assert results
    for name, values in results.items():
        if suffix == "dp" and name in DERIVATIVES:
            assert np.isnan(values).all(), f"its NumPy has derivatives now: {name}"
            continue
        expected = stored[f"{boundary}/{name}"]
        assert_close(values.reshape(expected.shape), expected, "golden", floor=0.0, what=name)
