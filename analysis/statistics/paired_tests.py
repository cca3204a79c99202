"""Paired comparisons: the same seeds with and without a change, and what their differences can show.

Two runs of one seed share data order and initial weights, so their difference is far less noisy than
either run; every comparison here is of such differences. [ours]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.names import POINTS
from analysis.statistics.power import EXACT_SEEDS, RESAMPLES, smallest_p, smallest_p_text
from analysis.tables.load import canonical, is_missing
from mergenet.config.choices import unused_settings
from mergenet.errors import UserError
from mergenet.records.run_record import is_loss

SPLIT = "target.data.split_seed"  # of the runs' table: by this runs pair as well as by seed
SECTIONS = ("method", "epochs", "source", "target", "transfer", "distillation", "amp", "deterministic")  # of settings
RNG_SEED = 0  # fixed, so that a table is the same each time it is printed


@dataclass(frozen=True)
class PairedDifference:
    """Mean of variant - baseline over seeds, in the metric's own unit, and its uncertainty.

    interval: Student's t; bootstrap_interval: BCa, both two-sided at `confidence`; NaN with one seed.
    p_value: two-sided sign-flip permutation test; smallest_p: the smallest that num_seeds seeds can give.
    note: what the numbers cannot show, empty if nothing.
    """

    mean: float
    standard_error: float
    interval: tuple[float, float]
    bootstrap_interval: tuple[float, float]
    p_value: float
    smallest_p: float
    num_seeds: int
    confidence: float
    note: str


def paired_difference(variant: np.ndarray, baseline: np.ndarray, confidence: float = 0.95) -> PairedDifference:
    """Compare two arrays of one metric, element i of both from the same seed.

    The result does not depend on the order of the seeds, and swapping the two arrays negates it exactly.
    Raises UserError if the arrays are empty, of different lengths, not finite, or confidence is not in (0, 1).
    """
    variant, baseline = np.asarray(variant, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    _check_arrays(variant, baseline, confidence)
    differences, sign = _canonical(variant - baseline)
    n = differences.size
    # rounding error between equal differences (0.72 - 0.70 is not 0.62 - 0.60)
    tolerance = 1e-12 * max(float(np.abs(variant).max()), float(np.abs(baseline).max()))
    error = float(differences.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan
    return PairedDifference(
        mean=sign * float(differences.mean()),
        standard_error=error,
        interval=_signed(sign, _t_interval(differences, error, confidence)),
        bootstrap_interval=_signed(sign, _bootstrap_interval(differences, tolerance, confidence)),
        p_value=_sign_flip_p(differences, tolerance),
        smallest_p=smallest_p(n),
        num_seeds=n,
        confidence=confidence,
        note=_note(n, 1 - confidence),
    )


def _check_arrays(variant: np.ndarray, baseline: np.ndarray, confidence: float) -> None:
    if variant.ndim != 1 or variant.shape != baseline.shape or variant.size == 0:
        raise UserError(
            "variant and baseline must be of one length, one value a seed and at least one seed, "
            f"got shapes {variant.shape} and {baseline.shape}"
        )
    for name, values in (("variant", variant), ("baseline", baseline)):
        if not np.isfinite(values).all():
            raise UserError(f"{name} must be finite, got {values.tolist()}; leave out seeds that did not finish")
    if not 0 < confidence < 1:
        raise UserError(f"confidence must lie between 0 and 1, got {confidence}")


def _canonical(differences: np.ndarray) -> tuple[np.ndarray, float]:
    """The differences sorted, and negated if that makes them the larger; with the sign that undoes it.

    Resampling draws by position and sums round by order: in this form neither depends on seed order or direction.
    """
    ascending, negated = np.sort(differences), np.sort(-differences)
    return (ascending, 1.0) if ascending.tolist() >= negated.tolist() else (negated, -1.0)


def _signed(sign: float, interval: tuple[float, float]) -> tuple[float, float]:
    low, high = interval
    return (low, high) if sign > 0 else (-high, -low)


def _t_interval(differences: np.ndarray, error: float, confidence: float) -> tuple[float, float]:
    if differences.size < 2:
        return np.nan, np.nan
    mean = float(differences.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, differences.size - 1)) * error
    return mean - half, mean + half


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean over seeds and the ends of its interval, Student's t; the ends are NaN with one seed."""
    values = np.asarray(values, dtype=np.float64)
    error = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else np.nan
    return float(values.mean()), *_t_interval(values, error, confidence)


