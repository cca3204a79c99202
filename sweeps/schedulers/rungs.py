"""Where successive halving compares trials, and how many may go on at any epoch."""

import math

ROOM = 2.0  # times the share of trials that halving leaves at an epoch, as many may be ahead of one that goes on
ALWAYS = 2  # may be ahead of it however few have begun, less one


def rungs(grace: int, factor: int, epochs: int) -> list[int]:
    """The epochs at which trials are compared: grace, grace * factor, ..., before the last epoch."""
    count = int(math.log(epochs / grace, factor)) + 2
    return [rung for i in range(count) if (rung := grace * factor**i) < epochs]


def overtaken(ahead: int, begun: int, grace: int, epoch: int) -> bool:
    """Whether a trial of which `ahead` others are ahead after `epoch` epochs should stop.

    begun: how many trials have begun. Of those, halving leaves begun * grace / epoch at an epoch.
    """
    return epoch >= grace and ahead >= max(ALWAYS, ROOM * begun * grace / epoch)
