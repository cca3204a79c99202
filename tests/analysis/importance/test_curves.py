import dataclasses
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from analysis.importance.curves import rank_correlations, stopped_trials
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
    facts = Findings(found).early_stopping
    assert (facts["stopped"], facts["excluded"], facts["possible"]) == (2, 1, 1)
    assert facts["risked"] == pytest.approx(0.05)
    found.trials["breaks"] = "adapter_parameters <= 10"
    assert stopped_trials(found)["needed"].isna().all() and Findings(found).early_stopping["risked"] == 0


def drawn_curves(count: int, epochs: int, seed: int) -> tuple[dict[str, dict[int, float]], dict[str, dict[int, float]]]:
    """Those of trials that were stopped early, four of five, some before their first value, and the whole ones."""
    rng = np.random.default_rng(seed)
    lengths = {f"t{i}": int(rng.integers(epochs)) if i % 5 else epochs for i in range(count)}
    curves = {name: {e + 1: float(v) for e, v in enumerate(rng.random(n))} for name, n in lengths.items()}
    return tuple({name: c for name, c in curves.items() if (len(c) == epochs) == whole} for whole in (False, True))


@pytest.mark.parametrize("metric", ["target_val_top1", "target_val_loss"])
def test_every_stopped_trial_is_compared_with_all_others(search: Search, metric: str) -> None:
    """Trial by trial, as the columns are defined."""
    stopped, whole = drawn_curves(40, 3, seed=1)
    found = dataclasses.replace(known(search, stopped, whole), metric=metric)
    rules = [None, "adapter_parameters <= 10", None, "target_val_loss <= 1", "target_val_loss <= 1; step_seconds <= 2"]
    breaks = {name: rules[i % 5] for i, name in enumerate(found.trials["trial"])}
    found.trials["breaks"] = list(breaks.values())
    sign = 1 if metric == "target_val_top1" else -1
    best = max(sign * curve[3] for name, curve in whole.items() if breaks[name] is None)
    table = stopped_trials(found).set_index("trial")
    assert table.index.to_list() == [name for name, curve in stopped.items() if curve]
    for name, row in table.iterrows():
        epoch, value = list(stopped[str(name)].items())[-1]
        gains = [sign * (curve[3] - curve[epoch]) for curve in whole.values()]
        ahead = max(sign * curve[epoch] for curve in (stopped | whole).values() if epoch in curve)
        excluded = breaks[str(name)] in (rules[1], rules[4])
        needed = np.nan if excluded else best - sign * value
        assert (row["epoch"], row["value"], row["excluded"], row["n"]) == (epoch, value, excluded, 8)
        numbers = [ahead - sign * value, needed, np.mean(gains), max(gains)]
        assert list(row[["behind", "needed", "mean_gain", "most_gain"]]) == pytest.approx(numbers, nan_ok=True)
        assert row["possible"] == (needed <= max(gains))


def test_ten_times_the_trials_are_looked_at_ten_times_as_often(search: Search) -> None:
    looks = Counter[int]()

    class Curve(dict[int, float]):
        def __getitem__(self, epoch: int) -> float:
            looks[count] += 1
            return super().__getitem__(epoch)

        def __contains__(self, epoch: object) -> bool:
            looks[count] += 1
            return super().__contains__(epoch)

        def __iter__(self) -> Iterator[int]:
            looks[count] += len(self)
            return super().__iter__()

    for count in (50, 500):
        stopped, whole = ({n: Curve(c) for n, c in part.items()} for part in drawn_curves(count, 3, seed=2))
        stopped_trials(known(search, stopped, whole))
    assert 0 < looks[500] <= 15 * looks[50]


def test_epochs_saved_and_regret_risked(search: Search) -> None:
    facts = Findings(known(search, {"near": {1: 0.1, 2: 0.45}, "far": {1: 0.05}})).early_stopping
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
    assert Findings(found).early_stopping["risked"] == 0
