"""Among how many the best was chosen, in words."""

from analysis.report.chosen import best_of

LUCK = "was selected for its luck as well"


def test_trials_that_were_stopped_early_were_compared_too() -> None:
    assert best_of(["complete"] * 2 + ["pruned"] * 10) == f"the best of 12 trials (2 trained to their end) {LUCK}"
    assert best_of(["complete", "pruned"]) == f"the best of 2 trials (1 trained to its end) {LUCK}"
    assert best_of(["complete"] * 3, "run") == f"the best of 3 runs {LUCK}"


def test_what_failed_was_not_compared_and_of_one_nothing_was_chosen() -> None:
    assert best_of(["complete", "failed", "pruned"]) == f"the best of 2 trials (1 trained to its end) {LUCK}"
    assert best_of(["complete"]) is None
    assert best_of(["complete", "failed", "running"]) is None
