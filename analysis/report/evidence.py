"""All that is known of a folder of runs, read once: what the answer and the figures of a report are made of."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.best import choose_best, choosing_metric, searched
from analysis.importance.evaluators import FANOVA, PED_ANOVA, importances
from analysis.importance.findings import Findings
from analysis.importance.search import load_search
from analysis.importance.space import read_base
from analysis.importance.surrogate import Surrogate, fit_surrogate
from analysis.names import STATE_FILE, TRIAL, UNKNOWN
from analysis.report.confirmation import confirmation
from analysis.sweep_file import read_sweep_file
from analysis.tables.load import load_trials, param_columns, varying
from mergenet.errors import CheckpointError, UserError
from mergenet.records.run_record import FINISHED
from mergenet.records.sealed import read_record

FEW = 100  # trials for which fANOVA takes a second more with twice the permutations
FOREST_RESAMPLES = 20


def permutations_and_resamples(trials: int) -> dict[str, tuple[int, int]]:
    """Of each evaluator, so that a report is made in seconds; `analyze importance` takes more.

    Of 19 permutations one that reaches as much by chance makes p 0.1, however much a setting explains; of 39 it may.
    """
    return {PED_ANOVA: (99, 50), FANOVA: (39 if trials <= FEW else 19, 20)}


class Quick(Findings):
    """What mattered, with fewer permutations and resamples."""

    @cached_property
    def importances(self) -> pd.DataFrame:
        times = permutations_and_resamples(len(self.search.used))
        tables = [importances(self.search, *counts, evaluators=[name]) for name, counts in times.items()]
        return pd.concat(tables, ignore_index=True)

    @cached_property
    def surrogate(self) -> Surrogate:
        return fit_surrogate(self.search, FOREST_RESAMPLES)


@dataclass(frozen=True)
class Evidence:
    """table: of `load_trials`. sweep: sweep.yaml as plain values, empty for a folder that is no sweep's.

    status: of sweep.json, empty without one. best, found, confirmed: None where `why_not` says why, under the same
    name; under "importances", why `found` cannot tell these.
    """

    folder: Path
    table: pd.DataFrame
    sweep: dict[str, Any]
    base: Any
    status: str
    metric: str | None
    best: pd.Series | None
    found: Findings | None
    confirmed: dict[str, Any] | None
    why_not: dict[str, str]

    @property
    def name(self) -> str:
        return str(self.sweep.get("name") or self.folder.resolve().name)

    @property
    def is_sweep(self) -> bool:
        return bool(self.sweep)

    @property
    def is_running(self) -> bool:
        """Whether a driver is at work, or was killed at it: its records are not whole yet."""
        return self.is_sweep and self.status not in ("", FINISHED)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The trials of the search; of a folder that is no sweep's, all runs."""
        return self.table[self.table["role"] == TRIAL] if self.is_sweep else self.table

    @property
    def settings(self) -> list[str]:
        """The columns of what was searched; of a folder that is no sweep's, of what differs between its runs."""
        differing = varying(self.table)
        if not self.is_sweep:
            return differing
        searched = self.found.search.parameters if self.found is not None else {}
        method = ["method"] if "method" in (*differing, *searched) else []
        return method + param_columns(self.table)

    @property
    def told(self) -> Findings | None:
        """What mattered; None where `why_not` says why that is not told."""
        return None if "importances" in self.why_not else self.found

    @property
    def finished(self) -> int:
        """How many trials the best was chosen from."""
        return 0 if self.metric is None else len(searched(self.table, self.metric))


def gather(folder: Path, status: str = "") -> Evidence:
    """Everything about a sweep folder, or another folder of runs. status: instead of that in sweep.json.

    Raises UserError if it holds no run that can be read.
    """
    folder = Path(folder)
    table, why_not = load_trials(folder), dict[str, str]()
    metric = best = found = confirmed = None
    try:
        metric = choosing_metric(table)
        best = choose_best(table, metric)
    except UserError as error:
        why_not["best"] = str(error)
    try:
        found = Quick(load_search(folder, metric, table=table))
        found.search.check()
    except UserError as error:
        why_not["importances"] = str(error)
    try:
        confirmed = confirmation(table, best) if best is not None else None
        why_not |= {"confirmed": "there is no best trial to be confirmed"} if best is None else {}
    except UserError as error:
        why_not["confirmed"] = str(error)
    sweep = read_sweep_file(folder)
    status = status or read_status(folder)
    return Evidence(folder, table, sweep, read_base(folder), status, metric, best, found, confirmed, why_not)


def read_status(folder: Path) -> str:
    """Of sweep.json; empty without one."""
    path = folder / STATE_FILE
    try:
        return str(read_record(path).get("status", UNKNOWN)) if path.exists() else ""
    except CheckpointError:
        return UNKNOWN
