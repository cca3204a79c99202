"""The steps of the method: when factors are written, from what, and what the adapters learn from it.

Every expected value is computed here a second time with plain autograd, not with the code under test.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from mergenet.errors import TrainingDiverged
from mergenet.layers.matrices import to_matrix, to_weight
from mergenet.learner.optim import adapter_rate
from mergenet.training.trainer import Trainer
from mergenet.transfer.encodings import Projected
from mergenet.transfer.link import Link
from tests.tiny import copies, equal, same, snapshot, tiny_config

pytestmark = pytest.mark.usefixtures("tiny")

PLAIN = {  # no randomness in the adapter, no BatchNorm or augmentation in the target: easy to compute again
    "target.model.name": "tiny_plain_cnn",
    "target.augment": False,
    "transfer.pairs": [{"source": "3", "target": "2"}],
    "transfer.adapter.dropout": 0.0,
    "transfer.adapter.spectral_norm": False,
    "transfer.adapter.gate": 0.5,
}


def build(changes: dict[str, Any] | None = None, base: dict[str, Any] = PLAIN) -> Trainer:
    return Trainer(tiny_config({**base, **(changes or {})}))


def steps(trainer: Trainer, last: int, first: int = 0) -> None:
    for step in range(first, last):
        trainer._step(step)


def factor(link: Link) -> Tensor:
    """B^T W of the receiver as it is now."""
    assert isinstance(link.receiver, Projected)
    return link.receiver.basis.T @ to_matrix(link.receiver.layer.weight.detach())


def spy_on_vectors(link: Link) -> list[Tensor]:
    """Every vector that the adapter learns from."""
    vectors, learn = [], link.learn

    def learn_and_note(vector: Tensor, done: float) -> None:
        vectors.append(vector.clone())
        learn(vector, done)

    link.learn = learn_and_note
    return vectors


def transfer_steps(trainer: Trainer) -> list[list[int]]:
    """For each link the steps at which it wrote."""
    found: list[list[int]] = [[] for _ in trainer.transfer.links]
    for step in range(trainer.total_steps):
        before = [link.num_transfers for link in trainer.transfer.links]
        trainer._step(step)
        for steps_of_link, link, count in zip(found, trainer.transfer.links, before, strict=True):
            steps_of_link += [step] * (link.num_transfers - count)
    return found


def test_transfers_happen_every_t_cycle_steps_from_the_first_on() -> None:
    assert transfer_steps(build({"transfer.t_cycle": 3})) == [[0, 3, 6, 9, 12]]


def test_a_pair_may_have_a_longer_cycle_of_its_own() -> None:
    pairs = [{"source": "3", "target": "2"}, {"source": "3", "target": "6", "every": 6}]
    assert transfer_steps(build({"transfer.t_cycle": 3, "transfer.pairs": pairs})) == [[0, 3, 6, 9, 12], [0, 6, 12]]


def test_start_step_and_stop_fraction_bound_the_transfers() -> None:
    changes = {"transfer.t_cycle": 2, "transfer.start_step": 3, "transfer.stop_fraction": 0.7}
    trainer = build(changes)
    assert trainer.total_steps == 14
    assert transfer_steps(trainer) == [[4, 6, 8]], "multiples of t_cycle from 3 on, before 0.7 * 14 = 9.8, rounded 10"


@pytest.mark.parametrize("horizon", ["step", "cycle"])
def test_the_last_transfer_is_learned_from_after_the_phase_has_ended(horizon: str) -> None:
    trainer = build({"transfer.stop_fraction": 0.3, "transfer.t_cycle": 3, "transfer.update.horizon": horizon})
    (link,) = trainer.transfer.links
    vectors = spy_on_vectors(link)
    steps(trainer, 14)
    assert link.num_transfers == len(vectors) == 2
    assert link.open is None


def test_the_target_computes_its_loss_with_the_transferred_weight() -> None:
    trainer = build()
    (link,) = trainer.transfer.links
    seen: list[Tensor] = []
    trainer.target.network.register_forward_pre_hook(lambda *_: seen.append(factor(link)))
    for step in range(4):
        before = factor(link)
        trainer._step(step)
        if step % 2:
            assert torch.equal(seen[step], before), "between transfers the factor stays [paper]"
        else:
            assert link.last is not None
            torch.testing.assert_close(link.last[0], before)
            assert not torch.allclose(seen[step], before, atol=1e-3)


def test_what_is_written_is_a_plus_gate_times_answer_minus_a() -> None:
    trainer = build()
    (link,) = trainer.transfer.links
    adapter, weight = deepcopy(link.adapter), link.receiver.weight_parameter.detach().clone()
    basis = link.receiver.state_dict()["basis"]
    target = basis.T @ to_matrix(weight)
    assert trainer.source is not None
    source_weight = trainer.learners[1].network.get_parameter("3.weight").detach()
    left = torch.linalg.svd(source_weight.double())[0][:, :4].float()
    left = left * left.gather(0, left.abs().argmax(0, keepdim=True)).sign()
    answer = adapter.answer(target, left.T @ source_weight)
    trainer.transfer.begin(0)
    expected = target + 0.5 * (answer - target)
    torch.testing.assert_close(factor(link), expected.detach(), atol=1e-5, rtol=1e-4)
    rest = to_matrix(link.receiver.weight_parameter.detach()) - basis @ factor(link)
    torch.testing.assert_close(rest, to_matrix(weight) - basis @ target, atol=1e-5, rtol=1e-4)


def test_both_directions_ask_before_either_writes() -> None:
    trainer = build({"transfer.pairs": [{"source": "3", "target": "2", "direction": "both"}]})
    to_target, to_source = trainer.transfer.links
    assert [link.name for link in trainer.transfer.links] == ["pair0/to_target", "pair0/to_source"]
    before = factor(to_target), factor(to_source)
    trainer.transfer.begin(0)
    for link, (own, other) in ((to_target, before), (to_source, before[::-1])):
        assert link.last is not None
        assert torch.equal(link.last[0], own)
        assert torch.equal(link.last[1], other)
        assert not torch.equal(factor(link), own)


def test_links_of_a_chain_all_see_what_was_there_before_the_transfer() -> None:
    pairs = [{"source": "1", "target": "3"}, {"source": "3", "target": "5"}]
    trainer = build({"target.model.name": "tiny_mlp", "source.kind": "self", "transfer.pairs": pairs})
    first, second = trainer.transfer.links
    before = factor(first)
    trainer.transfer.begin(0)
    assert second.last is not None
    assert torch.equal(second.last[1], before)
    assert not torch.equal(factor(first), before)


def test_delta_looks_at_the_target_after_one_step() -> None:
    trainer = build()
    (link,) = trainer.transfer.links
    vectors = spy_on_vectors(link)
    for step in (0, 1, 2):
        trainer.transfer.begin(step)
        written = factor(link)
        for learner in trainer.learners:
            learner.set_rate(step, 14, 7)
            learner.backward()
            learner.update()
        trainer.transfer.finish(step, {"target": True, "source": True})
        if step % 2 == 0:
            vector = vectors[step // 2]
            torch.testing.assert_close(vector, written - factor(link), atol=1e-6, rtol=1e-5)
            assert vector.norm() > 1e-4
    assert len(vectors) == 2


def test_delta_with_horizon_cycle_looks_at_the_end_of_the_cycle() -> None:
    trainer = build({"transfer.update.horizon": "cycle", "transfer.t_cycle": 3})
    (link,) = trainer.transfer.links
    vectors = spy_on_vectors(link)
    steps(trainer, 3)
    assert link.open is not None
    written = link.open.written
    assert not vectors, "the cycle is not over before the next transfer is due"
    end = factor(link)
    trainer._step(3)
    torch.testing.assert_close(vectors[0], written - end)


def test_delta_and_normalize_divide_by_the_targets_rate() -> None:
    changes = {"target.optimizer.warmup_epochs": 1.0, "target.optimizer.lr": 0.07}
    plain, normalized = build(changes), build({**changes, "transfer.update.normalize": True})
    both = [spy_on_vectors(trainer.transfer.links[0]) for trainer in (plain, normalized)]
    for trainer in (plain, normalized):
        trainer._step(0)
    assert torch.equal(both[1][0], both[0][0] / (0.07 / 7)), "one of seven steps of the warm-up"


def test_normalize_over_a_cycle_divides_by_the_rates_of_all_its_steps() -> None:
    changes = {
        "target.optimizer.warmup_epochs": 1.0,
        "target.optimizer.lr": 0.07,
        "transfer.t_cycle": 3,
        "transfer.update.horizon": "cycle",
    }
    plain, normalized = build(changes), build({**changes, "transfer.update.normalize": True})
    both = [spy_on_vectors(trainer.transfer.links[0]) for trainer in (plain, normalized)]
    for trainer in (plain, normalized):
        steps(trainer, 4)
    torch.testing.assert_close(both[1][0], both[0][0] / (0.07 * (1 + 2 + 3) / 7))


def grads(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("learned", [False, True])
def test_delta_is_the_gradient_of_half_the_squared_distance(learned: bool) -> None:
    """d/dtheta of 1/2 |A'(theta) - stopgrad(A+)|^2, for the answer as it was asked at the transfer."""
    trainer = build({"transfer.adapter.learned_gate": learned})
    (link,) = trainer.transfer.links
    adapter, target = deepcopy(link.adapter), factor(link)
    trainer._step(0)
    assert link.last is not None
    loss = 0.5 * (adapter(target, link.last[1]) - factor(link)).square().sum()
    loss.backward()
    expected, found = grads(adapter), grads(link.adapter)
    assert found.keys() == expected.keys()
    assert ("gate_logit" in found) == learned
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-3, msg=name)


