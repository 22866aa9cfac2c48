"""Fitting nets of other quantities than energies: equal on every backend, with the symmetries of their output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from consistency.small_models import FITTINGS
from consistency.suites import ModelAgreement
from support import options
from tolerances import assert_close

from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.models.standard import StandardModel
from deepmd.testing.conformance import STEP
from deepmd.testing.results import compare

DESCRIPTOR = SeE2A(sel=(20, 20), rcut=3.0, rcut_smth=0.5, neuron=(2, 4), axis_neuron=2)
MODELS = {name: StandardModel(("O", "H"), DESCRIPTOR, fitting) for name, fitting in FITTINGS.items()}
MODELS["dipole of one type"] = replace(MODELS["dipole"], atom_exclude_types=(1,))
MODELS["property of one type"] = replace(MODELS["property"], atom_exclude_types=(0,))


class TestFittings(ModelAgreement):
    on_tensorflow = ("dipole",)
    configs = MODELS

    def test_rotation(self, reference):
        """Vectors and tensors turn with the system, a mirror image too; numbers stay."""
        turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
        samples = reference.systems["several_frames"]
        before, output = reference(samples), reference.model.output
        for matrix in (turn, -turn):
            after = reference([sample.mapped(matrix) for sample in samples])
            for name in (output.name, output.atomic):
                expected = before[name]
                if output.name == "dipole":
                    expected = expected @ matrix.T
                if output.name == "polar":
                    expected = (matrix @ expected.reshape(-1, 3, 3) @ matrix.T).reshape(-1, 9)
                assert_close(after[name], expected, "energy", what=name)
            if output.differentiable:
                assert_close(after["force"], matrix @ before["force"] @ matrix.T, "force")

    def test_permutation(self, reference):
        (sample,) = reference.systems["one_frame"]
        order = np.random.default_rng(4).permutation(sample.natoms)
        per_frame = reference.model.output.per_frame
        expected = {
            name: values if name in per_frame else values[order] for name, values in reference([sample]).items()
        }
        compare(reference([sample.selected(order)]), expected, reference)

    def test_sum_or_mean(self, reference):
        """A cell twice as large has twice the total, or the same mean.

        The total is that of the atoms which have an output.
        """
        (sample,) = reference.systems["triclinic_small"]
        single, double, output = reference([sample]), reference([sample.doubled()]), reference.model.output
        assert_close(double[output.name], single[output.name] * (1.0 if output.intensive else 2.0), "energy")
        excluded = np.isin(sample.structure.types, reference.model.atom_exclude_types)
        assert not single[output.atomic][excluded].any()
        counted = np.count_nonzero(~excluded) if output.intensive else 1
        assert_close(single[output.name][0], single[output.atomic].sum(axis=0) / counted, "energy")

    def test_virials(self, reference):
        """Virials are minus the derivatives by strain, shear included; atomic virials sum to them."""
        output = reference.model.output
        if not output.differentiable:
            pytest.skip(
                f"{output.name} is an output without derivatives by positions (Output.differentiable), "
                "so it has no virial"
            )
        step = STEP
        (sample,) = reference.systems["triclinic_small"]
        strains = step * np.concatenate([np.eye(9), -np.eye(9)]).reshape(18, 3, 3)
        total = reference([sample.mapped(np.eye(3) + strain) for strain in strains])[output.name].reshape(
            2, 9, output.width
        )
        results = reference([sample])
        assert_close(results["virial"][0], -(total[0] - total[1]).T / (2.0 * step), "finite difference")
        assert_close(results["atom_virial"].sum(axis=0), results["virial"][0], "virial")


@pytest.mark.parametrize("name", ["polar", "polar, full"])
def test_constants_of_polarizabilities(name):
    """`constant_matrix` of a type is added to the diagonals of its atoms, scaled, where the diagonal is shifted."""
    reference = TestFittings.subject_of(name, "numpy")
    params, (sample,) = reference.params, reference.systems["one_frame"]
    shift_T = np.array([0.7, -1.9])
    shifted = {**params["fitting"], "constant_matrix": params["fitting"]["constant_matrix"] + shift_T}
    after = replace(reference, params={**params, "fitting": shifted})([sample])
    shown_T = params["fitting"]["scale"][:, 0] * shift_T * options(reference.model).fitting.shift_diag
    difference = after["atom_polar"] - reference([sample])["atom_polar"]
    assert_close(difference, shown_T[sample.structure.types][:, None] * np.eye(3).reshape(9), "energy")
