from pathlib import Path

import pytest

from analysis.report.page import write_report
from tests.analysis.importance.sweeps import drawn
from tests.analysis.report.sweeps import reported


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of 32 trials whose value the gate decides; a gain of three points that no control has."""
    gains = {"best": 0.03, "shuffled": -0.004, "noise": 0.0}
    return reported(tmp_path_factory.mktemp("reported") / "known", gains)


@pytest.fixture(scope="session")
def written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its report, elsewhere; report.md lies beside it."""
    return write_report(folder, tmp_path_factory.mktemp("written") / "report.html")[0]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Too few trials for importances, which take a second; a confirmed gain."""
    gains = {"best": 0.03, "shuffled": 0.0}
    return reported(tmp_path_factory.mktemp("reported") / "small", gains, states=["complete"] * 4, points=drawn(4))
