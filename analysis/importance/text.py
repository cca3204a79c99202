"""What `mergenet analyze importance` prints."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd

from analysis.importance.curves import MIN_INTERVAL
from analysis.importance.evaluators import EVALUATORS, FANOVA, LEVEL, PED_ANOVA, assessed, target_quantile
from analysis.importance.findings import Findings
from analysis.measures import amount
from analysis.names import COMPLETE, PRUNED
from analysis.sweep_file import read_sweep_file
from analysis.tables import formatting
from analysis.tables.load import is_missing
from mergenet.errors import UserError

LEARNING = ("auto", "tpe", "gp", "cmaes", "nsga2")  # samplers whose draws depend on the values before
SETTLED = 0.8  # rank correlation from which on a ranking is called that of the last epoch, as for grace_epochs: auto


def report(found: Findings) -> Iterator[str]:
    """The sections, each computed when its turn comes. Raises UserError at once if no importance can be told."""
    yield from importance_lines(found)
    for section in (path_lines, ranking_lines, stopping_lines):
        yield ""
        yield from _or_why_not(section, found)


def _or_why_not(section: Callable[[Findings], list[str]], found: Findings) -> list[str]:
    try:
        return section(found)
    except UserError as error:
        return [f"not shown: {error}"]


def importance_lines(found: Findings) -> list[str]:
    search = found.search
    out = ", ".join(f"{count} {reason}" for reason, count in search.left_out().items())
    of = f" of {len(search.trials)}" if out else ""
    left_out = f" (left out: {out})" if out else ""
    table = found.importances
    few = len(search.sampled.used)
    drawn = [] if few == len(search.used) else [f"computed from {few} of them, drawn at random, the same each time"]
    return [
        f"what explains {search.label}, over {len(search.used)}{of} trials{left_out}",
        *drawn,
        "",
        importance_table(found),
        "",
        *verdict(found, table),
        *learned(found, table),
        *_left_out_of(found),
        *_means(found),
    ]


def importance_table(found: Findings) -> str:
    """A line a parameter, by the smaller of its p values; the columns of each evaluator side by side."""
    table = found.importances
    order = table.groupby("parameter", sort=False)["p_value"].min().sort_values(kind="stable", na_position="last").index
    titles, columns = ["parameter", "n"], [[found.names[path] for path in order]]
    columns.append([str(n) for n in table.drop_duplicates("parameter").set_index("parameter").loc[order, "n"]])
    for name in EVALUATORS:
        rows = table[table["evaluator"] == name].set_index("parameter").loc[order]
        titles += [name, "95 % interval", "chance", "p"]
        columns += [list(cells) for cells in zip(*(_cells(row) for _, row in rows.iterrows()), strict=True)]
    right = [False, *[True] * (len(titles) - 1)]
    return formatting.plain(titles, list(map(list, zip(*columns, strict=True))), right)


def _cells(row: pd.Series) -> tuple[str, str, str, str]:
    if is_missing(row["importance"]):
        return "-", "-", "-", "-"
    interval = f"[{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['importance']:.3f}", interval, f"< {row['chance_high']:.3f}", f"{row['p_value']:.3f}"


def verdict(found: Findings, table: pd.DataFrame) -> list[str]:
    """Which parameters explain more than chance, by which evaluator, and which do not."""
    known = table.dropna(subset=["p_value"])
    shown = known[known["p_value"] <= LEVEL]
    by = {str(path): list(rows["evaluator"]) for path, rows in shown.groupby("parameter", sort=False)}
    others = [path for path in dict.fromkeys(known["parameter"]) if path not in by]
    lines = [f"{found.names[path]} explains more than chance, by {' and '.join(names)}" for path, names in by.items()]
    if others:
        names = ", ".join(found.names[path] for path in others)
        lines.append(f"not told from chance by {len(found.search.sampled.used)} trials: {names}")
    return lines


def learned(found: Findings, table: pd.DataFrame) -> list[str]:
    """That what was found more than chance is less certain than its p, where the sampler learned from the values."""
    sampler = read_sweep_file(found.search.folder).get("sampler")
    if sampler not in LEARNING or not (table["p_value"] <= LEVEL).any():
        return []
    return [f"the sampler ({sampler}) learned from earlier trials: what does nothing passes more often than p says"]


def _left_out_of(found: Findings) -> list[str]:
    """Why an evaluator has no number for a parameter."""
    search, lines = found.search.sampled, []
    for path in search.parameters:
        if path not in search.varied:
            values = [label for label in search.used[path] if label is not None]
            told = f"{formatting.setting(values[0])} in all {len(values)}" if values else "drawn by none"
            lines.append(f"{found.names[path]} does not vary in these trials: {told}")
        elif path not in assessed(search, FANOVA):
            drew = int(search.used[path].notna().sum())
            lines.append(
                f"{found.names[path]} was drawn by {drew} only: {PED_ANOVA} compares these, {FANOVA} leaves it out"
            )
    return lines


def _means(found: Findings) -> list[str]:
    search, goal = found.search, found.search.sampled.goal
    count = len(goal)
    cutoff = np.sort(-goal)[int(np.ceil(target_quantile(count) * count)) - 1]
    top = int((-goal <= cutoff).sum())  # the evaluator takes all that are equal to the last of them
    times = "; ".join(f"{name} {e.permutations}" for name, e in EVALUATORS.items())
    lines = [
        f"{PED_ANOVA}: how far the best {top} of {count} trials lie from all; {FANOVA}: share of variance explained",
        f"chance: what 95 % of permuted objectives stay below ({times}); p is corrected for the number of parameters",
    ]
    if search.epoch is None and (search.trials["state"] == PRUNED).any():
        first = int(search.trials["epochs_done"][search.trials["state"].isin((COMPLETE, PRUNED))].min())
        lines.append(
            "complete trials are those that early stopping let pass: what it judged by varies less among them; "
            f"--epoch {first} explains all as they were by then"
        )
    return lines


def path_lines(found: Findings) -> list[str]:
    """The ablation path as a table."""
    path, search = found.ablation_path, found.search
    number, r2 = partial(amount, search.metric), found.surrogate.r2
    best = f"{path.attrs['best']}, {number(path.attrs['value'])}"
    head = f"from the base to the best ({best}), by a forest of {len(search.sampled.used)} trials"
    lines = [f"{head} (R2 of left-out trials {r2:.2f})"]
    if r2 <= 0:
        lines.append("the forest predicts a left-out trial no better than their mean does: these steps show nothing")
    if len(path) == 1:
        return [*lines, "the best has the base's own values: there is no step"]
    rows = [["base", "", number(path["predicted"].iloc[0]), "", ""]]
    for _, row in path.iloc[1:].iterrows():
        low, high, worth = (number(row[name], "+") for name in ("low", "high", "worth"))
        change = f"{_shown(row['before'])} -> {_shown(row['after'])}"
        rows.append([found.names[row["parameter"]], change, number(row["predicted"]), worth, f"[{low}, {high}]"])
    titles = ["step", "change", "predicted", f"worth{search.unit}", "95 % interval"]
    lines.append(formatting.plain(titles, rows, [False, False, True, True, True]))
    held = ", ".join(found.names[name] for name in path.attrs["held"])
    return [*lines, *([f"held at the best's value, because the base's is not searched: {held}"] if held else [])]


def _shown(label: object) -> str:
    return "-" if label is None else formatting.setting(label)


def ranking_lines(found: Findings) -> list[str]:
    """From which epoch on the ranking is that of the last."""
    table = found.rank_correlations
    last, n = int(table["epoch"].iloc[-1]), int(table["n"].iloc[0])
    low = table["epoch"][table["correlation"] < SETTLED]
    first = min(int(low.max()) + 1 if len(low) else 1, last)
    row = table[table["epoch"] == first].iloc[0]
    known = f", 95 % interval [{row['low']:.2f}, {row['high']:.2f}], {n} complete trials"
    few = f" of {n} complete trials; an interval needs {MIN_INTERVAL}"
    return [
        f"ranking: from epoch {first} on that of epoch {last} "
        f"(Spearman {row['correlation']:.2f}{few if n < MIN_INTERVAL else known})"
    ]


def stopping_lines(found: Findings) -> list[str]:
    """What early stopping saved and risked."""
    facts, search = found.early_stopping, found.search
    if not facts["stopped"]:
        return ["early stopping: no trial was stopped"]
    saved = 1 - facts["trained"] / facts["whole"]
    stopped, excluded, possible = (int(facts[name]) for name in ("stopped", "excluded", "possible"))
    n, rest = int(found.stopped_trials["n"].max()), stopped - excluded
    lines = [
        f"early stopping: {stopped} trials stopped, {facts['trained']:.0f} of {facts['whole']:.0f} epochs trained "
        f"({saved:.0%} saved)"
    ]
    if excluded:
        lines.append(
            f"{excluded} of {stopped} could not have been the best, whatever they gained: they break a constraint"
        )
    if not rest:
        return lines
    if found.stopped_trials["needed"].isna().all():
        kept = " that breaks no constraint" if n else ""
        return [*lines, f"what it risked is not known without a complete trial{kept}"]
    lines.append(
        f"to be the best, {rest - possible} of {rest} would have had to gain more after their last epoch than "
        + (f"any of {n} complete trials did" if n > 1 else "the one complete trial did")
    )
    if possible:
        lines.append(
            f"the other {possible} could have been, by at most {amount(search.metric, facts['risked'])}{search.unit}"
        )
    return [*lines, "an estimate: a stopped trial was never finished, and complete trials are those that were ahead"]
