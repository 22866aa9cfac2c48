"""Batch sizes, probabilities, and the order of frames."""

import numpy as np
import pytest

from deepmd.array_model.errors import InputError
from deepmd.data.sampling import DRAWS_PER_GENERATOR, Sampler, make_rule
from deepmd.data.systems import System


def system(natoms, *sets):
    frames = sum(sets)
    return System("s", np.zeros(natoms, dtype=int), np.zeros((frames, natoms, 3)), None, {}, sets)


SYSTEMS = (system(10, 4, 3), system(40, 6), system(100, 20))


def plan(batch_size=1, auto_prob="prob_sys_size", sys_probs=None, systems=SYSTEMS):
    return make_rule(systems, batch_size, auto_prob, sys_probs, "training_data")


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        (3, (3, 3, 3)),
        ((1, 2, 3), (1, 2, 3)),
        ("auto", (4, 1, 1)),
        ("auto:200", (20, 5, 2)),
        ("max:80", (8, 2, 1)),
        ("mixed:5", (1, 1, 1)),
    ],
)
def test_batch_sizes(given, sizes):
    assert plan(given).batch_size == sizes


def test_filter_drops_large_systems():
    kept = plan("filter:40")
    assert [s.num_atoms for s in kept.systems] == [10, 40]
    assert kept.batch_size == (4, 1)


def test_batches_are_counted_set_by_set():
    assert plan(2).num_batches == (2 + 1, 3, 10)
    assert plan(50).num_batches == (2, 1, 1)


@pytest.mark.parametrize(
    ("auto_prob", "expected"),
    [
        ("prob_sys_size; 0:3:0.5; 3:3:0.5", (7 / 33, 6 / 33, 20 / 33)),
        ("prob_uniform", (1 / 3, 1 / 3, 1 / 3)),
        ("prob_sys_size", (7 / 33, 6 / 33, 20 / 33)),
        ("prob_sys_size;0:2:0.4;2:3:0.6", (0.4 * 7 / 13, 0.4 * 6 / 13, 0.6)),
        ("prob_sys_size;0:1:1;1:3:3", (0.25, 0.75 * 6 / 26, 0.75 * 20 / 26)),
    ],
)
def test_automatic_probabilities(auto_prob, expected):
    np.testing.assert_allclose(plan(auto_prob=auto_prob).probability, expected)


def test_given_probabilities_and_negative_ones_sharing_the_rest():
    assert plan(sys_probs=(0.2, 0.3, 0.5)).probability == (0.2, 0.3, 0.5)
    np.testing.assert_allclose(plan(sys_probs=(-1, 0.35, -1)).probability, (0.65 * 7 / 27, 0.35, 0.65 * 20 / 27))


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"batch_size": (1, 2)},
        {"batch_size": "atuo"},
        {"batch_size": "max"},
        {"batch_size": "auto:x"},
        {"batch_size": "auto:²"},
        {"batch_size": "mixed:00"},
        {"batch_size": "filter:5"},
        {"auto_prob": "prob_sys"},
        {"auto_prob": "prob_sys_size;0:9:1"},
        {"auto_prob": "prob_sys_size;0:1"},
        {"auto_prob": "prob_sys_size;0:3:0"},
        {"sys_probs": (0.5, 0.5)},
        {"sys_probs": (0.5, 0.4, 0.4)},
        {"sys_probs": (0.1, 0.1, 0.1)},
    ],
)
def test_malformed_options_name_the_key(wrong):
    with pytest.raises(InputError, match="training_data/" + next(iter(wrong))):
        plan(**wrong)


def test_an_epoch_visits_every_frame_once():
    sampler = Sampler(plan(2, systems=(system(3, 10),)), seed=1)
    for epoch in range(3):
        seen = [frame for step in range(5 * epoch, 5 * epoch + 5) for _, frame in sampler.frames(step)]
        assert sorted(seen) == list(range(10))


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 33), ("mixed:3", 11), ("mixed:5", 7)])
def test_steps_of_an_epoch_draw_each_frame_once_on_average(batch_size, steps):
    assert plan(batch_size).steps_per_epoch == steps


def test_epochs_and_seeds_differ():
    first, again, other = (Sampler(plan(systems=(system(3, 50),)), seed=seed) for seed in (1, 1, 2))
    order = [first.frames(step)[0][1] for step in range(100)]
    assert order == [again.frames(step)[0][1] for step in range(100)]
    assert order[:50] != [other.frames(step)[0][1] for step in range(50)]


def test_every_epoch_has_an_order_of_its_own():
    sampler = Sampler(plan(systems=(system(3, 50),)), seed=1)
    orders = [tuple(int(sampler.batch_frames(0, 50 * epoch + k)[0]) for k in range(50)) for epoch in range(5)]
    assert len({*orders, tuple(range(50))}) == 6


@pytest.mark.parametrize("batch_size", [1, "mixed:3"])
def test_any_step_can_be_asked_for_directly(batch_size):
    steps = [0, 7, DRAWS_PER_GENERATOR - 1, DRAWS_PER_GENERATOR, 2 * DRAWS_PER_GENERATOR + 5]
    walked = Sampler(plan(batch_size), seed=3)
    walk = {
        step: [(s.num_atoms, frame) for s, frame in walked.frames(step)] for step in range(2 * DRAWS_PER_GENERATOR + 6)
    }
    for step in reversed(steps):
        fresh = Sampler(plan(batch_size), seed=3)
        assert [(s.num_atoms, frame) for s, frame in fresh.frames(step)] == walk[step]


def test_systems_are_drawn_with_their_probability_and_without_skipping_frames():
    sampler = Sampler(plan(sys_probs=(0.1, 0.2, 0.7)), seed=0)
    drawn = [sampler.frames(step)[0] for step in range(3000)]
    share = np.array([sum(s is each for s, _ in drawn) for each in SYSTEMS]) / 3000
    np.testing.assert_allclose(share, (0.1, 0.2, 0.7), atol=0.03)


def test_no_frame_is_skipped_where_a_new_block_of_steps_begins():
    sampler = Sampler(plan(sys_probs=(0.1, 0.2, 0.7)), seed=0)
    drawn = [sampler.frames(step)[0] for step in range(3 * DRAWS_PER_GENERATOR + 500)]
    for each, frames in zip(SYSTEMS, (7, 6, 20), strict=True):
        visited = [frame for s, frame in drawn if s is each]
        assert all(
            sorted(visited[k : k + frames]) == list(range(frames)) for k in range(0, len(visited) - frames, frames)
        )


def test_mixed_batches_draw_each_frame_from_a_system_of_its_own():
    sampler = Sampler(plan("mixed:8", auto_prob="prob_uniform"), seed=0)
    assert len(sampler.frames(0)) == 8
    assert len({s.num_atoms for step in range(3) for s, _ in sampler.frames(step)}) == 3
