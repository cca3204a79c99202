"""The search among layer pairs: every point that can be drawn, and every side draws such points alone."""

import json
import math
from pathlib import Path
from typing import Any

import optuna
import pytest

from benchmarks.search import SIDES
from benchmarks.search_pairs import Table, found_in, key, points, problem, regrets, setting

PACKAGES = {"syne": "syne_tune", "smac": "smac"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds, as if each point had been trained: rows are worth their number, in the second seed one more."""
    path = tmp_path_factory.mktemp("runs") / "runs.jsonl"
    made, rows = setting(), list[dict[str, Any]]()
    for number, name in enumerate(made.variants):
        for seed in (0, 1):
            value = (number / 10 + seed) / 100
            rows.append({"key": made.key(name, seed), "curve": [value * epoch / 60 for epoch in range(1, 61)]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_points_are_those_that_the_space_draws() -> None:
    random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = {key(problem().space(random.ask())) for _ in range(10_000)}
    names = [key(labels) for labels in points()]
    assert sorted(names) == sorted(drawn)
    assert len(names) == len(setting().variants)


@pytest.mark.parametrize("side", [side for side in SIDES if side != "hebo"])  # seconds a draw
def test_every_side_draws_points_of_the_table_and_ends_trials_as_it_should(runs: Path, side: str) -> None:
    if side.partition("_")[0] in PACKAGES:
        pytest.importorskip(PACKAGES[side.partition("_")[0]])
    found = found_in(runs, [0, 1], (side, "0", 0), workers=2, budgets=[4], finish=True)
    assert 4 <= found.trainings[0] <= 4 + 2
    assert 0.5 <= found.accuracy[0] <= len(points()) / 10 + 0.5, "the mean of both seeds"


def test_what_a_search_finds_is_worth_its_mean_over_all_seeds(runs: Path) -> None:
    table = Table(runs, [0, 1], 1)
    row = table.curve(points()[10])
    assert (row.seen, row.best) == (pytest.approx(2.0), pytest.approx(1.5))
    assert row(30) == pytest.approx(1.0)
    top, middle = 0.5 + (len(points()) - 1) / 10, 0.5 + (len(points()) - 1) / 20
    found = {("ours", "0", 0): [top, middle], ("ours", "0", 1): [math.nan, 0.5]}
    regret = regrets(found, table)
    assert regret["ours", "0", 0] == pytest.approx([0.0, 1.0])
    assert regret["ours", "0", 1] == [1.0, 1.0], "none, and one below the median"
