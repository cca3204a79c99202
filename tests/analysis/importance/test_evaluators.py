import dataclasses
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest

from analysis.importance.evaluators import (
    EVALUATORS,
    FANOVA,
    LEVEL,
    PED_ANOVA,
    importances,
    max_t,
    ped_anova_points,
    study_of,
    target_quantile,
)
from analysis.importance.search import Search, load_search
from benchmarks.importance import GATE as SIMULATED_GATE
from benchmarks.importance import simulated
from tests.analysis.importance.sweeps import GATE, METHOD, RANK, WEIGHT, by_gate, drawn, write_sweep


@pytest.fixture(scope="module")
def table(search: Search) -> pd.DataFrame:
    return importances(search, permutations=39, resamples=20).set_index(["evaluator", "parameter"])


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_what_decides_everything_is_told_from_what_does_nothing(table: pd.DataFrame, evaluator: str) -> None:
    gate, rank = table.loc[evaluator, GATE], table.loc[evaluator, RANK]
    assert gate["p_value"] <= LEVEL < rank["p_value"]
    assert gate["importance"] > gate["chance_high"] and gate["share"] > 0.8
    assert rank["low"] <= rank["chance_high"], "its interval reaches what permuted values give"
    assert gate["n"] == rank["n"] == 24


def test_shares_are_what_optuna_prints(search: Search) -> None:
    """The study in memory, made from the records, is as one that was searched with Optuna."""
    known = {path: one.distribution() for path, one in search.parameters.items()}
    study = optuna.create_study(direction="maximize")
    for _, row in search.used.iterrows():
        params = {path: row[path] for path in known}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=known, value=row["value"]))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=target_quantile(24))
    theirs = optuna.importance.get_param_importances(study, evaluator=evaluator)
    mine = importances(search, permutations=2, resamples=2).set_index(["evaluator", "parameter"])
    assert mine.loc[PED_ANOVA]["share"].to_dict() == pytest.approx(theirs)


def test_fanova_measures_a_range_as_it_is_drawn(search: Search) -> None:
    """Of a value that is linear in the logarithm of one parameter the main effect is nearly all."""
    table = importances(search, permutations=2, resamples=2).set_index(["evaluator", "parameter"])
    assert table.loc[(FANOVA, GATE), "importance"] > 0.9


def test_the_best_five_at_least_are_compared() -> None:
    assert [target_quantile(n) for n in (8, 10, 20, 50, 1000)] == [0.5, 0.5, 0.25, 0.1, 0.1]


def test_a_loss_is_better_when_low(search: Search) -> None:
    """The same trials with the sign of the values changed have the same importances."""
    trials = search.trials.assign(value=-search.trials["value"])
    loss = dataclasses.replace(search, metric="target_val_loss", trials=trials)
    one, other = (importances(s, permutations=2, resamples=2)["importance"] for s in (search, loss))
    assert one.to_list() == other.to_list()


@pytest.mark.parametrize("unit", [2.0**-30, 1e-9, 2.0**40, 1e12])
def test_the_unit_of_a_loss_does_not_matter(search: Search, unit: float) -> None:
    loss = dataclasses.replace(search, metric="target_val_loss")
    other = dataclasses.replace(loss, trials=search.trials.assign(value=unit * search.trials["value"]))
    names = ["importance", "low", "high", "chance", "chance_high", "p_value"]
    one, two = (importances(s, permutations=5, resamples=3)[names].to_numpy() for s in (loss, other))
    assert two == pytest.approx(one, rel=1e-6, abs=1e-9)


def test_conditional_parameters(tmp_path: Path) -> None:
    """PED-ANOVA compares the trials that drew one, fANOVA leaves it out."""
    search = {METHOD: {"choice": ["mergenet", "kd"]}, WEIGHT: {"float": [0.1, 2.0], "when": {METHOD: ["kd"]}}}
    rng = np.random.default_rng(0)
    points = [{METHOD: "mergenet"}] * 12 + [{METHOD: "kd", WEIGHT: float(w)} for w in rng.uniform(0.1, 2.0, 12)]
    noise = iter(0.001 * rng.random(24))
    folder = write_sweep(tmp_path / "s", points, lambda p: 0.4 + 0.2 * p.get(WEIGHT, 0.0) + next(noise), search=search)
    found = importances(load_search(folder), permutations=39, resamples=5).set_index(["evaluator", "parameter"])
    assert found.loc[(PED_ANOVA, WEIGHT), "n"] == 12
    assert found.loc[(PED_ANOVA, WEIGHT), "importance"] > 0
    assert np.isnan(found.loc[(FANOVA, WEIGHT), "importance"]) and found.loc[(FANOVA, METHOD), "p_value"] <= LEVEL


def test_a_parameter_that_does_not_vary_has_no_number(tmp_path: Path) -> None:
    points = [{**one, RANK: 8} for one in drawn(12)]
    found = importances(load_search(write_sweep(tmp_path / "s", points, by_gate)), permutations=9, resamples=2)
    assert found.set_index("parameter").loc[RANK, "importance"].isna().all()


def test_p_values_are_corrected_for_the_number_of_parameters() -> None:
    null = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    assert max_t(np.array([9.0, 0.5]), null).tolist() == [0.2, 0.6], "1 of 5, and 1 + 2 (of the largest) of 5"


def test_where_nothing_matters_no_more_than_5_percent_have_a_p_of_5_percent() -> None:
    """400 draws of 20 alike, as few permutations as a report takes: 20 are expected, 33 are three deviations more."""
    draws = np.random.default_rng(0).exponential(size=(400, 20, 4))
    assert sum(max_t(rows[0], rows[1:]).min() <= LEVEL for rows in draws) <= 33


def test_resampled_trials_count_as_often_as_they_are_drawn(search: Search) -> None:
    """PED-ANOVA tells trials apart by their ids."""
    points = ped_anova_points(search, [GATE])
    study = study_of([points[0], points[0], points[1]], np.array([1.0, 1.0, 2.0]))
    assert len({trial._trial_id for trial in study.get_trials()}) == 3


@pytest.mark.slow
def test_nothing_is_found_where_nothing_is() -> None:
    """In 10 sweeps without any effect, each evaluator finds one in a few at most; its intervals reach chance."""
    rng = np.random.default_rng(5)
    tables = pd.concat(importances(simulated(rng, 20, 0.0), permutations=19, resamples=8) for _ in range(10))
    false = (tables["p_value"] <= LEVEL).groupby(tables["evaluator"]).sum()
    assert false.max() <= 3, "0.5 is expected of 10 sweeps"
    reached = (tables["low"] <= tables["chance_high"]).groupby(tables["evaluator"]).mean()
    assert (reached >= 0.9).all()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("effect", [0.0, 3.0])
def test_false_positives_and_power_in_many_sweeps(effect: float) -> None:
    rng = np.random.default_rng(6)
    tables = [importances(simulated(rng, 40, effect), permutations=39, resamples=20) for _ in range(30)]
    for name in EVALUATORS:
        rows = [table[table["evaluator"] == name].set_index("parameter") for table in tables]
        wrong = [(table.drop(index=SIMULATED_GATE)["p_value"] <= LEVEL).any() for table in rows]
        assert np.mean(wrong) <= 0.2, "at most 5 % expected: more than 6 of 30 in 0.06 % of such tests"
        others = pd.concat(table.drop(index=SIMULATED_GATE) for table in rows)
        assert (others["low"] <= others["chance_high"]).mean() >= 0.9
        if effect:
            assert np.mean([table.loc[SIMULATED_GATE, "p_value"] <= LEVEL for table in rows]) >= 0.9
