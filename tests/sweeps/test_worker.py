"""What a worker does between two jobs."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from sweeps.worker import tidy


class Knot:
    def __init__(self) -> None:
        self.self = self


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    """Without the automatic collector, so that only `tidy` collects."""
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def test_cycles_of_every_job_are_freed() -> None:
    for turn in range(3):
        knot = Knot()
        alive = weakref.ref(knot)
        del knot
        assert alive() is not None
        tidy(turn)
        assert alive() is None


def test_what_the_first_job_imported_is_not_searched_again() -> None:
    before = len(gc.get_objects())
    tidy(0)
    assert gc.get_freeze_count() > 0.9 * before
    assert len(gc.get_objects()) < 0.1 * before
    kept = Knot()
    frozen = gc.get_freeze_count()
    tidy(1)
    assert gc.get_freeze_count() <= frozen  # what lives after a later job may still become garbage
    assert any(thing is kept for thing in gc.get_objects())
