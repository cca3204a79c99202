"""Early stopping: the rules by name, and Tune's scheduler that applies them.

A rule looks at the curves of all trials, by number and epoch, and says whether a trial that has just ended an epoch
should stop. Curves hold the objective with its sign such that higher is better. Rules use our own epoch, which unlike
Tune's `training_iteration` never restarts, and are functions of what the study has recorded: a driver that resumes a
sweep starts with the curves of all trials so far.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from mergenet.errors import WriteError
from mergenet.records.run_record import EPOCH
from sweeps.config import SweepConfig
from sweeps.schedulers.grace import AGREEMENT, MIN_TRIALS, Curves, Grace
from sweeps.schedulers.rungs import overtaken, rungs
from sweeps.study.storage import storage_errors
from sweeps.study.study import SweepStudy
from sweeps.trials.messages import OBJECTIVE

MIN_OTHERS = 3  # trials that a median needs at least


@dataclass(frozen=True)
class TrialEpoch:
    """Trial `number` has ended `epoch` of `epochs`; grace: the first epoch at which it may be stopped."""

    sweep: SweepConfig
    curves: Curves
    grace: int
    epochs: int
    number: int
    epoch: int

    @property
    def value(self) -> float:
        return self.curves[self.number][self.epoch]

    @property
    def rungs(self) -> list[int]:
        return rungs(self.grace, self.sweep.reduction_factor, self.epochs)

    def others(self, numbers: Iterable[int]) -> list[float]:
        """The values of the other trials at this epoch."""
        curves = [self.curves[number] for number in numbers if number != self.number]
        return [curve[self.epoch] for curve in curves if self.epoch in curve]


def none(at: TrialEpoch) -> bool:
    del at
    return False


def asha(at: TrialEpoch) -> bool:
    """Asynchronous successive halving (arXiv 1810.05934), in the variant that stops."""
    return at.epoch in at.rungs and behind(at, at.curves)


def racing(at: TrialEpoch) -> bool:
    """asha, and at every epoch a trial stops that too many others have overtaken (rungs.py). [ours]

    Ahead of it are those that were better at this epoch, or are by now with fewer epochs. So a trial need not reach the
    next rung, nor find others there, for its end to be seen.
    """
    ahead = sum(value_by(curve, at.epoch) > at.value for number, curve in at.curves.items() if number != at.number)
    return overtaken(ahead, len(at.curves), at.grace, at.epoch) or asha(at)


def value_by(curve: dict[int, float], epoch: int) -> float:
    """The value at an epoch, or if it has none the one before; -inf if there is none. The epochs ascend."""
    if epoch in curve:
        return curve[epoch]
    return next((curve[one] for one in reversed(curve) if one < epoch), -math.inf)


def hyperband(at: TrialEpoch) -> bool:
    """Asynchronous successive halving in brackets, each of which begins at another rung (arXiv 1810.05934, 3.2)."""
    bracket = bracket_of(at, at.number, len(at.rungs))
    if at.epoch not in at.rungs[bracket:]:
        return False
    same = [number for number in at.curves if bracket_of(at, number, len(at.rungs)) == bracket]
    return behind(at, same)


def median(at: TrialEpoch) -> bool:
    """Stops below the median of the other trials' running means up to this epoch (Golovin et al. 2017, Vizier)."""
    if at.epoch < at.grace:
        return False
    curves = [curve for number, curve in at.curves.items() if number != at.number and at.epoch in curve]
    means = [np.mean([value for epoch, value in curve.items() if epoch <= at.epoch]) for curve in curves]
    return len(means) >= MIN_OTHERS and bool(at.value < np.median(means))


RULES: dict[str, Callable[[TrialEpoch], bool]] = {  # the names are those of config/choices.py
    "racing": racing,
    "asha": asha,
    "hyperband": hyperband,
    "median": median,
    "none": none,
}


def behind(at: TrialEpoch, numbers: Iterable[int]) -> bool:
    """Whether the trial is below the best 1/factor of those that reached this epoch before it."""
    values = at.others(numbers)
    return bool(values) and at.value < float(np.quantile(values, 1 - 1 / at.sweep.reduction_factor))


