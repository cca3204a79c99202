"""Signals that stop a sweep, one that is ignored, and a terminal that has closed."""

import os
import pty
import signal
import threading
from collections.abc import Iterator

import pytest

from sweeps.driver.signals import SIGNALS, handlers, interruptible
from sweeps.report.console import lasting_console


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = {name: signal.getsignal(name) for name in SIGNALS}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_suspends_even_if_nothing_can_be_said(number: signal.Signals) -> None:
    suspended = threading.Event()

    def say(_: str) -> None:
        raise OSError(5, "Input/output error")  # of a terminal that has closed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda _: None)
        with interruptible(suspended.set, say):
            os.kill(os.getpid(), number)
            assert suspended.wait(10)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)


def test_nohup_stays_in_force() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert signal.SIGHUP not in handlers()
    with interruptible(lambda: pytest.fail("it was asked to stop"), print):
        os.kill(os.getpid(), signal.SIGHUP)


def test_a_terminal_that_closes_silences_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    main, side = pty.openpty()
    with open(side, "w") as terminal:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr("sys.stdout", terminal)
        console = lasting_console()
        console.print("seen")
        assert b"seen" in os.read(main, 100)
        os.close(main)
        console.print("not seen")
        console.print("nor this")
        assert console.quiet
