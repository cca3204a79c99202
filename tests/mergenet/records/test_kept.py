"""A run that has ended gives its checkpoints away, and whatever is asked of it is answered as before."""

from pathlib import Path

import pytest

from mergenet.errors import CheckpointError
from mergenet.export.evaluate import evaluate_run
from mergenet.records.checkpoint import load_latest
from mergenet.records.kept import keep_only, size_of
from mergenet.records.run_record import read_run
from mergenet.training.run import train_run
from tests.mergenet.runs import assert_same_run, config_of, finish

pytestmark = pytest.mark.usefixtures("tiny")
CONFIG = "open cycle"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With two checkpoints, as a run has whose epochs are not short."""
    monkeypatch.setattr("mergenet.training.run_writer.CHECKPOINT_SECONDS", 0.0)
    return finish(config_of(CONFIG), tmp_path / "run")


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_best_leaves_what_evaluates_and_repairs(run: Path) -> None:
    record, measured, before = read_run(run), evaluate_run(run, "test"), size_of(run)
    freed = keep_only(run, "best")
    assert freed == before - size_of(run) > 0
    assert len(checkpoints(run)) == 1 and set(load_latest(run / "checkpoints") or {}) == {"history"}
    assert (read_run(run), evaluate_run(run, "test")) == (record, measured)
    assert [result.row() for result in train_run(config_of(CONFIG), run)] == record.epochs
    (checkpoint,) = (run / "checkpoints").glob("*/state.json")
    written = checkpoint.stat().st_mtime_ns
    assert keep_only(run, "best") == 0, "there is nothing more to give"
    assert checkpoint.stat().st_mtime_ns == written, "a resume of many runs does not write them all again"
    (run / "epochs.jsonl").write_text("")
    with pytest.warns(UserWarning, match="it is made again from the last checkpoint"):
        assert [result.row() for result in train_run(config_of(CONFIG), run)] == record.epochs
    assert read_run(run) == record


def test_what_cannot_be_repaired_trains_again(run: Path, tmp_path: Path) -> None:
    whole = finish(config_of(CONFIG), tmp_path / "whole")
    keep_only(run, "best")
    (run / "epochs.jsonl").write_text("")
    for path in (run / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(CheckpointError):
        keep_only(run, "best")
    with pytest.warns(UserWarning, match="no checkpoint has its epochs"), pytest.raises(CheckpointError):
        finish(config_of(CONFIG), run)
    keep_only(whole, "best")
    (whole / "result.json").unlink()
    assert_same_run(finish(config_of(CONFIG), whole), finish(config_of(CONFIG), tmp_path / "another"))


def test_none_last_and_all(run: Path) -> None:
    assert keep_only(run, "all") == 0
    two = checkpoints(run)
    assert len(two) == 2
    keep_only(run, "last")
    assert checkpoints(run) == two[1:]
    assert "trainer" in (load_latest(run / "checkpoints") or {})
    keep_only(run, "none")
    assert (run / "adapter.safetensors").exists()
    assert read_run(run).result["status"] == "finished"
    with pytest.raises(CheckpointError, match=r"must hold best\.safetensors"):
        evaluate_run(run, "test")


def test_a_run_that_was_stopped_begins_again(tmp_path: Path) -> None:
    stopped = train_run(config_of(CONFIG), tmp_path / "stopped")
    next(stopped)
    stopped.close()
    keep_only(tmp_path / "stopped", "best")
    assert_same_run(finish(config_of(CONFIG), tmp_path / "stopped"), finish(config_of(CONFIG), tmp_path / "whole"))
