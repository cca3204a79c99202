"""The worker pool on a real Ray: jobs end in the right state, a failing one fails alone, a lost worker is replaced."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
import ray
from ray.util.placement_group import placement_group_table

from analysis.trial_file import ended_trial
from mergenet.records.run_record import read_run
from mergenet.records.sealed import read_record
from sweeps.execution.forkserver.start import TOKEN
from sweeps.execution.groups import Groups, Lost
from sweeps.execution.job_queue import NAMESPACE
from sweeps.execution.local_ray import local_ray
from sweeps.execution.ray_cluster import quiet
from sweeps.execution.worker_pool import WorkerPool
from sweeps.trials.errors import Suspended
from sweeps.trials.jobs import Jobs
from sweeps.trials.messages import Job, JobEvent
from sweeps.trials.recorded_source import plan_source
from tests.sweeps.base import space_of

pytestmark = pytest.mark.slow  # worker groups of Ray Train, seconds each

SPACE = {"target.optimizer.lr": {"choice": [0.05, 1e9]}, "transfer.t_cycle": {"choice": [2, 4]}}


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with quiet(), local_ray(num_cpus=2):
        yield
    assert not ray.is_initialized()


@pytest.fixture(autouse=True)
def _alone() -> None:
    """Waits for the processes of the test before, which may take a while to end."""
    deadline = time.monotonic() + 60
    while left := [*processes(b"TrainController"), *processes(b"RayTrainWorker")]:
        assert time.monotonic() < deadline, f"processes {left} of an earlier test have not ended"
        time.sleep(0.05)


def jobs_in(folder: Path, recorded: bool = False, **changes: Any) -> Jobs:
    return Jobs(folder, space_of(SPACE, **changes), str(folder / "source") if recorded else None)


def forked() -> set[str]:
    """The titles of the workers that this process's fork server has forked."""
    titles, parents, servers = dict[int, str](), dict[int, int](), set[int]()
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            number, command = int(file.parent.name), file.read_bytes().decode()
            titles[number] = command.partition("\0")[0].partition(".")[0]
            parents[number] = int((file.parent / "stat").read_text().rpartition(")")[2].split()[1])
            if "forkserver.server" in command and TOKEN.name in command:
                servers.add(number)
    return {titles[number] for number, parent in parents.items() if parent in servers}


def test_jobs_end_as_they_should_and_nothing_is_left(tmp_path: Path) -> None:
    """The source is recorded, a good trial replays it, a diverging and an invalid one fail alone, one is stopped.

    One test, because a slot takes seconds to start.
    """
    jobs, events = jobs_in(tmp_path, recorded=True), list[JobEvent]()
    with WorkerPool(1, events.append) as slots:
        slots.submit(jobs.source(plan_source(jobs.space)))
        slots.wait(["source"])
        assert {"ray::JobQueue", "ray::TrainController", "ray::RayTrainWorker"} <= forked()
        slots.submit(jobs.trial(0, {"target.optimizer.lr": 1e9}))
        slots.submit(jobs.trial(1, {"target.optimizer.lr": 0.05, "transfer.t_cycle": 4}))
        broken = jobs.trial(2, {})
        broken["config"]["source"]["recording"] = "nowhere"
        slots.submit(broken)
        slots.submit(jobs_in(tmp_path, epochs=40).trial(3, {}))
        assert ray.get(slots.queue.next_row.remote("trial-003"))["row"]["epoch"] == 1
        ray.get(slots.queue.stop.remote("trial-003"))
        outcomes = slots.wait(["trial-000", "trial-001", "trial-002", "trial-003"])
    assert [outcome["state"] for outcome in outcomes.values()] == ["failed", "complete", "failed", "pruned"]
    assert "lower" in outcomes["trial-000"]["error"]  # TrainingDiverged says what to lower
    assert "source.recording must be a finished recording, got 'nowhere'" in outcomes["trial-002"]["error"]
    assert read_run(tmp_path / "trials/trial-001").result["status"] == "finished"
    rows = [event for event in events if event["event"] == "row" and event["job"] == "trial-001"]
    assert [event["row"]["epoch"] for event in rows] == [1, 2]
    stopped = read_run(tmp_path / "trials/trial-003")
    assert stopped.result["status"] == "stopped"
    assert len(stopped.epochs) < 40
    assert all(group["state"] == "REMOVED" for group in placement_group_table().values())


def test_slots_share_a_group_and_a_lost_worker_costs_the_others_no_attempt(tmp_path: Path) -> None:
    """The job beside the lost one trains its epoch again, to the same bits."""
    jobs, events = jobs_in(tmp_path, epochs=30), list[JobEvent]()
    with WorkerPool(2, events.append) as slots:
        for number in (0, 1):
            slots.submit(jobs.trial(number, {}))
        slots.wait_ready(2)
        controllers = processes(b"TrainController")
        for name in ("trial-000", "trial-001"):
            while ray.get(slots.queue.next_row.remote(name))["row"]["epoch"] < 3:
                pass
        kill_worker(of=2)
        outcomes = slots.wait(["trial-000", "trial-001"])
    assert len(controllers) == 1
    assert [outcome["state"] for outcome in outcomes.values()] == ["complete", "complete"]
    assert sorted(event["attempts"] for event in events if event["event"] == "lost") == [0, 1]
    runs = [read_run(tmp_path / f"trials/trial-00{number}") for number in (0, 1)]
    for number, run in enumerate(runs):
        told = [e["row"]["epoch"] for e in events if e["event"] == "row" and e["job"] == f"trial-00{number}"]
        assert told == [row["epoch"] for row in run.epochs] == list(range(1, 31)), "each is told and trained once"
    metrics = [[row["target_val_top1"] for row in run.epochs] for run in runs]
    assert metrics[0] == metrics[1], "both are the same training, cut at different moments"


