"""The storages of the Optuna study by name. `optuna-dashboard` opens each of them.

sqlite       study.db in the sweep folder: cd FOLDER && optuna-dashboard sqlite:///study.db
journal      study.journal in the sweep folder, for file systems on which SQLite cannot lock
postgresql   a server, at the URL in the environment variable MERGENET_STUDY_URL; the URL may hold a password, so it is
written to no file. Sweeps share a server, so study.json in the folder holds this one's name there.

A study knows whose it is: it has the id that sweep.json holds. Studies of earlier versions have none.
"""

import os
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from sqlalchemy import URL as DatabaseURL
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from mergenet.errors import ConfigError, UserError, WriteError, one_line
from mergenet.records.sealed import read_record, write_record
from sweeps.study.write_through import written_through
from sweeps.trials.errors import write_refusal
from sweeps.trials.files import JOURNAL_FILE, STUDY_FILE, read_state
from sweeps.trials.sweep_dir import STUDY_ID

NAME_FILE = "study.json"
FILES = {"sqlite": STUDY_FILE, "journal": JOURNAL_FILE}  # in the sweep folder
URL = "MERGENET_STUDY_URL"
T = TypeVar("T")
AGAIN = "`mergenet sweep resume` makes it again from the records of the trials"


def sqlite(folder: Path) -> BaseStorage:
    """A folder's name may hold what has a meaning in a URL, such as ? and %."""
    return RDBStorage(DatabaseURL.create("sqlite", database=str((folder / STUDY_FILE).absolute())).render_as_string())


def journal(folder: Path) -> BaseStorage:
    return JournalStorage(WholeLines(folder / JOURNAL_FILE))


class WholeLines(JournalFileBackend):
    """A journal of whole lines: part of a line, left by a full disk or a power cut, would spoil the study.

    One process writes at a time: the driver that holds the sweep folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.drop_part()
        super().__init__(str(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError:
            self.drop_part()
            raise

    def drop_part(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("r+b") as file:
            data = file.read()
            if not data.endswith(b"\n"):
                file.truncate(data.rfind(b"\n") + 1)


def postgresql(folder: Path) -> BaseStorage:
    """Raises ConfigError, which never holds the URL."""
    del folder
    return on_server(RDBStorage)


def on_server(use: Callable[[str], T]) -> T:
    """What `use` makes of the server's URL. Raises ConfigError if there is none, or it does not answer."""
    if not os.environ.get(URL, "").startswith("postgresql"):
        got = "another URL" if os.environ.get(URL) else "nothing"
        raise ConfigError(f"{URL} must be set to a postgresql URL with storage postgresql, got {got}; or use sqlite")
    try:
        return use(os.environ[URL])
    except (ImportError, ValueError, SQLAlchemyError) as error:
        kind = type(error).__name__  # its text may quote the URL
    raise ConfigError(
        f"{URL} must be the URL of a PostgreSQL server that answers, for example "
        f"postgresql+psycopg://USER@HOST/DATABASE with psycopg installed, got one that fails with {kind}"
    )


STORAGES: dict[str, Callable[[Path], BaseStorage]] = {"sqlite": sqlite, "journal": journal, "postgresql": postgresql}


def check_storage(name: str) -> None:
    """Raises ConfigError if the environment lacks what the storage needs, or its server does not answer."""
    if name == "postgresql":
        on_server(knock)


def knock(url: str) -> None:
    engine = create_engine(url)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def study_name(storage: str, sweep: str, folder: Path) -> str:
    """The sweep's name; on a shared server with a suffix, which is made once and kept in the folder."""
    if storage != "postgresql":
        return sweep
    path = folder / NAME_FILE
    if not path.exists():
        write_record(path, {"study_name": f"{sweep}-{uuid.uuid4().hex[:12]}"})
    found = read_record(path).get("study_name")
    if not isinstance(found, str):
        raise UserError(f"{path} must hold the study_name of this sweep on the server, and is damaged; restore it")
    return found


