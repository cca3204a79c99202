"""Run and sweep folders on disk, written file by file as a run writes them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.analysis.folders import make_run

# (validation accuracy of its 3 epochs, test accuracy, state, rank): t1 is best, t2 was stopped early ahead of it
TRIALS = [
    ((0.50, 0.61, 0.60), 0.58, "complete", 4),
    ((0.52, 0.66, 0.65), 0.63, "complete", 8),
    ((0.55, 0.70), None, "pruned", 16),
    ((0.40,), None, "failed", 32),
]
CONFIRM_GAINS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06)

WriteRun = Callable[..., Path]


@pytest.fixture
def write_run() -> WriteRun:
    return make_run


@pytest.fixture
def sweep(tmp_path: Path, written_sweep: Path) -> Path:
    """A finished sweep: 4 search trials, a baseline, the best trial and no transfer on 6 fresh seeds."""
    return Path(shutil.copytree(written_sweep, tmp_path / "my-sweep"))


@pytest.fixture(scope="session")
def written_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written once, copied by `sweep` for each test."""
    folder = tmp_path_factory.mktemp("written") / "my-sweep"
    for number, (accuracies, test, state, rank) in enumerate(TRIALS):
        trial = {"role": "trial", "number": number, "state": state, "params": {"transfer.adapter.rank": rank}}
        make_run(folder / "trials" / f"t{number}", accuracies, test, trial, {"transfer.adapter.rank": rank})
    none = {"method": "none"}
    baseline = {"role": "baseline", "number": 4, "state": "complete", "params": {}}
    make_run(folder / "trials" / "b0", (0.50, 0.60), 0.57, baseline, none)
    for i, gain in enumerate(CONFIRM_GAINS):
        settings = {"transfer.adapter.rank": 8, "seed": 100 + i}
        best = {"role": "confirm_best", "number": 5 + i, "state": "complete", "params": {"transfer.adapter.rank": 8}}
        make_run(folder / "trials" / f"c{i}", (0.6,), 0.5 + gain, best, settings)
        plain = {"role": "confirm_none", "number": 11 + i, "state": "complete", "params": {}}
        make_run(folder / "trials" / f"n{i}", (0.6,), 0.5, plain, {**none, "seed": 100 + i})
    return folder