def loss_through_the_adapter(trainer: Trainer, link: Link, adapter: nn.Module, weight_name: str) -> Tensor:
    """The target's loss on its next batch as one differentiable function of the adapter. Draws the batch."""
    weight = link.receiver.weight_parameter.detach()
    basis = link.receiver.state_dict()["basis"]
    target = basis.T @ to_matrix(weight)
    source = link.giver.shown(0)
    moved = weight + to_weight(basis @ (adapter(target, source) - target), weight.shape)
    batch = trainer.target.next_batch()
    return cross_entropy(
        functional_call(trainer.target.network, {weight_name: moved}, batch["images"]), batch["labels"]
    )


@pytest.mark.parametrize(("layer", "learned"), [("2", False), ("6", True)])
def test_rule_gradient_is_the_true_gradient_of_the_targets_loss(layer: str, learned: bool) -> None:
    changes = {
        "transfer.update.rule": "gradient",
        "transfer.pairs": [{"source": "3", "target": layer}],
        "transfer.adapter.rank": 2,
        "transfer.adapter.learned_gate": learned,
    }
    trainer, other = build(changes), build(changes)
    (link,) = trainer.transfer.links
    adapter = deepcopy(link.adapter)
    loss_through_the_adapter(other, other.transfer.links[0], adapter, f"{layer}.weight").backward()
    trainer._step(0)
    expected, found = grads(adapter), grads(link.adapter)
    assert found.keys() == expected.keys()
    assert ("gate_logit" in found) == learned
    assert max(g.abs().max().item() for g in expected.values()) > 1e-5
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=2e-3, msg=name)


