"""Which placement group is removed after the death of a controller: its own and nobody else's, where that can be told.

On a real Ray: test_worker_pool.py.
"""

import pytest

from sweeps.execution import placement
from sweeps.execution.groups import Groups
from sweeps.execution.placement import Placements, Shape
from sweeps.trials.messages import JobEvent, ReadyEvent

PAIR = [{"CPU": 1.0}, {"CPU": 1.0}]
SHAPE = Shape({"CPU": 1.0}, 2, 2)


class Held(dict[str, list[dict[str, float]]]):
    """What the job holds; what is removed goes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **groups: list[dict[str, float]]) -> None:
        super().__init__(groups)
        monkeypatch.setattr(placement, "held", lambda: dict(self))
        monkeypatch.setattr(placement, "remove", self.__delitem__)


def ready(slot: str, group: str) -> JobEvent:
    return ReadyEvent(event="ready", job=slot, role="group", time=0.0, placement=group)


def test_what_its_workers_had_told_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    placements = Placements()
    held.update(mine=PAIR, other=PAIR)
    placements.listen([ready("slot-0", "mine"), ready("slot-1", "mine"), ready("slot-2", "other")])
    placements.end(["slot-0", "slot-1"], SHAPE)
    assert set(held) == {"other"}


def test_without_that_it_is_what_nobody_else_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what was held before, or has another shape, or was told by another group: all may be the user's own."""
    held = Held(monkeypatch, before=PAIR)
    placements = Placements()
    held.update(mine=PAIR, other=PAIR, relay=[{"node:__internal_head__": 0.001}], larger=[*PAIR, {"CPU": 1.0}])
    placements.listen([ready("slot-2", "other")])
    placements.end(["slot-0", "slot-1"], SHAPE)
    assert set(held) == {"before", "other", "relay", "larger"}


def test_a_group_that_was_resized_since_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    placements = Placements()
    placements.listen([ready("slot-0", "small")])
    held.update(large=PAIR)
    placements.end(["slot-0"], Shape({"CPU": 1.0}, 1, 4))
    assert not held


def test_a_group_that_ended_by_itself_has_removed_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    placements = Placements()
    held.update(mine=PAIR)
    placements.listen([ready("slot-0", "mine")])
    placements.end(["slot-0"], None)
    assert set(held) == {"mine"}
    placements.listen([ready("slot-0", "mine")])  # told late: it counts no more
    placements.end(["slot-1"], SHAPE)
    assert not held


def test_the_shape_of_a_group() -> None:
    assert Groups().shape([0, 1]) == SHAPE
    assert Groups(workers=(1, 4)).shape([0]) == Shape({"CPU": 1.0}, 1, 4)
    half = Groups(workers=2, gpus=1.0).shape([0])
    assert half.fits([{"CPU": 1.0, "GPU": 1.0}] * 2)
    assert not half.fits([{"CPU": 1.0}] * 2)
