from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.importance.evaluators import EVALUATORS, FANOVA, PED_ANOVA
from analysis.importance.search import Search, load_search
from tests.analysis.importance.sweeps import by_gate, drawn, write_sweep

STATES = ["complete"] * 24 + ["pruned"] * 6 + ["failed", "running"]


@pytest.fixture(autouse=True, scope="session")
def _few_permutations() -> Iterator[None]:
    """As few as can show p < 0.05: by default they are as many as a user waits for."""
    whole = dict(EVALUATORS)
    EVALUATORS[PED_ANOVA] = whole[PED_ANOVA]._replace(permutations=59, resamples=10)
    EVALUATORS[FANOVA] = whole[FANOVA]._replace(permutations=29, resamples=5)
    yield
    EVALUATORS.update(whole)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 complete trials whose value the gate decides alone, six stopped early, one failed, one in training."""
    return write_sweep(tmp_path_factory.mktemp("known") / "sweep", drawn(len(STATES)), by_gate, STATES)


@pytest.fixture(scope="session")
def search(folder: Path) -> Search:
    return load_search(folder)
