"""Our sides and Ray's of benchmarks/search.py: a searcher and a scheduler, called as Tune calls them."""

import warnings
from types import SimpleNamespace
from typing import Any

import optuna
from ray import tune
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.search_problem import MakeSide, Problem, Side, Values
from mergenet.records.run_record import EPOCH
from sweeps.config import SweepConfig
from sweeps.config.loading import parse_sweep
from sweeps.execution.tune_searcher import StudySearch
from sweeps.schedulers.early_stopping import build_scheduler
from sweeps.space.space import Space
from sweeps.study.study import SweepStudy
from sweeps.trials.messages import EPOCHS as ALL_EPOCHS
from sweeps.trials.messages import OBJECTIVE

MANY = 10_000  # trials: the budget in epochs ends a search


class Ours:
    """A sweep's searcher and scheduler, with the study in memory."""

    def __init__(self, sweep: SweepConfig, problem: Problem) -> None:
        study = SweepStudy(sweep, problem.space, sweep.mode, optuna.storages.InMemoryStorage())
        self.epochs = problem.epochs
        self.searcher = StudySearch(study, sweep.mode, MANY, closed=lambda: False, paused=lambda: False)
        self.scheduler = build_scheduler(study, problem.epochs, say=lambda _: None)
        self.trials: dict[str, Any] = {}
        self.best: dict[str, float] = {}

    def suggest(self, name: str) -> Values:
        suggested = self.searcher.suggest(name)
        assert isinstance(suggested, dict)
        self.trials[name] = SimpleNamespace(trial_id=name, config=suggested)
        return dict(suggested["params"])

    def report(self, name: str, epoch: int, value: float) -> bool:
        self.best[name] = max(value, self.best.get(name, value))  # what a sweep's relay reports
        result = {EPOCH: epoch, ALL_EPOCHS: self.epochs, OBJECTIVE: self.best[name]}
        stopped = self.scheduler.on_trial_result(None, self.trials[name], result) == TrialScheduler.STOP
        if not stopped:
            self.searcher.on_trial_result(name, result)
        if stopped or epoch == self.epochs:
            self.searcher.on_trial_complete(name, result)
        return stopped


class Stock:
    """Ray's; max_t is the number of epochs, as anybody would set it, the rest are defaults.

    A space with conditions is a function of Optuna's trial, which is the way of OptunaSearch.
    """

    def __init__(self, seed: int, problem: Problem, **scheduler: Any) -> None:
        def draw(trial: optuna.Trial) -> None:
            problem.space(trial)

        flat = {name: stock_domain(entry) for name, entry in problem.search.items()} if problem.is_flat else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.searcher = OptunaSearch(flat or draw, metric="accuracy", mode="max", seed=seed)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.epochs = problem.epochs
        self.scheduler: Any = ASHAScheduler(metric="accuracy", mode="max", max_t=self.epochs, **scheduler)
        self.trials: dict[str, Any] = {}

    def suggest(self, name: str) -> Values:
        self.trials[name] = SimpleNamespace(trial_id=name)
        self.scheduler.on_trial_add(None, self.trials[name])
        suggested = self.searcher.suggest(name)
        assert suggested is not None
        return {Space.path_of(drawn): value for drawn, value in suggested.items()}

    def report(self, name: str, epoch: int, value: float) -> bool:
        result = {"training_iteration": epoch, "accuracy": value}
        stopped = self.scheduler.on_trial_result(None, self.trials[name], result) == TrialScheduler.STOP
        if not stopped:
            self.searcher.on_trial_result(name, result)
        if stopped or epoch == self.epochs:
            self.scheduler.on_trial_complete(None, self.trials[name], result)
            self.searcher.on_trial_complete(name, result)
        return stopped


def stock_domain(entry: dict[str, Any]) -> Any:
    """Ray's upper bounds of whole numbers are excluded."""
    if "float" in entry:
        return (tune.loguniform if entry.get("log") else tune.uniform)(*entry["float"])
    low, high = entry["int"]
    return (tune.lograndint if entry.get("log") else tune.randint)(low, high + 1)


def ours(seed: int, problem: Problem, **changes: Any) -> Side:
    """The default of a sweep file, or that with changes."""
    fixed = {"name": "search", "base": "none", "search": problem.search, "metric": "target_val_top1"}
    return Ours(parse_sweep(fixed | {"num_trials": MANY, "seed": seed} | changes, "the benchmark"), problem)


OWN: dict[str, MakeSide] = {
    "ours": ours,
    "stock": Stock,
    "stock_grace_4": lambda seed, problem: Stock(seed, problem, grace_period=4),
    "ours_4": lambda seed, problem: ours(seed, problem, grace_epochs=4),
    "ours_asha": lambda seed, problem: ours(seed, problem, scheduler="asha"),
    "ours_tpe": lambda seed, problem: ours(seed, problem, sampler="tpe"),
    "ours_random": lambda seed, problem: ours(seed, problem, sampler="random"),
    "ours_auto": lambda seed, problem: ours(seed, problem, grace_epochs="auto"),
    "ours_init": lambda seed, problem: ours(seed, problem, grace_epochs=problem.epochs // 4),
    "random": lambda seed, problem: ours(seed, problem, sampler="random", scheduler="none"),
}
