"""Runs as W&B has them, written as the run folders of a sweep, which `analysis.tables.load` reads like any other.

W&B lacks what no table needs: checkpoints, the whole configuration, versions. What W&B shows of a run's state goes
beyond what a record can say; `state_of` has it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.names import COMPLETE, PRUNED, ROLES, SWEEP_FILE, TRIALS_FOLDER
from analysis.names import FAILED as FAILED_TRIAL
from analysis.names import RUNNING as RUNNING_TRIAL
from analysis.seeds import SEEDS
from analysis.trial_file import write_trial_file
from analysis.wandb_runs import tracked
from analysis.wandb_runs.tracked import TrackedRun, number, numbers, whole
from mergenet.config.pair_labels import pairs_of
from mergenet.config.yaml12 import dump_yaml_values
from mergenet.records.atomic import write_text
from mergenet.records.run_record import (
    BEST_EPOCH,
    CONFIG_FILE,
    EPOCH,
    EPOCHS_DONE,
    ERROR,
    FAILED,
    FINISHED,
    MEASURE,
    METRIC,
    PROVENANCE_FILE,
    RESULT_FILE,
    RUNNING,
    SOURCE_BEST_EPOCH,
    STATUS,
    STEP,
    STOPPED,
    UNNAMED_METRIC,
    write_epochs,
    write_record,
)

ENDED = {COMPLETE: FINISHED, PRUNED: STOPPED, FAILED_TRIAL: FAILED}  # state of a trial -> status of its run
OF_SUMMARY = (BEST_EPOCH, SOURCE_BEST_EPOCH)


def is_own(run: TrackedRun) -> bool:
    """Whether it is a run that a sweep wrote; its name becomes that of a folder."""
    name = run.config.get(tracked.TRIAL_ID)
    named = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) is not None
    return named and run.config.get(tracked.ROLE) in ROLES


def write_sweep(runs: Sequence[TrackedRun], folder: Path) -> None:
    """The run folders, and of sweep.yaml what a table needs: the constraints."""
    bounds = next((run.config[tracked.CONSTRAINTS] for run in runs if tracked.CONSTRAINTS in run.config), "{}")
    write_text(folder / SWEEP_FILE, dump_yaml_values({"constraints": json.loads(bounds)}))
    for run in runs:
        write_run(run, folder / TRIALS_FOLDER / run.config[tracked.TRIAL_ID])


def write_run(run: TrackedRun, folder: Path) -> None:
    config, state, rows = run.config, state_of(run), epochs(run)
    recorded = state if state in ENDED else RUNNING_TRIAL
    error = run.summary.get(ERROR)
    trial = {"trial_id": config[tracked.TRIAL_ID], "role": config[tracked.ROLE], "params": params(config)}
    trial |= {"number": config.get(tracked.NUMBER, 0), "seed": config.get(tracked.SEED, 0)}
    seeds = {SEEDS: list(range(config[tracked.NUM_SEEDS]))} if tracked.NUM_SEEDS in config else {}
    folder.mkdir(parents=True)
    write_trial_file(folder, trial | {"state": recorded, "error": error} | seeds)
    method, seed = config.get(tracked.METHOD), config.get(tracked.SEED)
    write_text(folder / CONFIG_FILE, dump_yaml_values({"method": method, "seed": seed}))
    write_record(folder / PROVENANCE_FILE, {"config_hash": config.get(tracked.CONFIG_HASH)})
    write_epochs(folder, rows)
    write_record(folder / RESULT_FILE, result(run, state, rows) | {ERROR: error})


def state_of(run: TrackedRun) -> str:
    """complete, pruned or failed as the sweep said, stopped if it was interrupted; else what W&B shows, as crashed."""
    said = run.summary.get("state")
    if run.state in (tracked.FINISHED, tracked.FAILED) and said in ENDED:
        return str(said)
    if said == tracked.INTERRUPTED and run.state != tracked.RUNNING:
        return STOPPED
    return run.state


def epochs(run: TrackedRun) -> list[dict[str, Any]]:
    """One row an epoch, in order; of one that was logged twice the last."""
    found: dict[int, dict[str, Any]] = {}
    for row in run.rows:
        if (epoch := whole(row.get(EPOCH))) is not None:
            found[epoch] = numbers(row) | {EPOCH: epoch, STEP: whole(row.get(STEP)) or 0}
    return [found[epoch] for epoch in sorted(found)]


def params(config: Mapping[str, Any]) -> dict[str, Any]:
    """The searched settings by dotted path; lists as they were, from their words.

    Runs of earlier versions do not say which they are: all that is not known, with underscores in its name.
    """
    if (searched := config.get(tracked.SEARCHED)) is None:
        return {name: plain(value) for name, value in config.items() if name not in tracked.KEYS and name[:1] != "_"}
    names = {path: path.replace(".", "_") for path in str(searched).split(", ")}
    return {path: plain(config[name]) for path, name in names.items() if name in config}


def plain(value: Any) -> Any:
    """The inverse of `in_a_word`."""
    try:
        return json.loads(value) if isinstance(value, str) and value[:1] in ("[", "{") else pairs_of(value)
    except ValueError:
        return value


def result(run: TrackedRun, state: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """result.json: the best epochs and the test metrics of W&B's summary, what was validated from the rows."""
    summary = {name: number(value) for name, value in run.summary.items()}
    best = {name: summary.get(name) for name in OF_SUMMARY if name == BEST_EPOCH or name in summary}
    tested = {name: value for name, value in summary.items() if MEASURE.fullmatch(name) and "_val_" not in name}
    source = next((row for row in rows if row[EPOCH] == best.get(SOURCE_BEST_EPOCH)), {})
    validated = {name: value for name, value in source.items() if name.startswith("source_val_")}
    status = ENDED.get(state, STOPPED if state == STOPPED else RUNNING)
    about = {STATUS: status, EPOCHS_DONE: len(rows), METRIC: run.config.get(METRIC, UNNAMED_METRIC)}
    return about | best | validated | tested
