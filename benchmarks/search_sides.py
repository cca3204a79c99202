"""Our sides and Ray's of benchmarks/search.py: a searcher and a scheduler, called as Tune calls them."""

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Protocol

import optuna
from ray import tune
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.surrogate import EPOCHS, SEARCH
from mergenet.records.run_record import EPOCH
from sweeps.config import SweepConfig
from sweeps.config.loading import parse_sweep
from sweeps.execution.tune_searcher import StudySearch
from sweeps.schedulers.early_stopping import build_scheduler
from sweeps.space.space import Labels, Space
from sweeps.study.study import SweepStudy
from sweeps.trials.messages import EPOCHS as ALL_EPOCHS
from sweeps.trials.messages import OBJECTIVE

MANY = 10_000  # trials: the budget in epochs ends a search


class Side(Protocol):
    def suggest(self, name: str) -> dict[str, Any]:
        """The values of a new trial."""

    def report(self, name: str, epoch: int, value: float) -> bool:
        """Reports the value after an epoch, and whether the trial has ended; returns whether it is stopped."""


class PlainSpace(Space):
    """A space of paths that no training configuration has; so there is no base whose values come first."""

    def first_points(self) -> list[Labels]:
        return []


class Ours:
    """A sweep's searcher and scheduler, with the study in memory."""

    def __init__(self, sweep: SweepConfig) -> None:
        study = SweepStudy(sweep, PlainSpace({}, sweep.search), sweep.mode, optuna.storages.InMemoryStorage())
        self.searcher = StudySearch(study, sweep.mode, MANY, closed=lambda: False, paused=lambda: False)
        self.scheduler = build_scheduler(study, EPOCHS, say=lambda _: None)
        self.trials: dict[str, Any] = {}
        self.best: dict[str, float] = {}

    def suggest(self, name: str) -> dict[str, Any]:
        suggested = self.searcher.suggest(name)
        assert isinstance(suggested, dict)
        self.trials[name] = SimpleNamespace(trial_id=name, config=suggested)
        return dict(suggested["params"])

    def report(self, name: str, epoch: int, value: float) -> bool:
        self.best[name] = max(value, self.best.get(name, value))  # what a sweep's relay reports
        result = {EPOCH: epoch, ALL_EPOCHS: EPOCHS, OBJECTIVE: self.best[name]}
        stopped = self.scheduler.on_trial_result(None, self.trials[name], result) == TrialScheduler.STOP
        if not stopped:
            self.searcher.on_trial_result(name, result)
        if stopped or epoch == EPOCHS:
            self.searcher.on_trial_complete(name, result)
        return stopped


class Stock:
    """Ray's; max_t is the number of epochs, as anybody would set it, the rest are defaults."""

    def __init__(self, seed: int, **scheduler: Any) -> None:
        space = {name: stock_domain(entry) for name, entry in SEARCH.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.searcher = OptunaSearch(space, metric="accuracy", mode="max", seed=seed)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.scheduler: Any = ASHAScheduler(metric="accuracy", mode="max", max_t=EPOCHS, **scheduler)
        self.trials: dict[str, Any] = {}

    def suggest(self, name: str) -> dict[str, Any]:
        self.trials[name] = SimpleNamespace(trial_id=name)
        self.scheduler.on_trial_add(None, self.trials[name])
        suggested = self.searcher.suggest(name)
        assert suggested is not None
        return suggested

    def report(self, name: str, epoch: int, value: float) -> bool:
        result = {"training_iteration": epoch, "accuracy": value}
        stopped = self.scheduler.on_trial_result(None, self.trials[name], result) == TrialScheduler.STOP
        if not stopped:
            self.searcher.on_trial_result(name, result)
        if stopped or epoch == EPOCHS:
            self.scheduler.on_trial_complete(None, self.trials[name], result)
            self.searcher.on_trial_complete(name, result)
        return stopped


def stock_domain(entry: dict[str, Any]) -> Any:
    """Ray's upper bounds of whole numbers are excluded."""
    if "float" in entry:
        return (tune.loguniform if entry.get("log") else tune.uniform)(*entry["float"])
    low, high = entry["int"]
    return (tune.lograndint if entry.get("log") else tune.randint)(low, high + 1)


def ours(seed: int, **changes: Any) -> Side:
    """The default of a sweep file, or that with changes."""
    fixed = {"name": "search", "base": "none", "search": SEARCH, "metric": "target_val_top1", "num_trials": MANY}
    return Ours(parse_sweep(fixed | {"seed": seed} | changes, "the benchmark"))


OWN: dict[str, Callable[[int], Side]] = {
    "ours": ours,
    "stock": Stock,
    "stock_grace_4": lambda seed: Stock(seed, grace_period=4),
    "ours_asha": lambda seed: ours(seed, scheduler="asha"),
    "ours_tpe": lambda seed: ours(seed, sampler="tpe"),
    "ours_random": lambda seed: ours(seed, sampler="random"),
    "ours_auto": lambda seed: ours(seed, grace_epochs="auto"),
    "random": lambda seed: ours(seed, sampler="random", scheduler="none"),
}
