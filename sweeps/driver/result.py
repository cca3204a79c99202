"""The result of a finished sweep, read from its folder, for scripts and notebooks."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from analysis.names import TRIAL, portable_config
from mergenet.config import Config
from mergenet.config.loading import parse_config
from mergenet.errors import ConfigError
from mergenet.records.run_record import FINISHED
from sweeps.config import SweepConfig
from sweeps.trials.files import read_summary
from sweeps.trials.sweep_dir import holds_sweep, load_resumable, resume_command, shown_path, status_of

if TYPE_CHECKING:
    import optuna
    import pandas as pd


@dataclass(frozen=True)
class BestTrial:
    """The best trial by validation that trained to its end and breaks no constraint.

    value: of the sweep's metric; the best of many trials was selected for its luck as well, see the confirmation.
    params: what was drawn, by dotted path. test: the test metrics. config: trains the same again, its source live.
    """

    trial_id: str
    number: int
    params: dict[str, Any]
    metric: str
    value: float
    test: dict[str, float]
    config: Config


@dataclass(frozen=True, repr=False)
class SweepResult:
    """What the folder of a finished sweep holds. summary: summary.json, all numbers that are printed at the end."""

    folder: Path
    summary: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The result in the folder of a finished sweep; nothing trains. Raises ConfigError if there is none."""
        folder = Path(folder).absolute()
        if not holds_sweep(folder):
            raise ConfigError(
                f"folder must be that of a sweep, got {str(folder)!r}; Sweep.load(NAME).run(FOLDER) makes one"
            )
        summary = read_summary(folder)
        if status_of(folder) != FINISHED or not summary:
            raise ConfigError(
                f"folder must be that of a finished sweep, got {str(folder)!r} (status: {status_of(folder)}); "
                f"go on with it by the run(FOLDER) that began it or by `{resume_command(folder)}`"
            )
        return cls(folder, summary)

    @cached_property
    def config(self) -> SweepConfig:
        """The sweep's settings, with the base that it started with."""
        return load_resumable(self.folder)

    @cached_property
    def best(self) -> BestTrial:
        from sweeps.trials.results import best_record  # torch

        found = self.summary["best"]
        assert found is not None, "a sweep without a best trial does not finish"
        values = portable_config(best_record(self.folder, found).config)
        name = {"name": f"{self.summary['name']}-best"[:100]}
        config = parse_config(values | name, str(self.folder))
        drawn = {key: found[key] for key in ("trial_id", "number", "params", "value", "test")}
        return BestTrial(**drawn, metric=self.summary["metric"], config=config)

    @cached_property
    def runs(self) -> "pd.DataFrame":
        """All runs, one a row: trials, no transfer, confirmations; the columns are those of `analysis.load_trials`."""
        from analysis.tables.load import load_trials

        return load_trials(self.folder)

    @property
    def trials(self) -> "pd.DataFrame":
        """The trials of the search, one row each, in the order in which they were drawn."""
        trials = self.runs[self.runs["role"] == TRIAL]
        return trials.sort_values("number", kind="stable", ignore_index=True)

    @property
    def confirmation(self) -> dict[str, Any] | None:
        """The best beside no transfer on fresh seeds: values, gain with its interval. None without such runs."""
        found: dict[str, Any] | None = self.summary["confirmation"]
        return found

    @cached_property
    def study(self) -> "optuna.Study":
        """The Optuna study, from the sweep's storage."""
        from sweeps.study.storage import load_study

        return load_study(self.config.storage, self.config.name, self.folder)

    def __repr__(self) -> str:
        best = self.best
        return f"SweepResult({str(shown_path(self.folder))!r}, best={best.trial_id}, {best.metric}={best.value:.4f})"

    def __str__(self) -> str:
        """What is printed at the end of the sweep."""
        from sweeps.report.console import lasting_console
        from sweeps.report.summary import print_summary

        console = lasting_console(live=False)
        with console.capture() as captured:
            print_summary(self.folder, self.summary, console)
        return captured.get().strip()
