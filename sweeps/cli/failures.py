"""How a command of `mergenet sweep` speaks: its console, and its errors as one line and an exit code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mergenet.cli.group import Failure
from mergenet.errors import UserError
from sweeps.trials.errors import SlotDied, SweepPaused, SweepStopped

if TYPE_CHECKING:
    from rich.console import Console


def console_of() -> "Console":
    from sweeps.report.console import lasting_console

    return lasting_console()


@contextmanager
def failures(folder: Callable[[], Path | None]) -> Iterator[None]:
    """Turns the errors of a sweep into one line and an exit code. folder: called when it is needed."""
    from sweeps.trials.sweep_dir import resume_command, shown_path

    def resume() -> str:
        return resume_command(None if (place := folder()) is None else shown_path(place))

    try:
        yield
    except UserError as error:
        raise Failure(str(error), 2) from error
    except KeyboardInterrupt:
        kept = f", what has trained is kept; `{resume()}` goes on from there" if holds(folder()) else ""
        raise Failure(f"interrupted{kept}", 130) from None
    except SweepStopped as stopped:
        raise Failure(f"stopped, nothing is lost; {stopped}", 130) from None
    except SweepPaused as paused:
        way_out = f"`{resume()}` goes on from there"
        raise Failure(f"the sweep paused: {paused}, and {way_out}", 1) from paused
    except SlotDied as died:
        way_out = f"what has trained is kept, `{resume()}` goes on from there"
        raise Failure(f"the sweep failed: {died}; {way_out}", 1) from died
    except RuntimeError as error:
        raise Failure(f"the sweep failed: {error}", 1) from error


def holds(folder: Path | None) -> bool:
    from sweeps.trials.sweep_dir import holds_ablation, holds_sweep

    return folder is not None and (holds_sweep(folder) or holds_ablation(folder))
