"""A workspace view of a sweep on W&B, made once: its gain, what mattered, and its curves by variant with their spread.

W&B's own workspace shows every key of every run in the project; this one has the runs of the sweep, grouped by variant.
It takes the package wandb-workspaces (`pip install "mergenet[workspaces]"`); without it there is none. The panels of an
ablation's are in sweeps/ablation/results/published.py.
"""

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from analysis.wandb_runs.tracked import VARIANT
from mergenet.errors import named_line
from mergenet.records.run_record import EPOCH, test_column
from sweeps.config import SweepConfig
from sweeps.tracking.wandb_about import OBJECTIVE, searched_paths
from sweeps.tracking.wandb_summary import numbers

PACKAGE = "wandb_workspaces"
WORKSPACE = "workspace"  # key of the summary run's configuration: the view's URL
MOST = 100  # variants that a panel shows
SPREAD = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
Sections = Mapping[str, Callable[[], list[Any]]]  # title -> its panels, which need the package


def make_workspace(run: Any, sweep: SweepConfig, about: str, sections: Sections, say: Callable[[str], None]) -> None:
    """Of the run of the whole folder, online. One that was made before is left alone: a user may have changed it.

    about: what it shows, in words. say: called with a line if W&B does not take it.
    """
    if importlib.util.find_spec(PACKAGE) is None or run.config.get(WORKSPACE):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is written for an older pydantic
            url = workspace(run.entity, run.project, sweep, about, sections).save().url
        run.config.update({WORKSPACE: url})
    except Exception as error:  # the package is a preview, and W&B raises anything
        say(f"wandb: no workspace view ({named_line(error)}); the runs are there as usual")


def of_sweep(sweep: SweepConfig, summary: dict[str, Any]) -> Sections:
    """summary: report/summary.py's."""
    return {
        "Gain over no transfer, on fresh seeds": partial(gains, summary),
        "What mattered": partial(what_mattered, sweep),
        **with_curves(sweep),
    }


def with_curves(sweep: SweepConfig) -> Sections:
    return {"Curves by variant, with their spread": partial(curves, sweep)}


def workspace(entity: str, project: str, sweep: SweepConfig, about: str, sections: Sections) -> Any:
    """A view of the package's, not saved yet."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    runs = ws.RunsetSettings(filters=[expr.Metric("Group") == sweep.name], groupby=[expr.Config(VARIANT)])
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"{sweep.name}: {about}",
        sections=[ws.Section(name=title, panels=make(), is_open=True) for title, make in sections.items()],
        settings=ws.WorkspaceSettings(x_axis=EPOCH, max_runs=MOST),
        runset_settings=runs,
    )


def gains(summary: dict[str, Any]) -> list[Any]:
    """The paired gain and its interval, by the summary run; and the objective of each variant over its seeds."""
    from wandb_workspaces.reports.v2 import BarPlot

    known, panels = numbers(summary), []
    for metric in (test_column(summary["metric"]), summary["metric"]):
        ends = [key for part in ("mean", "low", "high") if (key := f"gain_{metric}_{part}") in known]
        panels += [BarPlot(title=f"gain, {metric}, 95 % interval", metrics=ends)] if ends else []
    return [*panels, objectives(summary["metric"])]


def objectives(metric: str) -> Any:
    """The objective of each variant: the mean over its runs and their standard deviation. metric: which one it is."""
    from wandb_workspaces.reports.v2 import BarPlot, Config

    return BarPlot(title=f"{metric}, mean", metrics=[OBJECTIVE], groupby=Config(VARIANT), **SPREAD)


def what_mattered(sweep: SweepConfig) -> list[Any]:
    """W&B's parameter importance, and the searched settings beside the objective."""
    from wandb_workspaces.reports.v2 import (
        Config,
        ParallelCoordinatesPlot,
        ParallelCoordinatesPlotColumn,
        ParameterImportancePlot,
        SummaryMetric,
    )

    logarithmic = {path for path, entry in sweep.search.items() if entry.log}
    columns = [
        ParallelCoordinatesPlotColumn(metric=Config(path.replace(".", "_")), log=path in logarithmic)
        for path in searched_paths(sweep)
    ]
    columns.append(ParallelCoordinatesPlotColumn(metric=SummaryMetric(OBJECTIVE)))
    title = f"settings and {sweep.objective}"
    return [ParallelCoordinatesPlot(columns=columns, title=title), ParameterImportancePlot(with_respect_to=OBJECTIVE)]


def curves(sweep: SweepConfig) -> list[Any]:
    """Of each variant the mean over its runs and their standard deviation, epoch by epoch."""
    from wandb_workspaces.reports.v2 import Config, LinePlot

    metrics = dict.fromkeys([sweep.objective, "target_val_loss", "target_train_loss"])
    return [LinePlot(title=name, x=EPOCH, y=[name], groupby=Config(VARIANT), **SPREAD) for name in metrics]
