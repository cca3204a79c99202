"""The expected number of epochs of a sweep, from its settings alone: for the plan, and for the time left."""

import bisect
import functools
import random
from collections.abc import Callable
from dataclasses import dataclass

from sweeps.config import SweepConfig
from sweeps.schedulers.rungs import overtaken, rungs

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
        whole -= sweep.num_short
        search = sweep.num_short + whole * epochs
    elif sweep.scheduler in ("asha", "racing") and isinstance(grace, int) and grace < epochs:
        racing = sweep.scheduler == "racing"
        search, whole = halving_epochs(sweep.num_trials, epochs, grace, sweep.reduction_factor, racing)
    replicates = whole * (count - 1)
    search += replicates * epochs
    if sweep.budget_epochs is not None:  # trials that run when it is reached finish
        replicates *= min(1.0, sweep.budget_epochs / search)
        search = min(search, float(sweep.budget_epochs))
    full, confirmation = sweep.num_trials * epochs * count, (sweep.adapter_seeds + sweep.num_confirmations) * epochs
    return Epochs(epochs if recorded else 0, epochs * count, search, full, confirmation, replicates)


@functools.lru_cache
def halving_epochs(trials: int, epochs: int, grace: int, factor: int, racing: bool) -> tuple[float, float]:
    """Mean epochs of a search with ASHA or racing, one trial after the other, if trials rank alike at every epoch.

    And how many trials reach the last epoch on average, without being stopped before it.

    Simulated, because the first trials at a rung have nothing to be compared with and go on: with few trials that is
    far more than the share of 1 / factor that goes on in the long run.
    """
    compared = rungs(grace, factor, epochs)
    draw = random.Random(0)
    total = whole = 0
    repeats = max(5, min(REPEATS, 20_000 // trials))
    for _ in range(repeats):
        seen: list[list[float]] = [[] for _ in compared]
        for begun in range(1, trials + 1):
            place = functools.partial(overtaken_at, begun, grace) if racing else None
            end, stopped = trained(draw.random(), compared, seen, epochs, factor, place)
            total += end
            whole += not stopped
    return total / repeats, whole / repeats


def trained(
    value: float,
    rungs: list[int],
    seen: list[list[float]],
    epochs: int,
    factor: int,
    place: Callable[[int, int, int], int] | None = None,
) -> tuple[int, bool]:
    """Epochs of one trial, and whether it was stopped: up to the rung where it is below the best 1 / factor of those
    before it, and none more, because it waits for the answer. seen: the values at each rung, ascending.

    place: of so many better ones between two rungs, the epoch at which they stop it. Counted are those that reached the
    first of the rungs, because curves rise: what ended earlier is behind.
    """
    for rung, next_rung, values in zip(rungs, [*rungs[1:], epochs], seen, strict=True):
        ahead = len(values) - bisect.bisect(values, value)
        last = next_rung if place is None else place(ahead, rung, next_rung)
        if values and value < quantile(values, 1 - 1 / factor):
            last = rung
        bisect.insort(values, value)
        if last < next_rung:
            return last, True
    return epochs, False


def overtaken_at(begun: int, grace: int, ahead: int, start: int, end: int) -> int:
    """The first epoch before `end` at which `ahead` others stop a trial, or the end."""
    stops = functools.partial(overtaken, ahead, begun, grace)
    return start + bisect.bisect_left(range(start, end), True, key=stops)


def quantile(ascending: list[float], share: float) -> float:
    """As numpy's, by linear interpolation; faster on short lists."""
    place = share * (len(ascending) - 1)
    low = int(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (place - low) * (ascending[high] - ascending[low])
