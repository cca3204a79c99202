"""The training loop: determinism, going on from a state, the columns that it reports, the best epoch."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mergenet import tasks
from mergenet.config import NetworkConfig
from mergenet.errors import TrainingDiverged
from mergenet.learner.learner import Learner
from mergenet.training.trainer import Trainer, train
from tests.tiny import copies, equal, same, snapshot, tiny_config, without_times

pytestmark = pytest.mark.usefixtures("tiny")

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "none": {"method": "none", "transfer.pairs": []},
    # 7 steps an epoch: a transfer at step 4 is open when the epoch ends
    "open cycle": {"transfer.update.horizon": "cycle", "transfer.t_cycle": 4},
    "open cycle, learned gate": {
        "transfer.update": {"horizon": "cycle", "lr": 0.05, "normalize": True},
        "transfer.adapter": {"rank": 4, "learned_gate": True, "dropout": 0.4, "depth": 2},
        "transfer.t_cycle": 4,
    },
    "gradient": {"transfer.update.rule": "gradient"},
    "noise": {"transfer.control": "noise"},
    "shuffled": {"transfer.control": "shuffled"},
    "no source": {"transfer.control": "none"},
    "dropout": {"transfer.adapter.dropout": 0.5, "transfer.adapter.depth": 2},
    "factorized": {"transfer.adapter.encoding": "factorized"},
    "full matrix": {"transfer.adapter.kind": "full_matrix"},
    "both": {"transfer.pairs": [{"source": "3", "target": "9", "direction": "both"}, {"source": "1", "target": "3"}]},
    "self": {"source.kind": "self", "transfer.pairs": [{"source": "3", "target": "9"}]},
    "frozen": {"source.kind": "frozen"},
    "adamw, reset": {
        "target.optimizer.name": "adamw",
        "target.optimizer.lr": 0.01,
        "transfer.optimizer_state": "reset",
    },
    "scale": {"transfer.optimizer_state": "scale", "transfer.adapter.learned_gate": True},
    "bf16": {"amp": "bf16"},
    "fp16": {"amp": "fp16", "target.optimizer.lr": 0.01},
    "kd": {"method": "kd", "source.model.name": "tiny_cnn"},
    "dkd, fp16": {"method": "dkd", "amp": "fp16", "target.optimizer.lr": 0.01},
    "rkd, frozen": {"method": "rkd", "source.kind": "frozen", "source.model.name": "tiny_cnn"},
    "recalibrated": {"transfer.stop_fraction": 0.5, "transfer.recalibrate_batches": 2},
}


def finished(trainer: Trainer) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Metrics of the epochs that were left, and everything that the trainer holds after them."""
    return [without_times(result.metrics) for result in trainer.epochs()], snapshot(trainer.state_dict())


@pytest.mark.parametrize("name", VARIANTS)
def test_two_runs_are_bitwise_equal_and_so_is_one_that_was_interrupted(name: str) -> None:
    config = tiny_config({"epochs": 3, **VARIANTS[name]})
    rows, state = finished(Trainer(config))
    rows_again, state_again = finished(Trainer(config))
    assert rows == rows_again
    assert equal(state, state_again)
    for stop in (1, 2):
        first = Trainer(config)
        epochs = first.epochs()
        before = [without_times(next(epochs).metrics) for _ in range(stop)]
        second = Trainer(config)
        second.load_state_dict(snapshot(first.state_dict()))
        after, state_after = finished(second)
        assert before + after == rows
        assert equal(state_after, state), f"stopped after epoch {stop}"
        assert second.test() == Trainer.test(restored(config, state))


def restored(config: Any, state: dict[str, Any]) -> Trainer:
    trainer = Trainer(config)
    trainer.load_state_dict(state)
    return trainer


def test_an_open_transfer_is_in_the_state() -> None:
    trainer = Trainer(tiny_config(VARIANTS["open cycle"]))
    next(trainer.epochs())
    (link,) = trainer.transfer.links
    assert link.open is not None, "or else the test above does not show that it survives"
    assert snapshot(trainer.state_dict())["transfer"]["pair0/to_target"]["open"]["step"] == 4


def test_other_seeds_give_other_runs() -> None:
    rows = [finished(Trainer(tiny_config({"seed": seed})))[0] for seed in range(3)]
    assert rows[0] != rows[1] != rows[2] != rows[0]


