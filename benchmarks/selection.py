"""What does "the best test epoch of 20 runs against one baseline run" yield without any effect?

The release reports that way (docs/settings/as-released.md). First the mathematics: how far the best of n equal runs
lies above one. Then real runs: the target of `openmoji` is trained by itself with several seeds, and the test split is
read after every epoch, which the trainer never does. Comparisons drawn among these runs have no true difference.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.names import POINTS
from benchmarks import chance, common, paired_runs
from benchmarks.chance import Curves, Leads, Paired
from benchmarks.paired_runs import WITHOUT, Setting
from mergenet.config import Config
from mergenet.errors import ConfigError
from mergenet.training.trainer import Trainer

NAME = "selection"
PRESET = "openmoji"
CURVES = "curves"  # the one variant: the target by itself
RNG_SEED = 0  # of the draws
DRAWS = 100_000
HONEST_SEEDS = (3, 6, 12)

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A run that is not in `out` yet."""

    config: Config
    key: str
    out: Path
    code: str


def parse(arguments: Sequence[str]) -> Any:
    parser = common.parser(NAME, "What the best test epoch of many runs yields where there is no effect.")
    parser.add_argument("--runs", type=common.count, default=20, help="runs of which the best is taken (default 20)")
    parser.add_argument("--epochs", type=common.count, default=12, help="epochs of a run (default 12)")
    parser.add_argument("--seeds", type=common.count, default=12, help="runs to train and draw from (default 12)")
    parser.add_argument("--first-seed", type=int, default=400, metavar="K", help="seeds are K, K + 1, ... (400)")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="a setting of all runs")
    parser.add_argument("--jobs", type=common.count, default=2, help="runs side by side (default 2)")
    parser.add_argument("--out", type=Path, default=Path(f"runs/{NAME}.jsonl"), help="file of finished runs")
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        raise ConfigError(f"--seeds must be at least 2, got {options.seeds}: one run cannot be drawn in two ways")
    return options


def setting_of(options: argparse.Namespace) -> Setting:
    return Setting(PRESET, {CURVES: WITHOUT}, (f"epochs={options.epochs}", *options.set))


def train(config: Config) -> Row:
    """One run: the metric on the validation and on the test split after every epoch, fractions."""
    start = time.perf_counter()
    trainer = Trainer(config)
    metric = trainer.target.task.metric
    val, test = [], []
    for result in trainer.epochs():
        val.append(result.metrics[trainer.target.metric])
        test.append(trainer.target.evaluate("test")[metric])
    return {"metric": metric, "val": val, "test": test, "seconds": round(time.perf_counter() - start, 1)}


def run_job(job: Job) -> int:
    """Trains and records one run; returns its seed."""
    named = {"key": job.key, "variant": CURVES, "seed": job.config.seed}
    paired_runs.append(job.out, named | train(job.config) | {"code": job.code})
    return job.config.seed


def run(setting: Setting, seeds: Sequence[int], out: Path, jobs: int) -> list[Row]:
    """The rows of all seeds; trains those that `out` lacks."""
    done, code = paired_runs.read(out), paired_runs.code_hash()
    keys = {seed: setting.key(CURVES, seed) for seed in seeds}
    todo = [Job(setting.config(CURVES, seed), key, out, code) for seed, key in keys.items() if key not in done]
    print(f"{len(todo)} runs to train, {len(keys) - len(todo)} found in {out}", file=sys.stderr)
    paired_runs.train_all(run_job, todo, jobs)
    return paired_runs.rows_of(out, keys.values(), code)


def curves_of(rows: Sequence[Row]) -> Curves:
    return Curves(np.array([row["val"] for row in rows]), np.array([row["test"] for row in rows]))


def theory(runs: int) -> dict[str, float]:
    """For independent, identically distributed normal runs, in standard deviations of a run."""
    tail = (1 - chance.CONFIDENCE) / 2
    return {
        "expected_maximum": chance.expected_maximum(runs),
        "low": chance.lead_quantile(runs, tail),
        "high": chance.lead_quantile(runs, 1 - tail),
        "ahead": chance.share_ahead(runs),
    }


def spread(curves: Curves) -> dict[str, dict[str, float]]:
    """Mean (fraction) and standard deviation (points) of a run's test accuracy, by the epoch that is taken."""
    taken = {"last epoch": curves.last, "validation's": curves.by_validation, "best on test": curves.by_test}
    return {name: {"mean": float(v.mean()), "sd": POINTS * float(v.std(ddof=1))} for name, v in taken.items()}


