"""An ablation's plan and its result as text, and the files that hold its table."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import pandas as pd

from analysis.tables import formats
from mergenet.records.atomic import write_json, write_text
from sweeps.ablation.results.table import EXTRA, verdict_lines
from sweeps.report.plan_text import data_text, duration, size
from sweeps.report.wording import show_params

NAME, INTERACTIONS = "ablation", "interactions"  # of the files
SHOWN = [
    "variant", "n", "mean", "low", "high", "gain", "gain_low", "gain_high", "p", "p_holm", *EXTRA,
]  # fmt: skip


def plan_lines(found: dict[str, Any], begun: bool = False) -> Iterator[str]:
    """found: of `plan.estimate`."""
    reference, *others = found["variants"]
    yield f"ablation {found['name']}" + ("" if begun else ": nothing has been created")
    seeds = found["seeds"]
    yield (
        f"variants: {len(others)} beside {reference['label']}, {len(seeds)} seeds each ({seeds[0]} to {seeds[-1]}), "
        f"paired by seed"
    )
    for one in others:
        yield f"  {one['label']}: {show_params(one['changes'])}"
    yield from data_text(found["data"], found["searched_data"])
    if found["left_out"]:
        yield "left out:"
        yield from (f"  {one['label']}: {one['reason']}" for one in found["left_out"])
    runs = found["runs"]
    yield f"runs: {runs['all']}, of which {runs['reused']} are reused or there and {runs['train']} train"
    count = found["recordings"]
    times = {0: "none is to be recorded", 1: "trains once, recorded for all variants that share it"}
    yield f"source: {times.get(count, f'{count} recordings, one for each that trains otherwise')}"
    yield f"epochs: {found['epochs']}"
    yield (
        f"time: about {duration(found['hours'])}, {duration(found['run_hours'])} of all runs together (from timed "
        "steps of each variant)"
    )
    if found["budget_hours"] is not None:
        yield f"budget: no further seed begins after {found['budget_hours']:g} hours"
    yield f"disk: {size(found['disk']['needed'])}; {size(found['disk']['free'])} free"
    yield from statistics_lines(found["statistics"])


def statistics_lines(found: dict[str, Any]) -> Iterator[str]:
    """What the seeds can show."""
    seeds, level, power = found["seeds"], f"{100 * found['level']:g} %", f"{100 * found['power']:g} times in 100"

    def gain(name: str) -> str:
        points = found[f"{name}_points"]
        in_points = (
            "" if points is None else f" ({points:.2f} points, if that deviation is {found['pair_sd_points']:.2f})"
        )
        return f"{found[f'{name}_in_sd']:.2f} standard deviations of a pair's difference{in_points}"

    yield f"seeds: {seeds} pairs find a difference of {gain('gain')} {power} (t test, {level} level)"
    if found["compared"] > 1:
        yield f"  after Holm's correction for {found['compared']} variants: of {gain('holm_gain')}"
    if found["holm_seeds"] is None:
        yield "  warning: for so many variants no number of seeds makes the sign-flip test significant"
    elif found["holm_seeds"] > seeds:
        then = "after that correction it" if found["compared"] > 1 else "it"
        yield (
            f"  warning: the sign-flip p of {seeds} seeds is {found['smallest_p']:.2g} at least; {then} "
            f"can be below {level} from {found['holm_seeds']} seeds on (--seeds {found['holm_seeds']})"
        )
    if found["pair_sd_points"] is None:
        yield "  the deviation is unknown: give it by --pair-sd, in points"


def shown_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Of `ablation_table` those of a paper; the notes only where there are any."""
    return table[SHOWN if (table["note"] != "").any() else [name for name in SHOWN if name != "note"]]


def write_tables(folder: Path, metric: str, table: pd.DataFrame, more: pd.DataFrame) -> list[Path]:
    """ablation.csv, .md and .tex; of interactions, if there are any, interactions.csv."""
    shown = shown_columns(table)
    both = [(shown, EXTRA), (more, None)] if len(more) else [(shown, EXTRA)]
    texts = {f"{NAME}.csv": formats.to_csv(table)}
    for name, write in (("md", formats.to_markdown), ("tex", formats.to_latex)):
        texts[f"{NAME}.{name}"] = "\n".join(write(one, metric, extra) for one, extra in both)
    texts |= {f"{INTERACTIONS}.csv": formats.to_csv(more)} if len(more) else {}
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def write_facts(folder: Path, metric: str, table: pd.DataFrame, more: pd.DataFrame, facts: dict[str, Any]) -> None:
    """ablation.json: all numbers, and the facts."""
    rows = [table.astype(object).where(table.notna(), None), more.astype(object).where(more.notna(), None)]
    records = [one.to_dict("records") for one in rows]
    write_json(folder / f"{NAME}.json", facts | {"metric": metric, "table": records[0], "interactions": records[1]})


def print_result(
    folder: Path,
    metric: str,
    table: pd.DataFrame,
    more: pd.DataFrame,
    left_out: list[dict[str, str]],
    rich: bool,
    named: Iterable[str] = (),
) -> None:
    """The table, what it shows, and where it is. named: lines about the best trials of a sweep, in place of tests."""
    formats.print_table(shown_columns(table), metric, EXTRA, rich_output=rich)
    click.echo(f"gain: minus {table['variant'].iloc[0]}, paired by seed; p of the sign-flip test")
    for line in named or verdict_lines(table, metric):
        click.echo(line)
    if len(more):
        click.echo("\ninteractions: what two changes together add to the sum of each alone, paired by seed")
        formats.print_table(more, metric, rich_output=rich)
    if left_out:
        click.echo("left out:")
        for one in left_out:
            click.echo(f"  {one['label']}: {one['reason']}")
    click.echo(f"the table as CSV, markdown and LaTeX: {folder / NAME}.csv, .md, .tex")
