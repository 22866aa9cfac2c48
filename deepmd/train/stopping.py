"""Ctrl-C and SIGTERM while a training runs: it ends after the step, with a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

Asked = Callable[[], signal.Signals | None]


@contextlib.contextmanager
def stop_requests() -> Iterator[Asked]:
    """Yield a function that tells which signal has asked to stop, if any.

    A second signal does what it would do without a training. Signals that are ignored stay so, and outside of the main
    thread, where Python takes no signals, nothing is installed.
    """
    received: list[signal.Signals] = []
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _frame: Any) -> None:
        received.append(signal.Signals(number))
        restore()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None):
                before[number] = handler
                signal.signal(number, note)
    try:
        yield lambda: received[0] if received else None
    finally:
        restore()


def make_stop(number: signal.Signals, message: str) -> BaseException:
    """Return what to raise after a request to stop: what the signal itself would have meant, exit code 130 or 143."""
    return KeyboardInterrupt(message) if number is signal.SIGINT else SystemExit(128 + number)
