import math
from dataclasses import asdict
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics.paired_tests import gain_over, holm, paired_difference, paired_gain
from analysis.statistics.power import smallest_p
from mergenet.errors import UserError

VARIANT = np.array([0.72, 0.70, 0.75, 0.71, 0.74, 0.69])
METRIC = "target_test_top1"
BASELINE = np.array([0.70, 0.69, 0.70, 0.72, 0.70, 0.66])
fractions = st.floats(0, 1, width=32)
pairs = st.lists(st.tuples(fractions, fractions), min_size=1, max_size=8)


def table(**variants: dict[int, float]) -> pd.DataFrame:
    rows = [
        {"variant": name, "seed": seed, "target_test_top1": value}
        for name, values in variants.items()
        for seed, value in values.items()
    ]
    return pd.DataFrame(rows)


# ---------------------------------------------------------------------------------------------- paired_difference


def test_mean_error_and_t_interval_are_those_of_the_one_sample_t_test():
    found = paired_difference(VARIANT, BASELINE, confidence=0.9)
    reference = stats.ttest_1samp(VARIANT - BASELINE, 0.0)
    interval = reference.confidence_interval(0.9)
    assert found.mean == pytest.approx((0.02 + 0.01 + 0.05 - 0.01 + 0.04 + 0.03) / 6)
    assert found.standard_error == pytest.approx(stats.sem(VARIANT - BASELINE))
    assert found.interval == pytest.approx((interval.low, interval.high))
    assert (found.num_seeds, found.confidence) == (6, 0.9)


def test_bootstrap_interval_is_scipys_bca():
    rng = np.random.default_rng(1)
    differences = np.sort(rng.gamma(2.0, 0.01, size=30))
    found = paired_difference(differences, np.zeros(30))
    reference = stats.bootstrap((differences,), np.mean, method="BCa", rng=np.random.default_rng(0))
    assert found.bootstrap_interval == pytest.approx(tuple(reference.confidence_interval), rel=1e-12)
    # another method's interval would not do: BCa shifts it towards the longer tail
    percentile = stats.bootstrap((differences,), np.mean, method="percentile", rng=np.random.default_rng(0))
    assert found.bootstrap_interval[1] > percentile.confidence_interval.high


def test_sign_flip_p_by_hand():
    # |sum| of (+-1 +-2 +-3) is at least 6 in 2 of 8 patterns; of (+-1 +-2 -3 -> 2 at 0): sum 0 is reached by all
    assert paired_difference(np.array([1.0, 2, 3]), np.zeros(3)).p_value == 2 / 8
    assert paired_difference(np.array([1.0, 2, -3]), np.zeros(3)).p_value == 1.0
    # 1 + 2 - 0.5 = 2.5: of the 8 sums +-3.5 +-2.5 +-0.5 +-1.5 four are as far from 0
    assert paired_difference(np.array([1.0, 2, -0.5]), np.zeros(3)).p_value == 4 / 8


@pytest.mark.parametrize(
    ("seeds", "p"), [(1, 1.0), (2, 0.5), (5, 0.0625), (6, 0.03125), (16, 2 / 2**16), (17, 2e-4), (40, 2e-4)]
)
def test_all_differences_of_one_sign_give_the_smallest_p(seeds, p):
    found = paired_difference(np.arange(1, seeds + 1) / 100, np.zeros(seeds))
    assert found.p_value == found.smallest_p == smallest_p(seeds) == p


def test_sign_flip_p_equals_enumeration_and_scipys_exact_test():
    differences = VARIANT - BASELINE
    sums = [abs(np.dot(signs, differences)) for signs in product((1, -1), repeat=6)]
    by_hand = np.mean([total >= abs(differences.sum()) - 1e-12 for total in sums])
    scipys = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert paired_difference(VARIANT, BASELINE).p_value == by_hand == pytest.approx(scipys.pvalue)


def test_equal_sums_count_as_ties_in_spite_of_rounding():
    # in points -4 4 -4 5 -11: by whole numbers 22 of 32 sums are as far from 0 as -10, by floats only 18
    variant, baseline = np.array([0.69, 0.71, 0.74, 0.66, 0.63]), np.array([0.73, 0.67, 0.78, 0.61, 0.74])
    points = (-4, 4, -4, 5, -11)
    by_hand = np.mean([abs(np.dot(signs, points)) >= 10 for signs in product((1, -1), repeat=5)])
    assert paired_difference(variant, baseline).p_value == by_hand == 22 / 32


def test_monte_carlo_beyond_16_seeds_is_near_the_t_test_and_repeatable():
    differences = np.random.default_rng(3).normal(0.4, 1.0, size=24)
    found = paired_difference(differences, np.zeros(24))
    assert found.p_value == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.02)
    assert found == paired_difference(differences, np.zeros(24))


