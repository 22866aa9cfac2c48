"""Prediction rigidity: the fit against formulas in the space of the data, and one file for all formats of a model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepmd.array_model.errors import InputError
from deepmd.cli import main
from deepmd.data.selection import select_systems
from deepmd.data.systems import System, load_system
from deepmd.infer import DeepPot
from deepmd.infer.fit_uncertainty import Agreement, _features, _load, _slopes, fit
from deepmd.infer.rigidity import Rigidity, place_of

GOLDEN = Path(__file__).parent.parent / "golden" / "se_e2_a"
TYPES = [0, 1, 1, 0, 1, 1]


def write_system(folder: Path, frames: int, seed: int) -> None:
    """Water-like frames with labels, energies near those of the model."""
    part = folder / "set.000"
    part.mkdir(parents=True)
    (folder / "type.raw").write_text(" ".join(map(str, TYPES)))
    rng = np.random.default_rng(seed)
    start = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2.5, 2.5, 0], [3.4, 2.5, 0], [2.5, 3.4, 0.1]])
    coord = start + 0.1 * rng.normal(size=(frames, 6, 3))
    box = np.tile(9.0 * np.eye(3), (frames, 1, 1))
    energy, force, _ = DeepPot(GOLDEN / "model.dp").eval(coord, box, TYPES)
    np.save(part / "coord.npy", coord.reshape(frames, -1))
    np.save(part / "box.npy", box.reshape(frames, 9))
    np.save(part / "energy.npy", energy[:, 0] + 0.1 * rng.normal(size=frames))
    np.save(part / "force.npy", (force + 0.1 * rng.normal(size=force.shape)).reshape(frames, -1))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of a training, held-out data, and a model in every format with the uncertainty beside it."""
    out = tmp_path_factory.mktemp("uncertainty")
    write_system(out / "trained", 6, seed=1)
    write_system(out / "held", 5, seed=2)
    for suffix in ("dp", "pth", "pb", "yaml"):
        shutil.copy(GOLDEN / f"model.{suffix}", out / f"model.{suffix}")
    words = ["-m", str(out / "model.dp"), "-s", str(out / "trained"), "--held-out", str(out / "held")]
    assert main(["uncertainty", "fit", *words]) == 0
    assert place_of(out / "model.dp") == out / "model.uncertainty.npz"
    return out


@pytest.fixture
def potential(place: Path) -> Iterator[DeepPot]:
    with DeepPot(place / "model.dp") as out:
        yield out


def system_of(place: Path, name: str) -> System:
    return load_system(place / name, ["O", "H"])


