"""What paired differences promise where there is no effect, by simulation: benchmarks/calibration.py in small."""

from itertools import product

import numpy as np
import pytest

from analysis.statistics.paired_tests import _sign_flip_p, _t_interval, mean_interval, paired_difference
from benchmarks.calibration import NOISES, calibration

LEVEL, DRAWS = 0.05, 2000  # the standard error of a share near 5 % is 0.5 points


@pytest.mark.parametrize("seeds", range(5, 13))
def test_of_all_sign_patterns_the_test_rejects_at_most_its_level(seeds: int) -> None:
    """Where variant and baseline are exchangeable, every sign pattern of the differences is equally likely."""
    size = np.abs(np.random.default_rng(seeds).standard_t(3, seeds))
    patterns = list(product((1, -1), repeat=seeds - 1))  # the first sign: a pattern and its opposite have one p
    rejected = sum(_sign_flip_p(np.sort(size * (1, *signs)), 1e-12) <= LEVEL for signs in patterns)
    assert rejected / len(patterns) <= LEVEL
    assert (rejected > 0) == (seeds > 5), "5 seeds cannot reject, and from 6 on the test is no idle one"


@pytest.mark.parametrize("noise", ["normal", "coarse", "heavy tails"])
@pytest.mark.parametrize("seeds", [5, 6, 8, 10, 12])
def test_the_t_interval_covers_no_effect_in_93_to_97_of_100(noise: str, seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    covered = 0
    for _ in range(DRAWS):
        variant, baseline = NOISES[noise](rng, seeds)
        _, low, high = mean_interval(variant - baseline)
        covered += low <= 0 <= high
    assert 0.93 <= covered / DRAWS <= 0.97


def test_the_interval_that_is_simulated_is_the_one_that_is_reported() -> None:
    variant, baseline = NOISES["normal"](np.random.default_rng(1), 8)
    found = paired_difference(variant, baseline)
    assert (found.mean, *found.interval) == pytest.approx(mean_interval(variant - baseline), rel=1e-12)
    differences = np.sort(variant - baseline)
    error = differences.std(ddof=1) / 8**0.5
    assert found.interval == pytest.approx(_t_interval(differences, error, 0.95), rel=1e-12)
    assert all(np.isnan(mean_interval(np.array([0.5]))[1:])), "one seed has no interval"


def test_bca_is_too_short_at_few_seeds() -> None:
    """Known, and said in docs/analysis.md: the interval to report is Student's t."""
    found = calibration("normal", 5, 400, np.random.default_rng(0))
    assert 0.75 < found.covered_bca < 0.90 < found.covered_t
    assert found.false_positives == 0
