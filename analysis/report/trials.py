"""The runs as the page's table has them, the values of each seed of the confirmation, and links to the runs' files.

The page's script sorts, filters and shows them page by page: nothing here is HTML.
"""

import math
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from analysis.measures import STEP_SECONDS
from analysis.names import CONFIRM_ADAPTER, CONFIRM_BEST, CONFIRM_NONE, CONTROL_OF
from analysis.report.evidence import Evidence
from analysis.report.verdict import label
from analysis.seeds import SD, SEEDS
from analysis.tables import formatting
from analysis.tables.load import BREAKS, is_missing, measure_columns, param_columns
from analysis.tables.overview import ordered
from analysis.wandb_runs.links import run_urls
from mergenet.records.run_record import ADAPTER_PARAMETERS, BEST_EPOCH, METRIC, is_metric, test_column

FILES = ("config.yaml", "epochs.jsonl", "result.json", "provenance.json")  # of a run, that the page links to
FIXED = ("trial", "role", "state", "seed")
COST = (ADAPTER_PARAMETERS, STEP_SECONDS, "seconds", BREAKS, "error")
DIGITS = 6  # significant, of numbers in the page

Cell = str | int | float | bool | None


def link(folder: Path | str, page: Path) -> str:
    """The URL of a run's folder, relative to the page and quoted; empty where there is no way from one to the other."""
    try:
        relative = os.path.relpath(Path(folder).absolute(), page.absolute().parent)
    except ValueError:  # another drive
        return ""
    return quote(Path(relative).as_posix())


def trials(evidence: Evidence, page: Path) -> dict[str, Any]:
    """columns: name, title, kind ("percent", "number" or "text"); rows: a list of cells each; links: their folders.

    has: of each row the places in `files` of those that are there. tracked: the URLs of their runs on W&B, where the
    folder knows them, else empty.

    page: where the report will be; rows are in the order of `mergenet analyze table`.
    """
    table = ordered(evidence.table)
    names = _columns(evidence, table)
    titles = formatting.headers(names, param_columns(table))
    numeric = dict(zip(names, formatting.numeric(table[names]), strict=True))
    columns = [
        {"name": name, "title": _title(name, title), "kind": _kind(name, numeric[name])}
        for name, title in zip(names, titles, strict=True)
    ]
    urls = run_urls(evidence.folder)
    cells = [[_cell(name, value) for value in table[name]] for name in names]
    return {
        "columns": columns,
        "rows": [list(row) for row in zip(*cells, strict=True)],
        "links": [link(folder, page) for folder in table["folder"]],
        "has": [[i for i, name in enumerate(FILES) if (Path(run) / name).is_file()] for run in table["folder"]],
        "files": list(FILES),
        "tracked": [urls.get(Path(folder).name, "") for folder in table["folder"]],
    }


def _columns(evidence: Evidence, table: pd.DataFrame) -> list[str]:
    searched = evidence.settings
    metrics = [str(name) for name in table[METRIC].dropna().unique()]
    first = [name for metric in metrics for name in (metric, test_column(metric)) if name in table.columns]
    rest = [name for name in measure_columns(table) if name not in first]
    repeated = [name for name in (SEEDS, SD) if name in table.columns]
    names = [*FIXED, "epochs_done", BEST_EPOCH, *repeated, *first, *searched, *rest, *COST]
    kept = (*FIXED, *searched)
    return [name for name in names if name in kept or table[name].notna().any()]


def _title(name: str, title: str) -> str:
    return label(title) if name.startswith(("target_", "source_")) else title


def _kind(name: str, numeric: bool) -> str:
    return "percent" if is_metric(name) or name == SD else "number" if numeric else "text"


def _cell(name: str, value: Any) -> Cell:
    if is_missing(value):
        return None
    if name == "role":
        return formatting.ROLE_LABELS[str(value)]
    return plain(value)


def plain(value: Any) -> Cell:
    """A value for JSON: numbers to DIGITS, lists and mappings as `formatting.setting` shows them; no NaN."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else str(value)
    return formatting.setting(value)


def seeds(evidence: Evidence, page: Path) -> dict[str, Any]:
    """The test metric of each seed of the confirmation: a column a role, its cells value and link. Empty without."""
    if evidence.confirmed is None or evidence.best is None:
        return {}
    test = test_column(str(evidence.best[METRIC]))
    table = evidence.table[evidence.table["seed"].isin(evidence.confirmed["seeds"])].dropna(subset=[test])
    every = (CONFIRM_BEST, CONFIRM_NONE, CONFIRM_ADAPTER, *CONTROL_OF)
    roles = [role for role in every if (table["role"] == role).any()]
    rows = []
    for seed in evidence.confirmed["seeds"]:
        found = {role: table[(table["seed"] == seed) & (table["role"] == role)] for role in roles}
        cells = [
            (formatting.cell(test, one.iloc[0][test]), link(one.iloc[0]["folder"], page)) if len(one) else ("-", "")
            for one in found.values()
        ]
        rows.append({"seed": int(seed), "cells": cells})
    unit = " %" if is_metric(test) else ""
    return {"metric": f"{label(test)}{unit}", "roles": [_side(role) for role in roles], "rows": rows}


def _side(role: str) -> str:
    names = {CONFIRM_BEST: "best", CONFIRM_NONE: "no transfer", CONFIRM_ADAPTER: "trained adapter"}
    return names.get(role) or f"control: {CONTROL_OF[role]}"
