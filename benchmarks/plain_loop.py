"""What a training step costs beyond the same step written by hand in PyTorch, for each preset that needs no download.

Ours without transfer (method: none) against a plain loop (plain_steps.py) with the same network, starting weights,
batches, dropout, learning rates and optimizer. At the end both must hold the same weights, bit for bit. The two take
turns every hundredth of a second, so that a machine that slows down slows both. Both train on one thread, and CPU time
is compared, which others on the machine disturb less than wall time. Claim: ours costs at most 1.03 times as much.
"""

import copy
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks import common
from benchmarks.plain_steps import PlainLoop, plain_optimizer
from benchmarks.step_overhead import median_interval
from mergenet.config import Config
from mergenet.config.loading import load_config
from mergenet.config.preset_names import presets
from mergenet.learner.optim import learning_rate
from mergenet.training.trainer import Trainer

NAME = "plain_loop"
MAX_RATIO = 1.03  # what is claimed
WARM_UP = 5  # steps, not counted
TRIES = ("foreach", "fused", "compile")  # of the plain loop: torch's other optimizers, and torch.compile
MAX_STEPS = 50_000  # of a preset
TURN = 0.01  # seconds, about, or one step: shorter turns would time how a step finds the cache after the other side's
ROUND = 0.1  # seconds of each side in a round, about: a ratio is taken of each


def embedded() -> list[str]:
    """The presets whose data and weights come with the package."""
    return [name for name in presets() if not name.endswith("-full")]


def preset_config(preset: str, seed: int) -> Config:
    """With more epochs, so that there are steps enough to time; a step of it is the preset's."""
    return load_config(preset, ["method=none", "device=cpu", f"seed={seed}", "epochs=10000"])


def plain_loop(trainer: Trainer, attempt: str = "") -> PlainLoop:
    """The plain loop that trains what `trainer`, which has not begun, trains. attempt: one of TRIES."""
    config, total = trainer.config, trainer.total_steps
    network = copy.deepcopy(trainer.target.network)
    how = {attempt: True} if attempt in ("foreach", "fused") else {}
    optimizer = plain_optimizer(config.target.optimizer, network.parameters(), **how)
    rates = [
        learning_rate(config.target.optimizer, n, total, trainer.steps_per_epoch) for n in range(min(total, MAX_STEPS))
    ]
    if attempt == "compile":
        network.compile()
    seed = config.seed if config.target.seed is None else config.target.seed
    return PlainLoop(network, optimizer, config.target, seed, rates)


def timed(step: Callable[[int], object], number: int, reseed: bool) -> tuple[float, float]:
    """Seconds of wall time and of CPU time. reseed: both sides draw their dropout from torch's global generator."""
    if reseed:
        torch.manual_seed(number)
    wall, cpu = time.perf_counter(), time.process_time()
    step(number)
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(preset: str, seed: int, rounds: int, attempt: str = "") -> dict[str, Any]:
    """CPU milliseconds of a step, medians, and the ratio of the steps of each round: median and 95 % interval.

    Of the trainer to the plain loop; with an attempt, of the plain loop that makes it to the one that does not.
    """
    trainer = Trainer(preset_config(preset, seed))
    plain = plain_loop(trainer)
    tried = plain_loop(trainer, attempt) if attempt else None
    first = tried.step if tried else trainer._step
    sides: tuple[Callable[[int], object], ...] = (first, plain.step)
    warm = [[timed(step, number, bool(tried)) for step in sides] for number in range(WARM_UP)]
    seconds = min(one[0] for one, _ in warm)
    turn = max(1, round(TURN / seconds))
    size = turn * max(2, round(ROUND / (turn * seconds)))
    rounds = min(rounds, (MAX_STEPS - WARM_UP) // size)
    times: list[list[tuple[float, float]]] = [[], []]
    for start in range(WARM_UP, WARM_UP + size * rounds, turn):
        for side in (0, 1) if start // turn % 2 else (1, 0):  # forth and back, so that neither is always first
            times[side] += [timed(sides[side], number, bool(tried)) for number in range(start, start + turn)]
    network = tried.network if tried else trainer.target.network
    both = zip(network.state_dict().values(), plain.network.state_dict().values(), strict=True)
    wall, cpu = (np.array([[pair[i] for pair in side] for side in times]) for i in range(2))
    per_round = cpu.reshape(2, rounds, size).sum(axis=2)
    ratios, medians = per_round[0] / per_round[1], 1e3 * np.median(cpu, axis=1)
    low, high = median_interval(ratios)
    return {
        "steps": size * rounds,
        "step_ms": float(medians[0]),
        "step_ms_plain": float(medians[1]),
        "ratio": float(np.median(ratios)),
        "ratio_low": low,
        "ratio_high": high,
        "ratio_of_medians": float(medians[0] / medians[1]),
        "wall_ratio": float(np.divide(*np.median(wall, axis=1))),
        "first_step_s": warm[0][0][0],
        "same_weights": all(torch.equal(one, other) for one, other in both),
    }


def report(name: str, f: dict[str, Any], verdict: str) -> None:
    ratio = f"{f['ratio']:.3f} ({f['ratio_low']:.3f} to {f['ratio_high']:.3f})"
    times = f"{f['steps']:8}{f['step_ms_plain']:10.2f}{f['step_ms']:10.2f}"
    more = f"{f['ratio_of_medians']:9.3f}{f['wall_ratio']:7.3f}"
    same = "same weights" if f["same_weights"] else "OTHER WEIGHTS"
    print(f"{name:24}{times}   {ratio:25}{more}   {same}, {verdict}", flush=True)


def claimed(f: dict[str, Any]) -> str:
    if f["ratio_high"] <= MAX_RATIO:
        return f"at most {MAX_RATIO}"
    return f"above {MAX_RATIO}" if f["ratio_low"] > MAX_RATIO else f"{MAX_RATIO} not decided"


def run(names: Sequence[str], seed: int, rounds: int, tries: bool) -> dict[str, Any]:
    print("\nCPU time of a step in ms, median; ratio of the steps of a round, median with its 95 % interval")
    print(f"{'':24}{'steps':>8}{'by hand':>10}{'ours':>10}   {'ratio':25}{'medians':>9}{'wall':>7}")
    figures: dict[str, Any] = {}
    for preset in names:
        figures[preset] = f = measure(preset, seed, rounds)
        report(preset, f, claimed(f))
        for attempt in TRIES if tries else ():
            f[attempt] = tried = measure(preset, seed, rounds, attempt)
            report(f"  by hand, {attempt}", tried, f"first step {tried['first_step_s']:.1f} s")
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = common.parser(NAME, "Cost of a training step beyond the same step written by hand in PyTorch.")
    parser.add_argument("--rounds", type=common.count, default=40, help="rounds of each preset (default 40)")
    parser.add_argument("--presets", default=",".join(embedded()), help="which, separated by commas")
    parser.add_argument("--tries", action="store_true", help=f"the plain loop with {', '.join(TRIES)}, too")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    names = options.presets.split(",")
    facts = common.machine(preset_config(names[0], options.seed))
    common.header(NAME, arguments, facts)
    figures = run(names, options.seed, options.rounds, options.tries)
    if options.json:
        common.footer(NAME, facts, [options.seed], figures)
    if not all(f["same_weights"] for f in figures.values()):
        raise SystemExit("the plain loop has trained other weights than the trainer, so the two are not the same work")


if __name__ == "__main__":
    main()
