"""Ctrl-C and SIGTERM while a sweep runs."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible(suspend: Callable[[], None], say: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) lets the running trials end their epochs; the second is a KeyboardInterrupt."""

    def ask() -> None:
        say("stopping after the running epochs, nothing is lost; once more stops at once")
        suspend()

    def handle(number: int, _frame: FrameType | None) -> None:
        for name in before:
            signal.signal(name, signal.default_int_handler)
        del number
        threading.Thread(target=ask, daemon=True).start()  # a handler must not wait for locks that it interrupts

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        for name in before:
            signal.signal(name, handle)
        yield
    finally:
        for name, old in before.items():
            signal.signal(name, old)
