"""The storages of a study: what one driver wrote the next one and an outsider read; a server's URL is in no file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from mergenet.errors import ConfigError, UserError
from mergenet.records.sealed import read_record
from sweeps.study.storage import STORAGES, URL, check_storage, study_name
from sweeps.study.study import SweepStudy
from sweeps.trials.files import JOURNAL_FILE, STUDY_FILE
from tests.sweeps import studies
from tests.sweeps.postgres import postgres

CANARY = "canary-7391"


def opened(folder: Path, storage: str) -> SweepStudy:
    return studies.opened(folder, storage=storage)


def outsider(folder: Path, storage: str) -> optuna.Study:
    """As optuna-dashboard opens it: by its name, with nothing of ours."""
    studies.drivers_end()
    if storage == "journal":
        where: Any = JournalStorage(JournalFileBackend(str(folder / JOURNAL_FILE)))
    else:
        where = f"sqlite:///{folder / STUDY_FILE}"
    assert optuna.get_all_study_names(where) == ["tiny"]
    return optuna.load_study(study_name="tiny", storage=where)


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_what_one_driver_wrote_others_read(tmp_path: Path, storage: str) -> None:
    study = opened(tmp_path, storage)
    first, second = study.draw(0), study.draw(1)
    study.report(first, 1, 0.25)
    study.tell(first, TrialState.COMPLETE, 0.5)
    study.flush()
    again = opened(tmp_path, storage)
    assert again.known() == [first, second]
    assert not again.is_running(first)
    assert again.is_running(second)
    trials = outsider(tmp_path, storage).trials
    assert [(t.state, t.value) for t in trials] == [(TrialState.COMPLETE, 0.5), (TrialState.RUNNING, None)]
    assert trials[0].intermediate_values == {1: 0.25}


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
@pytest.mark.parametrize("names", [("q?v=1", "q?v=2"), ("a%20b", "a b"), ("x#1", "x#2"), ("$$", "$"), ("é &'", "é")])
def test_a_study_is_in_its_folder_whatever_that_is_called(tmp_path: Path, names: tuple[str, str], storage: str) -> None:
    folders = [tmp_path / name for name in names]
    for count, folder in enumerate(folders, start=1):
        folder.mkdir()
        study = opened(folder, storage)
        for index in range(count):
            study.draw(index)
    assert sorted(tmp_path.iterdir()) == sorted(folders), "nothing beside them"
    assert [len(opened(folder, storage).known()) for folder in folders] == [1, 2]
    assert all((folder / {"sqlite": STUDY_FILE, "journal": JOURNAL_FILE}[storage]).exists() for folder in folders)


def test_both_draw_alike(tmp_path: Path) -> None:
    drawn = []
    for storage in ("sqlite", "journal"):
        study = opened(tmp_path, storage)
        drawn.append([study.draw(index).params for index in range(4)])
    assert drawn[0] == drawn[1]


def test_a_journal_that_is_none(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FILE).write_text("no journal\n")
    with pytest.raises(
        UserError, match=r"study\.journal must be the Optuna study of this sweep, and cannot be opened: "
    ):
        opened(tmp_path, "journal")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (None, f"{URL} must be set to a postgresql URL with storage postgresql, got nothing"),
        (
            f"mysql://me:{CANARY}@nowhere/db",
            f"{URL} must be set to a postgresql URL with storage postgresql, got another",
        ),
        (
            f"postgresql+psycopg://me:{CANARY}@127.0.0.1:1/db",
            f"{URL} must be the URL of a PostgreSQL server that answers",
        ),
        (f"postgresql://{CANARY}:{CANARY}:", f"{URL} must be the URL of a PostgreSQL server that answers"),
    ],
)
def test_a_bad_url_is_said_without_the_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str | None, message: str
) -> None:
    monkeypatch.delenv(URL, raising=False)
    if url is not None:
        monkeypatch.setenv(URL, url)
    for use in (lambda: STORAGES["postgresql"](tmp_path), lambda: check_storage("postgresql")):
        with pytest.raises(ConfigError) as caught:
            use()
        assert str(caught.value).startswith(message)
        assert CANARY not in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None, "a traceback would show what the driver said"


def test_only_postgresql_needs_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL, raising=False)
    check_storage("sqlite")
    check_storage("journal")


def test_a_server_is_shared_so_the_studys_name_there_is_the_folders_own(tmp_path: Path) -> None:
    names = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        names.append(study_name("postgresql", "tiny", tmp_path / name))
        assert study_name("postgresql", "tiny", tmp_path / name) == names[-1], "a resumed sweep finds its study"
        assert read_record(tmp_path / name / "study.json") == {"study_name": names[-1]}
    assert names[0] != names[1]
    assert all(name.startswith("tiny-") for name in names)


def test_the_url_is_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that stands in for the server: what is written into the folder does not depend on its dialect."""
    server = f"sqlite:///{tmp_path / CANARY}.db"
    monkeypatch.setitem(STORAGES, "postgresql", lambda _: optuna.storages.RDBStorage(server))
    monkeypatch.setenv(URL, server)
    folder = tmp_path / "sweep"
    folder.mkdir()
    study = opened(folder, "postgresql")
    drawn = study.draw(0)
    study.tell(drawn, TrialState.COMPLETE, 0.5)
    study.flush()
    assert opened(folder, "postgresql").known() == [drawn]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path.name for path in files] == ["study.json"]
    assert CANARY not in files[0].read_text()
    name = json.loads(files[0].read_text())["study_name"]
    assert optuna.load_study(study_name=name, storage=server).trials[0].value == 0.5


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres(CANARY) as url:
        yield url


@pytest.mark.slow
def test_a_real_server(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sweeps of one name share it; a new driver finds its own, and no file holds the URL's password."""
    monkeypatch.setenv(URL, server)
    drawn = {}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        study = opened(tmp_path / name, "postgresql")
        drawn[name] = [study.draw(0), study.draw(1)]
        study.report(drawn[name][0], 1, 0.25)
        study.tell(drawn[name][0], TrialState.COMPLETE, 0.5)
        study.flush()
    assert len(optuna.get_all_study_names(server)) == 2
    for name in ("a", "b"):
        again = opened(tmp_path / name, "postgresql")
        assert again.known() == drawn[name]
        assert [again.is_running(one) for one in drawn[name]] == [False, True]
    texts = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert texts
    assert not any(CANARY in text for text in texts)
