"""Tables of variants, as papers print them: for a terminal, as CSV, markdown and LaTeX (booktabs).

One variant a row; of these lines of columns a table may lack any but the first:

    variant                     its name
    n                           seeds behind its mean
    mean, low, high             of the metric over seeds, and the ends of its interval
    gain, gain_low, gain_high   mean paired difference to the baseline (missing in its own row), Student's t
    bca_low, bca_high           the same by BCa bootstrap
    p, p_holm, smallest_p       of the sign-flip test, corrected for the number of variants, the least that n can give

Means and gains are in the metric's own unit: fractions are shown in percent and points, others to
four digits. `extra` shows further columns:
name -> (title, format specification), such as {"adapter_parameters": ("parameters", ",.0f")}.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
import pandas as pd

from analysis.measures import amount
from analysis.tables import formatting
from analysis.tables.load import canonical, is_missing
from mergenet.errors import visible
from mergenet.records.run_record import is_metric

Extra = Mapping[str, tuple[str, str]]
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet's formula begins with
_LATEX = str.maketrans(
    {
        **{char: f"\\{char}" for char in "&%$#_{}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}"},  # \\ [ would be a length
    }
)


@dataclass(frozen=True)
class Column:
    """A shown column. number: the cells are numbers, aligned right. needs: what the table must have for it."""

    title: str
    text: Callable[[Any], str]
    needs: str
    number: bool = True


def columns(table: pd.DataFrame, metric: str, extra: Extra | None = None, confidence: float = 0.95) -> list[Column]:
    """The columns that the table has, in the order of the module's docstring, extra ones last."""
    unit, points = (" %", ", points") if is_metric(metric) else ("", "")

    def interval(names: Sequence[str], sign: str = "") -> Callable[[Any], str]:
        def text(row: Any) -> str:
            value, low, high = (amount(metric, row[name], sign) for name in (names[0], *names[-2:]))
            bounds = "" if is_missing(row[names[-1]]) else f"[{low}, {high}]"
            return f"{value} {bounds}".strip() if len(names) == 3 else bounds

        return text

    level = f"[{100 * confidence:.4g} % interval]"
    known = [
        Column("variant", lambda row: visible(str(row["variant"])), "variant", number=False),
        Column("n", lambda row: f"{row['n']:.0f}", "n"),
        Column(f"{metric}{unit} {level}", interval(("mean", "low", "high")), "mean"),
        Column(f"gain{points} {level}", interval(("gain", "gain_low", "gain_high"), "+"), "gain"),
        Column("BCa", interval(("bca_low", "bca_high"), "+"), "bca_low"),
        Column("p", lambda row: f"{row['p']:.3g}", "p"),
        Column("p (Holm)", lambda row: f"{row['p_holm']:.3g}", "p_holm"),
        Column("smallest p", lambda row: f"{row['smallest_p']:.3g}", "smallest_p"),
    ]
    known += [_extra(name, *about) for name, about in (extra or {}).items()]
    return [column for column in known if column.needs in table.columns]


def _extra(name: str, title: str, spec: str) -> Column:
    return Column(title, lambda row: visible(format(row[name], spec)), name, number=spec != "")


def cells(table: pd.DataFrame, shown: Sequence[Column]) -> list[list[str]]:
    """One text a cell, - where there is none."""
    return [
        ["-" if is_missing(row[column.needs]) else column.text(row) or "-" for column in shown]
        for _, row in table.iterrows()
    ]


def print_table(
    table: pd.DataFrame,
    metric: str,
    extra: Extra | None = None,
    confidence: float = 0.95,
    rich_output: bool = False,
) -> None:
    """Print the table, with lines for a terminal (rich_output), as aligned text for anything else."""
    shown = columns(table, metric, extra, confidence)
    right = [column.number for column in shown]
    print_cells([column.title for column in shown], cells(table, shown), right, rich_output)


def print_cells(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[bool],
    rich_output: bool,
    styles: Sequence[str | None] | None = None,
) -> None:
    """Print rows of texts; right: which columns are aligned right; styles: of each row, on a terminal."""
    if not rich_output:
        click.echo(formatting.plain(titles, rows, right))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table()
    for title, is_right in zip(titles, right, strict=True):
        shown.add_column(Text(title), justify="right" if is_right else "left", overflow="fold")
    for row, style in zip(rows, styles or [None] * len(rows), strict=True):
        shown.add_row(*map(Text, row), style=style)  # Text, so that brackets in a value are not read as markup
    Console().print(shown)


def to_markdown(table: pd.DataFrame, metric: str, extra: Extra | None = None, confidence: float = 0.95) -> str:
    """The table in GitHub's markdown."""
    shown = columns(table, metric, extra, confidence)
    titles, rules = [column.title for column in shown], ["---:" if column.number else "---" for column in shown]
    rows = [titles, *cells(table, shown)]
    lines = [" | ".join(cell.replace("\\", "\\\\").replace("|", "\\|") for cell in row) for row in rows]
    lines.insert(1, " | ".join(rules))
    return "".join(f"| {line} |\n" for line in lines)


def to_latex(table: pd.DataFrame, metric: str, extra: Extra | None = None, confidence: float = 0.95) -> str:
    r"""The table as a tabular with the rules of booktabs; needs \usepackage{booktabs}. Minus signs are set as such."""
    shown = columns(table, metric, extra, confidence)
    numbers = [column.number for column in shown]
    rows = [list(map(_latex, row, numbers)) for row in cells(table, shown)]
    titles = [column.title.translate(_LATEX) for column in shown]
    layout = "".join("r" if number else "l" for number in numbers)
    return pd.DataFrame(rows, columns=titles).to_latex(index=False, escape=False, column_format=layout)


def _latex(cell: str, number: bool) -> str:
    if cell == "-":
        return "--"
    return cell.replace("-", "$-$").replace("%", "\\%") if number else cell.translate(_LATEX)


def to_csv(table: pd.DataFrame) -> str:
    """All columns at full precision, metrics as fractions, lists as JSON.

    A text that a spreadsheet would take for a formula gets a ' before it.
    """
    flat = table.copy()
    for name in flat.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in flat.dtypes]]:
        values = [canonical(v) if isinstance(v, list | dict) else v for v in flat[name]]
        flat[name] = [f"'{v}" if isinstance(v, str) and v.startswith(FORMULA) else v for v in values]
    return flat.to_csv(index=False)
