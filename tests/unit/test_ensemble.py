"""Several models in one ASE calculator: means, and their spread as `dp model-devi` has it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ase")

import ase
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read

from deepmd.array_model.errors import InputError
from deepmd.array_model.models.standard import StandardModel
from deepmd.calculator import DP
from deepmd.infer import DeepPot, calc_model_devi
from deepmd.io import load_model, save_model

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two models that differ by a layer of the fitting net."""
    content = load_model(GOLDEN / "dpa3" / "model.dp")
    layers = content.params["fitting"]["nets"][0]["layers"]
    nets = [{"layers": [{**layers[0], "w": 1.2 * layers[0]["w"]}, *layers[1:]]}]
    changed = content.with_params({**content.params, "fitting": {**content.params["fitting"], "nets": nets}})
    out = [str(tmp_path / "a.dp"), str(tmp_path / "b.dp")]
    save_model(out[0], content)
    save_model(out[1], changed)
    return out


def water(pbc: bool = True) -> ase.Atoms:
    rng = np.random.default_rng(2)
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2.5, 2.5, 0], [3.4, 2.5, 0], [2.5, 3.4, 0.1]], dtype=float)
    return ase.Atoms("OHHOHH", positions + 0.05 * rng.normal(size=(6, 3)), cell=[8, 8, 8] if pbc else None, pbc=pbc)


def test_means_and_spreads(files: list[str]) -> None:
    atoms = water()
    atoms.calc = DP(files)
    stress = atoms.get_stress()
    found = atoms.calc.results
    parts = []
    for file in files:
        one = water()
        one.calc = DP(file)
        one.get_stress()
        parts.append(one.calc.results)
    for name in ("energy", "free_energy", "forces", "virial", "stress"):
        np.testing.assert_allclose(found[name], (parts[0][name] + parts[1][name]) / 2, rtol=1e-12, atol=1e-12)
    for name in ("energy", "forces", "stress"):
        np.testing.assert_allclose(
            found[f"{name}_std"], np.abs(parts[0][name] - parts[1][name]) / 2, rtol=1e-9, atol=1e-12
        )
    assert np.array_equal(stress, found["stress"])
    assert found["forces_std"].shape == (6, 3)
    assert found["forces_std"].min() >= 0 < found["forces_std"].max()
    frame = atoms.positions[None], atoms.cell.array[None], [0, 1, 1, 0, 1, 1]
    devi = calc_model_devi(*frame, [DeepPot(file) for file in files])
    norms = np.linalg.norm(found["forces_std"], axis=1)
    np.testing.assert_allclose([norms.max(), norms.mean(), found["energy_std"] / 6], devi[0, [4, 6, 7]], rtol=1e-9)


def test_the_spread_is_a_property(files: list[str], tmp_path: Path) -> None:
    atoms = water(pbc=False)
    atoms.calc = DP(files)
    assert atoms.calc.get_property("energy_std", atoms) > 0
    with pytest.raises(PropertyNotImplementedError, match="no periodic cell"):
        atoms.calc.get_property("stress_std", atoms)
    with pytest.raises(PropertyNotImplementedError):
        DP(files[0]).get_property("energy_std", atoms)
    atoms.get_forces()
    atoms.write(tmp_path / "one.traj")
    assert json.loads(json.dumps(atoms.calc.todict()))["model"] == files
    assert read(tmp_path / "one.traj").calc.parameters["model"] == files
    again = water(pbc=False)
    again.calc = DP(**atoms.calc.todict())
    assert np.array_equal(again.get_forces(), atoms.get_forces())


def test_elements_are_matched_by_name(tmp_path: Path) -> None:
    energies = []
    for order in (("O", "H"), ("H", "O")):
        content = load_model(GOLDEN / "se_e2_a" / "model.dp")
        assert isinstance(content.model, StandardModel)
        renamed = replace(content.model, type_map=order)
        save_model(tmp_path / "a.dp", content)
        save_model(tmp_path / "b.dp", replace(content, model=renamed))
        atoms = water()
        atoms.calc = DP([tmp_path / "a.dp", tmp_path / "b.dp"])
        energies.append((atoms.get_potential_energy(), atoms.calc.results["energy_std"]))
    swapped = water()
    swapped.calc = DP(tmp_path / "a.dp", type_dict={"O": 1, "H": 0})
    assert energies[0][1] == 0.0
    assert energies[1][0] == pytest.approx((energies[0][0] + swapped.get_potential_energy()) / 2)


def test_models_that_are_no_ensemble(files: list[str]) -> None:
    with pytest.raises(InputError, match="model: is \\[\\]; accepted: a model file, or a list of model files"):
        DP([])
    with pytest.raises(InputError, match="accepted: a model file, or a list"):
        DP([files[0], 3])  # type: ignore[list-item]
