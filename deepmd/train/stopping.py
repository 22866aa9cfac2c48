"""SIGINT (Ctrl-C) and SIGTERM during a training: it ends after the present step, with a checkpoint."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

Asked = Callable[[], signal.Signals | None]


@contextlib.contextmanager
def stop_requests() -> Iterator[Asked]:
    """Yield a function that returns the signal that has asked to stop, if any.

    After the first signal the previous handlers are back, so that a second signal ends the process. But torchrun passes
    the SIGTERM on that a batch system has sent to every process: there a second one is ignored, and torchrun kills
    after 30 s. Ignored signals stay ignored. Outside of the main thread nothing is installed, because Python
    handles signals in the main thread.
    """
    received: list[signal.Signals] = []
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _frame: Any) -> None:
        received.append(signal.Signals(number))
        restore()
        if number == signal.SIGTERM and "TORCHELASTIC_RUN_ID" in os.environ:
            signal.signal(number, signal.SIG_IGN)

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
    """Return the exception to raise after a request to stop, with the exit code of the signal itself: 130 or 143."""
    return KeyboardInterrupt(message) if number is signal.SIGINT else SystemExit(128 + number)
