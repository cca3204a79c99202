"""How slots are dealt to worker groups, and what the loss of one means."""

import traceback
from pathlib import Path
from typing import cast

import pytest
import ray
from ray.train import WorkerGroupError

from sweeps.execution import groups, worker
from sweeps.execution.groups import Groups, Lost, dealt, places_in, reason_of
from sweeps.execution.worker import Epochs, advance
from sweeps.trials.messages import Job


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


def fails(rank: int, error: BaseException) -> Epochs:
    raise error
    yield rank


def raised_by(error: BaseException, folder: Path) -> str:
    """The text with which Ray hears of it: a traceback."""
    try:
        advance(fails(0, error), cast(Job, {"folder": str(folder)}))
    except Exception:
        return traceback.format_exc()
    raise AssertionError("one of several workers ends its group")


DIED = """The actor died unexpectedly before finishing this task.
\tclass_name: RayTrainWorker
\tpid: 7
The actor is dead because its worker process has died. Worker exit detail: Task was killed: node low on memory.
Memory on the node was 9 GB"""


def test_of_several_workers_the_reason_is_what_the_users_code_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.distributed, "world_size", lambda: 2)
    monkeypatch.setattr(worker.distributed, "rank", lambda: 0)
    long = ValueError("first line\n    second, indented\x1b[31m " + "x" * 400)
    for error, told in (
        (KeyError("fc"), "KeyError: 'fc'"),
        (SystemExit("my data are not there"), "SystemExit: my data are not there"),
        (long, "ValueError: first line second, indented\\x1b[31m " + "x" * 400),
    ):
        text = raised_by(error, tmp_path)
        place = f" ({Path(__file__).relative_to(Path.cwd())}:{fails.__code__.co_firstlineno + 1})"
        for texts in ([text], [text, text]):
            failures = {rank: RuntimeError(text) for rank, text in enumerate(texts)}
            assert reason_of(WorkerGroupError("[Rank 0,1 Error Snippet]:\n ...", failures)) == told[:300] + place
        assert (tmp_path / "traceback.txt").is_file()
    both = {0: RuntimeError(raised_by(KeyError("fc"), tmp_path)), 1: RuntimeError(DIED), 2: RuntimeError("")}
    assert reason_of(WorkerGroupError("two of them", both)) == (
        f"KeyError: 'fc'{place}; The actor is dead because its worker process has died. Worker exit detail: Task was "
        "killed: node low on memory. Memory on the node was 9 GB; RuntimeError"
    )
    assert reason_of(RuntimeError("the controller\nfailed")) == "the controller failed"
