"""What a worker does between two jobs."""

import gc
import shutil
import weakref
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from analysis.trial_file import ended_trial
from mergenet.records.run_record import CHECKPOINT_FOLDER, EPOCHS_FILE, RECORDING_FILE, read_run
from sweeps.execution.worker import do_job, tidy
from sweeps.trials.jobs import Jobs
from sweeps.trials.messages import GO_ON, SUSPEND
from sweeps.trials.recorded_source import plan_source
from tests.sweeps.base import space_of


class Knot:
    def __init__(self) -> None:
        self.self = self


def in_a_fresh_process(check: Callable[[], None]) -> None:
    """Where no thread of an earlier test collects garbage at the same moment: then `gc.collect` does nothing."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(check).result()


def cycles_of_every_job_are_freed() -> None:
    gc.disable()  # so that only `tidy` collects
    for turn in range(3):
        knot = Knot()
        alive = weakref.ref(knot)
        del knot
        assert alive() is not None
        tidy(turn)
        assert alive() is None


def what_the_first_job_imported_is_not_searched_again() -> None:
    gc.disable()
    gc.collect()
    before = len(gc.get_objects())
    tidy(0)
    assert gc.get_freeze_count() > 0.9 * before
    assert len(gc.get_objects()) < 0.1 * before
    kept = Knot()
    frozen = gc.get_freeze_count()
    tidy(1)
    assert gc.get_freeze_count() <= frozen  # what lives after a later job may still become garbage
    assert any(thing is kept for thing in gc.get_objects())


@pytest.mark.parametrize("check", [cycles_of_every_job_are_freed, what_the_first_job_imported_is_not_searched_again])
def test_memory_after_a_job(check: Callable[[], None]) -> None:
    in_a_fresh_process(check)


def test_a_job_that_failed_before_it_began_begins_when_it_is_tried_again(tmp_path: Path) -> None:
    """What it left behind, trial.json and a traceback, is in the way of no run."""
    space = space_of({"transfer.t_cycle": {"choice": [2, 4]}}, epochs=1)
    job = Jobs(tmp_path, space, None).baseline()
    run = Path(job["folder"])
    broken = {**job, "config": {**job["config"], "device": "cuda:99"}}
    assert do_job(broken, lambda *_: GO_ON)["state"] == "failed"
    assert (run / "trial.json").exists()
    (run / "traceback.txt").write_text("as of a module that cannot be imported")
    assert do_job(job, lambda *_: GO_ON) == {"state": "complete", "error": None}
    assert read_run(run).result["status"] == "finished"
    assert not (run / "traceback.txt").exists()


NETWORK = """import sys
from torch import nn
from mergenet.models import Architecture


class Failing(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.fc = nn.Linear(3 * 16 * 16, 10)
        self.steps = 0

    def forward(self, x):
        self.steps += 1
        if self.steps > 3:
            {0}
        return self.fc(x.flatten(1))


net = Architecture(lambda _, spec: Failing(spec))
"""


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ('sys.exit("my data are not there")', "SystemExit: my data are not there"),
        ('raise ValueError("a\\n  \\x1b[31mred")', "ValueError: a \\x1b[31mred"),
    ],
)
def test_what_the_users_code_raises_is_one_line_with_its_place(
    statement: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slot goes on: the next job trains."""
    name = f"failing_{statement[:3]}"
    (tmp_path / f"{name}.py").write_text(NETWORK.replace("{0}", statement))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    space = space_of({"transfer.t_cycle": {"choice": [2, 4]}}, epochs=1, method="none")
    job = Jobs(tmp_path, space, None).baseline()
    target = job["config"]["target"] | {"model": job["config"]["target"]["model"] | {"name": f"{name}:net"}}
    broken = {**job, "id": "broken", "folder": str(tmp_path / "broken"), "config": job["config"] | {"target": target}}
    told = f"{error} ({name}.py:15)"
    assert do_job(broken, lambda *_: GO_ON) == {"state": "failed", "error": told}
    assert (ended_trial(tmp_path / "broken") or {})["error"] == told
    assert statement in (tmp_path / "broken/traceback.txt").read_text()
    assert read_run(tmp_path / "broken").result["status"] == "failed"
    assert do_job(job, lambda *_: GO_ON)["state"] == "complete"


def test_a_job_whose_epochs_were_only_read_says_so(tmp_path: Path) -> None:
    """Not one that goes on from an epoch, nor one that trains again."""
    space = space_of({"transfer.t_cycle": {"choice": [2, 4]}}, epochs=2)
    job = Jobs(tmp_path, space, None).baseline()
    assert do_job(job, lambda *_: SUSPEND) == {"state": SUSPEND, "error": None}
    assert do_job(job, lambda *_: GO_ON) == {"state": "complete", "error": None}
    told = list[int]()
    assert do_job(job, lambda row: told.append(row["epoch"]) or GO_ON) == {
        "state": "complete",
        "error": None,
        "there": True,
    }
    assert told == [1, 2]
    run = Path(job["folder"])
    (run / EPOCHS_FILE).unlink()
    assert do_job(job, lambda *_: GO_ON)["there"], "made again from its checkpoint"
    (run / EPOCHS_FILE).unlink()
    shutil.rmtree(run / CHECKPOINT_FOLDER)
    assert do_job(job, lambda *_: GO_ON) == {"state": "complete", "error": None}, "it had to train again"


def test_a_source_that_is_recorded_already_says_so(tmp_path: Path) -> None:
    space = space_of({"transfer.t_cycle": {"choice": [2, 4]}}, epochs=1)
    job = Jobs(tmp_path, space, None).source(plan_source(space))
    assert do_job(job, lambda *_: GO_ON) == {"state": "complete", "error": None}
    assert do_job(job, lambda *_: GO_ON)["there"]
    (Path(job["folder"]) / RECORDING_FILE).write_text("{}")
    assert do_job(job, lambda *_: GO_ON) == {"state": "complete", "error": None}, "it had to record again"
