"""Sides of benchmarks/search.py from other packages, of which the extra `peers` has those that install beside our lock.

Syne Tune's schedulers stop and draw by themselves. HEBO and SMAC draw; our early stopping (the default of a sweep file)
ends their trials, and they are told each trial's last value, as Syne Tune's searchers are.

Of conditions SMAC knows by itself. The others draw all values each time, and a trial takes those that it needs.
"""

import logging
import random
import tempfile
import warnings
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from ray.tune.schedulers import TrialScheduler

from benchmarks.search_problem import MakeSide, Problem, Values
from mergenet.records.run_record import EPOCH
from sweeps.config.loading import parse_sweep
from sweeps.schedulers.early_stopping import EpochScheduler
from sweeps.schedulers.grace import Grace
from sweeps.space.entry import Entry
from sweeps.space.space import label_of
from sweeps.trials.messages import OBJECTIVE

GRACES = (1, 2, 4)
FACTOR = 3  # reduction factor, of Syne Tune's and of ours
BEGINNING = datetime(2020, 1, 1)  # Syne Tune notes when a trial was made, and its schedulers here do not look


class SyneTune:
    """A scheduler of Syne Tune, called as its Tuner does."""

    def __init__(self, scheduler: str, grace: int, seed: int, problem: Problem) -> None:
        from syne_tune.optimizer import baselines

        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        np.random.seed(seed)  # noqa: NPY002 - its bootstraps draw from the global generator
        random.seed(seed)
        self.scheduler = getattr(baselines, scheduler)(
            {name: syne_domain(entry) for name, entry in problem.space.entries.items()},
            metric="accuracy",
            time_attr="epoch",
            max_t=problem.epochs,
            do_minimize=False,
            random_seed=seed,
            grace_period=grace,
            reduction_factor=FACTOR,
        )
        self.problem = problem
        self.trials: dict[str, Any] = {}

    def suggest(self, name: str) -> Values:
        from syne_tune.backend.trial_status import Trial

        suggested = self.scheduler.suggest()
        self.trials[name] = Trial(len(self.trials), suggested.config, BEGINNING)
        self.scheduler.on_trial_add(self.trials[name])
        return self.problem.drawn(suggested.config)

    def report(self, name: str, epoch: int, value: float) -> bool:
        """Its schedulers stop a trial at its last epoch, too, and want no other word of its end."""
        result = {"epoch": epoch, "accuracy": value}
        return bool(self.scheduler.on_trial_result(self.trials[name], result) == "STOP")


def syne_domain(entry: Entry) -> Any:
    """Both bounds of whole numbers are included, as in our space."""
    from syne_tune import config_space

    if entry.bounds is None:
        labels = [label_of(value) for value in entry.listed]
        return config_space.ordinal(labels, "equal") if are_numbers(labels) else config_space.choice(labels)
    if entry.real is not None:
        return (config_space.loguniform if entry.log else config_space.uniform)(*entry.bounds)
    return (config_space.lograndint if entry.log else config_space.randint)(*entry.bounds)


def are_numbers(labels: Sequence[Any]) -> bool:
    return all(isinstance(label, int | float) and not isinstance(label, bool) for label in labels)


class Optimizer(Protocol):
    """Draws configurations, and learns their costs (less is better)."""

    def ask(self) -> tuple[Any, Values]:
        """A draw as the package has it, and its values."""

    def tell(self, draw: Any, cost: float) -> None: ...


class WithOurStopping:
    """Draws of an optimizer, in trials that the default of a sweep file stops."""

    def __init__(self, optimizer: Optimizer, problem: Problem) -> None:
        sweep = parse_sweep({"name": "search", "base": "none", "search": problem.search}, "the benchmark")
        self.epochs = problem.epochs
        grace = Grace(self.epochs, int(sweep.grace_epochs), keep=lambda _: None)
        self.scheduler = EpochScheduler(sweep, "max", grace, {}, {})
        self.optimizer = optimizer
        self.draws: dict[str, tuple[int, Any]] = {}
        self.best: dict[str, float] = {}

    def suggest(self, name: str) -> Values:
        draw, values = self.optimizer.ask()
        self.draws[name] = len(self.draws), draw
        return values

    def report(self, name: str, epoch: int, value: float) -> bool:
        number, draw = self.draws[name]
        self.best[name] = max(value, self.best.get(name, value))
        trial: Any = SimpleNamespace(config={"number": number})
        result = {EPOCH: epoch, OBJECTIVE: self.best[name]}
        stopped = self.scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP
        if stopped or epoch == self.epochs:
            self.optimizer.tell(draw, -self.best[name])
        return stopped


