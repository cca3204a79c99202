"""Run and sweep folders on disk, written file by file as a run writes them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mergenet.config.loading import dump_yaml, parse_config, set_by_path
from mergenet.records.run_record import config_hash

PAIRS = [{"source": "fc", "target": "classifier.1"}]
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


def make_run(
    folder: Path,
    accuracies: tuple[float, ...] = (0.5, 0.6),
    test: float | None = 0.55,
    trial: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    parameters: int = 1000,
    metric: str = "top1",
    more: dict[str, Any] | None = None,
) -> Path:
    """A run folder of `len(accuracies)` epochs; test None: it did not finish. trial: what trial.json adds.

    metric: the task's, that selects. more: of result.json.
    """
    values: dict[str, Any] = {"transfer": {"pairs": PAIRS}}
    for path, value in (settings or {}).items():
        set_by_path(values, path, value)
    config = parse_config(values, "test")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_yaml(config))
    (folder / "provenance.json").write_text(json.dumps({"config_hash": config_hash(config), "versions": {}}))
    rows = [epoch(i + 1, accuracy, parameters, metric) for i, accuracy in enumerate(accuracies)]
    (folder / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "result.json").write_text(json.dumps(result(accuracies, test, metric) | (more or {})))
    if trial is not None:
        whole = {"trial_id": folder.name, "seed": config.seed, **trial}
        (folder / "trial.json").write_text(json.dumps(whole))
    return folder


def epoch(number: int, accuracy: float, parameters: int, metric: str) -> dict[str, Any]:
    return {
        "epoch": number,
        "step": 10 * number,
        "target_val_loss": 1 - accuracy,
        "target_val_top5": min(1.0, accuracy + 0.2),
        f"target_val_{metric}": accuracy,
        "seconds_target": 1.5,
        "seconds_evaluate": 0.25,
        "adapter_parameters": parameters,
    }


def result(accuracies: tuple[float, ...], test: float | None, metric: str) -> dict[str, Any]:
    best = max(accuracies, default=None)
    values = {
        "status": "stopped" if test is None else "finished",
        "error": None,
        "epochs_done": len(accuracies),
        "best_epoch": None if best is None else accuracies.index(best) + 1,
        "metric": f"target_val_{metric}",
        f"target_val_{metric}": best,
    }
    tests = {"target_test_top5": 0.9, f"target_test_{metric}": test, "target_test_loss": 1.25}
    return values if test is None else {**values, **tests}
