"""How much of a value each searched parameter explains: PED-ANOVA and fANOVA, each beside a permuted objective.

    PED-ANOVA   how differently the best trials are distributed over a parameter than all are: the Pearson divergence of
                both densities [arXiv 2304.10255, for conditional parameters 2601.20800; Optuna's evaluator]
    fANOVA      the share of the variance of a random forest's prediction, over the whole space, that a parameter
                explains by itself, without interactions [Hutter et al. 2014; Optuna's evaluator], times the share of
                the values' variance that a forest explains in trials that it did not see (R2 out of bag, at least 0)
                [ours]: a forest's variance is somebody's even if it has learned nothing, and a lone parameter's always

Both may be positive for a parameter that does nothing, the more so with few trials. So each is computed again with
the values of the trials permuted: `chance` is what it is worth then on average, `chance_high` what it stays below in
95 % of the permutations. The p value is corrected for the number of parameters: it compares with the permutation's
largest importance over all of them, each in standard deviations (max-T, Westfall and Young 1993). [ours]

In a forest parameters share what is explained, and one that does nothing gets some of what another one explains. So
fANOVA goes step by step: the parameter that is told from chance best keeps its place beside the values, the others are
permuted against both, until none of these is told from chance. [ours]

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
TREES, DEPTH = 8, 5  # of fANOVA: whole trees take minutes for 1,000 trials, and a main effect shows in few splits
SEEING_TREES = 16  # of the forest whose R2 is measured


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


def ped_anova(study: "optuna.Study") -> dict[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator

    count = len(study.get_trials(deepcopy=False))
    return PedAnovaImportanceEvaluator(target_quantile=target_quantile(count)).evaluate(study)


def fanova(study: "optuna.Study") -> dict[str, float]:
    from optuna.importance import FanovaImportanceEvaluator

    explained = explained_variance(study)
    if explained == 0:
        return {}
    found = FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=RNG_SEED).evaluate(study)
    return {path: float(share) * explained for path, share in found.items()}


def explained_variance(study: "optuna.Study") -> float:
    """R2 of a forest's predictions of trials that the trees did not see, at least 0."""
    from sklearn.ensemble import RandomForestRegressor

    trials = study.get_trials(deepcopy=False)
    points = np.array([list(trial.params.values()) for trial in trials])
    values = np.array([trial.value for trial in trials])
    forest = RandomForestRegressor(SEEING_TREES, max_depth=DEPTH, oob_score=True, random_state=RNG_SEED)
    forest.fit(points, values - values.mean())  # a trial that all trees saw is predicted as 0
    return max(float(forest.oob_score_), 0.0)


def target_quantile(count: int) -> float:
    """The share of trials that are the best ones to PED-ANOVA."""
    return min(max(TARGET, TARGET_TRIALS / count), 0.5)


class Evaluator(NamedTuple):
    """permutations, resamples: how often it is computed with permuted values (in each step), and with resampled trials.

    by_steps: parameters share what is explained, see above.
    """

    points: Callable[[Search, Sequence[str]], list[Point]]
    compute: Callable[["optuna.Study"], dict[str, float]]
    permutations: int
    resamples: int
    by_steps: bool


# as many as 1,000 trials allow in some seconds (benchmarks.importance): fANOVA takes ten times as long as PED-ANOVA
EVALUATORS = {
    PED_ANOVA: Evaluator(ped_anova_points, ped_anova, permutations=199, resamples=100, by_steps=False),
    FANOVA: Evaluator(fanova_points, fanova, permutations=49, resamples=30, by_steps=True),
}


def importances(
    search: Search,
    permutations: int | None = None,
    resamples: int | None = None,
    confidence: float = 0.95,
    evaluators: Sequence[str] = tuple(EVALUATORS),
) -> pd.DataFrame:
    """A row for each evaluator and searched parameter, the most important first.

    permutations, resamples: instead of each evaluator's own number. evaluators: names of EVALUATORS.
    Columns: evaluator, parameter, n (trials with a value that drew it), importance, share (of the evaluator's sum,
    which is what Optuna prints), low and high (interval at `confidence`), chance, chance_high, p_value. NaN where an
    evaluator leaves a parameter out: both one that never varied, fANOVA also one that some of the trials did not draw.
    Raises UserError if there are fewer than MIN_TRIALS trials with a value, or all are equal.
    """
    search.check()
    search = search.sampled
    tables = [
        _evaluated(
            search,
            name,
            permutations or EVALUATORS[name].permutations,
            resamples or EVALUATORS[name].resamples,
            confidence,
        )
        for name in evaluators
    ]
    return pd.concat(tables, ignore_index=True)


