"""A disk that is full or read-only: one clear line, nothing marked as failed, and afterwards all goes on. No Ray."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from ray.tune.search import Searcher

from analysis.names import COMPLETE
from analysis.trial_file import ended_trial
from mergenet.cli.group import Failure
from mergenet.errors import ConfigError, WriteError
from mergenet.records.run_record import EPOCH, read_run
from sweeps.cli.commands import sweep as command
from sweeps.cli.failures import failures
from sweeps.config.loading import dump_sweep
from sweeps.driver.api import told
from sweeps.execution.tune_searcher import StudySearch
from sweeps.execution.worker import do_job
from sweeps.study.study import SweepStudy
from sweeps.tracking.tensorboard import EventFiles
from sweeps.trials.errors import SweepPaused, write_refusal, write_refusal_in
from sweeps.trials.jobs import Jobs
from sweeps.trials.messages import EPOCHS, GO_ON, OBJECTIVE, SUSPEND, Row
from sweeps.trials.objectives import Outcome
from sweeps.trials.sweep_dir import locked
from tests.sweeps.base import space_of, sweep_config, write_base
from tests.sweeps.small_disk import fill, make_writable, small_disk
from tests.sweeps.tensorboard_files import row, scalars

SEARCH = {"transfer.t_cycle": {"choice": [2, 4]}}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 16) as folder:
        yield folder


def test_a_refused_write_is_known_by_its_class_its_cause_and_its_text() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x")
    wrapped = RuntimeError("the loader failed")
    wrapped.__cause__ = full
    assert write_refusal(WriteError("x could not be written: Stale file handle")) == (
        "x could not be written: Stale file handle"
    )
    assert write_refusal(full) == write_refusal(wrapped) == "[Errno 28] No space left on device: '/data/x'"
    assert write_refusal_in("Traceback\n  sqlite3.OperationalError: database or disk is full\nmore") == (
        "sqlite3.OperationalError: database or disk is full"
    )
    assert write_refusal(ValueError("must be at least 1 step")) is None
    assert write_refusal(FileNotFoundError(errno.ENOENT, "No such file")) is None


@pytest.mark.parametrize("way", ["full", "read-only"])
def test_a_jobs_disk_is_no_failure_of_the_job(disk: Path, way: str) -> None:
    """It is suspended after its first epoch, goes on from there, and no epoch is lost."""
    job = Jobs(disk, space_of(SEARCH, epochs=3), None).trial(0, {})
    rows: list[int] = []

    def report(told: Row) -> str:
        if told["epoch"] not in rows:
            rows.append(told["epoch"])
            if told["epoch"] == 1:
                fill(disk) if way == "full" else make_writable(disk, False)
        return GO_ON

    outcome = do_job(job, report)
    assert outcome["state"] == SUSPEND
    reason = {"full": "No space left on device", "read-only": "Read-only file system"}[way]
    assert outcome["error"].startswith(f"{disk}/trials/trial-000/")
    assert f" could not be written: {reason}" in outcome["error"]
    assert ended_trial(Path(job["folder"])) is None, "it is still to train"
    before = rows.copy()
    make_writable(disk, True)
    (disk / "ballast").unlink(missing_ok=True)
    assert do_job(job, report) == {"state": COMPLETE, "error": None}
    assert rows == [1, 2, 3]
    assert before in ([1], [1, 2])
    assert [told["epoch"] for told in read_run(Path(job["folder"])).epochs] == [1, 2, 3]


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_a_study_that_cannot_be_written_stops_the_search_calmly(disk: Path, storage: str) -> None:
    sweep, space = sweep_config(SEARCH, storage=storage, sampler="random"), space_of(SEARCH)
    said: list[str] = []

    def searching() -> StudySearch:
        study = SweepStudy(sweep, space, "max", disk)
        study.reconcile(lambda _: Outcome("running", [], None))
        return StudySearch(study, "max", 2, closed=lambda: False, paused=lambda: bool(said), trouble=said.append)

    search = searching()
    first = search.suggest("a")
    assert isinstance(first, dict)
    ballast = fill(disk)
    for epoch in range(1, 300):  # pages of the database that were there already may take some
        search.on_trial_result("a", {EPOCH: epoch, EPOCHS: 300, OBJECTIVE: 0.5})
    with search.kept():
        search.study.flush()
    assert said
    assert all(text.startswith(f"{disk}/study.") and "could not be written: " in text for text in said), said
    said.clear()
    search.on_trial_complete("a", {EPOCH: 300, EPOCHS: 300, OBJECTIVE: 0.5})
    second = search.suggest("b")
    assert second == Searcher.FINISHED
    assert len(said) == 2
    ballast.unlink()
    said.clear()
    again = searching()
    assert [again.suggest("a"), isinstance(again.suggest("b"), dict)] == [first, True]
    assert again.suggest("c") == Searcher.FINISHED
    assert said == []


def test_a_full_disk_stops_the_event_files_only(disk: Path) -> None:
    said: list[str] = []
    files = EventFiles(disk, said.append)
    files(row(1, 0.25))
    wait_for(lambda: scalars(disk / "trials/trial-000/tensorboard") == [("loss", 1, 0.25)])
    fill(disk)
    started = time.monotonic()
    for epoch in range(2, 2000):
        files(row(epoch))
    files.close()
    assert time.monotonic() - started < 20, "nobody waits for a thread that is dead"
    assert [text.startswith("tensorboard: no more event files ([Errno 28] No space left") for text in said] == [True]


def wait_for(done: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run(disk: Path) -> tuple[int, str]:
    done = CliRunner().invoke(command, ["run", str(disk.parent / "tiny.yaml"), "--dir", str(disk / "sweep")])
    return done.exit_code, done.stderr


def test_a_paused_sweep_says_how_to_go_on_by_the_way_it_was_run(tmp_path: Path) -> None:
    """From Python the same run, as for one that was stopped; on the command line its resume."""
    reason = "x could not be written: No space left on device; nothing is lost: make room, or make it writable"
    folder = tmp_path / "sweep"
    with pytest.raises(SweepPaused) as caught, told(folder):
        raise SweepPaused(reason)
    assert str(caught.value) == (
        f"the sweep paused: {reason}, and the same run({str(folder)!r}) goes on from there, and so does "
        f"`mergenet sweep resume {folder}`"
    )
    with pytest.raises(Failure) as failed, failures(lambda: folder):
        raise SweepPaused(reason)
    assert (failed.value.message, failed.value.exit_code) == (
        f"the sweep paused: {reason}, and `mergenet sweep resume {folder}` goes on from there",
        1,
    )


@pytest.mark.parametrize("way", ["full", "read-only"])
def test_a_sweep_does_not_begin_where_it_cannot_write(disk: Path, way: str) -> None:
    write_base(disk.parent)
    (disk.parent / "tiny.yaml").write_text(dump_sweep(sweep_config(SEARCH)))
    if way == "full":
        (disk / "sweep").mkdir()
        fill(disk)
    else:
        make_writable(disk, False)
    code, said = run(disk)
    assert code == 2
    assert said in (
        f"error: {disk}/sweep/sweep.json could not be written: No space left on device\n",
        f"error: the sweep folder '{disk}/sweep' cannot be written: Read-only file system\n",
    )
    make_writable(disk, True)
    assert [path.name for path in (disk / "sweep").glob("*")] in ([], [".lock"]), "so the same command works later"


def test_a_lock_needs_no_room(disk: Path) -> None:
    (disk / "sweep").mkdir()
    (disk / "sweep/.lock").touch()
    fill(disk)
    with locked(disk / "sweep"), pytest.raises(ConfigError, match="is in use by "), locked(disk / "sweep"):
        pass