TARGET = {"target_train_loss", "target_val_loss", "target_val_top1", "target_val_top5", "target_lr"}
SOURCE = {"source_train_loss", "source_val_loss", "source_val_top1", "source_val_top5"}
TIMES = {f"seconds_{phase}" for phase in ("transfer", "source", "target", "adapter", "evaluate")}
TRANSFER = {"num_transfers", "source_dependence", "source_share", "gate", "adapter_loss", "adapter_parameters"}
CHANGE = {"source_change_share"}  # of a source that learns


@pytest.mark.parametrize(
    ("changes", "columns"),
    [
        ({}, TARGET | SOURCE | TIMES | TRANSFER | CHANGE),
        ({"transfer.align": "outputs"}, TARGET | SOURCE | TIMES | TRANSFER | CHANGE | {"align_r2"}),
        ({"source.kind": "frozen"}, TARGET | TIMES | TRANSFER),
        ({"transfer.update.rule": "gradient"}, TARGET | SOURCE | TIMES | CHANGE | TRANSFER - {"adapter_loss"}),
        ({"method": "none"}, TARGET | TIMES),
        ({"method": "kd"}, TARGET | SOURCE | TIMES | {"distillation_loss"}),
        ({"method": "rkd", "source.kind": "frozen"}, TARGET | TIMES | {"distillation_loss"}),
    ],
)
def test_an_epoch_reports_these_columns(changes: dict[str, Any], columns: set[str]) -> None:
    results = list(train(tiny_config(changes)))
    assert [(r.epoch, r.step) for r in results] == [(1, 7), (2, 14)]
    for result in results:
        assert result.metrics.keys() == columns
        assert result.row() == {"epoch": result.epoch, "step": result.step, **result.metrics}
        assert all(type(value) is float for value in result.metrics.values())
        assert all(result.metrics[name] >= 0 for name in TIMES)
        assert result.metrics["seconds_target"] > 0


def test_adapter_parameters_are_counted() -> None:
    trainer = Trainer(tiny_config({"transfer.pairs": [{"source": "3", "target": "9", "direction": "both"}]}))
    result = next(trainer.epochs())
    count = sum(p.numel() for link in trainer.transfer.links for p in link.adapter.parameters())
    assert result.metrics["adapter_parameters"] == count > 1000


def test_the_source_takes_as_many_steps_as_the_target_whatever_its_data() -> None:
    trainer = Trainer(tiny_config({"source.batch_size": 50, "transfer.t_cycle": 3}))
    source = trainer.learners[1]
    count = [0]
    update = source.update
    source.update = lambda: (count.__setitem__(0, count[0] + 1), update())[1]
    list(trainer.epochs())
    assert count == [14]


def test_a_source_that_receives_is_tested_at_its_own_best_epoch() -> None:
    trainer = Trainer(tiny_config({"transfer.pairs": [{"source": "3", "target": "9", "direction": "both"}]}))
    results = list(trainer.epochs())
    values = trainer.test()
    for role in ("target", "source"):
        column = f"{role}_val_top1"
        best = max(results, key=lambda result: result.metrics[column])
        assert trainer.bests[role].epoch == best.epoch
        assert trainer.bests[role].value == best.metrics[column]
        assert f"{role}_test_top1" in values
    one_way = Trainer(tiny_config())
    list(one_way.epochs())
    assert one_way.bests.keys() == {"target"}
    assert not [name for name in one_way.test() if name.startswith("source")]


def test_both_networks_follow_their_own_schedules() -> None:
    changes = {"source.optimizer.schedule": "constant", "source.optimizer.lr": 0.03}
    trainer = Trainer(tiny_config(changes))
    list(trainer.epochs())
    rates = [learner.optimizer.param_groups[0]["lr"] for learner in trainer.learners]
    assert rates[0] < 0.001, "cosine, nearly at its end"
    assert rates[1] == 0.03


def test_of_equally_good_epochs_the_first_is_the_best() -> None:
    trainer = Trainer(
        tiny_config({"target.optimizer.lr": 1e-9, "epochs": 3, "method": "none", "target.model.name": "tiny_mlp"})
    )
    scores = [result.metrics[trainer.target.metric] for result in trainer.epochs()]
    assert len(set(scores)) == 1
    assert trainer.best is not None
    assert trainer.best.epoch == 1


def scoring(monkeypatch: pytest.MonkeyPatch, values: Sequence[float]) -> None:
    """Networks whose selecting metric has these values, epoch by epoch."""
    measured, told = Learner.results, iter(values)
    monkeypatch.setattr(Learner, "results", lambda self: measured(self) | {self.metric: next(told)})


