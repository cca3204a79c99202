"""What a training step with transfer costs, against the same loop without it, at the sizes of the paper.

ResNet50 -> MobileNetV2, 32 x 32 images, 100 classes, batches of 32; one pair of convolutions, rank 16, depth 2,
T_cycle 4. Claims: a step costs at most 1.10 times as much (over whole cycles, both networks training), the default
adapter has at most half as many parameters as the target network, and following the source's basis adds at most 2 %.

Four loops take turns, one cycle each, so that a machine that slows down slows all of them; ratios are taken
within a round. The images are random: their content does not change what a step costs.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from benchmarks import common
from benchmarks.adapters import RUN_ADAPTER, AdapterCase, adapter_cases
from mergenet.config import Config, DataConfig
from mergenet.config.loading import load_config
from mergenet.data import DATASETS, ImageData, Split
from mergenet.data.images.images import image_data
from mergenet.layers.matrices import find_layer
from mergenet.records.run_record import EpochResult
from mergenet.training.trainer import Trainer
from mergenet.transfer.encodings import Followed, Projected
from mergenet.transfer.source import record_source

NAME = "step_overhead"
SOURCE_LAYER, TARGET_LAYER = "layer4.2.conv2", "features.16.conv.2"  # 512 x 512 x 3 x 3 -> 160 x 960
BATCH, T_CYCLE, CLASSES = 32, 4, 100
WARM_UP = 1  # warm-up rounds, not counted: kernels are chosen and memory is allocated in the first
MAX_RATIO, MAX_PARAMETERS, MAX_FOLLOWING = 1.10, 0.5, 0.02  # what is claimed
RECIPE = (
    "device=cpu",
    "threads=2",
    "source.data={name: random, image_size: 32}",
    "target.data={name: random, image_size: 32}",
    f"source.batch_size={BATCH}",
    f"target.batch_size={BATCH}",
    "source.optimizer.lr=0.01",  # random labels: a rate at which nothing diverges
    "target.optimizer.lr=0.01",
    f"transfer.t_cycle={T_CYCLE}",
    f"transfer.pairs=[{{source: {SOURCE_LAYER}, target: {TARGET_LAYER}}}]",
    "transfer.adapter={rank: 16, depth: 2}",
)
# loop -> what it changes in the recipe
BOTH, BOTH_NONE, ALONE, ALONE_NONE = "both_transfer", "both_none", "target_transfer", "target_none"
LOOPS = {
    BOTH: (),
    BOTH_NONE: ("transfer.stop_fraction=0",),  # the source trains beside the target, nothing is ever transferred
    ALONE: ("source.kind=recorded", "source.batch_size=2"),
    ALONE_NONE: ("method=none",),
}
PHASES = ("transfer", "source", "target", "adapter")


def random_images(config: DataConfig) -> ImageData:
    """As many training images as one cycle takes, so that an epoch of the trainer is one cycle."""
    generator = torch.Generator().manual_seed(config.split_seed)

    def split(size: int) -> Split:
        shape = (size, 3, config.image_size, config.image_size)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return Split(images, torch.randint(0, CLASSES, (size,), generator=generator))

    names = [str(label) for label in range(CLASSES)]
    return image_data(split(BATCH * T_CYCLE), split(1), split(1), names)


def loop_config(loop: str, cycles: int, recording: Path | None = None) -> Config:
    overrides = [*RECIPE, *LOOPS[loop], f"epochs={cycles}"]
    if loop == ALONE and recording is None:
        overrides.append("source.kind=live")
    elif loop == ALONE:
        overrides.append(f"source.recording='{recording}'")
    return load_config("cross-structure-full", overrides)


def record(cycles: int, folder: Path) -> None:
    """A recording to replay. Reading it costs the same whatever trained it, so tiny batches do."""
    for _ in record_source(loop_config(ALONE, cycles), folder, [SOURCE_LAYER], T_CYCLE):
        pass


@dataclass(frozen=True)
class Cycle:
    """phases: seconds of each phase by the trainer's own clock. cpu: seconds of all threads, evaluation included."""

    phases: dict[str, float]
    cpu: float

    @property
    def seconds(self) -> float:
        """Seconds of the steps, without the evaluation that ends the trainer's epoch."""
        return sum(self.phases.values())


