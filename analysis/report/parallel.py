"""Parallel coordinates of a sweep's trials: an axis for each setting, the epochs and the value; plotly brushes."""

import html
import math
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from analysis.importance.figures import SCALE
from analysis.importance.findings import Findings
from analysis.importance.space import Label, Parameter
from analysis.names import mode_of
from analysis.report.evidence import Evidence
from analysis.report.trials import plain
from analysis.report.verdict import label
from analysis.tables import formatting
from analysis.tables.load import is_missing
from mergenet.errors import UserError
from mergenet.records.run_record import is_metric, test_column

MOST_LABELS = 30  # ticks of a choice; of more, evenly spaced ones
MOST_CHARACTERS = 18  # of a tick
SHADES = np.linspace(0.2, 0.88, 8).tolist()  # of the scale: seen on white and on black
MOST_LINES, BEST_LINES = 1000, 200  # that are drawn
NOT_DRAWN = -0.08  # below the axis, in its lengths: a trial that did not draw the setting

Dimension = dict[str, Any]


def parallel_coordinates(evidence: Evidence) -> go.Figure:
    """Coloured by value. Its trace's `ids` are the names of the trials, by which the page filters its table; its `meta`
    has the places of those that the page draws, if they are too many to draw each.

    Trials stopped early have the value that they reached. Raises UserError with fewer than two trials with a value.
    """
    found, metric = evidence.found, evidence.metric
    if found is None or metric is None:
        raise UserError(evidence.why_not.get("best") or evidence.why_not["importances"])
    table = evidence.trials.dropna(subset=[metric]) if metric in evidence.trials.columns else evidence.trials.iloc[:0]
    if len(table) < 2:
        raise UserError(f"parallel coordinates must have two trials with a {metric}, got {len(table)}")
    drawn = found.search.trials.set_index("trial").reindex(table["trial"])
    value = _measured(table, metric)
    dimensions = [_dimension(found, path, drawn[path]) for path in found.search.parameters]
    if table["epochs_done"].nunique() > 1:
        dimensions.append({"label": "epochs", "values": [int(n) for n in table["epochs_done"]]})
    test = test_column(metric)
    dimensions += [_measured(table, test)] if test in table.columns and table[test].nunique() > 1 else []
    dimensions.append(value)
    scale = [[one, color] for one, color in zip(np.linspace(0, 1, 8), sample_colorscale(SCALE, SHADES), strict=True)]
    line = {"color": value["values"], "colorscale": scale, "reversescale": mode_of(metric) == "min", "showscale": True}
    line |= {"colorbar": {"title": {"text": html.escape(str(value["label"]))}, "thickness": 12}}
    trace = go.Parcoords(dimensions=dimensions, line=line, ids=list(map(str, table["trial"])))
    trace.update(labelfont={"size": 13}, tickfont={"size": 11}, unselected={"line": {"opacity": 0.06}})
    figure = go.Figure(trace).update_layout(height=440, margin={"t": 60, "b": 30, "l": 70, "r": 30})
    if len(table) <= MOST_LINES:
        return figure
    places = spread_lines(np.array(value["values"]), mode_of(metric))
    figure.data[0].update(meta={"drawn": places})
    text = (
        f"{len(places):,} of {len(table):,} trials are drawn: the best {BEST_LINES}, and others by equal steps of rank"
    )
    return figure.update_layout(title={"text": f"{text}; the table keeps every trial in a brushed part"})


def spread_lines(values: np.ndarray, mode: str) -> list[int]:
    """The places of MOST_LINES values: the best BEST_LINES, and the others by equal steps of their rank."""
    order = np.argsort(-values if mode == "max" else values, kind="stable")
    steps = np.linspace(BEST_LINES, len(order) - 1, MOST_LINES - BEST_LINES).round().astype(int)
    return sorted(order[[*range(BEST_LINES), *steps]].tolist())


def _measured(table: pd.DataFrame, name: str) -> Dimension:
    """A metric; where a trial lacks it, it stands below the axis."""
    scale = 100.0 if is_metric(name) else 1.0
    values = scale * table[name].to_numpy(dtype=float)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    span = high - low or 1.0
    lacks = bool(np.isnan(values).any())
    bottom = low + NOT_DRAWN * span if lacks else low
    shown = [plain(float(bottom if np.isnan(value) else value)) for value in values]
    ticks = np.linspace(low, high, 5)
    found: Dimension = {"label": f"{label(name)} %" if is_metric(name) else label(name), "values": shown}
    found |= {"range": [plain(bottom), plain(low + span)], "tickformat": ".4~g"}
    return found | ({"tickvals": [bottom, *ticks], "ticktext": ["-", *(f"{t:.4g}" for t in ticks)]} if lacks else {})


def _dimension(found: Findings, path: str, column: pd.Series) -> Dimension:
    """A searched setting on the scale on which it was drawn, from 0 to 1."""
    parameter = found.search.parameters[path]
    codes = [math.nan if one is None or is_missing(one) else parameter.code(one) for one in column]
    lacks = any(map(math.isnan, codes))
    values = [plain(NOT_DRAWN if math.isnan(code) else code) for code in codes]
    ticks, texts = zip(*_ticks(parameter), strict=True)
    extra = ([NOT_DRAWN], ["-"]) if lacks else ([], [])
    return {
        "label": html.escape(found.names[path]),
        "values": values,
        "range": [NOT_DRAWN if lacks else 0.0, 1.0],
        "tickvals": [*extra[0], *(plain(tick) for tick in ticks)],
        "ticktext": [*extra[1], *texts],
    }


def _ticks(parameter: Parameter) -> list[tuple[float, str]]:
    """Codes and texts of all choices, or of up to six values of a range."""
    grid = parameter.grid(6)
    places = np.unique(np.linspace(0, len(grid) - 1, min(len(grid), MOST_LABELS)).astype(int))
    return [(parameter.code(grid[i]), _text(grid[i])) for i in places]


def _text(value: Label) -> str:
    text = formatting.setting(float(f"{value:.3g}") if isinstance(value, float) else value)
    short = text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 3]}..."
    return html.escape(short, quote=False)
