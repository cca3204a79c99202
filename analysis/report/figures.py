"""The figures of a report: plotly's own, without the colours of a theme. The page adds a template, light or dark."""

import html
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

from analysis.importance.figures import DARK, FIGURES, GREY, LIGHT
from analysis.report.evidence import Evidence
from analysis.report.parallel import parallel_coordinates
from analysis.report.verdict import SHORT, label
from mergenet.errors import UserError
from mergenet.records.run_record import METRIC, is_metric, test_column


@dataclass(frozen=True)
class Section:
    """A figure with what it shows; figure: plotly's data and layout, None where `why_not` says why.

    caption: of what it is made, such as the number of trials.
    """

    name: str
    title: str
    explanation: str
    figure: dict[str, Any] | None = None
    caption: str = ""
    why_not: str = ""


def sections(evidence: Evidence) -> Iterator[Section]:
    """In the order in which a reader needs them: what decides first."""
    title, told = "The gain, and what it rests on", "Differences on fresh seeds, paired: mean and 95 % interval (t)."
    yield _section("gains", title, told, lambda: gains(evidence))
    title = "All trials"
    told = "A line is a trial. Drag along an axis to keep a part of it; the table below keeps the same trials."
    yield _section("parallel", title, told, lambda: parallel_coordinates(evidence))
    found = evidence.found
    for one in FIGURES if found is not None else ():
        yield _section(one.name, one.title, one.explanation, partial(one.draw, found))


def _section(name: str, title: str, explanation: str, draw: Callable[[], go.Figure]) -> Section:
    try:
        figure = bare(draw())
    except UserError as error:
        return Section(name, title, explanation, why_not=str(error))
    caption = figure["layout"].pop("title", {}).get("text", "")
    return Section(name, title, explanation, figure, html.unescape(caption))


def bare(figure: go.Figure) -> dict[str, Any]:
    """data and layout as plain values, without a template; a legend takes no width."""
    figure.update_layout(legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"})
    found: dict[str, Any] = json.loads(str(figure.to_json()))
    found["layout"].pop("template", None)
    found["layout"].setdefault("margin", {}).update(t=min(found["layout"].get("margin", {}).get("t", 60), 60))
    return found


def templates() -> dict[str, Any]:
    """plotly's template for each theme, over the page's own background."""
    nothing = "rgba(0, 0, 0, 0)"
    clear = {"paper_bgcolor": nothing, "plot_bgcolor": nothing, "modebar": {"bgcolor": nothing, "color": GREY}}
    found = {theme: pio.templates[name].to_plotly_json() for theme, name in (("light", LIGHT), ("dark", DARK))}
    return {theme: {**one, "layout": {**one["layout"], **clear}} for theme, one in found.items()}


def gains(evidence: Evidence) -> go.Figure:
    """The paired differences of the confirmation with their intervals, on the test split; a line at 0."""
    if evidence.confirmed is None or evidence.best is None:
        raise UserError(evidence.why_not["confirmed"])
    test = test_column(str(evidence.best[METRIC]))
    rows = list(differences(evidence.confirmed, test))[::-1]
    scale = 100.0 if is_metric(test) else 1.0
    mean = [scale * gain["mean"] for _, gain in rows]
    upper = [0.0 if gain["high"] is None else scale * (gain["high"] - gain["mean"]) for _, gain in rows]
    lower = [0.0 if gain["low"] is None else scale * (gain["mean"] - gain["low"]) for _, gain in rows]
    text = [f"p {gain['p']:.3g}, n {gain['num_pairs']}" for _, gain in rows]
    figure = go.Figure()
    figure.add_scatter(
        x=mean,
        y=[name for name, _ in rows],
        error_x={"array": upper, "arrayminus": lower, "thickness": 2},
        mode="markers",
        marker={"size": 11},
        hovertext=text,
    )
    figure.add_vline(x=0, line={"color": GREY, "dash": "dot"})
    unit = "points" if is_metric(test) else "in the metric"
    figure.update_xaxes(title_text=f"{label(test)}, {unit}")
    height = 110 + 45 * len(rows)
    return figure.update_layout(height=height, margin={"t": 20, "r": 30}, yaxis={"automargin": True})


def differences(found: dict[str, Any], metric: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each paired difference that was confirmed, in words, and its gain. found: of confirmation.py."""
    yield "best minus no transfer", found[metric]["gain"]
    for name, control in found.get("controls", {}).items():
        if control["seeds"]:
            yield f"{SHORT[name]} minus no transfer", control[metric]["gain"]
            yield f"best minus {SHORT[name]}", control[metric]["best_minus_control"]
    adapter = found.get("adapter")
    if adapter and adapter["seeds"]:
        yield "trained adapter minus no transfer", adapter[metric]["gain"]
        yield "trained adapter minus best", adapter[metric]["minus_best"]
