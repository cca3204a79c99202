"""What the offline mirror on Weights & Biases adds to a trial.

A sequence of trials' events (queued, started, epochs, ended) goes through the mirror with W&B offline and through the
disabled one, in turn. Measured per trial are the seconds that delivering the events costs the driver's thread, and the
seconds until the mirror's own thread has written everything. Nothing trains: in a sweep the latter happens during
training. The client's memory is that of this process and of its helper.

Claim: at most 1 s a trial.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import common
from mergenet.config.loading import load_config
from sweeps.config.loading import load_sweep
from sweeps.tracking.wandb_mirror import Mirror
from sweeps.trials.messages import EndEvent, EventHead, JobEvent, JobOutcome, QueuedEvent, RowEvent, StartEvent

NAME = "wandb_overhead"
MAX_SECONDS = 1.0  # what is claimed
METRICS = 20  # of a row, about as many as a run records
CONFIG = load_config("openmoji").model_dump(mode="json")


def events(job: str, num_epochs: int) -> list[JobEvent]:
    head: EventHead = {"job": job, "role": "trial", "time": 0.0}
    rows = [{f"metric_{i}": epoch / 7 for i in range(METRICS)} | {"epoch": epoch} for epoch in range(1, num_epochs + 1)]
    params = {"transfer.t_cycle": 4}
    outcome: JobOutcome = {"state": "complete", "error": None}
    return [
        QueuedEvent(**head, event="queued", params=params, number=0, seed=0, method="mergenet", config=CONFIG),
        StartEvent(**head, event="started", group="g"),
        *(RowEvent(**head, event="row", row=row) for row in rows),
        EndEvent(**head, event="ended", **outcome),
    ]


def play(mirror: Mirror, names: Sequence[str], num_epochs: int) -> dict[str, float]:
    """Seconds a trial: of the delivery, and until all is written."""
    start = time.perf_counter()
    for name in names:
        for event in events(name, num_epochs):
            mirror(event)
    delivered = time.perf_counter() - start
    while not mirror.background.calls.empty():
        time.sleep(0.01)
    return {"deliver": delivered / len(names), "write": (time.perf_counter() - start) / len(names)}


def resident() -> float:
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def run(trials: int, num_epochs: int) -> dict[str, Any]:
    """Blocks of ten trials with and without, in turn; the first block starts the client and is reported separately."""
    offline = load_sweep("quickstart", ["wandb.mode=offline", "metric=target_val_top1"])
    disabled = load_sweep("quickstart", ["wandb.mode=disabled", "metric=target_val_top1"])
    blocks = []
    with tempfile.TemporaryDirectory() as folder:
        mirrors = {"offline": Mirror(offline, Path(folder), print), "disabled": Mirror(disabled, Path(folder), print)}
        for first in range(0, trials, 10):
            names = [f"trial-{number:03d}" for number in range(first, min(first + 10, trials))]
            blocks.append({key: play(mirror, names, num_epochs) for key, mirror in mirrors.items()})
            blocks[-1]["memory"] = {"MiB": resident()}
        mirrors["offline"].close()
    last = blocks[-1]
    added = {key: last["offline"][key] - last["disabled"][key] for key in ("deliver", "write")}
    return {"trials": trials, "epochs": num_epochs, "blocks": blocks, "added": added}


def report(figures: dict[str, Any]) -> None:
    print(f"\nseconds a trial of {figures['epochs']} epochs, blocks of ten trials")
    print(f"{'block':>6}{'offline: deliver':>18}{'write':>9}{'disabled: deliver':>19}{'memory, MiB':>13}")
    for number, block in enumerate(figures["blocks"]):
        on, off = block["offline"], block["disabled"]
        times = f"{on['deliver']:18.4f}{on['write']:9.3f}{off['deliver']:19.6f}"
        print(f"{number:6}{times}{block['memory']['MiB']:13.0f}")
    seconds = figures["added"]["write"]
    verdict = "holds" if seconds <= MAX_SECONDS else "DOES NOT HOLD"
    print(f"claim: W&B offline adds at most {MAX_SECONDS:g} s a trial: {seconds:.3f} s in the last block, {verdict}")


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = common.parser(NAME, "What the offline mirror on Weights & Biases adds to a trial.")
    parser.add_argument("--trials", type=common.count, default=60, help="trials each way (default 60: half a minute)")
    parser.add_argument("--epochs", type=common.count, default=10, help="epochs of a trial (default 10)")
    options = parser.parse_args(arguments)
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    facts = common.machine(load_config("openmoji"))
    common.header(NAME, arguments, facts)
    figures = run(options.trials, options.epochs)
    report(figures)
    if options.json:
        common.footer(NAME, facts, [], figures)


if __name__ == "__main__":
    main()
