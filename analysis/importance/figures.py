"""A plotly figure of each finding. Colours come from the template: plotly_white for light pages, plotly_dark for dark.

for figure in FIGURES:
    figure.draw(found, template="plotly_dark").show()
"""

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from plotly.colors import sample_colorscale
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from analysis.best import write_file
from analysis.importance.curves import MIN_INTERVAL
from analysis.importance.evaluators import FANOVA, PED_ANOVA
from analysis.importance.findings import Findings
from analysis.tables import formatting
from mergenet.errors import UserError

LIGHT, DARK = "plotly_white", "plotly_dark"
GREY = "#8a8a8a"  # of marks beside the data: seen on white and on black
SCALE = "Viridis"
MOST_CURVES = 400  # learning curves in a figure; of more, evenly spaced ones by their last value
MOST_DOTS = 1000  # trials in each panel of the marginal curves; of more, evenly spaced ones by their value
AXES = {PED_ANOVA: "Pearson divergence", FANOVA: "share of variance"}
UNITS = {"step_seconds": "seconds a step", "adapter_parameters": "adapter parameters", "seconds": "seconds of training"}


class Figure(NamedTuple):
    """name: of its file; draw(found, template) raises UserError where the trials do not allow it."""

    name: str
    title: str
    explanation: str
    draw: Callable[..., go.Figure]


def importance(found: Findings, template: str = LIGHT) -> go.Figure:
    """Bars with intervals, one panel an evaluator; a grey line where 95 % of permuted objectives stay below."""
    table = found.importances.dropna(subset=["importance"])
    evaluators = list(dict.fromkeys(table["evaluator"]))
    figure = make_subplots(1, len(evaluators), subplot_titles=evaluators, horizontal_spacing=0.2)
    for column, name in enumerate(evaluators, start=1):
        rows = table[table["evaluator"] == name].iloc[::-1]
        names = [found.names[path] for path in rows["parameter"]]
        error = {"array": rows["high"] - rows["importance"], "arrayminus": rows["importance"] - rows["low"]}
        error = {key: values.clip(lower=0) for key, values in error.items()}
        text = [f"p {p:.3f}, n {n}" for p, n in zip(rows["p_value"], rows["n"], strict=True)]
        bars = go.Bar(x=rows["importance"], y=names, orientation="h", error_x=error, hovertext=text, name=name)
        mark = {"symbol": "line-ns-open", "size": 22, "color": GREY, "line": {"width": 3}}
        chance = go.Scatter(x=rows["chance_high"], y=names, mode="markers", marker=mark, name="chance (95 %)")
        figure.add_traces([bars, chance], rows=1, cols=column)
        figure.update_xaxes(title_text=AXES[name], col=column)
    return _finished(figure, template, found, f"n = {len(found.search.sampled.used)} trials", legend=False)


def path(found: Findings, template: str = LIGHT) -> go.Figure:
    """What each step from the base to the best is worth."""
    table, search = found.ablation_path, found.search
    rows = table.iloc[:0:-1]
    names = [
        f"{found.names[row['parameter']]}: {_text(row['before'])} → {_text(row['after'])}" for _, row in rows.iterrows()
    ]
    worth, low, high = (search.scale * rows[name] for name in ("worth", "low", "high"))
    error = {"array": (high - worth).clip(lower=0), "arrayminus": (worth - low).clip(lower=0)}
    figure = go.Figure(go.Bar(x=worth, y=names, orientation="h", error_x=error))
    figure.update_xaxes(title_text=f"worth{search.unit or ' in the metric'}")
    n = f"n = {len(search.sampled.used)} trials, R² of left-out trials {found.surrogate.r2:.2f}"
    return _finished(figure, template, found, f"to {table.attrs['best']}, {n}", legend=False)


