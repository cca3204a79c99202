"""The trials of a sweep's search: what each drew, how it ended, and its value."""

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.best import choosing_metric, first_of_best
from analysis.importance.space import Label, Parameter, base_labels, label_of, read_base, read_parameters
from analysis.measures import STEP_SECONDS, at_best_so_far
from analysis.names import COMPLETE, FAILED, PRUNED, RUNNING, TRIAL, mode_of
from analysis.seeds import EPOCHS_TRAINED, SEEDS
from analysis.tables.load import BREAKS, is_missing, load_trials, selecting_metrics
from analysis.trial_file import read_trial_file
from mergenet.errors import UserError
from mergenet.records.run_record import ADAPTER_PARAMETERS, METRIC, STOPPED, is_metric, measured, read_epochs

MIN_TRIALS = 10  # the best 5 of 10 can separate two halves with p 0.008; of fewer trials nothing is told from chance
MOST = 1_000  # trials of which importances and forests are computed
COST = (STEP_SECONDS, ADAPTER_PARAMETERS, "seconds")
COLUMNS = ("trial", "number", "state", "epochs_done", "value", EPOCHS_TRAINED, *COST, BREAKS, "folder")


@dataclass(frozen=True)
class Search:
    """What was searched, and the trials with what they drew.

    trials: a row each, in the order of their draws: COLUMNS, then a column of labels for each parameter, None where a
    trial did not draw it. value: the metric that is explained, NaN for a trial that has none.
    epoch: None if the value is that of complete trials; else it is that at the best epoch up to this one, of all that
    trained as long. curves: the value at the best epoch so far, by epoch, of each trial's first seed, by name; the best
    by the metric that selects. base: plain values.
    seeds: per trial, as they were planned.
    """

    folder: Path
    metric: str
    epoch: int | None
    parameters: dict[str, Parameter]
    trials: pd.DataFrame
    curves: dict[str, dict[int, float]]
    base: Any
    seeds: int = 1

    @cached_property
    def used(self) -> pd.DataFrame:
        """The trials that have a value."""
        return self.trials.dropna(subset=["value"]).reset_index(drop=True)

    @cached_property
    def sampled(self) -> "Search":
        """Of more than MOST used trials a search of that many, the same each time: what importances and forests learn
        from. Those of all are narrower, and of 10,000 take minutes.
        """
        if len(self.used) <= MOST:
            return self
        kept = np.sort(np.random.default_rng(0).choice(len(self.used), MOST, replace=False))
        return replace(self, trials=self.used.iloc[kept].reset_index(drop=True))

    @property
    def sign(self) -> float:
        """1 if more is better, else -1."""
        return 1.0 if mode_of(self.metric) == "max" else -1.0

    @property
    def goal(self) -> np.ndarray:
        """The values of the used trials with the sign by which more is better."""
        return self.sign * self.used["value"].to_numpy(dtype=float)

    @property
    def spread(self) -> float:
        """Standard deviation of the goal, 1 if there is none."""
        return float(self.goal.std()) or 1.0

    @property
    def standard_goal(self) -> np.ndarray:
        """The goal in its standard deviations, rounded: forests then do not depend on the metric's unit.

        scikit-learn splits nothing whose variance is below 2e-16; and rounding would decide between equal splits.
        """
        return np.round(self.goal / self.spread, 9)

    @cached_property
    def best(self) -> pd.Series:
        """The used trial that `choose_best` names; with an epoch the one that it would name by the values up to then.

        Raises UserError if each of them breaks a constraint.
        """
        kept = self.used[self.used[BREAKS].isna()]
        if kept.empty:
            raise UserError(
                f"there must be a trial that breaks no constraint to be the best, got {len(self.used)} others"
            )
        return first_of_best(kept, "value", mode_of(self.metric))

    @cached_property
    def base_labels(self) -> dict[str, Label]:
        return base_labels(self.base, self.parameters)

    @cached_property
    def last_epoch(self) -> int:
        """The epochs of a whole training: the base's, or the most that a trial has trained."""
        epochs = self.base.get("epochs") if isinstance(self.base, dict) else None
        most = int(self.trials["epochs_done"].max())
        return max(int(epochs), most) if isinstance(epochs, int) and "epochs" not in self.parameters else most

    @property
    def unit(self) -> str:
        """Of differences of the metric as they are shown."""
        return " points" if is_metric(self.metric) else ""

    @property
    def scale(self) -> float:
        """From the metric's own unit to the one that is shown: fractions in percent, differences in points."""
        return 100.0 if is_metric(self.metric) else 1.0

    @property
    def label(self) -> str:
        """The value, for a reader."""
        name = f"val {measured(self.metric)}"
        shown = f"{name} %" if is_metric(self.metric) else name
        return shown if self.epoch is None else f"{shown} by epoch {self.epoch}"

    @property
    def varied(self) -> list[str]:
        """The parameters of which the used trials drew more than one value."""
        return [path for path in self.parameters if len(set(_drawn(self.used[path]))) > 1]

    def check(self) -> None:
        """Raises UserError if the trials with a value are too few to tell importance from chance, or all alike."""
        count = len(self.used)
        if count < MIN_TRIALS:
            raise UserError(self._too_few(count))
        if np.ptp(self.goal) == 0:
            raise UserError(
                f"{self.folder} must hold trials of different {self.metric}, got {count} trials with "
                f"{self.used['value'].iloc[0]:.4g} each; there is nothing to explain"
            )
        if not self.varied:
            raise UserError(f"{self.folder} must hold trials of different settings, got {count} with the same")

    def _too_few(self, count: int) -> str:
        states = ", ".join(f"{number} {state}" for state, number in Counter(self.trials["state"]).items())
        what = "complete trials" if self.epoch is None else f"trials of {self.epoch} epochs or more"
        must = f"hold at least {MIN_TRIALS} {what} with a {self.metric} to tell importance from chance"
        epochs = sorted(self.trials["epochs_done"][self.trials["state"] != FAILED], reverse=True)
        reached = int(epochs[MIN_TRIALS - 1]) if len(epochs) >= MIN_TRIALS else 0
        if reached and reached != self.epoch:
            number = sum(epoch >= reached for epoch in epochs)
            way_out = f"--epoch {reached} (epoch={reached}) explains what {number} trials had reached by then"
        else:
            way_out = "search with a larger num_trials"
        return f"{self.folder} must {must}, got {count} (of {len(self.trials)}: {states}); {way_out}"

    def left_out(self) -> dict[str, int]:
        """How many trials have no value, by reason."""
        out = self.trials[self.trials["value"].isna()]
        ended = COMPLETE if self.epoch is None else None
        short = f"fewer than {self.epoch} epochs"
        names = {PRUNED: "stopped early", STOPPED: "paused", RUNNING: "still training", FAILED: FAILED}
        reasons = Counter(
            FAILED
            if state == FAILED
            else "without a finite value"
            if state == ended or (self.epoch is not None and done >= self.epoch)
            else names[state]
            if self.epoch is None
            else short
            for state, done in zip(out["state"], out["epochs_done"], strict=True)
        )
        return dict(reasons)


