"""What the pool does after a group was lost, without Ray."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from sweeps.execution.groups import Groups, Lost
from sweeps.execution.worker_pool import WorkerPool


class Losing(Groups):
    """Every group is lost at once."""

    def run(self, queue: str, slots: Sequence[str], scratch: str) -> Lost | None:
        del queue, scratch
        runs.append(slots[0])
        return Lost("killed", frozenset({0}), 1)


runs: list[str] = []


@pytest.mark.parametrize("end", ["no_more_jobs", "die"])
def test_no_group_starts_for_a_sweep_that_is_over(end: str) -> None:
    """The last job failed with its group: the sweep does not wait for the pause before the next one, nor for that."""
    runs.clear()
    pool: Any = WorkerPool(1, lambda _: None, Losing())
    pool.queue, pool.placements, pool.scratch = MagicMock(), MagicMock(), Path("unused")
    server = threading.Thread(target=pool._serve, args=([0],))
    server.start()
    while not pool.queue.lost.remote.called:
        time.sleep(0.01)
    began = time.monotonic()
    pool.no_more_jobs() if end == "no_more_jobs" else pool.die("the queue is gone")
    server.join(timeout=20)
    assert not server.is_alive()
    assert (len(runs), time.monotonic() - began < 1.5) == (1, True), "it used to wait for two seconds"