def test_rule_gradient_holds_neither_clipping_nor_decay_nor_momentum_of_the_target() -> None:
    changes = {"transfer.update.rule": "gradient"}
    rough = {
        "target.optimizer.clip_norm": 1e-4,
        "target.optimizer.weight_decay": 0.5,
        "target.optimizer.nesterov": True,
    }
    both = []
    for trainer in (build(changes), build({**changes, **rough})):
        both.append(spy_on_vectors(trainer.transfer.links[0]))
        trainer._step(0)
    assert torch.equal(both[0][0], both[1][0])


def test_the_adapter_takes_adamw_steps_at_its_own_rate() -> None:
    trainer = build({"transfer.update.warmup_fraction": 0.0, "transfer.update.lr": 0.01, "transfer.t_cycle": 7})
    (link,) = trainer.transfer.links
    adapter = deepcopy(link.adapter)
    names = [name for name, _ in adapter.named_parameters()]
    matrices = [p for p in adapter.parameters() if p.ndim > 1]
    vectors = [p for p in adapter.parameters() if p.ndim < 2]
    reference = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}], lr=0.0
    )
    for step in range(8):
        trainer._step(step)
        if step % 7 == 0:
            for group in reference.param_groups:
                group["lr"] = adapter_rate(0.01, 0.0, step / 14)
            for name, parameter in adapter.named_parameters():
                parameter.grad = link.adapter.get_parameter(name).grad
            reference.step()
    assert link.optimizer.param_groups[0]["lr"] == pytest.approx(0.005), "half of training done: half of the rate"
    for name in names:
        torch.testing.assert_close(link.adapter.get_parameter(name), adapter.get_parameter(name), msg=name)


