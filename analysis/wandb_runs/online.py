"""The runs of a sweep from W&B's server: one query, in pages, then each run's whole history; nothing is sampled."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from analysis.wandb_runs.client import check_reachable, set_up
from analysis.wandb_runs.tracked import TrackedRun
from mergenet.errors import UserError, named_line

PAGE = 100  # runs
AT_ONCE = 8  # histories that are read together


def read_online(entity: str, project: str, group: str) -> list[TrackedRun]:
    """All runs of a group, the oldest first. Raises UserError: no key, no such project or group, or W&B is down."""
    import wandb

    place = f"wandb:{entity}/{project}/{group}"
    with refusals(place):
        client = set_up(wandb)
        check_reachable(client.settings.base_url)
        if not wandb.api.api_key:
            raise UserError(f"{place} must be read with a key, got none; `wandb login` or WANDB_API_KEY gives one")
        runs = list(wandb.Api().runs(f"{entity}/{project}", filters={"group": group}, per_page=PAGE, lazy=False))
        if not runs:
            raise UserError(f"{place} must be a group with runs, got none; the group of a sweep is its name")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(tracked, runs))


def tracked(run: Any) -> TrackedRun:
    """run: of W&B's public API, with its configuration and summary."""
    about = TrackedRun(run.id, run.name or run.id, run.state, run.url, run.group or "")
    about.config, about.summary = dict(run.config), dict(run.summaryMetrics)
    about.rows = [dict(row) for row in run.scan_history(use_cache=False)]
    return about


@contextmanager
def refusals(place: str) -> Iterator[None]:
    """What the client raises, which may be anything, as one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = named_line(error)
        if "Could not find project" in text:
            raise UserError(f"{place} must be in a project that you can read; W&B knows no such project") from None
        raise UserError(f"{place} could not be read from W&B: {text}") from error
