"""The Python API of sweeps, for scripts and notebooks.

from sweeps import Sweep
result = Sweep.load("quickstart", num_trials=4).run("results/quick")
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sweeps.config import SweepConfig
from sweeps.config.loading import load_sweep, parse_sweep
from sweeps.driver.result import SweepResult
from sweeps.driver.signals import handlers, restore
from sweeps.driver.start import begin, finished, go_on, unfinished
from sweeps.execution.local_ray import settle
from sweeps.trials.errors import SlotDied, SweepPaused, SweepStopped
from sweeps.trials.sweep_dir import holds_ablation, holds_sweep, is_rest, resume_command, shown_path

if TYPE_CHECKING:
    from rich.console import Console


class Sweep:
    """A search over training configurations. config: all its settings, checked."""

    def __init__(self, config: SweepConfig | Mapping[str, Any]) -> None:
        """From the keys of a sweep file, such as name, base and search. Raises ConfigError, one line a problem."""
        self.config = config if isinstance(config, SweepConfig) else parse_sweep(dict(config), "Sweep(...)")

    @classmethod
    def load(cls, name_or_file: str | Path, **overrides: Any) -> Self:
        """A shipped sweep, such as "quickstart", or a YAML file.

        overrides: keys of the sweep file, as `num_trials=4`. A mapping changes only the keys that it has:
        `set={"epochs": 3}`, `search={"transfer.t_cycle": {"choice": [4, 8]}}`, `wandb={"mode": "offline"}`.
        Raises ConfigError, one line a problem.
        """
        return cls(load_sweep(str(name_or_file), changes=overrides))

    def plan(self, folder: str | Path | None = None, pair_sd: float | None = None) -> dict[str, Any]:
        """What the sweep will cost and can show: the facts of `mergenet sweep plan --json`. Creates nothing.

        folder: the planned sweep folder, for its free disk space. pair_sd: standard deviation of a paired gain, in
        points.
        """
        from sweeps.planning.cost import facts

        return facts(self.config, self._folder(folder), pair_sd)

    def run(
        self,
        folder: str | Path | None = None,
        *,
        overwrite: bool = False,
        retry_failed: bool = False,
        address: str | None = None,
        copy_to: str | None = None,
        progress: bool = True,
        quiet: bool = False,
    ) -> SweepResult:
        """Begin the sweep in a folder, resume it if it was stopped or killed, or only read it if it is finished.

        folder: of the sweep; sweep-results/NAME if not given. overwrite: first deletes the sweep that it holds.
        retry_failed: failed runs train again. address: of a running Ray to join, "auto" or
        "HOST:PORT"; its nodes must all see the folder. copy_to: s3://BUCKET/FOLDER that the folder is copied to.
        progress: in a terminal, a live status below the lines. quiet: prints nothing.

        Ctrl-C, or interrupting the kernel, once lets the running epochs finish and raises SweepStopped; twice raises
        KeyboardInterrupt. The same call resumes the sweep.
        Raises UserError for wrong arguments; SweepFailed, SlotDied or SweepPaused (a full disk) if the sweep cannot go
        on.
        """
        place = self._folder(folder)
        from sweeps.report.console import lasting_console

        console = lasting_console(progress, quiet)
        with told(place), left_as_found():
            summary = self._run(place, console, overwrite, retry_failed, address, copy_to)
        return SweepResult(place.absolute(), summary)

    def _run(
        self,
        folder: Path,
        console: "Console",
        overwrite: bool,
        retry: bool,
        address: str | None,
        copy_to: str | None,
    ) -> dict[str, Any]:
        if overwrite and (holds_sweep(folder) or is_rest(folder)):
            return begin(self.config, folder, console, True, address, copy_to)
        summary = None if retry else finished(self.config, folder)
        if summary is not None:
            from sweeps.report.live import say

            say(console, f"sweep {self.config.name} is finished in {shown_path(folder)}")
            return summary
        if unfinished(self.config, folder):
            return go_on(folder, console, address, retry)
        return begin(self.config, folder, console, False, address, copy_to)

    def _folder(self, folder: str | Path | None) -> Path:
        return Path("sweep-results") / self.config.name if folder is None else Path(folder)

    def __repr__(self) -> str:
        return f"Sweep({self.config.name!r}, base={self.config.base!r}, num_trials={self.config.num_trials})"


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Adds to the message how to resume a sweep that did not finish."""
    again = f"the same run({str(folder)!r}) goes on from there, and so does `{resume_command(shown_path(folder))}`"
    try:
        yield
    except KeyboardInterrupt:
        kept = f", what has trained is kept; {again}" if holds_sweep(folder) or holds_ablation(folder) else ""
        raise KeyboardInterrupt(f"interrupted{kept}") from None
    except SweepStopped:
        raise SweepStopped(f"stopped, nothing is lost; {again}") from None
    except SweepPaused as paused:
        raise SweepPaused(f"the sweep paused: {paused}, and {again}") from paused
    except SlotDied as died:
        raise SlotDied(f"the sweep failed: {died}; what has trained is kept, {again}") from died


@contextmanager
def left_as_found() -> Iterator[None]:
    """Ray and Optuna set handlers and log levels of their own; afterwards they are as they were before."""
    import optuna

    level = optuna.logging.get_verbosity()
    before = handlers()
    try:
        yield
    finally:
        settle()
        optuna.logging.set_verbosity(level)
        restore(before)
