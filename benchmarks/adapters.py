"""Adapters by themselves, without a training loop around them: parameters and one forward and backward pass."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mergenet.config import AdapterConfig
from mergenet.layers.matrices import list_layers
from mergenet.training.trainer import Trainer
from mergenet.transfer.adapter import Adapter

RUN_ADAPTER = "lpka, rank 16"


@dataclass(frozen=True)
class AdapterCase:
    """An adapter by itself: its size, and one forward and backward pass on random factors."""

    parameters: int
    run: Callable[[], None]

    @classmethod
    def make(cls, target: tuple[int, int], source: tuple[int, int], config: AdapterConfig) -> "AdapterCase":
        torch.manual_seed(0)
        adapter, a, b = Adapter(target, source, config), torch.randn(target), torch.randn(source)

        def run() -> None:
            adapter.zero_grad(set_to_none=True)
            answer = adapter(a, b)
            answer.backward(torch.ones_like(answer))

        return cls(sum(p.numel() for p in adapter.parameters()), run)


def adapter_cases(trainer: Trainer) -> dict[str, AdapterCase]:
    """The adapter of the run, and the released one on whole matrices: for the same pair and for the classifier."""
    assert trainer.source is not None and trainer.source.trainee is not None
    source = {layer.name: layer.matrix for layer in list_layers(trainer.source.trainee.network)}
    target = {layer.name: layer.matrix for layer in list_layers(trainer.target.network)}
    pair = trainer.config.transfer.written_pairs[0]
    link, whole = trainer.transfer.links[0], AdapterConfig(kind="full_matrix", depth=2)
    shapes = {
        RUN_ADAPTER: (link.receiver.factor_shape, link.giver.shape, link.config.adapter),
        f"full_matrix, {pair.source}": (target[pair.target], source[pair.source], whole),
        "full_matrix, fc": (target[pair.target], source["fc"], whole),
    }
    return {name: AdapterCase.make(*case) for name, case in shapes.items()}
