"""Test classes to inherit: give configurations, get the physics that every model must have, on every backend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from deepmd.adapters.evaluation import NEEDS_GRADIENT
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.namespace import Params
from deepmd.array_model.tree import flatten, map_leaves
from deepmd.host import plain
from deepmd.io.model_file import ModelFile, from_tree, to_tree
from deepmd.testing import backends
from deepmd.testing.samples import SYSTEMS, Results, Sample, Subject, reordered, widened
from deepmd.testing.tolerances import FLOOR, TOLERANCES, assert_close

QUANTITY = {"descriptor": "descriptor", "force": "force", "virial": "virial", "atom_virial": "virial"}
"""Row of the table of tolerances for outputs other than what a model predicts, which is compared as energies are."""

STEPS = {"float64": 3e-5, "float32": 1e-2}
"""Step of finite differences, Angstrom; half precisions cannot resolve any."""


REALISTIC = (0.2, 0.4)
"""Range of deviations as real data have them, for `ModelAgreement.deviations`."""


def variants(base: Any, **options: Iterable[Any]) -> dict[str, Any]:
    """Return {'base': base} and a copy of `base` for each given value of each option, named after it."""
    changed = {f"{name}={value}".replace(" ", ""): replace(base, **{name: value}) for name, values in options.items() for value in values}
    return {"base": base, **changed}


class ModelAgreement:
    """The same numbers on every backend, and forces that are derivatives. Subclass, and give `configs`.

    Attributes
    ----------
    configs : models by name, cutoff and `sel` such that three atoms per (0.9 rcut)^3 fit in; one whose `evaluation` is "spectral" is
        tested as an expansion, against direct evaluation
    backends : where to run them
    stored : whether expansions keep their coefficients, as for inference, or follow the parameters, as for training
    deviations : range of the random deviations; the smaller, the steeper are embedding nets as functions of the distance
    """

    configs: ClassVar[dict[str, Any]] = {}
    backends: ClassVar[Sequence[str]] = backends.NAMES
    stored: ClassVar[bool] = True
    deviations: ClassVar[tuple[float, float]] = (0.04, 0.08)

    @classmethod
    def model(cls, config: Any) -> Any:
        """Return the model of an entry of `configs`."""
        return config

    @classmethod
    def parameters(cls, model: Any) -> Params:
        """Return parameters that hide nothing: statistics, biases and scales all differ from their defaults."""
        rng = np.random.default_rng(20)
        params: Params = model.init(lambda _: rng, xp=plain)
        params["descriptor"] = cls.statistics(model, params["descriptor"], rng)
        for name, leaf in params["fitting"].items():
            if isinstance(leaf, np.ndarray):
                params["fitting"][name] = leaf + rng.uniform(0.1, 0.5, leaf.shape)
        params["out_bias"] = params["out_bias"] + rng.normal(size=params["out_bias"].shape)
        in_precision: Params = model.in_precision(params, xp=plain)
        return in_precision

    @classmethod
    def statistics(cls, model: Any, params: Params, rng: np.random.Generator) -> Params:
        """Return the descriptor's parameters with a mean of the radial column and one deviation for all directions."""
        statistics = []
        for _ in model.descriptor.slot_totals:
            mean_T4, std_T4 = np.zeros((model.ntypes, 4)), np.ones((model.ntypes, 4))
            mean_T4[:, 0], std_T4[:, 0] = rng.uniform(0.02, 0.1, model.ntypes), rng.uniform(*cls.deviations, model.ntypes)
            std_T4[:, 1:] = rng.uniform(*cls.deviations, (model.ntypes, 1))
            statistics.append((mean_T4, std_T4))
        changed: Params = model.descriptor.with_statistics(params, statistics, xp=plain)
        return changed

    @classmethod
    def subject_of(cls, name: str, backend: str) -> Subject:
        """Return a configuration on a backend."""
        model = cls.model(cls.configs[name])
        return Subject(model, cls.parameters(model), backend, cls.stored)

    # -- fixtures ---------------------------------------------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test for every configuration and backend; tests of one subject run together and share its graph."""
        if "subject" in metafunc.fixturenames:
            pairs = [pytest.param((name, backend), id=f"{name}-{backend}") for name in self.configs for backend in self.backends]
            metafunc.parametrize("subject", pairs, indirect=True, scope="class")
        if "reference" in metafunc.fixturenames:
            metafunc.parametrize("reference", list(self.configs), indirect=True, scope="class")
        if "system" in metafunc.fixturenames:
            metafunc.parametrize("system", SYSTEMS)

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, request: pytest.FixtureRequest) -> Subject:
        """Return a model on a backend."""
        return cls.subject_of(*request.param)

    @pytest.fixture(scope="class")
    @classmethod
    def reference(cls, request: pytest.FixtureRequest) -> Subject:
        """Return a model evaluated by NumPy in float64, for tests that need no other backend."""
        return cls.subject_of(request.param, "numpy").wide

    # -- backends ---------------------------------------------------------------------------------------------------

    def test_equals_reference(self, subject: Subject, system: str) -> None:
        """Every output is that of NumPy in float64, and float64 itself."""
        results = subject(subject.systems[system])
        assert all(values.dtype == np.float64 for values in results.values())
        compare(results, subject.reference(subject.systems[system]), subject, subject.against_reference)

    def test_array_api_strict(self, reference: Subject, system: str) -> None:
        """Physics uses nothing beyond the array API standard and the few extras."""
        checked = replace(reference, backend="strict")
        expected = reference.reference(reference.systems[system], frozenset(reference.model.output.names) - NEEDS_GRADIENT)
        compare(checked(reference.systems[system]), expected, checked, checked.against_reference)

    def test_two_sizes(self, subject: Subject) -> None:
        """One graph serves three atoms in one frame, seven in two, and three again."""
        three, seven = subject.systems["triclinic_small"], split(subject.systems["one_frame"][0], 3)
        for samples in (three, seven, three):
            compare(subject(samples), subject.reference(samples), subject, subject.against_reference)

    def test_read_only_inputs(self, subject: Subject) -> None:
        """Inputs that cannot be written to are accepted, and nothing is written to those that can."""
        samples = subject.systems["several_frames"]
        packed = subject.pack(samples)
        conditions = subject.conditions(samples, packed)
        given = packed.pairs, conditions, subject.planned[1]
        before = [array.copy() for array in arrays_in(given)]
        expected = subject.evaluate(packed, conditions)
        after = arrays_in(given)
        assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))
        for array in after:
            array.flags.writeable = False
        # a fresh evaluator also takes read-only parameters
        frozen = subject if subject.backend == "tf" else Subject(*subject.planned, subject.backend)
        compare(frozen.evaluate(packed, conditions), expected, subject)
        for array in after:
            array.flags.writeable = True

    def test_serialized(self, reference: Subject) -> None:
        """The stored form brings back every parameter, without expansions, and the same numbers."""
        tree = to_tree(ModelFile(*reference.planned), "numpy")
        content = from_tree(tree, "stored")
        old, new = flatten(reference.params), flatten(content.params)
        assert old.keys() == new.keys()
        assert all(np.array_equal(old[path], new[path]) and old[path].dtype == new[path].dtype for path in old)
        samples = reference.systems["several_frames"]
        compare(Subject(content.model, content.params, "numpy")(samples), reference.reference(samples), reference)

    def test_forces(self, subject: Subject) -> None:
        """Forces are minus the finite differences of the energy, or of each component of what a model predicts."""
        output = subject.model.output
        if not output.differentiable:
            pytest.skip(f"models of {output.name} have no forces")
        step = STEPS.get(subject.precision) or pytest.skip("half precision does not resolve finite differences; compared with float64 instead")
        for name in ("triclinic_small", "open"):
            (sample,) = subject.systems[name]
            size = sample.structure.coord.size
            shifts = step * np.concatenate([np.eye(size), -np.eye(size)]).reshape(2 * size, -1, 3)
            total = subject([sample.changed(coord=sample.structure.coord + shift) for shift in shifts], frozenset({output.name}))[output.name]
            slope = (total[:size] - total[size:]).reshape(-1, 3, output.width).swapaxes(1, 2) / (2.0 * step)
            force = subject([sample])["force"]
            assert_close(force, -slope.reshape(force.shape), "finite difference", subject.precision, what=name)


