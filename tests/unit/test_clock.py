"""The expected end of a training, and what is told before its first step."""

import logging

from deepmd.train.clock import Clock, Stages


def run_clock(durations, start=0, last=1000):
    """A clock after steps of these durations, seconds."""
    time = 100.0
    clock = Clock(start, last, lambda: time)
    for step, duration in enumerate(durations, start + 1):
        time += duration
        clock.tick(step)
    return clock


def test_graphs_do_not_count_for_the_expected_end():
    """Neither that of the first step, nor one that a later plan needs."""
    assert run_clock([5.0]).left() is None
    assert "eta" not in run_clock([5.0]).line(1)
    clock = run_clock([5.0, *[0.1] * 50, 3.0, *[0.1] * 48])
    assert abs(clock.left() - 900 * 0.1) < 1e-6
    assert "total wall time = 17.80 s, eta = 0:01:" in clock.line(100)


def test_the_end_follows_the_recent_steps():
    assert abs(run_clock([1.0] * 300 + [0.5] * 200).left() - 500 * 0.5) < 1e-6
    assert run_clock([1.0] * 10, start=980).left() == 10.0, "a restart"


def test_stages_are_named_when_they_begin_and_timed_in_the_end(caplog):
    with caplog.at_level(logging.INFO, logger="deepmd"):
        stages = Stages()
        stages.begin("loading torch")
        stages.begin("counting neighbours")
    assert caplog.messages == ["loading torch", "counting neighbours"]
    assert stages.summary().startswith("ready after 0.0 s (loading torch 0.0, counting neighbours 0.0)")
