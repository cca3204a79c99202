"""What a trial costs beyond its training, and how much of a sweep's wall time is training.

Three sides in one run:

slots       a sweep of trivial trials with worker groups that train trial after trial
per_trial   the same sweep with a worker group for each trial
alone       the same trainings one after the other in this process, as `mergenet train` does them

A trial's time in a slot runs from the end of the job before it to its own end; its overhead is that time without the
phases of its epochs (seconds_* of epochs.jsonl: steps and validation): drawing, messages, processes, but also what
every run does: building networks, reading data, the test split, checkpoints and other files. `alone` has only the
latter.

Then a quickstart, timed from outside. Training time is when at least one run is in such a phase; the stricter share
beside it is the runs' seconds of training over slots x wall.

Claims: with slots at most 0.5 s a trial after warm-up; a quickstart trains for at least 60 % of its wall time.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, trivial
from benchmarks.cycles import covered, cycles, training, warm
from benchmarks.revisions import checkout
from benchmarks.watched import watched_sweep
from mergenet.config.loading import load_config, parse_config
from mergenet.records.run_record import read_epochs
from mergenet.training.run import train_run
from sweeps.config.loading import dump_sweep, load_sweep

NAME = "trial_overhead"
MAX_SECONDS = 0.5  # a trial beyond its training, with slots: what is claimed
MIN_SHARE = 0.6  # of a quickstart's wall time: what is claimed
WARM_UP = 2  # warm-up trials of a slot, or alone: they import, read and start what later ones reuse
SLOTS = 2
PARTS = "slots", "per_trial", "alone", "quickstart"


def executor(name: str, num_trials: int, folder: Path) -> dict[str, Any]:
    """One side: seconds of its trials after warm-up. per_trial warms up nothing: each trial has new processes."""
    sweep = trivial.write_sweep(folder / name, num_trials, executor=name, slots=SLOTS)
    watched = watched_sweep(sweep, folder / f"{name}-sweep")
    trials = warm(cycles(watched.events), WARM_UP if name == "slots" else 0)
    return {
        "trials": len(trials),
        "beyond": spread([trial.beyond for trial in trials]),
        "waited": spread([trial.waited for trial in trials]),
        "trained": spread([trial.trained for trial in trials]),
    }


def alone(num_trials: int, folder: Path) -> dict[str, Any]:
    """The other side: the trainings alone, one after the other."""
    config = parse_config(trivial.base_values(), "the trivial trial")
    beyond, trained = [], []
    for number in range(WARM_UP + num_trials):
        run = folder / f"alone-{number}"
        start = time.perf_counter()
        for _ in train_run(config, run):
            pass
        whole = time.perf_counter() - start
        trained.append(training_seconds(run))
        beyond.append(whole - trained[-1])
    return {"trials": num_trials, "beyond": spread(beyond[WARM_UP:]), "trained": spread(trained[WARM_UP:])}


def training_seconds(run: Path) -> float:
    """Of a run folder: the phases of all its epochs."""
    return sum(value for row in read_epochs(run) for name, value in row.items() if name.startswith("seconds_"))


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "mean": float(np.mean(values)), "most": float(np.max(values))}


def quickstart(name: str, folder: Path, code: Path | None = None) -> dict[str, Any]:
    """The sweep from the start of its process to its end. training, shares: see the docstring above.

    code: of another commit, whose own sweep of that name runs.
    """
    sweep = load_sweep(name)
    file = folder / "quickstart.yaml"
    file.write_text(dump_sweep(sweep), encoding="utf-8")
    side = "now" if code is None else "before"
    watched = watched_sweep(file if code is None else Path(name), folder / f"quickstart-{side}", code=code)
    spans = training(watched.events)
    together, wall = covered(spans), watched.seconds
    slot_share = sum(end - start for start, end in spans) / (sweep.slots * wall)
    shares = {"share": together / wall, "slot_share": slot_share}
    ends = {"first_epoch": watched.first_epoch, "after": watched.after}
    return {"wall": wall, "training": together} | ends | shares


def report(figures: dict[str, Any]) -> None:
    sides = [name for name in PARTS if name in figures and name != "quickstart"]
    if sides:
        print("\nseconds a trial" + 17 * " " + "beyond its training" + 12 * " " + "before it began    training")
        print(f"{'':>10}{'trials':>8}{'median':>17}{'mean':>9}{'most':>9}{'median':>22}{'median':>12}")
    for name in sides:
        side = figures[name]
        waited = f"{side['waited']['median']:22.3f}" if "waited" in side else f"{'-':>22}"
        times = "".join(f"{side['beyond'][key]:{9 if key != 'median' else 17}.3f}" for key in side["beyond"])
        print(f"{name:>10}{side['trials']:8}{times}{waited}{side['trained']['median']:12.3f}")
    if "slots" in figures:
        seconds = figures["slots"]["beyond"]["median"]
        verdict = "holds" if seconds <= MAX_SECONDS else "DOES NOT HOLD"
        print(f"claim: slots take at most {MAX_SECONDS:g} s a trial beyond its training: {seconds:.3f} s, {verdict}")
    if (whole := figures.get("quickstart")) is not None:
        print(f"\nquickstart: {whole['training']:.0f} s of {whole['wall']:.0f} s some run trains; ", end="")
        print(f"the first epoch has trained after {whole['first_epoch']:.1f} s; ", end="")
        print(f"it ends {whole['after']:.1f} s after its last job; ", end="")
        print(f"slot-seconds of training over slots x wall: {whole['slot_share']:.0%}")
        verdict = "holds" if whole["share"] >= MIN_SHARE else "DOES NOT HOLD"
        if (before := figures.get("before")) is not None:
            ratios = {key: whole[key] / before[key] for key in ("first_epoch", "wall")}
            print(
                f"before: {before['wall']:.0f} s, first epoch after {before['first_epoch']:.1f} s, "
                f"ends {before['after']:.1f} s after its last job; now / before: ",
                end="",
            )
            print(f"first epoch {ratios['first_epoch']:.2f}, whole {ratios['wall']:.2f}")
        print(f"claim: at least {MIN_SHARE:.0%} of its wall time is training: {whole['share']:.0%}, {verdict}")


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = common.parser(NAME, "What a trial costs beyond its training, and how much of a quickstart is training.")
    parser.add_argument("--trials", type=common.count, default=40, help="of slots, and alone (default 40)")
    parser.add_argument("--per-trial", type=common.count, default=8, help="of per_trial (default 8)")
    parser.add_argument("--sweep", default="quickstart", help="what stands for the quickstart, a name or a file")
    parser.add_argument("--against", metavar="REV", help="an earlier commit, whose quickstart runs in turn")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, separated by commas (of {', '.join(PARTS)})")
    options = parser.parse_args(arguments)
    parts = options.only.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"--only must be of {', '.join(PARTS)}, got {unknown[0]!r}")
    if options.trials <= SLOTS * (WARM_UP + 1):
        parser.error(f"--trials must be more than {SLOTS * (WARM_UP + 1)}, the warm-up, got {options.trials}")
    facts = common.machine(load_config("openmoji"))
    common.header(NAME, arguments, facts)
    with (
        tempfile.TemporaryDirectory(prefix="mergenet-overhead-") as text,
        checkout(options.against, Path(text) / "code") as before,
    ):
        folder = Path(text)
        measure = {
            "slots": lambda: executor("slots", options.trials, folder),
            "per_trial": lambda: executor("per_trial", options.per_trial, folder),
            "alone": lambda: alone(options.trials, folder),
            "quickstart": lambda: quickstart(options.sweep, folder),
        }
        figures = {name: measure[name]() for name in PARTS if name in parts}
        if before is not None:
            figures["before"] = quickstart(options.sweep, folder, before)
    report(figures)
    if options.json:
        common.footer(NAME, facts, [0], figures)


if __name__ == "__main__":
    main()
