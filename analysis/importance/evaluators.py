"""How much of a value each searched parameter explains: PED-ANOVA and fANOVA, each beside a permuted objective.

    PED-ANOVA   how differently the best trials are distributed over a parameter than all are: the Pearson divergence of
                both densities [arXiv 2304.10255, for conditional parameters 2601.20800; Optuna's evaluator]
    fANOVA      the share of the variance of a random forest's prediction, over the whole space, that a parameter
                explains by itself, without interactions [Hutter et al. 2014; Optuna's evaluator]

Both are positive also for a parameter that does nothing, the more so with few trials. So each is computed again with
the values of the trials permuted: `chance` is what it is worth then on average, `chance_high` what it stays below in
95 % of the permutations. The p value is corrected for the number of parameters: it compares with the permutation's
largest importance over all of them, each in standard deviations (max-T, Westfall and Young 1993). [ours]

The intervals resample trials with replacement. Resampling alone raises both measures, as fewer trials are distinct:
what it adds on average is taken off again (percentiles, moved by that bias). [ours]
"""

import datetime
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.importance.search import Search

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

PED_ANOVA, FANOVA = "PED-ANOVA", "fANOVA"
RNG_SEED = 0  # fixed, so that a table is the same each time it is printed
LEVEL = 0.05
TARGET, TARGET_TRIALS = 0.1, 5  # PED-ANOVA: the best tenth, but at least 5 trials, as Optuna advises, at most half
TREES, DEPTH = 10, 5  # of fANOVA: whole trees take minutes for 1,000 trials, and a main effect shows in few splits


Point = tuple[dict[str, Any], dict[str, "BaseDistribution"]]  # what a trial drew, and from what


def ped_anova_points(search: Search, paths: Sequence[str]) -> list[Point]:
    """Values as they were drawn; a trial has only those that it drew."""
    known = {path: search.parameters[path].distribution() for path in paths}
    rows = [{path: row[path] for path in paths if row[path] is not None} for _, row in search.used.iterrows()]
    return [(params, {path: known[path] for path in params}) for params in rows]


def fanova_points(search: Search, paths: Sequence[str]) -> list[Point]:
    """Values as numbers from 0 to 1 by `Parameter.code`.

    Optuna's own code would measure a range that is drawn by its logarithm on its plain scale, and of a choice of k
    values visit 2^k combinations.
    """
    from optuna.distributions import FloatDistribution

    known: dict[str, BaseDistribution] = dict.fromkeys(paths, FloatDistribution(0.0, 1.0))
    return [
        ({path: search.parameters[path].code(row[path]) for path in paths}, known)
        for _, row in search.used[list(paths)].iterrows()
    ]


def ped_anova(study: "optuna.Study", count: int) -> dict[str, float]:
    """count: of the study's trials."""
    from optuna.importance import PedAnovaImportanceEvaluator

    return PedAnovaImportanceEvaluator(target_quantile=target_quantile(count)).evaluate(study)


def fanova(study: "optuna.Study", count: int) -> dict[str, float]:
    from optuna.importance import FanovaImportanceEvaluator

    del count
    return FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=RNG_SEED).evaluate(study)


def target_quantile(count: int) -> float:
    """The share of trials that are the best ones to PED-ANOVA."""
    return min(max(TARGET, TARGET_TRIALS / count), 0.5)


class Evaluator(NamedTuple):
    """permutations, resamples: how often it is computed with permuted values, and with resampled trials."""

    points: Callable[[Search, Sequence[str]], list[Point]]
    compute: Callable[["optuna.Study", int], dict[str, float]]
    permutations: int
    resamples: int


# as many as 1,000 trials allow in some seconds: one PED-ANOVA takes 10 ms then, one fANOVA 50 (benchmarks.importance)
EVALUATORS = {
    PED_ANOVA: Evaluator(ped_anova_points, ped_anova, permutations=199, resamples=100),
    FANOVA: Evaluator(fanova_points, fanova, permutations=99, resamples=40),
}


def importances(
    search: Search, permutations: int | None = None, resamples: int | None = None, confidence: float = 0.95
) -> pd.DataFrame:
    """A row for each evaluator and searched parameter, the most important first.

    permutations, resamples: instead of each evaluator's own number (EVALUATORS).
    Columns: evaluator, parameter, n (trials with a value that drew it), importance, share (of the evaluator's sum,
    which is what Optuna prints), low and high (interval at `confidence`), chance, chance_high, p_value. NaN where an
    evaluator leaves a parameter out: both one that never varied, fANOVA also one that some of the trials did not draw.
    Raises UserError if there are fewer than MIN_TRIALS trials with a value, or all are equal.
    """
    search.check()
    tables = [
        _evaluated(search, name, permutations or one.permutations, resamples or one.resamples, confidence)
        for name, one in EVALUATORS.items()
    ]
    return pd.concat(tables, ignore_index=True)


