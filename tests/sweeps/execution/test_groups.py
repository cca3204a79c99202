"""How slots are dealt to worker groups, and what the loss of one means."""

import pytest
import ray

from sweeps.execution import groups
from sweeps.execution.groups import Groups, Lost, dealt, places_in


@pytest.mark.parametrize(
    ("count", "places", "expected"),
    [
        (3, [4], [[0, 1, 2]]),
        (9, [16], [[0, 1, 2, 3], [4, 5, 6, 7], [8]]),
        (6, [2, 4], [[0, 1], [2, 3, 4, 5]]),  # no group over two nodes
        (5, [0, 2, 1], [[0, 1], [2], [3], [4]]),  # more slots than places: they wait for nodes, one by one
    ],
)
def test_slots_of_a_node_share_groups(count: int, places: list[int], expected: list[list[int]]) -> None:
    assert list(dealt(count, places, shared=4)) == expected


@pytest.mark.parametrize("alone", [Groups(jobs=1), Groups(workers=2), Groups(workers=(1, 2))])
def test_slots_of_several_workers_or_of_one_job_have_groups_of_their_own(alone: Groups) -> None:
    assert alone.deal(3) == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("resources", "gpus", "places"),
    [
        ({"CPU": 8.0, "GPU": 2.0}, 0.5, 4),
        ({"CPU": 3.0, "GPU": 8.0}, 1.0, 3),
        ({"CPU": 4.0}, 1.0, 0),
        ({"CPU": 4.0}, 0, 4),
    ],
)
def test_places_of_a_node(resources: dict[str, float], gpus: float, places: int) -> None:
    assert places_in(resources, gpus) == places


@pytest.mark.parametrize(
    ("died", "count", "nodes", "expected"),
    [({0, 1}, 2, 2, True), ({0}, 2, 2, False), ({0, 1}, 2, 1, False), ({0}, 1, 2, False)],
)
def test_a_group_left_with_its_node(
    monkeypatch: pytest.MonkeyPatch, died: set[int], count: int, nodes: int, expected: bool
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{}] * nodes)
    assert groups.Lost("gone", frozenset(died), count).with_its_node is expected
    assert Lost is groups.Lost
