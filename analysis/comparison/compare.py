"""Runs of different folders, methods or sweeps, paired by seed and data split: their gains over one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.comparison.notes import notes
from analysis.comparison.pairing import check_inputs, compared_settings, pair
from analysis.comparison.recipes import Recipe, check_settings, read_recipe, varying
from analysis.comparison.sides import FOLDER, SIDE, check_one_recipe, gather, split_by
from analysis.measures import STEP_SECONDS
from analysis.names import RUN
from analysis.statistics.paired_tests import PairedDifference, holm, mean_interval, paired_difference
from analysis.tables import formatting
from analysis.tables.formats import cells, columns
from analysis.tables.formatting import counted
from analysis.tables.load import measure_columns, selecting_metrics
from mergenet.errors import UserError, unknown_name
from mergenet.records.run_record import ADAPTER_PARAMETERS, CONFIG_FILE, test_column

COST = (STEP_SECONDS, "seconds", ADAPTER_PARAMETERS)  # columns beside those that were measured; less is better


@dataclass(frozen=True)
class Comparison:
    """Sides, a row each, the baseline first, and what was compared.

    table: columns as in `analysis.tables.formats`, means and gains in the metric's own unit (fractions).
    runs: the runs behind it, one a row, with the columns `side`, `seed` and the metric: of each side the same seeds.
    gains: side -> its paired difference to the baseline. compared: setting -> the values that differ.
    notes: sentences on what was paired, left out and could be shown. `print(comparison)` shows table and notes.
    """

    metric: str
    table: pd.DataFrame
    runs: pd.DataFrame
    gains: dict[str, PairedDifference]
    compared: dict[str, list[object]]
    notes: list[str]
    confidence: float = 0.95

    def __str__(self) -> str:
        shown = columns(self.table, self.metric, confidence=self.confidence)
        titles, right = [column.title for column in shown], [column.number for column in shown]
        return "\n".join([formatting.plain(titles, cells(self.table, shown), right), "", *self.notes])


def compare(
    folders: Sequence[Path | str] | Path | str,
    by: Sequence[str] | str = (),
    baseline: str | None = None,
    metric: str | None = None,
    roles: Sequence[str] = (),
    trials: Sequence[str] = (),
    common: bool = False,
    confidence: float = 0.95,
) -> Comparison:
    """Pairs the runs of folders by seed and data split, and compares each side with the baseline.

    folders: of sweeps, of runs, or single runs. Each is a side; a sweep that is alone is compared in itself, its
    confirmation unless `roles` or `trials` choose; runs in one folder by the settings that tell them apart.
    by: settings that are compared, such as "method": the sides are their values, whatever folder the runs are in, and
    nothing else may differ. Without it whatever differs between the sides is compared, but for task and data.
    baseline: a side; the first if not given, of sides by value no transfer. metric: what was measured on a split, or
    one of COST; the test split's counterpart of what selects the epochs if not given. common: leaves out the seeds that
    a side lacks.
    Raises UserError, one line each: a side without finished runs, a missing seed, one that is there twice, settings
    that differ within a side or beside what is compared, other data or code, an unknown metric, side or setting.
    """
    given = [folders] if isinstance(folders, str | Path) else list(folders)
    by = check_settings([by] if isinstance(by, str) else by)
    runs = gather([Path(folder) for folder in given], roles, trials)
    runs, recipes = with_recipes(runs)
    plain = len(given) == 1 and (runs["role"] == RUN).all()
    own = [recipes[folder] for folder in runs[FOLDER]]
    if fields := by or (varying(own) if plain else []):
        runs = runs.assign(**{SIDE: split_by(runs, own, fields)})
    check_one_recipe(runs, own)
    base = base_side(runs, recipes, baseline, bool(fields))
    metric = compared_metric(runs, metric)
    runs[ADAPTER_PARAMETERS] = runs[ADAPTER_PARAMETERS].fillna(0)  # of a run without transfer none is recorded
    runs = pd.concat([runs[runs[SIDE] == base], runs[runs[SIDE] != base]])
    pairs = pair(runs, recipes, metric, common)
    compared = compared_settings(pairs, recipes, by)
    check_inputs(pairs, base, list(compared))
    values = {side: pairs.values(side, metric) for side in pairs.runs}
    gains = {side: paired_difference(values[side], values[base], confidence) for side in values if side != base}
    paired = pd.DataFrame([row for own in pairs.runs.values() for row in own.values()]).reset_index(drop=True)
    told = notes(pairs, base, gains, compared, recipes, metric)
    return Comparison(metric, table_of(values, gains, confidence), paired, gains, compared, told, confidence)


def with_recipes(runs: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Recipe]]:
    """The runs that began to train, and their recipes by folder. Raises UserError if a side has none."""
    began = runs[[(Path(folder) / CONFIG_FILE).is_file() for folder in runs[FOLDER]]]
    for side, own in runs.groupby(SIDE, sort=False):
        if side not in set(began[SIDE]):
            raise UserError(f"{side} must hold a finished run, got {counted(own['state'])} before the first epoch")
    return began.reset_index(drop=True), {folder: read_recipe(Path(folder)) for folder in began[FOLDER]}


def base_side(runs: pd.DataFrame, recipes: dict[str, Recipe], baseline: str | None, by_value: bool) -> str:
    """Raises UserError if there is one side only, or none of that name."""
    sides = list(map(str, runs[SIDE].unique()))
    if len(sides) < 2:
        raise UserError(
            f"there must be at least two sides to compare, got {', '.join(sides)}; give another folder, or name the "
            "setting that tells the sides apart by by=... (--by), or several roles (--role) or trials (--trial)"
        )
    if baseline is not None:
        if baseline not in sides:
            raise UserError(unknown_name("baseline (--baseline)", baseline, sides))
        return baseline
    without = [
        side for side, folder in zip(runs[SIDE], runs[FOLDER], strict=True) if recipes[folder]["method"] == "none"
    ]
    return str(without[0]) if by_value and without else sides[0]


def compared_metric(runs: pd.DataFrame, metric: str | None) -> str:
    """Raises UserError if no run has the metric, or the runs select by different ones and none is named."""
    known = [*measure_columns(runs), *COST]
    if metric is not None:
        if metric not in known:
            raise UserError(unknown_name("metric (--metric)", metric, known))
        return metric
    selecting = selecting_metrics(runs)
    if len(selecting) > 1:
        got = ", ".join(f"{name} ({count} runs)" for name, count in selecting.items())
        raise UserError(f"the runs must select their best epochs by one metric, got {got}; they learn different tasks")
    if not selecting:
        raise UserError(f"there must be a finished run to compare, got {counted(runs['state'])}")
    return test_column(next(iter(selecting)))


def table_of(values: dict[str, np.ndarray], gains: dict[str, PairedDifference], confidence: float) -> pd.DataFrame:
    """A row a side, as `analysis.tables.formats` has it; the baseline's gain is missing. values: side -> one a seed."""
    rows = []
    for side, found in values.items():
        mean, low, high = mean_interval(found, confidence)
        row = {"variant": side, "n": len(found), "mean": mean, "low": low, "high": high}
        rows.append(row | (_gain_columns(gains[side]) if side in gains else {}))
    table = pd.DataFrame(rows)
    corrected = dict(zip(gains, holm(np.array([gain.p_value for gain in gains.values()])), strict=True))
    table.insert(list(table.columns).index("p") + 1, "p_holm", table["variant"].map(corrected).astype(float))
    return table


def _gain_columns(gain: PairedDifference) -> dict[str, float]:
    (low, high), (bca_low, bca_high) = gain.interval, gain.bootstrap_interval
    ends = {"gain_low": low, "gain_high": high, "bca_low": bca_low, "bca_high": bca_high}
    return {"gain": gain.mean, **ends, "p": gain.p_value, "smallest_p": gain.smallest_p}
