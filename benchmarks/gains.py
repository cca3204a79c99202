"""Where does transfer gain over simpler alternatives? Paired seeds, each with its own split and source.

    python -m benchmarks.gains mnist --first-seed 700 --seeds 12 --json
    python -m benchmarks.gains mnist --tune --first-seed 0 --seeds 4     # how the recipes of a case were chosen

Every case (gain_cases.py) compares the target by itself, under the recipe tuned for it, with transfer under the recipe
tuned for transfer on the same grid and seeds; with the method's controls; with a source that saw no more data than the
target; with the adapter of version 0.1.0; with distillation from a finished teacher that saw the source's data; and
with the same knowledge without an adapter (the target's layer started from the source's). Validation selects the epoch.
`--set` applies to all variants, but not to the teachers and the source with less data, which belong to the case.
"""

import itertools
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, paired_runs
from benchmarks.gain_cases import CASES, REAL, Case
from benchmarks.paired import Rows, compare_all, families, report
from mergenet.config import Config
from mergenet.errors import ConfigError, unknown_name
from mergenet.records.run_record import config_hash
from mergenet.transfer.pairs import resolve_pairs
from mergenet.transfer.source import record_source

NAME = "gains"
BASELINE = "none"


def parse(arguments: Sequence[str]) -> tuple[Any, Case, list[str]]:
    """Options, the case and its variants, baseline first. Raises ConfigError for unknown names."""
    parser = paired_runs.parser(
        NAME, "Transfer against no transfer, recipes tuned alike; controls, distillation, plain initialisation."
    )
    parser.set_defaults(seeds=12)
    parser.add_argument("case", help=f"one of {', '.join(CASES)}")
    parser.add_argument("--variants", help="some of the case's variants, separated by commas (default: all)")
    parser.add_argument("--tune", action="store_true", help="search the case's grid instead, by validation")
    options = parser.parse_args(arguments)
    if options.case not in CASES:
        raise ConfigError(unknown_name("CASE", options.case, CASES))
    case = CASES[options.case]
    names = paired_runs.names_of(f"{BASELINE},{options.variants or ','.join(case.variants)}")
    for name in names:
        if name not in case.variants:
            raise ConfigError(unknown_name("--variants", name, case.variants))
    return options, case, names


def train_all(case: Case, names: Sequence[str], seeds: Sequence[int], out: Path, jobs: int) -> Rows:
    """The rows of all variants and seeds; trains those that `out` lacks."""
    done, code = paired_runs.read(out), paired_runs.code_hash()
    keys = {(seed, name): case.key(name, seed, out.parent) for seed in seeds for name in names}
    todo = [(case, name, seed, out) for (seed, name), key in keys.items() if key not in done]
    print(f"{len(todo)} runs to train, {len(seeds) * len(names) - len(todo)} found in {out}", file=sys.stderr)
    by_seed = [list(group) for _, group in itertools.groupby(todo, key=lambda job: job[2])]
    paired_runs.train_all(train_seed, by_seed, jobs)
    return paired_runs.rows_of(out, keys.values(), code)


def train_seed(jobs: Sequence[tuple[Case, str, int, Path]]) -> int:
    """All runs of one seed; sources that train the same are recorded once and replayed, which changes no bit."""
    code = paired_runs.code_hash()
    configs = [case.config(name, seed, out.parent) for case, name, seed, out in jobs]
    with tempfile.TemporaryDirectory() as folder:
        replayed = replays(configs, Path(folder))
        for (case, name, seed, out), config in zip(jobs, configs, strict=True):
            named = {"key": case.key(name, seed, out.parent), "variant": name, "seed": seed}
            row = paired_runs.train(replayed.get(config_hash(config), config))
            area = float(np.mean(row["curve"]))
            paired_runs.append(out, named | row | {"area": area, "code": code})
    return jobs[0][2]


