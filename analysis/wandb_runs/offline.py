"""The runs of a sweep from the `.wandb` files of this machine, whether W&B has them or not."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from analysis.wandb_runs.framing import records, rows
from analysis.wandb_runs.tracked import FAILED, FINISHED, PREEMPTED, RUNNING, TrackedRun
from mergenet.errors import UserError


def read_offline(folder: Path) -> list[TrackedRun]:
    """The runs in all files below a folder, by the time at which each began. A run that was resumed has several files.

    Raises UserError if there is no file with a run.
    """
    runs: dict[str, TrackedRun] = {}
    files = sorted(folder.rglob("run-*.wandb"), key=lambda path: path.parent.name.split("run-")[-1])  # by its time
    for file in files:
        add(runs, file)
    if not runs:
        raise UserError(f"wandb:{folder} must hold files *run-*/run-*.wandb with a run, got {len(files)} such files")
    return list(runs.values())


def add(runs: dict[str, TrackedRun], file: Path) -> None:
    """What one file says, into the run that it is about."""
    found = list(records(file))
    about = next((record.run for record in found if record.HasField("run")), None)
    if about is None:  # a kill left it without one
        return
    run = runs.setdefault(about.run_id, TrackedRun(about.run_id, about.run_id, RUNNING, str(file)))
    run.state = RUNNING
    for record in found:
        if record.HasField("run"):
            run.name, run.group = record.run.display_name or run.id, record.run.run_group
            update(run.config, record.run.config.update)
        elif record.HasField("config"):
            update(run.config, record.config.update)
        elif record.HasField("summary"):
            update(run.summary, record.summary.update)
            for item in record.summary.remove:
                run.summary.pop(item.key, None)
        elif record.HasField("preempting"):
            run.state = PREEMPTED
        elif record.HasField("exit"):
            ended = FAILED if run.state != PREEMPTED else PREEMPTED
            run.state = ended if record.exit.exit_code else FINISHED
    run.rows += rows(file)


def update(values: dict[str, Any], items: Iterable[Any]) -> None:
    """items: of W&B's records, each a key or a path of keys, and a value as JSON."""
    for item in items:
        keys = list(item.nested_key) or [item.key]
        inside = values
        for key in keys[:-1]:
            inside = inside.setdefault(key, {})
        inside[keys[-1]] = json.loads(item.value_json)
