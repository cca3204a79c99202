"""A run folder, written file by file as a run writes it."""

import json
from pathlib import Path
from typing import Any

from mergenet.config.loading import dump_yaml, parse_config, set_by_path
from mergenet.records.run_record import config_hash
from mergenet.records.sealed import write_record

PAIRS = [{"source": "fc", "target": "classifier.1"}]


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
    write_record(folder / "provenance.json", {"config_hash": config_hash(config), "versions": {}})
    rows = [epoch(i + 1, accuracy, parameters, metric) for i, accuracy in enumerate(accuracies)]
    (folder / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_record(folder / "result.json", result(accuracies, test, metric) | (more or {}))
    if trial is not None:
        whole = {"trial_id": folder.name, "seed": config.seed, **trial}
        write_record(folder / "trial.json", whole)
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