def test_features_and_slopes_make_energies_and_forces(place: Path, potential: DeepPot) -> None:
    """The energy is linear in the rows of the fit: last weights and bias of the nets of O and H."""
    system, hidden, blocks = system_of(place, "trained"), potential.hidden(), np.array([0, 1])
    nets = [net["layers"][-1] for net in potential._content.params["fitting"]["nets"]]
    linear = np.concatenate([np.append(layer["w"][:, 0], layer["b"]) for layer in nets])
    energy, force, _ = potential.eval(system.coord, system.cell, TYPES)
    rest = energy[:, 0] - _features(hidden, system, blocks) @ linear
    np.testing.assert_allclose(rest, rest[0], atol=1e-9)
    slopes = _slopes(hidden, system, blocks, np.random.default_rng(4))
    direction = np.random.default_rng(4).choice((-1.0, 1.0), size=system.coord.shape)
    np.testing.assert_allclose(slopes @ linear, -np.sum(force * direction, axis=(1, 2)), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("directions", [0, 1])
def test_the_fit_is_a_linear_regression(place: Path, potential: DeepPot, directions: int) -> None:
    """Against the formula with a matrix of the size of the data, in place of that of the features."""
    trained, held = (_load(potential, select_systems(system=str(place / name)))[0] for name in ("trained", "held"))
    rigidity = fit(potential, [trained], [held], directions)
    hidden, blocks = potential.hidden(), np.array([0, 1])
    energy, force, _ = potential.eval(trained.coord, trained.cell, TYPES)
    noise = np.mean((energy[:, 0] - trained.data["energy"]) ** 2 / 6)
    rows = [_features(hidden, trained, blocks) / np.sqrt(6 * noise)]
    if directions:
        error = force.reshape(-1) - np.asarray(trained.data["force"]).reshape(-1)
        rows.append(_slopes(hidden, trained, blocks, np.random.default_rng(0)) / np.sqrt(np.mean(error**2)))
    a = np.concatenate(rows)
    weights = [net["layers"][-1]["w"] for net in potential._content.params["fitting"]["nets"]]
    prior = np.mean(np.square(weights))

    def variance(g: np.ndarray) -> np.ndarray:
        """Posterior variance of g·w for w of variance `prior`, by the lemma of inversion."""
        k = a @ g.T * prior
        inner = np.linalg.solve(a @ a.T * prior + np.eye(len(a)), k)
        return prior * np.sum(g * g, axis=1) - np.sum(k * inner, axis=0)

    tested = _features(hidden, held, blocks)
    errors = potential.eval(held.coord, held.cell, TYPES)[0][:, 0] - held.data["energy"]
    plain = np.sqrt(variance(tested))
    scale = np.sqrt(np.mean((errors / plain) ** 2))
    assert rigidity.scale == pytest.approx(scale, rel=1e-4)
    features = potential.eval_fitting_last_layer(held.coord, held.cell, TYPES)
    frames, atoms = rigidity.std(features, np.tile(TYPES, (5, 1)))
    np.testing.assert_allclose(frames[:, 0], scale * plain, rtol=1e-4)
    assert np.mean((errors / frames[:, 0]) ** 2) == pytest.approx(1.0)
    alone = np.zeros((1, tested.shape[1]))
    alone[0, : features.shape[2] + 1] = [*features[2, 3], 1.0]  # an oxygen atom by itself
    assert atoms[2, 3, 0] == pytest.approx(scale * np.sqrt(variance(alone))[0], rel=1e-4)


@pytest.mark.parametrize("file", ["model.dp", "model.pth", "model.pb", "model.yaml"])
def test_one_file_serves_all_formats(place: Path, potential: DeepPot, file: str) -> None:
    system = system_of(place, "held")
    expected = potential.eval_uncertainty(system.coord, system.cell, TYPES)
    with DeepPot(place / file) as other:
        out = other.eval(system.coord, system.cell, TYPES, atomic=True, uncertainty=True)
        assert len(other.eval(system.coord, system.cell, TYPES, uncertainty=True)) == 4
        assert len(out) == 7
    for found, one in zip(out[5:], expected, strict=True):
        np.testing.assert_allclose(found, one, rtol=1e-7)
    assert out[5].shape == (5, 1)
    assert out[6].shape == (5, 6, 1)


def test_far_from_the_data_it_is_larger(place: Path, potential: DeepPot) -> None:
    system = system_of(place, "held")
    near = potential.eval_uncertainty(system.coord, system.cell, TYPES)[0]
    far = potential.eval_uncertainty(np.asarray(system.coord) * 0.8, system.cell, TYPES)[0]
    assert far.mean() > 1.1 * near.mean()


def test_virtual_and_unseen_atoms(place: Path, potential: DeepPot) -> None:
    trained, held = (_load(potential, select_systems(system=str(place / name)))[0] for name in ("trained", "held"))
    only = [replace(each, types=np.array([1] * 6)) for each in (trained, held)]
    rigidity = fit(potential, only[:1], only[1:], 0)
    rigidity.save(place / "hydrogen.npz")
    coord = np.asarray(held.coord)[:3]
    frames, atoms = potential.eval_uncertainty(
        coord,
        None,
        [[1, 1, 1, -1, 1, 1], [0, 1, 1, 1, 1, 1], [-1] * 6],
        mixed_type=True,
        uncertainty=place / "hydrogen.npz",
    )
    assert 0 < frames[0, 0] < np.inf
    assert atoms[0, 3, 0] == 0.0
    assert frames[1, 0] == atoms[1, 0, 0] == np.inf
    assert 0 < atoms[1, 1, 0] < np.inf
    assert frames[2, 0] == 0.0
    with pytest.raises(InputError, match="holds O, which no data of the training hold"):
        fit(potential, only[:1], [held], 0)


def test_files_of_other_models_are_refused(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = np.arange(6.0), None, [0, 1]
    other = Path(GOLDEN.parent / "se_e2_r" / "model.dp")
    with DeepPot(other) as model:
        with pytest.raises(
            InputError, match=r"se_e2_r.model\.uncertainty\.npz: no such file .* `dp uncertainty fit -m"
        ):
            model.eval(*frame, uncertainty=True)
        with pytest.raises(InputError, match=r"was fitted to another model than .*parameters differ"):
            model.eval(*frame, uncertainty=place / "model.uncertainty.npz")
        for content in (b"text", b"PK\x03\x04"):
            (tmp_path / "broken.npz").write_bytes(content)
            with pytest.raises(InputError, match=r"broken.npz: is no file of `dp uncertainty fit`"):
                model.eval(*frame, uncertainty=tmp_path / "broken.npz")
        np.savez(tmp_path / "foreign.npz", root=np.eye(2))
        with pytest.raises(InputError, match=r"foreign.npz: is no file of `dp uncertainty fit`"):
            model.eval(*frame, uncertainty=tmp_path / "foreign.npz")
    assert main(["uncertainty", "fit", "-m", str(place / "model.dp"), "-s", str(place / "trained")]) == 2
    assert "--held-out is missing" in capsys.readouterr().err
    words = ["uncertainty", "fit", "-m", str(GOLDEN.parent / "linear" / "model.dp"), "-s", str(place / "trained")]
    assert main([*words, "--held-out", str(place / "held"), "-o", str(tmp_path / "x.npz")]) == 2
    assert "has no fitting net with a hidden layer" in capsys.readouterr().err


def test_the_command_compares_with_errors(place: Path, tmp_path: Path) -> None:
    table = tmp_path / "table"
    words = ["-m", str(place / "model.dp"), "-s", str(place / "held"), "-o", str(table)]
    assert main(["uncertainty", "test", *words]) == 0
    _, label, error, std = np.loadtxt(table).T
    np.testing.assert_allclose(label, system_of(place, "held").data["energy"], rtol=1e-8)
    assert np.mean((error / std) ** 2) == pytest.approx(1.0, rel=1e-6), "these frames gave the scale"


def test_agreement_by_hand() -> None:
    found = Agreement.of(np.array([1.0, -2.0, 3.0, -8.0]), np.array([1.0, 1.5, 2.5, 3.0]))
    assert found == (4, np.sqrt(78 / 4), np.sqrt(18.5 / 4), 1.0, 0.25, 0.75)


def test_the_calculator_has_it(place: Path) -> None:
    ase = pytest.importorskip("ase")
    from deepmd.calculator import DP

    system = system_of(place, "held")
    atoms = ase.Atoms("OHHOHH", np.asarray(system.coord)[0], cell=np.asarray(system.cell)[0], pbc=True)
    atoms.calc = DP(place / "model.dp", uncertainty=True)
    frames, shares = atoms.calc.dp.eval_uncertainty(system.coord[:1], system.cell[:1], TYPES)
    assert atoms.calc.get_property("energy_std", atoms) == frames[0, 0]
    assert np.array_equal(atoms.calc.results["energies_std"], shares[0, :, 0])
    assert isinstance(Rigidity.load(place / "model.uncertainty.npz", atoms.calc.dp._content, ""), Rigidity)
    with pytest.raises(InputError, match="uncertainty: is for one model"):
        DP([place / "model.dp", place / "model.pth"], uncertainty=True)
