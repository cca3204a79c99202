"""Runs on disk: a run that was closed or damaged ends bitwise as one that was not."""

import errno
import itertools
import math
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mergenet.config.spec import Spec
from mergenet.errors import CheckpointError, ConfigError, TrainingDiverged
from mergenet.learner.learner import Learner
from mergenet.records.checkpoint import load_latest, load_tensors
from mergenet.records.run_deletion import delete_run
from mergenet.records.run_record import read_run
from mergenet.records.sealed import read_record, write_record
from mergenet.tasks.contents import in_a_line
from mergenet.training.run import train_run
from mergenet.training.trainer import Trainer
from tests.mergenet.runs import DAMAGE, VARIANTS, assert_same_run, config_of, finish, spoil
from tests.tiny import equal, tiny_config, without_times

pytestmark = pytest.mark.usefixtures("tiny")
SECONDS = "mergenet.training.run_writer.CHECKPOINT_SECONDS"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_a_run_leaves_these_files(folder: Path) -> None:
    config = tiny_config()
    results = list(train_run(config, folder))
    assert {p.name for p in folder.iterdir()} == {
        "config.yaml", "provenance.json", "epochs.jsonl", "result.json", "checkpoints", "best.safetensors",
        "adapter.safetensors",
    }  # fmt: skip
    record = read_run(folder)
    assert [result.row() for result in results] == record.epochs
    assert record.result.keys() == {
        "status", "error", "epochs_done", "epochs_sha256", "metric", "best_epoch",
        "target_val_top1", "target_test_top1", "target_test_top5", "target_test_loss",
    }  # fmt: skip
    assert record.result["status"] == "finished"
    assert record.result["error"] is None
    assert record.result["epochs_done"] == 2
    _, metadata = load_tensors(folder / "best.safetensors")
    assert Spec.from_json(metadata["spec"]).num_outputs == 10


def test_what_the_networks_learn_from_is_logged_and_in_the_record(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="mergenet")
    running = train_run(tiny_config(), folder)
    next(running)
    running.close()
    data = read_run(folder).provenance["data"]
    assert caplog.messages == [f"{role}: {in_a_line(data[role])}" for role in ("target", "source")]
    trainer = Trainer(tiny_config())
    for split in ("train", "val", "test"):
        assert data["target"][split]["images"] == trainer.target.task.size(split)
    list(train_run(tiny_config(), folder))  # goes on: told again, the record stays
    assert len(caplog.messages) == 4 and read_run(folder).provenance["data"] == data
    list(train_run(tiny_config(), folder))  # is finished: nothing is loaded
    assert len(caplog.messages) == 4


def test_two_runs_are_bitwise_equal_and_equal_to_one_in_memory(tmp_path: Path) -> None:
    config = config_of("noise")
    assert_same_run(finish(config, tmp_path / "a"), finish(config, tmp_path / "b"))
    trainer = Trainer(config)
    rows = [without_times(result.row()) for result in trainer.epochs()]
    assert rows == [without_times(row) for row in read_run(tmp_path / "a").epochs]
    test = trainer.test()
    assert test == {key: read_run(tmp_path / "a").result[key] for key in test}


def test_a_run_without_a_number_in_any_epoch_has_failed_and_says_so_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Learner.results
    monkeypatch.setattr(Learner, "results", lambda self: measured(self) | {self.metric: math.nan})
    for _ in range(2):
        with pytest.raises(TrainingDiverged, match="no epoch is the best, and nothing is tested"):
            list(train_run(tiny_config({"method": "none", "epochs": 2}), folder))
        record = read_run(folder)
        assert (record.result["status"], record.result["best_epoch"], len(record.epochs)) == ("failed", None, 2)
        assert record.result["error"].startswith("target_val_top1 must be a finite number after some epoch")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_that_is_closed_after_each_epoch_is_bitwise_one_that_was_not(name: str, tmp_path: Path) -> None:
    config = config_of(name)
    for epoch in range(1, 5):
        running = train_run(config, tmp_path / "stopped")
        for result in running:
            if result.epoch == epoch:
                break
        running.close()
        record = read_run(tmp_path / "stopped")
        assert record.result["status"] == "stopped"
        assert record.result["epochs_done"] == len(record.epochs) == epoch
        assert "target_test_top1" not in record.result
    assert_same_run(finish(config, tmp_path / "stopped"), finish(config, tmp_path / "whole"))


