"""Optuna behind Ray Tune, made truthful: every Optuna trial ends in the state that its training ended in.

Ray's own OptunaSearch tells Optuna that early-stopped trials are complete, and leaves a trial whose metric is NaN
running for ever. It rests on internals of `ray.tune.search.optuna` (`_ot_trials`, `_ot_study`, `_completed_trials`),
which is why ray is pinned to a minor version; the tests show what moved.
"""

import math
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from sweeps.config import SweepConfig
from sweeps.jobs import EPOCH, EPOCHS, OBJECTIVE, trial_name
from sweeps.space import Space

STUDY_FILE = "study.db"


class SafeOptunaSearch(OptunaSearch):
    """OptunaSearch in which

    * a trial stopped before its last epoch is PRUNED, with its last value as an intermediate one,
    * a trial that raised, or whose value is missing or not finite, is FAIL,
    * reports for a trial that has ended are ignored,
    * the user attributes `trial_id` (ours) and `tune_trial_id` lead from the study to the records.

    A result holds `epoch`, `epochs` and `objective`. A suggestion is {"number": ..., "params": labels by path}.
    """

    def __init__(self, space: Space, mode: str, **options: Any) -> None:
        self.paths = space.order
        super().__init__(space=space, metric=OBJECTIVE, mode=mode, **options)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        drawn = super().suggest(trial_id)
        trial = self._ot_trials[trial_id]
        assert drawn is not None
        trial.set_user_attr("trial_id", trial_name(trial.number))
        trial.set_user_attr("tune_trial_id", trial_id)
        return {"number": trial.number, "params": {path: drawn[path] for path in self.paths}}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        trial, value = self._running(trial_id), result.get(OBJECTIVE)
        if trial is not None and value is not None and math.isfinite(value):
            trial.report(value, result[EPOCH])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial = self._running(trial_id)
        self._completed_trials.add(trial_id)
        if trial is None:
            return
        value = (result or {}).get(OBJECTIVE)
        if error or result is None or value is None or not math.isfinite(value):
            self._study.tell(trial, state=TrialState.FAIL)
        elif result[EPOCH] < result[EPOCHS]:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, value)

    @property
    def _study(self) -> optuna.Study:
        assert self._ot_study is not None, "the space is given, so the study exists"
        return self._ot_study

    def _running(self, trial_id: str) -> optuna.Trial | None:
        """The Optuna trial, if it has not ended."""
        trial = self._ot_trials.get(trial_id)
        if trial is None or trial.storage.get_trial(trial._trial_id).state.is_finished():
            return None
        return trial


def build_search(sweep: SweepConfig, space: Space, folder: Path) -> SafeOptunaSearch:
    """The sweep's search, with a study that `optuna.load_study` can open afterwards."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(f"sqlite:///{(folder / STUDY_FILE).absolute()}")
    first = space.first_point()
    return SafeOptunaSearch(
        space,
        sweep.mode,
        sampler=build_sampler(sweep),
        study_name=sweep.name,
        storage=storage,
        points_to_evaluate=[first] if first is not None else None,
    )


def build_sampler(sweep: SweepConfig) -> optuna.samplers.BaseSampler:
    """TPE univariate and without constant liar: the best of the variants measured with few trials and ASHA."""
    if sweep.sampler == "random":
        return optuna.samplers.RandomSampler(seed=sweep.seed)
    startup = min(10, max(3, sweep.num_trials // 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            n_startup_trials=startup, multivariate=False, constant_liar=False, seed=sweep.seed
        )


def build_scheduler(sweep: SweepConfig, epochs: int) -> TrialScheduler:
    """ASHA on our own epoch, which unlike `training_iteration` never restarts; never stops at the last epoch."""
    if sweep.scheduler == "none" or sweep.grace_epochs >= epochs:
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr=EPOCH,
        metric=OBJECTIVE,
        mode=sweep.mode,
        max_t=epochs,
        grace_period=sweep.grace_epochs,
        reduction_factor=sweep.reduction_factor,
        stop_last_trials=False,
    )
