"""How good is the result of a sweep, against Ray's own search with defaults, at equal numbers of trained epochs?

    python -m benchmarks.search --lcbench DIR --tasks 3945,7593 --seeds 10 --json

DIR holds a surrogate of LCBench (YAHPO Gym): model.onnx predicts the validation accuracy of a small network by epoch,
from seven hyper-parameters. Nothing is trained. Ours is the default of a sweep file; its searcher and its scheduler are
the objects that Tune gets in a sweep, called here in the order in which Tune calls them, by four workers in simulated
time. Ray's are OptunaSearch and ASHAScheduler with defaults, and once more with a grace period that suits these curves.

A budget cuts a search off: what still trains then is lost. That is hard on many workers, whose first trials have hardly
ended. With --finish no trial begins after it, those that run go on to their end, as in a sweep with budget_epochs, and
the full trainings that this took in all are printed beside the regret.

Regret is (top - found) / (top - median): 0 is the best configuration known, 1 a typical random one. `found` is the best
validation accuracy of a trial that trained to its end; a side that has none yet has regret 1. median is of 20,000
random configurations after the last epoch, top the best that differential evolution finds from the best of these on:
both are a task's own, so regrets of two runs compare.

More sides come from the extra `peers` (search_peers.py). With --out a search that has run is not run again: the file
keeps what each found, by side, task, seed, noise, workers and budgets, and the commit at which it ran, which is not
compared: after a change of the search delete its rows. searches.jsonl has the searches of the newest tables in
docs/log.md, so that more seeds add to them.

The surrogate has no noise, unlike training, where two seeds differ. With --noise 0.25 all values of a trial are off by
one normal number, whose standard deviation is a quarter of what the best random configuration is above the median, and
`found` is the true accuracy of the trial that seemed best.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import common
from benchmarks.search_peers import PEERS
from benchmarks.search_problem import LCBENCH, Curve, Curves, Side
from benchmarks.search_sides import OWN
from benchmarks.surrogate import EPOCHS, RANDOM, Surrogate
from mergenet.config.loading import load_config

NAME = "search"
BUDGETS = (10, 20, 50)  # full trainings
GOAL = 0.5  # of stock's regret, at the two larger budgets
OURS, STOCK = "ours", "stock"
SIDES = OWN | PEERS
SETTING = "noise", "workers", "finish"  # in which a search runs

Job = tuple[str, str, int]  # side, task, seed
Array = NDArray[np.float64]


def parse(arguments: Sequence[str]) -> Any:
    parser = search_parser(NAME, "Regret of a sweep's search against stock Ray OptunaSearch + ASHAScheduler.")
    parser.add_argument("--lcbench", type=Path, required=True, metavar="DIR", help="folder of the surrogate")
    parser.add_argument("--tasks", required=True, help="OpenML tasks, separated by commas")
    parser.add_argument(
        "--noise",
        type=float,
        default=0.0,
        help="of a trial, as a share of what the best random one is above the median [default: 0]",
    )
    return parser.parse_args(arguments)


def search_parser(name: str, summary: str, sides: str = ",".join(OWN), spent: tuple[int, ...] = BUDGETS) -> Any:
    """sides, spent: the defaults of --sides and --budgets."""
    parser = common.parser(name, summary)
    parser.add_argument("--seeds", type=common.count, default=10, help="searches a task and side")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--sides", default=sides, help=f"of {', '.join(SIDES)}; separated by commas")
    shown = ",".join(map(str, spent))
    parser.add_argument(
        "--budgets", type=budgets, default=spent, help=f"in full trainings, ascending, by commas [default: {shown}]"
    )
    parser.add_argument("--workers", type=common.count, default=4, help="trials at the same time, in simulated time")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keeps finished searches, one JSON line each")
    parser.add_argument(
        "--finish", action="store_true", help="trials that run when a budget is spent go on to their end"
    )
    parser.add_argument("--jobs", type=common.count, default=os.cpu_count() or 1, help="processes")
    return parser


def budgets(text: str) -> tuple[int, ...]:
    return tuple(sorted(common.count(part) for part in text.split(",")))


@dataclass
class Trial:
    """off: how far all its values are from the curve. begun: epochs of all trials together before it."""

    name: str
    curve: Curve
    off: float
    begun: int
    epochs: int = 0
    spent: int = 0  # by all trials together when this one ended
    is_whole: bool = False  # it has trained to its end


@dataclass(frozen=True)
class Found:
    """By budget: the accuracy of the complete trial that seems best, NaN without one; full trainings that it took;
    trials that had begun.
    """

    accuracy: list[float]
    trainings: list[float]
    trials: list[int]


def found_by(
    folder: Path,
    job: Job,
    noise: float = 0.0,
    workers: int = 4,
    budgets: Sequence[int] = BUDGETS,
    finish: bool = False,
) -> Found:
    """Runs in a worker process."""
    side, task, seed = job
    surrogate = Surrogate(folder, task)
    scale = noise * spread(surrogate) if noise else 0.0

    def searched(budget: int) -> list[Trial]:
        generator = np.random.default_rng([seed, int(task)])

        def off() -> float:
            return scale * float(generator.standard_normal())

        return simulated(surrogate, SIDES[side](seed, LCBENCH), off, budget * EPOCHS, workers, finish)

    with silent():
        return found_within(budgets, searched, EPOCHS, finish)


def found_within(
    budgets: Sequence[int], searched: Callable[[int], list[Trial]], epochs: int, finish: bool = False
) -> Found:
    """searched: the trials of a search with a budget of so many full trainings."""
    if finish:
        searches = [searched(budget) for budget in budgets]
        spent = [sum(trial.epochs for trial in trials) / epochs for trials in searches]
        return Found([best_seeming(trials) for trials in searches], spent, [len(trials) for trials in searches])
    whole = searched(budgets[-1])
    cut = [[trial for trial in whole if trial.spent <= budget * epochs] for budget in budgets]
    spent = [float(budget) for budget in budgets]
    begun = [sum(trial.begun < budget * epochs for trial in whole) for budget in budgets]
    return Found([best_seeming(trials) for trials in cut], spent, begun)


@contextmanager
def silent() -> Iterator[None]:
    """Inside, nothing is logged but errors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def best_seeming(trials: Sequence[Trial]) -> float:
    """Of those that trained to their end."""
    complete = [trial for trial in trials if trial.is_whole]
    best = max(complete, key=lambda trial: trial.curve.seen + trial.off, default=None)
    return np.nan if best is None else best.curve.best


