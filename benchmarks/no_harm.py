"""Does transfer with default settings cost the target accuracy? Paired seeds with and without it, one recipe.

Variants are trained beside `baseline` (the target by itself): `real` shows the adapter the source, the controls
`shuffled`, `noise` and `none` do not. A seed's source is recorded once and replayed in all of its variants; `live`
trains it beside the target instead, to see that the replay is bitwise the same.

Every finished run is a line of --out, so an interrupted benchmark goes on, and a setting is never trained twice.
"""

import hashlib
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.paired import compare_all, report
from mergenet.checkpoint import save_tensors
from mergenet.config import Config
from mergenet.configfile import load_config
from mergenet.errors import ConfigError, UserError, unknown_name
from mergenet.record import config_hash
from mergenet.source import record_source
from mergenet.trainer import Trainer

NAME = "no_harm"
PRESET = "openmoji"
RECIPE = ("device=cpu", "threads=1")  # one thread a run: several runs side by side, each reproducible
BASELINE = "baseline"
VARIANTS = {
    # transfer and source settings do not reach the baseline: one training serves all of them
    BASELINE: ("method=none", "source={}", "transfer={}"),
    "real": ("transfer.control=real",),
    "shuffled": ("transfer.control=shuffled",),
    "noise": ("transfer.control=noise",),
    "none": ("transfer.control=none",),
    "live": ("transfer.control=real",),
}


@dataclass(frozen=True)
class Job:
    """All runs of one seed that are not in `out` yet."""

    seed: int
    variants: tuple[str, ...]
    overrides: tuple[str, ...]
    out: Path
    code: str


def variant_config(variant: str, seed: int, overrides: Sequence[str]) -> Config:
    return load_config(PRESET, [*RECIPE, *overrides, *VARIANTS[variant], f"seed={seed}"])


def key(variant: str, seed: int, overrides: Sequence[str]) -> str:
    """Identifies a run in the file of results: one variant of one exact configuration."""
    return f"{variant}/{config_hash(variant_config(variant, seed, overrides))}"


def code_hash() -> str:
    """Of the trainer's source files: results of other code are not comparable without a look."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parent.parent / "mergenet").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def replayable(config: Config) -> bool:
    """Whether the source's trajectory can be recorded: it trains, receives nothing, and stays as it is."""
    one_way = all(pair.direction == "to_target" for pair in config.transfer.pairs)
    return config.source.kind == "live" and one_way and config.transfer.adapter.encoding == "projected"


def run_seed(job: Job) -> int:
    """Trains the variants of one seed, the recording of its source first; returns the seed."""
    with tempfile.TemporaryDirectory() as folder:
        replaying = [v for v in job.variants if v not in (BASELINE, "live")]
        recording: list[str] = []
        if replaying:
            recording = record(variant_config(replaying[0], job.seed, job.overrides), Path(folder))
        for variant in job.variants:
            extra = recording if variant in replaying else []
            row = train(variant_config(variant, job.seed, [*job.overrides, *extra]))
            named = {"key": key(variant, job.seed, job.overrides), "variant": variant, "seed": job.seed}
            append(job.out, named | row | {"code": job.code})
    return job.seed


def record(config: Config, folder: Path) -> list[str]:
    """Trains the source once; returns the overrides that replay it, none if it must train live."""
    if not replayable(config):
        return []
    layers = list(dict.fromkeys(pair.source for pair in config.transfer.pairs))
    for _ in record_source(config, folder, layers, config.transfer.t_cycle):
        pass
    return ["source.kind=recorded", f"source.recording={json.dumps(str(folder))}"]


def train(config: Config) -> dict[str, Any]:
    """One run in memory: accuracies (fractions) at its best validation epoch, and a hash of the weights there."""
    start = time.perf_counter()
    trainer = Trainer(config)
    metrics: dict[str, float] = {}
    for result in trainer.epochs():
        metrics = result.metrics
    assert trainer.best is not None
    tests = trainer.test()
    return {
        "val": trainer.best.value,
        "test": tests["target_test_top1"],
        "test_loss": tests["target_test_loss"],
        "best_epoch": trainer.best.epoch,
        "source_val": metrics.get("source_val_top1"),
        "source_dependence": metrics.get("source_dependence"),
        "weights": weights_hash(trainer),
        "seconds": round(time.perf_counter() - start, 1),
    }


