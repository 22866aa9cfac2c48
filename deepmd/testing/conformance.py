"""Conformance suites of models and descriptors. Subclasses give `configs`; tests run on every backend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from deepmd.adapters.evaluation import NEEDS_GRADIENT
from deepmd.array_model.components import descriptors_of, in_precision
from deepmd.array_model.contracts import Model
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.namespace import Params
from deepmd.array_model.tree import flatten
from deepmd.host import plain
from deepmd.io.model_file import ModelFile, from_tree, to_tree
from deepmd.testing import backends
from deepmd.testing.results import (
    QUANTITY,
    compare,
    evaluate_read_only,
    interacting_types,
    rotate_results,
    without_image_dependence,
)
from deepmd.testing.samples import Results, Subject, reordered, widened
from deepmd.testing.tolerances import FLOOR, TOLERANCES, assert_close

COMPARED = ("several_frames", "one_atom", "virtual", "no_neighbours", "one_frame")
"""Systems on which backends are compared with the reference."""

STEP = 3e-5
"""Step of finite differences in float64, Angstrom."""

REALISTIC = (0.2, 0.4)
"""Range of standard deviations of environment rows in real data, for `ModelAgreement.deviations`."""


def variants(base: Any, **options: Iterable[Any]) -> dict[str, Any]:
    """Return {'base': base} and a copy of `base` for each given value of each option, named after it."""
    changed = {
        f"{name}={value}".replace(" ", ""): replace(base, **{name: value})
        for name, values in options.items()
        for value in values
    }
    return {"base": base, **changed}


class ModelAgreement:
    """Agreement of all backends with the reference, and of forces with finite differences. Subclasses give `configs`.

    Attributes
    ----------
    configs : dict of str to model Cutoff and `sel` leave room for three atoms per (0.9 rcut)^3. A model whose
        `evaluation` is "spectral" is tested as an expansion, against direct evaluation.
    backends : sequence of str Backends that evaluate the models.
    stored : bool Whether expansions keep their coefficients, as for inference, or follow the parameters, as in
        training.
    deviations : tuple of two floats Range of the random standard deviations (dstd). Smaller ones make embedding nets
        steeper functions of distance.
    """

    configs: ClassVar[dict[str, Any]] = {}
    backends: ClassVar[Sequence[str]] = backends.NAMES
    stored: ClassVar[bool] = True
    deviations: ClassVar[tuple[float, float]] = (0.04, 0.08)
    _references: ClassVar[dict[tuple[type, str], Subject]] = {}

    @classmethod
    def marks(cls, name: str, backend: str) -> Sequence[pytest.MarkDecorator]:
        """Return marks for the tests of a configuration on a backend, so that a suite can keep some for later."""
        del name, backend
        return ()

    @classmethod
    def model(cls, config: Any) -> Any:
        """Return the model of an entry of `configs`."""
        return config

    @classmethod
    def parameters(cls, model: Model) -> Params:
        """Return parameters whose statistics, biases and scales differ from their defaults, so that tests see each."""
        rng = np.random.default_rng(20)
        params: Params = model.init(lambda _: rng, xp=plain)
        assert isinstance(model, StandardModel)
        params["descriptor"] = cls.statistics(model, params["descriptor"], rng)
        for name, leaf in params["fitting"].items():
            if isinstance(leaf, np.ndarray):
                params["fitting"][name] = leaf + rng.uniform(0.1, 0.5, leaf.shape)
        params["out_bias"] = params["out_bias"] + rng.normal(size=params["out_bias"].shape)
        return in_precision(model, params, xp=plain)

    @classmethod
    def statistics(cls, model: StandardModel, params: Params, rng: np.random.Generator) -> Params:
        """Return the descriptor's parameters with a mean of the radial column and one deviation for all directions."""
        statistics = []
        for _ in model.descriptor.part_slots:
            mean_T4, std_T4 = np.zeros((model.ntypes, 4)), np.ones((model.ntypes, 4))
            mean_T4[:, 0], std_T4[:, 0] = (
                rng.uniform(0.02, 0.1, model.ntypes),
                rng.uniform(*cls.deviations, model.ntypes),
            )
            std_T4[:, 1:] = rng.uniform(*cls.deviations, (model.ntypes, 1))
            statistics.append((mean_T4, std_T4))
        changed: Params = model.descriptor.with_statistics(params, statistics, xp=plain)
        return changed

    @classmethod
    def subject_of(cls, name: str, backend: str) -> Subject:
        """Return a configuration on a backend."""
        subject = cls._subject(name, backend)
        return replace(subject, params=cls.parameters(subject.model))

    @classmethod
    def _subject(cls, name: str, backend: str) -> Subject:
        """Return a configuration without its parameters."""
        return Subject(cls.model(cls.configs[name]), {}, backend, cls.stored, name)

    # -- fixtures ---------------------------------------------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Order tests by configuration and backend, because all tests of one subject share its graph."""
        if "subject" in metafunc.fixturenames:
            pairs = [
                pytest.param((name, backend), id=f"{name}-{backend}", marks=self.marks(name, backend))
                for name in self.configs
                for backend in self.backends
                if not self._subject(name, backend).is_reference
            ]
            metafunc.parametrize("subject", pairs, indirect=True, scope="class")
        if "reference" in metafunc.fixturenames:
            metafunc.parametrize("reference", list(self.configs), indirect=True, scope="class")

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, request: pytest.FixtureRequest) -> Subject:
        """Return the model under test: in another backend, precision or evaluation than the reference."""
        return cls.subject_of(*request.param)

    @pytest.fixture(scope="class")
    @classmethod
    def reference(cls, request: pytest.FixtureRequest) -> Subject:
        """Return the model evaluated by NumPy in float64, for tests that need no other backend."""
        return cls.wide_of(request.param)

    @classmethod
    def wide_of(cls, name: str) -> Subject:
        """Return a configuration on NumPy in float64, made once for all tests, which leave its arrays as they are."""
        if (cls, name) not in cls._references:
            cls._references[cls, name] = cls.subject_of(name, "numpy").wide
        return cls._references[cls, name]

    @classmethod
    def expected(cls, name: str, system: str) -> Results:
        """Return the results of the reference of a configuration for a system, evaluated once for all backends."""
        return cls.wide_of(name).reference.results_of(system)

    # -- backends ---------------------------------------------------------------------------------------------------

    def test_equals_reference(self, subject: Subject) -> None:
        """Outputs equal those of NumPy in float64, and are float64.

        One graph serves all numbers of frames and atoms.
        """
        for system in COMPARED:
            results = subject(subject.systems[system])
            assert all(values.dtype == np.float64 for values in results.values()), system
            compare(results, self.expected(subject.name, system), subject, subject.against_reference, system)

    def test_read_only_inputs(self, subject: Subject) -> None:
        """Evaluation accepts read-only arrays, and never writes to its inputs."""
        # TensorFlow's evaluator copied its parameters when it built the graph; a fresh graph would cost seconds
        evaluate_read_only(subject, again=subject.backend == "tf")

    def test_read_only_inputs_of_the_reference(self, reference: Subject) -> None:
        """NumPy in float64 accepts read-only arrays, and never writes to its inputs."""
        evaluate_read_only(reference)

    def test_array_api_strict(self, reference: Subject) -> None:
        """Physics uses nothing beyond the array API standard and the extras of `namespace.EXTRAS`."""
        checked = replace(reference, backend="strict")
        for system in ("several_frames", "no_neighbours"):
            expected = self.expected(reference.name, system)
            results = checked(reference.systems[system])
            compare(results, {name: expected[name] for name in results}, checked, checked.against_reference, system)

    def test_serialized(self, reference: Subject) -> None:
        """Storing a model (without expansions) is lossless: parameters are identical, results equal."""
        tree = to_tree(ModelFile(reference.model, reference.params), "numpy")
        content = from_tree(tree, "stored")
        old, new = flatten(reference.params), flatten(content.params)
        assert old.keys() == new.keys()
        assert all(np.array_equal(old[path], new[path]) and old[path].dtype == new[path].dtype for path in old)
        again = Subject(content.model, content.params, "numpy")(reference.systems["several_frames"])
        compare(again, self.expected(reference.name, "several_frames"), reference)

    def test_forces(self, reference: Subject) -> None:
        """Forces are minus the finite differences of the energy, or of each component of the model's output."""
        output = reference.model.output
        if not output.differentiable:
            pytest.skip(f"models of {output.name} have no forces")
        for name in ("triclinic_small", "open"):
            (sample,) = reference.systems[name]
            size = sample.structure.coord.size
            shifts = STEP * np.concatenate([np.eye(size), -np.eye(size)]).reshape(2 * size, -1, 3)
            total = reference(
                [sample.changed(coord=sample.structure.coord + shift) for shift in shifts], frozenset({output.name})
            )[output.name]
            slope = (total[:size] - total[size:]).reshape(-1, 3, output.width).swapaxes(1, 2) / (2.0 * STEP)
            force = reference.results_of(name)["force"]
            assert_close(force, -slope.reshape(force.shape), "finite difference", reference.precision, what=name)