def spread(surrogate: Surrogate) -> float:
    random = surrogate.random_accuracies(RANDOM)
    return float(random.max() - np.median(random))


def simulated(
    curves: Curves, side: Side, off: Callable[[], float], end: int, workers: int = 4, finish: bool = False
) -> list[Trial]:
    """All trials, in the order in which they began, within `end` epochs of all together.

    off: of the next trial. All workers are equally fast. finish: those that run then go on to their end.
    """

    def start(name: str) -> Trial:
        trials.append(trial := Trial(name, curves.curve(side.suggest(name)), off(), spent))
        return trial

    trials: list[Trial] = []
    spent = 0
    running = {worker: start(f"first-{worker}") for worker in range(workers)}
    while spent < end or (finish and running):
        spent += 1
        worker = spent % workers
        if worker not in running:
            continue
        trial = running[worker]
        trial.epochs, trial.spent = trial.epochs + 1, spent
        trial.is_whole = trial.epochs == curves.epochs
        stopped = side.report(trial.name, trial.epochs, trial.curve(trial.epochs) + trial.off)
        if stopped or trial.is_whole:
            del running[worker]
            if spent <= end:
                running[worker] = start(f"after-{spent}")
    return trials


def regrets(found: dict[Job, list[float]], folder: Path) -> dict[Job, list[float]]:
    out = {}
    for task in {task for _, task, _ in found}:
        surrogate = Surrogate(folder, task)
        top, middle = surrogate.top(), np.median(surrogate.random_accuracies(RANDOM))
        for job, values in found.items():
            if job[1] == task:
                regret = np.clip((top - np.array(values)) / (top - middle), 0.0, 1.0)
                out[job] = np.nan_to_num(regret, nan=1.0).tolist()
    return out


def summarize(regret: dict[Job, list[float]], sides: Sequence[str], budgets: Sequence[int] = BUDGETS) -> dict[str, Any]:
    """Mean regret of each side by budget, and the ratio of ours to every other side's with its 95 % interval."""
    tasks = sorted({task for _, task, _ in regret})
    by_task = {side: np.array([_of(regret, side, task) for task in tasks]) for side in sides}
    means = {side: values.mean((0, 1)) for side, values in by_task.items()}
    others = [side for side in sides if side != OURS] if OURS in sides else []
    again = {
        side: resampled_means(values, np.random.default_rng(i)) for i, (side, values) in enumerate(by_task.items())
    }
    return {
        "budgets": list(budgets),
        "regret": {side: mean.tolist() for side, mean in means.items()},
        "ratio": {side: (means[OURS] / means[side]).tolist() for side in others},
        "interval": {side: np.quantile(again[OURS] / again[side], [0.025, 0.975], 0).T.tolist() for side in others},
    }


def _of(regret: dict[Job, list[float]], side: str, task: str) -> list[list[float]]:
    return [values for job, values in regret.items() if job[:2] == (side, task)]