def _bootstrap_interval(differences: np.ndarray, tolerance: float, confidence: float) -> tuple[float, float]:
    if differences.size < 2:
        return np.nan, np.nan
    if np.ptp(differences) <= tolerance:  # every resample has the same mean; BCa itself divides 0 by 0
        mean = float(differences.mean())
        return mean, mean
    found = stats.bootstrap(
        (differences,),
        np.mean,
        method="BCa",
        confidence_level=confidence,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(RNG_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def _sign_flip_p(differences: np.ndarray, tolerance: float) -> float:
    """Share of the 2^n sign patterns whose mean is at least as far from 0 as the observed one.

    Beyond EXACT_SEEDS of patterns that are drawn, and the observed one: twice the share of the side with the smaller
    one. `power.smallest_p` is the least it can give.
    """
    n, observed = differences.size, float(differences.mean())
    if n > EXACT_SEEDS:
        drawn = np.random.default_rng(RNG_SEED).choice((-1.0, 1.0), size=(RESAMPLES, n))
        means = drawn @ differences / n
        sides = np.sum(means >= observed - tolerance), np.sum(means <= observed + tolerance)
        return min(1.0, 2.0 * float(min(sides) + 1) / (RESAMPLES + 1))
    signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)  # (2^n, n)
    means = np.abs(signs @ differences) / n
    return float(np.mean(means >= abs(observed) - tolerance))


def _note(num_seeds: int, level: float) -> str:
    needed = next((n for n in range(2, EXACT_SEEDS + 1) if smallest_p(n) < level), None)
    takes = f"no number of seeds gives p < {level:.2g}" if needed is None else f"that takes {needed}"
    if num_seeds < 2:
        more = takes if needed is None else f"{needed} for p < {level:.2g}"
        return f"1 seed has no interval; run at least 2 seeds, {more}"
    if smallest_p(num_seeds) >= level:
        seeds = f"{num_seeds} seeds cannot give p < {level:.2g}"
        return f"{seeds}; {takes}" if num_seeds <= EXACT_SEEDS else f"{seeds}: {smallest_p_text(num_seeds)}"
    return ""


def paired_gain(
    runs: pd.DataFrame,
    baseline: str,
    variant: str,
    metric: str,
    confidence: float = 0.95,
    by: str = "variant",
) -> PairedDifference:
    """`variant` minus `baseline` in `metric`, paired by seed, and by data split where the runs have a column for it.

    runs: one finished run a row, columns `by` (that names the variant), seed and `metric`. Where `by` is a setting,
    such as method, the columns of other settings must agree within each pair; `analysis.compare` reads all settings
    and the data from the runs' folders.
    Raises UserError if a column or name is missing, a seed occurs twice, a value is missing, seeds do not pair, or
    settings differ.
    """
    first = _by_seed(runs, variant, metric, by)
    second = _by_seed(runs, baseline, metric, by)
    for name, has, other, lacks in ((variant, first, baseline, second), (baseline, second, variant, first)):
        missing = sorted(set(has.index) - set(lacks.index))
        if missing:
            raise UserError(
                f"seeds must pair: {name!r} has seed {_seeds(missing)}, which {other!r} lacks; "
                "run the missing seeds or leave these out"
            )
    _check_settings(runs, baseline, variant, by)
    return paired_difference(first.to_numpy(), second.loc[first.index].to_numpy(), confidence)


def _pair_columns(runs: pd.DataFrame, by: str) -> list[str]:
    """The columns by whose values runs pair."""
    split = SPLIT in runs.columns and by != SPLIT and not runs[SPLIT].isna().any()
    return ["seed", SPLIT] if split else ["seed"]


def _seeds(keys: Sequence[Any]) -> str:
    """Seeds, with the split where runs pair by that as well."""
    return ", ".join(f"{key[0]} of split {key[1]}" if isinstance(key, tuple) else str(key) for key in keys)


def _by_seed(runs: pd.DataFrame, name: str, metric: str, by: str) -> pd.Series:
    """The metric of one variant, indexed by what pairs."""
    for column in (by, "seed", metric):
        if column not in runs.columns:
            raise UserError(f"runs must have a column {column!r}, got {', '.join(map(str, runs.columns))}")
    rows = runs[runs[by] == name]
    if rows.empty:
        known = ", ".join(sorted(map(str, runs[by].dropna().unique())))
        raise UserError(f"{by} must be one of {known or '(no run at all)'}, got {name!r}")
    values = rows.set_index(_pair_columns(runs, by))[metric].astype(float)
    twice = sorted(set(values.index[values.index.duplicated()]))
    if twice:
        raise UserError(f"{by} {name!r} must have one run a seed, got several of seed {_seeds(twice)}")
    absent = sorted(values.index[~np.isfinite(values)])
    if absent:
        raise UserError(
            f"{by} {name!r} must have a {metric} for every seed, got none for seed {_seeds(absent)}; "
            "leave out runs that did not finish"
        )
    return values


def _check_settings(runs: pd.DataFrame, baseline: str, variant: str, by: str) -> None:
    """Raises UserError if `by` is a setting, and the runs of a pair differ in another that the methods of both read."""
    settings = [name for name in runs.columns if name.partition(".")[0] in SECTIONS]
    if by not in settings:
        return
    keys = _pair_columns(runs, by)
    first, second = (runs[runs[by] == name].set_index(keys) for name in (variant, baseline))
    methods = {*first["method"], *second["method"]} if "method" in settings else {"mergenet"}
    unused = tuple(start for method in methods for start in unused_settings(method))
    for name in settings:
        if name in (by, *keys) or name.startswith(unused):
            continue
        both = zip(first[name], second.loc[first.index, name], strict=True)
        for new, old in both:
            if not is_missing(new) and not is_missing(old) and canonical(new) != canonical(old):
                raise UserError(
                    f"runs of a pair must be alike in all but {by}, got {name} {new} with {by} {variant!r} and {old} "
                    f"with {baseline!r}; leave one of them out, or name the variants in a column of your own"
                )


def gain_over(
    runs: pd.DataFrame,
    baseline: str,
    metric: str,
    confidence: float = 0.95,
    by: str = "variant",
) -> pd.DataFrame:
    """Mean gain in a metric of each variant over `baseline`, paired by seed, best first.

    runs: one finished run a row, columns `by`, seed and `metric` (fraction, 0 to 1).
    Returns variant, gain, standard_error, low and high (Student's t), bootstrap_low and bootstrap_high (BCa), all
    in points (1 point = 0.01), p_value, p_holm (corrected for the number of variants), smallest_p and num_seeds.
    Raises UserError if some variant lacks a seed that another has, or the metric is a loss.
    """
    if is_loss(metric):
        raise UserError(f"metric must be a fraction, got {metric!r}; for a loss use paired_gain")
    _by_seed(runs, baseline, metric, by)
    variants = [name for name in runs[by].dropna().unique() if name != baseline]
    if not variants:
        raise UserError(f"runs must hold a {by} beside the baseline {baseline!r}, got no other")
    found = {name: paired_gain(runs, baseline, name, metric, confidence, by) for name in variants}
    table = pd.DataFrame([{"variant": name, **_points(gain)} for name, gain in found.items()])
    after = list(table.columns).index("p_value") + 1
    table.insert(after, "p_holm", holm(table["p_value"].to_numpy()))
    return table.sort_values("gain", ascending=False, kind="stable", ignore_index=True)


def _points(gain: PairedDifference) -> dict[str, float]:
    return {
        "gain": POINTS * gain.mean,
        "standard_error": POINTS * gain.standard_error,
        "low": POINTS * gain.interval[0],
        "high": POINTS * gain.interval[1],
        "bootstrap_low": POINTS * gain.bootstrap_interval[0],
        "bootstrap_high": POINTS * gain.bootstrap_interval[1],
        "p_value": gain.p_value,
        "smallest_p": gain.smallest_p,
        "num_seeds": gain.num_seeds,
    }


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction: the i-th smallest of m times (m - i), i from 0, made monotone, at most 1."""
    order = np.argsort(p_values, kind="stable")
    m = len(p_values)
    stepped = np.maximum.accumulate((m - np.arange(m)) * np.asarray(p_values)[order])
    corrected = np.empty(m)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected
