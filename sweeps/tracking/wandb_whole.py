"""The run of a whole folder on Weights & Biases: what it holds, and how the mirror or `sweep sync` fills it.

`Whole` is what both need to know of it; `OfSweep` is that of a sweep, sweeps/ablation/mirrored.py has an ablation's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sweeps.config import SweepConfig
from sweeps.tracking import wandb_artifacts, wandb_workspace
from sweeps.tracking.wandb_about import Ending
from sweeps.tracking.wandb_media import log_findings
from sweeps.tracking.wandb_run import MirrorRun
from sweeps.tracking.wandb_summary import how_it_ended, log_summary, table_config

if TYPE_CHECKING:
    from analysis.report.evidence import Evidence

Say = Callable[[str], None]


class Whole(Protocol):
    def config(self) -> dict[str, Any]:
        """The configuration of the run."""

    def log(self, run: Any, say: Say) -> None:
        """Tables, figures and numbers; say: called with a line for what is missing."""

    def publish(self, run: Any, say: Say) -> None:
        """What W&B takes online only: artifacts and a workspace."""

    def ending(self, project_url: str | None) -> Ending:
        """project_url: as for `notes_of`."""


def fill(opened: MirrorRun, whole: Whole, say: Say) -> None:
    """Raises what the client raises."""
    whole.log(opened.run, say)
    if not opened.run.offline:
        whole.publish(opened.run, say)
    opened.finish(whole.ending(opened.project_url))


@dataclass(frozen=True)
class OfSweep:
    """summary: report/summary.py's. gathered: what is known of the folder, for what mattered; called once."""

    sweep: SweepConfig
    folder: Path
    summary: dict[str, Any]
    gathered: Callable[[], "Evidence | None"]

    def config(self) -> dict[str, Any]:
        return table_config(self.summary["metric"])

    def log(self, run: Any, say: Say) -> None:
        log_summary(run, self.summary)
        log_findings(run, self.gathered, say)

    def publish(self, run: Any, say: Say) -> None:
        parts = partial(wandb_artifacts.of_sweep, self.sweep, self.folder, self.summary)
        facts = wandb_artifacts.facts(self.summary, self.folder)
        wandb_artifacts.log_artifacts(run, self.sweep, parts, facts, say)
        panels = wandb_workspace.of_sweep(self.sweep, self.summary)
        wandb_workspace.make_workspace(run, self.sweep, "gain, importance, curves", panels, say)

    def ending(self, project_url: str | None) -> Ending:
        return how_it_ended(self.summary, self.sweep, self.folder, project_url)