def test_the_adapters_gradient_is_clipped() -> None:
    trainer = build({"transfer.update.clip_norm": 1e-6})
    trainer._step(0)
    found = grads(trainer.transfer.links[0].adapter)
    norm = torch.stack([g.square().sum() for g in found.values()]).sum().sqrt().item()
    assert norm == pytest.approx(1e-6, rel=0.1)


@pytest.mark.parametrize("rule", ["delta", "gradient"])
def test_a_learned_gate_moves_and_a_fixed_one_does_not(rule: str) -> None:
    changes = {"transfer.update.rule": rule, "transfer.update.lr": 0.05}
    fixed, learned = build(changes), build({**changes, "transfer.adapter.learned_gate": True})
    for trainer in (fixed, learned):
        steps(trainer, 5)
    assert fixed.transfer.metrics()["gate"] == 0.5
    gate = learned.transfer.metrics()["gate"]
    assert 0 < gate < 1
    assert abs(gate - 0.5) > 1e-3


def test_the_output_of_the_adapter_is_random_only_by_its_own_dropout() -> None:
    changes = {"transfer.adapter.dropout": 0.5}
    with_dropout, without = build(changes), build()
    for trainer in (with_dropout, without):
        trainer.transfer.begin(0)
    a, b = with_dropout.transfer.links[0].open, without.transfer.links[0].open
    assert a is not None
    assert b is not None
    assert not torch.equal(a.written, b.written)
    again = build(changes)
    again.transfer.begin(0)
    assert again.transfer.links[0].open is not None
    assert torch.equal(again.transfer.links[0].open.written, a.written)


LAYERS = {"linear": ("tiny_mlp", "3"), "conv": ("tiny_cnn", "3")}


@pytest.mark.parametrize("adapter", ["projected", "factorized", "full_matrix"])
@pytest.mark.parametrize("source", LAYERS)
@pytest.mark.parametrize("target", LAYERS)
def test_every_kind_of_layer_gives_to_every_other(target: str, source: str, adapter: str) -> None:
    setting = {"kind": "full_matrix"} if adapter == "full_matrix" else {"encoding": adapter}
    pair = {"source": LAYERS[source][1], "target": LAYERS[target][1], "direction": "both"}
    changes = {
        "target.model.name": LAYERS[target][0],
        "source.model.name": LAYERS[source][0],
        "transfer.pairs": [pair],
        "transfer.adapter": {**setting, "rank": 2, "depth": 2},
    }
    trainer, idle = build(changes, {}), build({**changes, "transfer.stop_fraction": 0.0}, {})
    for one in (trainer, idle):
        steps(one, 5)
    for link, other in zip(trainer.transfer.links, idle.transfer.links, strict=True):
        assert link.num_transfers == 3
        assert other.num_transfers == 0
        weight, untouched = link.receiver.weight_parameter, other.receiver.weight_parameter
        assert weight.isfinite().all()
        assert (weight - untouched).norm() > 1e-2 * untouched.norm()
    assert trainer.transfer.metrics()["source_dependence"] > 0


@pytest.mark.parametrize("encoding", ["projected", "factorized"])
def test_a_frozen_source_gives_but_never_learns(encoding: str) -> None:
    with pytest.warns(UserWarning, match="the source is frozen and source.model.weights names none"):
        trainer = build({"source.kind": "frozen", "transfer.adapter.encoding": encoding})
    assert trainer.learners == [trainer.target]
    (link,) = trainer.transfer.links
    shown, ask = [], link.ask
    link.ask = lambda step: (asked := ask(step), shown.append(asked.before["source"]))[0]
    (result, last) = list(trainer.epochs())
    assert len(shown) == 7
    assert all(torch.equal(source, shown[0]) for source in shown)
    of_the_transfer = {"source_dependence", "source_share"}  # what does not change has no share of a change
    assert {name for name in last.metrics if name.startswith("source_")} == of_the_transfer
    assert last.metrics["seconds_source"] == 0
    assert result.metrics["num_transfers"] == 4


def test_a_live_source_is_shown_as_it_is_at_the_step() -> None:
    trainer = build({"transfer.t_cycle": 1})
    source = trainer.learners[1].network.get_parameter("3.weight")
    (link,) = trainer.transfer.links
    for step in range(3):
        now = source.detach().clone()
        left, scales, right = torch.linalg.svd(now, full_matrices=False)
        trainer._step(step)
        assert link.last is not None
        best = left[:, :4] * scales[:4] @ right[:4]
        basis = link.giver.state_dict()["encoding"]["basis"]
        torch.testing.assert_close(basis @ link.last[1], best, atol=0.02 * float(best.abs().max()), rtol=0)


