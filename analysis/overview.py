"""What `analyze table` and `analyze best` show of a table of trials."""

from pathlib import Path
from typing import Any

import click
import pandas as pd

from analysis import text
from analysis.export import choose_best, confirmed_gain, searched, write_file
from analysis.load import COLUMNS, ROLES, TEST, canonical, is_missing, param_columns, varying
from analysis.trials import COMPLETE, RUN, TRIAL
from mergenet.errors import UserError, unknown_name
from mergenet.record import BEST_EPOCH, TARGET_TEST_TOP1, TARGET_VAL_LOSS, TARGET_VAL_TOP1


def ordered(table: pd.DataFrame, sort: str | None = None) -> pd.DataFrame:
    """The rows by role, then by validation accuracy; or all by one column, accuracies from the highest down.

    sort: a column, or the ending by which the table shows a hyper-parameter. Raises UserError for another name.
    """
    if sort is None:
        keys: list[Any] = [
            (ROLES.index(role), *_sort_key(TARGET_VAL_TOP1, value))
            for role, value in zip(table["role"], table[TARGET_VAL_TOP1], strict=True)
        ]
    else:
        column = _column(table, sort)
        keys = [_sort_key(column, value) for value in table[column]]
    return table.iloc[sorted(range(len(table)), key=keys.__getitem__)].reset_index(drop=True)


def _column(table: pd.DataFrame, name: str) -> str:
    if name in table.columns:
        return name
    titles = text.headers(list(table.columns), param_columns(table))
    if titles.count(name) == 1:
        return str(table.columns[titles.index(name)])
    raise UserError(unknown_name("--sort", name, map(str, table.columns)))


def _sort_key(column: str, value: Any) -> tuple[int, float, str]:
    """Numbers first, then texts, then what is missing."""
    if is_missing(value):
        return 2, 0.0, ""
    if isinstance(value, str | list | dict):
        return 1, 0.0, canonical(value)
    return 0, -float(value) if text.is_accuracy(column) else float(value), ""


def selected(table: pd.DataFrame, everything: bool = False) -> pd.DataFrame:
    """The columns that are shown: all, or those that tell the runs apart and how they ended."""
    if everything:
        return table
    main = table[table["role"].isin((TRIAL, RUN))]
    method = ["method"] if main["method"].nunique() > 1 else []
    outcome = ["epochs_done", BEST_EPOCH, TARGET_VAL_TOP1, TARGET_TEST_TOP1, "seconds"]
    return table[["trial", "role", "state", "seed", *method, *varying(table), *outcome]]


def show(table: pd.DataFrame, rich_output: bool) -> None:
    """Print the table, with lines and colours for a terminal, as aligned text for anything else."""
    titles, rows = text.headers(list(table.columns), param_columns(table)), text.cells(table)
    right = text.numeric(table)
    if not rich_output:
        click.echo(text.plain(titles, rows, right))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table()
    for title, is_right in zip(titles, right, strict=True):
        shown.add_column(Text(title), justify="right" if is_right else "left")
    for row, role in zip(rows, table["role"], strict=True):
        # Text, so that brackets in a value are not read as markup
        shown.add_row(*map(Text, row), style=None if role in (TRIAL, RUN) else "bold cyan")
    Console().print(shown)


def footer(table: pd.DataFrame, metric: str = TARGET_VAL_TOP1) -> list[str]:
    """Counts, what the roles mean, and of a sweep the best trial with what its number is worth."""
    roles = [role for role in ROLES if (table["role"] == role).any()]
    counts = [f"{text.ROLE_LABELS[role]} {text.counted(table['state'][table['role'] == role])}" for role in roles]
    lines = [f"{len(table)} run{'s' if len(table) != 1 else ''}: {'; '.join(counts)}"]
    problems = table.attrs.get("problems", [])
    if problems:
        lines.append(f"{len(problems)} could not be read and are missing here; the messages above name them")
    lines += [text.ROLE_MEANINGS[role] for role in roles if role in text.ROLE_MEANINGS]
    if TRIAL in roles and not searched(table)[metric].dropna().empty:
        lines += story(table, choose_best(table, metric), metric)
    return lines


def story(table: pd.DataFrame, best: pd.Series, metric: str) -> list[str]:
    """The chosen trial's numbers, how it was chosen, and the gain that was confirmed for it."""
    role = str(best["role"])
    finished = searched(table)[metric].count()
    others = table[(table["role"] == role) & (table["state"] != COMPLETE)]
    left_out = f" ({text.counted(others['state'])} left out)" if len(others) else ""
    extreme = "lowest" if metric == TARGET_VAL_LOSS else "highest"
    names = dict.fromkeys((metric, TARGET_VAL_TOP1, *TEST))
    lines = [
        f"best {role}: {best['trial']}, epoch {best[BEST_EPOCH]} of {best['epochs_done']}: "
        + ", ".join(_measured(name, best[name]) for name in names),
        f"chosen by the {extreme} {metric} of {finished} finished {role}s{left_out}; "
        "of equals the one with fewer adapter parameters, then the earlier one",
    ]
    settings = ", ".join(f"{name} {text.setting(best[name])}" for name in varying(table) if not is_missing(best[name]))
    if settings:
        lines.insert(1, f"its settings: {settings}")
    if finished > 1:
        candidates = "searched trials" if role == TRIAL else "runs"
        lines.append(
            f"the best of {finished} {candidates} is optimistic: the {extreme} of {finished} noisy numbers; "
            "only runs on fresh seeds tell what its settings gain"
        )
    return [*lines, *_confirmation(table, best)]


def _measured(name: str, value: float) -> str:
    return f"{name} {text.cell(name, value)}" + (" %" if text.is_accuracy(name) and not is_missing(value) else "")


def _confirmation(table: pd.DataFrame, best: pd.Series) -> list[str]:
    if best["role"] == RUN:
        return []
    try:
        gain = confirmed_gain(table, best)
    except UserError as error:
        return [f"no confirmed gain: {error}"]
    return [
        f"confirmed gain, CONFIRM-best minus CONFIRM-none paired by seed: {text.gain_sentence(gain, TARGET_TEST_TOP1)}"
    ]


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """All columns at full precision, accuracies as fractions, lists as JSON; raises UserError if it cannot."""
    flat = table.copy()
    for name in flat.columns.difference(list(COLUMNS)):
        flat[name] = [canonical(v) if isinstance(v, list | dict) else v for v in flat[name]]
    write_file(path, flat.to_csv(index=False))
