"""Runs of earlier sweeps in the place of trainings: those of the same configuration, seed, data and code.

A run is copied, without its checkpoints, which a finished run does not need; trial.json says where it comes from.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.names import COMPLETE
from analysis.trial_file import read_outcome, trial_folders, write_trial_file
from mergenet.config import Config
from mergenet.errors import ConfigError, UserError
from mergenet.records.inputs import CODE, DATA, changes
from mergenet.records.provenance import config_hash, differences, provenance
from mergenet.records.run_record import CHECKPOINT_FOLDER, read_provenance
from sweeps.trials.messages import Job
from sweeps.trials.record import trial_values
from sweeps.trials.sweep_dir import shown_path

UNDONE = ".reused-"  # what a kill leaves of a copy, in the ablation's folder


@dataclass
class Found:
    """runs: job -> the run that stands for it. refused: reason -> number of runs that are the same but for it."""

    runs: dict[str, Path] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)

    def lines(self) -> Iterator[str]:
        """What is reused, and why others are not."""
        for folder, count in Counter(run.parent.parent for run in self.runs.values()).items():
            yield f"reused: {count} run{'s' if count > 1 else ''} of {shown_path(folder)}"
        for reason, count in self.refused.items():
            yield f"not reused: {count} run{'s' if count > 1 else ''} of the same configuration and seed, {reason}"


def check_reusable(folders: Iterable[Path]) -> None:
    """Raises ConfigError for a folder without runs."""
    for folder in folders:
        if not trial_folders(folder):
            raise ConfigError(f"reuse (--reuse) must name folders of sweeps or ablations with runs, got {folder}")


def find_runs(jobs: Sequence[Job], folders: Sequence[Path]) -> Found:
    """The finished runs in sweep folders that are those of the jobs."""
    wanted = {key: job for job in jobs for key in hashes(Config.model_validate(job["config"]))}
    found, current = Found(), Now()
    for folder in folders:
        for run in trial_folders(folder):
            origin = _origin(run)
            job = wanted.get(origin.get("config_hash", ""))
            if job is None or job["id"] in found.runs:
                continue
            if reason := other(origin, current(Config.model_validate(job["config"]))):
                found.refused[reason] += 1
            else:
                found.runs[job["id"]] = run
    return found


def hashes(config: Config) -> tuple[str, str]:
    """With the source live and recorded: an exact recording gives the same, bit for bit; of another, recorded alone."""
    source = config.source.model_copy(update={"kind": "live", "recording": None})
    live = config.model_copy(update={"source": source})
    if config.source.kind not in ("live", "recorded"):
        return config_hash(config), config_hash(config)
    recorded = live.model_copy(update={"source": source.model_copy(update={"kind": "recorded"})})
    return config_hash(live if source.exact else recorded), config_hash(recorded)


def _origin(run: Path) -> dict[str, Any]:
    """Provenance of a run that trained to its end; empty for any other."""
    try:
        trial, _, _ = read_outcome(run)
        return read_provenance(run) if trial is not None and trial["state"] == COMPLETE else {}
    except (UserError, OSError):  # damaged: its own sweep says so
        return {}


class Now:
    """What a configuration would be trained with at present; data are loaded once."""

    def __init__(self) -> None:
        self.data: dict[str, dict[str, str]] = {}

    def __call__(self, config: Config) -> dict[str, Any]:
        from mergenet.training.unchanged import data_hashes  # torch

        source = config.source.model_copy(update={"kind": "live", "recording": None})
        live = config.model_copy(update={"source": source}) if config.source.kind == "recorded" else config
        networks = [network.model_dump_json(include={"task", "data"}) for network in (live.target, live.source)]
        key = " ".join([live.method, live.source.kind, *networks])
        if key not in self.data:
            self.data[key] = data_hashes(live)
        return provenance(live, self.data[key])


def other(first: dict[str, Any], now: dict[str, Any]) -> str:
    """What a run was trained with and there is no more; empty if it would give the same numbers now."""
    versions = [origin.get("versions", {}).get("mergenet") for origin in (first, now)]
    found = [*changes(first, now, (DATA, CODE)), *differences(first, now)]
    found += [f"mergenet {versions[1]} (was {versions[0]})"] if versions[0] != versions[1] else []
    return ", ".join(found)


def copy_run(run: Path, job: Job, folder: Path) -> None:
    """The run under the job's name. After a kill either all of it is there or nothing."""
    target, unfinished = Path(job["folder"]), folder / f"{UNDONE}{job['id']}"
    shutil.copytree(run, unfinished, ignore=shutil.ignore_patterns(CHECKPOINT_FOLDER, "trial.json", ".*"))
    write_trial_file(unfinished, trial_values(job, COMPLETE) | {"reused": str(run)})
    target.parent.mkdir(exist_ok=True)
    unfinished.rename(target)


def clear_unfinished(folder: Path) -> None:
    for path in folder.glob(f"{UNDONE}*"):
        shutil.rmtree(path)
