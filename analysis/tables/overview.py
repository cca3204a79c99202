"""The output of `analyze table` and `analyze best`."""

from pathlib import Path
from typing import Any

import pandas as pd

from analysis.best import choose_best, confirmed_gain, searched, write_file
from analysis.measures import STEP_SECONDS
from analysis.names import COMPLETE, CONFIRM_ADAPTER, CONFIRM_BEST, CONFIRM_NONE, CONTROL_OF, ROLES, RUN, TRIAL, mode_of
from analysis.report.chosen import best_of
from analysis.seeds import SD, SEEDS
from analysis.tables import formatting
from analysis.tables.formats import print_cells, to_csv
from analysis.tables.load import (
    BREAKS,
    PER_SEED,
    canonical,
    is_missing,
    measure_columns,
    param_columns,
    selecting_metrics,
    varying,
)
from mergenet.errors import UserError, unknown_name
from mergenet.records.run_record import (
    ADAPTER_PARAMETERS,
    BEST_EPOCH,
    METRIC,
    SOURCE_BEST_EPOCH,
    is_metric,
    test_column,
)


def ordered(table: pd.DataFrame, sort: str | None = None) -> pd.DataFrame:
    """The rows by role, then by the metric that selects; or all by one column, metrics from the highest down.

    sort: a column, or the suffix by which the table shows a hyper-parameter. Raises UserError for another name.
    """
    if sort is None:
        metrics = list(selecting_metrics(table))
        values = {name: list(table[name]) for name in metrics if name in table.columns}
        keys: list[Any] = [
            (ROLES.index(role), metrics.index(name), *_sort_key(name, values[name][place]))
            if name in values
            else (ROLES.index(role), len(metrics))
            for place, (role, name) in enumerate(zip(table["role"], table[METRIC], strict=True))
        ]
    else:
        column = _column(table, sort)
        keys = [_sort_key(column, value) for value in table[column]]
    return table.iloc[sorted(range(len(table)), key=keys.__getitem__)].reset_index(drop=True)


def _column(table: pd.DataFrame, name: str) -> str:
    if name in table.columns:
        return name
    titles = formatting.headers(list(table.columns), param_columns(table))
    if titles.count(name) == 1:
        return str(table.columns[titles.index(name)])
    raise UserError(unknown_name("--sort", name, map(str, table.columns)))


def _sort_key(column: str, value: Any) -> tuple[int, float, str]:
    """Numbers first, then texts, then what is missing."""
    if is_missing(value):
        return 2, 0.0, ""
    if isinstance(value, str | list | dict):
        return 1, 0.0, canonical(value)
    return 0, -float(value) if is_metric(column) else float(value), ""


def selected(table: pd.DataFrame, everything: bool = False) -> pd.DataFrame:
    """The columns to show: all, or those that distinguish the runs and those on how they ended."""
    if everything:
        return table
    repeated = [name for name in (SEEDS, SD) if name in table.columns]
    outcome = ["epochs_done", BEST_EPOCH, *repeated, *_selecting(table, "target_val_")]
    if table[SOURCE_BEST_EPOCH].notna().any():
        outcome += [SOURCE_BEST_EPOCH, *_selecting(table, "source_val_")]
    breaks = [STEP_SECONDS, ADAPTER_PARAMETERS, BREAKS] if table[BREAKS].notna().any() else []
    return table[["trial", "role", "state", "seed", *varying(table), *outcome, *breaks, "seconds"]]


def _selecting(table: pd.DataFrame, prefix: str) -> list[str]:
    """The columns of a network that select its best epochs, each with its counterpart on the test split."""
    names = selecting_metrics(table) if prefix == "target_val_" else measure_columns(table)
    pairs = [(name, test_column(name)) for name in names if name.startswith(prefix)]
    return [name for pair in pairs for name in pair if name in table.columns]


def show(table: pd.DataFrame, rich_output: bool) -> None:
    """Print the table, with lines and colours for a terminal, as aligned text for anything else."""
    titles, rows = formatting.headers(list(table.columns), param_columns(table)), formatting.cells(table)
    styles = [None if role in (TRIAL, RUN) else "bold cyan" for role in table["role"]]
    print_cells(titles, rows, formatting.numeric(table), rich_output, styles)


def footer(table: pd.DataFrame) -> list[str]:
    """Counts, what the roles mean, and for a sweep the best trial, with a note on how far to trust its value."""
    roles = [role for role in ROLES if (table["role"] == role).any()]
    counts = [
        f"{formatting.ROLE_LABELS[role]} {formatting.counted(table['state'][table['role'] == role])}" for role in roles
    ]
    lines = [f"{len(table)} run{'s' if len(table) != 1 else ''}: {'; '.join(counts)}"]
    problems = table.attrs.get("problems", [])
    if problems:
        lines.append(f"{len(problems)} could not be read and are missing here; the messages above name them")
    lines += table.attrs.get("mixed", [])
    lines += [
        formatting.role_meaning(role, seeds_of(table, role)) for role in roles if role in formatting.ROLE_MEANINGS
    ]
    if len(metrics := selecting_metrics(table)) > 1:
        by = ", ".join(f"{name} ({count})" for name, count in metrics.items())
        missing = "- is what a run does not measure"
        lines.append(f"runs of different tasks, not to be compared: they select by {by}; {missing}")
    elif table.attrs.get(PER_SEED):
        lines.append("a line is one seed; trials are compared by their means, in the table without --per-seed")
    elif TRIAL in roles and metrics and not searched(table, metric := next(iter(metrics))).empty:
        lines += story(table, choose_best(table, metric), metric)
    return lines


