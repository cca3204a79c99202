"""Splits by seed: the same seed gives the same split on every machine; classes keep their shares."""

import torch
from torch import Tensor

from mergenet.data.images.images import Split

TEST_FRACTION = 0.15  # of data sets that name no test split


def stratified_order(labels: Tensor, seed: int, spare: bool = False) -> Tensor:
    """A random order of the items, every prefix of which holds the classes in their shares.

    Item number j of the n of its class (in random order within the class) is placed at (j + u) / n, u uniform
    in [0, 1). The first of every class come before all others, so that a prefix lacks no class as long as it
    has as many items as there are classes.
    spare: instead the last of every class come behind all others, so that a prefix leaves one of each class.
    labels: int64 (N,). Returns int64 (N,), a permutation. Prefixes are nested by construction.
    """
    generator = torch.Generator().manual_seed(seed)
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        offset = torch.rand(len(members), generator=generator, dtype=torch.float64)
        place[members] = (torch.arange(len(members)) + offset) / len(members)
        if spare:
            place[members[-1]] += 1
        else:
            place[members[0]] -= 1
    return place.argsort(stable=True)


def hold_out(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """(held out, kept): sorted indices of a stratified `fraction` of the items, at least one, and of the rest.

    No class loses its last item to the held-out part, which is smaller if need be, as long as some class has two.
    """
    order = stratified_order(labels, seed)
    count = min(max(1, round(fraction * len(labels))), len(labels) - 1)
    classes = len(labels.unique())
    if len(labels[order[count:]].unique()) < classes:
        order = stratified_order(labels, seed, spare=True)
        count = max(1, min(count, len(labels) - classes))
    return order[:count].sort().values, order[count:].sort().values


def hold_out_groups(groups: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """(held out, kept): sorted indices of the items of a random `fraction` of the groups, and of all others.

    No group is in both, so what its items share (an article, an image) cannot leak. At least one group is held
    out and one kept; with one seed the smaller fraction is part of the larger.
    groups: int64 (N,), the group of each item, of at least two.
    """
    names, group = groups.unique(return_inverse=True)
    assert len(names) > 1, names
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    held = torch.isin(group, order[:count])
    return held.nonzero().flatten(), (~held).nonzero().flatten()


def subsample(split: Split, fraction: float, seed: int) -> Split:
    """A stratified share of a split; with one seed the smaller share is part of the larger."""
    if fraction == 1:
        return split
    count = max(1, round(fraction * len(split.labels)))
    return split.take(stratified_order(split.labels, seed)[:count].sort().values)
