"""The driver's storage: what it answers from memory is what the file holds, and many running trials cost no reads."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine, event
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from sweeps.study.storage import STORAGES
from sweeps.study.study import SweepStudy
from sweeps.study.write_through import WriteThroughStorage
from sweeps.trials.files import STUDY_FILE
from tests.sweeps.base import space_of, sweep_config
from tests.sweeps.spaces import SEARCH
from tests.sweeps.studies import opened

STORED = "sqlite", "journal"


def of_file(folder: Path, storage: str) -> list[FrozenTrial]:
    return optuna.load_study(study_name="tiny", storage=STORAGES[storage](folder)).trials


def told(trials: list[FrozenTrial]) -> list[Any]:
    """Trials without their times and ids, which each storage has of its own."""
    return [
        (t.number, t.state, t.values, t.params, t.distributions, t.user_attrs, t.system_attrs, t.intermediate_values)
        for t in trials
    ]


@pytest.mark.parametrize("storage", STORED)
@pytest.mark.parametrize("sampler", ["auto", "nsga2", "cmaes"])
def test_memory_and_file_agree_after_each_step_of_a_study(tmp_path: Path, storage: str, sampler: str) -> None:
    study = opened(tmp_path, storage=storage, sampler=sampler, num_trials=24)
    assert isinstance(study.study._storage, WriteThroughStorage)
    for index in range(14):
        drawn = study.draw(index)
        if sampler == "auto":  # the others wait, also for what was told before
            study.flush()
        assert told(study.study.trials) == told(of_file(tmp_path, storage))
        for epoch in (1, 2):
            study.report(drawn, epoch, index / 7 + epoch)
        if index % 5 == 4:
            study.tell(drawn, TrialState.PRUNED)
        elif index % 3:
            study.tell(drawn, TrialState.COMPLETE, index / 7)
    study.retry([0])
    study.grace = 2
    assert told(study.study.trials) == told(of_file(tmp_path, storage))
    again = opened(tmp_path, storage=storage, sampler=sampler, num_trials=24)
    assert told(again.study.trials) == told(study.study.trials)
    assert again.grace == 2
    assert again.draw(14) == study.draw(14)


@pytest.mark.parametrize("storage", STORED)
def test_half_of_a_draw_is_not_in_the_file(tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = opened(tmp_path, storage=storage)
    study.draw(0)
    study.flush()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(WriteThroughStorage, "keep", killed)
        with pytest.raises(KeyboardInterrupt):
            study.draw(1)
    assert len(of_file(tmp_path, storage)) == 1
    again = opened(tmp_path, storage=storage)
    assert again.draw(1).number == 1


def statements(study: SweepStudy, index: int) -> int:
    """How many statements one draw sends to the database, with the writing of it."""
    study.flush()
    seen: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    try:
        study.draw(index)
        study.flush()
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    return len(seen)


def test_running_trials_are_not_read_again_for_a_draw(tmp_path: Path) -> None:
    study = opened(tmp_path, sampler="random", num_trials=200)
    study.draw(0)
    alone = statements(study, 1)
    for index in range(2, 40):
        study.draw(index)
    assert statements(study, 40) == alone > 0


def test_a_report_does_not_wait_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes while the file is being written is written together."""
    study = opened(tmp_path)
    through = study.study._storage
    assert isinstance(through, WriteThroughStorage)
    drawn, write = study.draw(0), through.kept.set_trial_intermediate_value
    begun, may_write = Event(), Event()
    study.flush()

    def slow(*values: Any) -> None:
        begun.set()
        assert may_write.wait(60)
        write(*values)

    monkeypatch.setattr(through.kept, "set_trial_intermediate_value", slow)
    study.report(drawn, 1, 0.25)
    assert begun.wait(60)
    study.report(drawn, 2, 0.5)
    study.tell(drawn, TrialState.PRUNED)
    assert study.curves() == ({0: {1: 0.25, 2: 0.5}}, {0: 2})
    assert [(trial.state, trial.intermediate_values) for trial in of_file(tmp_path, "sqlite")] == [
        (TrialState.RUNNING, {})
    ]
    commits: list[None] = []
    monkeypatch.setattr(SQLiteDialect_pysqlite, "do_commit", lambda _, db: [commits.append(None), db.commit()])
    may_write.set()
    study.flush()
    assert len(commits) == 2, "of the first, and of the two that waited for it"
    assert told(of_file(tmp_path, "sqlite")) == told(study.study.trials)


