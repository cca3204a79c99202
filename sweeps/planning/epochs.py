"""The expected number of epochs of a sweep, from its settings alone: for the plan, and for the time left."""

import bisect
import functools
import random
from dataclasses import dataclass

from sweeps.config import SweepConfig

REPEATS = 200  # simulated searches; the mean is good to about 1 %


@dataclass(frozen=True)
class Epochs:
    """Epochs by role. search: expected, with early stopping; search_full: if no trial is stopped.

    replicates: trainings with other seeds that the search is expected to have; their epochs are in it.
    """

    source: int
    baseline: int
    search: float
    search_full: int
    confirmation: int
    replicates: float

    @property
    def expected(self) -> float:
        return self.source + self.baseline + self.search + self.confirmation

    @property
    def full(self) -> int:
        return self.source + self.baseline + self.search_full + self.confirmation


def forecast(sweep: SweepConfig, epochs: int, recorded: bool) -> Epochs:
    """epochs: of one run. recorded: whether the source is trained by itself, once.

    What hyperband, median and a grace period that is still to be measured will save is unknown: no saving is counted.
    """
    count, grace, whole = sweep.seeds_per_trial, sweep.grace_epochs, float(sweep.num_trials)
    search = whole * epochs
    if sweep.sampler == "top_k" and epochs > 1:
        from sweeps.samplers.registry import num_short  # here, because it brings Optuna

        short = num_short(sweep)
        whole -= short
        search = short + whole * epochs
    elif sweep.scheduler == "asha" and isinstance(grace, int) and grace < epochs:
        search, whole = asha_epochs(sweep.num_trials, epochs, grace, sweep.reduction_factor)
    replicates = whole * (count - 1)
    search += replicates * epochs
    if sweep.budget_epochs is not None:  # trials that run when it is reached finish
        replicates *= min(1.0, sweep.budget_epochs / search)
        search = min(search, float(sweep.budget_epochs))
    full, confirmation = sweep.num_trials * epochs * count, (sweep.adapter_seeds + sweep.num_confirmations) * epochs
    return Epochs(epochs if recorded else 0, epochs * count, search, full, confirmation, replicates)


@functools.lru_cache
def asha_epochs(trials: int, epochs: int, grace: int, factor: int) -> tuple[float, float]:
    """Mean epochs of a search with ASHA, one trial after the other, if trials rank alike at every rung.

    And how many trials reach the last epoch on average, without being stopped before it.

    Simulated, because the first trials at a rung have nothing to be compared with and go on: with few trials that is
    far more than the share of 1 / factor that goes on in the long run.
    """
    rungs = [grace * factor**k for k in range(64) if grace * factor**k < epochs]
    draw = random.Random(0)
    total = whole = 0
    repeats = max(5, min(REPEATS, 20_000 // trials))
    for _ in range(repeats):
        seen: list[list[float]] = [[] for _ in rungs]
        ends = [trained(draw.random(), rungs, seen, epochs, factor) for _ in range(trials)]
        total += sum(end for end, _ in ends)
        whole += sum(not stopped for _, stopped in ends)
    return total / repeats, whole / repeats


def trained(value: float, rungs: list[int], seen: list[list[float]], epochs: int, factor: int) -> tuple[int, bool]:
    """Epochs of one trial, and whether it was stopped: up to the rung where it is below the best 1 / factor of those
    before it, and one more, which it trains while Tune decides. seen: the values at each rung, ascending.
    """
    for rung, values in zip(rungs, seen, strict=True):
        stopped = bool(values) and value < quantile(values, 1 - 1 / factor)
        bisect.insort(values, value)
        if stopped:
            return min(rung + 1, epochs), True
    return epochs, False


def quantile(ascending: list[float], share: float) -> float:
    """As numpy's, by linear interpolation; faster on short lists."""
    place = share * (len(ascending) - 1)
    low = int(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (place - low) * (ascending[high] - ascending[low])
