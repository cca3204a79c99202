"""Power of paired seeds, before they are trained. A pair: the same seed with and without a change."""

from scipy import optimize, stats

LEVEL, POWER = 0.05, 0.8


def smallest_p(pairs: int) -> float:
    """The smallest two-sided p of a sign-flip test: all differences of one sign, 2 of 2^n sign patterns."""
    return min(1.0, 2.0 / 2.0**pairs)


def smallest_gain(pairs: int, level: float = LEVEL, power: float = POWER) -> float | None:
    """The mean difference, in standard deviations of a pair's difference, that a two-sided t test detects with `power`.

    The noncentral t distribution with n - 1 degrees of freedom and noncentrality gain * sqrt(n); a test that finds
    the wrong sign does not count. None below 2 pairs.
    """
    if pairs < 2:
        return None
    critical = stats.t.ppf(1 - level / 2, pairs - 1)

    def missing(gain: float) -> float:
        return float(stats.nct.sf(critical, pairs - 1, gain * pairs**0.5)) - power

    high = 0.5
    while missing(high) < 0:  # step by step: far beyond the answer the noncentral t becomes NaN
        high *= 1.5
    return float(optimize.brentq(missing, 1e-6, high))
