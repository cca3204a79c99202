"""Optimizers, learning rates as functions of the step, decay groups and the optimizer-state policies."""

import copy
import math
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mergenet.config import AdapterConfig, OptimizerConfig
from mergenet.learner.optim import (
    adapter_rate,
    build_optimizer,
    clear_gradients,
    decay_groups,
    learning_rate,
    set_rate,
    stale_state,
)
from mergenet.transfer.adapter import Adapter


def rates(config: OptimizerConfig, total: int, per_epoch: int) -> list[float]:
    return [learning_rate(config, step, total, per_epoch) for step in range(total)]


def test_cosine_falls_from_the_peak_to_zero_at_the_end() -> None:
    config = OptimizerConfig(lr=0.2, schedule="cosine")
    found = rates(config, 10, 5)
    assert found == pytest.approx([0.1 * (1 + math.cos(math.pi * step / 10)) for step in range(10)])
    assert learning_rate(config, 10, 10, 5) == pytest.approx(0)


def test_multistep_drops_at_each_milestone() -> None:
    config = OptimizerConfig(lr=1.0, schedule="multistep", milestones=(0.3, 0.6), gamma=0.1)
    assert rates(config, 10, 5) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01])


def test_constant_stays() -> None:
    assert set(rates(OptimizerConfig(lr=0.3, schedule="constant"), 10, 5)) == {0.3}


def test_warm_up_is_linear_and_ends_at_the_peak() -> None:
    config = OptimizerConfig(lr=1.0, schedule="cosine", warmup_epochs=1)
    found = rates(config, 15, 5)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert found[5] == pytest.approx(1.0)
    assert found[10] == pytest.approx(0.5), "cosine over what is left after the warm-up"


@given(
    warmup=st.floats(0, 5),
    schedule=st.sampled_from(["constant", "cosine", "multistep"]),
    per_epoch=st.integers(1, 20),
    epochs=st.integers(1, 5),
)
def test_a_rate_is_never_above_the_peak_nor_negative(warmup: float, schedule: str, per_epoch: int, epochs: int) -> None:
    config = OptimizerConfig(lr=0.5, schedule=schedule, warmup_epochs=warmup)
    assert all(0 <= rate <= 0.5 + 1e-12 for rate in rates(config, per_epoch * epochs, per_epoch))


def test_adapter_rate_is_constant_then_cosine_to_zero() -> None:
    assert adapter_rate(0.1, 0.5, 0.0) == adapter_rate(0.1, 0.5, 0.49) == 0.1
    assert adapter_rate(0.1, 0.5, 0.75) == pytest.approx(0.05)
    assert adapter_rate(0.1, 0.5, 1.0) == pytest.approx(0, abs=1e-12)
    assert adapter_rate(0.1, 1.0, 0.999) == 0.1
    assert adapter_rate(0.1, 0.0, 0.0) == 0.1


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_optimizers_take_the_steps_of_their_formulas(name: str) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    weight = nn.Parameter(start.clone())
    config = OptimizerConfig(name=name, lr=0.1, momentum=0.8, nesterov=name == "sgd", weight_decay=0.02)
    optimizer = build_optimizer(config, [weight])
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    expected = (sgd if name == "sgd" else adamw)(start, gradients)
    torch.testing.assert_close(weight.detach(), expected)


def sgd(w: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    buffer = None
    for g in gradients:
        g = g + 0.02 * w
        buffer = g if buffer is None else 0.8 * buffer + g
        w = w - 0.1 * (g + 0.8 * buffer)
    return w


def adamw(w: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    m = v = torch.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w * (1 - 0.1 * 0.02)
        w = w - 0.1 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    return w


def test_norms_biases_and_the_gate_do_not_decay() -> None:
    adapter = Adapter((4, 6), (4, 8), AdapterConfig(learned_gate=True))
    decaying, constant = decay_groups(adapter, 0.3)
    assert decaying["weight_decay"] == 0.3
    assert constant["weight_decay"] == 0
    members = {id(p) for p in constant["params"]}
    for name, parameter in adapter.named_parameters():
        spared = "norm" in name or name.endswith("bias") or name == "gate_logit"
        assert (id(parameter) in members) == spared, name
    assert len(decaying["params"]) + len(constant["params"]) == len(list(adapter.parameters()))


def test_set_rate_reaches_every_group() -> None:
    optimizer = torch.optim.AdamW(decay_groups(nn.Linear(2, 2), 0.1), lr=1.0)
    set_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


@pytest.mark.parametrize("policy", ["keep", "reset", "scale"])
def test_optimizer_state_policies_leave_other_weights_alone(policy: str) -> None:
    weights = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))]
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9)
    for weight in weights:
        weight.grad = torch.full((3,), 2.0)
    optimizer.step()
    stale_state(optimizer, weights[0], policy, gate=0.25)
    buffer = optimizer.state[weights[1]]["momentum_buffer"]
    assert torch.equal(buffer, torch.full((3,), 2.0))
    left = optimizer.state.get(weights[0], {}).get("momentum_buffer")
    if policy == "reset":
        assert left is None
    else:
        assert left is not None
        assert torch.equal(left, torch.full((3,), 2.0 if policy == "keep" else 1.5))


def test_policies_before_the_first_step_do_nothing() -> None:
    weight = nn.Parameter(torch.ones(2))
    for policy in ("keep", "reset", "scale"):
        stale_state(torch.optim.AdamW([weight]), weight, policy, gate=1.0)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_small_network_is_stepped_all_tensors_at_once_to_the_same_bits(name: Literal["sgd", "adamw"]) -> None:
    config = OptimizerConfig(name=name, lr=0.1)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 5))
    other = copy.deepcopy(network)
    at_once = build_optimizer(config, network.parameters())
    one_by_one = build_optimizer(config, other.parameters())
    assert at_once.defaults["foreach"] is True
    for group in one_by_one.param_groups:
        group["foreach"] = False
    for _ in range(5):
        inputs = torch.randn(4, 3, 4, 4)
        for model, optimizer in ((network, at_once), (other, one_by_one)):
            clear_gradients(optimizer)
            model(inputs).square().sum().backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_a_large_network_is_stepped_tensor_by_tensor() -> None:
    assert build_optimizer(OptimizerConfig(), nn.Linear(1000, 1001).parameters()).defaults["foreach"] is None


def test_gradients_are_cleared() -> None:
    layer = nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    clear_gradients(build_optimizer(OptimizerConfig(), layer.parameters()))
    assert layer.weight.grad is None
    assert layer.bias.grad is None