def weights_hash(trainer: Trainer) -> str:
    """Equal if and only if every parameter and buffer of the best network is, bit for bit."""
    assert trainer.best is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "best.safetensors"
        save_tensors(path, trainer.best.network, {})
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def append(out: Path, row: dict[str, Any]) -> None:
    """One write of one short line in append mode: lines of several processes do not mix."""
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read(out: Path) -> dict[str, dict[str, Any]]:
    """Finished runs by key. A line torn by an interruption is skipped and closed, so that appending can go on."""
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        return {}
    text = out.read_text(encoding="utf-8")
    if text and not text.endswith("\n"):
        with out.open("a", encoding="utf-8") as file:
            file.write("\n")
    rows = {}
    for line in text.splitlines():
        try:
            row = json.loads(line)
            rows[row["key"]] = row
        except (ValueError, KeyError, TypeError):
            print(f"{out}: skipped a line that is not a result: {line[:60]!r}", file=sys.stderr)
    return rows


def run(
    seeds: Sequence[int], variants: Sequence[str], overrides: Sequence[str], out: Path, jobs: int
) -> list[dict[str, Any]]:
    """The rows of all variants and seeds; trains those that `out` lacks."""
    done, code = read(out), code_hash()
    missing = {s: tuple(v for v in variants if key(v, s, overrides) not in done) for s in seeds}
    todo = [Job(seed, names, tuple(overrides), out, code) for seed, names in missing.items() if names]
    total = sum(len(job.variants) for job in todo)
    print(f"{total} runs to train, {len(seeds) * len(variants) - total} found in {out}", file=sys.stderr)
    if todo:
        with multiprocessing.get_context("spawn").Pool(min(jobs, len(todo))) as pool:
            for seed in pool.imap_unordered(run_seed, todo):
                print(f"seed {seed} done", file=sys.stderr, flush=True)
    done = read(out)
    rows = [done[key(variant, seed, overrides)] for seed in seeds for variant in variants]
    stale = sum(row["code"] != code for row in rows)
    if stale:
        print(f"{stale} of {len(rows)} results in {out} were trained by other source code", file=sys.stderr)
    return rows


def parse(arguments: Sequence[str]) -> tuple[Any, list[str]]:
    """Options, and the variants, baseline first. Raises ConfigError for an unknown variant."""
    parser = common.parser(NAME, "Accuracy with transfer against none, default settings, paired seeds.")
    parser.add_argument("--seeds", type=common.count, default=6, help="number of paired seeds (default 6)")
    parser.add_argument("--first-seed", type=int, default=0, metavar="K", help="seeds are K, K + 1, ...")
    parser.add_argument("--variants", default="real", help=f"of {', '.join(VARIANTS)}; separated by commas")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="a setting of all variants")
    parser.add_argument("--jobs", type=common.count, default=2, help="runs side by side (default 2)")
    parser.add_argument("--out", type=Path, default=Path("runs/no_harm.jsonl"), help="file of finished runs")
    options = parser.parse_args(arguments)
    names = [name.strip() for name in options.variants.split(",") if name.strip()]
    for name in names:
        if name not in VARIANTS:
            raise ConfigError(unknown_name("--variants", name, VARIANTS))
    return options, list(dict.fromkeys([BASELINE, *names]))


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options, variants = parse(arguments)
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        facts = common.machine(variant_config("real", seeds[0], options.set)) | {"jobs": options.jobs}
        common.header(NAME, arguments, facts)
        rows = run(seeds, variants, options.set, options.out, options.jobs)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    comparisons = compare_all(rows, variants)
    report(rows, variants, comparisons)
    if options.json:
        common.footer(NAME, facts, seeds, {"runs": rows, "comparisons": comparisons})


if __name__ == "__main__":
    main()
