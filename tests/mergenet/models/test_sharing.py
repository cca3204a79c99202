"""Networks whose parts share tensors, in all ways of sharing: what is trained is what is evaluated and exported."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mergenet.config import Config
from mergenet.config.spec import Spec
from mergenet.errors import ConfigError
from mergenet.export import codegen
from mergenet.export.evaluate import evaluate_run
from mergenet.export.formats import export_run
from mergenet.export.target import load_target
from mergenet.learner.learner import Learner
from mergenet.models import MODELS, Architecture
from mergenet.models.sharing import kept_shared, same_tensors, sharing
from mergenet.records.checkpoint import load_tensors
from mergenet.records.run_record import read_result
from mergenet.training.run import train_run
from mergenet.training.trainer import Trainer
from tests.mergenet.runs import assert_same_run, finish
from tests.tiny import PIXELS, set_up, tiny_config


class Shared(nn.Module):
    """Layers a, b, c and fc; `share` makes parts of b and c one."""

    def __init__(self, spec: Spec, share: Callable[["Shared"], None]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(PIXELS, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.norm, self.again = nn.BatchNorm1d(12), nn.BatchNorm1d(12)
        self.fc = nn.Linear(12, spec.num_outputs)
        share(self)

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.b(torch.relu(self.a(images.flatten(1)))).relu())
        return self.fc(self.again(self.c(x).relu()))


def parameter(network: Shared) -> None:
    network.c.weight = network.b.weight


def module(network: Shared) -> None:
    network.c = network.b


def memory(network: Shared) -> None:
    network.c.weight = nn.Parameter(network.b.weight.data)


def part(network: Shared) -> None:
    whole = torch.randn(216) / 4
    network.b.weight, network.c.weight = (nn.Parameter(whole[start : start + 144].view(12, 12)) for start in (0, 72))


def buffer(network: Shared) -> None:
    network.again = network.norm


def buffer_alone(network: Shared) -> None:
    network.again.running_mean = network.norm.running_mean


def weight_as_buffer(network: Shared) -> None:
    network.register_buffer("kept", network.b.weight.data)


WAYS = {way.__name__: way for way in (parameter, module, memory, part, buffer, buffer_alone, weight_as_buffer)}
REFUSED = {"parameter": "c.weight", "memory": "c.weight", "part": "c.weight", "weight_as_buffer": "kept"}


@pytest.fixture(autouse=True)
def networks() -> Iterator[None]:
    with set_up():
        for name, share in WAYS.items():
            MODELS[f"shared_{name}"] = Architecture(lambda _, spec, share=share: Shared(spec, share))
        yield


def config(way: str, changes: dict[str, Any] | None = None) -> Config:
    pairs = [{"source": "3", "target": "b", "align": "none"}]
    return tiny_config({"target.model.name": f"shared_{way}", "transfer.pairs": pairs, **(changes or {})})


ENCODED = {
    "projected": {},
    "whole": {"transfer.adapter": {"kind": "full_matrix"}},
    "factorized": {"transfer.adapter.encoding": "factorized"},
    "none": {"method": "none"},
}


@pytest.mark.parametrize("changes", ENCODED.values(), ids=ENCODED)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_trained_is_what_is_evaluated_and_exported(way: str, changes: dict[str, Any], tmp_path: Path) -> None:
    run = config(way, changes)
    if way in REFUSED and "transfer.adapter.encoding" in changes:
        message = rf"got 'factorized' and transfer\.pairs\.0\.target b, whose weight is also {REFUSED[way]}: factors"
        with pytest.raises(ConfigError, match=message):
            Trainer(run)
        return
    folder = finish(run, tmp_path / "run")
    assert same_tensors(load_target(folder).network) == same_tensors(Trainer(config(way)).target.network)
    recorded = read_result(folder)
    for name, value in evaluate_run(folder, "test").items():
        assert value == pytest.approx(recorded[f"target_test_{name}"], rel=1e-6)
    images = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        expected = load_target(folder).network(images)
        weights, code = export_run(folder, "safetensors")
        loaded = codegen.run(code.read_text(), code)["load"]()
        torch.testing.assert_close(loaded(images), expected)
        if run.method == "none":  # what this format makes of sharing does not depend on how it was trained
            (program,) = export_run(folder, "torch-export")
            torch.testing.assert_close(torch.export.load(program).module()(images), expected)
    assert load_tensors(weights)[0].keys() == loaded.state_dict().keys()
    if way != "part":  # two weights that overlap have no expression in torch.nn
        assert {frozenset(names) for names in same_tensors(loaded)} == {
            frozenset(names) for names in same_tensors(load_target(folder).network)
        }


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_stopped_goes_on_with_the_same_bits(way: str, tmp_path: Path) -> None:
    whole = finish(config(way), tmp_path / "whole")
    epochs = train_run(config(way), tmp_path / "stopped")
    next(epochs)
    epochs.close()
    assert_same_run(finish(config(way), tmp_path / "stopped"), whole)


@pytest.mark.parametrize("way", ["parameter", "module"])
def test_one_weight_is_not_written_by_two_pairs(way: str) -> None:
    pairs = [{"source": "3", "target": name, "align": "none"} for name in ("b", "c")]
    message = (
        r"transfer\.pairs\.1\.target must be written by one pair only, got 'c', whose weight is that of 'b', which"
    )
    with pytest.raises(ConfigError, match=message):
        Trainer(config(way, {"transfer.pairs": pairs}))


@pytest.mark.parametrize("way", ["parameter", "module"])
def test_a_layer_gives_nothing_to_itself_under_another_name(way: str) -> None:
    pairs = [{"source": "b", "target": "c", "align": "none"}]
    changes = {"source.kind": "self", "source.model.name": f"shared_{way}", "transfer.pairs": pairs}
    with pytest.raises(ConfigError, match=r"pairs\.0\.source must differ from the pair's target .* that of 'c'"):
        Trainer(config(way, changes))


def test_a_module_takes_part_under_each_of_its_names() -> None:
    pairs = [{"source": "3", "target": "c", "align": "none"}]
    (link,) = Trainer(config("module", {"transfer.pairs": pairs})).transfer.links
    assert link.receiver.weight_parameter is link.learner.network.b.weight


class Kernels(nn.Module):
    """Four-dimensional tensors, which are copied when the memory format changes."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.two.weight = nn.Parameter(self.one.weight.data)
        self.register_buffer("kept", torch.zeros(2, 3, 4, 4))
        self.register_buffer("again", self.kept)


def test_what_is_one_tensor_stays_one_when_the_network_is_moved() -> None:
    network = Kernels()
    wanted = [["one.weight", "two.weight"], ["kept", "again"]]
    assert same_tensors(network) == wanted
    with kept_shared(network):
        network.to(memory_format=torch.channels_last)
    assert same_tensors(network) == wanted
    assert network.one.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_learner_keeps_what_is_shared() -> None:
    MODELS["kernels"] = Architecture(lambda *_: Kernels())
    run = tiny_config({"target.model.name": "kernels", "method": "none"})
    learner = Learner("target", run.target, run, torch.device("cpu"))
    assert len(same_tensors(learner.network)) == 2


def test_names_of_tensors_that_overlap() -> None:
    network = Shared(Spec("image", "classes", 3, image_size=8), part)
    assert same_tensors(network) == []
    assert sharing(network, "b.weight") == ["c.weight"]
    assert sharing(network, "a.weight") == []