class ModelConformance(ModelAgreement):
    """All the physics that every model must have, besides agreement of the backends. Subclass, and give `configs`."""

    # -- symmetries -------------------------------------------------------------------------------------------------

    def test_translation(self, subject: Subject) -> None:
        """Moving everything changes nothing."""
        samples = subject.systems["several_frames"]
        moved = [sample.changed(coord=sample.structure.coord + np.array([0.3, -1.7, 8.1])) for sample in samples]
        compare(movable(subject, subject(moved)), movable(subject, subject(samples)), subject)

    def test_rotation(self, subject: Subject) -> None:
        """Energies and invariant features stay, forces and virials turn along; a mirror image too."""
        turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
        for matrix in (turn, -turn):
            samples = subject.systems["several_frames"]
            compare(subject([sample.mapped(matrix) for sample in samples]), turned(subject(samples), matrix), subject)

    def test_permutation(self, subject: Subject) -> None:
        """The order of the atoms does not matter."""
        (sample,) = subject.systems["one_frame"]
        order = np.random.default_rng(4).permutation(len(sample.aparam))
        expected = {name: values if name in ("energy", "virial") else values[order] for name, values in subject([sample]).items()}
        compare(subject([sample.selected(order)]), expected, subject)

    def test_periodic_images(self, subject: Subject) -> None:
        """Which image of an atom is given does not matter."""
        for sample in (*subject.systems["triclinic_small"], *subject.systems["left_handed"]):
            jumps = np.random.default_rng(5).integers(-3, 4, sample.structure.coord.shape)
            compare(subject([sample.changed(coord=sample.structure.coord + jumps @ sample.cell)]), subject([sample]), subject)

    def test_replicated_cell(self, subject: Subject) -> None:
        """A cell twice as large has twice the energy and virial, and its atoms are those of the small one."""
        (sample,) = subject.systems["triclinic_small"]
        single = subject([sample])
        expected = {name: 2.0 * values if name in ("energy", "virial") else np.concatenate([values, values]) for name, values in single.items()}
        compare(movable(subject, subject([sample.doubled()])), movable(subject, expected), subject)

    def test_neighbour_order(self, subject: Subject) -> None:
        """The order of the slots of a section does not matter as long as its statistics are uniform."""
        samples = subject.systems["several_frames"]
        packed = subject.pack(samples)
        compare(subject(samples, packed=reordered(packed, 6, subject.model.layout().rcut)), subject(samples, packed=packed), subject)

    def test_empty_slots(self, subject: Subject) -> None:
        """More empty slots than the batch needs, up to `sel`, change nothing."""
        layout = subject.model.layout()
        for samples in (subject.systems["several_frames"], subject.systems["one_atom"]):
            packed = subject.pack(samples)
            some = [min(sel, width + 2) for width, sel in zip(packed.pairs.widths, layout.sections, strict=True)]
            for widths in (some, layout.sections):
                compare(subject(samples, packed=widened(packed, widths, layout.rcut)), subject(samples, packed=packed), subject)

    def test_batched(self, subject: Subject) -> None:
        """Frames of a batch do not see each other."""
        samples = [*subject.systems["several_frames"], *subject.systems["virtual"]]
        alone = [subject([sample]) for sample in samples]
        expected = {name: np.concatenate([results[name] for results in alone]) for name in alone[0]}
        compare(subject(samples), expected, subject)

    def test_virtual_atoms(self, subject: Subject) -> None:
        """Virtual atoms have no results, and the others do not notice them."""
        sample = subject.systems["virtual"][0]
        real = np.flatnonzero(sample.structure.types >= 0)
        results, expected = subject([sample]), subject([sample.selected(real)])
        per_atom = [name for name in results if name not in ("energy", "virial")]
        assert all(not np.delete(results[name], real, axis=0).any() for name in per_atom)
        compare({name: values[real] if name in per_atom else values for name, values in results.items()}, expected, subject)

    def test_isolated_atoms(self, subject: Subject) -> None:
        """Atoms beyond each other's cutoff are as if alone, and nothing pulls at them."""
        (sample,) = subject.systems["no_neighbours"]
        alone = [subject([sample.selected(np.array([k]))]) for k in range(len(sample.aparam))]
        results = subject([sample])
        for name in ("atom_energy", "descriptor"):
            assert_close(results[name], np.concatenate([one[name] for one in alone]), QUANTITY.get(name, "energy"), subject.precision)
        assert not any(results[name].any() for name in NEEDS_GRADIENT)

    # -- smoothness and derivatives ---------------------------------------------------------------------------------

    def test_cutoff(self, subject: Subject) -> None:
        """A neighbour that leaves takes energy, force and slope of the force continuously to zero.

        The switch vanishes as the cube of the distance to the cutoff, the force as its square, the slope linearly.
        """
        layout = subject.model.layout()
        _, switch_begins = max((part.rcut, part.rcut_smth) for part in subject.model.parts)
        span = layout.rcut - switch_begins
        near, nearer, beyond = [np.linspace(0.999, 1.001, 3) * share * span for share in (0.05, 0.005, -0.001)]
        sample = subject.systems["open"][0].selected(np.arange(2)).changed(types=np.array(visible_pair(subject.model)))
        gaps = np.array([*near, *nearer, 0.0, *beyond])
        frames = [sample.changed(coord=np.array([[0.0, 0.0, 0.0], [layout.rcut - gap, 0.0, 0.0]])) for gap in gaps]
        results = subject(frames)
        energy = results["energy"] - results["energy"][-1]
        force = results["force"].reshape(len(frames), 2, 3)[:, 1, 0]
        resolution = TOLERANCES[subject.precision]["energy"] * max(np.abs(results["energy"]).max(), FLOOR)
        assert not force[7:].any(), "force beyond the cutoff"
        assert max(np.abs(energy[6:]).max(), abs(force[6])) <= resolution, "energy or force jumps at the cutoff"
        if subject.precision == "float64":
            slope = np.abs([(force[2] - force[0]) / (gaps[2] - gaps[0]), (force[5] - force[3]) / (gaps[5] - gaps[3])])
            for values, power in ((np.abs(energy[[1, 4]]), 3), (np.abs(force[[1, 4]]), 2), (slope, 1)):
                assert values[1] <= values[0] * 0.1**power * 3.0 + resolution, f"vanishes more slowly than with power {power}"

    def test_virials(self, subject: Subject) -> None:
        """Virials are minus the derivatives with respect to strain, shear included, frame by frame; atomic virials sum to them."""
        step = STEPS.get(subject.precision) or pytest.skip("half precision does not resolve finite differences; compared with float64 instead")
        samples = [*subject.systems["triclinic_small"], *subject.systems["left_handed"], *subject.systems["open"]]
        results = subject(samples)
        strains = step * np.concatenate([np.eye(9), -np.eye(9)]).reshape(18, 3, 3)
        strained = [sample.mapped(np.eye(3) + strain) for strain in strains for sample in samples]
        energy = subject(strained, frozenset({"energy"}))["energy"].reshape(2, 9, len(samples))
        expected = -(energy[0] - energy[1]).T / (2.0 * step)
        assert_close(results["virial"], expected, "finite difference", subject.precision)
        frame = np.repeat(np.arange(len(samples)), [len(sample.aparam) for sample in samples])
        total = plain.segment_sum(results["atom_virial"], frame, len(samples))
        assert_close(total, results["virial"], "virial", subject.precision, what="sum of atomic virials")