def _evaluated(search: Search, name: str, permutations: int, resamples: int, confidence: float) -> pd.DataFrame:
    paths, rng = assessed(search, name), np.random.default_rng(RNG_SEED)
    points, values = EVALUATORS[name].points(search, paths), -search.goal  # Optuna minimizes
    every = np.arange(len(points))

    def computed(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
        """rows: the trials taken; order: those whose values they get."""
        found = _importance(EVALUATORS[name], [points[i] for i in rows], values[order])
        return np.array([found.get(path, 0.0) for path in paths])

    own = computed(every, every)
    null = np.array([computed(every, rng.permutation(every)) for _ in range(permutations)])
    again = np.array([computed(rows, rows) for rows in rng.integers(len(every), size=(resamples, len(every)))])
    low, high = _interval(own, again, confidence, most=1.0 if name == FANOVA else np.inf)
    table = pd.DataFrame({"parameter": paths, "importance": own, "low": low, "high": high})
    table["chance"], table["chance_high"] = null.mean(axis=0), np.quantile(null, 0.95, axis=0)
    table["p_value"] = max_t(own, null)
    table["share"] = own / own.sum() if own.sum() > 0 else 0.0
    return _completed(search, name, table)


def assessed(search: Search, evaluator: str) -> list[str]:
    """The parameters that an evaluator takes: those that vary; fANOVA needs a value of each in every trial."""
    return [path for path in search.varied if evaluator == PED_ANOVA or search.used[path].notna().all()]


def _completed(search: Search, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Sorted, with the columns in order and a row for the parameters that were left out."""
    table = table.set_index("parameter").sort_values("importance", ascending=False, kind="stable")
    table = table.reindex([*table.index, *(path for path in search.parameters if path not in table.index)])
    table = table.rename_axis("parameter").reset_index()
    table.insert(0, "evaluator", name)
    table.insert(2, "n", [int(search.used[path].notna().sum()) for path in table["parameter"]])
    table.insert(4, "share", table.pop("share"))
    return table


def max_t(own: np.ndarray, null: np.ndarray) -> np.ndarray:
    """p values corrected for the number of parameters. own: (parameters,); null: (permutations, parameters)."""
    mean, spread = null.mean(axis=0), np.maximum(null.std(axis=0, ddof=1), 1e-12)
    largest = ((null - mean) / spread).max(axis=1)
    reached = (own - mean) / spread
    return (1 + (largest[:, None] >= reached[None, :] - 1e-9).sum(axis=0)) / (1 + len(null))


def _interval(own: np.ndarray, again: np.ndarray, confidence: float, most: float) -> tuple[np.ndarray, np.ndarray]:
    """most: the largest importance that there can be."""
    tail = (1 - confidence) / 2
    bias = again.mean(axis=0) - own
    low, high = np.clip(np.quantile(again, [tail, 1 - tail], axis=0) - bias, 0.0, most)
    return low, high


def _importance(evaluator: Evaluator, points: Sequence[Point], values: np.ndarray) -> dict[str, float]:
    """0 for all where the values are equal, as in a resample they may be."""
    if np.ptp(values) == 0:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of small samples, which the permutations answer
        return evaluator.compute(study_of(points, values), len(points))


def study_of(points: Sequence[Point], values: np.ndarray) -> "optuna.Study":
    """A study in memory that minimizes, of complete trials; adding each to a storage would take most of the time."""
    import optuna
    from optuna.trial import FrozenTrial, TrialState

    complete, now = TrialState.COMPLETE, datetime.datetime.now()
    trials = [
        FrozenTrial(number, complete, float(value), now, now, params, distributions, {}, {}, {}, trial_id=number)
        for number, ((params, distributions), value) in enumerate(zip(points, values, strict=True))
    ]

    class Listed(optuna.Study):
        def get_trials(self, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:  # noqa: ARG002
            return trials

    return Listed("importance", _storage())


@functools.cache
def _storage() -> "optuna.storages.InMemoryStorage":
    """It holds the direction of all our studies, and no trial."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would log that there is a study
    storage = optuna.storages.InMemoryStorage()
    storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "importance")
    optuna.logging.set_verbosity(before)
    return storage
