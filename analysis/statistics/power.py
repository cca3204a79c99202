"""Power of paired seeds, before they are trained. A pair: the same seed with and without a change.

scipy is imported where it computes: `mergenet sweep status` needs the rest, and is to answer at once.
"""

LEVEL, POWER = 0.05, 0.8
EXACT_SEEDS = 16  # up to here the sign-flip test enumerates all 2^n sign patterns (65,536 at most)
RESAMPLES = 9999  # sign patterns that it draws beyond, and resamples of the bootstrap


def smallest_p(pairs: int) -> float:
    """The smallest two-sided p of `paired_difference`'s sign-flip test: all differences of one sign.

    2 of 2^n sign patterns; where they are drawn, twice the share of the observed one among itself and those drawn.
    """
    return min(1.0, 2.0 / 2.0**pairs) if pairs <= EXACT_SEEDS else 2.0 / (RESAMPLES + 1)


def smallest_p_text(pairs: int) -> str:
    """The same, and how it follows from the number of pairs."""
    least = smallest_p(pairs)
    if pairs <= EXACT_SEEDS:
        return f"2/2^{pairs} = {least:.2g}"
    return f"{least:.2g} (of {RESAMPLES:,} drawn sign patterns)"


def smallest_gain(pairs: int, level: float = LEVEL, power: float = POWER) -> float | None:
    """The mean difference, in standard deviations of a pair's difference, that a two-sided t test detects with `power`.

    The noncentral t distribution with n - 1 degrees of freedom and noncentrality gain * sqrt(n); a test that finds
    the wrong sign does not count. None below 2 pairs.
    """
    if pairs < 2:
        return None
    from scipy import optimize, stats

    critical = stats.t.ppf(1 - level / 2, pairs - 1)

    def missing(gain: float) -> float:
        return float(stats.nct.sf(critical, pairs - 1, gain * pairs**0.5)) - power

    high = 0.5
    while missing(high) < 0:  # step by step: far beyond the answer the noncentral t becomes NaN
        high *= 1.5
    return float(optimize.brentq(missing, 1e-6, high))