class Hebo:
    """HEBO with its defaults. Workers draw one at a time, as HEBO has no other way to ask asynchronously."""

    def __init__(self, seed: int, problem: Problem) -> None:
        import torch
        from hebo.design_space.design_space import DesignSpace
        from hebo.optimizers.hebo import HEBO

        np.random.seed(seed)  # noqa: NPY002 - HEBO draws from the global generators
        torch.manual_seed(seed)
        random.seed(seed)
        torch.set_num_threads(1)
        entries = problem.space.entries
        self.problem, self.whole = problem, [name for name, entry in entries.items() if entry.whole is not None]
        space = DesignSpace().parse([hebo_parameter(name, entry) for name, entry in entries.items()])
        self.optimizer = HEBO(space, scramble_seed=seed)

    def ask(self) -> tuple[Any, Values]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            draw = self.optimizer.suggest(n_suggestions=1)
        values = {name: int(value) if name in self.whole else value for name, value in draw.iloc[0].items()}
        return draw, self.problem.drawn(values)

    def tell(self, draw: Any, cost: float) -> None:
        self.optimizer.observe(draw, np.array([[cost]]))


def hebo_parameter(name: str, entry: Entry) -> Values:
    if entry.bounds is None:
        return {"name": name, "type": "cat", "categories": [label_of(value) for value in entry.listed]}
    low, high = entry.bounds
    kinds = {(False, False): "num", (False, True): "pow", (True, False): "int", (True, True): "pow_int"}
    return {"name": name, "type": kinds[entry.whole is not None, entry.log], "lb": low, "ub": high}


def untrained(config: Any, seed: int = 0) -> float:
    """What SMAC would call to train, were it not asked and told."""
    raise NotImplementedError(f"{config} with seed {seed}")


class Smac:
    """SMAC's facade for hyper-parameters (random forest, log-EI), one training a configuration.

    Its multi-fidelity facade trains a promoted configuration anew with a larger budget, which costs epochs that the
    others do not pay; so it draws only.
    """

    def __init__(self, seed: int, problem: Problem) -> None:
        import ConfigSpace as space
        from smac import HyperparameterOptimizationFacade as Facade
        from smac import Scenario

        self.problem, entries = problem, problem.space.entries
        made = space.ConfigurationSpace(seed=seed)
        made.add([smac_parameter(name, entry) for name, entry in entries.items()])
        for name, entry in entries.items():
            needed = [space.InCondition(made[name], made[path], list(values)) for path, values in entry.when.items()]
            made.add(needed if len(needed) < 2 else [space.AndConjunction(*needed)])
        folder = Path(tempfile.mkdtemp(prefix="smac-"))
        scenario = Scenario(made, deterministic=True, n_trials=1000, seed=seed, output_directory=folder)
        once = Facade.get_intensifier(scenario, max_config_calls=1)
        self.facade = Facade(scenario, untrained, intensifier=once, overwrite=True, logging_level=False)

    def ask(self) -> tuple[Any, Values]:
        draw = self.facade.ask()
        return draw, self.problem.drawn(draw.config)

    def tell(self, draw: Any, cost: float) -> None:
        from smac.runhistory import TrialValue

        self.facade.tell(draw, TrialValue(cost=cost))


def smac_parameter(name: str, entry: Entry) -> Any:
    import ConfigSpace as space

    if entry.whole is not None:
        return space.Integer(name, entry.whole, log=entry.log)
    if entry.real is not None:
        return space.Float(name, entry.real, log=entry.log)
    labels: list[Any] = [label_of(value) for value in entry.listed]
    if are_numbers(labels):
        return space.OrdinalHyperparameter(name, sorted(labels))
    return space.CategoricalHyperparameter(name, labels)


SCHEDULERS = {"syne_cqr": "ASHACQR", "syne_bore": "ASHABORE", "syne_bohb": "BOHB"}
PEERS: dict[str, MakeSide] = {
    f"{name}_{grace}": partial(SyneTune, scheduler, grace) for name, scheduler in SCHEDULERS.items() for grace in GRACES
} | {
    "hebo": lambda seed, problem: WithOurStopping(Hebo(seed, problem), problem),
    "smac": lambda seed, problem: WithOurStopping(Smac(seed, problem), problem),
}
