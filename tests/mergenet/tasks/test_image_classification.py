"""Image classification: batches, loss, metrics."""

import math

import pytest
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from mergenet.config import DataConfig, NetworkConfig
from mergenet.data import load_data
from mergenet.errors import ConfigError
from mergenet.tasks import Task, build_task, image_classification
from mergenet.tasks.image_classification import channel_statistics, classification_scores

CPU = torch.device("cpu")
DIGITS = DataConfig(name="digits", image_size=8)


def digits(**options: float) -> Task:
    return build_task(NetworkConfig(data=DIGITS, **options))


def test_describes_its_data() -> None:
    task, data = digits(), load_data(DIGITS)
    assert (task.spec.num_outputs, task.metric, task.data_hash) == (10, "top1", data.content_hash)
    assert [task.size(split) for split in ("train", "val", "test")] == [
        len(split.labels) for split in (data.train, data.val, data.test)
    ]


def test_batch_is_normalised_by_the_training_split() -> None:
    task = digits()
    whole = task.batch("train", torch.arange(task.size("train")), CPU)
    assert isinstance(whole["images"], Float32[Tensor, "n 3 8 8"])
    assert isinstance(whole["labels"], Int64[Tensor, " n"])
    assert whole["images"].mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (whole["images"].std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3
    data = load_data(DIGITS)
    pixels = data.train.images.double()
    mean, std = (x.reshape(3, 1, 1) for x in (pixels.mean(dim=(0, 2, 3)), pixels.std(dim=(0, 2, 3), correction=0)))
    index = torch.tensor([5, 0, 5])
    expected = ((data.val.images[index] - mean) / std).float()
    torch.testing.assert_close(task.batch("val", index, CPU)["images"], expected)
    assert task.batch("val", index, CPU)["labels"].equal(data.val.labels[index])


def test_a_small_split_is_kept_normalised_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    index = torch.tensor([5, 0, 5, 7])
    kept = digits().batch("train", index, CPU)
    monkeypatch.setattr(image_classification, "READY", 0)
    task = digits()
    fresh = task.batch("train", index, CPU)
    assert torch.equal(kept["images"], fresh["images"])
    assert kept["images"].stride() == fresh["images"].stride()  # the memory format decides which kernels run
    kept["images"].zero_()
    assert torch.equal(task.batch("train", index, CPU)["images"], fresh["images"])


def test_channel_statistics_of_a_constant_channel() -> None:
    images = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    images[:2, 1] = 10
    mean, std = channel_statistics(images)
    assert mean.flatten().tolist() == [0, 5, 0]
    assert std.flatten().tolist() == [1, 5, 1]


def test_augmented_batch_follows_the_global_generator() -> None:
    task, index = digits(), torch.arange(32)
    torch.manual_seed(0)
    first = task.batch("train", index, CPU, augment=True)
    torch.manual_seed(0)
    assert task.batch("train", index, CPU, augment=True)["images"].equal(first["images"])
    plain = task.batch("train", index, CPU)
    assert not plain["images"].equal(first["images"])
    assert plain["labels"].equal(first["labels"])
    state = torch.get_rng_state()
    task.batch("train", index, CPU)
    assert torch.get_rng_state().equal(state)


class Fixed(nn.Module):
    """Gives the same logits whatever it sees."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[: len(images)]


def test_metrics_of_a_case_computed_by_hand() -> None:
    logits = torch.tensor([[6.0, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 9]])
    labels = torch.tensor([0, 4, 0, 5])  # first; fifth; last of six; first
    scores = classification_scores(logits, labels)
    log_sum = math.log(sum(math.exp(k) for k in range(1, 7)))
    expected = (log_sum - 6) + (log_sum - 2) + (log_sum - 1) + math.log(5 + math.exp(9)) - 9
    assert {k: v.dtype for k, v in scores.items()} == dict.fromkeys(("loss", "top1", "top5"), torch.float64)
    assert scores["loss"].sum().item() == pytest.approx(expected, rel=1e-6)
    assert scores["top1"].tolist() == [1, 0, 0, 1]
    assert scores["top5"].tolist() == [1, 1, 0, 1]


def test_top5_of_fewer_classes() -> None:
    scores = classification_scores(torch.eye(3)[:, [1, 2, 0]], torch.arange(3))
    assert (scores["top1"].sum().item(), scores["top5"].sum().item()) == (0, 3)


def test_loss_is_the_mean_and_has_a_gradient() -> None:
    task, batch = digits(), digits().batch("val", torch.arange(20), CPU)
    model = Fixed(torch.zeros(20, 10))
    loss = task.loss(task.forward(model, batch), batch)
    assert loss.item() == pytest.approx(math.log(10))
    loss.backward()
    assert model.logits.grad is not None
    expected = torch.full((20, 10), 0.1 / 20).scatter_add(1, batch["labels"][:, None], torch.full((20, 1), -1 / 20))
    torch.testing.assert_close(model.logits.grad, expected)


def test_label_smoothing_is_in_the_loss_and_not_in_the_metrics() -> None:
    plain, smooth = digits(), digits(label_smoothing=0.2)
    batch = plain.batch("val", torch.arange(20), CPU)
    model = Fixed(torch.randn(20, 10, generator=torch.Generator().manual_seed(0)))
    log_p = model.logits.log_softmax(1).detach()
    right = log_p.gather(1, batch["labels"][:, None]).mean()
    loss = smooth.loss(smooth.forward(model, batch), batch)
    assert loss.item() == pytest.approx(-(0.8 * right + 0.2 * log_p.mean()).item(), rel=1e-5)
    scores = smooth.score(smooth.forward(model, batch), batch)
    assert smooth.metrics("val", scores)["loss"] == pytest.approx(-right.item(), rel=1e-5)


def test_scores_of_batches_are_those_of_the_whole() -> None:
    task = digits()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))

    def score(index: Tensor) -> dict[str, Tensor]:
        batch = task.batch("test", index, CPU)
        return task.score(task.forward(model, batch), batch)

    index = torch.arange(task.size("test"))
    whole, parts = score(index), [score(part) for part in index.split(50)]
    for name, values in whole.items():
        assert not values.requires_grad
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), values)
        assert task.metrics("test", whole)[name] == pytest.approx(values.mean().item())


def test_the_task_can_be_learned() -> None:
    """A linear network reads digits: images and labels belong together in all three splits."""
    task = digits()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    batch = task.batch("train", torch.arange(task.size("train")), CPU)
    for _ in range(60):
        optimizer.zero_grad()
        task.loss(task.forward(model, batch), batch).backward()
        optimizer.step()
    for split in ("train", "val", "test"):
        batch = task.batch(split, torch.arange(task.size(split)), CPU)
        assert task.metrics(split, task.score(task.forward(model, batch), batch))["top1"] > 0.92, split


def test_unknown_task() -> None:
    with pytest.raises(ConfigError, match=r"^task must be one of .*, got 'image_clasification'; did you mean image_"):
        build_task(NetworkConfig(task="image_clasification"))