def _evaluated(search: Search, name: str, permutations: int, resamples: int, confidence: float) -> pd.DataFrame:
    evaluator, rng = EVALUATORS[name], np.random.default_rng(RNG_SEED)
    paths = assessed(search, name)
    points, values = evaluator.points(search, paths), -search.standard_goal  # Optuna minimizes
    own = _importance(evaluator, points, values, paths)
    table = pd.DataFrame({"importance": own}, index=pd.Index(paths, name="parameter"))
    drawn = rng.integers(len(points), size=(resamples, len(points)))
    again = [_importance(evaluator, [points[i] for i in rows], values[rows], paths) for rows in drawn]
    most = 1.0 if name == FANOVA else np.inf
    table["low"], table["high"] = _interval(own, np.array(again), confidence, most)
    columns = ["chance", "chance_high", "p_value"]
    table[columns] = _against_chance(evaluator, points, values, table["importance"], permutations, rng)[columns]
    table["share"] = own / own.sum() if own.sum() > 0 else 0.0
    return _completed(search, name, table)


def _against_chance(
    evaluator: Evaluator,
    points: Sequence[Point],
    values: np.ndarray,
    own: pd.Series,
    permutations: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """own: importance by parameter. Columns: chance, chance_high, p_value."""
    found = pd.DataFrame(index=own.index, columns=["chance", "chance_high", "p_value"], dtype=float)
    left, least = list(own.index), 0.0  # a later step's p is at least that of the one before
    while left:
        shuffled = [_permuted(points, left, rng.permutation(len(points))) for _ in range(permutations)]
        null = np.array([_importance(evaluator, one, values, left) for one in shuffled])
        p_values = np.maximum(max_t(own[left].to_numpy(), null), least)
        found.loc[left, "chance"], found.loc[left, "chance_high"] = null.mean(axis=0), np.quantile(null, 0.95, axis=0)
        found.loc[left, "p_value"] = p_values
        if not evaluator.by_steps or p_values.min() > LEVEL:
            break
        first = left[int(np.lexsort([-own[left].to_numpy(), p_values])[0])]
        least = float(found.loc[first, "p_value"])
        left.remove(first)
    return found


def _permuted(points: Sequence[Point], left: Sequence[str], order: np.ndarray) -> list[Point]:
    """The points, each with the values that another one drew of the parameters that are left."""
    shuffled = []
    for point, other in zip(points, (points[i] for i in order), strict=True):
        kept = [{path: one for path, one in part.items() if path not in left} for part in point]
        taken = [{path: one for path, one in part.items() if path in left} for part in other]
        shuffled.append((kept[0] | taken[0], kept[1] | taken[1]))
    return shuffled


def assessed(search: Search, evaluator: str) -> list[str]:
    """The parameters that an evaluator takes: those that vary; fANOVA needs a value of each in every trial."""
    return [path for path in search.varied if evaluator == PED_ANOVA or search.used[path].notna().all()]


def _completed(search: Search, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Sorted, with the columns in order and a row for the parameters that were left out."""
    table = table.sort_values("importance", ascending=False, kind="stable")
    table = table.reindex([*table.index, *(path for path in search.parameters if path not in table.index)])
    table = table.rename_axis("parameter").reset_index()
    table.insert(0, "evaluator", name)
    table.insert(2, "n", [int(search.used[path].notna().sum()) for path in table["parameter"]])
    table.insert(4, "share", table.pop("share"))
    return table


def max_t(own: np.ndarray, null: np.ndarray) -> np.ndarray:
    """p values corrected for the number of parameters. own: (parameters,); null: (permutations, parameters).

    Mean and spread are of all rows, the observed one too: without it, it would not be one of equals by chance.
    """
    rows = np.vstack([own, null])
    reached = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0, ddof=1), 1e-12)
    return np.asarray((reached.max(axis=1)[:, None] >= reached[0] - 1e-9).mean(axis=0))


def _interval(own: np.ndarray, again: np.ndarray, confidence: float, most: float) -> tuple[np.ndarray, np.ndarray]:
    """most: the largest importance that there can be."""
    tail = (1 - confidence) / 2
    bias = again.mean(axis=0) - own
    low, high = np.clip(np.quantile(again, [tail, 1 - tail], axis=0) - bias, 0.0, most)
    return low, high


def _importance(evaluator: Evaluator, points: Sequence[Point], values: np.ndarray, paths: Sequence[str]) -> np.ndarray:
    """By parameter; 0 for all where the values are equal, as in a resample they may be."""
    found: dict[str, float] = {}
    if np.ptp(values) > 0:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of small samples, which the permutations answer
            found = evaluator.compute(study_of(points, values))
    return np.array([found.get(path, 0.0) for path in paths])


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
