"""What it would save to train the steps before `transfer.start_step` once for all trials of a sweep.

Until its first transfer a trial trains what every other one with the same seed trains. Here that prefix is trained
once, its networks, optimizers and random streams are put into fresh trainers of trials with other gates, and these
train on: the rest of their epochs and their weights must be those of the same trials trained alone, bit for bit.
ResNet50, recorded, -> MobileNetV2, as in step_overhead; in memory, so that writing and reading the state is not in it.
CPU time.
"""

import copy
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import common
from benchmarks.step_overhead import ALONE, T_CYCLE, loop_config, random_images, record
from mergenet.config import Config
from mergenet.data import DATASETS
from mergenet.training.trainer import Trainer

NAME = "prefix"
Row = dict[str, float]


def trial_config(recording: Path, epochs: int, share: float, gate: float) -> Config:
    """share: of training, before the first transfer."""
    config = loop_config(ALONE, epochs, recording)
    transfer = config.transfer.model_copy(
        update={
            "start_step": round(share * epochs) * T_CYCLE,
            "adapter": config.transfer.adapter.model_copy(update={"gate": gate}),
        }
    )
    return config.model_copy(update={"transfer": transfer})


def fork(trainer: Trainer, state: dict[str, Any]) -> None:
    """Puts a fresh trainer to where another one was before its first transfer. Its adapters have not begun."""
    own = trainer.state_dict()["transfer"]
    trainer.load_state_dict(copy.deepcopy(state) | {"transfer": own})


def trained(trainer: Trainer) -> tuple[list[Row], float]:
    """What its remaining epochs report, but for times, and the seconds of CPU that they take."""
    start = time.process_time()
    rows = [{k: v for k, v in row.metrics.items() if "seconds" not in k} for row in trainer.epochs()]
    return rows, time.process_time() - start


def measure(recording: Path, epochs: int, share: float, trials: int) -> dict[str, Any]:
    configs = [trial_config(recording, epochs, share, 0.05 + 0.1 * number) for number in range(trials)]
    first = Trainer(configs[0])
    start = time.process_time()
    for _ in range(round(share * epochs)):
        first._epoch()
    prefix, state = time.process_time() - start, copy.deepcopy(first.state_dict())
    alone, forked, different = 0.0, prefix, []
    for number, config in enumerate(configs):
        single, other = Trainer(config), Trainer(config)
        rows, seconds = trained(single)
        fork(other, state)
        rest, less = trained(other)
        alone, forked = alone + seconds, forked + less
        networks = [trainer.target.network.state_dict() for trainer in (single, other)]
        same = all(torch.equal(weight, networks[1][key]) for key, weight in networks[0].items())
        if not same or rest != rows[round(share * epochs) :]:
            different.append(number)
        print(
            f"trial {number + 1} of {trials}: {seconds:.1f} s alone, {less:.1f} s forked", file=sys.stderr, flush=True
        )
    return {"share": share, "trials": trials, "alone": alone, "forked": forked, "different": different}


def report(f: dict[str, Any]) -> None:
    same = "same bit for bit" if not f["different"] else f"DIFFERENT: trials {f['different']}"
    saved = 1 - f["forked"] / f["alone"]
    print(
        f"start_step at {f['share']:.0%} of training, {f['trials']} trials: {f['alone']:.0f} s alone, "
        f"{f['forked']:.0f} s with the prefix trained once, {saved:.1%} less; {same}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = common.parser(NAME, "Trials whose steps before the first transfer are trained once, and trials alone.")
    parser.add_argument("--trials", type=common.count, default=8)
    parser.add_argument("--epochs", type=common.count, default=10, help="of four steps each (default 10)")
    parser.add_argument("--shares", default="0.1,0.3", help="of training before start_step (default 0.1,0.3)")
    options = parser.parse_args(arguments)
    DATASETS["random"] = random_images
    facts = common.machine(loop_config(ALONE, 1))
    common.header(NAME, arguments, facts)
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        record(options.epochs, Path(folder))
        for share in map(float, options.shares.split(",")):
            figures.append(measure(Path(folder), options.epochs, share, options.trials))
            report(figures[-1])
    if options.json:
        common.footer(NAME, facts, [loop_config(ALONE, 1).seed], {"shares": figures})
    if any(f["different"] for f in figures):
        raise SystemExit("a trial that was forked differs from the same trial trained alone")


if __name__ == "__main__":
    main()
