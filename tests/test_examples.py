"""examples/: each script as its reader would start it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(script: str, *arguments: Path) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / script, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("example")
    return folder, run("train.py", folder)


def test_train(trained: tuple[Path, str]) -> None:
    folder, output = trained
    assert output.count("best val top1") == 9, "three variants, three seeds"
    assert (folder / "transfer-1/target.safetensors").is_file()


def test_compare_ablations(trained: tuple[Path, str]) -> None:
    output = run("compare_ablations.py", trained[0])
    assert "real minus none" in output
    assert "real minus shuffled" in output
    assert "3 seeds cannot give p < 0.05" in output


def test_own_network(tmp_path: Path) -> None:
    lines = run("own_network.py", tmp_path / "run").splitlines()
    assert len(lines) == 5
    assert float(lines[3].split()[-2]) > 50, "three classes of stripes can be told apart"
