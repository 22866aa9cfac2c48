"""Learning rate against the formulas of the input's documentation."""

import math

import pytest

from deepmd.array_model.errors import InputError
from deepmd.io.sections import CosineDecay, ExpDecay, StableDecay
from deepmd.train.schedule import learning_rate


def test_stepped_decay_reaches_stop_lr():
    lr = learning_rate(ExpDecay(start_lr=1e-3, stop_lr=1e-6, decay_steps=100), 1000)
    rate = (1e-6 / 1e-3) ** (100 / 1000)
    assert lr(0) == lr(99) == 1e-3
    assert lr(100) == pytest.approx(1e-3 * rate)
    assert lr(999) == pytest.approx(1e-3 * rate**9)
    assert lr(1000) == pytest.approx(1e-6)
    assert lr(5000) == 1e-6


def test_smooth_decay():
    lr = learning_rate(ExpDecay(start_lr=1e-3, stop_lr=1e-6, decay_steps=100, smooth=True), 1000)
    assert lr(50) == pytest.approx(1e-3 * (1e-3) ** (50 / 1000))


def test_stop_lr_ratio_and_default_stop_lr():
    assert learning_rate(ExpDecay(start_lr=1e-2, stop_lr_ratio=1e-3, decay_steps=10), 1000)(10**6) == pytest.approx(
        1e-5
    )
    assert learning_rate(ExpDecay(start_lr=1e-2, decay_steps=10), 1000)(10**6) == 5e-8


def test_given_decay_rate_is_used():
    lr = learning_rate(ExpDecay(start_lr=1e-3, stop_lr=1e-8, decay_steps=10, decay_rate=0.9), 1000)
    assert lr(25) == pytest.approx(1e-3 * 0.81)


@pytest.mark.parametrize(("steps", "every"), [(5000, 100), (1010, 100), (1000, 11), (300, 4), (50, 1)])
def test_decay_steps_longer_than_the_run_are_replaced(steps, every):
    lr = learning_rate(ExpDecay(start_lr=1e-3, stop_lr=1e-6, decay_steps=10**6), steps)
    rate = math.exp(math.log(1e-3) / (steps / every))
    assert lr(every) == pytest.approx(1e-3 * rate)
    assert lr(every - 1) == 1e-3


@pytest.mark.parametrize("warm", [{"warmup_steps": 100}, {"warmup_ratio": 0.1}])
def test_warm_up_is_linear_and_the_decay_follows(warm):
    lr = learning_rate(ExpDecay(start_lr=1e-3, stop_lr=1e-6, decay_steps=90, warmup_start_factor=0.2, **warm), 1000)
    assert lr(0) == pytest.approx(0.2e-3)
    assert lr(50) == pytest.approx(0.6e-3)
    assert lr(100) == 1e-3
    assert lr(190) == pytest.approx(1e-3 * (1e-3) ** (90 / 900))


@pytest.mark.parametrize("decay_type", ["linear", "cosine", "inverse_linear"])
@pytest.mark.parametrize("warmup", [6, 9])
def test_a_decay_phase_longer_than_the_steps_after_the_warm_up_begins_there(warmup, decay_type):
    lr = learning_rate(
        StableDecay(start_lr=1e-3, stop_lr=1e-5, warmup_steps=warmup, decay_phase_ratio=0.5, decay_type=decay_type),
        10,
    )
    assert lr(warmup) == pytest.approx(1e-3)
    assert lr(10) == pytest.approx(1e-5)


def test_warm_up_as_long_as_the_training():
    with pytest.raises(InputError, match="warm-up"):
        learning_rate(ExpDecay(start_lr=1e-3, warmup_steps=100), 100)


def test_cosine_decay_after_a_warm_up():
    lr = learning_rate(CosineDecay(start_lr=1e-3, stop_lr=1e-5, warmup_steps=5), 40)
    assert lr(0) == 0.0
    assert lr(5) == 1e-3
    assert lr(5 + 10) == pytest.approx(1e-5 + 0.99e-3 / 2 * (1 + math.cos(math.pi * 10 / 35)))
    assert lr(40) == lr(99) == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("decay_type", "second"),
    [
        ("inverse_linear", 1 / (0.05 / 1e-5 + 0.95 / 1e-3)),
        ("linear", 1e-3 - 0.05 * 0.99e-3),
        ("cosine", 1e-5 + 0.99e-3 / 2 * (1 + math.cos(math.pi * 0.05))),
    ],
)
def test_stable_phase_and_decay(decay_type, second):
    lr = learning_rate(StableDecay(start_lr=1e-3, stop_lr=1e-5, decay_phase_ratio=0.5, decay_type=decay_type), 40)
    assert lr(0) == lr(19) == lr(20) == pytest.approx(1e-3)
    assert lr(21) == pytest.approx(second)
    assert lr(40) == lr(99) == pytest.approx(1e-5)


def test_the_decay_phase_counts_all_steps():
    """Rows of DeePMD-kit 3.2.0 for 40 steps, 5 of them warm-up, and a decay over int(0.33 * 40) = 13."""
    options = StableDecay(
        start_lr=1e-3,
        stop_lr=1e-5,
        decay_phase_ratio=0.33,
        decay_type="linear",
        warmup_steps=5,
        warmup_start_factor=0.1,
    )
    rows = [learning_rate(options, 40)(t) for t in (0, 1, 4, 5, 27, 28, 29, 39)]
    assert [f"{value:.1e}" for value in rows] == [
        "1.0e-04",
        "2.8e-04",
        "8.2e-04",
        "1.0e-03",
        "1.0e-03",
        "9.2e-04",
        "8.5e-04",
        "8.6e-05",
    ]
