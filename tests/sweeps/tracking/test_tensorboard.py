"""TensorBoard's event files, read back record by record."""

from pathlib import Path

import pytest

from sweeps.tracking.tensorboard import EventFiles
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