def exact_p(counts: np.ndarray) -> float:
    """Share of the sign patterns of whole numbers whose |sum| is at least the observed one, by convolution."""
    shares = np.ones(1)
    for count in np.abs(counts):
        step = np.zeros(2 * count + 1)
        step[0] += 0.5
        step[-1] += 0.5
        shares = np.convolve(shares, step)
    sums = np.arange(len(shares)) - len(shares) // 2
    return float(shares[np.abs(sums) >= abs(counts.sum())].sum())


@pytest.mark.parametrize("images", [150, 300, 1000])
def test_beyond_16_seeds_equal_sums_count_as_ties_too(images):
    """Accuracies of a test split: p is that of the whole counts, within what 9,999 drawn patterns leave open."""
    rng = np.random.default_rng(images)
    for seeds in (17, 18, 20, 22, 24, 40):
        counts = rng.choice([-1, 0, 1, 2, 3], seeds, p=[0.3, 0.2, 0.25, 0.15, 0.1])
        baseline = rng.integers(int(0.7 * images), int(0.9 * images), seeds)
        variant = baseline + counts
        by_hand = exact_p(counts)
        found = paired_difference(variant / images, baseline / images).p_value
        assert found == paired_difference(variant.astype(float), baseline.astype(float)).p_value
        assert found == pytest.approx(by_hand, abs=2 / 9999 + 5 * np.sqrt(by_hand / 9999))


def test_no_difference_at_all():
    found = paired_difference(VARIANT, VARIANT)
    assert (found.mean, found.p_value) == (0.0, 1.0)
    assert found.interval == found.bootstrap_interval == (0.0, 0.0)


def test_one_seed_has_no_interval_and_says_so():
    found = paired_difference(np.array([0.7]), np.array([0.6]))
    assert found.mean == pytest.approx(0.1)
    assert all(map(math.isnan, (found.standard_error, *found.interval, *found.bootstrap_interval)))
    assert found.p_value == found.smallest_p == 1.0
    assert found.note == "1 seed has no interval; run at least 2 seeds, 6 for p < 0.05"


def test_too_few_seeds_for_the_level_are_noted():
    assert paired_difference(VARIANT[:5], BASELINE[:5]).note == "5 seeds cannot give p < 0.05; that takes 6"
    assert paired_difference(VARIANT, BASELINE).note == ""
    assert paired_difference(VARIANT, BASELINE, confidence=0.99).note == "6 seeds cannot give p < 0.01; that takes 8"


@pytest.mark.parametrize(
    ("seeds", "level", "note"),
    [
        (15, 5e-5, "15 seeds cannot give p < 5e-05; that takes 16"),
        (16, 5e-5, ""),
        (17, 1e-4, "17 seeds cannot give p < 0.0001: 0.0002 (of 9,999 drawn sign patterns)"),
        (17, 2.5e-4, ""),
        (16, 1e-5, "16 seeds cannot give p < 1e-05; no number of seeds gives p < 1e-05"),
    ],
)
def test_what_drawn_sign_patterns_cannot_show_is_noted(seeds, level, note):
    values = np.arange(1, seeds + 1) / 100
    assert paired_difference(values, np.zeros(seeds), confidence=1 - level).note == note


