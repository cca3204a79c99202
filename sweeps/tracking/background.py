"""A daemon thread that makes calls one after the other, so that the caller never waits for a network or a disk."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class Background:
    """The calls must catch their own errors. A call that hangs is left behind when the process ends."""

    def __init__(self, name: str) -> None:
        self.calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.started = False

    def __call__(self, call: Callable[[], Any]) -> None:
        self.calls.put(call)
        if not self.started:
            self.started = True
            self.thread.start()

    def close(self, seconds: float) -> bool:
        """Wait until all calls are done, at most this long. Returns whether they are."""
        if self.started:
            self.calls.put(None)
            self.thread.join(seconds)
        return not self.thread.is_alive()

    def _work(self) -> None:
        while (call := self.calls.get()) is not None:
            call()