class _Descriptors:
    """Makes models of descriptors."""

    type_map: ClassVar[tuple[str, ...]] = ("O", "H")

    @classmethod
    def model(cls, config: Any) -> Any:
        """Return a model with a small energy fitting around a descriptor."""
        return StandardModel(cls.type_map, config, EnergyFitting(neuron=(5,), precision="float64"))


class DescriptorAgreement(_Descriptors, ModelAgreement):
    """`ModelAgreement` where `configs` are descriptors."""


class DescriptorConformance(_Descriptors, ModelConformance):
    """`ModelConformance` where `configs` are descriptors."""


# -- helpers --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Leaves:
    found: list[np.ndarray]

    def add(self, value: Any) -> None:
        if is_dataclass(value) and not isinstance(value, type):
            for field in fields(value):
                self.add(getattr(value, field.name))
        elif isinstance(value, np.ndarray):
            self.found.append(value)
        elif isinstance(value, dict):
            map_leaves(self.add, value)
        elif isinstance(value, tuple):
            for item in value:
                self.add(item)


def arrays_in(value: Any) -> list[np.ndarray]:
    """Return all NumPy arrays of nested dataclasses, tuples and parameter trees."""
    leaves = _Leaves([])
    leaves.add(value)
    return leaves.found


def compare(results: Results, expected: Results, subject: Subject, quantity: str = "") -> None:
    """Compare all outputs at the tolerances of the subject's precision, those of one quantity if it is given."""
    assert results.keys() == expected.keys()
    for name, values in results.items():
        assert_close(values, expected[name], quantity or QUANTITY.get(name, "energy"), subject.precision, what=name)


