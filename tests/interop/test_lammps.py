"""Our `.pth` in LAMMPS with the stock `pair_style deepmd`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from interop.lammps_check import ACCURACY, LONELY, check, expected, random_frame
from interop.lammps_run import KINDS, run_lammps
from interop.water import run_dp
from tolerances import assert_close

from deepmd.array_model.components import first_atom_matters
from deepmd.io import load_model, save_model

pytestmark = pytest.mark.filterwarnings("ignore::deepmd.data.packing.SelWarning")


@pytest.mark.parametrize(
    ("case", "name", "ranks"),
    [
        ("se_e2_a", "model.pth", 1),
        ("se_e2_a", "compressed.pth", 2),
        ("se_e2_a_two_side", "model.pth", 2),
        ("se_e2_a_two_side", "compressed.pth", 1),
        ("se_e2_a_options", "model.pth", 2),
        ("se_e2_a_sel_overflow", "model.pth", 1),
    ],
)
def test_first_step_is_that_of_our_deep_pot(lammps, files, tmp_path, case, name, ranks):
    frame = random_frame()
    check(run_lammps(lammps, tmp_path / "run", [files[case, name]], frame, ranks=ranks), files[case, "model.dp"], frame)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("case", KINDS)
def test_other_kinds(lammps, files, tmp_path, case, ranks):
    """Rows of mixed neighbours have no mean, as they are trained by default.

    With a mean, results would depend on the first atom of each rank.
    """
    content, frame = load_model(files[case, "model.dp"]), random_frame()
    if first_atom_matters(content.model, content.params):
        content = content.with_params(without_mean(content.params))
    for suffix in (".dp", ".pth"):
        save_model(tmp_path / f"model{suffix}", content)
    check(
        run_lammps(lammps, tmp_path / "run", [tmp_path / "model.pth"], frame, ranks=ranks), tmp_path / "model.dp", frame
    )


def without_mean(params):
    """Parameters whose environment matrices have no mean."""
    if isinstance(params, dict):
        return {name: 0.0 * value if name == "davg" else without_mean(value) for name, value in params.items()}
    return [without_mean(value) for value in params] if isinstance(params, list) else params


def test_single_precision(lammps, files, tmp_path):
    frame = random_frame()
    outcome = run_lammps(lammps, tmp_path / "run", [files["se_e2_a_float32", "model.pth"]], frame)
    check(outcome, files["se_e2_a_float32", "model.dp"], frame, accuracy=1e-4)


@pytest.mark.parametrize("ranks", [1, 2])
def test_open_boundary(lammps, files, tmp_path, ranks):
    frame = random_frame(cell=None)
    check(
        run_lammps(lammps, tmp_path / "run", [files["se_e2_a", "model.pth"]], frame, ranks=ranks),
        files["se_e2_a", "model.dp"],
        frame,
    )


@pytest.mark.parametrize("ranks", [1, 2])
def test_parameters_of_frames_and_atoms(lammps, files, tmp_path, ranks):
    frame = random_frame()
    frame = replace(frame, fparam=np.array([[0.3, -0.2]]), aparam=np.full((1, 60, 1), 0.7))
    outcome = run_lammps(
        lammps,
        tmp_path / "run",
        [files["se_e2_a_fparam", "model.pth"]],
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


def test_elements_in_another_order(lammps, files, tmp_path):
    frame = random_frame()
    outcome = run_lammps(
        lammps, tmp_path / "run", [files["se_e2_a", "model.pth"]], replace(frame, types=1 - frame.types), elements="H O"
    )
    check(outcome, files["se_e2_a", "model.dp"], frame)


@pytest.mark.parametrize("ranks", [1, 2])
def test_model_deviation(lammps, files, tmp_path, ranks):
    cases, frame = ("se_e2_a", "se_e2_a_two_side"), random_frame()
    models = [files[case, "model.pth"] for case in cases]
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


@pytest.mark.parametrize("skin", [0.3, 2.0, 5.0])
def test_width_of_the_neighbour_list(lammps, files, tmp_path, skin):
    """Also after steps with the same list, whose neighbours have moved in and out of the cutoff."""
    frame = random_frame(seed=3)
    extra = "velocity all create 3000.0 1 loop geom\nfix 1 all nve\ntimestep 0.0005\nthermo 1"
    outcome = run_lammps(
        lammps, tmp_path / "run", [files["se_e2_a", "model.pth"]], frame, skin=skin, steps=9, extra=extra
    )
    check(outcome, files["se_e2_a", "model.dp"], frame)
    text = (tmp_path / "run/dump.txt").read_text()
    assert text.count("ITEM: TIMESTEP") == 10
    reference = run_lammps(
        lammps, tmp_path / "reference", [files["se_e2_a", "model.pth"]], frame, skin=1.0, steps=9, extra=extra
    )
    assert np.abs(outcome.thermo - reference.thermo).max() <= ACCURACY * np.abs(reference.thermo).max()


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", LONELY)
def test_few_atoms(lammps, files, tmp_path, name, ranks):
    """Ranks without atoms, atoms without neighbours, types without atoms."""
    frame = replace(LONELY[name], cell=np.diag([10.0, 10.0, 40.0]))
    extra = "fix 1 all nve\ntimestep 0.0005"
    outcome = run_lammps(
        lammps, tmp_path / "run", [files["se_e2_a", "model.pth"]], frame, ranks=ranks, steps=12, extra=extra
    )
    check(outcome, files["se_e2_a", "model.dp"], frame)


def test_no_atoms_at_all(lammps, files, tmp_path):
    """All atoms deleted: nothing to do, and nothing breaks."""
    frame = replace(LONELY["far apart"], cell=np.diag([10.0, 10.0, 40.0]))
    extra = "delete_atoms group all compress no"
    outcome = run_lammps(lammps, tmp_path / "run", [files["se_e2_a", "model.pth"]], replace(frame), extra=extra)
    assert outcome.energy[0] == 0.0


def test_energy_is_conserved_as_well_as_with_their_file(lammps, trained, water, tmp_path):
    """Hardly trained, the model brings atoms nearer than they are in the data: ours is compressed to reach so far."""
    run_dp(tmp_path, "compress", "-i", str(trained / "model.pth"), "-o", "ours.pth", "-e", "2")
    extra = "velocity all create 330.0 12345\nfix 1 all nve\ntimestep 0.00025\nthermo 1"
    lammps.run(["dp", "convert-backend", trained / "model.dp", tmp_path / "theirs.pb"], tmp_path)
    ours, theirs = (
        run_lammps(lammps, tmp_path / name, [path], water, steps=200, extra=extra).thermo
        for name, path in (("ours", tmp_path / "ours.pth"), ("theirs", tmp_path / "theirs.pb"))
    )
    drifts = [np.abs(thermo[:, 3] - thermo[0, 3]).max() for thermo in (ours, theirs)]
    assert_close(ours[0, 1:], theirs[0, 1:], "golden")
    assert drifts[0] <= drifts[1] * (1.0 + 1e-3)
