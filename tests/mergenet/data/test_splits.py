"""Splits by group; those by class are tested with the data sets, in test_images.py."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mergenet.data.splits import hold_out_groups

GROUPS = st.lists(st.integers(-3, 40), min_size=2, max_size=60).filter(lambda ids: len(set(ids)) > 1)


@given(GROUPS, st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_groups_are_never_divided_and_nothing_is_lost(ids: list[int], fraction: float, seed: int) -> None:
    groups = torch.tensor(ids)
    held, kept = hold_out_groups(groups, fraction, seed)
    assert torch.cat([held, kept]).sort().values.tolist() == list(range(len(ids)))
    assert held.tolist() == sorted(held.tolist())
    assert kept.tolist() == sorted(kept.tolist())
    names = set(groups[held].tolist())
    assert names.isdisjoint(groups[kept].tolist())
    assert len(names) == min(max(1, round(fraction * len(set(ids)))), len(set(ids)) - 1)


@given(GROUPS, st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_the_smaller_fraction_is_part_of_the_larger(ids: list[int], one: float, two: float, seed: int) -> None:
    small, large = sorted((one, two))
    groups = torch.tensor(ids)
    assert set(hold_out_groups(groups, small, seed)[0].tolist()) <= set(
        hold_out_groups(groups, large, seed)[0].tolist()
    )


def test_the_seed_chooses_the_groups() -> None:
    groups = torch.arange(100).repeat(3)
    one, same, other = (hold_out_groups(groups, 0.2, seed)[0] for seed in (0, 0, 1))
    assert len(one) == 60
    assert one.equal(same)
    assert not one.equal(other)
    assert hold_out_groups(groups + 7, 0.2, 0)[0].equal(one), "names of groups do not matter"
