"""Trains a configuration again and compares every metric of every epoch with those that its run recorded."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.verification.original import Original, find_original, num_workers
from analysis.verification.spread import spread
from analysis.verification.verdict import IDENTICAL, OUTSIDE, UNEXPLAINED, UNKNOWN, WITHIN, Verification
from mergenet.errors import UserError
from mergenet.records.inputs import changes
from mergenet.records.provenance import environment_changes
from mergenet.records.run_record import EPOCH, EPOCHS_HASH, STATUS, RunRecord, read_run

if TYPE_CHECKING:
    from mergenet.records.run_record import EpochResult


def verify(file: Path | str, run: Path | str | None = None, out: Path | str | None = None) -> Verification:
    """Trains the configuration in `file` again and says whether the metrics of its run come back.

    file, run: as for `find_original`. out: folder of the new run, kept; a temporary one if not given.
    Raises UserError if the original is not found or unfinished, or the training cannot begin.
    """
    original = find_original(Path(file), None if run is None else Path(run))
    with folder_for(None if out is None else Path(out)) as folder:
        for _ in train_again(original, folder):
            pass
        return judge(original, folder)


@contextmanager
def folder_for(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="mergenet-verify-") as folder:
        yield Path(folder) / "run"


def train_again(original: Original, folder: Path) -> Iterator["EpochResult"]:
    """Yields each epoch; an interrupted run in `folder` goes on. Raises UserError if that is the original's."""
    from mergenet.training.run import train_run  # loads torch

    if folder.resolve() == original.folder.resolve():
        raise UserError(f"out (--out) must be another folder than the original's, got {folder}")
    return train_run(original.config, folder)


def judge(original: Original, folder: Path) -> Verification:
    """Compares the runs. What was trained must be finished."""
    again = read_run(folder)
    compared, differences = metric_differences(original.record, again)
    changed, empty = changes_between(original.record, again), pd.DataFrame()
    about = (original.folder, folder, compared, differences)
    if differences.empty:
        return Verification(IDENTICAL, *about, changed, empty, again.result)
    changed += other_reasons(original, again)
    if not changed:
        return Verification(UNEXPLAINED, *about, changed, empty, again.result)
    found = spread(original, folder)
    known = bool((found["n"] >= 2).all())
    verdict = UNKNOWN if not known else WITHIN if found["within"].all() else OUTSIDE
    return Verification(verdict, *about, changed, found, again.result)


def metric_differences(first: RunRecord, second: RunRecord) -> tuple[int, pd.DataFrame]:
    """How many numbers both runs have, and those that differ: of every epoch but for times, and of result.json.

    NaN equals NaN. Columns that only one of two versions of mergenet writes are not compared; a missing epoch is.
    """
    compared, rows = 0, []
    columns = ["epoch", "column", "recorded", "again"]
    both = [*_by_epoch(first, second), (None, _numbers(first.result), _numbers(second.result))]
    for epoch, old, new in both:
        for name in old.keys() & new.keys():
            compared += 1
            if json.dumps(old[name]) != json.dumps(new[name]):
                rows.append((epoch, name, old[name], new[name]))
    table = pd.DataFrame(rows, columns=columns).astype({"epoch": "Int64"})
    return compared, table.sort_values(["epoch", "column"], ignore_index=True)


def _by_epoch(first: RunRecord, second: RunRecord) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
    """Epoch, and its row in each run without the times; of an epoch that one run lacks only its number."""
    old, new = ({row[EPOCH]: _timeless(row) for row in record.epochs} for record in (first, second))
    for epoch in sorted(old.keys() | new.keys()):
        if epoch in old and epoch in new:
            yield epoch, old[epoch], new[epoch]
        else:
            yield epoch, {EPOCH: epoch if epoch in old else None}, {EPOCH: epoch if epoch in new else None}


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith("seconds_")}


def _numbers(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in (EPOCHS_HASH, STATUS)}


def changes_between(first: RunRecord, again: RunRecord) -> list[str]:
    """Code, data, weights, versions, machine and threads that are not those of the first run."""
    return [*changes(first.provenance, again.provenance), *environment_changes(first.provenance, again.provenance)]


def other_reasons(original: Original, again: RunRecord) -> list[str]:
    """Why bits may differ though no record tells a change: edits, kernels that may, several processes."""
    found = []
    if original.record.provenance.get("git_dirty") and again.provenance.get("git_dirty"):
        found.append("mergenet's code was edited since its commit, both times")
    if not original.config.deterministic:
        found.append("deterministic is false: kernels may differ from run to run")
    if workers := num_workers(original.folder):
        found.append(f"one process (was workers_per_trial {workers})")
    return found
