"""Do a thousand trials cost a thousand times one? Time per trial and memory of the driver, from the first to the last.

A sweep of trivial trials (trivial.py) on a Ray of this machine, through all parts of a sweep: Tune, the study, the
queue, slots, records, event files, the live view. Trials are drawn at random, because a model-based sampler (GP, TPE)
reads all trials so far at each draw: its cost is measured separately on a study in a file, without training.

The trials are cut into blocks in the order in which they ended, after the first ones, which import, connect and fill
caches. Claim: time per trial and memory of the driver in the last block are within 20 % of those in the first. The CPU
time of the driver is given as well; other programs on the machine disturb it less.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import TrialState

from analysis.names import TRIAL
from benchmarks import common, trivial
from benchmarks.watched import watched_sweep
from mergenet.config.loading import load_config
from sweeps.config.loading import load_sweep
from sweeps.planning.checks import plan_sweep
from sweeps.study.study import SweepStudy

NAME = "scale"
BLOCK = 100  # trials
WARM_UP = 20  # trials before the first block
TOLERANCE = 0.2  # of the last block against the first: what is claimed
FLAT = "seconds", "driver_mib"  # what the claim is about
SAMPLERS = "random", "tpe", "auto"


@dataclass(frozen=True)
class Block:
    """Trials first to last, counted from 1 as they ended; a trial's seconds, mean memory in MiB, a trial's CPU seconds.

    seconds: wall time of the block over its trials, whatever number of slots shared it.
    """

    first: int
    last: int
    seconds: float
    driver_mib: float
    driver_cpu: float
    others_mib: float
    others_cpu: float


def blocks(events: Sequence[dict[str, Any]], size: int = BLOCK, warm_up: int = WARM_UP) -> list[Block]:
    """Whole blocks, after the warm-up. The last one ends with the last trial, and may overlap the one before it.

    Raises ValueError with fewer trials than the warm-up and two blocks.
    """
    ends = [event for event in events if event["event"] == "ended" and event["role"] == TRIAL]
    if len(ends) < warm_up + 2 * size:
        raise ValueError(f"trials must be at least {warm_up + 2 * size}, got {len(ends)}; lower --block")
    starts = [*range(warm_up, len(ends) - size, size), len(ends) - size]
    return [block(ends, start, size) for start in dict.fromkeys(starts)]


def block(ends: Sequence[dict[str, Any]], start: int, size: int) -> Block:
    """Trials start to start + size, from 0; the end of the one before them begins the block."""
    before, inside = ends[start - 1], ends[start : start + size]

    def rate(name: str) -> float:
        return float(inside[-1][name] - before[name]) / size

    def mean(name: str) -> float:
        return float(np.mean([end[name] for end in inside]))

    memory = {name: mean(name) for name in ("driver_mib", "others_mib")}
    cpu = {name: rate(name) for name in ("driver_cpu", "others_cpu")}
    return Block(start + 1, start + size, rate("time"), **memory, **cpu)


def sweep(num_trials: int, slots: int, size: int, folder: Path) -> dict[str, Any]:
    watched = watched_sweep(trivial.write_sweep(folder / "trivial", num_trials, slots=slots), folder / "sweep")
    found = blocks(watched.events, size)
    ratios = {name: getattr(found[-1], name) / getattr(found[0], name) for name in (*FLAT, "driver_cpu", "others_mib")}
    return {"wall": watched.seconds, "slots": slots, "blocks": [asdict(each) for each in found], "ratios": ratios}


def draws(num_trials: int, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Sampler -> "wall" and "cpu" -> median seconds of a trial in the study, of each tenth of so many."""
    found = {}
    for sampler in SAMPLERS:
        file = trivial.write_sweep(folder / f"draws-{sampler}", num_trials, sampler=sampler)
        plan = plan_sweep(load_sweep(str(file)))
        study = SweepStudy(plan.sweep, plan.space, plan.sweep.mode, file.parent)
        tenths = np.array_split([drawn(study, index) for index in range(num_trials)], 10)
        medians = np.array([np.median(tenth, axis=0) for tenth in tenths])
        found[sampler] = {"wall": medians[:, 0].tolist(), "cpu": medians[:, 1].tolist()}
    return found


def drawn(study: SweepStudy, index: int) -> tuple[float, float]:
    """One trial in the study: it is drawn, reports once, a random number, and ends. Seconds: wall, CPU."""
    value = float(np.random.default_rng(index).random())
    start, cpu = time.perf_counter(), time.process_time()
    trial = study.draw(index)
    study.report(trial, 1, value)
    study.tell(trial, TrialState.COMPLETE, value)
    return time.perf_counter() - start, time.process_time() - cpu


def report(figures: dict[str, Any]) -> None:
    if (found := figures.get("sweep")) is not None:
        report_sweep(found)
    if (seconds := figures.get("draws")) is not None:
        print("\nthe study alone: seconds of a draw, a report and an end, median of each tenth of the trials")
        for sampler, kinds in seconds.items():
            for kind, tenths in kinds.items():
                print(f"{sampler:>8} {kind:>4}  {'  '.join(f'{value:.4f}' for value in tenths)}")


def report_sweep(found: dict[str, Any]) -> None:
    print(f"\n{found['slots']} slots, {found['wall']:.0f} s in all; a trial, and the memory in MiB")
    print(f"{'trials':>12}{'seconds':>10}{'CPU s: driver':>15}{'others':>9}{'MiB: driver':>13}{'others':>8}")
    for each in found["blocks"]:
        times = f"{each['seconds']:10.3f}{each['driver_cpu']:15.3f}{each['others_cpu']:9.3f}"
        print(f"{each['first']:>6}-{each['last']:<5}{times}{each['driver_mib']:13.1f}{each['others_mib']:8.0f}")
    for name, what in zip(FLAT, ("time a trial", "the driver's memory"), strict=True):
        ratio = found["ratios"][name]
        verdict = "holds" if abs(ratio - 1) <= TOLERANCE else "DOES NOT HOLD"
        print(f"claim: {what} is flat within {TOLERANCE:.0%}: last block / first = {ratio:.3f}, {verdict}")
    print(f"CPU time of the driver, last / first: {found['ratios']['driver_cpu']:.3f}")


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = common.parser(NAME, "Time a trial and memory of the driver over a sweep of many trivial trials.")
    parser.add_argument("--trials", type=common.count, default=1000, help="of the sweep (default 1000)")
    parser.add_argument("--slots", type=common.count, default=2, help="trials at the same time (default 2)")
    parser.add_argument("--block", type=common.count, default=BLOCK, help=f"trials of a block (default {BLOCK})")
    parser.add_argument("--only", choices=["sweep", "draws"], help="one of the two parts")
    options = parser.parse_args(arguments)
    least = WARM_UP + 2 * options.block
    if options.only != "draws" and options.trials < least:
        parser.error(f"--trials must be at least {least}, {WARM_UP} and two blocks, got {options.trials}")
    facts = common.machine(load_config("digits"))
    common.header(NAME, arguments, facts)
    figures: dict[str, Any] = {"trials": options.trials}
    with tempfile.TemporaryDirectory(prefix="mergenet-scale-") as folder:
        if options.only != "draws":
            figures["sweep"] = sweep(options.trials, options.slots, options.block, Path(folder))
        if options.only != "sweep":
            figures["draws"] = draws(options.trials, Path(folder))
    report(figures)
    if options.json:
        common.footer(NAME, facts, [0], figures)


if __name__ == "__main__":
    main()