def load_search(
    folder: str | Path, metric: str | None = None, epoch: int | None = None, table: pd.DataFrame | None = None
) -> Search:
    """The search of a sweep folder, from its records alone.

    metric: a validation metric of the table; that which selects the best epochs if not given. Another one counts at the
    epoch that is the best by that, everywhere. epoch: explain the value at the best up to this epoch, of all trials
    that trained as long and did not fail, instead of that of complete trials;
    with several seeds per trial that of the first. table: that of the folder, if it has been loaded. Raises UserError.
    """
    folder = Path(folder)
    table = load_trials(folder) if table is None else table
    found = table[table["role"] == TRIAL].sort_values(["number", "trial"], kind="stable", ignore_index=True)
    drawn = [_labels(Path(run)) for run in found["folder"]]
    parameters = read_parameters(folder, {path: [d[path] for d in drawn if path in d] for path in _paths(drawn)})
    if found.empty:
        raise UserError(f"{folder} must hold a trial of the search, and has none yet; `mergenet sweep status` says why")
    metric = choosing_metric(found, metric)
    mixed = len(selecting_metrics(found)) > 1  # the same name means another metric in another task
    found = found[found[METRIC] == metric].reset_index(drop=True) if mixed else found
    drawn = [_labels(Path(run)) for run in found["folder"]]
    runs = zip(found["trial"], found["folder"], found[METRIC], strict=True)
    curves = {name: _curve(Path(run), metric, selecting) for name, run, selecting in runs}
    most = int(found["epochs_done"].max())
    if epoch is not None and not 1 <= epoch <= most:
        raise UserError(f"--epoch (epoch=) must be from 1 to {most}, the most that a trial has trained, got {epoch}")
    trials = found.reindex(columns=[name for name in COLUMNS if name != "value"])
    trials.insert(4, "value", [_value(row, metric, epoch, curves[row["trial"]]) for _, row in found.iterrows()])
    trials[EPOCHS_TRAINED] = trials[EPOCHS_TRAINED].fillna(trials["epochs_done"])
    seeds = max(_seeds(Path(run)) for run in found["folder"]) if SEEDS in found.columns else 1
    for path in parameters:
        trials[path] = pd.Series([labels.get(path) for labels in drawn], dtype=object)
    return Search(folder, metric, epoch, parameters, trials, curves, read_base(folder), seeds)


def _paths(drawn: list[dict[str, Label]]) -> list[str]:
    return list(dict.fromkeys(path for labels in drawn for path in labels))


def _labels(run: Path) -> dict[str, Label]:
    trial = read_trial_file(run)
    return {} if trial is None else {path: label_of(value) for path, value in trial["params"].items()}


def _seeds(run: Path) -> int:
    return len((read_trial_file(run) or {}).get(SEEDS, ())) or 1


def _curve(run: Path, metric: str, selecting: Any) -> dict[int, float]:
    return at_best_so_far(read_epochs(run), metric, metric if is_missing(selecting) else str(selecting))


def _value(row: pd.Series, metric: str, epoch: int | None, curve: dict[int, float]) -> float:
    """NaN where there is none."""
    if epoch is None:
        value = math.nan if row["state"] != COMPLETE or is_missing(row[metric]) else float(row[metric])
        return value if math.isfinite(value) else math.nan
    known = [value for at, value in curve.items() if at <= epoch]
    return known[-1] if known and row["state"] != FAILED and row["epochs_done"] >= epoch else math.nan


def _drawn(column: pd.Series) -> list[Label]:
    return [label for label in column if label is not None]
