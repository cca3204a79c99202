"""Slots on a real Ray: jobs end in the right state, a failing job fails alone, a slot that dies is an error."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group_table

from mergenet.record import read_run
from sweeps.cluster import local_ray, quiet
from sweeps.jobs import Jobs
from sweeps.mailbox import Message
from sweeps.slots import SlotDied, Slots
from sweeps.source import plan_source
from tests.sweeps.base import base_config, space_of

SPACE = {"target.optimizer.lr": {"choice": [0.05, 1e9]}, "transfer.t_cycle": {"choice": [2, 4]}}


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with quiet(), local_ray(slots=2):
        yield
    assert not ray.is_initialized()


def jobs_in(folder: Path, recorded: bool = False, **changes: Any) -> Jobs:
    return Jobs(folder, space_of(SPACE, **changes), str(folder / "source") if recorded else None)


def test_jobs_end_as_they_should_and_nothing_is_left(tmp_path: Path) -> None:
    """The source is recorded, a good trial replays it, a diverging and an invalid one fail alone."""
    jobs, events = jobs_in(tmp_path, recorded=True), list[Message]()
    with Slots(1, events.append) as slots:
        slots.submit(jobs.source(plan_source(jobs.space)))
        slots.wait(["source"])
        slots.submit(jobs.trial(0, {"target.optimizer.lr": 1e9}))
        slots.submit(jobs.trial(1, {"target.optimizer.lr": 0.05, "transfer.t_cycle": 4}))
        broken = jobs.trial(2, {})
        broken["config"]["source"]["recording"] = "nowhere"
        slots.submit(broken)
        outcomes = slots.wait(["trial-000", "trial-001", "trial-002"])
    states = {name: outcome["state"] for name, outcome in outcomes.items()}
    assert states == {"trial-000": "failed", "trial-001": "complete", "trial-002": "failed"}
    assert "lower" in outcomes["trial-000"]["error"]  # TrainingDiverged says what to lower
    assert "source.recording must be a finished recording, got 'nowhere'" in outcomes["trial-002"]["error"]
    assert read_run(tmp_path / "trials/trial-001").result["status"] == "finished"
    rows = [event for event in events if event["event"] == "row" and event["job"] == "trial-001"]
    assert [event["row"]["epoch"] for event in rows] == [1, 2]
    assert all(group["state"] == "REMOVED" for group in placement_group_table().values())


def test_a_stopped_job_ends_after_its_epoch_and_releases_its_relay(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, epochs=40)
    with Slots(1, lambda _: None) as slots:
        slots.submit(jobs.trial(0, {}))
        assert ray.get(slots.mailbox.next_row.remote("trial-000"))["row"]["epoch"] == 1
        ray.get(slots.mailbox.stop.remote("trial-000"))
        outcome = slots.wait(["trial-000"])["trial-000"]
    assert outcome["state"] == "pruned"
    record = read_run(tmp_path / "trials/trial-000")
    assert record.result["status"] == "stopped"
    assert len(record.epochs) < 40


def test_a_dead_slot_is_a_clear_error_and_fails_what_waits(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, epochs=200)
    with Slots(1, lambda _: None) as slots:
        slots.submit(jobs.trial(0, {}))
        slots.submit(jobs.trial(1, {}))
        ray.get(slots.mailbox.next_row.remote("trial-000"))
        kill_worker()
        with pytest.raises(SlotDied, match=r"slot 0 died: .*; what has finished is kept in the sweep's folder"):
            slots.wait(["trial-000", "trial-001"])
        slots.submit(jobs.trial(2, {}))  # too late
        for waiting in ("trial-001", "trial-002"):
            message = ray.get(slots.mailbox.next_row.remote(waiting))
            assert message["end"]["state"] == "failed"
            assert "slot 0 died" in message["end"]["error"]
    assert read_run(tmp_path / "trials/trial-000").epochs  # what has trained is on disk


def kill_worker() -> None:
    """kill -9 to the process that trains: there is one such worker in this test's Ray."""
    pids = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if is_worker(path)]
    assert len(pids) == 1, f"one worker trains, found {pids}"
    os.kill(pids[0], signal.SIGKILL)
    time.sleep(0.1)


def is_worker(cmdline: Path) -> bool:
    try:
        return b"RayTrainWorker" in cmdline.read_bytes()
    except OSError:  # gone meanwhile
        return False


def test_a_running_ray_without_slots_is_refused() -> None:
    with pytest.raises(RuntimeError, match='the running Ray must have 9 of "trial_slot", got 2'), local_ray(9):
        pass
    assert ray.is_initialized()  # it was not ours to stop
    assert base_config().threads == 1
