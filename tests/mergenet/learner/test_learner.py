"""A network that learns by itself: its steps, batches, evaluation, state and guards."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mergenet.config import Config
from mergenet.errors import ConfigError, TrainingDiverged
from mergenet.learner.learner import EVAL_BATCH, BatchStream, Learner, set_up, steps_per_epoch
from mergenet.learner.rng import Stream
from mergenet.models import MODELS, Architecture
from mergenet.models._torchvision import Later
from mergenet.tasks.image_classification import ImageClassification
from tests.tiny import PIXELS, copies, same, snapshot, tiny_config

pytestmark = pytest.mark.usefixtures("tiny")
CPU = torch.device("cpu")


class Drawing(ImageClassification):
    """A task as users write them, which draws for every batch."""

    def batch(self, split: str, index: Tensor, device: torch.device, augment: bool = False) -> dict[str, Tensor]:
        torch.rand(())
        return super().batch(split, index, device, augment)


def learner(config: Config) -> Learner:
    return Learner("target", config.target, config, CPU)


def step(one: Learner, number: int = 0) -> bool:
    one.set_rate(number, 100, 10)
    one.backward()
    return one.update()


def batches(size: int, batch_size: int) -> BatchStream:
    return BatchStream(size, batch_size, Stream(0, "data"))


def test_each_pass_is_a_new_permutation_without_the_incomplete_batch() -> None:
    stream = batches(10, 4)
    passes = [torch.cat([stream.next(), stream.next()]) for _ in range(3)]
    for seen in passes:
        assert len(seen.unique()) == 8
    assert not torch.equal(passes[0], passes[1])


def test_a_batch_is_never_larger_than_the_data() -> None:
    assert sorted(batches(3, 64).next().tolist()) == [0, 1, 2]


def test_batches_go_on_after_a_restart_in_the_middle_of_a_pass() -> None:
    stream = batches(10, 3)
    stream.next()
    state = stream.state_dict()
    expected = [stream.next().tolist() for _ in range(6)]
    other = BatchStream(10, 3, Stream(5, "else"))
    other.load_state_dict(state)
    assert [other.next().tolist() for _ in range(6)] == expected


def test_steps_per_epoch_drop_the_incomplete_batch() -> None:
    config = tiny_config()
    size = learner(config).task.size("train")
    assert steps_per_epoch(config) == size // 16
    assert steps_per_epoch(tiny_config({"target.batch_size": size + 1})) == 1


def test_a_step_is_what_torch_does_with_the_same_batch() -> None:
    config = tiny_config({"target.model.name": "tiny_mlp", "target.augment": False})
    one, other = learner(config), learner(config)
    batch = other.next_batch()
    optimizer = torch.optim.SGD(other.network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    nn.functional.cross_entropy(other.network(batch["images"]), batch["labels"]).backward()
    optimizer.step()
    assert step(one)
    assert same(one.network.state_dict(), other.network.state_dict())


def test_a_step_on_a_given_batch_follows_the_objective_and_reports_the_tasks_loss() -> None:
    config = tiny_config({"target.model.name": "tiny_mlp", "target.augment": False})
    one, other = learner(config), learner(config)
    batch = other.next_batch()
    one.backward(batch, lambda outputs, loss: 3 * loss + outputs["logits"].square().mean())
    logits = other.network(batch["images"])
    loss = nn.functional.cross_entropy(logits, batch["labels"])
    (3 * loss + logits.square().mean()).backward()
    for mine, theirs in zip(one.network.parameters(), other.network.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    assert one.mean_loss() == pytest.approx(loss.item())
    assert torch.equal(one.next_batch()["labels"], batch["labels"]), "the batch was given, none was drawn"


def test_gradients_are_clipped_to_the_norm() -> None:
    config = tiny_config({"target.optimizer.clip_norm": 1e-3, "target.augment": False})
    one = learner(config)
    one.backward()
    one.update()
    norm = torch.stack([p.grad.square().sum() for p in one.network.parameters() if p.grad is not None]).sum().sqrt()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_evaluation_is_a_mean_over_examples_and_changes_nothing() -> None:
    one = learner(tiny_config({"target.data.train_fraction": 1.0, "target.data.val_fraction": 0.3}))
    size = one.task.size("val")
    assert size > EVAL_BATCH, "several batches, the last of them incomplete"
    step(one)
    before, draws = copies(one.network.state_dict()), one.state_dict()
    found = one.evaluate("val")
    one.network.eval()
    batch = one.task.batch("val", torch.arange(size), CPU)
    logits = one.network(batch["images"])
    assert found["loss"] == pytest.approx(nn.functional.cross_entropy(logits, batch["labels"]).item(), rel=1e-5)
    assert found["top1"] == pytest.approx((logits.argmax(1) == batch["labels"]).double().mean().item())
    assert same(one.network.state_dict(), before)
    for name in ("augmenting", "forwarding"):
        assert torch.equal(one.state_dict()[name]["cpu"], draws[name]["cpu"])


def test_the_next_step_after_evaluation_trains_again_with_dropout() -> None:
    one, other = learner(tiny_config()), learner(tiny_config())
    step(one)
    one.evaluate("val")
    step(one, 1)
    step(other)
    step(other, 1)
    assert same(one.network.state_dict(), other.network.state_dict())


def test_a_step_trains_whoever_has_put_the_network_into_evaluation_mode() -> None:
    one = learner(tiny_config())
    assert all(module.training for module in one.network.modules())
    one.network.eval()  # as a teacher's is for each lesson
    one.backward()
    assert all(module.training for module in one.network.modules())


class DrawingLater(nn.Module):
    """Dropout that begins with the third batch of training, as some schedules have it."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.fc, self.batches = nn.Linear(PIXELS, num_outputs), 0

    def forward(self, images: Tensor) -> Tensor:
        self.batches += self.training
        return self.fc(nn.functional.dropout(images.flatten(1), 0.5 if self.batches > 2 else 0.0, self.training))


