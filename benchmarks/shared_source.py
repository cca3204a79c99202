"""What it saves to train the source of a sweep once, at the sizes of the paper: ResNet50 -> MobileNetV2.

One sweep twice in one run, trial by trial the same draws: with a source that trains beside every trial, and with one
that is trained once, recorded and replayed. Random images of 32 x 32, 100 classes, a few steps: what an image shows
does not change what a step costs. Then the two again, each trial trained with three seeds. Every run's epochs and its
best weights must be the same bit for bit. Claim: at least 3 times less wall time.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from analysis.names import TRIALS_FOLDER
from benchmarks import common
from benchmarks.step_overhead import BATCH, RECIPE, random_images
from benchmarks.watched import Watched, watched_sweep
from mergenet.config import Config, DataConfig
from mergenet.config.loading import dump_yaml, load_config
from mergenet.data import ImageData
from mergenet.records.run_record import BEST_FILE, read_epochs
from sweeps.config.loading import dump_sweep, parse_sweep

NAME = "shared_source"
MIN_RATIO = 3.0  # what is claimed
SIDES = "live", "recorded"
SEARCH = {"transfer.t_cycle": {"choice": [1, 2, 4]}, "transfer.adapter.gate": {"float": [0.02, 0.5], "log": True}}


def images(config: DataConfig) -> ImageData:
    """Four batches of random training images, an epoch."""
    return random_images(config)


def base_config(epochs: int) -> Config:
    data = "{name: 'benchmarks.shared_source:images', image_size: 32}"
    both = [f"{side}.data={data}" for side in ("source", "target")]
    return load_config("cross-structure-full", [*RECIPE, *both, f"epochs={epochs}", "name=shared-source"])


def write_sweep(folder: Path, num_trials: int, epochs: int, seeds: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "base.yaml").write_text(dump_yaml(base_config(epochs)), encoding="utf-8")
    values = {"name": NAME, "base": str(folder / "base.yaml"), "search": SEARCH, "num_trials": num_trials}
    fixed = {"sampler": "random", "scheduler": "none", "slots": 1, "confirm_seeds": 0, "seeds_per_trial": seeds}
    path = folder / "sweep.yaml"
    path.write_text(dump_sweep(parse_sweep(values | fixed, NAME)), encoding="utf-8")
    return path


def training_seconds(watched: Watched) -> float:
    """From the start of the first job to the end of the last: without Python, Ray and the summary."""
    times = [event["time"] for event in watched.events]
    return float(max(times) - min(times))


def cpu_seconds(watched: Watched) -> float:
    """Of the driver and all that it started, as the last job ends; what else the machine does lengthens this less."""
    last = watched.events[-1]
    return float(last["driver_cpu"] + last["others_cpu"])


def differences(one: Path, other: Path) -> Iterator[str]:
    """Runs of two sweeps that are not the same: metrics of an epoch (but for seconds), or the best weights."""
    names = sorted(path.name for path in (one / TRIALS_FOLDER).iterdir())
    if names != sorted(path.name for path in (other / TRIALS_FOLDER).iterdir()):
        yield "the list of runs"
        return
    for name in names:
        runs = [sweep / TRIALS_FOLDER / name for sweep in (one, other)]
        rows = [[{k: v for k, v in row.items() if "seconds" not in k} for row in read_epochs(run)] for run in runs]
        weights = [load_file(run / BEST_FILE) for run in runs]
        same = weights[0].keys() == weights[1].keys()
        same = same and all(torch.equal(weight, weights[1][key]) for key, weight in weights[0].items())
        if rows[0] != rows[1] or not same:
            yield name


def compare(folder: Path, num_trials: int, epochs: int, seeds: int) -> dict[str, Any]:
    """Seconds of both sides, their ratios (live over recorded), and the runs that came out different."""
    sweep = write_sweep(folder, num_trials, epochs, seeds)
    whole, training, cpu = dict[str, float](), dict[str, float](), dict[str, float]()
    for side in SIDES:
        watched = watched_sweep(sweep, folder / side, *(["live"] if side == "live" else []))
        whole[side], training[side], cpu[side] = watched.seconds, training_seconds(watched), cpu_seconds(watched)
    return {
        "trials": num_trials,
        "seeds_per_trial": seeds,
        "steps": epochs * len(images(base_config(1).target.data).train.labels) // BATCH,
        "seconds": whole,
        "training_seconds": training,
        "cpu_seconds": cpu,
        "ratio": whole["live"] / whole["recorded"],
        "training_ratio": training["live"] / training["recorded"],
        "cpu_ratio": cpu["live"] / cpu["recorded"],
        "different": list(differences(folder / "live", folder / "recorded")),
    }


def report(f: dict[str, Any]) -> None:
    print(f"\n{f['trials']} trials of {f['steps']} steps, {f['seeds_per_trial']} seed(s) each; seconds")
    print(f"{'':26}{'live':>8}{'recorded':>10}{'ratio':>8}")
    lines = (
        ("whole sweep", "seconds", "ratio"),
        ("first job to last", "training_seconds", "training_ratio"),
        ("CPU time", "cpu_seconds", "cpu_ratio"),
    )
    for label, key, ratio in lines:
        print(f"{label:26}{f[key]['live']:8.0f}{f[key]['recorded']:10.0f}{f[ratio]:8.2f}")
    same = "every run the same bit for bit" if not f["different"] else f"DIFFERENT: {', '.join(f['different'])}"
    verdict = "holds" if f["ratio"] >= MIN_RATIO else "DOES NOT HOLD"
    print(f"{same}; claim: at least {MIN_RATIO:g} times less wall time: {f['ratio']:.2f}, {verdict}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = common.parser(NAME, "A sweep with a source that trains beside every trial, and with one that is recorded.")
    parser.add_argument("--trials", type=common.count, default=8, help="trials of each sweep (default 8)")
    parser.add_argument("--epochs", type=common.count, default=4, help="of four steps each (default 4)")
    parser.add_argument("--seeds", default="1,3", help="seeds per trial, a pair of sweeps for each (default 1,3)")
    options = parser.parse_args(arguments)
    config = base_config(options.epochs)
    facts = common.machine(config)
    common.header(NAME, arguments, facts)
    figures = {}
    for seeds in options.seeds.split(","):
        with tempfile.TemporaryDirectory() as folder:
            figures[seeds] = compare(Path(folder) / "sweeps", options.trials, options.epochs, int(seeds))
        report(figures[seeds])
    if options.json:
        common.footer(NAME, facts, [config.seed], figures)
    if any(f["different"] for f in figures.values()):
        raise SystemExit("a recorded source has given other results than a live one")


if __name__ == "__main__":
    main()