def seeds_of(table: pd.DataFrame, role: str) -> int:
    """How many seeds the rows of a role are the mean of, at most."""
    counts: list[int] = list(table[SEEDS][table["role"] == role].dropna()) if SEEDS in table.columns else []
    return int(max(counts, default=1))


def story(table: pd.DataFrame, best: pd.Series, metric: str, asked: bool = False) -> list[str]:
    """The selected trial's numbers, how it was selected, and its confirmed gain.

    asked: it was named by the user and need not be the best.
    """
    role = str(best["role"])
    finished = len(searched(table, metric))
    others = table[(table["role"] == role) & (table["state"] != COMPLETE)]
    out = [formatting.counted(others["state"])] if len(others) else []
    broke = int(((table["state"] == COMPLETE) & table[BREAKS].notna()).sum())
    out += [f"{broke} that break a constraint"] if broke else []
    left_out = f" ({', '.join(out)} left out)" if out else ""
    extreme = "lowest" if mode_of(metric) == "min" else "highest"
    mine = [best[METRIC], test_column(best[METRIC])]
    tests = [name for name in measure_columns(table) if name.startswith("target_test_")]
    names = [name for name in dict.fromkeys((metric, *mine, *tests)) if name in table.columns]
    names = [name for name in names if name in (metric, *mine) or not is_missing(best[name])]
    breaks = "" if is_missing(best[BREAKS]) else f"; it breaks {best[BREAKS]}"
    reached = f"epoch {best[BEST_EPOCH]} of {best['epochs_done']}"
    if not is_missing(best.get(SEEDS)):
        reached = f"mean over {best[SEEDS]} seeds (sd {formatting.cell(SD, best[SD])} points)"
    lines = [
        f"{role if asked else f'best {role}'}: {best['trial']}, {reached}: "
        + ", ".join(_measured(name, best[name]) for name in names),
        f"named by --trial, {best['state']}{breaks}"
        if asked
        else f"chosen by the {extreme} {metric} of {finished} finished {role}s{left_out}; "
        "of equals the one with fewer adapter parameters, then the earlier one",
    ]
    settings = ", ".join(
        f"{name} {formatting.setting(best[name])}" for name in varying(table) if not is_missing(best[name])
    )
    if settings:
        lines.insert(1, f"its settings: {settings}")
    selected = best_of(table["state"][table["role"] == role], role)
    if selected is not None and not asked:
        lines.append(f"{selected}: only runs on fresh seeds tell what its settings gain")
    return [*lines, *_confirmation(table, best)]


def _measured(name: str, value: float) -> str:
    return f"{name} {formatting.cell(name, value)}" + (" %" if is_metric(name) and not is_missing(value) else "")


def _confirmation(table: pd.DataFrame, best: pd.Series) -> list[str]:
    if best["role"] == RUN:
        return []
    try:
        gain = confirmed_gain(table, best)
    except UserError as error:
        return [f"no confirmed gain: {error}"]
    sentence = formatting.gain_sentence(gain, test_column(best[METRIC]))
    controls = [role for role in CONTROL_OF if (table["role"] == role).any()]
    pairs = [*((role, CONFIRM_NONE) for role in controls), *((CONFIRM_BEST, role) for role in controls)]
    beside = [_beside("control", table, best, variant, baseline) for variant, baseline in pairs]
    if (table["role"] == CONFIRM_ADAPTER).any():
        others = (CONFIRM_NONE, CONFIRM_BEST)
        beside += [_beside("trained adapter", table, best, CONFIRM_ADAPTER, other) for other in others]
    return [f"confirmed gain, CONFIRM-best minus CONFIRM-none paired by seed: {sentence}", *beside]


def _beside(what: str, table: pd.DataFrame, best: pd.Series, variant: str, baseline: str) -> str:
    title = f"{what}, {formatting.ROLE_LABELS[variant]} minus {formatting.ROLE_LABELS[baseline]} paired by seed"
    try:
        gain = confirmed_gain(table, best, variant=variant, baseline=baseline)
    except UserError as error:
        return f"{title}: not compared, {error}"
    return f"{title}: {formatting.gain_sentence(gain, test_column(best[METRIC]))}"


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """`to_csv` into a file; raises UserError if it cannot."""
    write_file(path, to_csv(table))