def resampled_means(values: Array, generator: np.random.Generator, times: int = 10_000) -> Array:
    """(tasks, seeds, budgets) -> (times, budgets): bootstrap over the seeds within each task; the tasks are fixed."""
    tasks, seeds, _ = values.shape
    chosen = generator.integers(seeds, size=(times, tasks, seeds))
    return np.stack([values[np.arange(tasks)[:, None], one].mean((0, 1)) for one in chosen])


def report(figures: dict[str, Any]) -> None:
    spent = figures["budgets"]
    after = ", ".join(map(str, spent))
    print(f"mean normalised regret after {after} full trainings; ours divided by it, 95 % interval over seeds")
    for side, mean in figures["regret"].items():
        ratios = zip(figures["ratio"].get(side, []), figures["interval"].get(side, []), strict=True)
        shown = "".join(f"  {ratio:.2f} [{low:.2f}, {high:.2f}]" for ratio, (low, high) in ratios)
        took = figures["trainings"][side]
        more = "" if took == [float(x) for x in spent] else "  of " + ", ".join(f"{x:.1f}" for x in took) + " trainings"
        drawn = ", ".join(f"{count:.0f}" for count in figures["trials"][side])
        print(f"  {side:<14}" + "".join(f" {x:6.3f}" for x in mean) + f"  {shown}{more}  {drawn} trials")
    if STOCK in figures["ratio"] and len(spent) > 1:
        met = all(ratio <= GOAL for ratio in figures["ratio"][STOCK][1:])
        later = " and ".join(map(str, spent[1:]))
        print(f"goal, at most {GOAL} of {STOCK}'s at {later}: {'met' if met else 'NOT met'}")


def search_all(jobs: Sequence[Job], options: Any, commit: str | None, run: Callable[..., Found]) -> dict[Job, Found]:
    """What every job finds, those that stand in --out as they stand there. run: a job, and where it searches."""
    where = {name: getattr(options, name) for name in SETTING if hasattr(options, name)}
    where["budgets"] = [*options.budgets]
    found = kept(options.out, **where) if options.out else {}
    left = [job for job in jobs if job not in found]
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # for the processes below
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:  # NumPy reads its environment when imported
        for job, one in zip(left, pool.map(partial(run, **where), left), strict=True):
            found[job] = one
            if options.out:
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"job": job} | by_name(one) | where | {"commit": commit}) + "\n")
    return {job: found[job] for job in jobs}


def by_name(found: Found) -> dict[str, list[Any]]:
    return {"found": found.accuracy, "trainings": found.trainings, "trials": found.trials}


def kept(out: Path, budgets: Sequence[int], **where: Any) -> dict[Job, Found]:
    """The searches in the file that ran there and had these budgets among theirs."""
    found: dict[Job, Found] = {}
    for row in map(json.loads, out.read_text(encoding="utf-8").splitlines()) if out.exists() else ():
        if "trials" in row and {key: row[key] for key in where} == where and {*row["budgets"]} >= {*budgets}:
            places = [row["budgets"].index(budget) for budget in budgets]
            found[tuple(row["job"])] = Found(
                *([row[key][i] for i in places] for key in ("found", "trainings", "trials"))
            )
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    sides, tasks = options.sides.split(","), options.tasks.split(",")
    facts = common.machine(load_config("digits")) | {"jobs": options.jobs}
    common.header(NAME, arguments, facts)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    jobs = [(side, task, seed) for seed in seeds for side in sides for task in tasks]
    found = search_all(jobs, options, facts["git_commit"], partial(found_by, options.lcbench))
    regret = regrets({job: one.accuracy for job, one in found.items()}, options.lcbench)
    tell(NAME, options, facts, found, regret)


def tell(
    name: str, options: Any, facts: dict[str, Any], found: dict[Job, Found], regret: dict[Job, list[float]]
) -> None:
    """The table of a benchmark of this name and, if asked for, its JSON object."""
    sides = options.sides.split(",")
    figures = summarize(regret, sides, options.budgets)
    for key in ("trainings", "trials"):
        each = {side: [getattr(one, key) for job, one in found.items() if job[0] == side] for side in sides}
        figures[key] = {side: np.mean(values, 0).tolist() for side, values in each.items()}
    report(figures)
    if options.json:
        keys = ("side", "task", "seed")
        runs = [dict(zip(keys, job, strict=True)) | by_name(one) for job, one in found.items()]
        seeds = sorted({seed for _, _, seed in found})
        setting = {key: getattr(options, key) for key in SETTING if hasattr(options, key)}
        tasks = sorted({task for _, task, _ in found})
        common.footer(name, facts, seeds, figures | {"tasks": tasks, "runs": runs} | setting)


if __name__ == "__main__":
    main()