@pytest.mark.parametrize(("dropout", "enters"), [(0.0, False), (0.5, True)])
def test_a_stream_is_entered_as_long_as_the_network_draws(dropout: float, enters: bool) -> None:
    """Whether or not: what a step draws does not depend on what is drawn around it."""
    config = tiny_config()
    network = Later("torchvision.ops").MLP(PIXELS, [learner(config).task.spec.num_outputs], dropout=dropout)
    network.insert(0, nn.Flatten())
    ones = [Learner("target", config.target, config, CPU, network=copy.deepcopy(network)) for _ in range(2)]
    for one in ones:
        for number in range(4):
            torch.manual_seed(number + 10 * ones.index(one))
            before = torch.get_rng_state()
            step(one, number)
            assert torch.equal(torch.get_rng_state(), before), "the global generator is not moved"
    assert [one.dropping for one in ones] == [enters, enters]
    assert same(*(one.network.state_dict() for one in ones))


def hooked(num_outputs: int) -> nn.Module:
    """Layers of torch, to which a hook adds noise from the third batch on."""
    network, batches = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, num_outputs)), list[int]()

    def noise(module: nn.Module, _: object, output: Tensor) -> Tensor:
        batches.append(1)
        return output + torch.randn_like(output) if module.training and len(batches) % 5 > 2 else output

    network.register_forward_hook(noise)
    return network


@pytest.mark.parametrize("build", [DrawingLater, hooked])
def test_a_network_of_the_users_may_begin_to_draw_at_any_step(build: Callable[[int], nn.Module]) -> None:
    config = tiny_config()
    network = build(learner(config).task.spec.num_outputs)
    ones = [Learner("target", config.target, config, CPU, network=copy.deepcopy(network)) for _ in range(2)]
    for one in ones:
        for number in range(5):
            torch.manual_seed(number + 10 * ones.index(one))
            step(one, number)
    assert same(*(one.network.state_dict() for one in ones))


def test_a_task_of_the_users_draws_from_its_stream_even_without_augmentation() -> None:
    ours = tiny_config()
    plain = ours.target.model_copy(update={"augment": False})
    own = plain.model_copy(update={"task": "tests.mergenet.learner.test_learner:Drawing"})
    assert not Learner("target", plain, ours, CPU).drawing
    one = Learner("target", own, ours, CPU)
    before, outer = one.augmenting.state.clone(), torch.get_rng_state()
    one.next_batch()
    assert not torch.equal(one.augmenting.state, before)
    assert torch.equal(torch.get_rng_state(), outer)