def test_advice_is_given_at_the_start_and_not_again_at_each_resume(folder: Path) -> None:
    config = config_of("open cycle")
    run = train_run(config, folder)
    with pytest.warns(UserWarning, match="too few to learn a map from"):
        next(run)
    run.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(train_run(config, folder))
    assert not [warning for warning in caught if "too few to learn" in str(warning.message)]


def test_a_resumed_run_yields_the_epochs_behind_it_and_trains_only_the_rest(folder: Path) -> None:
    config = config_of("open cycle")
    running = train_run(config, folder)
    first = [next(running), next(running)]
    running.close()
    again = list(train_run(config, folder))
    assert again[:2] == first, "times too: they were read, not measured again"
    assert [result.epoch for result in again] == [1, 2, 3, 4]


def test_closing_while_the_past_is_replayed_leaves_the_run_stopped(folder: Path) -> None:
    config = config_of("baseline")
    for _ in range(2):
        running = train_run(config, folder)
        next(running)
        running.close()
        assert read_run(folder).result["status"] == "stopped"
        assert read_run(folder).result["epochs_done"] == 1


@pytest.fixture
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a checkpoint, however short it is."""
    monkeypatch.setattr(SECONDS, 0.0)


@pytest.mark.usefixtures("every_epoch")
def test_every_epoch_is_on_disk_when_it_is_yielded(folder: Path) -> None:
    config = config_of("baseline")
    for result in train_run(config, folder):
        record = read_run(folder)
        assert record.epochs[-1] == result.row()
        assert record.result["status"] == "running"
        assert record.result["epochs_done"] == result.epoch
        state = load_latest(folder / "checkpoints")
        assert state is not None
        assert state["trainer"]["epoch"] == result.epoch
        best = load_tensors(folder / "best.safetensors")[0]
        assert equal(best, state["trainer"]["bests"]["target"]["network"])


@pytest.mark.usefixtures("every_epoch")
def test_what_a_kill_left_beside_the_last_checkpoint_is_dropped(folder: Path) -> None:
    config = config_of("baseline")
    running = train_run(config, folder)
    assert [next(running).epoch for _ in range(4)] == [1, 2, 3, 4]
    running.close()  # nothing is left to train, only to test
    checkpoints = folder / "checkpoints"
    shutil.copytree(checkpoints / "epoch-000004", checkpoints / "epoch-000002")
    shutil.copytree(checkpoints / "epoch-000004", checkpoints / ".tmp-epoch-000001-1-gone")
    finish(config, folder)
    assert sorted(path.name for path in checkpoints.iterdir()) == ["epoch-000003", "epoch-000004"]


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("last", [0, 1])
def test_epochs_without_a_checkpoint_are_trained_again_to_the_same_bits(
    name: str, last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """last: the epoch whose checkpoint is the last one when the run is killed after its third epoch."""
    config = config_of(name)
    monkeypatch.setattr(SECONDS, 0.0 if last else math.inf)
    running = train_run(config, tmp_path / "run")
    next(running)
    monkeypatch.setattr(SECONDS, math.inf)
    assert [next(running).epoch, next(running).epoch] == [2, 3]
    shutil.copytree(tmp_path / "run", tmp_path / "killed")
    running.close()
    there = [path.name for path in (tmp_path / "killed").glob("checkpoints/*")]
    assert there == [f"epoch-00000{last}"] * last
    killed = read_run(tmp_path / "killed")
    assert (len(killed.epochs), killed.result["epochs_done"]) == (3, last)
    if (state := load_latest(tmp_path / "killed/checkpoints")) is not None:
        best = state["trainer"]["bests"]["target"]
        assert equal(load_tensors(tmp_path / "killed/best.safetensors")[0], best["network"])
        assert killed.result["best_epoch"] == best["epoch"]
    again = list(train_run(config, tmp_path / "killed"))
    assert [result.epoch for result in again] == [1, 2, 3, 4]
    assert_same_run(tmp_path / "killed", finish(config, tmp_path / "whole"))
    assert [path.name for path in (tmp_path / "whole").glob("checkpoints/*")] == ["epoch-000004"]


@pytest.mark.parametrize(("seconds", "last"), [(0.0, 2), (math.inf, 0)])
def test_an_interrupted_step_leaves_the_last_checkpoint(
    seconds: float, last: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The networks are then in the middle of an epoch, which is no state to go on from."""
    config = config_of("open cycle")
    monkeypatch.setattr(SECONDS, seconds)
    running = train_run(config, folder)
    assert [next(running).epoch, next(running).epoch] == [1, 2]
    step, steps = Trainer._step, itertools.count()

    def interrupted(trainer: Trainer, number: int) -> float:
        if next(steps) == 3:
            raise KeyboardInterrupt
        return step(trainer, number)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(running)
    monkeypatch.undo()
    assert [path.name for path in sorted(folder.glob("checkpoints/*"))][-1:] == [f"epoch-{last:06d}"] * bool(last)
    assert [read_run(folder).result[key] for key in ("status", "epochs_done")] == ["stopped", last]
    assert (folder / "best.safetensors").exists() == bool(last)
    assert_same_run(finish(config, folder), finish(config, folder.parent / "whole"))


