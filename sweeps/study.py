"""The Optuna study of a sweep, kept truthful: every trial ends in the state that its training ended in.

Trials are counted by `index`, from 0, in the order in which they were drawn whole. Optuna's own number may run ahead
of it: a driver that is killed while it draws leaves a trial that never began.

What trial `index` draws depends on the sweep's seed, the index and the study so far, and not on how often the
driver was started: the sampler is made anew for every draw.
"""

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from mergenet.errors import UserError
from sweeps.config import SweepConfig
from sweeps.jobs import Message, trial_name
from sweeps.space import Labels, Space

STUDY_FILE = "study.db"
INDEX, PARAMS, TRIAL_ID = "index", "params", "trial_id"  # user attributes
TOLD = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


@dataclass(frozen=True)
class Drawn:
    """A trial of the study. key: Optuna's id of it; params: labels by path."""

    index: int
    params: Labels
    number: int
    key: int


class SweepStudy:
    def __init__(self, sweep: SweepConfig, space: Space, mode: str, folder: Path) -> None:
        """Opens the study in the folder, or makes it. Raises UserError if the file is no study of this sweep."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sweep, self.space = sweep, space
        self.study = open_study(sweep.name, mode, folder / STUDY_FILE)
        first = space.first_point()
        if first is not None and not self.study.trials:
            self.study.enqueue_trial(first)

    def known(self) -> list[Drawn]:
        """All trials that were drawn whole, by index."""
        trials = [t for t in self.study.get_trials(deepcopy=False) if INDEX in t.user_attrs]
        return sorted((drawn_of(trial) for trial in trials), key=lambda drawn: drawn.index)

    def draw(self, index: int) -> Drawn:
        """The next trial, with its labels and names in the study before anybody hears of it."""
        self.study.sampler = build_sampler(self.sweep, index)
        trial = self.study.ask()
        values = self.space(trial)
        params = {path: values[path] for path in self.space.order}
        trial.set_user_attr(TRIAL_ID, trial_name(index))
        trial.set_user_attr(PARAMS, json.dumps(params))
        trial.set_user_attr(INDEX, index)  # last: a trial that has it is whole
        return Drawn(index, params, trial.number, trial._trial_id)

    def report(self, drawn: Drawn, epoch: int, value: float | None) -> None:
        """An intermediate value; ignored once the trial has ended, and if it is missing or not finite."""
        if value is not None and math.isfinite(value) and self.is_running(drawn):
            self.study._storage.set_trial_intermediate_value(drawn.key, epoch, value)

    def tell(self, drawn: Drawn, state: TrialState, value: float | None = None) -> None:
        """How the trial ended; only the first time counts. A value that is missing or not finite is a failure.

        PRUNED keeps its last intermediate value.
        """
        if not self.is_running(drawn):
            return
        if state == TrialState.COMPLETE:
            if value is None or not math.isfinite(value):
                self.study.tell(drawn.number, state=TrialState.FAIL)
            else:
                self.study.tell(drawn.number, value)
        else:
            self.study.tell(drawn.number, state=state)

    def is_running(self, drawn: Drawn) -> bool:
        return not self.study._storage.get_trial(drawn.key).state.is_finished()

    def reconcile(self, outcome: Callable[[Drawn], tuple[Message, list[Message], float | None] | None]) -> None:
        """Bring the study up to the records that a killed driver left behind.

        outcome: of a trial that has ended its trial.json, its {"epoch", "value"} and its final value; else None.
        What was never drawn whole has failed; what has ended is told; the rest goes on running.
        """
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if INDEX not in trial.user_attrs:
                self.study.tell(trial.number, state=TrialState.FAIL)
                continue
            drawn = drawn_of(trial)
            if (found := outcome(drawn)) is None:
                continue
            record, rows, value = found
            for row in rows:
                self.report(drawn, row["epoch"], row["value"])
            self.tell(drawn, TOLD[record["state"]], value)


def drawn_of(trial: FrozenTrial) -> Drawn:
    attributes = trial.user_attrs
    return Drawn(attributes[INDEX], json.loads(attributes[PARAMS]), trial.number, trial._trial_id)


def open_study(name: str, mode: str, path: Path) -> optuna.Study:
    direction: Literal["minimize", "maximize"] = "minimize" if mode == "min" else "maximize"
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path.absolute()}")
        return optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
    except Exception as error:  # SQLAlchemy's and Optuna's have no common base
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"{path} must be the Optuna study of this sweep, and cannot be opened: {reason}") from None


def build_sampler(sweep: SweepConfig, index: int = 0) -> BaseSampler:
    """The sampler for draw number `index`.

    TPE univariate and without constant liar: the best of the variants measured with few trials and ASHA.
    """
    seed = int(np.random.SeedSequence([sweep.seed, index]).generate_state(1)[0])
    if sweep.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    startup = min(10, max(3, sweep.num_trials // 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(n_startup_trials=startup, multivariate=False, constant_liar=False, seed=seed)