def test_a_live_source_may_be_shown_in_the_basis_of_its_start() -> None:
    trainer = build({"transfer.adapter.source_basis": "start"})
    source = trainer.learners[1].network.get_parameter("3.weight")
    (link,) = trainer.transfer.links
    starting = source.detach().clone()
    left = torch.linalg.svd(starting.double())[0][:, :4].float()
    left = left * left.gather(0, left.abs().argmax(0, keepdim=True)).sign()
    steps(trainer, 2)
    now = source.detach().clone()
    trainer._step(2)
    assert link.last is not None
    torch.testing.assert_close(link.last[1], left.T @ now, msg="the basis of the start, the weight of now")
    assert not torch.allclose(link.last[1], left.T @ starting)


def test_a_self_source_takes_no_steps_of_its_own() -> None:
    changes = {"source.kind": "self", "transfer.pairs": [{"source": "6", "target": "2"}]}
    trainer = build(changes)
    assert trainer.learners == [trainer.target]
    steps(trainer, 3)
    assert trainer.transfer.links[0].num_transfers == 2


def test_several_pairs_have_adapters_and_streams_of_their_own() -> None:
    pairs = [{"source": "3", "target": "2"}, {"source": "3", "target": "6"}]
    both, first = build({"transfer.pairs": pairs}), build({"transfer.pairs": pairs[:1]})
    for trainer in (both, first):
        trainer.transfer.begin(0)
    assert torch.equal(factor(both.transfer.links[0]), factor(first.transfer.links[0]))
    a, b = (link.adapter.state_dict() for link in both.transfer.links)
    shared = [
        name for name in a if name in b and a[name].shape == b[name].shape and "weight" in name and "norm" not in name
    ]
    assert shared
    assert not any(torch.equal(a[name], b[name]) for name in shared)


def test_parameters_stay_the_same_objects() -> None:
    trainer = build({"transfer.pairs": [{"source": "3", "target": "2", "direction": "both"}]})
    before = [id(p) for learner in trainer.learners for p in learner.network.parameters()]
    places = [p.data_ptr() for learner in trainer.learners for p in learner.network.parameters()]
    steps(trainer, 5)
    assert [id(p) for learner in trainer.learners for p in learner.network.parameters()] == before
    assert [p.data_ptr() for learner in trainer.learners for p in learner.network.parameters()] == places


def spoil(value: float) -> Callable[[Link], None]:
    def apply(link: Link) -> None:
        ask = link.ask

        def asked(step: int) -> Any:
            found = ask(step)
            found.written.mul_(value)
            return found

        link.ask = asked

    return apply


@pytest.mark.parametrize(("value", "shown"), [(1e-5, "1e-05"), (1e5, "1e+05"), (float("nan"), "nan")])
def test_a_factor_that_collapsed_or_ran_away_is_not_written(value: float, shown: str) -> None:
    trainer = build({"transfer.adapter.gate": 1.0})
    (link,) = trainer.transfer.links
    spoil(value)(link)
    before = copies(trainer.target.network.state_dict())
    with pytest.raises(TrainingDiverged) as caught:
        trainer._step(0)
    message = str(caught.value)
    assert message.startswith(f"transfer pair0/to_target would write a factor of {shown} x its starting RMS at step 0 ")
    adapter = "transfer.update.lr (0.001) or " if math.isnan(value) else ""  # with matched RMS it is not the gate
    assert message.endswith(f"(allowed: 0.001 to 1000); lower {adapter}target.optimizer.lr (0.05)")
    assert same(trainer.target.network.state_dict(), before)


@pytest.mark.parametrize("start", [0.0, 1e-6])
@pytest.mark.parametrize("kind", ["lpka", "full_matrix", "linear"])
def test_a_layer_that_starts_at_zero_or_nearly_trains(kind: str, start: float) -> None:
    trainer = build({"transfer.adapter.kind": kind}, {"transfer.align": "none"})
    trainer, before = zeroed(trainer, start), trainer.target.network.get_parameter("9.weight").norm().item()
    steps(trainer, 5)
    second = build({"transfer.adapter.kind": kind}, {"transfer.align": "none"})
    second.load_state_dict(snapshot(trainer.state_dict()))
    for one in (trainer, second):
        steps(one, 12, 5)
        assert one.transfer.links[0].num_transfers == 6
        assert one.target.network.get_parameter("9.weight").norm() > before + 1e-3
    assert equal(trainer.state_dict(), second.state_dict())