def bracket_of(at: TrialEpoch, number: int, count: int) -> int:
    """One of `count` brackets, drawn by trial number: bracket s begins at rung s, with weight count / (count - s).

    So each bracket trains about as many epochs as the others (arXiv 1603.06560).
    """
    return drawn_bracket(at.sweep.seed, at.sweep.reduction_factor, number, count)


@functools.cache
def drawn_bracket(seed: int, factor: int, number: int, count: int) -> int:
    """Cached, because it is called for all trials at every rung."""
    weights = np.array([factor**-s * count / (count - s) for s in range(count)])
    draw = np.random.default_rng([seed, number]).random()
    return int(np.searchsorted(np.cumsum(weights / weights.sum()), draw, side="right"))


class EpochScheduler(FIFOScheduler):
    """Applies the rule after each epoch but the last. A result holds `epoch` and `objective`, a trial its `number`.

    ended: trials that have ended in the study, and after which epoch one was stopped there, or None. It stops there if
    it trains again: its driver was killed before its worker had noted that.
    """

    def __init__(
        self, sweep: SweepConfig, mode: str, grace: Grace, curves: Curves, ended: Mapping[int, int | None]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sweep, self.grace = sweep, grace
        self.sign = 1.0 if mode == "max" else -1.0
        begun = {number: sorted(curve.items()) for number, curve in curves.items() if curve}
        self.curves = {number: {epoch: self.sign * value for epoch, value in curve} for number, curve in begun.items()}
        self.ended = ended
        self.passed = {number: max(curve) for number, curve in self.curves.items()}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        del tune_controller
        number, epoch, value = trial.config["number"], result[EPOCH], result.get(OBJECTIVE)
        if number in self.ended:
            stopped = self.ended[number]
            return TrialScheduler.STOP if stopped is not None and epoch >= stopped else TrialScheduler.CONTINUE
        if epoch <= self.passed.get(number, 0):  # decided before: the trial went on
            return TrialScheduler.CONTINUE
        if value is None or not math.isfinite(value):
            return TrialScheduler.CONTINUE
        self.curves.setdefault(number, {})[epoch] = self.sign * value
        grace = self.grace.of(self.curves)
        return TrialScheduler.STOP if self._stops(number, epoch, grace) else TrialScheduler.CONTINUE

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Tune starts what is pending by itself, in order.

        FIFOScheduler chooses the oldest trial, which then takes a relay that has become free although its own is being
        started; that one is killed, and the trial that the free one was meant for has to start another.
        """
        del tune_controller

    def __getstate__(self) -> dict[str, Any]:
        return {}  # a sweep is not resumed from Tune's snapshots, and the study's locks cannot be pickled

    def _stops(self, number: int, epoch: int, grace: int | None) -> bool:
        if epoch >= self.grace.epochs:
            return False
        if number < self.sweep.num_short:
            return True
        if grace is None or grace >= self.grace.epochs:
            return False
        return RULES[self.sweep.scheduler](TrialEpoch(self.sweep, self.curves, grace, self.grace.epochs, number, epoch))


def grace_text(scheduler: str, grace: int, epochs: int) -> str:
    """The line about a grace period that was measured."""
    told = f"{scheduler}: in the first {MIN_TRIALS} complete trials the ranking agrees with that of epoch {epochs}"
    if grace >= epochs:
        return f"{told} (Spearman >= {AGREEMENT}) at no earlier epoch; no trial is stopped early"
    return f"{told} from epoch {grace} on (Spearman >= {AGREEMENT}); none is stopped before it"


def build_scheduler(study: SweepStudy, epochs: int, say: Callable[[str], None]) -> EpochScheduler:
    """The scheduler of the sweep, with the study's trials so far. say: prints the grace period that was measured."""
    sweep = study.sweep
    given = None if sweep.grace_epochs == "auto" else sweep.grace_epochs
    curves, ended = study.curves()

    def keep(grace: int) -> None:
        with (
            suppress(WriteError),
            storage_errors(sweep.storage, study.folder),
        ):  # it is measured again when the sweep is resumed
            study.grace = grace
        if sweep.scheduler != "none":
            say(grace_text(sweep.scheduler, grace, epochs))

    return EpochScheduler(sweep, sweep.mode, Grace(epochs, given or study.grace, keep), curves, ended)
