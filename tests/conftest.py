"""Fixtures of all tests. torch is imported only by those who use it: analysis/ and its tests do without."""

import signal
from collections.abc import Iterator

import pytest

# a shell starts background jobs with Ctrl-C ignored, and what the tests start and interrupt would inherit that
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def tiny() -> Iterator[None]:
    """The networks of tests/tiny.py by name; one thread."""
    from tests.tiny import set_up

    with set_up():
        yield
