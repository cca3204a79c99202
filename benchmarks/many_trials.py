"""A sweep folder of many trials, each with records as a run writes them, without training them.

One run is trained (trivial.py, a few epochs), and its files are varied: every trial draws its own settings, and every
number of every epoch is another one. Hashes are right, of the configuration and of the epochs, so that the folder is
read, and checked, as any other.
"""

import json
import re
from collections.abc import Iterator
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
)
from mergenet.training.run import train_run

TRAINED = 3  # epochs of the run that is varied
STATE = {"status": "stopped", "error": None, "seconds": {"search": 100.0}, "source": {"recorded": False}}

Rows = list[dict[str, Any]]


def write_trials(folder: Path, num_trials: int, epochs: int, seed: int) -> Path:
    """The folder of a sweep that was stopped after so many complete trials."""
    folder.mkdir(parents=True)
    sweep = trivial.write_sweep(folder / "file", num_trials, metric="target_val_top1")
    (folder / SWEEP_FILE).write_bytes(sweep.read_bytes())
    (folder / "base.yaml").write_bytes((sweep.parent / "base.yaml").read_bytes())
    (folder / "sweep.json").write_text(json.dumps(STATE), encoding="utf-8")
    record, text = trained(folder / "trained", epochs)
    add_trials(folder, range(num_trials), record, text, epochs, seed)
    return folder


def trained(folder: Path, epochs: int) -> tuple[RunRecord, str]:
    """A real run, and the text of its configuration as that of one of so many epochs."""
    for _ in train_run(parse_config(trivial.base_values() | {"epochs": TRAINED}, "the trivial trial"), folder):
        pass
    text = (folder / CONFIG_FILE).read_text(encoding="utf-8")
    return read_run(folder), text.replace(f"\nepochs: {TRAINED}\n", f"\nepochs: {epochs}\n")


def add_trials(folder: Path, numbers: range, record: RunRecord, text: str, epochs: int, seed: int) -> None:
    """Trials of these numbers; equal numbers and seeds are equal trials."""
    for number in numbers:
        random = np.random.default_rng((seed, number))
        run = folder / TRIALS_FOLDER / f"{TRIAL}-{number:03d}"
        run.mkdir(parents=True)
        rows = list(varied(record.epochs, epochs, random))
        params = drawn(random)
        write_settings(run, record, text, params)
        (run / EPOCHS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        write(run / RESULT_FILE, result(record.result, rows))
        about = {"trial_id": run.name, "role": TRIAL, "params": params, "number": number, "seed": 0}
        write(run / TRIAL_FILE, about | {"state": COMPLETE, "error": None})


def drawn(random: np.random.Generator) -> dict[str, Any]:
    """One draw of the space of trivial.py, by path."""
    return {
        "transfer.t_cycle": int(random.choice([1, 2, 4])),
        "transfer.adapter.rank": int(random.integers(1, 9)),
        "transfer.adapter.gate": float(np.exp(random.uniform(*np.log([0.02, 0.5])))),
        "target.optimizer.lr": float(np.exp(random.uniform(*np.log([0.01, 0.1])))),
    }


def varied(trained: Rows, epochs: int, random: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Rows of so many epochs: those of the trained ones in turn, each number up to a tenth smaller."""
    for index in range(epochs):
        row = trained[index % len(trained)]
        factors = dict(zip(row, random.uniform(0.9, 1.0, len(row)).tolist(), strict=True))
        numbers = {name: value * factors[name] for name, value in row.items() if isinstance(value, float)}
        kept = {name: row[name] for name in ("num_transfers", "adapter_parameters")}
        yield row | numbers | kept | {EPOCH: index + 1, STEP: trained[0][STEP] * (index + 1)}


def write_settings(run: Path, record: RunRecord, text: str, params: dict[str, Any]) -> None:
    """config.yaml and provenance.json. The text is changed in place: writing YAML takes longer than all the rest."""
    values = json.loads(json.dumps(record.config))
    for path, value in params.items():
        section, key = path.split(".")[0], path.split(".")[-1]
        text = re.sub(rf"(\n{section}:\n(?: .*\n)*? +{key}: )[^\n]*", rf"\g<1>{value!r}", text, count=1)
        set_by_path(values, path, value)
    text = re.sub(r"\Aname: .*", f"name: {run.name}", text)
    (run / CONFIG_FILE).write_text(text, encoding="utf-8")
    epochs = int(re.findall(r"^epochs: (\d+)$", text, re.MULTILINE)[0])
    config = parse_config(values | {"epochs": epochs, "name": run.name}, str(run))
    write(run / PROVENANCE_FILE, record.provenance | {"config_hash": config_hash(config)})


def result(trained: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """result.json of a finished run with these rows."""
    best = max(rows, key=lambda row: row[trained[METRIC]])
    counted = {EPOCHS_DONE: len(rows), EPOCHS_HASH: epochs_hash(rows), BEST_EPOCH: best[EPOCH]}
    return trained | counted | {trained[METRIC]: best[trained[METRIC]]}


def write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
