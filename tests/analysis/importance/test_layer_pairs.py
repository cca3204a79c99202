import dataclasses
from pathlib import Path

import pytest

from analysis.importance.layer_pairs import layer_pairs, pareto
from analysis.importance.search import Search, load_search
from mergenet.errors import UserError
from tests.analysis.importance.sweeps import BASE, GATE, write_sweep

WORTH = {("fc", "head"): 0.6, ("conv", "head"): 0.5, ("conv", "stem"): 0.4}


def test_values_by_source_and_target(tmp_path: Path) -> None:
    points = [{"transfer.pairs": [{"source": s, "target": t}], GATE: 0.1} for s, t in WORTH for _ in range(4)]

    def value(params: dict[str, list[dict[str, str]]]) -> float:
        pair = params["transfer.pairs"][0]
        return WORTH[pair["source"], pair["target"]]

    search = {"transfer.pairs": {"layers": {"source": "*", "target": "*"}}}
    found = layer_pairs(load_search(write_sweep(tmp_path / "s", points, value, search=search)))
    assert list(zip(found["source"], found["target"], strict=True)) == list(WORTH), "best first"
    assert found["mean"].to_list() == pytest.approx(list(WORTH.values()))
    assert found["n"].to_list() == [4, 4, 4]


def test_a_part_of_a_pair_and_several_pairs(tmp_path: Path) -> None:
    """The base's list with what a trial drew inside it; a trial counts for each of its pairs."""
    base = BASE | {"transfer": {"pairs": [{"source": "fc", "target": "head"}, {"source": "conv", "target": "stem"}]}}
    points = [{"transfer.pairs.0.source": source} for source in ("fc", "conv") for _ in range(2)]
    search = {"transfer.pairs.0.source": {"choice": ["fc", "conv"]}}
    values = {"fc": 0.6, "conv": 0.5}
    folder = write_sweep(
        tmp_path / "s", points, lambda p: values[p["transfer.pairs.0.source"]], search=search, base=base
    )
    found = layer_pairs(load_search(folder)).set_index(["source", "target"])
    assert found["n"].to_dict() == {("fc", "head"): 2, ("conv", "head"): 2, ("conv", "stem"): 4}
    assert found.loc[("conv", "stem"), "mean"] == pytest.approx(0.55)


def test_pairs_that_are_not_searched_are_told(search: Search) -> None:
    with pytest.raises(UserError, match=r"transfer\.pairs must be searched for values by layer pair"):
        layer_pairs(search)


def test_no_trial_on_the_front_is_beaten(search: Search) -> None:
    points = [(1.0, 0.5), (2.0, 0.7), (2.0, 0.6), (3.0, 0.7), (4.0, 0.8), (4.0, 0.8)]
    trials = search.trials.iloc[: len(points)].assign(
        step_seconds=[cost for cost, _ in points], value=[value for _, value in points]
    )
    found = pareto(dataclasses.replace(search, trials=trials))
    assert found["front"].to_list() == [True, True, False, False, True, True], "of equals none is beaten"
    loss = dataclasses.replace(search, trials=trials.assign(value=1 - trials["value"]), metric="target_val_loss")
    assert pareto(loss)["front"].to_list() == [True, True, False, False, True, True]


def test_an_unknown_or_unmeasured_cost_is_refused(search: Search) -> None:
    with pytest.raises(UserError, match=r"cost must be one of .*step_seconds, got 'hours'"):
        pareto(search, "hours")
    with pytest.raises(UserError, match="got step_seconds, which none of 24 has"):
        pareto(dataclasses.replace(search, trials=search.trials.assign(step_seconds=float("nan"))))
