"""The search benchmark on a surrogate of four numbers: budgets, stops, regret."""

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import search
from benchmarks.search_problem import LCBENCH
from benchmarks.search_sides import OWN
from benchmarks.surrogate import EPOCHS, SEARCH, Surrogate


def test_a_curve_is_the_models(folder: Path) -> None:
    surrogate = Surrogate(folder, "7")
    curve = surrogate.curve(dict.fromkeys(SEARCH, 0.4))
    assert [curve(epoch) for epoch in (1, 5, 2)] == pytest.approx([12.5, 14.5, 13.0])
    assert len(curve.known) < EPOCHS, "only as far as it trained"
    assert curve(EPOCHS) == curve.best == pytest.approx(38.0)
    assert surrogate.random_accuracies(2000).mean() == pytest.approx(26 + 30 * 0.545, abs=0.5)


# ours fits a model for each of some hundred trials
@pytest.mark.parametrize("side", [pytest.param(s, marks=pytest.mark.slow) if s == "ours" else s for s in OWN])
def test_a_side_spends_its_budget_and_no_more(folder: Path, side: str) -> None:
    found = search.found_by(folder, (side, "7", 0), budgets=(1, 4, 6)).accuracy
    assert math.isnan(found[0]), "four workers have trained 13 epochs each"
    assert 26 < found[1] <= found[2] < 56
    again = search.found_by(folder, (side, "7", 0), budgets=(1, 4, 6)).accuracy
    assert found[1:] == again[1:], "the same seed, the same search"


def test_trials_that_run_when_the_budget_is_spent_may_finish(folder: Path) -> None:
    """At random and to the end: four workers have four trials each time, so 8 of them take 8 trainings."""
    cut = search.found_by(folder, ("random", "7", 0), budgets=(1, 7))
    assert math.isnan(cut.accuracy[0])
    assert cut.trainings == [1.0, 7.0]
    assert cut.trials == [4, 8]
    whole = search.found_by(folder, ("random", "7", 0), budgets=(1, 7), finish=True)
    assert whole.trainings == [4.0, 8.0]
    assert whole.trials == [4, 8]
    first = search.simulated(Surrogate(folder, "7"), OWN["random"](0, LCBENCH), lambda: 0.0, end=1, finish=True)
    assert [trial.epochs for trial in first] == [EPOCHS] * 4
    assert whole.accuracy[0] == max(trial.curve.best for trial in first)


def test_with_noise_the_trial_that_seems_best_is_taken_for_what_it_is(folder: Path) -> None:
    """The same 20 random configurations: what seems best is one of them, and none is better than the best."""
    job = ("random", "7", 0)
    surrogate = Surrogate(folder, "7")
    trials = search.simulated(surrogate, OWN["random"](0, LCBENCH), lambda: 0.0, end=20 * EPOCHS)
    [clean], [noisy] = (search.found_by(folder, job, noise, budgets=(20,)).accuracy for noise in (0.0, 5.0))
    complete = [trial.curve.best for trial in trials if trial.epochs == EPOCHS]
    assert clean == max(complete)
    assert noisy in complete
    assert noisy < clean
    assert [noisy] == search.found_by(folder, job, noise=5.0, budgets=(20,)).accuracy


def test_regret_is_of_the_way_from_the_median_to_the_top(folder: Path) -> None:
    surrogate = Surrogate(folder, "7")
    top, middle = surrogate.top(), float(np.median(surrogate.random_accuracies(20_000)))
    found = {
        ("ours", "7", 0): [math.nan, middle, top],
        ("ours", "7", 1): [middle, top, top],
        ("stock", "7", 0): [0.0, middle, (top + middle) / 2],
    }
    regret = search.regrets(found, folder)
    assert regret["ours", "7", 0] == [1.0, pytest.approx(1.0), 0.0]
    assert regret["stock", "7", 0] == [1.0, pytest.approx(1.0), pytest.approx(0.5)]
    assert top == pytest.approx(26 + 30 * 0.99, abs=0.01), "the best there is, whatever was found"
    figures = search.summarize(regret, ["ours", "stock"])
    assert figures["ratio"]["stock"] == pytest.approx([1.0, 0.5, 0.0])
    assert figures["interval"]["stock"][0] == pytest.approx([1.0, 1.0]), "both seeds have a regret of 1"
    assert figures["interval"]["stock"][1] == pytest.approx([0.0, 1.0]), "of 0 and 1, one seed may be drawn twice"
