"""How good is the result of a sweep whose space has layer pairs and conditions, of 12 to 24 trials?

    python -m benchmarks.search_pairs --seeds 10 --json
    python -m benchmarks.search_pairs --workers 8 --budgets 8 --finish --sides ours,stock,syne_bohb_2,smac

Every point of a space (SEARCH) is trained with each of --tables seeds, on the preset `shared-inputs`: ten minutes on
two cores, of which finished runs are kept in --runs. Then searches run on the recorded curves of one seed, as
benchmarks/search.py does on LCBench's, whose sides and options these are.

A search takes the trial that is best with that seed, as a sweep does; what it has found is that point's mean over all
seeds, so a search that picks what was lucky pays for it. Regret is (top - found) / (top - median) of these means, at
most 1.
"""

import functools
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks import common
from benchmarks.paired_runs import Setting, read, run
from benchmarks.search import SIDES, Found, Job, Trial, found_within, search_all, search_parser, silent, simulated, tell
from benchmarks.search_problem import PlainSpace, Problem
from mergenet.config.loading import load_config
from sweeps.config.loading import parse_sweep
from sweeps.space.checks import build_space
from sweeps.space.conditions import walk
from sweeps.space.layer_choices import with_layers, with_limits
from sweeps.space.space import Labels

NAME = "search_pairs"
BASE = "shared-inputs"
SEARCH: dict[str, Any] = {
    "transfer.pairs": {"layers": {"source": "fc[12]", "target": "fc[12]"}},
    "transfer.adapter.kind": {"choice": ["linear", "lpka"]},
    "transfer.adapter.depth": {"choice": [1, 2], "when": {"transfer.adapter.kind": "lpka"}},
    "transfer.adapter.rank": {"choice": [4, 16]},
    "transfer.t_cycle": {"choice": [4, 16]},
    "transfer.adapter.gate": {"choice": [0.03, 0.1, 0.3]},
    "target.optimizer.lr": {"choice": [0.03, 0.1, 0.3]},
}
DEFAULT_SIDES = "ours,stock,stock_grace_4,syne_bohb_2,syne_bore_2,syne_cqr_2,smac,random"
LOOKS = (1, 2, 4, 6, 10, 15, 20, 30, 40)  # epochs
BUDGETS = (4, 8)  # full trainings: some 12 to 24 trials


def parse(arguments: Sequence[str]) -> Any:
    parser = search_parser(NAME, "Regret of a sweep's search among layer pairs and conditions.", DEFAULT_SIDES, BUDGETS)
    parser.add_argument("--tables", type=common.count, default=4, help="seeds with which each point is trained")
    parser.add_argument("--runs", type=Path, default=Path(f"runs/{NAME}.jsonl"), help="file of finished runs")
    return parser.parse_args(arguments)


@functools.cache
def problem() -> Problem:
    base = load_config(BASE)
    entries = parse_sweep({"name": NAME, "base": BASE, "search": SEARCH}, NAME).search
    space = with_limits(with_layers(build_space(base, entries)))
    return Problem(SEARCH, PlainSpace(space.base, space.entries, space.limits), base.epochs)


def points() -> list[Labels]:
    """Every one that the space can draw."""
    space = problem().space
    columns = {path: list(space.options(path)) for path in space.order}
    return [labels for labels in walk(space.entries, space.order, columns) if space.can_draw(labels)]


def key(labels: Mapping[str, Any]) -> str:
    return json.dumps(dict(sorted(labels.items())))


def setting() -> Setting:
    space = problem().space
    return Setting(BASE, {key(labels): overrides(space.values(labels)) for labels in points()})


def overrides(values: Mapping[str, Any]) -> tuple[str, ...]:
    """As --set takes them."""
    return tuple(f"{path}={json.dumps(value)}" for path, value in values.items())


@dataclass(frozen=True)
class Row:
    """Of a point: its curve with the seed that is searched, and the mean best value over all seeds."""

    curve: list[float]
    best: float

    def __call__(self, epoch: int) -> float:
        return self.curve[epoch - 1]

    @property
    def seen(self) -> float:
        """What a whole trial showed."""
        return max(self.curve)


class Table:
    """The curves of one seed, for benchmarks.search.simulated."""

    def __init__(self, runs: Path, seeds: Sequence[int], seed: int) -> None:
        made, done = setting(), read(runs)
        curves = {
            name: [[100 * x for x in done[made.key(name, each)]["curve"]] for each in seeds] for name in made.variants
        }
        own = list(seeds).index(seed)
        self.rows = {name: Row(all_[own], float(np.mean([max(one) for one in all_]))) for name, all_ in curves.items()}
        self.epochs = problem().epochs

    def curve(self, values: Mapping[str, Any]) -> Row:
        return self.rows[key(values)]


def found_in(runs: Path, seeds: Sequence[int], job: Job, workers: int, budgets: Sequence[int], finish: bool) -> Found:
    """Runs in a worker process. The job's task is the seed whose curves are searched."""
    side, task, seed = job
    table = table_of(runs, tuple(seeds), int(task))

    def searched(budget: int) -> list[Trial]:
        made = SIDES[side](seed, problem())
        return simulated(table, made, lambda: 0.0, budget * table.epochs, workers, finish)

    with silent():
        return found_within(budgets, searched, table.epochs, finish)


table_of = functools.cache(Table)


def regrets(found: Mapping[Job, Sequence[float]], table: Table) -> dict[Job, list[float]]:
    means = [row.best for row in table.rows.values()]
    top, middle = max(means), np.median(means)
    return {
        job: np.nan_to_num(np.minimum((top - np.array(values)) / (top - middle), 1.0), nan=1.0).tolist()
        for job, values in found.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    facts = common.machine(load_config(BASE)) | {"jobs": options.jobs, "points": len(points())}
    common.header(NAME, arguments, facts)
    tables = range(options.tables)
    run(setting(), tables, options.runs, options.jobs)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    jobs = list(itertools.product(options.sides.split(","), map(str, tables), seeds))
    found = search_all(jobs, options, facts["git_commit"], functools.partial(found_in, options.runs, tables))
    table = table_of(options.runs, tuple(tables), 0)
    print(f"{spread(table)}\n{crossing(table)}")
    tell(NAME, options, facts, found, regrets({job: one.accuracy for job, one in found.items()}, table))


def spread(table: Table) -> str:
    means = np.array([row.best for row in table.rows.values()])
    off = np.std([row.seen - row.best for row in table.rows.values()])
    low, middle, top = means.min(), np.median(means), means.max()
    return (
        f"{len(means)} points, best validation accuracy {low:.1f} to {top:.1f} %, median {middle:.1f}; one seed is off "
        f"by {off:.2f} points (standard deviation)"
    )


def crossing(table: Table) -> str:
    """How well each epoch ranks the points as the last one does, on the curves of the first seed."""
    curves = np.maximum.accumulate([row.curve for row in table.rows.values()], axis=1)
    found = [(epoch, spearmanr(curves[:, epoch - 1], curves[:, -1]).statistic) for epoch in LOOKS]
    shown = ", ".join(f"{value:.2f} after {epoch}" for epoch, value in found)
    return f"Spearman's correlation of the best value so far with that of epoch {table.epochs}: {shown}"


if __name__ == "__main__":
    main()
