"""docs/python-api.md: its files, its Python and its commands, as a reader would run them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import blocks, write_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAGE = "python-api.md"
MARK = "\nprint('# next block', flush=True)\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


def test_the_page_runs_from_top_to_bottom(folder: Path) -> None:
    assert len(blocks(PAGE)) >= 6
    write_files(PAGE, folder)
    code = MARK.join(text for language, file, text in blocks(PAGE) if language == "python" and not file)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run, found, compared, checked, *parts = [part.splitlines() for part in done.stdout.split("# next block\n")]
    for name in ("source", "baseline", "trial-000", "trial-001", "confirm-best-1", "confirm-none-2"):
        assert sum(line.startswith(f"{name} ") and " epochs " in line for line in run) == 1, name
    assert len(run) < 40, "a cell of a notebook is not flooded"
    assert found[0].startswith("trial-00") and " target_val_top1 0." in found[0]
    assert found[2].split() == ["0", "trial-000", "complete", found[2].split()[-1]]
    gain, low, _, p = (float(text.strip("(),")) for text in compared[0].split())
    assert low < gain and p in (0.5, 1.0), "two seeds"
    assert checked[1].split()[:2] == ["confirm_none", "2"] and checked[2].split()[:2] == ["confirm_best", "2"]
    assert "identical to the bit" in checked
    lines = [line for part in parts for line in part]
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
