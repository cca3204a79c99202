"""Links as a run begins: adapters that start where an earlier run's ended, and what is warned of."""

import hashlib
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mergenet.config import Config
from mergenet.errors import ConfigError
from mergenet.records.checkpoint import load_tensors
from mergenet.records.provenance import config_hash, differences, provenance
from mergenet.records.run_record import ADAPTER_FILE
from mergenet.training.run import train_run, warn_of_few_updates
from mergenet.training.trainer import Trainer
from mergenet.transfer.build_links import adapter_tensors
from tests.mergenet.runs import finish
from tests.tiny import same, set_up, tiny_config

pytestmark = pytest.mark.usefixtures("tiny")

TWO: dict[str, Any] = {"transfer.pairs": [{"source": "3", "target": "9", "direction": "both"}], "epochs": 1}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with two adapters."""
    with set_up():
        return finish(tiny_config(TWO), tmp_path_factory.mktemp("earlier") / "run")


def started(init: Path, changes: dict[str, Any] | None = None) -> Trainer:
    return Trainer(tiny_config({**TWO, **(changes or {}), "transfer.adapter.init": str(init)}))


def refused(init: Path, changes: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        started(init, changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- transfer.adapter.init


def test_a_finished_run_leaves_its_adapters(earlier: Path) -> None:
    tensors, _ = load_tensors(earlier / ADAPTER_FILE)
    assert {name.rsplit("/", 1)[0] for name in tensors} == {"pair0/to_target", "pair0/to_source"}
    trainer = Trainer(tiny_config(TWO))
    assert not same(tensors, adapter_tensors(trainer.transfer.links)), "they have learned"
    list(trainer.epochs())
    assert same(tensors, adapter_tensors(trainer.transfer.links))


def test_a_run_that_was_stopped_or_transfers_nothing_leaves_none(tmp_path: Path) -> None:
    running = train_run(tiny_config(), tmp_path / "stopped")
    next(running)
    running.close()
    finish(tiny_config({"method": "none", "epochs": 1}), tmp_path / "none")
    for name in ("stopped", "none"):
        assert not (tmp_path / name / ADAPTER_FILE).exists()


@pytest.mark.parametrize("place", ["", ADAPTER_FILE])
def test_another_run_starts_with_them_bitwise(earlier: Path, place: str) -> None:
    trainer = started(earlier / place, {"seed": 5})
    assert same(load_tensors(earlier / ADAPTER_FILE)[0], adapter_tensors(trainer.transfer.links))
    assert list(trainer.epochs()), "and learns on"
    assert not same(load_tensors(earlier / ADAPTER_FILE)[0], adapter_tensors(trainer.transfer.links))


def test_the_gate_is_this_runs_own(earlier: Path) -> None:
    trainer = started(earlier, {"transfer.adapter.gate": 0.7})
    assert [link.adapter.gate.item() for link in trainer.transfer.links] == [pytest.approx(0.7)] * 2


def test_a_learned_gate_starts_where_it_ended(tmp_path: Path) -> None:
    learned = {"transfer.adapter.learned_gate": True, "transfer.update.lr": 0.05}
    finish(tiny_config({**TWO, **learned}), tmp_path / "run")
    trainer = started(tmp_path / "run", learned)
    gates = [
        load_tensors(tmp_path / "run" / ADAPTER_FILE)[0][f"{link.name}/gate_logit"] for link in trainer.transfer.links
    ]
    assert [link.adapter.gate_logit for link in trainer.transfer.links] == gates
    assert all(gate.sigmoid() != 0.1 for gate in gates)


def test_a_resumed_run_goes_on_with_its_own_adapters(earlier: Path, tmp_path: Path) -> None:
    config = tiny_config({**TWO, "epochs": 3, "transfer.adapter.init": str(earlier)})
    finish(config, tmp_path / "whole")
    for epochs in (1, 2, 3):
        running = train_run(config, tmp_path / "stopped")
        for result in running:
            if result.epoch == epochs < 3:
                break
        running.close()
    assert same(*(load_tensors(tmp_path / name / ADAPTER_FILE)[0] for name in ("whole", "stopped")))


def test_where_there_is_no_adapter(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / "adapter.safetensors"):
        assert refused(path) == (
            "transfer.adapter.init must name the folder of a finished run with transfer, or its adapter.safetensors, "
            f"got '{path}', where there is none"
        )


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"transfer.adapter.rank": 2}, r"got \(\d+(, \d+)?\) for pair0/to_target/stack\.0\.\S+, \(\d+(, \d+)?\) here"),
        ({"transfer.adapter.width": 8}, r"got \(\d+(, \d+)?\) for pair0/to_target/stack\.0\.\S+, \(\d+(, \d+)?\) here"),
        ({"transfer.adapter.depth": 2}, r"got none for pair0/to_target/stack\.1\.\S+, \(\d+(, \d+)?\) here"),
        ({"transfer.adapter.learned_gate": True}, r"got none for pair0/to_target/gate_logit, \(\) here"),
        (
            {"transfer.pairs": [{"source": "3", "target": "9"}, {"source": "1", "target": "3"}]},
            r"got none for pair1/to_target/\S+, \(\d+(, \d+)?\) here",
        ),
    ],
)
def test_adapters_of_other_shapes_are_refused(earlier: Path, changes: dict[str, Any], got: str) -> None:
    assert re.fullmatch(
        rf"transfer\.adapter\.init must hold adapters of this run's shapes, {got}, in '{re.escape(str(earlier))}'; "
        r"use the same transfer\.adapter settings and layers as that run",
        refused(earlier, changes),
    )


def test_a_damaged_file_is_refused(earlier: Path, tmp_path: Path) -> None:
    path = tmp_path / ADAPTER_FILE
    content = (earlier / ADAPTER_FILE).read_bytes()
    for damaged in (b"", content[: len(content) // 2], content[:-1] + bytes([content[-1] ^ 1]), b"nonsense" * 99):
        path.write_bytes(damaged)
        message = refused(path)
        assert message.startswith("transfer.adapter.init must name an adapter.safetensors that can be read: ")
    save_file({"other": torch.ones(1)}, path)
    assert refused(path).startswith("transfer.adapter.init must ")


# ---------------------------------------------------------------- warnings


def warned(changes: dict[str, Any]) -> list[str]:
    trainer = Trainer(tiny_config(changes))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_few_updates(trainer)
    return [str(warning.message) for warning in caught]


def test_few_updates_of_a_random_adapter_are_warned_of() -> None:
    (message,) = warned({})
    assert re.fullmatch(
        r"the adapter pair0/to_target gets 7 updates, which can move its random weights by \d+% of their size at most: "
        r"too few to learn a map from; .*",
        message,
    )
    assert len(warned(TWO)) == 2, "one for each adapter"


@pytest.mark.parametrize("changes", [{"transfer.start_step": 10**6}, {"transfer.stop_fraction": 0.0}])
@pytest.mark.parametrize("kind", ["lpka", "linear"])
def test_a_run_that_never_transfers_says_so(kind: str, changes: dict[str, Any]) -> None:
    (message,) = warned({"transfer.adapter.kind": kind, "transfer.align": "inputs", **changes})
    ((name, value),) = changes.items()
    assert message.startswith("nothing is ever transferred through pair0/to_target: its steps, every 2 from ")
    assert f"{name} ({value:g})" in message or f"{name} ({value})" in message


def test_enough_updates_an_adapter_that_starts_as_the_identity_or_one_that_has_learned_are_not(earlier: Path) -> None:
    assert warned({"transfer.update.lr": 0.5}) == []
    assert warned({"epochs": 2000}) == []
    same_inputs = {"target.model.name": "tiny_mlp", "transfer.pairs": [{"source": "1", "target": "1"}]}
    assert warned({**same_inputs, "transfer.adapter.kind": "linear"}) == []
    assert warned({**TWO, "transfer.adapter.init": str(earlier)}) == []
    assert warned({"method": "none"}) == []


def test_the_reach_is_the_sum_of_the_rates_over_the_size_of_the_weights() -> None:
    trainer = Trainer(tiny_config({"transfer.update.warmup_fraction": 1.0, "transfer.start_step": 3}))
    (link,) = trainer.transfer.links
    assert trainer.transfer.updates(link) == [4, 6, 8, 10, 12]
    with torch.no_grad():
        for parameter in link.adapter.parameters():
            parameter.fill_(0.1 if parameter.ndim > 1 else 100.0)
    assert trainer.transfer.reach(link) == pytest.approx(5 * 1e-3 / 0.1)
    done = link.num_transfers
    list(trainer.epochs())
    assert link.num_transfers - done == 5


def test_a_linear_adapter_without_a_space_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"^transfer\.pairs\.0\.align is none: the rows of 3 and 9 share no space, so"):
        Trainer(tiny_config({"transfer.adapter.kind": "linear"}))


def test_the_hash_follows_the_adapters_run_not_its_place(earlier: Path, tmp_path: Path) -> None:
    def config(init: Path) -> Config:
        return tiny_config({**TWO, "transfer.adapter.init": str(init)})

    moved = shutil.copytree(earlier, tmp_path / "elsewhere" / earlier.name)
    hashes = [config_hash(config(path)) for path in (earlier, moved, moved / "adapter.safetensors")]
    assert len(set(hashes)) == 1, "a folder may be moved"
    assert hashes[0] not in (config_hash(tiny_config(TWO)), config_hash(config(tmp_path / "another")))
    first, again = (provenance(config(path), {}) for path in (earlier, moved))
    content = (earlier / "adapter.safetensors").read_bytes()
    assert first["weights_hashes"] == {"adapter": hashlib.sha256(content).hexdigest()}
    assert differences(first, again) == []
    (moved / "adapter.safetensors").write_bytes(content + b"0")
    assert [line.split()[:2] for line in differences(first, provenance(config(moved), {}))] == [["adapter", "weights"]]