def marginals(found: Findings, template: str = LIGHT) -> go.Figure:
    """A panel a parameter: its trials, and the mean prediction of the forest with its interval."""
    table, search = found.marginal_curves, found.search
    paths = list(dict.fromkeys(table["parameter"]))
    columns = min(len(paths), 3)
    titles = [f"{found.names[path]} (n = {search.used[path].notna().sum()})" for path in paths]
    figure = make_subplots(-(-len(paths) // columns), columns, subplot_titles=titles, shared_yaxes="all")
    for place, name in enumerate(paths):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        _marginal(figure, found, table[table["parameter"] == name], at)
    color = pio.templates[template].layout.colorway[0]
    figure.update_traces(line_color=color, marker_color=color, error_y_color=color, selector={"name": "predicted"})
    figure.update_yaxes(title_text=search.label, col=1)
    figure.update_layout(height=120 + 280 * (-(-len(paths) // columns)))
    return _finished(figure, template, found, f"n = {len(search.used)} trials", legend=False)


def _marginal(figure: go.Figure, found: Findings, curve: pd.DataFrame, at: dict[str, int]) -> None:
    search, name = found.search, curve["parameter"].iloc[0]
    parameter = search.parameters[name]
    drew = _spaced(search.used[search.used[name].notna()])
    known = [_text(label) if parameter.choices else label for label in drew[name]]
    grid = [_text(label) if parameter.choices else label for label in curve["value"]]
    mean, low, high = (search.scale * curve[column] for column in ("mean", "low", "high"))
    dots = {"opacity": 0.45, "size": 6, "color": GREY}
    values = search.scale * drew["value"]
    figure.add_scatter(x=known, y=values, mode="markers", marker=dots, text=drew["trial"], name="trials", **at)
    if parameter.choices:
        error = {"array": (high - mean).clip(lower=0), "arrayminus": (mean - low).clip(lower=0)}
        figure.add_scatter(x=grid, y=mean, error_y=error, mode="markers", marker={"size": 10}, name="predicted", **at)
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=grid, **at)
        return
    line = {"line": {"width": 0}, "hoverinfo": "skip", "mode": "lines"}
    figure.add_scatter(x=grid, y=high, **line, **at)
    figure.add_scatter(x=grid, y=low, fill="tonexty", fillcolor="rgba(138, 138, 138, 0.25)", **line, **at)
    figure.add_scatter(x=grid, y=mean, mode="lines", name="predicted", **at)
    figure.update_xaxes(type="log" if parameter.log else "linear", **at)


def _spaced(trials: pd.DataFrame) -> pd.DataFrame:
    """At most MOST_DOTS of them."""
    places = np.unique(np.linspace(0, len(trials) - 1, min(len(trials), MOST_DOTS)).astype(int))
    return trials.sort_values("value", kind="stable").iloc[places]


def layer_pairs(found: Findings, template: str = LIGHT) -> go.Figure:
    """The mean value of the trials with each pair of a source and a target layer, and how many these are."""
    table, search = found.layer_pairs, found.search
    mean = table.pivot(index="source", columns="target", values="mean").sort_index().sort_index(axis=1)
    count = table.pivot(index="source", columns="target", values="n").reindex_like(mean)
    text = [["" if pd.isna(n) else f"n {n:.0f}" for n in row] for row in count.to_numpy()]
    axes = {"x": [_text(name) for name in mean.columns], "y": [_text(name) for name in mean.index]}
    heat = go.Heatmap(
        z=search.scale * mean.to_numpy(dtype=float), **axes, text=text, texttemplate="%{text}", colorscale=SCALE
    )
    heat.update(colorbar={"title": {"text": search.label}}, reversescale=search.sign < 0, xgap=2, ygap=2)
    figure = go.Figure(heat)
    figure.update_xaxes(title_text="target layer", type="category")
    figure.update_yaxes(title_text="source layer", type="category")
    return _finished(figure, template, found, f"n = {int(table['n'].sum())} pairs in {len(search.used)} trials")


def pareto(found: Findings, template: str = LIGHT, cost: str = "step_seconds") -> go.Figure:
    """Value against cost; the front is joined by a line."""
    table, search = found.pareto(cost), found.search
    front = table[table["front"]]
    figure = go.Figure()
    figure.add_scatter(
        x=table[cost], y=search.scale * table["value"], mode="markers", text=table["trial"], name="trials", opacity=0.7
    )
    figure.add_scatter(
        x=front[cost], y=search.scale * front["value"], text=front["trial"], name="front", mode="lines+markers"
    )
    figure.data[1].line.shape = "hv"
    figure.update_xaxes(title_text=UNITS[cost])
    figure.update_yaxes(title_text=search.label)
    return _finished(figure, template, found, f"n = {len(table)} trials")


def learning_curves(found: Findings, template: str = LIGHT) -> go.Figure:
    """The best value so far by epoch, a line a trial, coloured by the epoch at which it ended."""
    search = found.search
    curves = {name: curve for name, curve in search.curves.items() if curve}
    if not curves:
        raise UserError("learning curves must have a trial with a value, got none")
    ranked = sorted(curves, key=lambda name: search.sign * curves[name][max(curves[name])], reverse=True)
    shown = [ranked[i] for i in np.unique(np.linspace(0, len(ranked) - 1, MOST_CURVES).astype(int))]
    rungs = sorted({max(curves[name]) for name in shown})
    colors = sample_colorscale(SCALE, np.linspace(0.3, 0.9, len(rungs)).tolist())
    figure = go.Figure()
    for rung, color in zip(rungs, colors, strict=True):
        names = [name for name in shown if max(curves[name]) == rung]
        points = [point for name in names for point in [*_points(name, curves[name], search.scale), (None, None, None)]]
        x, y, text = zip(*points, strict=True)
        name = f"to epoch {rung} ({len(names)})"
        figure.add_scatter(x=x, y=y, text=text, mode="lines+markers", name=name, line={"color": color, "width": 1.5})
    figure.update_traces(marker={"size": 3}, connectgaps=False)
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text=f"best {search.label} so far")
    of = "" if len(shown) == len(curves) else f" of {len(curves)}"
    return _finished(figure, template, found, f"n = {len(shown)}{of} trials")


def _points(name: str, curve: dict[int, float], scale: float) -> list[tuple[int, float, str]]:
    return [(epoch, scale * value, name) for epoch, value in curve.items()]


def ranking(found: Findings, template: str = LIGHT) -> go.Figure:
    """Spearman's correlation of each epoch's values with the last one's, with its interval."""
    table = found.rank_correlations
    line = {"line": {"width": 0}, "hoverinfo": "skip", "mode": "lines", "showlegend": False}
    figure = go.Figure()
    figure.add_scatter(x=table["epoch"], y=table["high"], **line)
    figure.add_scatter(x=table["epoch"], y=table["low"], fill="tonexty", fillcolor="rgba(138, 138, 138, 0.25)", **line)
    figure.add_scatter(x=table["epoch"], y=table["correlation"], mode="lines", name="Spearman")
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text="rank correlation with the last epoch", range=[-1.05, 1.05])
    n = table["n"].iloc[0]
    few = f"; an interval needs {MIN_INTERVAL}" if n < MIN_INTERVAL else ""
    return _finished(figure, template, found, f"n = {n} complete trials{few}", legend=False)


def stopping(found: Findings, template: str = LIGHT) -> go.Figure:
    """Stopped trials: what each would have needed to gain, beside the most that a complete trial gained from there."""
    table, search = found.stopped_trials, found.search
    if table.empty:
        raise UserError("trials must have been stopped early to show what that risked, and none was")
    rows = table.dropna(subset=["needed"]).sort_values(["epoch", "needed"], kind="stable")
    if rows.empty:
        raise UserError(
            "what early stopping risked must be told by a stopped and a complete trial that break no constraint, "
            f"got none among {len(table)} and {table['n'].max()}"
        )
    figure = go.Figure()
    figure.add_scatter(
        x=rows["epoch"], y=search.scale * rows["needed"], mode="markers", text=rows["trial"], name="needed to be best"
    )
    most = rows.drop_duplicates("epoch")
    mark = {"symbol": "line-ew-open", "size": 26, "color": GREY, "line": {"width": 3}}
    figure.add_scatter(
        x=most["epoch"], y=search.scale * most["most_gain"], mode="markers", marker=mark, name="most gained from there"
    )
    figure.update_xaxes(title_text="epoch at which it was stopped")
    figure.update_yaxes(title_text=f"gain to the last epoch,{search.unit or ' in the metric'}", rangemode="tozero")
    counts = f"n = {len(rows)} stopped, {table['n'].max()} complete trials"
    return _finished(figure, template, found, counts)


def _text(label: Any) -> str:
    """As a reader sees it; plotly takes some of HTML."""
    return "-" if label is None else html.escape(formatting.setting(label), quote=False)


def _finished(figure: go.Figure, template: str, found: Findings, counts: str, legend: bool = True) -> go.Figure:
    """With what it is of below the plot's top, and nothing that one theme alone could show."""
    about = f"{found.search.folder.name}, {found.search.label}: {counts}"
    title = {"text": html.escape(about, quote=False), "font": {"size": 14}, "x": 0.02}
    return figure.update_layout(template=template, title=title, showlegend=legend, margin={"t": 80, "r": 30})


FIGURES = (
    Figure(
        "importance",
        "What explains the value",
        "How much each searched parameter explains, beside what it explains of a permuted objective (grey).",
        importance,
    ),
    Figure(
        "path",
        "From the base to the best",
        "The changes that lead from the base's settings to the best trial's, and what a forest predicts each is worth.",
        path,
    ),
    Figure(
        "marginals",
        "Each parameter by itself",
        "The trials, and what a forest predicts for each setting with the other parameters as they were drawn.",
        marginals,
    ),
    Figure(
        "layer_pairs",
        "Layer pairs",
        "The mean value of the trials with each pair of source and target layer, and their number.",
        layer_pairs,
    ),
    Figure("pareto", "Value against cost", "Trials on the front are beaten by no other in both.", pareto),
    Figure(
        "learning_curves",
        "Learning curves",
        "The best value so far of each trial, coloured by the epoch at which it ended.",
        learning_curves,
    ),
    Figure(
        "ranking",
        "When the ranking is settled",
        "How well each epoch ranks the complete trials as the last one does; stopping before is stopping at random.",
        ranking,
    ),
    Figure(
        "stopping",
        "What early stopping risked",
        "What each stopped trial would have had to gain to be the best, beside the most that a complete trial gained.",
        stopping,
    ),
)


def write_figures(found: Findings, folder: Path, template: str = LIGHT) -> list[str]:
    """Write each figure to folder/NAME.html, and plotly's script once beside them; no network is needed to look.

    Returns a line for each, also for one that the trials do not allow. Raises UserError if they cannot be written.
    """
    lines = []
    for one in FIGURES:
        try:
            figure = one.draw(found, template)
        except UserError as error:
            lines.append(f"no {one.name}.html: {error}")
            continue
        write_file(folder / f"{one.name}.html", figure.to_html(include_plotlyjs="directory"))
        lines.append(f"wrote {folder / one.name}.html: {one.title.lower()}")
    write_file(folder / "plotly.min.js", get_plotlyjs())
    return lines
