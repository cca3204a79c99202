"""Sides of other packages: our space, our stopping around draws that are asked and told; where they are installed."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import search
from benchmarks.search_peers import PEERS, WithOurStopping, hebo_parameter
from benchmarks.search_problem import LCBENCH
from benchmarks.surrogate import EPOCHS, SEARCH

KEPT = Path(search.__file__).with_name("searches.jsonl")
PACKAGES = {"syne": "syne_tune", "hebo": "hebo", "smac": "smac"}


class Counting:
    """Draws numbered values, and keeps what it is told."""

    def __init__(self) -> None:
        self.asked, self.told = 0, dict[int, float]()

    def ask(self) -> tuple[Any, dict[str, Any]]:
        self.asked += 1
        return self.asked, {"number": self.asked}

    def tell(self, draw: Any, cost: float) -> None:
        self.told[draw] = cost


def test_our_stopping_ends_the_worse_draws_and_tells_their_best_value() -> None:
    side = WithOurStopping(optimizer := Counting(), LCBENCH)
    for name in "abc":
        side.suggest(name)
    assert not any(side.report(name, 1, 0.1) for name in "abc"), "grace"
    assert not side.report("a", 2, 0.5), "the first at its rung"
    assert not side.report("b", 2, 0.9)
    assert side.report("c", 2, 0.05)
    assert optimizer.told == {3: -0.1}, "the best so far, with costs less is better"
    for epoch in range(3, EPOCHS + 1):
        assert not side.report("b", epoch, 0.9)
    assert optimizer.told == {3: -0.1, 2: -0.9}


def test_hebo_has_a_kind_for_each_of_our_entries() -> None:
    kinds = {name: hebo_parameter(name, entry)["type"] for name, entry in LCBENCH.space.entries.items()}
    assert kinds["batch_size"] == "pow_int"
    assert kinds["learning_rate"] == "pow"
    assert kinds["num_layers"] == "int"
    assert kinds["momentum"] == "num"


@pytest.mark.parametrize("side", PEERS)
def test_a_peer_draws_from_our_space_and_spends_its_budget(folder: Path, side: str) -> None:
    pytest.importorskip(PACKAGES[side.split("_")[0]])
    drawn = PEERS[side](0, LCBENCH).suggest("first")
    assert drawn.keys() == SEARCH.keys()
    for name, entry in SEARCH.items():
        low, high = entry.get("int") or entry["float"]
        assert low <= drawn[name] <= high
    if side != "hebo":  # seconds a draw
        assert 26 < search.found_by(folder, (side, "7", 0), budgets=(4,)).accuracy[0] < 56


def test_kept_searches_are_those_of_the_same_noise_and_workers(tmp_path: Path) -> None:
    out = tmp_path / "searches.jsonl"
    where = {"noise": 0.0, "workers": 4, "finish": False}
    found = {
        "found": [1.0, 2.0, 3.0],
        "trainings": [10.0, 20.0, 50.0],
        "trials": [20, 50, 120],
        "budgets": [10, 20, 50],
    }
    row = {"job": ["ours", "7", 0]} | found | where
    assert search.kept(out, [10], **where) == {}
    out.write_text(json.dumps(row) + "\n" + json.dumps(row | {"noise": 0.3, "found": [4.0, 5.0, 6.0]}) + "\n")
    assert search.kept(out, [10, 50], **where) == {("ours", "7", 0): search.Found([1.0, 3.0], [10.0, 50.0], [20, 120])}
    assert search.kept(out, [10], **(where | {"finish": True})) == {}
    assert search.kept(out, [10, 100], **where) == {}, "a budget that it did not look at"


def test_the_searches_that_are_kept_are_whole_and_of_sides_that_there_are() -> None:
    rows = [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()]
    assert {row["job"][0] for row in rows} <= search.SIDES.keys()
    for row in rows:
        assert {len(row[key]) for key in ("found", "trainings", "trials")} == {len(row["budgets"])}
        assert len(row["commit"]) == 40
    where = [json.dumps([row["job"], *(row[key] for key in (*search.SETTING, "budgets"))]) for row in rows]
    assert len({*where}) == len(where), "none twice"
