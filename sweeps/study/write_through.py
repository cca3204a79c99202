"""A storage of Optuna that reads a study once and then answers from memory; what is written goes to both.

Optuna's cache of a database keeps ended trials only: each look at a study reads every running trial from the database
again, and one suggestion looks several times. With hundreds of slots that took most of the driver's time. A sweep's
driver is the only writer of its study, so what it has read and written is all there is.

A trial that is being drawn is in memory only, until `keep` writes it in one transaction: the database has no half of a
draw, and waits for the disk once instead of once for each value.

A draw, and what is told of a trial later, is written behind, by one thread and in order: a commit waits for the disk,
longer where much else is written, and so would all trials with it. What has come meanwhile is committed together. So
the database is what memory was a moment ago, and a driver that is killed finds the rest in the records. `flush` waits
for the writes.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.orm import scoped_session, sessionmaker


class WriteBehind:
    """Writes to a storage, done by one thread in order; after one that fails none is done."""

    def __init__(self, storage: BaseStorage) -> None:
        self.storage = storage
        self.thread = ThreadPoolExecutor(1, "study")  # ends with its last write when the process does
        self.waiting = deque[Callable[[], Any]]()
        self.last: Future[None] | None = None
        self.failed: Exception | None = None

    def add(self, write: Callable[..., Any], *values: Any) -> None:
        """Raises what an earlier write has raised."""
        self.check()
        self.waiting.append(partial(write, *values))
        self.last = self.thread.submit(self._write)

    def flush(self) -> None:
        """Waits for all writes. Raises what one of them has raised."""
        if self.last is not None:
            self.last.result()
        self.check()

    def check(self) -> None:
        if self.failed is not None:
            raise self.failed

    def _write(self) -> None:
        """All that wait."""
        if not self.waiting or self.failed is not None:
            return
        try:
            with one_transaction(self.storage):
                for _ in range(len(self.waiting)):
                    self.waiting.popleft()()
        except Exception as error:
            self.failed = error


@contextmanager
def one_transaction(storage: BaseStorage) -> Iterator[None]:
    """Inside, writes to a database are committed together at the end. Nobody else may write to it then."""
    backend = storage._backend if isinstance(storage, _CachedStorage) else storage
    if not isinstance(backend, RDBStorage):
        yield
        return
    own = backend.scoped_session
    with backend.engine.begin() as connection:  # "rollback_only": a session's commit is left to the connection
        sessions = scoped_session(sessionmaker(bind=connection, join_transaction_mode="rollback_only"))
        backend.scoped_session = sessions
        try:
            yield
        finally:
            sessions.remove()
            backend.scoped_session = own


class WriteThroughStorage(InMemoryStorage):
    """One study of another storage. Here a trial's id is its number.

    What the other storage refuses raises what that raises: a trial that is added whole or an attribute of the study at
    once, and is not seen here either; a draw and what is told of a trial at the next write or at `flush`.
    """

    def __init__(self, kept: BaseStorage, study_name: str) -> None:
        """kept: where the study is. Raises KeyError if it is not there."""
        super().__init__()
        self.kept, self.behind = kept, WriteBehind(kept)
        self.kept_study = kept.get_study_id_from_name(study_name)
        own = super().create_new_study(kept.get_study_directions(self.kept_study), study_name)
        for key, value in kept.get_study_user_attrs(self.kept_study).items():
            super().set_study_user_attr(own, key, value)
        for key, value in kept.get_study_system_attrs(self.kept_study).items():
            super().set_study_system_attr(own, key, value)
        trials = kept.get_all_trials(self.kept_study, deepcopy=False)
        self.drawn = set[int]()  # trials that are written, or are going to be
        self.kept_trials: dict[int, int] = {}  # the other storage's ids of those that are
        for trial in trials:
            self._know(super().create_new_trial(own, trial), trial._trial_id)

    def _know(self, trial_id: int, kept: int) -> None:
        self.drawn.add(trial_id)
        self.kept_trials[trial_id] = kept

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        raise NotImplementedError(f"this storage holds one study, and cannot hold {study_name} with {directions}")

    def delete_study(self, study_id: int) -> None:
        raise NotImplementedError(f"the driver's own study {study_id} cannot be deleted")

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self.flush()
        self.kept.set_study_user_attr(self.kept_study, key, value)
        super().set_study_user_attr(study_id, key, as_read(value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self.flush()
        self.kept.set_study_system_attr(self.kept_study, key, value)
        super().set_study_system_attr(study_id, key, as_read(value))

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if template_trial is None or template_trial.state == TrialState.WAITING:
            self.behind.check()
            return super().create_new_trial(study_id, template_trial)
        self.flush()
        kept = self.kept.create_new_trial(self.kept_study, template_trial)
        trial_id = super().create_new_trial(study_id, template_trial)
        self._know(trial_id, kept)
        return trial_id

    def keep(self, trial_id: int) -> None:
        """Writes a trial that is not yet; from then on whatever is written to it is written to both."""
        if trial_id not in self.drawn:
            self.drawn.add(trial_id)
            self.behind.add(self._create, trial_id, self.get_trial(trial_id))

    def _create(self, trial_id: int, drawn: FrozenTrial) -> None:
        self.kept_trials[trial_id] = self.kept.create_new_trial(self.kept_study, drawn)

    def flush(self) -> None:
        """Waits until the other storage has everything."""
        self.behind.flush()

    def _tell(self, write: Callable[..., Any], trial_id: int, *values: Any) -> None:
        """Writes to a trial of the other storage, if it has it."""
        if trial_id in self.drawn:
            self.behind.add(lambda: write(self.kept_trials[trial_id], *values))

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        self._tell(self.kept.set_trial_param, trial_id, param_name, param_value_internal, distribution)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        done = super().set_trial_state_values(trial_id, state, values)
        self._tell(self.kept.set_trial_state_values, trial_id, state, values)
        return done

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        self._tell(self.kept.set_trial_intermediate_value, trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        value = as_read(value)  # a copy
        super().set_trial_user_attr(trial_id, key, value)
        self._tell(self.kept.set_trial_user_attr, trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        value = as_read(value)  # a copy
        super().set_trial_system_attr(trial_id, key, value)
        self._tell(self.kept.set_trial_system_attr, trial_id, key, value)


def as_read(value: Any) -> Any:
    """A value as storages give it back, which keep JSON."""
    return json.loads(json.dumps(value))


def written_through(study: optuna.Study) -> optuna.Study:
    """The same study for its only writer, with its trials in memory."""
    storage = WriteThroughStorage(study._storage, study.study_name)
    return optuna.load_study(study_name=study.study_name, storage=storage)


def keep(study: optuna.Study, key: int) -> None:
    """Writes a trial that has been drawn. Other storages have it already."""
    if isinstance(study._storage, WriteThroughStorage):
        study._storage.keep(key)


def flush(study: optuna.Study) -> None:
    """Waits until everything that was told is written. Other storages have it already."""
    if isinstance(study._storage, WriteThroughStorage):
        study._storage.flush()
