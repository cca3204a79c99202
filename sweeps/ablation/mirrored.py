"""An ablation on Weights & Biases: what the run of the whole folder holds, and `mergenet sweep sync` of it."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from analysis.names import COMPLETE
from mergenet.errors import UserError
from mergenet.records.run_record import METRIC
from sweeps.ablation.folder import load_folder, read_variants
from sweeps.ablation.results.result import AblationResult
from sweeps.config import SweepConfig
from sweeps.config.schema import WandbConfig
from sweeps.tracking.wandb_about import ABLATION, Ending, notes_of
from sweeps.tracking.wandb_media import table_of
from sweeps.tracking.wandb_summary import table_config
from sweeps.tracking.wandb_sync import check_project, sync_runs
from sweeps.tracking.wandb_whole import Say

TABLE, INTERACTIONS, CANDIDATES = "ablation", "interactions", "candidates"  # keys


@dataclass(frozen=True)
class OfAblation:
    """sweep: the ablation as the mirror sees it. The folder is read when the run is filled."""

    sweep: SweepConfig
    folder: Path
    lacks: str = ""

    @cached_property
    def result(self) -> AblationResult:
        return AblationResult.load(self.folder)

    def config(self) -> dict[str, Any]:
        return table_config(str(self.result.runs[METRIC].dropna().iloc[0]))

    def log(self, run: Any, say: Say) -> None:  # noqa: ARG002
        from sweeps.ablation.results.named import candidates
        from sweeps.ablation.results.text import shown_columns

        result = self.result
        tables = {TABLE: shown_columns(result.table)}
        tables |= {INTERACTIONS: result.interactions} if len(result.interactions) else {}
        if result.config.top is not None:
            tables[CANDIDATES] = candidates(result.runs, result.variants, result.seeds, result.dropped)
        run.log({name: table_of(frame) for name, frame in tables.items()})
        run.summary.update(numbers(result))

    def publish(self, run: Any, say: Say) -> None:
        """Nothing: it names no best trial of its own, and its files are tables."""

    def ending(self, project_url: str | None) -> Ending:
        return Ending({"state": COMPLETE}, (ABLATION, COMPLETE), notes_of(self.sweep, self.folder, project_url))


def numbers(result: AblationResult) -> dict[str, Any]:
    """Runs by state, the metric of the table, the gain of each variant over the first, and the one that is named."""
    found: dict[str, Any] = {f"runs_{state}": count for state, count in Counter(result.runs["state"]).items()}
    found |= {"table_metric": result.metric} | ({} if result.best is None else {"best": result.best})
    gains = result.table.dropna(subset=["gain"])
    return found | {f"gain_{row['name']}": float(row["gain"]) for _, row in gains.iterrows()}


def sync_ablation(folder: Path, mode: str, project: str | None, say: Say) -> int:
    """Brings W&B to what the records of an ablation say. As `sync_sweep`."""
    from sweeps.ablation.plan import as_sweep
    from sweeps.planning.checks import with_metric

    check_project(mode, project)
    folder = folder.absolute()
    ablation, (variants, _) = load_folder(folder), read_variants(folder)
    wandb = WandbConfig.model_validate({"mode": mode, "project": project or ablation.wandb.project})
    sweep = as_sweep(ablation.model_copy(update={"wandb": wandb}), variants)
    sweep = with_metric(sweep, variants[0].checked)

    def told() -> OfAblation | None:
        found = OfAblation(sweep, folder)
        try:
            return found if found.result else None
        except UserError:  # no run has reported yet
            return None

    return sync_runs(sweep, folder, told, say)
