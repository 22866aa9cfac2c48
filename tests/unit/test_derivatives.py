"""Assembly of forces and virials from dE/d(displacement)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tolerances import assert_close

from deepmd.array_model.derivatives import atomic_virials, forces, virials
from deepmd.array_model.neighbours import Layout
from deepmd.data.neighbours import find_neighbours
from deepmd.data.packing import pack
from deepmd.host import plain
from deepmd.testing.samples import SYSTEMS, systems

RCUT = 3.0


def packed_system(name, centres=None):
    packed = pack(
        find_neighbours([sample.structure for sample in systems(RCUT, 2)[name]], RCUT),
        Layout(RCUT, (40, 40)),
        2,
        centres,
    )
    grad = np.random.default_rng(5).normal(size=packed.neighbours.disp_NM3.shape)
    return packed, np.where(packed.neighbours.mask_NM[:, :, None], grad, 0.0)


def slow_assembly(grad, packed):
    """The definition, one pair at a time (docs/theory/conventions.md#atomic-virial)."""
    pairs, atoms = packed.neighbours, len(packed.atoms)
    force, atomic, virial = np.zeros((atoms, 3)), np.zeros((atoms, 9)), np.zeros((packed.num_frames, 9))
    for i, slot in zip(*np.nonzero(pairs.mask_NM), strict=True):
        j, g = pairs.index_NM[i, slot], grad[i, slot]
        force[i] += g
        force[j] -= g
        for k in range(3):
            for el in range(3):
                share = -g[k] * pairs.disp_NM3[i, slot, el]
                atomic[j, 3 * k + el] += share
                virial[pairs.frame_N[i], 3 * k + el] += share
    return force, virial, atomic


@pytest.mark.parametrize("system", SYSTEMS)
def test_equals_slow_twin(run, system):
    packed, grad = packed_system(system)
    arrays = replace(packed.neighbours, counts=(), widths=())

    def assembled(grad, pairs, *, xp):
        atoms, frames = len(packed.atoms), packed.num_frames
        return (
            forces(grad, pairs, atoms, xp=xp),
            virials(grad, pairs, frames, xp=xp),
            atomic_virials(grad, pairs, atoms, xp=xp),
        )

    for actual, expected in zip(run(assembled, grad, arrays, dynamic=2), slow_assembly(grad, packed), strict=True):
        assert_close(actual, expected, "function", floor=1.0)


def test_neighbours_that_are_no_centres():
    packed, grad = packed_system("one_frame", np.array([5, 0]))
    assert len(packed.atoms) > 2
    assert_close(
        forces(grad, packed.neighbours, len(packed.atoms), xp=plain),
        slow_assembly(grad, packed)[0],
        "function",
        floor=1.0,
    )


def test_forces_sum_to_zero_in_each_frame():
    packed, grad = packed_system("several_frames")
    force = forces(grad, packed.neighbours, len(packed.atoms), xp=plain)
    assert_close(
        plain.segment_sum(force, packed.neighbours.frame_N, packed.num_frames),
        np.zeros((packed.num_frames, 3)),
        "function",
        floor=10.0,
    )