def test_after_a_write_that_the_file_refuses_there_is_none(tmp_path: Path) -> None:
    """So the file is what the study was at one moment, and the records have the rest."""
    study = opened(tmp_path)
    first, second = study.draw(0), study.draw(1)
    study.flush()
    with closing(sqlite3.connect(tmp_path / STUDY_FILE)) as broken:
        broken.execute("ALTER TABLE trial_intermediate_values RENAME TO away")
    study.report(first, 1, 0.5)
    with pytest.raises(optuna.exceptions.StorageInternalError):
        study.flush()
    with closing(sqlite3.connect(tmp_path / STUDY_FILE)) as mended:
        mended.execute("ALTER TABLE away RENAME TO trial_intermediate_values")
    for write in (lambda: study.tell(first, TrialState.PRUNED), lambda: study.report(second, 1, 0.5), study.flush):
        with pytest.raises(optuna.exceptions.StorageInternalError):
            write()
    with pytest.raises(optuna.exceptions.StorageInternalError):
        study.draw(2)
    assert study.known() == [first, second]
    found = of_file(tmp_path, "sqlite")
    assert [(trial.state, trial.intermediate_values) for trial in found] == [(TrialState.RUNNING, {})] * 2


@pytest.mark.parametrize(("sampler", "waits"), [("auto", False), ("nsga2", True), ("cmaes", True)])
def test_a_draw_waits_for_the_file_only_where_records_cannot_replace_it(
    tmp_path: Path, sampler: str, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = opened(tmp_path, sampler=sampler)
    through = study.study._storage
    assert isinstance(through, WriteThroughStorage)
    create, may_write = through.kept.create_new_trial, Event()

    def slow(*values: Any) -> int:
        assert may_write.wait(60)
        return create(*values)

    monkeypatch.setattr(through.kept, "create_new_trial", slow)
    with ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(study.draw, 0)
        if waits:
            with pytest.raises(TimeoutError):
                drawing.result(timeout=0.5)
            may_write.set()
        drawn = drawing.result(timeout=60)
        study.report(drawn, 1, 0.5)
        study.report(study.draw(1) if not waits else drawn, 2, 0.25)
        may_write.set()
    study.flush()
    assert told(of_file(tmp_path, "sqlite")) == told(study.study.trials)


@pytest.mark.parametrize("sampler", ["auto", "nsga2"])
@pytest.mark.parametrize("storage", STORED)
def test_after_a_draw_that_the_file_refuses_there_is_none(
    tmp_path: Path, storage: str, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that is started then goes on with what the file has, and with the records."""
    study = opened(tmp_path, storage=storage, sampler=sampler)
    first = study.draw(0)
    study.flush()
    through = study.study._storage
    assert isinstance(through, WriteThroughStorage)

    def full(*_: Any) -> None:
        raise OSError("no space left")

    def drawn() -> None:
        study.draw(1)
        study.flush()

    with monkeypatch.context() as patched:
        patched.setattr(through.kept, "create_new_trial", full)
        with pytest.raises(OSError, match="no space"):
            drawn()
        with pytest.raises(OSError, match="no space"):
            study.restore({1: first.params})
    known = study.known()
    with pytest.raises(OSError, match="no space"):
        study.draw(2)
    assert study.known() == known
    again = opened(tmp_path, storage=storage, sampler=sampler)
    assert again.known() == [first]
    second = again.draw(1)
    again.report(second, 1, 0.5)
    again.flush()
    assert [t.intermediate_values for t in of_file(tmp_path, storage)] == [{}, {1: 0.5}]


def test_first_points_that_an_earlier_version_has_queued_are_taken_once(tmp_path: Path) -> None:
    study = opened(tmp_path)
    optuna.load_study(study_name="tiny", storage=STORAGES["sqlite"](tmp_path)).enqueue_trial(study.first[0])
    study = opened(tmp_path)
    study.draw(0)
    study.flush()
    assert [trial.state for trial in of_file(tmp_path, "sqlite")] == [TrialState.RUNNING]


def test_a_study_that_is_not_there_is_a_key_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        WriteThroughStorage(STORAGES["sqlite"](tmp_path), "absent")


@pytest.mark.parametrize("storage", STORED)
def test_warm_trials_and_restored_ones_are_written_whole(tmp_path: Path, storage: str) -> None:
    study = SweepStudy(sweep_config(SEARCH, storage=storage), space_of(SEARCH), "max", tmp_path)
    labels = study.draw(0).params
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    restored = SweepStudy(sweep_config(SEARCH, storage=storage), space_of(SEARCH), "max", fresh)
    restored.restore({0: labels})
    assert told(of_file(fresh, storage)) == told(restored.study.trials)
    assert [one.params for one in restored.known()] == [labels]