def next_cycle(epochs: Iterator[EpochResult]) -> Cycle:
    start = time.process_time()
    result = next(epochs)
    assert result.step == result.epoch * T_CYCLE, "an epoch must be one cycle"
    return Cycle({phase: result.metrics[f"seconds_{phase}"] for phase in PHASES}, time.process_time() - start)


def measure(
    trainers: dict[str, Trainer], cases: dict[str, AdapterCase], cycles: int
) -> tuple[dict[str, list[Cycle]], dict[str, list[float]]]:
    """Per round: a cycle of each loop, and seconds of each adapter's forward and backward pass."""
    epochs = {loop: trainer.epochs() for loop, trainer in trainers.items()}
    loops: dict[str, list[Cycle]] = {loop: [] for loop in trainers}
    adapters: dict[str, list[float]] = {case: [] for case in cases}
    for number in range(WARM_UP + cycles):
        order = list(trainers)[:: 1 if number % 2 else -1]  # forth and back, so that no loop is always first
        for loop in order:
            loops[loop].append(next_cycle(epochs[loop]))
        for name, case in cases.items():
            start = time.perf_counter()
            case.run()
            adapters[name].append(time.perf_counter() - start)
        last = {loop: cycles_done[-1].seconds for loop, cycles_done in loops.items()}
        ratios = f"{last[BOTH] / last[BOTH_NONE]:.3f}, source recorded {last[ALONE] / last[ALONE_NONE]:.3f}"
        print(f"round {number + 1} of {WARM_UP + cycles}: both train {ratios}", file=sys.stderr, flush=True)
    return {k: v[WARM_UP:] for k, v in loops.items()}, {k: v[WARM_UP:] for k, v in adapters.items()}


def compare(with_transfer: list[Cycle], without: list[Cycle]) -> dict[str, float]:
    """Milliseconds a step, and the ratio of the cycles of one round: median and its 95 % bootstrap interval.

    Two more views of the same cycles, for machines that are not quiet:
    cpu_ratio: median ratio of CPU time, which other programs lengthen less than they lengthen wall time.
    phase_ratio: 1 + (transfer + adapter) / (source + target) by the trainer's clock, within the loop with transfer;
    blind to what transfer does to the speed of the rest.
    """
    first, second = (np.array([cycle.seconds for cycle in side]) for side in (with_transfer, without))
    ratios = first / second
    low, high = median_interval(ratios)
    cpu = [a.cpu / b.cpu for a, b in zip(with_transfer, without, strict=True)]
    sums = {phase: sum(cycle.phases[phase] for cycle in with_transfer) for phase in PHASES}
    return {
        "step_ms": 1e3 * float(np.median(first)) / T_CYCLE,
        "step_ms_none": 1e3 * float(np.median(second)) / T_CYCLE,
        "ratio": float(np.median(ratios)),
        "ratio_low": low,
        "ratio_high": high,
        "cpu_ratio": float(np.median(cpu)),
        "phase_ratio": 1 + (sums["transfer"] + sums["adapter"]) / (sums["source"] + sums["target"]),
    }


def median_interval(ratios: np.ndarray) -> tuple[float, float]:
    """95 % percentile-bootstrap interval of the median; all of the line for a single ratio."""
    if ratios.size < 2:
        return 0.0, float("inf")
    rng = np.random.default_rng(0)
    found = stats.bootstrap((ratios,), np.median, method="percentile", rng=rng).confidence_interval
    return float(found.low), float(found.high)


def run(cycles: int) -> dict[str, Any]:
    DATASETS["random"] = random_images
    total = WARM_UP + cycles
    with tempfile.TemporaryDirectory() as folder:
        record(total, Path(folder))
        trainers = {loop: Trainer(loop_config(loop, total, Path(folder))) for loop in LOOPS}
        cases = adapter_cases(trainers[BOTH])
        loops, adapters = measure(trainers, cases, cycles)
    size = sum(p.numel() for p in trainers[BOTH].target.network.parameters())
    alone, trains = compare(loops[ALONE], loops[ALONE_NONE]), compare(loops[BOTH], loops[BOTH_NONE])
    readings = {name: 1e3 * float(np.median(times)) for name, times in basis_readings(trainers[BOTH], cycles).items()}
    following = readings["current"] - readings["start"]
    return {
        "cycles": cycles,
        "source_trains": trains,
        "reading_ms": readings,
        "following_share": following / (T_CYCLE * trains["step_ms_none"]),
        "source_recorded": alone,
        "target_parameters": size,
        "adapters": {
            name: {
                "parameters": case.parameters,
                "parameters_ratio": case.parameters / size,
                "forward_backward_ms": 1e3 * float(np.median(adapters[name])),
                "target_steps": 1e3 * float(np.median(adapters[name])) / alone["step_ms_none"],
            }
            for name, case in cases.items()
        },
    }