def movable(subject: Subject, results: Results) -> Results:
    """Return what does not depend on which image of an atom lies in the cell: with messages all but atomic virials, as in DeePMD-kit."""
    local = not subject.model.layout().messages
    return {name: values for name, values in results.items() if local or name != "atom_virial"}


def split(sample: Sample, atoms: int) -> list[Sample]:
    """Return two frames: the first `atoms` atoms of a sample, and the rest."""
    order = np.arange(len(sample.aparam))
    return [sample.selected(order[:atoms]), sample.selected(order[atoms:])]


def turned(results: Results, matrix: np.ndarray) -> Results:
    """Return what results become when space is turned by an orthogonal matrix."""
    out = dict(results)
    out["force"] = results["force"] @ matrix.T
    for name in ("virial", "atom_virial"):
        out[name] = (matrix @ results[name].reshape(-1, 3, 3) @ matrix.T).reshape(-1, 9)
    return out


def visible_pair(model: Any) -> tuple[int, int]:
    """Return the first pair of types that see each other: an excluded neighbour may leave its slot with a jump, as in DeePMD-kit."""
    hidden = {frozenset(pair) for pair in (*getattr(model.descriptor, "exclude_types", ()), *model.pair_exclude_types)}
    slots = model.layout().sel if not model.layout().mixed else (1,) * model.ntypes
    pairs = [(a, b) for a in range(model.ntypes) for b in range(model.ntypes) if slots[a] and slots[b] and frozenset((a, b)) not in hidden]
    return pairs[0]
