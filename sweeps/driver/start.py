"""What the command line and the Python API do with a sweep folder: begin, resume, or read a finished sweep.

Ray and torch are imported once a sweep begins or is resumed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergenet.records.provenance import config_hash
from sweeps.config import SweepConfig
from sweeps.config.base import load_base
from sweeps.execution.forkserver.start import fork_server
from sweeps.execution.local_ray import ray_starting
from sweeps.execution.ray_cluster import check_address, joined_ray, quiet
from sweeps.execution.resources import num_cpus
from sweeps.planning.inputs import check_sweep_unchanged
from sweeps.space.checks import build_space
from sweeps.trials.sweep_dir import (
    BASE_FILE,
    check_deletable,
    check_folder,
    check_settings,
    finished_summary,
    holds_sweep,
    holds_this_sweep,
    load_resumable,
)

if TYPE_CHECKING:
    from rich.console import Console

    from sweeps.planning.plan import Plan


def finished(config: SweepConfig, folder: Path) -> dict[str, Any] | None:
    """summary.json, if the folder holds this very sweep, finished.

    Raises CheckpointError if code or data have changed since; ConfigError, with what differs, if it is finished with
    other settings.
    """
    if not holds_sweep(folder):
        return None
    base = load_base(config)
    base_hash = config_hash(base)
    summary = finished_summary(folder, config, base_hash)
    if summary is None:
        check_settings(folder, config, base_hash)
    else:
        check_sweep_unchanged(folder, base, config.search)
    return summary


def unfinished(config: SweepConfig, folder: Path) -> bool:
    """Whether the folder holds this very sweep, to be resumed."""
    return holds_sweep(folder) and holds_this_sweep(folder, config, config_hash(load_base(config)))


def begin(
    config: SweepConfig,
    folder: Path,
    console: "Console",
    overwrite: bool = False,
    address: str | None = None,
    copy_to: str | None = None,
) -> dict[str, Any]:
    """Run a sweep in a new folder, or overwrite the one there; returns the summary. Raises as `run_sweep`."""
    (check_deletable if overwrite else check_folder)(folder)  # before the networks are built for the other checks
    from sweeps.driver.run import run_sweep
    from sweeps.planning.checks import plan_sweep
    from sweeps.tracking.remote_copy import check_url

    check_address(address)
    if copy_to is not None:
        check_url(copy_to)
    check_cluster(address)
    with starting(config, address):
        plan = plan_sweep(config, elsewhere=address is not None)
        return run_sweep(plan, folder, console, overwrite, address, copy_to=copy_to)


def go_on(folder: Path, console: "Console", address: str | None = None, retry: bool = False) -> dict[str, Any]:
    """Resume the sweep in a folder; returns the summary. retry: failed runs train again.

    Raises as `run_sweep`, and CheckpointError if data have changed since it began, or code: with retry that may.
    """
    check_address(address)
    config = load_resumable(folder)
    check_cluster(address)
    with starting(config, address):
        plan = resumable_plan(folder, elsewhere=address is not None, retry=retry)
        from sweeps.driver.run import resume_sweep

        return resume_sweep(plan, folder, console, address, retry)


def check_cluster(address: str | None) -> None:
    """Joins the Ray at an address and leaves it, before anything is written. Raises ConfigError if there is none."""
    if address is not None:
        with quiet(), joined_ray(address):
            pass


@contextmanager
def starting(config: SweepConfig, address: str | None) -> Iterator[None]:
    """Inside, this machine's Ray starts, and what its workers need is loaded, beside the plan, which takes as long."""
    if address is not None:
        yield
        return
    with fork_server(), quiet(), ray_starting(num_cpus(config)):
        yield


def resumable_plan(folder: Path, elsewhere: bool = False, retry: bool = False) -> "Plan":
    """The plan of the sweep in a folder, which goes on as it began: with the same base, data and code."""
    from sweeps.driver.check_records import check_base, drawn_in  # optuna

    config = load_resumable(folder)
    base = load_base(config)
    drawn = {run: values for run, values in drawn_in(folder).items() if values.keys() <= config.search.keys()}
    check_base(build_space(base, config.search), drawn, folder / BASE_FILE)  # data that differ follow from it
    check_sweep_unchanged(folder, base, config.search, fixed=retry)
    from sweeps.planning.checks import plan_sweep

    return plan_sweep(config, elsewhere=elsewhere, begun=True)
