from pathlib import Path

import pytest

from analysis.importance.search import Search, load_search
from tests.analysis.importance.sweeps import by_gate, drawn, write_sweep

STATES = ["complete"] * 24 + ["pruned"] * 6 + ["failed", "running"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 complete trials whose value the gate decides alone, six stopped early, one failed, one in training."""
    return write_sweep(tmp_path_factory.mktemp("known") / "sweep", drawn(len(STATES)), by_gate, STATES)


@pytest.fixture(scope="session")
def search(folder: Path) -> Search:
    return load_search(folder)
