"""A sweep folder of many trials, each with records as a run writes them, without training them.

One run is trained (trivial.py, a few epochs), and its files are varied: every trial draws its own settings, and every
number of every epoch is another one. Hashes are right, of the configuration and of the epochs, so that the folder is
read, and checked, as any other.
"""

import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.names import COMPLETE, SWEEP_FILE, TRIAL, TRIALS_FOLDER
from analysis.trial_file import TRIAL_FILE
from benchmarks import trivial
from mergenet.config.loading import parse_config, set_by_path
from mergenet.records.run_record import (
    BEST_EPOCH,
    CONFIG_FILE,
    EPOCH,
    EPOCHS_DONE,
    EPOCHS_FILE,
    EPOCHS_HASH,
    METRIC,
    PROVENANCE_FILE,
    RESULT_FILE,
    STEP,
    RunRecord,
    config_hash,
    epochs_hash,
    read_run,
    write_record,
)
from mergenet.training.run import train_run

TRAINED = 3  # epochs of the run that is varied
CONSTANT = ("num_transfers", "adapter_parameters")
STATE = {"status": "stopped", "error": None, "seconds": {"search": 100.0}, "source": {"recorded": False}}

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Model:
    """What is varied: a real run, and the text of its configuration as that of one of so many epochs."""

    record: RunRecord
    text: str
    epochs: int
    seed: int


def begin_sweep(folder: Path, num_trials: int, epochs: int, seed: int) -> Model:
    """The folder of a sweep of so many trials that was stopped, without its trials."""
    (folder / TRIALS_FOLDER).mkdir(parents=True)
    sweep = trivial.write_sweep(folder / "file", num_trials, metric="target_val_top1")
    (folder / SWEEP_FILE).write_bytes(sweep.read_bytes())
    (folder / "base.yaml").write_bytes((sweep.parent / "base.yaml").read_bytes())
    write_record(folder / "sweep.json", STATE)
    trained = folder / "trained"
    with warnings.catch_warnings(action="ignore"):  # so few epochs are too few for the adapter
        for _ in train_run(parse_config(trivial.base_values() | {"epochs": TRAINED}, "the trivial trial"), trained):
            pass
    text = (trained / CONFIG_FILE).read_text(encoding="utf-8")
    return Model(read_run(trained), text.replace(f"\nepochs: {TRAINED}\n", f"\nepochs: {epochs}\n"), epochs, seed)


def add_trials(folder: Path, model: Model, numbers: range) -> None:
    """Complete trials of these numbers; equal numbers and seeds are equal trials."""
    for number in numbers:
        random = np.random.default_rng((model.seed, number))
        run = folder / TRIALS_FOLDER / f"{TRIAL}-{number:03d}"
        run.mkdir()
        params, rows = drawn(random), varied(model, random)
        write_settings(run, model, params)
        (run / EPOCHS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        write_record(run / RESULT_FILE, result(model.record.result, rows))
        about = {"trial_id": run.name, "role": TRIAL, "params": params, "number": number, "seed": 0}
        write_record(run / TRIAL_FILE, about | {"state": COMPLETE, "error": None})


def drawn(random: np.random.Generator) -> dict[str, Any]:
    """One draw of the space of trivial.py, by path."""
    return {
        "transfer.t_cycle": int(random.choice([1, 2, 4])),
        "transfer.adapter.rank": int(random.integers(1, 9)),
        "transfer.adapter.gate": float(np.exp(random.uniform(*np.log([0.02, 0.5])))),
        "target.optimizer.lr": float(np.exp(random.uniform(*np.log([0.01, 0.1])))),
    }


def varied(model: Model, random: np.random.Generator) -> Rows:
    """Rows of all epochs: those of the trained ones in turn, each number up to a tenth smaller."""
    trained = model.record.epochs
    factors = random.uniform(0.9, 1.0, (model.epochs, len(trained[0]))).tolist()
    rows = []
    for index in range(model.epochs):
        row = trained[index % len(trained)]
        numbers = {
            name: value if name in CONSTANT else value * factor
            for (name, value), factor in zip(row.items(), factors[index], strict=True)
        }
        rows.append(numbers | {EPOCH: index + 1, STEP: trained[0][STEP] * (index + 1)})
    return rows


def write_settings(run: Path, model: Model, params: dict[str, Any]) -> None:
    """config.yaml and provenance.json. The text is changed in place: writing YAML takes longer than all the rest."""
    text = re.sub(r"\Aname: .*", f"name: {run.name}", model.text)
    values = json.loads(json.dumps(model.record.config)) | {"name": run.name, "epochs": model.epochs}
    for path, value in params.items():
        section, key = path.split(".")[0], path.split(".")[-1]
        text = re.sub(rf"(\n{section}:\n(?: .*\n)*? +{key}: )[^\n]*", rf"\g<1>{value!r}", text, count=1)
        set_by_path(values, path, value)
    (run / CONFIG_FILE).write_text(text, encoding="utf-8")
    write_record(
        run / PROVENANCE_FILE, model.record.provenance | {"config_hash": config_hash(parse_config(values, run.name))}
    )


def result(trained: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """result.json of a finished run with these rows."""
    best = max(rows, key=lambda row: row[trained[METRIC]])
    counted = {EPOCHS_DONE: len(rows), EPOCHS_HASH: epochs_hash(rows), BEST_EPOCH: best[EPOCH]}
    return trained | counted | {trained[METRIC]: best[trained[METRIC]]}
