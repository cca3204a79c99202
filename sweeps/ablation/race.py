"""Racing: a variant that is clearly worse than the centre gets no more seeds. [ours]

After the seeds of each look the paired differences variant - centre are tested, one-sided, by a t test. Of two variants
that train alike the difference of a pair is symmetric around 0, where the t test keeps its level also for few pairs.
Look k of a variant spends alpha / (variants k (k + 1)), which sums up to alpha over all variants and over looks without
an end (Bonferroni): whatever the number of seeds will be, the chance that any variant that is not worse is dropped is
at most alpha. Only the first seeds of a look are looked at, so that a resumed ablation decides the same.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from scipy import special

from analysis.statistics.power import LEVEL

FIRST_LOOK, LOOK_EVERY = 4, 2  # seeds

Curves = Mapping[str, Mapping[int, float | None]]  # variant -> seed of a run that has ended -> value; None: it failed


def looks(seeds: int) -> Iterator[int]:
    """The numbers of seeds after which there is a look, without the last seed: nothing is saved then."""
    return iter(range(FIRST_LOOK, seeds, LOOK_EVERY))


def level_of(look: int, variants: int, alpha: float = LEVEL) -> float:
    """look: from 1."""
    return alpha / (variants * look * (look + 1))


def is_worse(values: Sequence[float], centre: Sequence[float], mode: str, level: float) -> bool:
    """One-sided paired t test. mode: direction of the metric. Equal differences have no test: then it is not."""
    differences = np.asarray(values) - np.asarray(centre)
    if len(differences) < 2 or np.ptp(differences) <= 1e-12 * max(1.0, float(np.abs(centre).max())):
        return False
    n, sign = len(differences), 1.0 if mode == "max" else -1.0
    t = sign * float(differences.mean()) / float(differences.std(ddof=1)) * n**0.5
    return bool(special.stdtr(n - 1, t) < level)  # Student's cumulative distribution


def dropped_at(curves: Curves, centre: str, seeds: Sequence[int], mode: str, alpha: float = LEVEL) -> dict[str, int]:
    """Variant -> number of seeds after which it is dropped, by the looks at the given seeds.

    seeds: in order. There is no look where a run has not ended yet: a resumed ablation takes it once it has.
    """
    others = [name for name in curves if name != centre]
    dropped: dict[str, int] = {}
    for look, count in enumerate(looks(len(seeds) + 1), start=1):
        racing = [name for name in others if name not in dropped]
        if not all_ended([curves[name] for name in (centre, *racing)], seeds[:count]):
            return dropped
        level = level_of(look, len(others), alpha)
        for name in racing:
            both = [(curves[name][seed], curves[centre][seed]) for seed in seeds[:count]]
            pairs = [(mine, theirs) for mine, theirs in both if mine is not None and theirs is not None]
            if is_worse([mine for mine, _ in pairs], [theirs for _, theirs in pairs], mode, level):
                dropped[name] = count
    return dropped


def all_ended(curves: Iterable[Mapping[int, float | None]], seeds: Sequence[int]) -> bool:
    return all(seed in curve for curve in curves for seed in seeds)
