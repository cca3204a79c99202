"""Layers whose weight is computed from others can give, and are not offered as what receives."""

from collections.abc import Iterator

import pytest

from mergenet.cli.layers_table import survey
from mergenet.config import Config
from mergenet.errors import ConfigError
from mergenet.layers.candidates import both_candidates
from mergenet.layers.matrices import LayerError
from mergenet.training.trainer import Trainer
from mergenet.transfer.pairs import write_pairs
from tests.own_networks import WAYS
from tests.tiny import set_up, tiny_config


@pytest.fixture(autouse=True)
def networks() -> Iterator[None]:
    with set_up():
        yield


def config(way: str, role: str, **changes: object) -> Config:
    changes = {f"{role}.model.name": f"tests.own_networks:{way}", "transfer.align": "none"} | changes
    other = "target" if role == "source" else "source"
    changes |= {f"{other}.model.name": "tests.own_networks:mlp"}
    return tiny_config({"transfer.pairs": [{"source": "b", "target": "b"}], **changes})


@pytest.mark.parametrize("way", WAYS)
def test_they_do_not_receive(way: str) -> None:
    must = r"must be a layer whose weight is trained itself, got 'b', whose weight is computed from .*weight.* at each"
    message = rf"^transfer\.pairs\.0\.target {must} pass, .*; take a or fc, or let it only give$"
    for encoding in ("projected", "factorized"):
        with pytest.raises(LayerError, match=message):
            Trainer(config(way, "target", **{"transfer.adapter.encoding": encoding}))
    pairs = [{"source": "b", "target": "b", "direction": "both"}]
    with pytest.raises(LayerError, match=r"^transfer\.pairs\.0\.source must be a layer whose weight is trained itself"):
        Trainer(config(way, "source", **{"transfer.pairs": pairs}))


@pytest.mark.parametrize("way", WAYS)
def test_they_give(way: str) -> None:
    trainer = Trainer(config(way, "source", epochs=1))
    (result,) = trainer.epochs()
    assert result.metrics["num_transfers"] == 4


@pytest.mark.parametrize("way", ["weight_norm", "old_weight_norm"])
def test_they_are_not_listed_nor_chosen_as_targets(way: str) -> None:
    target = config(way, "target", **{"transfer.pairs": [{"source": "b", "target": "*"}]})
    listed = survey(target.target, receives=True)
    assert [layer["name"] for layer in listed["layers"]] == ["a", "fc"]
    assert list(listed["gives_only"]) == ["b"]
    assert [layer["name"] for layer in survey(target.target)["layers"]] == ["a", "b", "fc"]
    assert [layer.name for layer in both_candidates(target)[1]] == ["a", "fc"]
    assert [pair.target for pair in write_pairs(target).transfer.written_pairs] == ["a", "fc"]
    source = config(way, "source", **{"transfer.pairs": [{"source": "*", "target": "b", "direction": "to_source"}]})
    assert [layer.name for layer in both_candidates(source)[0]] == ["a", "b", "fc"]


@pytest.mark.parametrize("encoding", ["projected", "factorized"])
@pytest.mark.parametrize("way", ["unused", "detached"])
def test_a_layer_that_gets_no_gradient_does_not_receive(way: str, encoding: str) -> None:
    message = r"^transfer\.pairs\.0\.target must be a layer that learns, got 'b', whose weight gets no gradient in "
    message += r"any of 8 steps: the forward pass does not use it, or it is frozen or detached; name another layer$"
    with pytest.raises(ConfigError, match=message):
        Trainer(config(way, "target", **{"transfer.adapter.encoding": encoding}))
    said = r"^transfer\.pairs\.0\.source: the weight of b gets no gradient in any of 8 steps, so that it gives what it "
    with pytest.warns(UserWarning, match=said):
        Trainer(config(way, "source", **{"transfer.adapter.encoding": encoding}))


def test_a_layer_that_learns_or_a_frozen_source_gives_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    Trainer(config("mlp", "source"))
    Trainer(config("unused", "source", **{"source.kind": "frozen"}))
    assert not [warning for warning in recwarn if "gets no gradient" in str(warning.message)]
