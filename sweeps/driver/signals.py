"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP) while a sweep runs."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def handlers() -> dict[signal.Signals, Any]:
    """The current handlers of the signals; empty outside the main thread, which alone may change them.

    Without SIGHUP where it is ignored, as `nohup` asks.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {name: signal.getsignal(name) for name in SIGNALS}
    if found[signal.SIGHUP] == signal.SIG_IGN:
        del found[signal.SIGHUP]
    return found


def restore(before: dict[signal.Signals, Any]) -> None:
    for name, handler in before.items():
        if handler is not None:  # else it was set by other code than Python's, and cannot be set from here
            signal.signal(name, handler)


@contextmanager
def interruptible(suspend: Callable[[], None], say: Callable[[str], None]) -> Iterator[None]:
    """The first signal lets the running trials finish their epochs; the second is a KeyboardInterrupt.

    Outside the main thread neither is handled.
    """

    def ask() -> None:
        suspend()
        say("stopping after the running epochs, nothing is lost; once more stops at once")

    def handle(number: int, _frame: FrameType | None) -> None:
        for name in before:
            signal.signal(name, signal.default_int_handler)
        del number
        threading.Thread(target=ask, daemon=True).start()  # a handler must not wait for locks that it interrupts

    before = handlers()
    try:
        for name in before:
            signal.signal(name, handle)
        yield
    finally:
        restore(before)