@given(pairs, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_seeds_does_not_matter(values, random):
    shuffled = random.sample(values, len(values))
    first, second = (paired_difference(*np.array(v).T) for v in (values, shuffled))
    np.testing.assert_equal(asdict(first), asdict(second))


@given(pairs)
@settings(max_examples=40, deadline=None)
def test_swapping_variant_and_baseline_negates_everything_but_p(values):
    variant, baseline = np.array(values).T
    one, other = paired_difference(variant, baseline), paired_difference(baseline, variant)
    np.testing.assert_array_equal(one.mean, -other.mean)
    np.testing.assert_array_equal(one.standard_error, other.standard_error)
    np.testing.assert_array_equal(one.interval, (-other.interval[1], -other.interval[0]))
    assert (one.p_value, one.smallest_p, one.note) == (other.p_value, other.smallest_p, other.note)
    differences = variant - baseline
    if np.sort(differences).tolist() != np.sort(-differences).tolist():
        np.testing.assert_array_equal(
            one.bootstrap_interval, (-other.bootstrap_interval[1], -other.bootstrap_interval[0])
        )


@pytest.mark.parametrize(
    ("variant", "baseline", "confidence", "message"),
    [
        ([0.1, 0.2], [0.1], 0.95, r"must be of one length.*got shapes \(2,\) and \(1,\)"),
        ([], [], 0.95, "at least one seed"),
        ([[0.1]], [[0.1]], 0.95, "must be of one length, one value a seed"),
        ([0.1, float("nan")], [0.1, 0.2], 0.95, r"variant must be finite, got \[0.1, nan\]; leave out seeds"),
        ([0.1, 0.1], [0.1, float("inf")], 0.95, "baseline must be finite"),
        ([0.1, 0.2], [0.1, 0.2], 95, "confidence must lie between 0 and 1, got 95"),
    ],
)
def test_arrays_that_cannot_be_compared(variant, baseline, confidence, message):
    with pytest.raises(UserError, match=message):
        paired_difference(np.array(variant), np.array(baseline), confidence)


# --------------------------------------------------------------------------------------------- paired_gain, gain_over


def test_paired_gain_pairs_by_seed_not_by_position():
    runs = table(base={1: 0.5, 2: 0.6, 3: 0.9}, new={3: 0.92, 1: 0.51, 2: 0.63})
    found = paired_gain(runs, "base", "new", "target_test_top1")
    assert found.mean == pytest.approx(0.02)
    assert found.standard_error == pytest.approx(0.01 / math.sqrt(3))


def test_the_naming_column_can_be_another():
    runs = table(confirm_none={1: 0.5, 2: 0.6}, confirm_best={1: 0.6, 2: 0.7}).rename(columns={"variant": "role"})
    assert paired_gain(runs, "confirm_none", "confirm_best", "target_test_top1", by="role").mean == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (table(base={1: 0.5}, new={1: 0.5, 2: 0.6}), "seeds must pair: 'new' has seed 2, which 'base' lacks"),
        (table(base={1: 0.5, 2: 0.5, 3: 0.5}, new={1: 0.5}), "'base' has seed 2, 3, which 'new' lacks"),
        (table(base={1: 0.5}), "variant must be one of base, got 'new'"),
        (table(base={1: 0.5}, new={1: float("nan")}), "'new' must have a target_test_top1 for every seed, got none"),
        (pd.concat([table(base={1: 0.5}, new={1: 0.5})] * 2), "'new' must have one run a seed, got several of seed 1"),
        (table(base={1: 0.5}, new={1: 0.5}).drop(columns="seed"), "runs must have a column 'seed', got variant"),
    ],
)
def test_runs_that_do_not_pair(runs, message):
    with pytest.raises(UserError, match=message):
        paired_gain(runs, "base", "new", "target_test_top1")


def test_gain_over_is_in_points_best_first_with_holm():
    base = dict.fromkeys(range(6), 0.5)
    runs = table(
        weak={seed: 0.5 + gain for seed, gain in enumerate((0.01, -0.01, 0.02, 0.01, -0.02, 0.01))},
        base=base,
        strong={seed: 0.5 + 0.01 * (seed + 1) for seed in range(6)},
        worse={seed: 0.5 - 0.01 * (seed + 1) for seed in range(6)},
    )
    found = gain_over(runs, "base", METRIC).set_index("variant")
    assert found.index.tolist() == ["strong", "weak", "worse"]
    assert found.loc["strong", "gain"] == pytest.approx(3.5)
    assert found.loc["strong", "standard_error"] == pytest.approx(100 * stats.sem(np.arange(1, 7) / 100))
    assert found.loc["worse", "low"] == pytest.approx(-found.loc["strong", "high"])
    assert found.loc["strong", "p_value"] == found.loc["strong", "smallest_p"] == 2 / 64
    assert found.loc["strong", "p_holm"] == pytest.approx(3 * 2 / 64)
    assert found.loc["worse", "p_holm"] == pytest.approx(3 * 2 / 64)
    assert found.loc["weak", "p_holm"] == pytest.approx(found.loc["weak", "p_value"])
    assert found["num_seeds"].tolist() == [6, 6, 6]


def test_gain_over_refuses_a_missing_seed_a_loss_and_nothing_to_compare():
    runs = table(base={1: 0.5, 2: 0.5}, full={1: 0.5, 2: 0.5}, short={1: 0.5})
    with pytest.raises(UserError, match="'base' has seed 2, which 'short' lacks"):
        gain_over(runs, "base", METRIC)
    with pytest.raises(UserError, match=r"metric must be a fraction, got 'target_test_loss'; for a loss use"):
        gain_over(runs, "base", metric="target_test_loss")
    with pytest.raises(UserError, match="beside the baseline 'base', got no other"):
        gain_over(table(base={1: 0.5}), "base", METRIC)
    with pytest.raises(UserError, match="variant must be one of base, full, short, got 'nobody'"):
        gain_over(runs, "nobody", METRIC)


def test_holm_by_hand():
    # sorted .01 .02 .03 .04, times 4 3 2 1: .04 .06 .06 .04, made monotone .04 .06 .06 .06
    assert holm(np.array([0.04, 0.01, 0.03, 0.02])) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm(np.array([0.6, 0.9])) == pytest.approx([1.0, 1.0])
    assert holm(np.array([0.2])) == pytest.approx([0.2])
