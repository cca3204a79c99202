"""`mergenet sweep`: search over training configurations. Ray and torch are imported when a sweep starts."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mergenet.commands import Failure
from mergenet.errors import UserError

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

    Exit codes: 0 done; 1 the sweep failed; 2 a bad value, and nothing was created; 130 interrupted.
    """
    from rich.console import Console

    from sweeps.config import load_sweep

    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    try:
        config = load_sweep(sweep_file, overrides)
        folder = folder or Path("sweep-results") / config.name
        if overwrite or not show_finished(config, folder, console):
            _run(config, folder, overwrite, console)
    except UserError as error:
        raise Failure(str(error), 2) from error
    except KeyboardInterrupt:
        raise Failure(f"interrupted; what has trained is kept in {folder}", 130) from None
    except RuntimeError as error:
        raise Failure(f"the sweep failed: {error}", 1) from error


def _run(config: "SweepConfig", folder: Path, overwrite: bool, console: "Console") -> None:
    from sweeps.folder import check_deletable, check_folder, clear
    from sweeps.plan import plan_sweep
    from sweeps.run import run_sweep

    (check_deletable if overwrite else check_folder)(folder)  # before the networks are built for the other checks
    plan = plan_sweep(config)
    if overwrite:
        clear(folder)
    run_sweep(plan, folder, console)


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
