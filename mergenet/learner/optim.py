"""Optimizers, and learning rates as pure functions of the step (nothing to save, nothing to drift)."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from mergenet.config import OptimizerConfig

SMALL = 1_000_000  # parameters


def build_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The same numbers either way: a small network on the CPU is stepped all tensors at once, one call an operation.

    Beyond the cache that takes longer than tensor by tensor; on a GPU torch does it of itself. (docs/log.md)
    """
    parameters = list(parameters)
    at_once = sum(p.numel() for p in parameters) < SMALL and all(p.device.type == "cpu" for p in parameters)
    foreach = True if at_once else None
    if config.name == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov and config.momentum > 0,
            weight_decay=config.weight_decay,
            foreach=foreach,
        )
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, foreach=foreach)


def learning_rate(config: OptimizerConfig, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """Learning rate of optimizer step `step` (from 0): linear warm-up, then the schedule over all of training."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.lr * min(1.0, (step + 1) / warmup)  # a warm-up may end within a step
    done = step / total_steps
    if config.schedule == "multistep":
        return config.lr * config.gamma ** sum(done >= m for m in config.milestones)
    if config.schedule == "cosine":
        after = (step - warmup) / max(1.0, total_steps - warmup)
        return config.lr * 0.5 * (1 + math.cos(math.pi * after))
    return config.lr


def adapter_rate(lr: float, warmup_fraction: float, done: float) -> float:
    """[release] Constant for a warm-up, then cosine to zero; `done` is the share of training that is completed."""
    if done < warmup_fraction:
        return lr
    return lr * 0.5 * (1 + math.cos(math.pi * (done - warmup_fraction) / max(1e-9, 1 - warmup_fraction)))


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """[release] Parameter groups without weight decay on norms, biases and scalars."""
    named = list(module.named_parameters())
    matrices = [p for _, p in named if p.ndim >= 2]
    vectors = [p for _, p in named if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def clear_gradients(optimizer: torch.optim.Optimizer) -> None:
    """`optimizer.zero_grad()` without its profiler hooks, which take a small network longer than its gradients do."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def stale_state(optimizer: torch.optim.Optimizer, weight: nn.Parameter, policy: str, gate: float) -> None:
    """What happens to the optimizer state of an overwritten weight.

    keep: nothing. reset: deleted, as if the weight were new. scale: first moments times (1 - gate) [ours].
    """
    if policy == "reset":
        optimizer.state.pop(weight, None)
    elif policy == "scale":
        for key in ("momentum_buffer", "exp_avg"):
            moment = optimizer.state.get(weight, {}).get(key)
            if moment is not None:
                moment.mul_(1 - gate)
