"""loc_frame with all its rules for the axes, on every backend.

What it lacks of the physics of smooth descriptors is told by its own tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest
from consistency.suites import DescriptorAgreement, DescriptorConformance
from tolerances import assert_close

from deepmd.adapters.evaluation import NEEDS_GRADIENT
from deepmd.array_model.descriptors.hybrid import Hybrid
from deepmd.array_model.descriptors.loc_frame import LocFrame
from deepmd.array_model.descriptors.se_e2_r import SeE2R
from deepmd.data.neighbours import Structure, find_neighbours
from deepmd.data.packing import pack
from deepmd.host import plain
from deepmd.testing import ModelAgreement
from deepmd.testing.results import compare, rotate_results
from deepmd.testing.samples import Subject, systems

BASE = LocFrame(sel_a=(4, 5), sel_r=(8, 8), rcut=3.0)
RULE = (0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 1, 1)  # of O: nearest H, fifth O; of H: second O, second H


@dataclass(frozen=True)
class Roomy(Subject):
    """A model in cells where no atom sees its own image: such neighbours come in pairs at one distance, in no order."""

    @cached_property
    def systems(self):
        """Systems with somewhat more room than those of other descriptors."""
        return systems(1.15 * self.model.layout().rcut, self.model.ntypes)


class Frames(ModelAgreement):
    """Parameters and systems for tests of loc_frame."""

    @classmethod
    def statistics(cls, model, params, rng):
        """Return another mean and deviation of every feature."""
        shape = params["davg"].shape
        return model.descriptor.with_statistics(
            params, [(rng.uniform(-0.2, 0.2, shape), rng.uniform(0.2, 0.4, shape))], xp=plain
        )

    @classmethod
    def subject_of(cls, name, backend):
        """Return a configuration on a backend."""
        model = cls.model(cls.configs[name])
        return Roomy(model, cls.parameters(model), backend, cls.stored, name)


class TestLocFrame(Frames, DescriptorConformance):
    configs = {"base": BASE, "rule": replace(BASE, axis_rule=RULE), "few": replace(BASE, sel_a=(2, 1), sel_r=(0, 1))}

    def test_rotation(self, reference):
        """Energies and features stay, forces and virials turn along.

        A mirror image is another system: z changes its sign.
        """
        turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
        turn = turn * np.linalg.det(turn)
        samples = reference.systems["several_frames"]
        compare(
            reference([sample.mapped(turn) for sample in samples]), rotate_results(reference(samples), turn), reference
        )

    def test_neighbour_order(self, reference):
        """Packing sorts neighbours, whatever order they are found in."""
        samples, layout = reference.systems["several_frames"], reference.model.layout()
        found = find_neighbours([sample.structure for sample in samples], layout.rcut)
        order = np.random.default_rng(6).permutation(len(found.dist))
        mixed = replace(found, **{name: getattr(found, name)[order] for name in ("i", "j", "disp", "dist")})
        with pytest.warns() if reference.model.descriptor.sel[1] == 2 else np.errstate():
            packed = pack(mixed, layout, reference.model.ntypes)
        compare(reference(samples, packed=packed), reference(samples), reference)

    def test_cutoff(self, reference):
        """A neighbour that leaves takes its energy along in a jump; one beyond is not seen."""
        rcut = reference.model.layout().rcut
        sample = reference.systems["open"][0].selected(np.arange(2)).changed(types=np.array([0, 1]))
        frames = [
            sample.changed(coord=np.array([[0.0, 0.0, 0.0], [rcut + beyond, 0.0, 0.0]]))
            for beyond in (-1e-6, 1e-6, 0.1)
        ]
        results = reference(frames)
        within, beyond, farther = results["energy"]
        assert_close(beyond, farther, "energy")
        assert abs(within - beyond) > 1e-3
        assert not any(results[name].reshape(3, -1)[1:].any() for name in NEEDS_GRADIENT)


class TestOthers(Frames, DescriptorAgreement):
    """Three types, one without slots; lists of one kind only."""

    type_map = ("O", "H", "C")
    on_tensorflow = ("three types",)
    configs = {
        "three types": LocFrame((3, 0, 2), (2, 0, 4), 3.0, (0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 0, 1, 2, 1, 0, 0, 0)),
        "all whole": LocFrame((3, 3, 3), (0, 0, 0), 3.0),
    }


class TestHybrid(Frames, DescriptorAgreement):
    """Beside a descriptor with a larger cutoff."""

    configs = {"hybrid": Hybrid((replace(BASE, rcut=2.5), SeE2R(sel=(16, 20), rcut=3.0, rcut_smth=0.5, neuron=(2, 4))))}

    @classmethod
    def statistics(cls, model, params, rng):
        """Return those of each member."""
        first = super().statistics(replace(model, descriptor=model.descriptor.members[0]), params["members"][0], rng)
        second = model.descriptor.members[1].with_statistics(
            params["members"][1], [(np.full((2, 4), 0.05), np.full((2, 4), 0.3))], xp=plain
        )
        return {"members": [first, second]}


# -- by hand --------------------------------------------------------------------------------------------------------


def features(coord, types, descriptor):
    """Raw features of the first atom of an open system: slots of `sel_a` in rows, then those of `sel_r`."""
    structure = Structure(np.array(coord, dtype=np.float64), None, np.array(types))
    packed = pack(find_neighbours([structure], descriptor.rcut), descriptor.layout(), len(descriptor.sel_a))
    row = descriptor.raw_rows(packed.neighbours, xp=plain)[0][packed.atoms[: len(types)].tolist().index(0)]
    whole = 4 * sum(descriptor.sel_a)
    return row[:whole].reshape(-1, 4), row[whole:]


def test_four_neighbours_by_hand():
    """x points to the first neighbour, y to the side of the second; the third of a type is seen with its distance."""
    coord = [[0, 0, 0], [0, 2, 0], [0, 1, 2], [3, 0, 0], [0, 0, -4]]
    rows, radial = features(coord, [0, 0, 1, 1, 1], LocFrame((2, 1), (0, 2), 5.0, (0, 0, 0, 0, 1, 0) * 2))
    # x of the frame is y, y is z, z is x
    np.testing.assert_allclose(rows, [[1 / 2, 0, 1 / 2, 0], [0, 0, 0, 0], [5**-0.5, 0, 1 / 5, 2 / 5]], atol=1e-15)
    np.testing.assert_allclose(radial, [1 / 3, 1 / 4], atol=1e-15)


def test_an_opposite_second_neighbour_is_replaced_by_the_next():
    coord = [[0, 0, 0], [1, 0, 0], [-1.5, 0.01, 0], [0, 0, 2]]
    rows, _ = features(coord, [0] * 4, LocFrame((3,), (0,), 5.0))
    np.testing.assert_allclose(rows[2], [1 / 2, 0, 0, 1 / 2], atol=1e-15)
    rows, _ = features([*coord[:2], [-1.5, 0.03, 0], coord[3]], [0] * 4, LocFrame((3,), (0,), 5.0))
    np.testing.assert_allclose(rows[2], [1 / 2, 1 / 2, 0, 0], atol=1e-15)


def test_the_next_is_the_one_behind_the_second():
    coord = [[0, 0, 0], [1, 0, 0], [-1.5, 0.01, 0], [0, 0, 2], [0, 2.5, 0]]
    rows, _ = features(coord, [0] * 5, LocFrame((4,), (0,), 5.0))
    np.testing.assert_allclose(rows[2:], [[1 / 2, 0, 0, 1 / 2], [1 / 2.5, -1 / 2.5, 0, 0]], atol=1e-15)


@pytest.mark.parametrize(
    "coord", [[[1, 0, 0]], [[1, 0, 0], [2, 0, 0]], [[1, 0, 0], [-2, 0, 0]], [[1, 0, 0], [-2, 0, 0], [3, 0, 0]]]
)
def test_what_no_axis_defines_is_zero(coord):
    rows, _ = features([[0, 0, 0], *coord], [0] * (len(coord) + 1), LocFrame((4,), (0,), 5.0))
    expected = [[1 / abs(x), 0, 1 / x, 0] for x, _, _ in sorted(coord, key=lambda place: abs(place[0]))]
    np.testing.assert_allclose(rows[: len(coord)], expected, atol=1e-15)
    assert not rows[len(coord) :].any()


def test_too_many_neighbours_of_one_type_displace_none_of_another():
    rng = np.random.default_rng(1)
    near = rng.normal(size=(20, 3))
    near = near / np.linalg.norm(near, axis=1, keepdims=True) * rng.uniform(1.0, 2.0, (20, 1))
    descriptor = LocFrame((2, 1), (1, 1), 4.0)
    with pytest.warns(match="the farthest are left out"):
        _, radial = features([[0, 0, 0], *near, [3, 0, 0], [0, 3.5, 0]], [0] * 21 + [1] * 2, descriptor)
    assert_close(radial, np.array([1 / np.sort(np.linalg.norm(near, axis=1))[2], 1 / 3.5]), "function")


def test_mirror_images_differ_in_the_sign_of_z():
    coord = np.random.default_rng(2).normal(size=(5, 3)) * 1.5
    coord -= coord[0]
    rows, _ = features(coord, [0] * 5, LocFrame((4,), (0,), 9.0))
    mirrored, _ = features(coord * [1, 1, -1], [0] * 5, LocFrame((4,), (0,), 9.0))
    assert np.abs(rows[:, 1]).max() > 0.01
    assert_close(mirrored, rows * [1, -1, 1, 1], "function")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sel_r": (1,)}, "sel_r has 1 entries, sel_a has 2"),
        ({"sel_a": (-1, 2)}, "need numbers of slots >= 0"),
        ({"sel_a": (0, 1)}, "without axis_rule it needs two slots"),
        ({"rcut": 0.0}, "rcut is 0.0; it must be positive"),
        ({"axis_rule": (0, 0, 0)}, "axis_rule has 3 numbers; accepted: none, or 6 for each type, 12"),
        ({"axis_rule": (*RULE[:9], 0, 1, 5)}, r"axis 2 of type 1 is \[0, 1, 5\]"),
        ({"axis_rule": (2, *RULE[1:])}, r"axis 1 of type 0 is \[2, 1, 0\]"),
        ({"axis_rule": (0, 2, *RULE[2:])}, "accepted: 0 .sel_a. or 1 .sel_r., a type"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        replace(BASE, **options)
