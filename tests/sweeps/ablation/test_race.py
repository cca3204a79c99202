"""Racing: the chance that any variant is dropped that is not worse stays below alpha, however many seeds there are."""

import numpy as np
import pytest

from sweeps.ablation.race import dropped_at, is_worse, level_of, looks

SEEDS, VARIANTS, REPEATS = 12, 5, 2000


def false_drops(draw, rng):
    """The share of ablations, of variants that are as good as the centre, in which any is dropped."""
    seeds = list(range(SEEDS))
    count = 0
    for _ in range(REPEATS):
        common = draw(rng, SEEDS)  # a seed's own luck, which all variants share
        names = ["centre", *map(str, range(VARIANTS))]
        curves = {name: dict(zip(seeds, common + draw(rng, SEEDS), strict=True)) for name in names}
        count += bool(dropped_at(curves, "centre", seeds, "max", alpha=0.05))
    return count / REPEATS


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda rng, n: rng.normal(size=n), id="normal"),
        pytest.param(lambda rng, n: rng.exponential(size=n), id="skewed"),
        pytest.param(lambda rng, n: rng.standard_t(3, size=n), id="heavy tails"),
        pytest.param(lambda rng, n: rng.binomial(50, 0.8, size=n) / 50, id="50 test examples"),
    ],
)
def test_variants_that_are_as_good_are_dropped_less_often_than_alpha(draw):
    assert false_drops(draw, np.random.default_rng(0)) <= 0.05


def test_a_variant_that_is_clearly_worse_is_dropped_early():
    rng = np.random.default_rng(1)
    seeds = list(range(SEEDS))
    dropped = []
    for _ in range(200):
        centre = rng.normal(size=SEEDS)
        worse = centre - 6 + rng.normal(size=SEEDS)
        curves = {"centre": dict(enumerate(centre)), "worse": dict(enumerate(worse))}
        dropped.append(dropped_at(curves, "centre", seeds, "max").get("worse", SEEDS))
        assert "worse" not in dropped_at(curves, "centre", seeds, "min"), "of a loss it is the better one"
    assert np.mean(dropped) < 6


def test_the_levels_add_up_to_alpha_without_an_end():
    assert sum(level_of(look, 7, 0.05) for look in range(1, 10_000)) * 7 == pytest.approx(0.05, abs=1e-5)


def test_there_is_a_look_after_four_seeds_and_then_after_every_second_but_not_after_the_last():
    assert [list(looks(n)) for n in (4, 5, 8, 9)] == [[], [4], [4, 6], [4, 6, 8]]


def test_a_decision_does_not_change_with_more_seeds():
    """What a resumed ablation decides is what the first one decided."""
    rng = np.random.default_rng(2)
    centre, other = rng.normal(size=SEEDS), rng.normal(size=SEEDS) - 2
    curves = {"centre": dict(enumerate(centre)), "other": dict(enumerate(other))}
    for count in range(2, SEEDS + 1):
        early = dropped_at(curves, "centre", list(range(count)), "max")
        late = dropped_at(curves, "centre", list(range(SEEDS)), "max")
        assert early == {name: at for name, at in late.items() if at <= count}


def test_seeds_that_failed_on_either_side_make_no_pair():
    centre, other = {0: 1.0, 1: 1.1, 2: 0.9, 3: 1.0}, {0: 0.0, 1: 0.1, 2: None, 3: 0.02}
    assert dropped_at({"centre": centre, "other": other}, "centre", [0, 1, 2, 3], "max") == {"other": 4}
    few = {0: 1.0, 1: None, 2: None, 3: None}
    assert dropped_at({"centre": few, "other": other}, "centre", [0, 1, 2, 3], "max") == {}


def test_nothing_is_decided_before_all_runs_of_a_look_have_ended():
    centre, worse = {0: 1.0, 1: 1.1, 2: 0.9, 3: 1.0}, {0: 0.0, 1: 0.1, 2: -0.1, 3: 0.02}
    curves = {"centre": centre, "worse": worse, "slow": {0: 1.0, 1: 1.0, 2: 1.0}}
    assert dropped_at(curves, "centre", [0, 1, 2, 3], "max") == {}
    assert dropped_at(curves | {"slow": centre}, "centre", [0, 1, 2, 3], "max") == {"worse": 4}


def test_equal_differences_have_no_test():
    assert not is_worse([0.1, 0.2, 0.3], [0.2, 0.3, 0.4], "max", 0.05)
    assert not is_worse([0.1], [0.9], "max", 0.05)
