"""The table of an ablation: each variant beside the centre, paired by seed, and what its seeds could show."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.measures import STEP_SECONDS
from analysis.names import COMPLETE, FAILED
from analysis.report.verdict import show_difference
from analysis.statistics.paired_tests import PairedDifference, holm, paired_difference
from analysis.statistics.power import LEVEL, POWER, smallest_gain, smallest_p_text
from analysis.tables.load import is_missing, measure_columns
from mergenet.records.run_record import ADAPTER_PARAMETERS
from sweeps.ablation.variants import Variant

STEP_MS = "step_ms"
EXTRA = {ADAPTER_PARAMETERS: ("adapter parameters", ",.0f"), STEP_MS: ("ms a step", ".2f"), "note": ("", "")}
SAME = "trains to the same numbers as {}"
TOLD = "named; its gain is that of {} seeds that did not choose it"


def ablation_table(
    runs: pd.DataFrame,
    variants: Sequence[Variant],
    metric: str,
    dropped: Mapping[str, int] | None = None,
    told: Mapping[str, Sequence[int]] | None = None,
) -> pd.DataFrame:
    """One row a variant, the first of them, to which the others are compared, on top.

    runs: of `load_trials(folder, per_seed=True)`. dropped: variant -> seeds after which it got no more. told: variant
    -> the seeds that tell its gain, where others chose among the variants; of a variant that it lacks no gain is told.
    Columns: variant, n (seeds behind mean, low, high), gain with its t interval over num_pairs seeds, which both have,
    p, p_holm (over all variants), smallest_p, adapter_parameters, step_ms (medians), note, name. Metrics are fractions.
    """
    values = {one.name: values_of(runs, one.name, metric) for one in variants}
    reference, notes = variants[0], dropped or {}
    rows = []
    for one in variants:
        row = {"variant": one.label, **mean_of(values[one.name]), **costs_of(runs, one.name), "name": one.name}
        remarks = [note_of(runs, one.name, notes)]
        mine = values[one.name]
        if told is not None:
            mine = {seed: value for seed, value in mine.items() if seed in told.get(one.name, ())}
        if one is not reference and (found := paired(mine, values[reference.name])) is not None:
            row |= gain_columns(found)
            remarks += [TOLD.format(found.num_seeds)] if told is not None else []
            remarks += [SAME.format(reference.label)] if same_numbers(runs, one.name, reference.name) else []
        rows.append(row | {"note": "; ".join(filter(None, remarks))})
    return with_holm(pd.DataFrame(rows, columns=COLUMNS))


GAIN = ("gain", "gain_low", "gain_high", "p", "p_holm", "smallest_p", "num_pairs")
COLUMNS = ["variant", "n", "mean", "low", "high", *GAIN, ADAPTER_PARAMETERS, STEP_MS, "note", "name"]


def interaction_table(
    runs: pd.DataFrame, variants: Sequence[Variant], pairs: Sequence[tuple[str, str]], metric: str
) -> pd.DataFrame:
    """What changing two factors together adds to changing each alone, paired by seed: y_ab - y_a - y_b + y_centre.

    Of every combination whose two single changes are variants, too; 0 where effects add up. Holm over all of them.
    """
    by_changes = {frozenset((path, repr(value)) for path, value in one.changes.items()): one for one in variants}
    rows = []
    for one in variants:
        if tuple(one.changes) not in pairs:
            continue
        alone = [by_changes.get(frozenset([(path, repr(value))])) for path, value in one.changes.items()]
        if None in alone:
            continue
        values = [values_of(runs, other.name, metric) for other in (one, variants[0], *alone) if other is not None]
        seeds = sorted(set.intersection(*(set(found) for found in values)))
        if seeds:
            both, centre, first, second = (np.array([found[seed] for seed in seeds]) for found in values)
            found = paired_difference(both + centre, first + second)
            rows.append({"variant": one.label, "n": found.num_seeds, **gain_columns(found)})
    return with_holm(pd.DataFrame(rows, columns=["variant", "n", *GAIN]))


def values_of(runs: pd.DataFrame, name: str, metric: str) -> dict[int, float]:
    """Seed -> value of a variant's finished runs that have one."""
    mine = runs[(runs["trial"] == name) & (runs["state"] == COMPLETE)]
    if metric not in runs.columns:
        return {}
    found = zip(mine["seed"], mine[metric], strict=True)
    return {int(seed): float(value) for seed, value in found if not is_missing(value) and np.isfinite(value)}


