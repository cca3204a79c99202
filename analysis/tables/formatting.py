"""Tables and sentences for readers: cells, columns, aligned plain text."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.measures import amount
from analysis.names import (
    ADAPTER,
    ADAPTER_PATH,
    BASELINE,
    CONFIRM_ADAPTER,
    CONFIRM_BEST,
    CONFIRM_NONE,
    CONTROL_OF,
    REPLICATE,
    RUN,
    TRIAL,
)
from analysis.seeds import SD
from analysis.tables.load import is_missing
from mergenet.config.pair_labels import are_pairs, pairs_label
from mergenet.errors import visible
from mergenet.records.run_record import is_metric

if TYPE_CHECKING:
    from analysis.statistics.paired_tests import PairedDifference
ROLE_LABELS = {
    TRIAL: "trial",
    RUN: "run",
    REPLICATE: "REPLICATE",
    BASELINE: "BASELINE",
    CONFIRM_BEST: "CONFIRM-best",
    CONFIRM_NONE: "CONFIRM-none",
    ADAPTER: "ADAPTER",
    CONFIRM_ADAPTER: "CONFIRM-adapter",
    **{role: role.replace("confirm_", "CONFIRM-").replace("_", "-") for role in CONTROL_OF},
}
# explanations of the roles in capitals, printed below a table that has them
ROLE_MEANINGS = {
    REPLICATE: "REPLICATE: another seed of a trial",
    BASELINE: "BASELINE: the target trained by itself, with the seed of the search",
    CONFIRM_BEST: "CONFIRM-best: the best trial's settings, on seeds that the search did not see",
    CONFIRM_NONE: "CONFIRM-none: the target trained by itself, on the seeds of CONFIRM-best",
    ADAPTER: "ADAPTER: the best trial's settings, seed after seed, each with the adapter that the one before trained",
    CONFIRM_ADAPTER: f"CONFIRM-adapter: as CONFIRM-best, but {ADAPTER_PATH} is the adapter of the last ADAPTER",
    **{
        role: f"{ROLE_LABELS[role]}: as CONFIRM-best, but transfer.control is {control}"
        for role, control in CONTROL_OF.items()
    },
}


def role_meaning(role: str, seeds: int = 1) -> str:
    """seeds: that its rows are the mean of."""
    mean = f"; the mean over {seeds} seeds, those of each trial" if seeds > 1 else ""
    return ROLE_MEANINGS[role] + mean


def headers(columns: Sequence[str], params: Sequence[str]) -> list[str]:
    """Column titles: a hyper-parameter's shortest suffix that no other column shares."""
    fixed = [column for column in columns if column not in params]
    return [_shortest(column, [*fixed, *params]) if column in params else _title(column) for column in columns]


def _title(column: str) -> str:
    return f"{column} %" if is_metric(column) or column == SD else column


def _shortest(path: str, columns: Sequence[str]) -> str:
    parts = path.split(".")
    for start in range(len(parts) - 1, 0, -1):
        ending = ".".join(parts[start:])
        if not any(other != path and f".{other}".endswith(f".{ending}") for other in columns):
            return ending
    return path


def cell(column: str, value: Any) -> str:
    """One value as text: metrics in percent with two digits, lists shortened, - where there is none."""
    if is_missing(value):
        return "-"
    if column == "role":
        return ROLE_LABELS[value]
    if is_metric(column) or column == SD:
        return f"{100 * value:.2f}"
    if column == "seconds":
        return f"{value:.1f}"
    return setting(value)


def setting(value: Any) -> str:
    """A hyper-parameter's value; transfer pairs as in mergenet/config/pair_labels.py."""
    if isinstance(value, bool | str):
        return str(value).lower() if isinstance(value, bool) else visible(value)
    if are_pairs(value):
        return pairs_label(value)
    if isinstance(value, list | tuple):
        return ",".join(map(setting, value)) or "[]"
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def cells(table: pd.DataFrame) -> list[list[str]]:
    """All values as text, row by row. Made column by column: to take one value out of a table is slow."""
    columns = [[cell(name, value) for value in _values(table[name])] for name in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _values(column: pd.Series) -> Iterable[Any]:
    """Python's own floats are written several times faster than NumPy's."""
    return column.tolist() if pd.api.types.is_float_dtype(column.dtype) else column.array


def numeric(table: pd.DataFrame) -> list[bool]:
    """Whether all values of a column are numbers, for each column; these are aligned right."""
    return [_are_numbers(table[name]) for name in table.columns]


def _are_numbers(column: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        return True
    return all(is_missing(value) or _is_number(value) for value in column)


def _is_number(value: Any) -> bool:
    return pd.api.types.is_number(value) and not pd.api.types.is_bool(value)


def plain(titles: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """The table as lines of text, columns aligned and two spaces apart."""
    lines = [list(titles), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if is_right else text.ljust(width)
            for text, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def gain_sentence(gain: "PairedDifference", metric: str) -> str:
    """A metric's paired gain in points, with its intervals and what the number of seeds can show."""
    seeds = f"{gain.num_seeds} seed{'s' if gain.num_seeds != 1 else ''}"
    unit = " points" if is_metric(metric) else ""
    sentence = f"{amount(metric, gain.mean, '+')}{unit} {metric}, {seeds}"
    if gain.num_seeds > 1:
        sentence += (
            f", {100 * gain.confidence:.4g} % interval {_interval(metric, gain.interval)} (t), "
            f"{_interval(metric, gain.bootstrap_interval)} (BCa bootstrap)"
        )
    sentence += f", sign-flip p {gain.p_value:.3g} (smallest possible {gain.smallest_p:.3g})"
    return f"{sentence}; {gain.note}" if gain.note else sentence


def _interval(metric: str, bounds: tuple[float, float]) -> str:
    low, high = (amount(metric, bound, "+") for bound in bounds)
    return f"[{low}, {high}]"


def counted(states: pd.Series) -> str:
    """For example "12 complete, 3 pruned"."""
    return ", ".join(f"{count} {state}" for state, count in states.value_counts().items())
