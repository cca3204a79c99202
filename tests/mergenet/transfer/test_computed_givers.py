"""A source layer whose weight is computed from others gives what its parameters are at each step."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mergenet.config import Config
from mergenet.training.trainer import Trainer
from mergenet.transfer.source import record_source
from tests import own_networks
from tests.own_networks import WAYS
from tests.tiny import equal, set_up, snapshot, tiny_config, without_times


@pytest.fixture(autouse=True)
def networks() -> Iterator[None]:
    with set_up():
        yield


def config(way: str, **changes: Any) -> Config:
    names = {"source.model.name": f"tests.own_networks:{way}", "target.model.name": "tests.own_networks:mlp"}
    pairs = [{"source": "b", "target": "b"}]
    return tiny_config(names | {"transfer.align": "none", "transfer.pairs": pairs, "epochs": 3} | changes)


def rows(trainer: Trainer) -> list[dict[str, Any]]:
    return [without_times(result.metrics) for result in trainer.epochs()]


@pytest.mark.parametrize("kind", ["lpka", "full_matrix", "linear"])
@pytest.mark.parametrize("way", WAYS)
def test_a_frozen_source_gives_the_weight_of_its_file(way: str, kind: str, tmp_path: Path) -> None:
    network = own_networks.wrapped(SimpleNamespace(num_outputs=10), way)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in network.b.parameters():
            parameter.normal_(0, 3)
    source = str(tmp_path / "source.pt")
    for _ in range(20):
        network.train()(torch.randn(2, 3, 8, 8))
    network.eval()(torch.randn(2, 3, 8, 8))
    torch.save(network.state_dict(), source)
    changes = {"source.kind": "frozen", "source.model.weights": source}
    trainer = Trainer(config(way, **changes, **{"transfer.adapter.kind": kind}))
    rows(trainer)
    (link,) = trainer.transfer.links
    assert link.last is not None
    basis = getattr(link.giver.encoding, "basis", torch.eye(12))
    torch.testing.assert_close(link.last[1], basis.T @ network.b.weight.detach())
    assert torch.linalg.svdvals(link.last[1])[0] > 0.9 * torch.linalg.svdvals(network.b.weight.detach())[0]


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(way: str) -> None:
    changes = {"transfer.t_cycle": 1}  # so that the first step of an epoch transfers
    first, second = (Trainer(config(way, **changes)) for _ in range(2))
    next(first.epochs())
    second.load_state_dict(snapshot(first.state_dict()))
    assert rows(first) == rows(second)
    assert equal(first.state_dict(), second.state_dict())


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_a_recorded_source_is_bitwise_the_live_one(way: str, every: int, tmp_path: Path) -> None:
    live = config(way)
    list(record_source(live, tmp_path, ["b"], every))
    recorded = config(way, **{"source.kind": "recorded", "source.recording": str(tmp_path)})
    assert rows(Trainer(live)) == rows(Trainer(recorded))


@pytest.mark.parametrize("way", WAYS)
def test_how_often_it_is_read_does_not_change_how_the_source_learns(way: str) -> None:
    often, rarely = (rows(Trainer(config(way, **{"transfer.t_cycle": cycle}))) for cycle in (1, 5))
    names = [name for name in often[0] if name.startswith(("source_train", "source_val"))]
    assert len(names) >= 2
    assert [[row[name] for name in names] for row in often] == [[row[name] for name in names] for row in rarely]


@pytest.mark.parametrize("way", WAYS)
def test_building_the_links_leaves_a_network_that_gives_to_itself_as_it_is(way: str) -> None:
    changes = {"source.kind": "self", "target.model.name": f"tests.own_networks:{way}"}
    pairs = [{"source": "b", "target": "a"}]
    linked = Trainer(config(way, **changes, **{"transfer.pairs": pairs}))
    alone = Trainer(config(way, **changes, method="none", **{"transfer.pairs": []}))
    assert linked.transfer.links
    assert equal(linked.target.state_dict()["network"], alone.target.state_dict()["network"])
