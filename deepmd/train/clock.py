"""Wall time of a training: what happens before the first step, speed, expected end, progress bar."""

from __future__ import annotations

import datetime
import logging
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)

FOREVER = 100 * 365 * 86400.0
"""Upper bound of the expected time left, seconds, because dates of `datetime` end."""

SLOW = 10.0
"""Steps that take this many medians build a graph or wait for a disk, and say nothing about the steps to come."""

RECENT = 200
"""Steps that the expected end follows from."""


class Stages:
    """Stages before the first step: each is logged when it begins, their times when all are done."""

    def __init__(self) -> None:
        self._begins: list[tuple[str, float]] = []

    def begin(self, name: str) -> None:
        """End the present stage, and begin the next one."""
        log.info("%s", name)
        self._begins.append((name, time.perf_counter()))

    def summary(self) -> str:
        """Return the last log line: the time of all stages, and of each."""
        ends = [begin for _, begin in self._begins[1:]] + [time.perf_counter()]
        each = [f"{name} {end - begin:.1f}" for (name, begin), end in zip(self._begins, ends, strict=True)]
        return f"ready after {ends[-1] - self._begins[0][1]:.1f} s ({', '.join(each)}); the first step builds the graph"


class Clock:
    """Wall time per interval, speed, and expected end of a training.

    Parameters
    ----------
    start, last : steps that were made before, and steps in all
    now : clock, seconds
    """

    def __init__(self, start: int, last: int, now: Callable[[], float] = time.perf_counter) -> None:
        self._first = self._last_step = self.step = start
        self._numb_steps, self._now = last, now
        self._begin = self._last_time = self._last_tick = now()
        self._durations: deque[float] = deque(maxlen=RECENT)

    def tick(self, step: int) -> None:
        """Note the end of a step. The first one begins the count, because it builds the graph."""
        now = self._now()
        if self.step > self._first:
            self._durations.append(now - self._last_tick)
        self.step, self._last_tick = step, now

    def left(self) -> float | None:
        """Return the expected time to the end, seconds, by the recent steps; None if there are none."""
        if not self._durations:
            return None
        limit = SLOW * statistics.median(self._durations)
        pace = statistics.fmean(each for each in self._durations if each <= limit)
        return min((self._numb_steps - self.step) * pace, FOREVER)

    def line(self, step: int) -> str:
        """Return the log line of the steps since the last log line."""
        now, left = self._now(), self.left()
        elapsed, steps = now - self._last_time, step - self._last_step
        self._last_time, self._last_step = now, step
        text = f"Batch {step:7d}: total wall time = {elapsed:.2f} s, "
        if left is None:
            return f"{text}the first step, which builds the graph"
        done = datetime.datetime.now().astimezone() + datetime.timedelta(seconds=left)
        return f"{text}eta = {_clock_time(left)} at {done:%Y-%m-%d %H:%M}, {1e3 * elapsed / max(steps, 1):.1f} ms/step"

    def summary(self) -> str:
        """Return the last log line."""
        steps, elapsed = self._numb_steps - self._first, self._now() - self._begin
        return f"finished training: {steps} steps in {elapsed:.1f} s, {1e3 * elapsed / max(steps, 1):.1f} ms/step"


def _clock_time(seconds: float | None) -> str:
    return "-:--:--" if seconds is None else str(datetime.timedelta(seconds=int(seconds)))


@contextmanager
def progress_bar(clock: Clock, last: int) -> Iterator[Callable[[int], Any]]:
    """Yield a function to call with the finished step; it moves a bar in a terminal or a notebook."""
    if "ipykernel" in sys.modules:
        yield _notebook_bar(clock, last)
        return
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich import progress
    from rich.console import Console

    parts = (
        progress.TextColumn("training"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("eta {task.fields[eta]}"),
    )
    with progress.Progress(*parts, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("training", total=last, completed=clock.step, eta=_clock_time(None))
        yield lambda step: bar.update(task, completed=step, eta=_clock_time(clock.left()))


def _notebook_bar(clock: Clock, last: int) -> Callable[[int], Any]:
    """Return a function that moves a bar on the page of a notebook, without ipywidgets, which rich would need."""
    from IPython.display import display

    shown = time.perf_counter()

    def content(step: int) -> dict[str, str]:
        text = f"step {step} of {last}, eta {_clock_time(clock.left())}"
        bar = f"<progress max={last} value={step} style='width: 50%'></progress>"
        return {"text/plain": text, "text/html": f"{bar} {text}"}

    place = display(content(clock.step), raw=True, display_id=True)

    def advance(step: int) -> None:
        nonlocal shown
        if step == last or time.perf_counter() - shown > NOTEBOOK_PAUSE:
            shown = time.perf_counter()
            place.update(content(step), raw=True)

    return advance


NOTEBOOK_PAUSE = 0.5
"""Seconds between two updates of a bar in a notebook, because each is a message to the browser."""
