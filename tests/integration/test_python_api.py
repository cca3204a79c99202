"""docs/python-api.md: its files, its Python and its commands, as a reader would run them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import blocks, python_of, write_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAGE = "python-api.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


def test_the_page_runs_from_top_to_bottom(folder: Path) -> None:
    assert len(blocks(PAGE)) >= 6
    write_files(PAGE, folder)
    done = subprocess.run(
        [sys.executable, "-c", python_of(PAGE)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    epochs = [line.split() for line in lines[:4]]
    assert [epoch for epoch, _ in epochs] == ["1", "2", "3", "4"]
    assert float(epochs[-1][1]) > 0.5, "three classes of stripes can be told apart"
    assert lines[-1] == "torch.Size([1, 3])"

    command = next(text for language, _, text in blocks(PAGE) if language == "sh")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(
        ["bash", "-e", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "features" not in done.stdout, "the layers are those of the page's own network"
    assert (folder / "runs/stripes-yaml/result.json").is_file()