def test_a_job_whose_workers_keep_dying_is_recorded_as_failed(tmp_path: Path) -> None:
    """A trial's relay does that; a baseline or a confirmation has none."""

    class Dying(Groups):
        def run(self, queue: str, slots: Sequence[str], scratch: str) -> Lost | None:
            del scratch
            actor = ray.get_actor(queue, NAMESPACE)
            ray.get(actor.ready.remote(slots[0]))
            return Lost("out of memory", frozenset({0}), 1) if ray.get(actor.next_job.remote(slots[0], 0)) else None

    job = jobs_in(tmp_path).trial(0, {}) | {"role": "baseline"}
    with WorkerPool(1, lambda _: None, Dying()) as slots:
        slots.submit(cast(Job, job))
        outcome = slots.wait(["trial-000"])["trial-000"]
    assert (outcome["state"], outcome["error"]) == ("failed", "lost its workers 3 times: out of memory")
    trial = ended_trial(tmp_path / "trials/trial-000")
    assert trial is not None
    assert (trial["state"], trial["error"]) == ("failed", outcome["error"])


def test_two_workers_train_one_job_and_stop_together(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    with WorkerPool(1, lambda _: None, Groups(jobs=None, workers=2)) as slots:
        slots.submit(jobs.trial(0, {}))
        slots.submit(jobs_in(tmp_path, epochs=40).trial(1, {}))
        slots.submit(jobs.trial(2, {"target.optimizer.lr": 1e9}))
        assert ray.get(slots.queue.next_row.remote("trial-001"))["row"]["epoch"] == 1
        ray.get(slots.queue.stop.remote("trial-001"))
        outcomes = slots.wait(["trial-000", "trial-001", "trial-002"])
    assert [outcome["state"] for outcome in outcomes.values()] == ["complete", "pruned", "failed"]
    assert read_run(tmp_path / "trials/trial-000").result["status"] == "finished"


def test_a_group_for_each_job_and_a_pause(tmp_path: Path) -> None:
    jobs, events = jobs_in(tmp_path), list[JobEvent]()
    with WorkerPool(1, events.append, Groups(jobs=1)) as slots:
        slots.submit(jobs.trial(0, {}))
        slots.wait(["trial-000"])
        slots.submit(jobs_in(tmp_path, epochs=40).trial(1, {}))
        slots.submit(jobs.trial(2, {}))
        ray.get(slots.queue.next_row.remote("trial-001"))
        slots.suspend()
        with pytest.raises(Suspended):
            slots.wait_unfinished()
    groups = [event["group"] for event in events if event["event"] == "started"]
    assert len(set(groups)) == len(groups) == 2, "the third job has not begun"
    paused = read_run(tmp_path / "trials/trial-001")
    assert paused.result["status"] == "stopped"
    assert read_record(tmp_path / "trials/trial-001/trial.json")["state"] == "running"
    assert {e["job"]: e["state"] for e in events if e["event"] == "ended"} == {
        "trial-000": "complete",
        "trial-001": "paused",
        "trial-002": "paused",
    }


@pytest.mark.parametrize("moment", ["at start", pytest.param("while they train", marks=pytest.mark.long)])
def test_a_controller_that_dies_takes_no_cpus_with_it(moment: str, tmp_path: Path) -> None:
    """Ray Train leaves its placement group behind, and with it all CPUs that there are."""
    jobs = jobs_in(tmp_path, epochs=30)
    with WorkerPool(2, lambda _: None) as slots:
        slots.submit(jobs.trial(0, {}))
        if moment == "while they train":
            assert ray.get(slots.queue.next_row.remote("trial-000"))["row"]["epoch"] == 1
        else:
            while not any(group["state"] == "CREATED" for group in placement_group_table().values()):
                time.sleep(0.02)
        (controller,) = processes(b"TrainController")
        os.kill(controller, signal.SIGKILL)
        outcomes = slots.wait(["trial-000"])
    assert outcomes["trial-000"]["state"] == "complete"
    assert [row["epoch"] for row in read_run(tmp_path / "trials/trial-000").epochs] == list(range(1, 31))
    assert all(group["state"] == "REMOVED" for group in placement_group_table().values())


def kill_worker(of: int = 1) -> None:
    """kill -9 to a process that trains. of: how many there are in this test's Ray."""
    pids = processes(b"RayTrainWorker")
    assert len(pids) == of, f"{of} workers train, found {pids}"
    os.kill(pids[0], signal.SIGKILL)
    time.sleep(0.1)


def processes(kind: bytes) -> list[int]:
    """Of this test's Ray."""
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if is_of(path, kind)]


def is_of(cmdline: Path, kind: bytes) -> bool:
    try:
        return kind in cmdline.read_bytes() and is_ours(int(cmdline.parent.name))
    except OSError:  # gone meanwhile
        return False


def is_ours(pid: int) -> bool:
    """A descendant of this process: other Rays may run on the machine."""
    while pid not in (0, os.getpid()):
        stat = Path(f"/proc/{pid}/stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])
    return pid != 0


def test_a_running_ray_is_used_and_left_running() -> None:
    with local_ray(9):
        assert ray.cluster_resources()["CPU"] == 2
    assert ray.is_initialized()