def mean_of(values: Mapping[int, float]) -> dict[str, Any]:
    """Mean over seeds with Student's interval."""
    if not values:
        return {"n": 0, "mean": np.nan, "low": np.nan, "high": np.nan}
    found = np.array(list(values.values()))
    over = paired_difference(found, np.zeros_like(found))
    return {"n": over.num_seeds, "mean": over.mean, "low": over.interval[0], "high": over.interval[1]}


def costs_of(runs: pd.DataFrame, name: str) -> dict[str, Any]:
    mine = runs[(runs["trial"] == name) & (runs["state"] == COMPLETE)]
    parameters, seconds = mine[ADAPTER_PARAMETERS].dropna(), mine[STEP_SECONDS].dropna()
    return {
        ADAPTER_PARAMETERS: int(parameters.iloc[0]) if len(parameters) else 0 if len(mine) else None,
        STEP_MS: 1000 * float(seconds.median()) if len(seconds) else None,
    }


def note_of(runs: pd.DataFrame, name: str, dropped: Mapping[str, int]) -> str:
    mine = runs[runs["trial"] == name]
    failed = int((mine["state"] == FAILED).sum())
    parts = [f"no more after {dropped[name]} seeds"] if name in dropped else []
    parts += [f"{failed} of {len(mine)} failed"] if failed else []
    return "; ".join(parts)


def same_numbers(runs: pd.DataFrame, name: str, reference: str) -> bool:
    """Whether two variants have equal numbers in all that they measured, on each of at least two seeds."""
    done = runs[runs["state"] == COMPLETE].set_index("seed")[["trial", *measure_columns(runs)]]
    mine, other = (done[done["trial"] == one].drop(columns="trial") for one in (name, reference))
    seeds = mine.index.intersection(other.index)
    return len(seeds) > 1 and mine.loc[seeds].equals(other.loc[seeds])


def paired(values: Mapping[int, float], reference: Mapping[int, float]) -> PairedDifference | None:
    """Over the seeds that both have; None without any."""
    seeds = sorted(values.keys() & reference.keys())
    if not seeds:
        return None
    return paired_difference(np.array([values[seed] for seed in seeds]), np.array([reference[seed] for seed in seeds]))


def gain_columns(found: PairedDifference) -> dict[str, Any]:
    low, high = found.interval
    p = {"p": found.p_value, "smallest_p": found.smallest_p, "num_pairs": found.num_seeds}
    return {"gain": found.mean, "gain_low": low, "gain_high": high, **p}


def with_holm(table: pd.DataFrame) -> pd.DataFrame:
    tested = table["p"].notna()
    table = table.astype(dict.fromkeys(GAIN, float) | {"num_pairs": "Int64"})
    table.loc[tested, "p_holm"] = holm(table["p"][tested].to_numpy())
    return table


def verdict_lines(table: pd.DataFrame, metric: str) -> Iterator[str]:
    """What is shown, what is not, and what so many seeds could have shown. table: of `ablation_table`."""
    tested = table[table["p"].notna()]
    if tested.empty:
        yield "nothing is compared: no seed has trained to its end with the centre and a variant"
        return
    reference, count = table["variant"].iloc[0], len(tested)
    shown = tested[tested["p_holm"] < LEVEL]
    level = f"{100 * LEVEL:g} % level after Holm's correction for {count} variant{'s' if count > 1 else ''}"
    differences = ", ".join(f"{row['variant']} ({show_difference(metric, row['gain'])})" for _, row in shown.iterrows())
    yield f"different from {reference} at the {level}: {differences or 'none is shown to be'}"
    pairs = int(tested["num_pairs"].max())
    least = tested["smallest_p"].min() * count
    if least >= LEVEL:
        yield (
            f"  {pairs} seeds cannot show it for {count} variants: the smallest p is {smallest_p_text(pairs)}, "
            f"{min(1.0, least):.2g} after the correction; more seeds (--seeds) or fewer variants can"
        )
    if (found := found_effect(tested, pairs)) is not None:
        least_shown = show_difference(metric, found).lstrip("+")
        yield (
            f"  {pairs} seeds find a difference of {least_shown} {100 * POWER:g} times in 100 "
            f"(t test, {100 * LEVEL:g} % level, before the correction); what is not shown may be there all the same"
        )


def found_effect(tested: pd.DataFrame, pairs: int) -> float | None:
    """The smallest difference with the power asked for, by the median deviation of a pair's difference; None if 0."""
    gain = smallest_gain(pairs)
    half = (tested["gain_high"] - tested["gain_low"]) / 2
    whole = half[tested["num_pairs"] == pairs].dropna()
    if gain is None or whole.empty:
        return None
    from scipy import stats

    deviation = float(whole.median()) / float(stats.t.ppf(0.975, pairs - 1)) * pairs**0.5
    return gain * deviation or None
