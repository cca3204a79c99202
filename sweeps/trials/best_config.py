"""best.yaml: the best trial as a training configuration that `mergenet train` reproduces."""

import json
from pathlib import Path
from typing import Any

from analysis.names import portable_config
from analysis.seeds import SEEDS
from mergenet.config.loading import dump_yaml, parse_config
from mergenet.records.atomic import write_text
from mergenet.records.run_record import MEASURE, RunRecord

VERSIONS = ("python", "torch", "torchvision", "numpy", "mergenet", "ray")


def write_best(path: Path, sweep: str, trial: dict[str, Any], record: RunRecord) -> None:
    """Write the trial's configuration with a live source in place of the recording, and its results as comments.

    trial: trial.json. Replay is bit for bit what a live source gives, so training it again with the same versions and
    threads gives the same metrics.
    """
    config = parse_config(portable_config(record.config) | {"name": f"{sweep}-best"[:100]}, str(path))
    write_text(path, header(sweep, trial, record) + dump_yaml(config))


def header(sweep: str, trial: dict[str, Any], record: RunRecord) -> str:
    result = record.result
    metrics = ", ".join(f"{k} {v}" for k, v in result.items() if MEASURE.fullmatch(k) and v is not None)
    lines = [
        f"The best trial of sweep {sweep} by validation: {trial['trial_id']} (number {trial['number']}).",
        f"It reached, at epoch {result['best_epoch']} of {result['epochs_done']}: {metrics}",
        *mean_lines(trial),
        "As the best of many trials its validation value is optimistic: see the confirmation in summary.json.",
        f"Versions: {versions(record.provenance)}",
        f"Threads: {record.config['threads']}, device: {record.config['device']}, seed: {record.config['seed']}",
        f"Drawn: {json.dumps(trial['params'])}",
        "With the same versions, threads and device this gives the same metrics again:",
        "  mergenet train best.yaml",
    ]
    return "".join(f"# {line}\n" for line in lines)


def mean_lines(trial: dict[str, Any]) -> list[str]:
    """The comment for a trial that was selected by the mean over several seeds."""
    if SEEDS not in trial:
        return []
    count = len(trial["values"])
    values = ", ".join(f"seed {seed} {value}" for seed, value in zip(trial[SEEDS], trial["values"], strict=True))
    return [
        f"That is its last seed. It was chosen by the mean over {count} seeds: {trial['value']} ({values}).",
        "An ablation around this file takes later seeds, which did not choose it.",
    ]


def versions(provenance: dict[str, Any]) -> str:
    known = provenance.get("versions", provenance)
    return ", ".join(f"{name} {known[name]}" for name in VERSIONS if known.get(name))
