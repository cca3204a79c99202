"""`mergenet sweep`: search over training configurations. Ray and torch are imported when a sweep starts."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mergenet.commands import Failure
from mergenet.errors import UserError
from sweeps.errors import SweepStopped

if TYPE_CHECKING:
    from rich.console import Console

    from sweeps.config import SweepConfig

PIPED_WIDTH = 160  # columns of the table at the end when the output is no terminal


@click.group(short_help="Search for the best settings in parallel trials.")
def sweep() -> None:
    """Search over MergeNet's settings: trials in parallel, early stopping, a confirmed best."""


@sweep.command("run")
@click.argument("sweep_file", metavar="SWEEP")
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Sweep folder [default: sweep-results/NAME].")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the sweep: num_trials=4, set.epochs=3."
)
@click.option("--overwrite", is_flag=True, help="Delete the sweep that the sweep folder holds, then run.")
def run_command(sweep_file: str, folder: Path | None, overrides: tuple[str, ...], overwrite: bool) -> None:
    """Run SWEEP: the name of a shipped sweep, such as quickstart, or a YAML file.

    Trains trials on this machine, confirms the best with fresh seeds, and writes best.yaml for `mergenet train`.
    A sweep that is finished already only shows its summary again.

    Ctrl-C once lets the running epochs end, twice stops at once; `mergenet sweep resume` goes on from there.

    Exit codes: 0 done; 1 the sweep failed; 2 a bad value, and nothing was created; 130 interrupted.
    """
    from sweeps.config import load_sweep

    console = console_of()
    with failures(lambda: folder):
        config = load_sweep(sweep_file, overrides)
        folder = folder or Path("sweep-results") / config.name
        if overwrite or not show_finished(config, folder, console):
            _run(config, folder, overwrite, console)


@sweep.command("resume")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def resume_command(folder: Path) -> None:
    """Go on with the sweep in DIR that was stopped, failed or killed, and end as if nothing had happened.

    What has ended is read from its records, what was training goes on from its last checkpoint.
    """
    console = console_of()
    with failures(lambda: folder):
        from sweeps.folder import load_resumable

        config = load_resumable(folder)
        from sweeps.plan import plan_sweep
        from sweeps.run import resume_sweep

        resume_sweep(plan_sweep(config), folder, console)


@sweep.command("sync")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--project", help="Project on W&B [default: that of the sweep].")
@click.option(
    "--mode",
    type=click.Choice(["online", "offline"]),
    default="online",
    show_default=True,
    help="offline: into files for `wandb sync`.",
)
def sync_command(folder: Path, project: str | None, mode: str) -> None:
    """Add to Weights & Biases what it lacks of the sweep in DIR, from the sweep's own records.

    For sweeps that ran offline, while W&B was down, or without it. The key comes from WANDB_API_KEY or ~/.netrc.
    """
    console = console_of()
    try:
        from sweeps.sync import sync_sweep

        sync_sweep(folder, mode, project, lambda text: console.print(text, markup=False, soft_wrap=True))
    except UserError as error:
        raise Failure(str(error), 2) from error
    except KeyboardInterrupt:
        raise Failure("interrupted; the same command goes on from there", 130) from None
    except RuntimeError as error:
        raise Failure(str(error), 1) from error


def console_of() -> "Console":
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)


@contextmanager
def failures(folder: Callable[[], Path | None]) -> Iterator[None]:
    """What goes wrong in a sweep as one line and an exit code. folder: asked when it is needed."""
    try:
        yield
    except UserError as error:
        raise Failure(str(error), 2) from error
    except KeyboardInterrupt:
        way_out = f"; `mergenet sweep resume {folder()}` goes on from there" if holds(folder()) else ""
        raise Failure(f"interrupted, what has trained is kept{way_out}", 130) from None
    except SweepStopped as stopped:
        raise Failure(f"stopped, nothing is lost; {stopped}", 130) from None
    except RuntimeError as error:
        raise Failure(f"the sweep failed: {error}", 1) from error


def holds(folder: Path | None) -> bool:
    from sweeps.folder import holds_sweep

    return folder is not None and holds_sweep(folder)


def _run(config: "SweepConfig", folder: Path, overwrite: bool, console: "Console") -> None:
    from sweeps.folder import check_deletable, check_folder
    from sweeps.plan import plan_sweep
    from sweeps.run import run_sweep

    (check_deletable if overwrite else check_folder)(folder)  # before the networks are built for the other checks
    run_sweep(plan_sweep(config), folder, console, overwrite)


def show_finished(config: "SweepConfig", folder: Path, console: "Console") -> bool:
    """If the folder holds this very sweep, finished: print its summary again."""
    from mergenet.provenance import config_hash
    from sweeps.base import load_base
    from sweeps.folder import finished_summary, holds_sweep, shown_path

    summary = finished_summary(folder, config, config_hash(load_base(config))) if holds_sweep(folder) else None
    if summary is None:
        return False
    from sweeps.report import print_summary

    console.print(
        f"sweep {config.name} is finished in {shown_path(folder)}; this is its summary",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    print_summary(folder, summary, console)
    return True
