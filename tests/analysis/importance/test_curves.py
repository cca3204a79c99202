import dataclasses

import pandas as pd
import pytest

from analysis.importance.curves import early_stopping, rank_correlations, stopped_trials
from analysis.importance.figures import ranking
from analysis.importance.findings import Findings
from analysis.importance.search import Search
from analysis.importance.text import ranking_lines
from mergenet.errors import UserError
from tests.analysis.importance.sweeps import GATE, RANK

WHOLE = {"a": {1: 0.1, 2: 0.5, 3: 0.6}, "b": {1: 0.3, 2: 0.4, 3: 0.8}, "c": {1: 0.2, 2: 0.3, 3: 0.7}}


def known(search: Search, stopped: dict[str, dict[int, float]], whole: dict[str, dict[int, float]] = WHOLE) -> Search:
    """A search of three epochs with these curves."""
    rows = [
        {"trial": name, "number": i, "state": "complete" if name in whole else "pruned", "epochs_done": len(curve)}
        for i, (name, curve) in enumerate((whole | stopped).items())
    ]
    table = pd.DataFrame(rows).assign(value=[curve.get(3) for curve in (whole | stopped).values()])
    table[[GATE, RANK]] = 0.1, 4
    table["breaks"], table["epochs_trained"] = None, table["epochs_done"]
    return dataclasses.replace(search, trials=table, curves=whole | stopped, base={"epochs": 3})


def test_each_epoch_is_ranked_against_the_last(search: Search) -> None:
    found = rank_correlations(known(search, {}))
    assert found["correlation"].to_list() == pytest.approx([1.0, -0.5, 1.0])
    assert found["n"].to_list() == [3, 3, 3]


@pytest.mark.parametrize("count", [9, 10])
def test_the_ranking_has_an_interval_from_ten_complete_trials_on(search: Search, count: int) -> None:
    whole = {f"t{i}": {1: (i * 7 % count) / 20, 2: i / 20, 3: i / 10} for i in range(count)}
    whole["t0"][2] = 0.11  # all others are ranked as at the end
    found = known(search, {}, whole)
    table = rank_correlations(found)
    line, title = ranking_lines(Findings(found))[0], ranking(Findings(found)).layout.title.text
    if count < 10:
        assert table["correlation"].notna().all() and table[["low", "high"]].isna().all(axis=None)
        assert line.endswith("of 9 complete trials; an interval needs 10)") and title.endswith("; an interval needs 10")
    else:
        assert (table["low"] <= table["correlation"] + 1e-9).all() and table["high"].iloc[2] == pytest.approx(1.0)
        assert (
            "95 % interval [" in line
            and line.endswith("], 10 complete trials)")
            and title.endswith("10 complete trials")
        )


def test_fewer_than_three_complete_trials_have_no_ranking(search: Search) -> None:
    with pytest.raises(UserError, match="must have at least 3 complete trials, got 2"):
        rank_correlations(known(search, {"c": {1: 0.1}}, {name: WHOLE[name] for name in "ab"}))


def test_what_a_stopped_trial_would_have_needed(search: Search) -> None:
    """After epoch 2 the complete trials gained 0.1, 0.4 and 0.4, after epoch 1 at most 0.5; the best reached 0.8."""
    stopped = {"near": {1: 0.1, 2: 0.45}, "far": {1: 0.05}, "unseen": {}}
    found = stopped_trials(known(search, stopped)).set_index("trial")
    assert found.index.to_list() == ["near", "far"], "one without a value is not compared"
    near, far = found.loc["near"], found.loc["far"]
    assert (near["epoch"], far["epoch"]) == (2, 1)
    assert (near["behind"], far["behind"]) == pytest.approx((0.05, 0.25))
    assert (near["needed"], far["needed"]) == pytest.approx((0.35, 0.75))
    assert (near["most_gain"], far["most_gain"]) == pytest.approx((0.4, 0.5))
    assert near["mean_gain"] == pytest.approx(0.3)
    assert near["possible"] and not far["possible"]


def test_the_best_that_a_stopped_trial_is_compared_with_breaks_no_constraint(search: Search) -> None:
    """b, the best, breaks one; far may have broken its loss for want of epochs, near has too large an adapter."""
    found = known(search, {"near": {1: 0.1, 2: 0.45}, "far": {1: 0.05, 2: 0.35}})
    found.trials["breaks"] = [
        None,
        "adapter_parameters <= 10",
        None,
        "adapter_parameters <= 10",
        "target_val_loss <= 1",
    ]
    table = stopped_trials(found).set_index("trial")
    assert table["excluded"].to_list() == [True, False]
    assert pd.isna(table.loc["near", "needed"]) and not table.loc["near", "possible"]
    assert table.loc["far", "needed"] == pytest.approx(0.35), "to c, with 0.7"
    assert table.loc["far", "most_gain"] == pytest.approx(0.4), "of all complete trials"
    facts = early_stopping(found)
    assert (facts["stopped"], facts["excluded"], facts["possible"]) == (2, 1, 1)
    assert facts["risked"] == pytest.approx(0.05)
    found.trials["breaks"] = "adapter_parameters <= 10"
    assert stopped_trials(found)["needed"].isna().all() and early_stopping(found)["risked"] == 0


def test_epochs_saved_and_regret_risked(search: Search) -> None:
    facts = early_stopping(known(search, {"near": {1: 0.1, 2: 0.45}, "far": {1: 0.05}}))
    assert (facts["trained"], facts["whole"]) == (12, 15)
    assert (facts["stopped"], facts["possible"]) == (2, 1)
    assert facts["risked"] == pytest.approx(0.05)


def test_of_a_loss_less_is_better(search: Search) -> None:
    """The same curves upside down."""
    stopped = {"near": {1: 0.1, 2: 0.45}}
    upright = known(search, stopped)
    turned = {name: {epoch: 1 - value for epoch, value in curve.items()} for name, curve in upright.curves.items()}
    loss = dataclasses.replace(upright, metric="target_val_loss", curves=turned)
    for name in ("behind", "needed", "most_gain"):
        assert stopped_trials(loss)[name].to_list() == pytest.approx(stopped_trials(upright)[name].to_list())


def test_without_a_complete_trial_nothing_is_known(search: Search) -> None:
    found = known(search, {"near": {1: 0.1, 2: 0.45}}, {})
    row = stopped_trials(found).iloc[0]
    with pytest.raises(UserError, match="must have at least 3 complete trials, got 0"):
        rank_correlations(found)
    assert row["n"] == 0 and not row["possible"] and pd.isna(row["needed"])
    assert early_stopping(found)["risked"] == 0
