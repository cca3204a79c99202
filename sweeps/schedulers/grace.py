"""The grace period, after which trials may be stopped: set, or measured on the first complete trials."""

from collections.abc import Callable

from analysis.importance.curves import agreement

Curves = dict[int, dict[int, float]]  # trial number -> epoch -> objective; more is better

MIN_TRIALS = 5  # complete trials that it is measured on
AGREEMENT = 0.8  # Spearman's rank correlation with the last epoch


def complete(curves: Curves, epochs: int) -> list[dict[int, float]]:
    """The first MIN_TRIALS trials with a value at every epoch; of later trials only selected ones complete."""
    return [curves[number] for number in sorted(curves) if len(curves[number]) == epochs][:MIN_TRIALS]


def measured_grace(curves: Curves, epochs: int) -> int | None:
    """The first epoch from which on all rank the trials nearly as the last one does; None with too few trials."""
    if len(trials := complete(curves, epochs)) < MIN_TRIALS:
        return None
    found = agreement(trials, epochs)
    bad = [epoch for epoch, value in enumerate(found, start=1) if value < AGREEMENT]
    return min(max(bad, default=0) + 1, epochs)


class Grace:
    """The grace period in epochs; None until it is known. keep: called once with the measured one."""

    def __init__(self, epochs: int, known: int | None, keep: Callable[[int], None]) -> None:
        self.epochs, self.known, self.keep = epochs, known, keep

    def of(self, curves: Curves) -> int | None:
        if self.known is None and (found := measured_grace(curves, self.epochs)) is not None:
            self.known = found
            self.keep(found)
        return self.known
