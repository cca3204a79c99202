"""Tasks as users write them: what they return wrongly is one line before the first epoch, and numbers become floats."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from mergenet.config import Config
from mergenet.errors import ConfigError
from mergenet.learner import own_task
from mergenet.learner.learner import Learner
from mergenet.tasks.image_classification import ImageClassification
from mergenet.training.run import train_run
from tests.tiny import tiny_config, without_times

pytestmark = pytest.mark.usefixtures("tiny")
Values = dict[str, Any]


class WithoutMetric(ImageClassification):
    metric = "acc"


class More(ImageClassification):
    more: ClassVar[Values] = {}

    def metrics(self, split: str, scores: dict[str, Tensor]) -> Values:
        return super().metrics(split, scores) | self.more


class WithNone(More):
    more: ClassVar[Values] = {"extra": None}


class WithList(More):
    more: ClassVar[Values] = {"each": [0.5, 0.5]}


class WithRows(More):
    more: ClassVar[Values] = {"each": torch.zeros(3)}


class WithText(More):
    more: ClassVar[Values] = {"extra": "0.5"}


class WithNumbers(More):
    more: ClassVar[Values] = {"a": np.float32(0.5), "b": torch.tensor(0.25), "c": 1, "d": np.array([0.125])}


class WithoutDict(ImageClassification):
    def metrics(self, split: str, scores: dict[str, Tensor]) -> Any:  # noqa: ARG002
        return [0.5]


class ScoresLack(ImageClassification):
    """Its metrics need of each example what its scores do not have."""

    metric = "f1"

    def metrics(self, split: str, scores: dict[str, Tensor]) -> dict[str, float]:  # noqa: ARG002
        return {"f1": scores["f1"].mean().item()}


class ScoresOfBatches(ImageClassification):
    def score(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.mean() for name, value in super().score(outputs, batch).items()}


class FloatSize(ImageClassification):
    def size(self, split: str) -> Any:
        return float(super().size(split))


class Precision(ImageClassification):
    """Cannot be computed of a network that predicts nothing right, as it is before it has learned."""

    calls = 0

    def metrics(self, split: str, scores: dict[str, Tensor]) -> dict[str, float]:
        Precision.calls += 1
        return super().metrics(split, scores) | {"precision": 1 / (Precision.calls - 1)}


class Whole(ImageClassification):
    """Compares with the labels of the split, as many metrics do: the rows must be those of its examples."""

    def metrics(self, split: str, scores: dict[str, Tensor]) -> dict[str, float]:
        labels = self._splits[split].labels
        if not torch.equal(scores["labels"], labels):
            raise IndexError("of another example")
        return super().metrics(split, {name: value for name, value in scores.items() if name != "labels"})

    def score(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return super().score(outputs, batch) | {"labels": batch["labels"]}


class RaisesLater(ImageClassification):
    calls = 0

    def metrics(self, split: str, scores: dict[str, Tensor]) -> dict[str, float]:
        RaisesLater.calls += 1
        if RaisesLater.calls > 1:
            raise RuntimeError("disk\ngone")
        return super().metrics(split, scores)


def config(task: type[ImageClassification]) -> Config:
    name = f"{__name__}:{task.__name__}"
    return tiny_config({"method": "none", "target.task": name})


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (WithoutMetric, r"metric of \S+ must be one that metrics\(\) returns \(loss, top1, top5\), got 'acc'$"),
        (WithNone, r"metrics\(\) of \S+ must return numbers by name, got None for 'extra'$"),
        (WithList, r"metrics\(\) of \S+ must return numbers by name, got a list for 'each'$"),
        (WithRows, r"metrics\(\) of \S+ must return numbers by name, got a Tensor of shape \(3,\) for 'each'$"),
        (WithText, r"metrics\(\) of \S+ must return numbers by name, got a str for 'extra'$"),
        (WithoutDict, r"metrics\(\) of \S+ must return a dict of numbers, got a list$"),
        (ScoresLack, r"metrics\(\) of \S+ fails: KeyError: 'f1' \(.*test_own_task\.py:\d+\)$"),
        (ScoresOfBatches, r"score\(\) of \S+ must return tensors with a row for each of \d+ examples, got shape \(\) "),
        (FloatSize, r"size\('train'\) of \S+ must be an int, got 123\.0 \(float\)$"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_written(
    task: type[ImageClassification], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"^target\.task: {message}") as error:
        list(train_run(config(task), tmp_path / "run"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_numbers_of_all_kinds_are_recorded_as_floats(tmp_path: Path) -> None:
    *_, last = train_run(config(WithNumbers), tmp_path / "run")
    found = {name: last.metrics[f"target_val_{name}"] for name in "abcd"}
    assert found == {"a": 0.5, "b": 0.25, "c": 1.0, "d": 0.125}
    assert all(type(value) is float for value in found.values())


def test_metrics_that_an_untrained_network_does_not_have_are_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Precision, "calls", 0)
    run = config(Precision)
    assert Learner("target", run.target, run, torch.device("cpu")).evaluate("val")["precision"] == 1.0


def test_where_rows_of_some_examples_do_not_do_all_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_task, "FEW", 5)
    run = config(Whole)
    Learner("target", run.target, run, torch.device("cpu"))


def test_what_metrics_raise_later_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RaisesLater, "calls", 0)
    run = config(RaisesLater)
    one = Learner("target", run.target, run, torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"^target\.task: metrics\(\) of \S+ fails: RuntimeError: disk \(.*:\d+\)$"):
        one.evaluate("val")


def test_the_trial_leaves_no_trace(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    run = config(More)
    network = Learner("target", run.target, run, torch.device("cpu")).network
    assert all(module.training for module in network.modules())
    assert torch.get_rng_state().equal(before)
    rows = [
        [without_times(result.metrics) for result in train_run(one, tmp_path / str(number))]
        for number, one in enumerate((run, tiny_config({"method": "none"})))
    ]
    assert rows[0] == rows[1]
