"""What a sweep of ResNet50 -> MobileNetV2 leaves on the disk, by `keep_checkpoints`, and what its recording takes.

Real runs with a live and with a recorded source are trained for two epochs and tidied as a sweep tidies them; their
folders are measured and multiplied. Batches are of two random images: they do not change the size of a checkpoint.
The recording is measured too, and multiplied by the transfer points of the preset cross-structure-full: 200 epochs of
351 steps, T_cycle 8.
"""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.step_overhead import BOTH, SOURCE_LAYER, T_CYCLE, loop_config, random_images
from mergenet.config import Config
from mergenet.data import DATASETS
from mergenet.records.kept import keep_only, size_of
from mergenet.training.run import train_run
from mergenet.transfer.source import record_source
from sweeps.config.choices import KEEP_FACTS

NAME = "disk"
MIB, GIB = 2**20, 2**30
STEPS, CYCLE = 200 * 351, 8  # of cross-structure-full on the 45,000 training images of CIFAR-100
WAYS = {
    "exact (the default)": (CYCLE, "fp32"),
    "record_dtype: bf16": (CYCLE, "bf16"),
    "record_every: 64": (64, "fp32"),
    "record_every: 64, record_dtype: bf16": (64, "bf16"),
}


def small(recording: Path | None = None, dtype: str = "fp32") -> Config:
    config = loop_config(BOTH, 2)
    changes: dict[str, Any] = {"batch_size": 2, "record_dtype": dtype}
    changes |= {} if recording is None else {"kind": "recorded", "recording": str(recording)}
    source = config.source.model_copy(update=changes)
    return config.model_copy(update={"source": source, "target": config.target.model_copy(update={"batch_size": 32})})


def kept(config: Config, folder: Path) -> dict[str, int]:
    """keep_checkpoints -> bytes of the run's folder once it has ended."""
    for _ in train_run(config, folder / "run"):
        pass
    sizes = {}
    for keep in KEEP_FACTS:
        copy = Path(shutil.copytree(folder / "run", folder / keep))
        keep_only(copy, keep)
        sizes[keep] = size_of(copy)
        shutil.rmtree(copy)
    shutil.rmtree(folder / "run")
    return sizes


def point(folder: Path, dtype: str) -> float:
    """Bytes of one transfer point of a recording, its part of the rest of the folder included."""
    config = small(dtype=dtype)
    for _ in record_source(config, folder / dtype, [SOURCE_LAYER], 1):
        pass
    return size_of(folder / dtype) / (config.epochs * T_CYCLE)


def measure(folder: Path) -> dict[str, Any]:
    points = {dtype: point(folder, dtype) for dtype in ("fp32", "bf16")}
    sides = {"live": small(), "recorded": small(folder / "fp32")}
    runs = {}
    for side, config in sides.items():
        (folder / side).mkdir()
        runs[side] = kept(config, folder / side)
    recordings = {name: points[dtype] * -(-STEPS // every) for name, (every, dtype) in WAYS.items()}
    return {"runs": runs, "recordings": recordings}


def report(figures: dict[str, Any], trials: int) -> None:
    print(f"\n{'an ended run, MiB':22}{''.join(f'{keep:>9}' for keep in KEEP_FACTS)}")
    for side, sizes in figures["runs"].items():
        print(f"{f'source {side}':22}{''.join(f'{sizes[keep] / MIB:9.1f}' for keep in KEEP_FACTS)}")
    print(f"{f'{trials} trials, GiB':22}")
    for side, sizes in figures["runs"].items():
        print(f"{f'source {side}':22}{''.join(f'{trials * sizes[keep] / GIB:9.2f}' for keep in KEEP_FACTS)}")
    print(f"\nthe recording of {SOURCE_LAYER} over {STEPS} steps, T_cycle {CYCLE}, GiB")
    for name, size in figures["recordings"].items():
        print(f"{name:40}{size / GIB:7.1f}")


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = common.parser(NAME, "Bytes that the runs of a sweep leave, and bytes of a recording.")
    parser.add_argument("--trials", type=common.count, default=100)
    options = parser.parse_args(arguments)
    DATASETS["random"] = random_images
    facts = common.machine(small())
    common.header(NAME, arguments, facts)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    report(figures, options.trials)
    if options.json:
        common.footer(NAME, facts, [small().seed], figures | {"trials": options.trials})


if __name__ == "__main__":
    main()
