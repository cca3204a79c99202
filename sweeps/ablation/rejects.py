"""Successive rejects: which of the best K trials of a search is best on fresh seeds. [Audibert, Bubeck, Munos 2010]

The best of a search was selected for its luck as well, and so were the next ones. All K train on fresh seeds; after
each of K - 1 phases the one with the worst mean is rejected, and the rest go on, so that most seeds go to those that
are hard to tell apart. After phase k each has ceil(2 S / (K + 1 - k)) seeds, S of them after the last phase: the shares
of the paper. Who is left is named. S further seeds, which had no part in that, tell its gain over no transfer without
bias.
"""

import math
from collections.abc import Sequence

import numpy as np

from sweeps.ablation.race import Curves, all_ended, dropped_at
from sweeps.ablation.schema import AblationConfig


def phases(candidates: int, seeds: int) -> list[int]:
    """Seeds after each phase, K - 1 of them. seeds: S."""
    return [min(seeds, math.ceil(2 * seeds / (candidates + 1 - phase))) for phase in range(1, candidates)]


def rejected_at(curves: Curves, reference: str, seeds: Sequence[int], choosing: int, mode: str) -> dict[str, int]:
    """Candidate -> number of seeds after which it is rejected, by the phases that lie within the given seeds.

    curves: of the candidates, by search value the best first, and of the reference, which is none. A candidate with a
    run that failed is the worst. Of equals the one with the worse search value goes. choosing: S.
    """
    left = [name for name in curves if name != reference]
    rejected: dict[str, int] = {}
    for count in phases(len(left), choosing):
        if count > len(seeds) or not all_ended([curves[name] for name in left], seeds[:count]):
            return rejected
        sign = 1 if mode == "max" else -1

        def mean(name: str, count: int = count, sign: int = sign) -> float:
            values = [curves[name][seed] for seed in seeds[:count]]
            return -math.inf if None in values else sign * float(np.mean(np.array(values, dtype=float)))

        worst = min(reversed(left), key=mean)
        left.remove(worst)
        rejected[worst] = count
    return rejected


def given_up(ablation: AblationConfig, curves: Curves, seeds: Sequence[int], mode: str) -> dict[str, int]:
    """Variant -> number of seeds after which it gets no more, by racing or rejects; empty where neither is asked for.

    curves: of all variants by validation, first that to which the others are compared.
    """
    if ablation.top is not None:
        return rejected_at(curves, next(iter(curves)), seeds, ablation.seeds, mode)
    return dropped_at(curves, next(iter(curves)), seeds, mode) if ablation.race else {}
