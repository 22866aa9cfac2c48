"""Wall time of a training: speed, expected end, progress bar."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

FOREVER = 100 * 365 * 86400.0
"""Upper bound of the expected time left, seconds, because dates of `datetime` end."""


class Clock:
    """Wall time per interval, speed, and expected end of a training."""

    def __init__(self, start: int, last: int) -> None:
        self._first = self._last_step = start
        self._numb_steps = last
        self._begin = self._last_time = time.perf_counter()

    def line(self, step: int) -> str:
        """Return the log line of the steps since the last log line."""
        now = time.perf_counter()
        elapsed, steps = now - self._last_time, step - self._last_step
        left = min((self._numb_steps - step) * elapsed / max(steps, 1), FOREVER)
        done = datetime.datetime.now().astimezone() + datetime.timedelta(seconds=left)
        self._last_time, self._last_step = now, step
        eta = datetime.timedelta(seconds=int(left))
        pace = 1e3 * elapsed / max(steps, 1)
        when = f"eta = {eta!s} at {done:%Y-%m-%d %H:%M}"
        return f"Batch {step:7d}: total wall time = {elapsed:.2f} s, {when}, {pace:.1f} ms/step"

    def summary(self) -> str:
        """Return the last log line."""
        steps, elapsed = self._numb_steps - self._first, time.perf_counter() - self._begin
        return f"finished training: {steps} steps in {elapsed:.1f} s, {1e3 * elapsed / max(steps, 1):.1f} ms/step"


@contextmanager
def progress_bar(start: int, last: int) -> Iterator[Callable[[int], Any]]:
    """Yield a function to call with the finished step; it moves a bar if the log goes to a terminal."""
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
        progress.TextColumn("eta"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*parts, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("training", total=last, completed=start)
        yield lambda step: bar.update(task, completed=step)