def test_a_metric_that_is_no_number_is_never_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    scoring(monkeypatch, [math.nan, 0.2, math.nan, 0.1])
    trainer = Trainer(tiny_config({"epochs": 4, "method": "none"}))
    list(trainer.epochs())
    assert trainer.best is not None
    assert (trainer.best.epoch, trainer.best.value) == (2, 0.2)
    state = trainer.state_dict()
    state["bests"]["target"]["value"] = math.nan  # as earlier versions kept it
    trainer.load_state_dict(state)
    assert trainer.best is None


def test_without_a_number_in_any_epoch_nothing_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    scoring(monkeypatch, [math.nan] * 2)
    trainer = Trainer(tiny_config({"epochs": 2, "method": "none"}))
    list(trainer.epochs())
    with pytest.raises(TrainingDiverged, match="target_val_top1 must be a finite number after some epoch, got none in"):
        trainer.test()


def test_the_best_weights_are_a_copy_and_the_test_leaves_them_in_the_target() -> None:
    trainer = Trainer(
        tiny_config(
            {
                "epochs": 4,
                "target.optimizer.lr": 0.2,
                "target.model.name": "tiny_mlp",
                "transfer.pairs": [{"source": "3", "target": "3"}],
                "seed": 3,
            }
        )
    )
    states = [copies(trainer.target.network.state_dict()) for _ in trainer.epochs()]
    assert trainer.best is not None
    best = trainer.best.epoch
    assert best < 4, "the best epoch must not be the last here, or a copy could not be told from the network"
    assert same(trainer.best.network, states[best - 1])
    metrics = trainer.test()
    assert metrics.keys() == {"target_test_loss", "target_test_top1", "target_test_top5"}
    assert same(dict(trainer.target.network.state_dict()), states[best - 1])


def test_losses_fall_when_there_is_something_to_learn() -> None:
    changes = {
        "epochs": 12,
        "target.data.train_fraction": 0.3,
        "target.model.name": "tiny_mlp",
        "transfer.pairs": [{"source": "3", "target": "3"}],
    }
    results = list(train(tiny_config(changes)))
    assert results[-1].metrics["target_train_loss"] < 0.6 * results[0].metrics["target_train_loss"]
    assert results[-1].metrics["target_val_top1"] > 0.5


def test_evaluation_is_in_fp32_under_mixed_precision() -> None:
    trainer = Trainer(tiny_config({"amp": "bf16"}))
    seen = set()
    layer = trainer.target.network.get_submodule("3")
    layer.register_forward_hook(lambda module, _, out: seen.add((module.training, out.dtype)))
    next(trainer.epochs())
    assert seen == {(True, torch.bfloat16), (False, torch.float32)}


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[NetworkConfig]:
    """Networks whose task was built, one for each time, under the name of a task that this process never saw."""
    found: list[NetworkConfig] = []
    plain = tasks.TASKS["image_classification"]

    def counted(config: NetworkConfig) -> tasks.Task:
        found.append(config)
        return plain(config)

    monkeypatch.setitem(tasks.TASKS, "counted", counted)
    return found


@pytest.mark.parametrize("name", ["default", "none", "self", "frozen", "kd", "factorized"])
def test_a_run_builds_the_task_of_each_network_once(name: str, builds: list[NetworkConfig]) -> None:
    """Candidates, alignment, steps and learners ask for it; a task of the user's may read its data each time."""
    trainer = Trainer(tiny_config({**VARIANTS[name], "target.task": "counted", "source.task": "counted"}))
    config = trainer.config
    assert builds == ([config.target] if name in ("none", "self") else [config.target, config.source])
    Trainer(config)
    assert len(builds) == (2 if name in ("none", "self") else 4)  # another run: nothing is kept, data may have changed


def test_tasks_of_networks_that_differ_in_their_data_or_loss_are_not_mixed_up() -> None:
    changes = {"target.data": {"name": "digits", "image_size": 8, "train_fraction": 0.2}, "target.label_smoothing": 0.1}
    trainer = Trainer(tiny_config(changes))
    assert trainer.source is not None and trainer.source.learner is not None
    source, target = trainer.source.learner.task, trainer.target.task
    assert target.size("train") > 2 * source.size("train")
    assert (target.label_smoothing, source.label_smoothing) == (0.1, 0.0)  # type: ignore[attr-defined]
