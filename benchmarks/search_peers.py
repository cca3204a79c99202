"""Sides of benchmarks/search.py from other packages, of which the extra `peers` has those that install beside our lock.

Syne Tune's schedulers stop and draw by themselves. HEBO and SMAC draw; our early stopping (the default of a sweep file)
ends their trials, and they are told each trial's last value, as Syne Tune's searchers are.
"""

import logging
import random
import tempfile
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from ray.tune.schedulers import TrialScheduler

from benchmarks.surrogate import EPOCHS, SEARCH
from mergenet.records.run_record import EPOCH
from sweeps.config.loading import parse_sweep
from sweeps.schedulers.early_stopping import EpochScheduler
from sweeps.schedulers.grace import Grace
from sweeps.trials.messages import OBJECTIVE

Values = dict[str, Any]
GRACES = (1, 2, 4)
FACTOR = 3  # reduction factor, of Syne Tune's and of ours
BEGINNING = datetime(2020, 1, 1)  # Syne Tune notes when a trial was made, and its schedulers here do not look


class SyneTune:
    """A scheduler of Syne Tune, called as its Tuner does."""

    def __init__(self, scheduler: str, seed: int, grace: int) -> None:
        from syne_tune.optimizer import baselines

        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        np.random.seed(seed)  # noqa: NPY002 - its bootstraps draw from the global generator
        random.seed(seed)
        self.scheduler = getattr(baselines, scheduler)(
            {name: syne_domain(entry) for name, entry in SEARCH.items()},
            metric="accuracy",
            time_attr="epoch",
            max_t=EPOCHS,
            do_minimize=False,
            random_seed=seed,
            grace_period=grace,
            reduction_factor=FACTOR,
        )
        self.trials: dict[str, Any] = {}

    def suggest(self, name: str) -> Values:
        from syne_tune.backend.trial_status import Trial

        suggested = self.scheduler.suggest()
        self.trials[name] = Trial(len(self.trials), suggested.config, BEGINNING)
        self.scheduler.on_trial_add(self.trials[name])
        return dict(suggested.config)

    def report(self, name: str, epoch: int, value: float) -> bool:
        """Its schedulers stop a trial at its last epoch, too, and want no other word of its end."""
        result = {"epoch": epoch, "accuracy": value}
        return bool(self.scheduler.on_trial_result(self.trials[name], result) == "STOP")


def syne_domain(entry: dict[str, Any]) -> Any:
    """Both bounds of whole numbers are included, as in our space."""
    from syne_tune import config_space

    if "float" in entry:
        return (config_space.loguniform if entry.get("log") else config_space.uniform)(*entry["float"])
    return (config_space.lograndint if entry.get("log") else config_space.randint)(*entry["int"])


class Optimizer(Protocol):
    """Draws configurations, and learns their costs (less is better)."""

    def ask(self) -> tuple[Any, Values]:
        """A draw as the package has it, and its values."""

    def tell(self, draw: Any, cost: float) -> None: ...


class WithOurStopping:
    """Draws of an optimizer, in trials that the default of a sweep file stops."""

    def __init__(self, optimizer: Optimizer) -> None:
        sweep = parse_sweep({"name": "search", "base": "none", "search": SEARCH}, "the benchmark")
        grace = Grace(EPOCHS, int(sweep.grace_epochs), keep=lambda _: None)
        self.scheduler = EpochScheduler(sweep, "max", grace, {}, set())
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
        if stopped or epoch == EPOCHS:
            self.optimizer.tell(draw, -self.best[name])
        return stopped


class Hebo:
    """HEBO with its defaults. Four workers draw one at a time, as HEBO has no other way to ask asynchronously."""

    def __init__(self, seed: int) -> None:
        import torch
        from hebo.design_space.design_space import DesignSpace
        from hebo.optimizers.hebo import HEBO

        np.random.seed(seed)  # noqa: NPY002 - HEBO draws from the global generators
        torch.manual_seed(seed)
        random.seed(seed)
        torch.set_num_threads(1)
        space = DesignSpace().parse([hebo_parameter(name, entry) for name, entry in SEARCH.items()])
        self.optimizer = HEBO(space, scramble_seed=seed)

    def ask(self) -> tuple[Any, Values]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            draw = self.optimizer.suggest(n_suggestions=1)
        row = draw.iloc[0]
        return draw, {name: (int if "int" in entry else float)(row[name]) for name, entry in SEARCH.items()}

    def tell(self, draw: Any, cost: float) -> None:
        self.optimizer.observe(draw, np.array([[cost]]))


def hebo_parameter(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    low, high = entry.get("int") or entry["float"]
    whole, log = "int" in entry, bool(entry.get("log"))
    kind = {(False, False): "num", (False, True): "pow", (True, False): "int", (True, True): "pow_int"}[whole, log]
    return {"name": name, "type": kind, "lb": low, "ub": high}


def untrained(config: Any, seed: int = 0) -> float:
    """What SMAC would call to train, were it not asked and told."""
    raise NotImplementedError(f"{config} with seed {seed}")


class Smac:
    """SMAC's facade for hyper-parameters (random forest, log-EI), one training a configuration.

    Its multi-fidelity facade trains a promoted configuration anew with a larger budget, which costs epochs that the
    others do not pay; so it draws only.
    """

    def __init__(self, seed: int) -> None:
        import ConfigSpace as space
        from smac import HyperparameterOptimizationFacade as Facade
        from smac import Scenario

        made = space.ConfigurationSpace(seed=seed)
        for name, entry in SEARCH.items():
            kind = space.Integer if "int" in entry else space.Float
            made.add(kind(name, tuple(entry.get("int") or entry["float"]), log=bool(entry.get("log"))))
        folder = Path(tempfile.mkdtemp(prefix="smac-"))
        scenario = Scenario(made, deterministic=True, n_trials=1000, seed=seed, output_directory=folder)
        once = Facade.get_intensifier(scenario, max_config_calls=1)
        self.facade = Facade(scenario, untrained, intensifier=once, overwrite=True, logging_level=False)

    def ask(self) -> tuple[Any, Values]:
        draw = self.facade.ask()
        return draw, dict(draw.config)

    def tell(self, draw: Any, cost: float) -> None:
        from smac.runhistory import TrialValue

        self.facade.tell(draw, TrialValue(cost=cost))


def syne_tune(scheduler: str, grace: int) -> Callable[[int], SyneTune]:
    return lambda seed: SyneTune(scheduler, seed, grace)


SCHEDULERS = {"syne_cqr": "ASHACQR", "syne_bore": "ASHABORE", "syne_bohb": "BOHB"}
PEERS: dict[str, Callable[[int], Any]] = {
    f"{name}_{grace}": syne_tune(scheduler, grace) for name, scheduler in SCHEDULERS.items() for grace in GRACES
} | {
    "hebo": lambda seed: WithOurStopping(Hebo(seed)),
    "smac": lambda seed: WithOurStopping(Smac(seed)),
}