def replays(configs: Sequence[Config], folder: Path) -> dict[str, Config]:
    """Configuration's hash -> the same with its source recorded, of those that share a live source with another one."""
    groups: dict[str, list[Config]] = {}
    for config in configs:
        if config.method == "mergenet" and paired_runs.replayable(resolve_pairs(config)):
            groups.setdefault(config.source.model_dump_json(), []).append(config)
    found = {}
    for number, group in enumerate(group for group in groups.values() if len(group) > 1):
        pairs = [pair for config in group for pair in resolve_pairs(config).transfer.written_pairs]
        layers = list(dict.fromkeys(pair.source for pair in pairs))
        every = math.gcd(*(config.transfer.t_cycle for config in group))
        place = folder / str(number)
        for _ in record_source(group[0], place, layers, every):
            pass
        for config in group:
            source = config.source.model_copy(update={"kind": "recorded", "recording": str(place)})
            found[config_hash(config)] = config.model_copy(update={"source": source})
    return found


def tune(case: Case, names: Sequence[str], seeds: Sequence[int], out: Path, jobs: int) -> dict[str, Any]:
    """Mean validation metric at every point of the grids, and the best point of each variant."""
    found: dict[str, Any] = {}
    for name in names:
        grid = case.teaching if name in case.methods else case.grid
        points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        scores = []
        for point in points:
            tuned = case.with_recipe(name, point)
            rows = train_all(tuned, [name], seeds, out, jobs)
            scores.append(float(np.mean([row["val"] for row in rows])))
            print(f"{name:6} {json.dumps(point)}: {100 * scores[-1]:.2f} %", flush=True)
        best = int(np.argmax(scores))
        print(f"{name:6} best: {json.dumps(points[best])}", flush=True)
        found[name] = {"points": points, "validation": scores, "best": points[best]}
    return found


def epochs_to_reach(rows: Rows, names: Sequence[str]) -> dict[str, float]:
    """Median over seeds of the first epoch at which a variant is as good as no transfer at its last epoch.

    nan where fewer than half of the seeds ever are.
    """
    by = {(row["variant"], row["seed"]): row["curve"] for row in rows}
    seeds = sorted({row["seed"] for row in rows})

    def first(name: str, seed: int) -> float:
        level = by[BASELINE, seed][-1]
        return next((epoch for epoch, value in enumerate(by[name, seed], start=1) if value >= level), np.inf)

    medians = {name: float(np.median([first(name, seed) for seed in seeds])) for name in names}
    return {name: value if np.isfinite(value) else float("nan") for name, value in medians.items()}


def say_epochs(found: dict[str, float], total: int) -> None:
    print(f"\nfirst epoch as good on validation as no transfer at its last ({total}), median over the seeds")
    for name, value in found.items():
        print(f"  {name:20} {'never' if np.isnan(value) else f'{value:g}'}")


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    with paired_runs.errors_told():
        options, case, names = parse(arguments)
        case = case.with_settings(options.set)
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        facts = common.machine(case.plain_config()) | {"jobs": options.jobs}
        common.header(NAME, arguments, facts)
        print(f"{case.name}: {case.question}\nseeds {seeds[0]} to {seeds[-1]}", flush=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        if options.tune:
            asked = paired_runs.names_of(options.variants or ",".join((BASELINE, REAL, *case.methods)))
            names = [name for name in names if name in asked and name in (BASELINE, REAL, *case.methods)]
            figures: dict[str, Any] = {"case": case.name, "tuned": tune(case, names, seeds, options.out, options.jobs)}
        else:
            rows = train_all(case, names, seeds, options.out, options.jobs)
            others = [name for name in names[1:] if name != REAL]
            comparisons = compare_all(rows, families(names, REAL, others))
            report(rows, names, comparisons)
            reached = epochs_to_reach(rows, names)
            say_epochs(reached, len(rows[0]["curve"]))
            figures = {"case": case.name, "runs": rows, "comparisons": comparisons, "epochs_to_reach": reached}
    if options.json:
        common.footer(NAME, facts, seeds, figures)


if __name__ == "__main__":
    main()
