"""Tables for runs that share seeds: metrics by seed, and mean paired differences with their intervals."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from analysis.names import POINTS
from analysis.statistics.paired_tests import holm, paired_difference
from analysis.statistics.power import LEVEL

# What is compared, by the key of a row: metrics of the target, and of a source that also receives
SPLITS = {
    "val": "validation",
    "test": "test",
    "area": "validation, mean over the epochs",
    "source_best_val": "source, validation",
    "source_test": "source, test",
}
BOOTSTRAP_SEEDS = 6  # fewer differences than this are too few to resample

Pair = tuple[str, str]  # variant, baseline
Rows = list[dict[str, Any]]


def families(variants: Sequence[str], reference: str, others: Sequence[str]) -> list[list[Pair]]:
    """Every variant against the first, and `reference`, if it was run, against `others`; each corrected by itself."""
    against_others = [(reference, other) for other in others if reference in variants and other != reference]
    return [[(variant, variants[0]) for variant in variants[1:]], against_others]


def compare_all(rows: Rows, families: Sequence[Sequence[Pair]]) -> list[dict[str, Any]]:
    """Paired differences in points (0.01), a table for each family and split, p_holm corrected over the table.

    rows: one finished run each with variant, seed, and for the splits that it has a fraction. low, high: Student's t
    at 95 %.
    """
    comparisons = []
    for number, pairs in enumerate(families):
        for split in SPLITS:
            having = {row["variant"] for row in rows if row.get(split) is not None}
            found = [_compare(rows, *pair, split) for pair in pairs if having.issuperset(pair)]
            corrected = holm(np.array([c["p_value"] for c in found]))
            tables = [{"table": f"{number}/{split}", "p_holm": float(p)} for p in corrected]
            comparisons += [c | more for c, more in zip(found, tables, strict=True)]
    return comparisons


def _compare(rows: Rows, variant: str, baseline: str, split: str) -> dict[str, Any]:
    found = paired_difference(_values(rows, variant, split), _values(rows, baseline, split))
    enough = found.num_seeds >= BOOTSTRAP_SEEDS
    bootstrap = found.bootstrap_interval if enough else (np.nan, np.nan)
    return {
        "variant": variant,
        "baseline": baseline,
        "split": split,
        "mean": POINTS * found.mean,
        "low": POINTS * found.interval[0],
        "high": POINTS * found.interval[1],
        "bootstrap_low": POINTS * bootstrap[0],
        "bootstrap_high": POINTS * bootstrap[1],
        "p_value": found.p_value,
        "smallest_p": found.smallest_p,
        "num_seeds": found.num_seeds,
        "note": found.note,
    }


def _values(rows: Rows, variant: str, split: str) -> np.ndarray:
    """The values in the order of seeds."""
    chosen = sorted((row["seed"], row[split]) for row in rows if row["variant"] == variant)
    return np.array([value for _, value in chosen])


def report(rows: Rows, variants: Sequence[str], comparisons: list[dict[str, Any]]) -> None:
    report_runs(rows, variants, "metric", "val", "test", "target")
    received = [name for name in variants if any("source_test" in row for row in rows if row["variant"] == name)]
    if received:
        report_runs(rows, received, "source_metric", "source_best_val", "source_test", "source")
    print("\nmean paired differences in points, 95 % intervals, two-sided sign-flip p, Holm: corrected over the table")
    width = max((len(_name(c)) for c in comparisons), default=0)
    for _, table in groupby(comparisons, key=lambda c: str(c["table"])):
        report_table(list(table), width)
    for note in dict.fromkeys(c["note"] for c in comparisons if c["note"]):
        print(note)


def report_runs(rows: Rows, variants: Sequence[str], metric: str, val: str, test: str, network: str) -> None:
    found = {(row["variant"], row["seed"]): row for row in rows}
    width = max(17, *(len(name) + 2 for name in variants))
    name = next(str(row[metric]) for row in rows if metric in row)
    print(f"\n{network}: {name} in %, validation / test, at the best validation epoch")
    print(f"{'seed':>6}" + "".join(f"{variant:>{width}}" for variant in variants))
    for seed in sorted({row["seed"] for row in rows}):
        cells = [_cell(found[variant, seed][val], found[variant, seed][test]) for variant in variants]
        print(f"{seed:6}" + "".join(f"{cell:>{width}}" for cell in cells))
    means = [_cell(_values(rows, v, val).mean(), _values(rows, v, test).mean()) for v in variants]
    print(f"{'mean':>6}" + "".join(f"{cell:>{width}}" for cell in means))


def report_table(comparisons: list[dict[str, Any]], width: int) -> None:
    first = comparisons[0]
    print(f"\n{SPLITS[first['split']]}")
    print(f"{'':{width}}{'mean':>8}   {'t interval':18}{'BCa interval':18}{'p':>7}{'Holm':>8}")
    for c in comparisons:
        t, bca = _interval(c["low"], c["high"]), _interval(c["bootstrap_low"], c["bootstrap_high"])
        print(f"{_name(c):{width}}{c['mean']:+8.2f}   {t:18}{bca:18}{c['p_value']:7.3f}{c['p_holm']:8.3f}")
    smallest = min(1.0, len(comparisons) * first["smallest_p"])
    if smallest >= LEVEL > first["smallest_p"]:
        seeds = f"{first['num_seeds']} seeds"
        print(f"{len(comparisons)} comparisons of {seeds}: one alone cannot have a corrected p below {smallest:.2g}")


def _name(comparison: dict[str, Any]) -> str:
    return f"{comparison['variant']} - {comparison['baseline']}"


def _cell(val: float, test: float) -> str:
    return f"{POINTS * val:.2f} /{POINTS * test:5.1f}"


def _interval(low: float, high: float) -> str:
    return "-" if np.isnan(low) else f"{low:+.2f} to {high:+.2f}"
