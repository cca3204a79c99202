"""Tables for runs that share seeds: accuracies by seed, and mean paired differences with their intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.compare import POINTS, paired_difference

SPLITS = ("val", "test")
BOOTSTRAP_SEEDS = 6  # fewer differences than this are too few to resample
CONTROLS = ("shuffled", "noise", "none")  # `real` is compared with these too: is it the source that helps?


def compare_all(rows: list[dict[str, Any]], variants: Sequence[str]) -> list[dict[str, Any]]:
    """Every variant against the first, and `real` against the controls that were run; in points (0.01).

    rows: one finished run each with variant, seed, val and test (fractions). low, high: Student's t at 95 %.
    """
    pairs = [(variant, variants[0]) for variant in variants[1:]]
    if "real" in variants:
        pairs += [("real", control) for control in CONTROLS if control in variants]
    return [_compare(rows, *pair, split) for pair in pairs for split in SPLITS]


def _compare(rows: list[dict[str, Any]], variant: str, baseline: str, split: str) -> dict[str, Any]:
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


def _values(rows: list[dict[str, Any]], variant: str, split: str) -> np.ndarray:
    """By seed, in order."""
    chosen = sorted((row["seed"], row[split]) for row in rows if row["variant"] == variant)
    return np.array([value for _, value in chosen])


def report(rows: list[dict[str, Any]], variants: Sequence[str], comparisons: list[dict[str, Any]]) -> None:
    found = {(row["variant"], row["seed"]): row for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    print("\ntop-1 accuracy in %, validation / test, at the best validation epoch")
    print(f"{'seed':>6}" + "".join(f"{variant:>17}" for variant in variants))
    for seed in seeds:
        print(f"{seed:6}" + "".join(_cell(found[variant, seed]) for variant in variants))
    means = [{split: _values(rows, variant, split).mean() for split in SPLITS} for variant in variants]
    print(f"{'mean':>6}" + "".join(_cell(mean) for mean in means))
    print("\nmean paired difference in points, 95 % intervals, two-sided sign-flip p")
    print(f"{'':24}{'split':>6}{'mean':>8}   {'t interval':18}{'BCa interval':18}{'p':>7}")
    for c in comparisons:
        t, bca = _interval(c["low"], c["high"]), _interval(c["bootstrap_low"], c["bootstrap_high"])
        name = f"{c['variant']} - {c['baseline']}"
        print(f"{name:24}{c['split']:>6}{c['mean']:+8.2f}   {t:18}{bca:18}{c['p_value']:7.3f}")
    for note in dict.fromkeys(c["note"] for c in comparisons if c["note"]):
        print(note)
    if {"real", "live"} <= set(variants):
        same = all(found["real", seed]["weights"] == found["live", seed]["weights"] for seed in seeds)
        print(f"replayed source against live source: weights {'bitwise equal' if same else 'DIFFER'}")


def _cell(row: dict[str, Any]) -> str:
    return f"{POINTS * row['val']:10.2f} /{POINTS * row['test']:5.1f}"


def _interval(low: float, high: float) -> str:
    return "-" if np.isnan(low) else f"{low:+.2f} to {high:+.2f}"
