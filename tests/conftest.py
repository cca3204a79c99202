"""Fixtures of all tests. torch is imported only by those who use it: analysis/ and its tests do without."""

from collections.abc import Iterator

import pytest


@pytest.fixture
def tiny() -> Iterator[None]:
    """The networks of tests/tiny.py by name; one thread."""
    from tests.tiny import set_up

    with set_up():
        yield
