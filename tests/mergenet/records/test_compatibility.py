"""What version 0.1.0 wrote: its configurations keep their meaning and their hash, its runs go on as they began.

The literals are what version 0.1.0 gave; another processor may round its last digits otherwise.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from mergenet.config import Config
from mergenet.config.loading import dump_yaml, load_config, parse_config
from mergenet.config.yaml12 import dump_yaml_values
from mergenet.records.run_record import config_hash
from mergenet.records.sealed import read_record, write_record
from mergenet.training.run import train_run
from mergenet.training.trainer import Trainer
from mergenet.transfer.adapter import ALL_PAIRINGS
from mergenet.transfer.pairs import resolve_pairs
from tests.tiny import equal, snapshot, tiny_config

pytestmark = pytest.mark.usefixtures("tiny")

MORE: dict[str, Any] = {
    "transfer.pairs": [{"source": "1", "target": "3"}, {"source": "3", "target": "9", "direction": "both"}],
    "transfer.adapter.rank": 2,
}
LAST = {  # of the second and last epoch of tiny_config(), live source
    "target_train_loss": 2.3042498997279575,
    "target_val_loss": 2.322197930265782,
    "source_train_loss": 2.298252378191267,
    "source_val_loss": 2.276964956692182,
    "num_transfers": 7.0,
    "source_dependence": 0.20512603223323822,
    "adapter_loss": 1.58013443941248e-05,
    "adapter_parameters": 4712.0,
}


def old(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """What version 0.1.0 wrote as a run's config.yaml: all of its settings, and none that came later."""
    values = tiny_config(changes).model_dump(mode="json")
    transfer = values["transfer"]
    del transfer["align"]
    for key in ("source_basis", "start", "init"):
        del transfer["adapter"][key]
    for pair in transfer["pairs"] if isinstance(transfer["pairs"], list) else ():
        del pair["align"]
    transfer["adapter"]["pairings"] = list(ALL_PAIRINGS)
    return values


def read(changes: dict[str, Any] | None = None) -> Config:
    return parse_config(old(changes), "config.yaml")


def test_rows_are_taken_as_they_come_and_bases_are_those_of_the_start() -> None:
    config = read()
    assert (config.transfer.align, config.transfer.adapter.source_basis) == ("none", "start")
    assert (config.transfer.adapter.start, config.transfer.adapter.init) == ("random", None)
    assert parse_config(config.model_dump(mode="json"), "what is written today") == config


@pytest.mark.parametrize(("changes", "expected"), [({}, "39c4e3416ae5"), (MORE, "27653164ab12")])
def test_the_hash_is_the_one_that_it_had(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    assert config_hash(read(changes)) == expected
    (tmp_path / "config.yaml").write_text(dump_yaml_values(old(changes)))
    config = load_config(str(tmp_path / "config.yaml"))
    assert config_hash(config) == expected
    (tmp_path / "again.yaml").write_text(dump_yaml(config))
    assert config_hash(load_config(str(tmp_path / "again.yaml"))) == expected
    assert config_hash(tiny_config(changes)) != expected, "today's defaults are others"


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ("transfer.align=outputs", ("outputs", "start")),
        ("transfer.adapter.source_basis=current", ("none", "current")),
        ("transfer.adapter.start=identity", ("none", "start")),
        ("transfer.adapter.rank=2", ("none", "start")),
    ],
)
def test_a_setting_of_today_changes_itself_alone(setting: str, found: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(dump_yaml_values(old()))
    transfer = load_config(str(tmp_path / "config.yaml"), [setting]).transfer
    assert (transfer.align, transfer.adapter.source_basis) == found


def test_what_was_not_written_in_full_is_a_users_who_gets_the_defaults_of_today() -> None:
    few = {"transfer": {"pairs": [{"source": "3", "target": "9"}], "adapter": {"rank": 2}}}
    assert parse_config(few, "a file").transfer.align == "auto"
    assert parse_config(few, "a file").transfer.adapter.source_basis == "current"
    assert parse_config(tiny_config().model_dump(mode="json"), "a file") == tiny_config()


def test_auto_stands_for_the_layers_that_it_stood_for() -> None:
    networks = {"source.model.name": "resnet_small", "target.model.name": "mobilenetv2_small"}
    [pair] = resolve_pairs(read({**networks, "transfer.pairs": "auto"})).transfer.written_pairs
    assert (pair.source, pair.target, pair.align) == ("layer3.0.conv2", "features.5.conv.2", "none")


def test_a_run_ends_as_it_did() -> None:
    trainer = Trainer(read())
    metrics = list(trainer.epochs())[-1].metrics
    assert {name: metrics[name] for name in LAST} == pytest.approx(LAST, rel=1e-4)
    assert trainer.test()["target_test_loss"] == pytest.approx(2.3122159698582836, rel=1e-4)
    other = list(Trainer(tiny_config()).epochs())[-1].metrics
    assert other["source_dependence"] != pytest.approx(LAST["source_dependence"], rel=1e-3), "of today's defaults"


def test_a_checkpoint_of_then_is_gone_on_with() -> None:
    """A giver's state was that of its encoding alone."""
    whole, stopped, resumed = (Trainer(read(MORE)) for _ in range(3))
    list(whole.epochs())
    next(stopped.epochs())
    state = snapshot(stopped.state_dict())
    for link in state["transfer"].values():
        assert link["giver"].keys() == {"encoding", "shares"}
        link["giver"] = link["giver"]["encoding"]
        assert link["giver"].keys() == {"basis"}
    resumed.load_state_dict(state)
    list(resumed.epochs())
    assert equal(snapshot(resumed.state_dict()), snapshot(whole.state_dict()))
    assert all(
        torch.equal(*pair) for pair in zip(*(t.target.network.parameters() for t in (whole, resumed)), strict=True)
    )


def test_a_run_without_transfer_of_then_is_gone_on_with(tmp_path: Path) -> None:
    """Its provenance lists the pairs that it does not use, without an alignment."""
    config = read({"method": "none"})
    run = train_run(config, tmp_path)
    next(run)
    run.close()
    origin = read_record(tmp_path / "provenance.json")
    for pair in origin["pairs"]:
        del pair["align"]
    write_record(tmp_path / "provenance.json", origin)
    assert len(list(train_run(config, tmp_path))) == config.epochs