def report_theory(runs: int, found: dict[str, float]) -> None:
    print(f"\nthe best of {runs} runs against one, all alike, independent and normal; in standard deviations of a run")
    low, high = found["low"], found["high"]
    print(f"  expected lead {found['expected_maximum']:.3f}, 95 % of the leads in {low:+.2f} to {high:+.2f}")
    print(f"  the best is ahead in {100 * found['ahead']:.1f} % of the comparisons ({runs} of {runs + 1})")


def report_runs(rows: Sequence[Row], curves: Curves, found: dict[str, dict[str, float]], runs: int) -> None:
    print(f"\nthe target by itself: {rows[0]['metric']} on test in %, by the epoch that is taken")
    print(f"{'seed':>6}" + "".join(f"{name:>15}" for name in found))
    for row, *values in zip(rows, curves.last, curves.by_validation, curves.by_test, strict=True):
        print(f"{row['seed']:6}" + "".join(f"{POINTS * value:15.2f}" for value in values))
    print(f"{'mean':>6}" + "".join(f"{POINTS * value['mean']:15.2f}" for value in found.values()))
    print(f"{'sd':>6}" + "".join(f"{value['sd']:15.2f}" for value in found.values()))
    sd, expected = found["validation's"]["sd"], chance.expected_maximum(runs)
    product = f"{expected:.2f} x {sd:.2f} = {expected * sd:.2f} points"
    print(f"in theory the best of {runs}, epochs chosen by validation, leads by {product}")


def report_protocols(found: dict[str, Leads], curves: Curves) -> None:
    values = curves.by_validation
    print(f"\nleads without any effect, points; {DRAWS:,} draws from these {len(values)} runs, seed {RNG_SEED}")
    if values.std() > 0:
        above = (values.max() - values.mean()) / values.std(ddof=1)
        print(f"low: no draw beats the best of these runs, {above:.2f} sd above their mean at validation's epoch")
    width = max(map(len, found))
    heads = "".join(f"{f'above {lead:g}':>9}" for lead in chance.LEADS)
    print(f"{'':{width}}{'mean':>8}   {'95 % of the draws':18}{heads}")
    for name, lead in found.items():
        print(f"{name:{width}}{_cells(lead)}")


def report_honest(found: Sequence[Paired]) -> None:
    print("\nmean of paired differences, epochs chosen by validation, no effect; 95 % t interval")
    heads = "".join(f"{f'above {lead:g}':>9}" for lead in chance.LEADS)
    shown = f"{'shows gain':>12}{'shows harm':>12}{'half width':>12}"
    print(f"{'':8}{'mean':>8}   {'95 % of the draws':18}{heads}{shown}")
    for one in found:
        shares = "".join(f"{100 * share:10.1f} %" for share in (one.shows_gain, one.shows_harm))
        print(f"{one.seeds:2} seeds{_cells(one.leads)}{shares}{one.half_width:12.2f}")


def _cells(lead: Leads) -> str:
    interval = f"{lead.low:+.2f} to {lead.high:+.2f}"
    return f"{lead.mean:+8.2f}   {interval:18}" + "".join(f"{100 * share:7.1f} %" for share in lead.ahead)


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    with paired_runs.errors_told():
        options = parse(arguments)
        setting = setting_of(options)
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        facts = common.machine(setting.config(CURVES, seeds[0])) | {"jobs": options.jobs}
        common.header(NAME, arguments, facts)
        print(f"{PRESET}, method none, {options.epochs} epochs, seeds {seeds[0]} to {seeds[-1]}", flush=True)
        rows = run(setting, seeds, options.out, options.jobs)
    curves = curves_of(rows)
    expected, spreads = theory(options.runs), spread(curves)
    protocols = chance.protocols(curves, options.runs, DRAWS, RNG_SEED)
    honest = chance.honest(curves, HONEST_SEEDS, DRAWS, RNG_SEED)
    report_theory(options.runs, expected)
    report_runs(rows, curves, spreads, options.runs)
    report_protocols(protocols, curves)
    report_honest(honest)
    if options.json:
        figures = {
            "runs": rows,
            "theory": expected,
            "spread": spreads,
            "protocols": {name: asdict(lead) for name, lead in protocols.items()},
            "paired": [asdict(one) for one in honest],
            "draws": DRAWS,
            "draws_seed": RNG_SEED,
        }
        common.footer(NAME, facts, seeds, figures)


if __name__ == "__main__":
    main()