def open_study(storage: str, sweep: str, objectives: Mapping[str, str], folder: Path) -> optuna.Study:
    """The study in the folder or on the server, for its only writer, created if needed.

    objectives: "max" or "min" of each, by name. Raises UserError if it is not this sweep's.
    """
    try:
        study = study_in(STORAGES[storage](folder), study_name(storage, sweep, folder), objectives)
        claim(study, storage, folder)
        return written_through(study)
    except UserError:
        raise
    except Exception as error:  # SQLAlchemy's and Optuna's have no common base
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        where = FILES.get(storage)
        if where is None:
            raise UserError(f"{URL} must be the URL of a study server, which failed: {type(error).__name__}") from None
        raise UserError(
            f"{folder / where} must be the Optuna study of this sweep, and cannot be opened: {reason}; "
            f"if it is damaged, move it away: {AGAIN}"
        ) from None


def study_in(storage: BaseStorage, name: str, objectives: Mapping[str, str]) -> optuna.Study:
    """The study of that name in a storage, created if needed. The objectives' names are for optuna-dashboard.

    Raises UserError if it has other objectives.
    """
    directions = [StudyDirection.MINIMIZE if mode == "min" else StudyDirection.MAXIMIZE for mode in objectives.values()]
    study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    if study.directions != directions or study.metric_names not in (None, list(objectives)):
        theirs = study.metric_names or [direction.name.lower() for direction in study.directions]
        raise UserError(
            f"the study {name} must have the sweep's objectives {', '.join(objectives)}, got {', '.join(theirs)}; it "
            f"is that of another sweep, or the sweep file was changed: put that right, or move the study away: {AGAIN}"
        )
    if study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(objectives))
    return study


def claim(study: optuna.Study, storage: str, folder: Path) -> None:
    """Writes the sweep's id into a new study. Raises UserError if a study is that of another sweep."""
    check_owner(study, storage, folder)
    own = read_state(folder).get(STUDY_ID)
    if own is not None and STUDY_ID not in study.user_attrs:
        study.set_user_attr(STUDY_ID, own)


def check_owner(study: optuna.Study, storage: str, folder: Path) -> None:
    """Raises UserError if a study is that of another sweep. One without trials is anybody's."""
    own, found = read_state(folder).get(STUDY_ID), study.user_attrs.get(STUDY_ID)
    if own is not None and found != own and (found is not None or study.get_trials(deepcopy=False)):
        raise UserError(
            f"{place_of(storage, folder)} must be the Optuna study of this sweep, and is that of another; "
            f"move it away: {AGAIN}"
        )


def place_of(storage: str, folder: Path) -> str:
    """What messages call the study."""
    return str(folder / FILES[storage]) if storage in FILES else f"the study on the server of {URL}"


def load_study(storage: str, sweep: str, folder: Path) -> optuna.Study:
    """The study of a sweep that has begun; creates nothing. Raises UserError if there is none."""
    needed = folder / FILES.get(storage, NAME_FILE)
    if not needed.is_file():
        raise UserError(f"{needed} must be there for the study of this sweep, and is not; {AGAIN}")
    try:
        study = optuna.load_study(study_name=study_name(storage, sweep, folder), storage=STORAGES[storage](folder))
    except KeyError:
        raise UserError(f"{needed} must hold the study {sweep}, and does not; {AGAIN}") from None
    check_owner(study, storage, folder)
    return study


@contextmanager
def storage_errors(storage: str, folder: Path) -> Iterator[None]:
    """Around what reads and writes a study. Raises WriteError for whatever its storage raises, never with the URL."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, OSError) as error:
        reason = type(error).__name__  # a server's text may quote the URL
        if storage in FILES:
            reason = write_refusal(error) or one_line(error)
        failed = WriteError(f"{place_of(storage, folder)} could not be written: {reason}")
    else:
        return
    raise failed
