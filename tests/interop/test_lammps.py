"""Our `.pth` and `.pb` in LAMMPS with the stock `pair_style deepmd`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from interop.kit import Frame
from interop.lammps_check import ACCURACY, CELL, LONELY, check, expected, random_frame
from interop.lammps_run import KINDS, run_lammps
from interop.water import train_model
from tolerances import assert_close

from deepmd.array_model.components import first_atom_matters
from deepmd.io import load_model, save_model

pytestmark = pytest.mark.filterwarnings("ignore::deepmd.data.packing.SelWarning")

EACH = [(".pth", 1), (".pth", 2), (".pb", 1), (".pb", 2)]
"""(format, ranks)"""


@pytest.mark.parametrize(
    ("case", "name", "ranks"),
    [
        ("se_e2_a", "model.pth", 1),
        ("se_e2_a", "compressed.pth", 2),
        ("se_e2_a_two_side", "model.pth", 2),
        ("se_e2_a_two_side", "compressed.pth", 1),
        ("se_e2_a_options", "model.pth", 2),
        ("se_e2_a_sel_overflow", "model.pth", 1),
        ("se_e2_a", "model.pb", 2),
        ("se_e2_a", "compressed.pb", 1),
        ("se_e2_a_two_side", "compressed.pb", 2),
        ("se_e2_a_options", "model.pb", 1),
        ("se_e2_a_sel_overflow", "model.pb", 2),
        ("typed_se_e2_a", "model.pb", 1),
        ("excluded", "compressed.pb", 1),
    ],
)
def test_first_step_is_that_of_our_deep_pot(lammps, files, tmp_path, case, name, ranks):
    frame = random_frame()
    check(run_lammps(lammps, tmp_path / "run", [files[case, name]], frame, ranks=ranks), files[case, "model.dp"], frame)


@pytest.mark.parametrize(("suffix", "ranks"), [(".pth", 1), (".pth", 2), (".pb", 2)])
@pytest.mark.parametrize("case", KINDS)
def test_other_kinds(lammps, files, tmp_path, case, suffix, ranks):
    """Rows of mixed neighbours have no mean, as they are trained by default.

    With a mean, results would depend on the first atom of each rank.
    """
    content, frame = load_model(files[case, "model.dp"]), random_frame()
    if first_atom_matters(content.model, content.params):
        content = content.with_params(without_mean(content.params))
    for each in (".dp", suffix):
        save_model(tmp_path / f"model{each}", content)
    outcome = run_lammps(lammps, tmp_path / "run", [tmp_path / f"model{suffix}"], frame, ranks=ranks)
    check(outcome, tmp_path / "model.dp", frame)


def without_mean(params):
    """Parameters whose environment matrices have no mean."""
    if isinstance(params, dict):
        return {name: 0.0 * value if name == "davg" else without_mean(value) for name, value in params.items()}
    return [without_mean(value) for value in params] if isinstance(params, list) else params


def test_single_precision(lammps, files, tmp_path):
    frame = random_frame()
    outcome = run_lammps(lammps, tmp_path / "run", [files["se_e2_a_float32", "model.pth"]], frame)
    check(outcome, files["se_e2_a_float32", "model.dp"], frame, accuracy=1e-4)


@pytest.mark.parametrize(("suffix", "ranks"), EACH)
def test_open_boundary(lammps, files, tmp_path, suffix, ranks):
    frame = random_frame(cell=None)
    check(
        run_lammps(lammps, tmp_path / "run", [files["se_e2_a", f"model{suffix}"]], frame, ranks=ranks),
        files["se_e2_a", "model.dp"],
        frame,
    )


@pytest.mark.parametrize(("suffix", "ranks"), EACH)
def test_parameters_of_frames_and_atoms(lammps, files, tmp_path, suffix, ranks):
    frame = random_frame()
    frame = replace(frame, fparam=np.array([[0.3, -0.2]]), aparam=np.full((1, 60, 1), 0.7))
    outcome = run_lammps(
        lammps,
        tmp_path / "run",
        [files["se_e2_a_fparam", f"model{suffix}"]],
        frame,
        ranks=ranks,
        settings="fparam 0.3 -0.2 aparam 0.7",
    )
    check(outcome, files["se_e2_a_fparam", "model.dp"], frame)


@pytest.mark.parametrize("case", ["se_e2_a_fparam", "se_e2_a_two_side"])
def test_saved_model(lammps, files, tmp_path, case):
    """On one rank: with more, its loader asks for a CUDA device on a machine without, whatever the file."""
    frame, settings = random_frame(), ""
    if case == "se_e2_a_fparam":
        frame, settings = (
            replace(frame, fparam=np.array([[0.3, -0.2]]), aparam=np.full((1, 60, 1), 0.7)),
            "fparam 0.3 -0.2 aparam 0.7",
        )
    outcome = run_lammps(lammps, tmp_path / "run", [files[case, "model.savedmodel"]], frame, settings=settings)
    check(outcome, files[case, "model.dp"], frame)


@pytest.mark.parametrize("suffix", [".pth", ".pb"])
def test_elements_in_another_order(lammps, files, tmp_path, suffix):
    frame, model = random_frame(), files["se_e2_a", f"model{suffix}"]
    outcome = run_lammps(lammps, tmp_path / "run", [model], replace(frame, types=1 - frame.types), elements="H O")
    check(outcome, files["se_e2_a", "model.dp"], frame)


def test_a_type_that_the_model_does_not_see(lammps, files, tmp_path):
    """Atoms of the third type are NULL in `pair_coeff`; the others have parameters that differ from atom to atom.

    With such atoms DeePMD-kit hands no atomic parameters to a `.pth`.
    """
    frame = random_frame()
    types = np.where(np.arange(60) % 5 == 0, 2, frame.types)
    x = (frame.coord @ np.linalg.inv(CELL) % 1.0 @ CELL)[:, 0]
    outcome = run_lammps(
        lammps,
        tmp_path / "run",
        [files["se_e2_a_fparam", "model.pb"]],
        replace(frame, types=types),
        elements="O H NULL",
        settings="fparam 0.3 -0.2 aparam_from_compute x",
        extra="compute x all property/atom x",
    )
    seen = types < 2
    fparam, aparam = np.array([[0.3, -0.2]]), x[None, seen, None]
    wanted = expected(
        files["se_e2_a_fparam", "model.dp"], Frame(frame.coord[seen], types[seen], CELL, fparam=fparam, aparam=aparam)
    )
    for quantity in ("force", "atom_energy"):
        found, want = getattr(outcome, quantity), wanted[quantity].reshape(seen.sum(), -1)
        assert np.abs(found[seen].reshape(want.shape) - want).max() <= ACCURACY * np.abs(want).max(), quantity
        assert not found[~seen].any()


def test_atoms_nearer_than_expansions_reach(lammps, files, tmp_path):
    """The graph evaluates the nets themselves."""
    frame = random_frame()
    frame.coord[1] = frame.coord[0] + [0.2, 0.0, 0.1]
    outcome = run_lammps(lammps, tmp_path / "run", [files["se_e2_a", "compressed.pb"]], frame)
    check(outcome, files["se_e2_a", "model.dp"], frame)


def test_message_passing_needs_a_pth(lammps, files, tmp_path):
    with pytest.raises(AssertionError, match=r"LAMMPS needs the \.pth"):
        run_lammps(lammps, tmp_path / "run", [files["dpa3", "model.pb"]], random_frame())


@pytest.mark.parametrize(("suffix", "ranks"), EACH)
def test_model_deviation(lammps, files, tmp_path, suffix, ranks):
    cases, frame = ("se_e2_a", "se_e2_a_two_side"), random_frame()
    models = [files[case, f"model{suffix}"] for case in cases]
    outcome = run_lammps(
        lammps, tmp_path / "run", models, frame, ranks=ranks, settings="out_file devi.txt out_freq 1 atomic"
    )
    check(outcome, files["se_e2_a", "model.dp"], frame)  # the first model moves the atoms
    values = [expected(files[case, "model.dp"], frame) for case in cases]
    force = np.stack([value["force"] for value in values])
    each = np.sqrt(np.mean(np.sum((force - force.mean(axis=0)) ** 2, axis=-1), axis=0))
    row = [float(word) for word in (tmp_path / "run/devi.txt").read_text().splitlines()[1].split()]
    for found, wanted in zip(row[4:7], (each.max(), each.min(), each.mean()), strict=True):
        assert found == pytest.approx(wanted, rel=1e-5)  # it prints six digits
    virial = np.stack([value["virial"] for value in values]) / len(frame.types)
    assert row[3] == pytest.approx(np.sqrt(np.mean(virial.std(axis=0) ** 2)), rel=1e-5)


@pytest.mark.parametrize(("suffix", "skin"), [(".pth", 0.3), (".pth", 2.0), (".pth", 5.0), (".pb", 2.0), (".pb", 5.0)])
def test_width_of_the_neighbour_list(lammps, files, tmp_path, suffix, skin):
    """Also after steps with the same list, whose neighbours have moved in and out of the cutoff."""
    frame = random_frame(seed=3)
    extra = "velocity all create 3000.0 1 loop geom\nfix 1 all nve\ntimestep 0.0005\nthermo 1"
    outcome = run_lammps(
        lammps, tmp_path / "run", [files["se_e2_a", f"model{suffix}"]], frame, skin=skin, steps=9, extra=extra
    )
    check(outcome, files["se_e2_a", "model.dp"], frame)
    text = (tmp_path / "run/dump.txt").read_text()
    assert text.count("ITEM: TIMESTEP") == 10
    reference = run_lammps(
        lammps, tmp_path / "reference", [files["se_e2_a", "model.pth"]], frame, skin=1.0, steps=9, extra=extra
    )
    assert np.abs(outcome.thermo - reference.thermo).max() <= ACCURACY * np.abs(reference.thermo).max()


@pytest.mark.parametrize(("suffix", "ranks"), [(".pth", 1), (".pth", 2), (".pb", 2)])
@pytest.mark.parametrize("name", LONELY)
def test_few_atoms(lammps, files, tmp_path, name, suffix, ranks):
    """Ranks without atoms, atoms without neighbours, types without atoms."""
    frame = replace(LONELY[name], cell=np.diag([10.0, 10.0, 40.0]))
    extra = "fix 1 all nve\ntimestep 0.0005"
    outcome = run_lammps(
        lammps, tmp_path / "run", [files["se_e2_a", f"model{suffix}"]], frame, ranks=ranks, steps=12, extra=extra
    )
    check(outcome, files["se_e2_a", "model.dp"], frame)


def test_no_atoms_at_all(lammps, files, tmp_path):
    """All atoms deleted: nothing to do, and nothing breaks."""
    frame = replace(LONELY["far apart"], cell=np.diag([10.0, 10.0, 40.0]))
    extra = "delete_atoms group all compress no"
    outcome = run_lammps(lammps, tmp_path / "run", [files["se_e2_a", "model.pth"]], replace(frame), extra=extra)
    assert outcome.energy[0] == 0.0


def drift(thermo: np.ndarray, atoms: int, timestep: float) -> float:
    """Slope of the energy in meV per atom and ps; a row of `thermo` every 10 steps of `timestep` ps."""
    slope = np.polyfit(10 * timestep * np.arange(len(thermo)), thermo[:, 3], 1)[0]
    return abs(1e3 * slope / atoms)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_energy_is_conserved_as_well_as_with_their_file(lammps, water, tmp_path):
    """10,000 steps at constant energy from `.pth` and `.pb`, and from DeePMD-kit's own file with the same weights."""
    trained = train_model(tmp_path / "trained", steps=3000, start_lr=0.01)  # with 0.001 forces are still noise
    timestep, steps = 0.00025, 10000
    extra = f"velocity all create 300.0 12345\nfix 1 all nve\ntimestep {timestep}\nthermo 10"
    lammps.run(["dp", "convert-backend", trained / "model.dp", tmp_path / "theirs.pb"], tmp_path)
    rows = {
        path.name: run_lammps(lammps, tmp_path / f"run-{path.name}", [path], water, steps=steps, extra=extra).thermo
        for path in (trained / "model.pth", trained / "model.pb", tmp_path / "theirs.pb")
    }
    drifts = {name: drift(thermo, len(water.types), timestep) for name, thermo in rows.items()}
    for name in ("model.pth", "model.pb"):
        assert_close(rows[name][0, 1:], rows["theirs.pb"][0, 1:], "golden")
        assert drifts[name] <= max(0.01, drifts["theirs.pb"]), drifts
