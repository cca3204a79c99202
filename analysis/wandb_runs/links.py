"""The URLs of a folder's runs on W&B, as far as the client's files know them: of those that were online."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from analysis.wandb_runs.framing import BLOCK, records
from analysis.wandb_runs.tracked import OWN_NOTES

# in the notes of a run (sweeps/tracking/wandb_about.py): the link to the run of the whole sweep, as W&B said it
PROJECT = re.compile(rf"{OWN_NOTES}[^\n]*\]\((https?://[^\s()<>\"']+)/runs/[^\s()<>\"'/]+\)")


def run_urls(folder: Path) -> dict[str, str]:
    """Job -> URL of its run, http or https; empty of a sweep that was offline, or that has no such files.

    A run that was written by several drivers has the URL that the last one knew; one whose notes a user has written
    has none.
    """
    found = {}
    for file in sorted(folder.glob("wandb/run-*/run-*.wandb"), key=lambda path: path.parent.name):  # by its time
        if (known := _job_and_url(file)) is not None:
            found[known[0]] = known[1]
    return found


def _job_and_url(file: Path) -> tuple[str, str] | None:
    """What a run is about stands at the beginning of its file."""
    for run in _runs(file):
        project = PROJECT.match(run.notes)
        job = run.run_id.removeprefix(f"{run.run_group}-")
        if project is not None and job != run.run_id:
            return job, f"{project[1]}/runs/{quote(run.run_id)}"
    return None


def _runs(file: Path) -> Iterator[Any]:
    try:
        yield from (record.run for record in records(file, BLOCK) if record.HasField("run"))
    except (OSError, ImportError):  # gone, or no client here
        return
