"""TensorBoard's event files, read back record by record."""

from pathlib import Path

import pytest

from sweeps.tracking.tensorboard import EventFiles
from tests.sweeps.folders import VAL, write_run
from tests.sweeps.tensorboard_files import row, scalars

END = {"job": "trial-000", "role": "trial", "event": "ended", "state": "complete", "error": None}


def test_each_epoch_is_there_once_even_after_a_resume(tmp_path: Path) -> None:
    said: list[str] = []
    for last in (2, 3):  # the second driver is told of all epochs again
        files = EventFiles(tmp_path, said.append)
        for epoch in range(1, last + 1):
            files(row(epoch, epoch / 4))
        files(END)
        files.close()
    folder = tmp_path / "trials/trial-000/tensorboard"
    assert scalars(folder) == [("loss", 1, 0.25), ("loss", 2, 0.5), ("loss", 3, 0.75)]
    assert said == []


@pytest.mark.parametrize("cut", [0, 1, 10])
def test_a_run_that_ended_while_its_driver_wrote_nothing_gets_its_epochs(tmp_path: Path, cut: int) -> None:
    """cut: bytes that a killed driver's last event lacks."""
    run, unfinished = tmp_path / "trials/trial-000", tmp_path / "trials/trial-001"
    write_run(tmp_path, run.name, [0.5, 0.25, 0.75], "complete")
    write_run(tmp_path, unfinished.name, [0.5], None)
    files = EventFiles(tmp_path / "elsewhere", print)
    files(row(1))
    files.close()
    (event,) = (tmp_path / "elsewhere/trials/trial-000/tensorboard").glob("events.*")
    (run / "tensorboard").mkdir()
    (run / "tensorboard" / event.name).write_bytes(event.read_bytes()[: event.stat().st_size - cut])
    EventFiles(tmp_path, print).close()
    of_values = [(step, value) for tag, step, value in scalars(run / "tensorboard") if tag == VAL]
    assert of_values == [(1, 0.5), (2, 0.25), (3, 0.75)]
    assert not (unfinished / "tensorboard").exists()
    written = {path: path.stat().st_mtime_ns for path in (run / "tensorboard").iterdir()}
    EventFiles(tmp_path, print).close()
    assert {path: path.stat().st_mtime_ns for path in (run / "tensorboard").iterdir()} == written


def test_a_job_that_is_cut_off_keeps_its_epochs(tmp_path: Path) -> None:
    files = EventFiles(tmp_path, print)
    files(row(1))
    files(row(2, float("nan")))  # no point to draw
    files.close()
    assert scalars(tmp_path / "trials/trial-000/tensorboard") == [("loss", 1, 0.5)]


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "trials").write_text("in the way")
    said: list[str] = []
    files = EventFiles(tmp_path, said.append)
    for epoch in (1, 2, 3):
        files(row(epoch))
    files.close()
    assert len(said) == 1
    assert said[0].startswith("tensorboard: no more event files (")


@pytest.mark.parametrize("role", ["source"])
def test_the_source_has_none(tmp_path: Path, role: str) -> None:
    files = EventFiles(tmp_path, print)
    files(row(1) | {"role": role})
    files.close()
    assert list(tmp_path.iterdir()) == []
