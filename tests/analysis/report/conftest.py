from pathlib import Path

import pytest

from tests.analysis.report.sweeps import reported


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of 32 trials whose value the gate decides; a gain of three points that no control has."""
    gains = {"best": 0.03, "shuffled": -0.004, "noise": 0.0}
    return reported(tmp_path_factory.mktemp("reported") / "known", gains)
