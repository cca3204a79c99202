"""Networks of users: what trains in plain torch trains here, or one line before the first epoch says why not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from mergenet.cli.layers_table import survey
from mergenet.config import Config
from mergenet.errors import ConfigError
from mergenet.export import codegen
from mergenet.export.evaluate import evaluate_run
from mergenet.export.formats import export_run
from mergenet.learner import distributed
from mergenet.learner.learner import Learner
from mergenet.training.run import train_run
from mergenet.training.trainer import Trainer
from tests.mergenet.runs import assert_same_run, finish
from tests.tiny import equal, set_up, tiny_config


@pytest.fixture(autouse=True)
def networks() -> Iterator[None]:
    with set_up():
        yield


def config(name: str, role: str = "target", **changes: object) -> Config:
    return tiny_config({"method": "none", f"{role}.model.name": f"tests.own_networks:{name}", **changes})


def learner(name: str) -> Learner:
    run = config(name)
    return Learner("target", run.target, run, torch.device("cpu"))


@pytest.mark.parametrize("name", ["viewing_always", "viewing_early", "viewing_training", "striding"])
def test_what_channels_last_breaks_trains_without_it(name: str) -> None:
    one = learner(name)
    assert one.network.conv.weight.is_contiguous()
    one.backward()
    images = one.task.batch("val", torch.arange(5), one.device)["images"]
    assert not images.is_contiguous()
    one.network.eval()
    with torch.no_grad():
        assert one.network(images).equal(one.network(images.contiguous()))


def test_what_takes_channels_last_has_it_and_its_state_is_untouched() -> None:
    run = tiny_config({"method": "none", "target.model.name": "tiny_cnn"})
    plain = Learner("target", run.target, run, torch.device("cpu"))
    own = learner("complex64")
    assert own.layout is plain.layout is None
    assert own.network.passes == 0
    torch.manual_seed(0)
    before = torch.get_rng_state()
    learner("mlp")
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    "name", ["viewing_always", "complex64", "complex128_made_anew", "counting_tensor", "lazy", "sharing_constant"]
)
def test_networks_of_users_train_stop_go_on_evaluate_and_export(name: str, tmp_path: Path) -> None:
    whole = finish(config(name), tmp_path / "whole")
    epochs = train_run(config(name), tmp_path / "stopped")
    next(epochs)
    epochs.close()
    assert_same_run(finish(config(name), tmp_path / "stopped"), whole)
    evaluate_run(whole, "test")
    if name == "counting_tensor":  # code of torch.nn alone has no extra state
        with pytest.warns(UserWarning, match="has the weights alone"):
            export_run(whole, "safetensors")
    else:
        _, code = export_run(whole, "safetensors")
        state = codegen.run(code.read_text(), code)["load"]().state_dict()
        assert "passes" not in state or state["passes"] > 0
        assert equal(state.get("kept", 0), state.get("kept", 0))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("counting", r"keeps _extra_state as a dict \(get_extra_state\), .*; keep it in buffers \(register_buffer\)"),
        ("complex128", r"kept of the network is of torch\.complex128, which .*; take another type \(complex64 for"),
        ("sparse", r"kept of the network is sparse_coo, which files of tensors do not hold; make it dense"),
        ("lazy_unused", r"the forward pass does not use spare\.weight, which is lazy and so has no shape"),
        (
            "failing",
            r"the network fails in a first step on the data: RuntimeError: mat1 .*own_networks\.py:\d+\)",
        ),
        ("exiting", r"the network fails in a first step on the data: SystemExit: 0 \(.*own_networks\.py:\d+\)"),
        ("exits", r"tests\.own_networks:exits must work, got SystemExit: 0 \(.*own_networks\.py:\d+\)"),
        ("unfinite", r"outputs must be finite on the first batch, got NaN or infinite numbers in logits; look at its "),
        ("without_parameters", r"must make a network that learns, got one with no parameter that does \(requires_"),
        ("frozen", r"must make a network that learns, got one with no parameter that does \(requires_grad\)$"),
    ],
)
def test_what_cannot_train_is_said_in_one_line_before_anything_is_written(
    name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"^target\.model\.name: .*{message}") as error:
        next(train_run(config(name), tmp_path / "run"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "shared"), [("the_same", r"a\.weight"), ("sharing_statistics", r"1\.running_mean")])
def test_a_network_that_is_not_new_at_each_call_is_refused_each_time(name: str, shared: str) -> None:
    told = (
        rf"^target\.model\.name: tests\.own_networks:{name} must make a new network at each call, got one that shares "
    )
    for _ in range(2):
        with pytest.raises(ConfigError, match=rf"{told}{shared} with the one before"):
            learner(name)


def single(name: str, size: int, **changes: object) -> str:
    """What is said of a target that takes one example a step."""
    data = {"target.model.name": name, "target.data.image_size": size}
    run = tiny_config({"method": "none"} | data | changes)
    with pytest.raises(ConfigError) as error:
        Learner("target", run.target, run, torch.device("cpu"))
    return str(error.value)


@pytest.mark.parametrize("changes", [{"target.batch_size": 1}, {"target.data.train_fraction": 1e-4}])
@pytest.mark.parametrize(("name", "size"), [("tests.own_networks:normed", 8), ("mobilenetv2_small", 8)])
def test_batch_normalisation_of_single_values_is_refused(name: str, size: int, changes: dict[str, object]) -> None:
    said = single(name, size, **changes)
    assert said.startswith("target.batch_size must leave at least 2 training examples for each step of a worker, got 1")
    assert "\n" not in said


def test_one_example_a_step_is_enough_where_normalisation_sees_several_values() -> None:
    changes = {"target.batch_size": 1, "target.data.image_size": 16, "target.model.name": "mobilenetv2_small"}
    run = tiny_config({"method": "none"} | changes)
    Learner("target", run.target, run, torch.device("cpu")).backward()


def test_layers_say_what_train_says_of_a_network_that_fails() -> None:
    with pytest.raises(ConfigError, match=r"^model\.name: the network fails in a first step on the data: RuntimeError"):
        survey(config("failing").target)


def test_a_frozen_source_may_be_the_same_at_each_call() -> None:
    run = config("the_same", "source", **{"source.kind": "frozen", "method": "mergenet"})
    ones = [Learner("source", run.source, run, torch.device("cpu")).network for _ in range(2)]
    assert ones[0] is ones[1]


def test_state_of_a_frozen_source_is_not_written_and_may_be_anything() -> None:
    run = config("counting", "source", **{"source.kind": "frozen", "method": "mergenet"})
    assert Learner("source", run.source, run, torch.device("cpu")).network.count == 3


@pytest.mark.parametrize("name", ["lower_half", "upper_half", "experts"])
@pytest.mark.parametrize("encoding", ["projected", "factorized"])
def test_a_layer_that_some_steps_leave_out_receives(name: str, encoding: str) -> None:
    changes = {"method": "mergenet", "transfer.pairs": [{"source": "3", "target": "b"}]}
    trainer = Trainer(config(name, **changes, **{"transfer.adapter.encoding": encoding}))
    assert trainer.target.idle == frozenset()
    assert [link.name for link in trainer.transfer.links] == ["pair0/to_target"]


def test_several_workers_are_told_of_what_the_first_step_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {}

    def wrap(network: nn.Module, _: torch.device, unused: bool) -> nn.Module:
        told[name] = unused
        return network

    monkeypatch.setattr(distributed, "wrap", wrap)
    for name in ("lower_half", "upper_half", "mlp", "unused"):
        learner(name)
    assert told.pop("lower_half") != told.pop("upper_half"), "one of them leaves b out of the first step"
    assert told == {"mlp": False, "unused": True}
