"""One seed, the same bits: also with a network or a task that draws in evaluation mode."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from mergenet.config import Config
from mergenet.models import MODELS, image_classifier
from mergenet.training.trainer import Trainer
from tests.tiny import PIXELS, equal, snapshot, tiny_config

pytestmark = pytest.mark.usefixtures("tiny")

CASES: dict[str, dict[str, Any]] = {
    "teacher": {"method": "kd"},
    "features": {"method": "rkd"},
    "map of outputs": {"transfer.pairs": [{"source": "b", "target": "9", "align": "outputs"}]},
    "map of inputs": {"transfer.pairs": [{"source": "b", "target": "9", "align": "inputs", "direction": "both"}]},
    "no map": {"transfer.pairs": [{"source": "b", "target": "9", "align": "none"}]},
    "no source": {"method": "none"},
}


class Draws(nn.Module):
    """Dropout without training=self.training, which is True then."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Linear(PIXELS, 16), nn.Linear(16, 12), nn.Linear(12, outputs)

    def forward(self, images: Tensor) -> Tensor:
        x = dropout(torch.relu(self.a(images.flatten(1))), 0.3)
        return self.fc(torch.relu(self.b(x)))


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "draws", image_classifier(lambda outputs, _: Draws(outputs)))


def trained(config: Config, seed: int, state: dict[str, Any] | None = None) -> tuple[list[Any], list[Any]]:
    """The metrics and the states after each epoch. seed: of what else the process draws."""
    torch.manual_seed(seed)
    trainer = Trainer(config)
    if state is not None:
        trainer.load_state_dict(state)
    rows, states = [], []
    for result in trainer.epochs():
        rows.append(result.metrics)
        states.append(snapshot(trainer.state_dict()))
    return rows, states


@pytest.mark.usefixtures("draws")
@pytest.mark.parametrize("case", CASES)
def test_what_else_the_process_draws_does_not_matter(case: str) -> None:
    config = tiny_config({"source.model.name": "draws", "epochs": 3, **CASES[case]})
    rows, states = trained(config, 1)
    assert equal(trained(config, 2), (rows, states))
    assert equal(trained(config, 3, states[0]), (rows[1:], states[1:]))


@pytest.mark.usefixtures("draws")
def test_a_teacher_draws_anew_at_each_step_and_leaves_no_trace() -> None:
    trainer = Trainer(tiny_config({"source.model.name": "draws", "method": "kd"}))
    assert trainer.distiller is not None
    batch, state = trainer.target.next_batch(), torch.get_rng_state()
    first, second, again = (trainer.distiller._ask(batch, step) for step in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_metric_that_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(tiny_config({"method": "none"}))
    monkeypatch.setattr(type(trainer.target.task), "metrics", lambda *_: {"top1": torch.rand(()).item()})
    values = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        values.append(trainer.target.evaluate("val"))
    assert values[0] == values[1]
