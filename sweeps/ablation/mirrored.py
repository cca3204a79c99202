"""An ablation on Weights & Biases: how the run of the whole folder is filled, and `mergenet sweep sync` of it."""

import re
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from analysis.names import COMPLETE
from analysis.wandb_runs.tracked import SUMMARY_ROLE
from mergenet.errors import UserError
from mergenet.records.run_record import METRIC
from sweeps.ablation.folder import load_folder, read_variants
from sweeps.ablation.results.published import numbers, parts, sections, tables
from sweeps.ablation.results.result import AblationResult
from sweeps.config import SweepConfig
from sweeps.config.schema import WandbConfig
from sweeps.tracking.wandb_about import Ending, notes_of, tags_of
from sweeps.tracking.wandb_artifacts import log_artifacts
from sweeps.tracking.wandb_media import table_of
from sweeps.tracking.wandb_summary import table_config
from sweeps.tracking.wandb_sync import check_project, sync_runs
from sweeps.tracking.wandb_whole import Say
from sweeps.tracking.wandb_workspace import make_workspace

# what `numbers` makes of a result
OWN = re.compile(r"state|table_metric|best|p|num_pairs|gain|seeds_(told|chose)|(runs|gain)_\w+")


@dataclass(frozen=True)
class OfAblation:
    """sweep: the ablation as the mirror sees it. The folder is read when the run is filled."""

    sweep: SweepConfig
    folder: Path

    @cached_property
    def result(self) -> AblationResult:
        return AblationResult.load(self.folder)

    def config(self) -> dict[str, Any]:
        return table_config(str(self.result.runs[METRIC].dropna().iloc[0]))

    def log(self, run: Any, say: Say) -> None:  # noqa: ARG002
        run.log({name: table_of(frame) for name, frame in tables(self.result).items()})

    def publish(self, run: Any, say: Say) -> None:
        log_artifacts(run, self.sweep, partial(parts, self.result), numbers(self.result), say)
        make_workspace(run, self.sweep, "table, gains, curves", sections(self.result, self.sweep), say)

    def ending(self, project_url: str | None) -> Ending:
        tags = tags_of(self.folder, SUMMARY_ROLE, COMPLETE)
        told = numbers(self.result) | {"state": COMPLETE}
        return Ending(told, tags, notes_of(self.sweep, self.folder, project_url), own=OWN)


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