class ModelConformance(ModelAgreement):
    """Symmetries, smoothness and derivatives, besides agreement of the backends. Subclasses give `configs`."""

    # -- symmetries -------------------------------------------------------------------------------------------------

    def test_translation(self, reference: Subject) -> None:
        """Results are invariant under translation."""
        samples = reference.systems["several_frames"]
        moved = [sample.changed(coord=sample.structure.coord + np.array([0.3, -1.7, 8.1])) for sample in samples]
        compare(
            without_image_dependence(reference, reference(moved)),
            without_image_dependence(reference, reference.results_of("several_frames")),
            reference,
        )

    def test_rotation(self, reference: Subject) -> None:
        """Under rotation and reflection energies and features are invariant, forces and virials covariant."""
        turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
        for matrix in (turn, -turn):
            compare(
                reference([sample.mapped(matrix) for sample in reference.systems["several_frames"]]),
                rotate_results(reference.results_of("several_frames"), matrix),
                reference,
            )

    def test_permutation(self, reference: Subject) -> None:
        """A permutation of the atoms permutes the results."""
        (sample,) = reference.systems["one_frame"]
        order = np.random.default_rng(4).permutation(sample.natoms)
        expected = {
            name: values if name in ("energy", "virial") else values[order]
            for name, values in reference.results_of("one_frame").items()
        }
        compare(reference([sample.selected(order)]), expected, reference)

    def test_periodic_images(self, reference: Subject) -> None:
        """Results do not depend on which periodic image of an atom is given."""
        for name in ("triclinic_small", "left_handed"):
            (sample,) = reference.systems[name]
            jumps = np.random.default_rng(5).integers(-3, 4, sample.structure.coord.shape)
            compare(
                reference([sample.changed(coord=sample.structure.coord + jumps @ sample.cell)]),
                reference.results_of(name),
                reference,
            )

    def test_replicated_cell(self, reference: Subject) -> None:
        """A doubled cell has twice the energy and virial, and repeats the atomic results."""
        (sample,) = reference.systems["triclinic_small"]
        single = reference.results_of("triclinic_small")
        expected = {
            name: 2.0 * values if name in ("energy", "virial") else np.concatenate([values, values])
            for name, values in single.items()
        }
        compare(
            without_image_dependence(reference, reference([sample.doubled()])),
            without_image_dependence(reference, expected),
            reference,
        )

    def test_neighbour_order(self, reference: Subject) -> None:
        """Results do not depend on the order of slots in a section if all its slots have equal statistics."""
        samples = reference.systems["several_frames"]
        packed = reordered(reference.pack(samples), 6, reference.model.layout().rcut)
        compare(reference(samples, packed=packed), reference.results_of("several_frames"), reference)

    def test_empty_slots(self, reference: Subject) -> None:
        """Additional empty slots, up to `sel`, change nothing."""
        layout = reference.model.layout()
        for name in ("several_frames", "one_atom"):
            samples = reference.systems[name]
            packed = reference.pack(samples)
            some = [min(sel, width + 2) for width, sel in zip(packed.neighbours.widths, layout.sections, strict=True)]
            for widths in (some, layout.sections):
                wider = reference(samples, packed=widened(packed, widths, layout.rcut))
                compare(wider, reference.results_of(name), reference)

    def test_batched(self, reference: Subject) -> None:
        """Frames of a batch do not influence each other."""
        single = ("triclinic_small", "one_atom", "open", "left_handed")
        with_virtual = reference.systems["virtual"][0]
        alone = [*(reference.results_of(name) for name in single), reference([with_virtual])]
        expected = {name: np.concatenate([results[name] for results in alone]) for name in alone[0]}
        samples = [sample for name in single for sample in reference.systems[name]]
        compare(reference([*samples, with_virtual]), expected, reference)

    def test_virtual_atoms(self, reference: Subject) -> None:
        """Virtual atoms have zero results and do not influence other atoms."""
        sample = reference.systems["virtual"][0]
        real = np.flatnonzero(sample.structure.types >= 0)
        results, expected = reference([sample]), reference([sample.selected(real)])
        per_atom = [name for name in results if name not in ("energy", "virial")]
        assert all(not np.delete(results[name], real, axis=0).any() for name in per_atom)
        compare(
            {name: values[real] if name in per_atom else values for name, values in results.items()},
            expected,
            reference,
        )

    def test_isolated_atoms(self, reference: Subject) -> None:
        """Atoms beyond each other's cutoff have the results of single atoms, and no forces."""
        (sample,) = reference.systems["no_neighbours"]
        alone = reference([sample.selected(np.array([k])) for k in range(sample.natoms)])
        results = reference.results_of("no_neighbours")
        for name in ("atom_energy", "descriptor"):
            assert_close(results[name], alone[name], QUANTITY.get(name, "energy"), reference.precision)
        assert not any(results[name].any() for name in NEEDS_GRADIENT)

    # -- smoothness and derivatives ---------------------------------------------------------------------------------

    def test_cutoff(self, reference: Subject) -> None:
        """Energy, force and slope of the force go to zero continuously as a neighbour leaves the cutoff.

        The switch vanishes as the cube of the distance to the cutoff, the force as its square, the slope linearly.
        """
        layout = reference.model.layout()
        _, switch_begins = max((part.rcut, part.rcut_smth) for part in descriptors_of(reference.model))
        span = layout.rcut - switch_begins
        near, nearer, beyond = [np.linspace(0.999, 1.001, 3) * share * span for share in (0.05, 0.005, -0.001)]
        sample = (
            reference.systems["open"][0]
            .selected(np.arange(2))
            .changed(types=np.array(interacting_types(reference.model)))
        )
        # gaps to the cutoff: 0-2 near, 3-5 ten times nearer, 6 at the cutoff, 7-9 beyond
        gaps = np.array([*near, *nearer, 0.0, *beyond])
        frames = [sample.changed(coord=np.array([[0.0, 0.0, 0.0], [layout.rcut - gap, 0.0, 0.0]])) for gap in gaps]
        results = reference(frames)
        energy = results["energy"] - results["energy"][-1]
        force = results["force"].reshape(len(frames), 2, 3)[:, 1, 0]
        resolution = TOLERANCES[reference.precision]["energy"] * max(np.abs(results["energy"]).max(), FLOOR)
        assert not force[7:].any(), "force beyond the cutoff"
        assert max(np.abs(energy[6:]).max(), abs(force[6])) <= resolution, "energy or force jumps at the cutoff"
        if reference.precision == "float64":
            slope = np.abs([(force[2] - force[0]) / (gaps[2] - gaps[0]), (force[5] - force[3]) / (gaps[5] - gaps[3])])
            for values, power in ((np.abs(energy[[1, 4]]), 3), (np.abs(force[[1, 4]]), 2), (slope, 1)):
                assert values[1] <= values[0] * 0.1**power * 3.0 + resolution, (
                    f"vanishes more slowly than with power {power}"
                )

    def test_virials(self, reference: Subject) -> None:
        """Virials are minus the derivatives of the energy by strain, shear included, frame by frame.

        Atomic virials sum to virials.
        """
        samples = [*reference.systems["triclinic_small"], *reference.systems["left_handed"], *reference.systems["open"]]
        results = reference(samples)
        strains = STEP * np.concatenate([np.eye(9), -np.eye(9)]).reshape(18, 3, 3)
        strained = [sample.mapped(np.eye(3) + strain) for strain in strains for sample in samples]
        energy = reference(strained, frozenset({"energy"}))["energy"].reshape(2, 9, len(samples))
        expected = -(energy[0] - energy[1]).T / (2.0 * STEP)
        assert_close(results["virial"], expected, "finite difference", reference.precision)
        frame = np.repeat(np.arange(len(samples)), [sample.natoms for sample in samples])
        total = plain.segment_sum(results["atom_virial"], frame, len(samples))
        assert_close(total, results["virial"], "virial", reference.precision, what="sum of atomic virials")


class _Descriptors:
    """Mixin that makes models of descriptors."""

    type_map: ClassVar[tuple[str, ...]] = ("O", "H")

    @classmethod
    def model(cls, config: Any) -> Any:
        """Return a model with a small energy fitting around a descriptor."""
        return StandardModel(cls.type_map, config, EnergyFitting(neuron=(5,), precision="float64"))


class DescriptorAgreement(_Descriptors, ModelAgreement):
    """`ModelAgreement` where `configs` are descriptors."""


class DescriptorConformance(_Descriptors, ModelConformance):
    """`ModelConformance` where `configs` are descriptors."""