def test_mean_loss_is_that_of_the_steps_since_the_last_call() -> None:
    one = learner(tiny_config())
    losses = []
    for number in range(4):
        before = one.loss_sum.item()
        step(one, number)
        losses.append(one.loss_sum.item() - before)
    assert one.mean_loss() == pytest.approx(sum(losses) / 4, rel=1e-6)
    step(one, 4)
    last = one.loss_sum.item()
    assert one.mean_loss() == pytest.approx(last)
    assert one.mean_loss() == 0


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_restored_learner_takes_bitwise_the_same_steps(optimizer: str, amp: str) -> None:
    config = tiny_config({"target.optimizer.name": optimizer, "amp": amp, "target.optimizer.lr": 0.01})
    one, other = learner(config), learner(config)
    for number in range(3):
        step(one, number)
    other.load_state_dict(snapshot(one.state_dict()))
    for number in range(3, 12):  # into the next pass over the data
        step(one, number)
        step(other, number)
    assert same(one.network.state_dict(), other.network.state_dict())


def test_a_state_is_a_function_of_seed_and_role() -> None:
    config = tiny_config()
    assert same(learner(config).network.state_dict(), learner(config).network.state_dict())
    for other in (
        learner(tiny_config({"seed": 1})),
        learner(tiny_config({"target.seed": 1})),
        Learner("source", config.target, config, CPU),
    ):
        assert not same(learner(config).network.state_dict(), other.network.state_dict())


def test_a_seed_of_its_own_takes_the_place_of_the_runs() -> None:
    own = learner(tiny_config({"seed": 5, "target.seed": 0}))
    assert same(own.network.state_dict(), learner(tiny_config()).network.state_dict())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_training_in_one_line(bad: float) -> None:
    one = learner(tiny_config())
    step(one)
    one.check_finite(0)
    with torch.no_grad():
        one.network.get_parameter("9.weight")[0, 0] = bad
    step(one, 1)
    with pytest.raises(TrainingDiverged, match=r"^target loss became (nan|inf) by step 1; lower target.optimizer.lr"):
        one.check_finite(1)


def test_an_unknown_model_or_task_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"model.name must be one of .*got 'tiny_mpl'; did you mean tiny_mlp"):
        learner(tiny_config({"target.model.name": "tiny_mpl"}))
    with pytest.raises(ConfigError, match=r"task must be one of .*got 'image_clasification'"):
        learner(tiny_config({"target.task": "image_clasification"}))


def test_set_up_gives_the_threads_and_determinism_asked_for() -> None:
    assert set_up(tiny_config({"threads": 2})) == CPU
    assert torch.get_num_threads() == 2
    assert torch.are_deterministic_algorithms_enabled()
    set_up(tiny_config({"deterministic": False}))
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()


class Scaled(nn.Module):
    """A network whose BatchNorm input is known."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.norm(images).mean(dim=(2, 3)))


class KeptInEvaluation(Scaled):
    """Its first BatchNorm stays in evaluation mode, as in fine-tuning; one has no statistics, and one learns them."""

    def __init__(self) -> None:
        super().__init__()
        self.bare, self.other = nn.BatchNorm2d(3, track_running_stats=False), nn.BatchNorm2d(3)
        nn.init.constant_(self.norm.running_mean, 0.3)
        nn.init.constant_(self.norm.running_var, 2.0)

    def train(self, mode: bool = True) -> "KeptInEvaluation":
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.other(self.bare(images)))


def test_recalibration_leaves_alone_what_does_not_learn_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "kept", Architecture(lambda *_: KeptInEvaluation()))
    one = learner(tiny_config({"target.model.name": "kept"}))
    one.evaluate("val")
    one.recalibrate(2)
    norm, other = one.network.get_submodule("norm"), one.network.get_submodule("other")
    assert isinstance(norm, nn.BatchNorm2d) and isinstance(other, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_mean.eq(0.3).all()
    assert norm.running_var is not None and norm.running_var.eq(2.0).all()
    assert norm.num_batches_tracked == 0
    assert other.num_batches_tracked == 2


def test_recalibration_averages_the_batch_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "scaled", Architecture(lambda *_: Scaled()))
    one = learner(tiny_config({"target.model.name": "scaled", "target.batch_size": 1000}))
    one.recalibrate(1)  # the one batch is all of the training data
    images = one.task.batch("train", torch.arange(one.task.size("train")), CPU)["images"]
    norm = one.network.get_submodule("norm")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.momentum == 0.1, "training goes on with the momentum it had"
    torch.testing.assert_close(norm.running_mean, images.mean(dim=(0, 2, 3)), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(norm.running_var, images.transpose(0, 1).flatten(1).var(dim=1), atol=1e-5, rtol=1e-4)
