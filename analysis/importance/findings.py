"""All that there is to know of what mattered in a sweep, each part computed when it is first asked for."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from analysis.importance.ablation_path import ablation_path
from analysis.importance.curves import early_stopping, rank_correlations, stopped_trials
from analysis.importance.evaluators import importances
from analysis.importance.layer_pairs import layer_pairs, pareto
from analysis.importance.search import Search, load_search
from analysis.importance.surrogate import Surrogate, fit_surrogate, marginal_curves
from analysis.tables import formatting


@dataclass(frozen=True)
class Findings:
    """The tables of one search, by the functions of the same names; UserError for one that its trials do not allow."""

    search: Search

    @cached_property
    def importances(self) -> pd.DataFrame:
        return importances(self.search)

    @cached_property
    def surrogate(self) -> Surrogate:
        return fit_surrogate(self.search)

    @cached_property
    def ablation_path(self) -> pd.DataFrame:
        return ablation_path(self.surrogate)

    @cached_property
    def marginal_curves(self) -> pd.DataFrame:
        return marginal_curves(self.surrogate)

    @cached_property
    def layer_pairs(self) -> pd.DataFrame:
        return layer_pairs(self.search)

    @cached_property
    def rank_correlations(self) -> pd.DataFrame:
        return rank_correlations(self.search)

    @cached_property
    def stopped_trials(self) -> pd.DataFrame:
        return stopped_trials(self.search)

    @cached_property
    def early_stopping(self) -> dict[str, float]:
        return early_stopping(self.search, self.stopped_trials)

    def pareto(self, cost: str = "step_seconds") -> pd.DataFrame:
        return pareto(self.search, cost)

    @cached_property
    def names(self) -> dict[str, str]:
        """The searched parameters by the shortest name that tells them apart."""
        paths = list(self.search.parameters)
        return dict(zip(paths, formatting.headers(paths, paths), strict=True))


def what_mattered(folder: str | Path, metric: str | None = None, epoch: int | None = None) -> Findings:
    """What mattered in the sweep of a folder. metric, epoch: as for `load_search`. Raises UserError."""
    return Findings(load_search(folder, metric, epoch))
