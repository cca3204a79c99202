"""What W&B is told of a whole ablation, in its run of the whole folder: tables, numbers, artifacts, panels.

NAME-ablation   ablation.csv, .md and .tex, interactions.csv, ablation.yaml    type ablation
NAME-config     the centre; of a confirmation best.yaml, once a trial is named    type config

Both have the ablation's name as an alias, NAME-config also `centre` or `best`. They are written anew from the records:
the driver's own files are there only once it has ended.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.ablation.results.result import AblationResult
from sweeps.ablation.variants import CENTRE
from sweeps.config import SweepConfig
from sweeps.tracking.wandb_artifacts import ABLATION, CONFIG, Part
from sweeps.tracking.wandb_workspace import Sections, objectives, with_curves
from sweeps.trials.sweep_dir import ABLATION_FILE, BASE_FILE

if TYPE_CHECKING:
    import pandas as pd

TABLE, INTERACTIONS, CANDIDATES = "ablation", "interactions", "candidates"  # keys
GAIN = "gain_"  # before the name of a variant: a key of the run's summary


def tables(result: AblationResult) -> dict[str, "pd.DataFrame"]:
    from sweeps.ablation.results.named import candidates
    from sweeps.ablation.results.text import shown_columns

    found = {TABLE: shown_columns(result.table)}
    found |= {INTERACTIONS: result.interactions} if len(result.interactions) else {}
    if result.config.top is not None:
        found[CANDIDATES] = candidates(result.runs, result.variants, result.seeds, result.dropped)
    return found


def numbers(result: AblationResult) -> dict[str, Any]:
    """Runs by state, the metric of the table, the gain of each variant over the first; of a confirmation the one that
    is named, and what told its gain.
    """
    found: dict[str, Any] = {f"runs_{state}": count for state, count in Counter(result.runs["state"]).items()}
    found |= {"table_metric": result.metric} | ({} if result.best is None else {"best": result.best})
    return found | gains(result) | result.told


def gains(result: AblationResult) -> dict[str, float]:
    """Key of the summary -> paired gain of a variant over the first one."""
    known = result.table.dropna(subset=["gain"])
    return {f"{GAIN}{row['name']}": float(row["gain"]) for _, row in known.iterrows()}


def parts(result: AblationResult, scratch: Path) -> Iterator[Part]:
    """The artifacts. scratch: where their files are written to."""
    yield Part(ABLATION, [*result.write_tables(scratch), result.folder / ABLATION_FILE], ())
    if result.config.top is None:
        yield Part(CONFIG, [result.folder / BASE_FILE], (CENTRE,))
    elif (best := result.write_best(scratch)) is not None:
        yield Part(CONFIG, [best])


def sections(result: AblationResult, sweep: SweepConfig) -> Sections:
    """Of the workspace."""
    return {
        "Table": partial(table_panels, tables(result)),
        f"Gain over {result.variants[0].label}, paired by seed": partial(gain_panels, result, sweep.objective),
        **with_curves(sweep),
    }


def table_panels(found: Mapping[str, "pd.DataFrame"]) -> list[Any]:
    from wandb_workspaces.reports.v2 import WeavePanelSummaryTable

    return [WeavePanelSummaryTable(table_name=name) for name in found]


def gain_panels(result: AblationResult, objective: str) -> list[Any]:
    """The gains as the summary run has them; and the objective of each variant over its seeds."""
    from wandb_workspaces.reports.v2 import BarPlot

    found = list(gains(result))
    own = [BarPlot(title=f"gain, {result.metric}", metrics=found)] if found else []
    return [*own, objectives(objective)]
