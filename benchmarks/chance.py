"""The bias of selecting the best run where there is no effect: in theory, and on runs of one configuration.

`Curves` holds runs that differ by their seeds only. Drawing runs from them with replacement, once as "the method" and
once as "the baseline", makes comparisons without any true difference; a protocol is judged by the differences that it
reports.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import integrate, optimize, special, stats

from analysis.names import POINTS

FAR = 12.0  # standard deviations; beyond them a normal density is 0 in double precision sums
CONFIDENCE = 0.95
LEADS = (0.0, 1.0, 2.0)  # points by which "the method" seems to win


def expected_maximum(n: int) -> float:
    """Mean of the largest of n independent standard normals: the integral of x n phi(x) Phi(x)^(n-1)."""
    return _integral(lambda x: x * n * _density(x) * special.ndtr(x) ** (n - 1))


def share_ahead(n: int) -> float:
    """Probability that the largest of n is above one more, all i.i.d.: n / (n + 1), ties aside."""
    return n / (n + 1)


def lead_quantile(n: int, q: float) -> float:
    """Quantile of (largest of n) - (one more), independent standard normals.

    P(lead <= d) is the integral of phi(b) Phi(b + d)^n over the one more, b.
    """

    def below(d: float) -> float:
        return _integral(lambda b: _density(b) * special.ndtr(b + d) ** n)

    return float(optimize.brentq(lambda d: below(d) - q, -2 * FAR, 2 * FAR))


def _density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _integral(function: Callable[[float], float]) -> float:
    return float(integrate.quad(function, -FAR, FAR, limit=200)[0])


@dataclass(frozen=True)
class Curves:
    """Accuracy after every epoch, fractions. val, test: (runs, epochs)."""

    val: np.ndarray
    test: np.ndarray

    @property
    def last(self) -> np.ndarray:
        """Test accuracy of each run after its last epoch."""
        return self.test[:, -1]

    @property
    def by_validation(self) -> np.ndarray:
        """Test accuracy of each run at its best validation epoch, the first of equals as in the trainer."""
        return self.test[np.arange(len(self.test)), self.val.argmax(axis=1)]

    @property
    def by_test(self) -> np.ndarray:
        """Test accuracy of each run at its best test epoch: selection on the test set."""
        return self.test.max(axis=1)


@dataclass(frozen=True)
class Leads:
    """What a protocol reports where there is no effect, over all draws, in points (0.01).

    low, high: the middle 95 % of the draws. ahead: share of the draws with a lead above each of LEADS.
    """

    mean: float
    low: float
    high: float
    ahead: tuple[float, ...]


def best_of(method: np.ndarray, baseline: np.ndarray, runs: int, draws: int, rng: np.random.Generator) -> Leads:
    """The best of `runs` values of `method` minus one value of `baseline`, each drawn with replacement."""
    best = rng.choice(method, (draws, runs)).max(axis=1)
    return leads(POINTS * (best - rng.choice(baseline, draws)))


def leads(differences: np.ndarray) -> Leads:
    """differences: one a draw, points."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(differences, [tail, 100 - tail])
    tiny = 1e-9  # rounding error between equal accuracies
    ahead = tuple(float(np.mean(differences > lead + tiny)) for lead in LEADS)
    return Leads(float(differences.mean()), float(low), float(high), ahead)


@dataclass(frozen=True)
class Paired:
    """The unbiased protocol where there is no effect. shows_gain, shows_harm: share of t intervals above and below 0.

    half_width: mean half width of the interval, points: a gain far below it would be missed.
    """

    seeds: int
    leads: Leads
    shows_gain: float
    shows_harm: float
    half_width: float


def paired(values: np.ndarray, seeds: int, draws: int, rng: np.random.Generator) -> Paired:
    """`seeds` differences of two runs, their mean and Student's t interval at 95 %; values: test accuracies.

    The two runs of a pair are drawn independently, so that a shared seed does not narrow the interval.
    """
    differences = POINTS * (rng.choice(values, (draws, seeds)) - rng.choice(values, (draws, seeds)))
    mean = differences.mean(axis=1)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1) * differences.std(axis=1, ddof=1) / np.sqrt(seeds)
    gain, harm = float(np.mean(mean > half)), float(np.mean(mean < -half))
    return Paired(seeds, leads(mean), gain, harm, float(half.mean()))


def protocols(curves: Curves, runs: int, draws: int, seed: int) -> dict[str, Leads]:
    """Leads by protocol, from the way the release reports to a plain comparison of two runs."""
    best_test, chosen, last = curves.by_test, curves.by_validation, curves.last
    compared = {
        f"best test epoch of {runs} runs - last epoch of one": (best_test, last, runs),
        f"best test epoch of {runs} runs - validation's epoch of one": (best_test, chosen, runs),
        f"best test epoch of {runs} runs - best test epoch of one": (best_test, best_test, runs),
        f"validation's epoch, best of {runs} runs - the same of one": (chosen, chosen, runs),
        "best test epoch of one run - validation's epoch of another": (best_test, chosen, 1),
        "validation's epoch of one run - the same of another": (chosen, chosen, 1),
    }
    rng = np.random.default_rng(seed)
    return {name: best_of(method, one, n, draws, rng) for name, (method, one, n) in compared.items()}


def honest(curves: Curves, seeds: Sequence[int], draws: int, seed: int) -> list[Paired]:
    """Paired seeds, the epoch chosen by validation, for each number of seeds."""
    rng = np.random.default_rng(seed)
    return [paired(curves.by_validation, n, draws, rng) for n in seeds]