@pytest.mark.parametrize("value", [1.0, 1e4, float("inf"), float("nan")])
def test_a_layer_that_started_at_zero_may_not_run_away(value: float) -> None:
    trainer = zeroed(build({}, {}), 0.0)
    steps(trainer, 2)
    (link,) = trainer.transfer.links
    with torch.no_grad():
        trainer.target.network.get_parameter("9.weight").normal_(0, value if value == 1e4 else 1.0)
    if value == 1.0:
        trainer.transfer.begin(2)
        assert link.num_transfers == 2
        return
    if not math.isfinite(value):
        spoil(value)(link)
    reference = "its starting RMS" if math.isnan(value) else rf"a small starting RMS \({0.1 * 8**-0.5:.3g}\)"
    with pytest.raises(TrainingDiverged, match=rf"would write a factor of .* x {reference} at step 2 "):
        trainer.transfer.begin(2)


def zeroed(trainer: Trainer, start: float) -> Trainer:
    """Links made anew after the last layer of the target was given weights of that size."""
    with torch.no_grad():
        trainer.target.network.get_parameter("9.weight").normal_(0, 1).mul_(start)
    trainer.transfer.links = trainer._links()
    return trainer


def test_without_matched_rms_gate_and_rate_may_be_to_blame() -> None:
    trainer = build({"transfer.adapter.gate": 1.0, "transfer.adapter.rms_match": False})
    spoil(1e9)(trainer.transfer.links[0])
    with pytest.raises(TrainingDiverged) as caught:
        trainer._step(0)
    ways_out = "transfer.adapter.gate (1) or transfer.update.lr (0.001), or set transfer.adapter.rms_match: true"
    assert str(caught.value).endswith(f"; lower {ways_out}")


def test_metrics_count_since_the_last_call() -> None:
    trainer = build()
    steps(trainer, 3)
    first = trainer.transfer.metrics()
    assert first["num_transfers"] == 2
    assert first["adapter_loss"] > 0
    assert 0 < first["source_dependence"] < 2
    second = trainer.transfer.metrics()
    assert second["num_transfers"] == 2
    assert "adapter_loss" not in second
    assert second["source_dependence"] == first["source_dependence"], "a measurement that changes nothing"
    assert build({"method": "none", "transfer.pairs": []}).transfer.metrics() == {}


def test_looking_at_the_dependence_does_not_change_the_run() -> None:
    looked, not_looked = (
        build({"transfer.adapter.dropout": 0.3, "transfer.adapter.spectral_norm": True}) for _ in range(2)
    )
    for step in range(6):
        looked._step(step)
        looked.transfer.metrics()
        not_looked._step(step)
    assert same(looked.target.network.state_dict(), not_looked.target.network.state_dict())
    assert same(looked.transfer.links[0].adapter.state_dict(), not_looked.transfer.links[0].adapter.state_dict())


@pytest.mark.parametrize("rule", ["delta", "gradient"])
@pytest.mark.parametrize("half", ["lower_half", "upper_half"])
def test_an_adapter_learns_nothing_from_a_step_that_leaves_the_layer_out(rule: str, half: str) -> None:
    own = {"target.model.name": f"tests.own_networks:{half}", "transfer.pairs": [{"source": "3", "target": "b"}]}
    settings = {"transfer.update": {"rule": rule, "weight_decay": 0.0}, "transfer.t_cycle": 1}
    trainer = build(own | settings)
    (link,), b = trainer.transfer.links, trainer.target.network.b
    vectors, left_out = spy_on_vectors(link), []
    for step in range(8):
        before = copies(link.adapter.state_dict())
        trainer._step(step)
        written = b.weight.grad
        left_out.append(written is None)
        if written is None:
            assert not vectors[step].any()
            assert step > 0 or same(link.adapter.state_dict(), before), "AdamW goes on from its moments only"
        else:
            assert vectors[step].any()
            assert not same(link.adapter.state_dict(), before)
        if written is not None and rule == "gradient":
            assert isinstance(link.receiver, Projected)
            torch.testing.assert_close(vectors[step], link.receiver.basis.T @ written)
    assert len(set(left_out)) == 2, "or else the test sees only one of the two"
    assert len(vectors) == 8
