"""The result of an ablation, read from its folder, for scripts, notebooks and the command line."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from analysis.names import COMPLETE, FAILED, mode_of
from mergenet.errors import ConfigError, unknown_name
from mergenet.records.run_record import METRIC, is_metric, test_column
from sweeps.ablation.folder import load_folder, read_variants
from sweeps.ablation.rejects import given_up
from sweeps.ablation.schema import AblationConfig
from sweeps.ablation.variants import LeftOut, Variant
from sweeps.planning.plan import seeds_after
from sweeps.trials.files import read_state
from sweeps.trials.sweep_dir import shown_path, status_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class AblationResult:
    """What the folder of an ablation holds. metric: of the table; on the test split, that by which runs select.

    The table of one that still trains has the runs that have ended.
    """

    folder: Path
    metric: str

    @classmethod
    def load(cls, folder: str | Path, metric: str | None = None) -> Self:
        """Nothing trains. Raises ConfigError if the folder holds no ablation or the runs do not measure the metric."""
        from analysis.tables.load import load_trials, measure_columns

        folder = Path(folder).absolute()
        load_folder(folder)
        runs = load_trials(folder, per_seed=True)
        own = test_column(str(runs[METRIC].dropna().iloc[0])) if runs[METRIC].notna().any() else None
        known = measure_columns(runs)
        if metric is not None and metric not in known:
            raise ConfigError(unknown_name("metric (--metric)", metric, known))
        if own is None:
            raise ConfigError(f"{shown_path(folder)} must hold a run that has reported, got none yet")
        result = cls(folder, metric or own)
        result.__dict__["runs"] = runs
        return result

    @cached_property
    def config(self) -> AblationConfig:
        return load_folder(self.folder)

    @cached_property
    def runs(self) -> "pd.DataFrame":
        """One run a row, as `analysis.load_trials(folder, per_seed=True)` has them; `trial` is the variant."""
        from analysis.tables.load import load_trials

        return load_trials(self.folder, per_seed=True)

    @cached_property
    def variants(self) -> list[Variant]:
        """The centre first."""
        return read_variants(self.folder)[0]

    @property
    def left_out(self) -> list[LeftOut]:
        """What is no variant, and why."""
        return read_variants(self.folder)[1]

    @cached_property
    def seeds(self) -> list[int]:
        base = self.variants[0].config
        return [int(base["seed"]), *seeds_after(base, self.config.num_seeds - 1)]

    @cached_property
    def dropped(self) -> dict[str, int]:
        """Of a race or of rejects: variant -> number of seeds after which it got no more."""
        selecting = str(self.runs[METRIC].dropna().iloc[0])
        curves = {one.name: self._curve(one.name, selecting) for one in self.variants}
        return given_up(self.config, curves, self.seeds[:-1], mode_of(selecting))

    def _curve(self, name: str, metric: str) -> dict[int, float | None]:
        from sweeps.ablation.results.table import values_of

        ended = self.runs[(self.runs["trial"] == name) & self.runs["state"].isin((COMPLETE, FAILED))]
        values = values_of(self.runs, name, metric)
        return {int(seed): values.get(int(seed)) for seed in ended["seed"]}

    @cached_property
    def table(self) -> "pd.DataFrame":
        """One variant a row: see `sweeps.ablation.results.table.ablation_table`."""
        from sweeps.ablation.results.named import split
        from sweeps.ablation.results.table import ablation_table

        chose, told = split(self.variants, self.seeds) if self.config.top is not None else ((), ())
        telling = None if not chose else {} if self.best is None else {self.best: told}
        return ablation_table(self.runs, self.variants, self.metric, self.dropped, telling)

    @cached_property
    def interactions(self) -> "pd.DataFrame":
        """What two changes together add to the sum of each alone; empty if none were asked for."""
        from sweeps.ablation.results.table import interaction_table

        return interaction_table(self.runs, self.variants, self.config.interactions, self.metric)

    @property
    def facts(self) -> dict[str, Any]:
        """For ablation.json."""
        reused = sum("reused" in (trial or {}) for trial in map(_trial, self.runs["folder"]))
        return {
            "name": self.config.name,
            "status": status_of(self.folder),
            "seeds": self.seeds,
            "reused": reused,
            "dropped": self.dropped,
            "best": self.best,
            **self.told,
            "left_out": [vars(one) for one in self.left_out],
            "seconds": read_state(self.folder).get("seconds", {}),
        }

    def markdown(self) -> str:
        from analysis.tables.formats import to_markdown
        from sweeps.ablation.results.table import EXTRA
        from sweeps.ablation.results.text import shown_columns

        return to_markdown(shown_columns(self.table), self.metric, EXTRA)

    def latex(self) -> str:
        r"""For a paper; needs \usepackage{booktabs}."""
        from analysis.tables.formats import to_latex
        from sweeps.ablation.results.table import EXTRA
        from sweeps.ablation.results.text import shown_columns

        return to_latex(shown_columns(self.table), self.metric, EXTRA)

    def write(self) -> None:
        """The table as files in the folder; best.yaml, if one of the best trials of a sweep is named."""
        from sweeps.ablation.results.text import write_facts

        self.write_tables(self.folder)
        write_facts(self.folder, self.metric, self.table, self.interactions, self.facts)
        self.write_best(self.folder)

    def write_tables(self, folder: Path) -> list[Path]:
        """As CSV, markdown and LaTeX, in any folder."""
        from sweeps.ablation.results.text import write_tables

        return write_tables(folder, self.metric, self.table, self.interactions)

    def write_best(self, folder: Path) -> Path | None:
        """best.yaml in any folder; None if no trial is named."""
        from sweeps.ablation.results.named import write_named

        return None if self.config.top is None else write_named(folder, self.variants, self.dropped, self.seeds[-1])

    @property
    def best(self) -> str | None:
        """Of the best trials of a sweep the one that is best on fresh seeds; None while that is open."""
        from sweeps.ablation.results.named import named

        return None if self.config.top is None else named(self.variants, self.dropped)

    @property
    def told(self) -> dict[str, Any]:
        """Of the best trials of a sweep: the seeds that chose, those that told the gain of the one that is named, and
        that gain with its interval, as far as it is told; empty for other ablations.
        """
        from analysis.tables.load import is_missing
        from sweeps.ablation.results.named import split

        if self.config.top is None:
            return {}
        chose, told = split(self.variants, self.seeds)
        rows = self.table[self.table["name"] == self.best][["gain", "gain_low", "gain_high", "p", "num_pairs"]]
        gain = {} if rows.empty else rows.to_dict("records")[0]
        known = {str(name): value for name, value in gain.items() if not is_missing(value)}
        return {"seeds_chose": list(chose), "seeds_told": list(told), **known}

    def show(self, rich: bool) -> None:
        """Print the table and what it shows. rich: with lines and colours."""
        from sweeps.ablation.results.named import lines
        from sweeps.ablation.results.text import print_result

        left_out = [vars(one) for one in self.left_out]
        more = lines(self.runs, self.variants, self.seeds, self.dropped) if self.config.top is not None else ()
        print_result(shown_path(self.folder), self.metric, self.table, self.interactions, left_out, rich, more)

    def __repr__(self) -> str:
        what = f"{len(self.variants) - 1} variants, {self.config.seeds} seeds"
        unit = " (fractions)" if is_metric(self.metric) else ""
        return f"AblationResult({str(shown_path(self.folder))!r}, {what}, {self.metric}{unit})"


def _trial(run: str) -> dict[str, Any] | None:
    from analysis.trial_file import trial_of

    return trial_of(Path(run))