def basis_readings(trainer: Trainer, count: int) -> dict[str, list[float]]:
    """Seconds of so many readings of the source's factor, in a basis that follows the weight and in a fixed one."""
    layer = find_layer(trainer.learners[1].network, SOURCE_LAYER)
    encodings: dict[str, Followed | Projected] = {"current": Followed(layer, 16), "start": Projected(layer, 16)}
    encodings["current"].read()  # its first reading takes an SVD, once a run
    times: dict[str, list[float]] = {name: [] for name in encodings}
    for _ in range(count):
        for name, encoding in encodings.items():
            start = time.perf_counter()
            encoding.read()
            times[name].append(time.perf_counter() - start)
    return times


def report(figures: dict[str, Any]) -> None:
    print(f"\ntraining step in ms, medians of {figures['cycles']} cycles of {T_CYCLE} steps")
    print(f"{'':24}{'none':>7}{'transfer':>9}   {'median ratio (95 % interval)':32}{'CPU ratio':12}ratio by phases")
    for label, key in (("both networks train", "source_trains"), ("source recorded", "source_recorded")):
        f = figures[key]
        ratio = f"{f['ratio']:.3f} ({f['ratio_low']:.3f} to {f['ratio_high']:.3f})"
        times = f"{label:24}{f['step_ms_none']:7.0f}{f['step_ms']:9.0f}"
        print(f"{times}   {ratio:32}{f['cpu_ratio']:<12.3f}{f['phase_ratio']:.3f}")
    size = figures["target_parameters"]
    print(f"\nadapter by itself; the target network has {size:,} parameters")
    print(f"{'':30}{'parameters':>12}{'x target':>10}{'forward + backward, ms':>24}{'x target step':>15}")
    for name, f in figures["adapters"].items():
        counts = f"{name:30}{f['parameters']:12,}{f['parameters_ratio']:10.3f}"
        print(f"{counts}{f['forward_backward_ms']:24.1f}{f['target_steps']:15.3f}")
    print()
    step = figures["source_trains"]
    share = figures["adapters"][RUN_ADAPTER]["parameters_ratio"]
    spread = step["ratio_low"], step["ratio_high"]
    claim("a step with transfer costs", "step without", step["ratio"], spread, MAX_RATIO)
    claim("the adapter's parameters are", "target's", share, (share, share), MAX_PARAMETERS)
    times, following = figures["reading_ms"], figures["following_share"]
    print(f"a reading of the source's factor: basis followed {times['current']:.1f} ms, fixed {times['start']:.1f} ms")
    claim("following the basis adds", "step", following, (following, following), MAX_FOLLOWING)


def claim(what: str, against: str, value: float, spread: tuple[float, float], limit: float) -> None:
    """A limit inside the interval is not decided."""
    low, high = spread
    unclear = "NOT DECIDED (the limit lies in the interval: more --cycles, a quieter machine)"
    verdict = "holds" if high <= limit else "DOES NOT HOLD" if low > limit else unclear
    print(f"claim: {what} at most {limit:.2f} x the {against}: {value:.3f}, {verdict}")


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = common.parser(NAME, "Cost of a training step with transfer against the same loop without it.")
    parser.add_argument("--cycles", type=common.count, default=16, help="cycles of each loop (default 16: minutes)")
    options = parser.parse_args(arguments)
    config = loop_config(BOTH, 1)
    facts = common.machine(config)
    common.header(NAME, arguments, facts)
    figures = run(options.cycles)
    report(figures)
    if options.json:
        common.footer(NAME, facts, [config.seed], figures)


if __name__ == "__main__":
    main()