@pytest.fixture
def stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of which two of four epochs are done, with a checkpoint each."""
    monkeypatch.setattr(SECONDS, 0.0)
    running = train_run(config_of("open cycle"), folder)
    next(running)
    next(running)
    running.close()
    return folder


def newest(folder: Path) -> Path:
    return max((folder / "checkpoints").glob("epoch-*"))


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json"])
def test_a_truncated_checkpoint_is_passed_over_with_a_warning(stopped: Path, file: str, tmp_path: Path) -> None:
    path = newest(stopped) / file
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.warns(UserWarning, match=r"epoch-000002.*going back to epoch-000001"):
        finish(config_of("open cycle"), stopped)
    assert_same_run(stopped, finish(config_of("open cycle"), tmp_path / "whole"))


def test_only_bad_checkpoints_stop_the_run_before_it_writes(stopped: Path) -> None:
    for path in (stopped / "checkpoints").glob("*/state.json"):
        path.write_bytes(b"")
    before = {p: p.read_bytes() for p in stopped.rglob("*") if p.is_file()}
    with pytest.raises(CheckpointError, match="holds no valid checkpoint"):
        finish(config_of("open cycle"), stopped)
    assert {p: p.read_bytes() for p in stopped.rglob("*") if p.is_file()} == before


def test_a_torn_last_row_and_an_old_best_file_are_mended(stopped: Path, tmp_path: Path) -> None:
    rows = stopped / "epochs.jsonl"
    rows.write_bytes(rows.read_bytes()[:-20])
    (stopped / "best.safetensors").unlink()
    assert_same_run(finish(config_of("open cycle"), stopped), finish(config_of("open cycle"), tmp_path / "whole"))


def test_what_was_written_after_the_checkpoint_is_dropped(stopped: Path, tmp_path: Path) -> None:
    with (stopped / "epochs.jsonl").open("a") as file:
        file.write('{"epoch": 3, "step": 21}\n')
    assert_same_run(finish(config_of("open cycle"), stopped), finish(config_of("open cycle"), tmp_path / "whole"))


@pytest.mark.filterwarnings("error", "ignore:the adapter pair0/to_target gets 7 updates")
def test_where_a_run_began_is_kept_and_where_it_went_on_is_added(stopped: Path) -> None:
    first = read_run(stopped).provenance
    for epochs in (3, 4):
        running = train_run(config_of("open cycle"), stopped)
        while next(running).epoch < epochs:
            pass
        running.close()
    now = read_run(stopped).provenance
    assert "resumed" not in first
    assert [entry.pop("epochs_done") for entry in now["resumed"]] == [2, 3]
    assert [entry.keys() <= first.keys() for entry in now["resumed"]] == [True, True]
    assert {key: value for key, value in now.items() if key != "resumed"} == first


def test_a_run_without_a_finished_epoch_begins_anew(folder: Path) -> None:
    running = train_run(config_of("baseline"), folder)
    next(running)
    running.close()
    for path in (folder / "checkpoints").iterdir():
        path.rename(folder.parent / path.name)
    (folder / "provenance.json").write_text('{"cpu": "Z80"}')
    finish(config_of("baseline"), folder)
    assert read_run(folder).provenance.keys() > {"started", "versions"}
    assert "resumed" not in read_run(folder).provenance


def test_going_on_on_another_machine_is_said(stopped: Path) -> None:
    path = stopped / "provenance.json"
    was = read_record(path)
    write_record(path, was | {"cpu": "Z80", "versions": was["versions"] | {"torch": "1.0"}})
    said = r"goes on with torch 2\.\S+ \(was 1\.0\), CPU .* \(was Z80\); that .* bitwise .* is not promised$"
    with pytest.warns(UserWarning, match=said) as caught:
        finish(config_of("open cycle"), stopped)
    assert len([warning for warning in caught if "goes on with" in str(warning.message)]) == 1
    assert read_run(stopped).provenance["cpu"] == "Z80"
    assert read_run(stopped).provenance["resumed"][0]["cpu"] == was["cpu"]


def test_a_damaged_result_stops_the_run_and_can_be_removed(stopped: Path, tmp_path: Path) -> None:
    (stopped / "result.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"result\.json: status must be .*, got nothing; .* remove it"):
        finish(config_of("open cycle"), stopped)
    (stopped / "result.json").unlink()
    assert_same_run(finish(config_of("open cycle"), stopped), finish(config_of("open cycle"), tmp_path / "whole"))


def test_another_configuration_is_refused_and_changes_nothing(stopped: Path) -> None:
    before = {p: p.read_bytes() for p in stopped.rglob("*") if p.is_file()}
    with pytest.raises(
        CheckpointError, match=r"holds a run of another configuration \(hash \w{12}, this one is \w{12}\)"
    ) as e:
        finish(tiny_config({"epochs": 4}), stopped)
    assert "choose another folder (--out)" in str(e.value)
    with pytest.raises(CheckpointError, match="holds a run already"):
        list(train_run(config_of("open cycle"), stopped, resume=False))
    assert {p: p.read_bytes() for p in stopped.rglob("*") if p.is_file()} == before


def test_a_foreign_folder_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("irreplaceable")
    with pytest.raises(
        CheckpointError, match=r"must be empty or a run folder, and is neither; choose another folder \(--out\)$"
    ):
        finish(tiny_config(), folder)
    assert [p.name for p in folder.iterdir()] == ["thesis.tex"]


def test_what_a_kill_left_without_a_configuration_is_begun_anew(folder: Path, tmp_path: Path) -> None:
    """A deletion that was killed: its checkpoints would be those of a longer run."""
    old = finish(tiny_config({"epochs": 3, "seed": 5}), folder)
    for name in ("config.yaml", "best.safetensors", "epochs.jsonl", "result.json"):
        (old / name).unlink()
    (old / ".config.1-2.tmp.yaml").touch()
    assert_same_run(finish(tiny_config(), folder), finish(tiny_config(), tmp_path / "whole"))


def test_the_epochs_of_a_run_that_lost_its_configuration_are_not_deleted(folder: Path) -> None:
    (finish(tiny_config(), folder) / "config.yaml").unlink()
    files = sorted(folder.rglob("*"))
    with pytest.raises(CheckpointError, match=r"holds the epochs of a run and no config\.yaml; put that back, delete"):
        finish(tiny_config(), folder)
    assert sorted(folder.rglob("*")) == files


def test_a_run_on_another_disk_than_its_sweep_is_deleted_where_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(tiny_config(), folder)

    def refused(path: Path, target: Path) -> Path:
        raise OSError(errno.EXDEV, "Invalid cross-device link", str(path), None, str(target))

    monkeypatch.setattr(Path, "rename", refused)
    delete_run(folder, folder.parent)
    assert not folder.exists()


def test_an_empty_folder_is_used(folder: Path) -> None:
    folder.mkdir()
    assert read_run(finish(tiny_config(), folder)).result["status"] == "finished"


def test_a_finished_folder_trains_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    results = list(train_run(config, folder))
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}

    def refuse(*_: Any) -> None:
        raise AssertionError("a finished run was built again")

    monkeypatch.setattr("mergenet.training.run.Trainer", refuse)
    assert list(train_run(config, folder)) == results
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_finished_run_that_lost_epochs_has_them_again_from_its_checkpoint(damage: str, folder: Path) -> None:
    config = tiny_config()
    results = list(train_run(config, folder))
    files = [folder / "epochs.jsonl", folder / "result.json"]
    before = [path.read_bytes() for path in files]
    spoil(folder, damage)
    with pytest.raises(CheckpointError, match=r"epochs\.jsonl"):
        read_run(folder)
    with pytest.warns(UserWarning, match=r"epochs\.jsonl .*; it is made again from the last checkpoint"):
        assert list(train_run(config, folder)) == results
    assert [path.read_bytes() for path in files] == before


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_unfinished_run_that_lost_epochs_goes_on(damage: str, folder: Path, tmp_path: Path) -> None:
    config = tiny_config({"epochs": 3})
    running = train_run(config, folder)
    next(running)
    next(running)
    running.close()
    spoil(folder, damage)
    with pytest.raises(CheckpointError, match=r"epochs\.jsonl"):
        read_run(folder)
    assert_same_run(finish(config, folder), finish(config, tmp_path / "whole"))


def test_an_epoch_that_could_not_be_written_does_not_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = train_run(tiny_config({"epochs": 3}), folder)
    next(running)

    def full(*_: Any) -> None:
        raise OSError("full")

    monkeypatch.setattr("mergenet.training.run_writer.append_epoch", full)
    with pytest.raises(OSError, match="full"):
        next(running)
    record = read_run(folder)
    assert (record.result["epochs_done"], len(record.epochs)) == (1, 1)


def test_a_run_killed_before_the_test_split_was_read_only_tests(folder: Path, tmp_path: Path) -> None:
    config = tiny_config()
    running = train_run(config, folder)
    next(running)
    next(running)
    running.close()
    assert read_run(folder).result["status"] == "stopped"
    assert len(list(train_run(config, folder))) == 2
    assert_same_run(folder, finish(config, tmp_path / "whole"))


def test_divergence_is_written_down_and_does_not_hide_what_was_reached(folder: Path) -> None:
    config = tiny_config({"epochs": 3})
    running = train_run(config, folder)
    next(running)
    trainer = running.gi_yieldfrom.gi_frame.f_locals["trainer"]
    with torch.no_grad():
        trainer.target.network.get_parameter("9.bias")[0] = float("nan")
    with pytest.raises(TrainingDiverged, match="target loss became nan by step 7"):
        next(running)
    result = read_run(folder).result
    assert result["status"] == "failed"
    assert result["error"].startswith("target loss became nan by step 7; lower target.optimizer.lr")
    assert result["epochs_done"] == result["best_epoch"] == 1
    assert load_tensors(folder / "best.safetensors")[0]["9.bias"].isfinite().all()
    finish(config, folder)
    assert read_run(folder).result["status"] == "finished", "the cause is gone: it goes on from the first epoch"


def test_a_run_that_diverges_in_its_first_epoch_has_a_result(folder: Path) -> None:
    with pytest.raises(TrainingDiverged):
        finish(tiny_config({"target.optimizer.lr": 1e30}), folder)
    result = read_run(folder).result
    assert (result["status"], result["epochs_done"], result["best_epoch"]) == ("failed", 0, None)
    assert "\n" not in result["error"]


@pytest.mark.parametrize(
    "changes",
    [
        {"target.model.name": "tiny_cn"},
        {"target.data.name": "digit"},
        {"target.task": "x"},
        {"transfer.pairs": [{"source": "3", "target": "8"}]},
        {"transfer.adapter.rank": 100},
        {"target.model.weights": "/nowhere.safetensors"},
        {"source.kind": "recorded", "source.recording": "/nowhere"},
    ],
)
def test_a_bad_configuration_creates_nothing(folder: Path, changes: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, CheckpointError)) as caught:
        finish(tiny_config(changes), folder)
    assert "\n" not in str(caught.value)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("place", "message"),
    [("file/run", "could not be made: Not a directory; choose another"), ("file", "must be empty or a run folder")],
)
def test_a_place_that_cannot_be_a_folder_is_one_line(tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=message) as caught:
        finish(tiny_config(), tmp_path / place)
    assert "\n" not in str(caught.value)


def interrupted(results: Iterator[Any]) -> None:
    next(results)
    raise KeyboardInterrupt


def test_an_interrupt_leaves_the_run_stopped(folder: Path) -> None:
    running = train_run(config_of("baseline"), folder)
    with pytest.raises(KeyboardInterrupt):
        interrupted(running)
    running.close()
    assert read_run(folder).result["status"] == "stopped"


def test_two_processes_cannot_write_to_one_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mergenet.training.run.PATIENCE", 0.2)
    running = train_run(config_of("baseline"), folder)
    next(running)
    with pytest.raises(CheckpointError, match="is being written by another process; wait for it, stop it, or choose"):
        next(train_run(config_of("baseline"), folder))
    assert len(list(running)) == config_of("baseline").epochs - 1, "the first goes on undisturbed"
    assert read_run(folder).result["status"] == "finished"
