"""Runs that share seeds: the variants of a setting, each trained with the same seeds, one recipe.

A seed's source is recorded once and replayed in all of its variants that can replay it, which gives bitwise what
training it beside the target gives. Every finished run is a line of a file, so an interrupted benchmark can be resumed,
and no configuration is trained twice.
"""

import argparse
import functools
import hashlib
import json
import math
import multiprocessing
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import common
from mergenet.config import Config
from mergenet.config.loading import load_config
from mergenet.errors import UserError
from mergenet.records.checkpoint import save_tensors
from mergenet.records.run_record import config_hash
from mergenet.training.trainer import Trainer
from mergenet.transfer.pairs import by_activations, resolve_pairs
from mergenet.transfer.source import record_source

T = TypeVar("T")
RECIPE = ("device=cpu", "threads=1")  # one thread per run: several runs side by side, each reproducible
WITHOUT = ("method=none", "source={}", "transfer={}")  # settings that do not affect it: one training serves all of them


@dataclass(frozen=True)
class Setting:
    """preset: or a YAML file. variants: their overrides by name, the baseline first. live: those that never replay."""

    preset: str
    variants: dict[str, tuple[str, ...]]
    overrides: tuple[str, ...] = ()
    live: tuple[str, ...] = ()

    def config(self, variant: str, seed: int, recording: Sequence[str] = ()) -> Config:
        own = self.variants[variant]
        return load_config(self.preset, [*RECIPE, *self.overrides, *recording, *own, f"seed={seed}"])

    def key(self, variant: str, seed: int) -> str:
        """Identifies a run in the file of results: one variant of one exact configuration."""
        return f"{variant}/{config_hash(self.config(variant, seed))}"


@dataclass(frozen=True)
class Job:
    """All runs of one seed that are not in `out` yet."""

    setting: Setting
    seed: int
    variants: tuple[str, ...]
    out: Path
    code: str


def replayable(config: Config) -> bool:
    """Whether the source's trajectory can be recorded: it trains, receives nothing, and stays as it is.

    config: with its pairs written out. Methods that learn from the source's outputs have no use for its layers.
    """
    one_way = all(pair.direction == "to_target" for pair in config.transfer.written_pairs)
    live, projected = config.source.kind == "live", config.transfer.adapter.encoding == "projected"
    return config.method == "mergenet" and live and one_way and projected and by_activations(config) is None


@functools.cache
def code_hash() -> str:
    """Hash of the trainer's source files, as this process found them: results of other code may not be comparable."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parent.parent / "mergenet").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def run_seed(job: Job) -> int:
    """Trains the variants of one seed, the recording of its source first; returns the seed."""
    setting = job.setting
    with tempfile.TemporaryDirectory() as folder:
        configs = {name: resolve_pairs(setting.config(name, job.seed)) for name in job.variants}
        replaying = [name for name in job.variants if name not in setting.live and replayable(configs[name])]
        recording = record([configs[name] for name in replaying], Path(folder)) if replaying else []
        for name in job.variants:
            config = setting.config(name, job.seed, recording) if name in replaying else configs[name]
            named = {"key": setting.key(name, job.seed), "variant": name, "seed": job.seed}
            append(job.out, named | train(config) | {"code": job.code})
    return job.seed


def record(configs: Sequence[Config], folder: Path) -> list[str]:
    """Trains the source that they share once; returns the overrides that replay it."""
    layers = list(dict.fromkeys(pair.source for config in configs for pair in config.transfer.written_pairs))
    every = math.gcd(*(config.transfer.t_cycle for config in configs))
    for _ in record_source(configs[0], folder, layers, every):
        pass
    return ["source.kind=recorded", f"source.recording={json.dumps(str(folder))}"]


def train(config: Config) -> dict[str, Any]:
    """One run in memory: metrics (fractions) at its best validation epoch, and a hash of the weights there.

    val, test: of the metric that selects; curve: on validation by epoch; tests: all of the test split. source_val: the
    source's at the last epoch; source_best_val, source_test: of a source that also receives, at its own best epoch.
    """
    start = time.perf_counter()
    trainer = Trainer(config)
    metrics: dict[str, float] = {}
    curve = []
    for result in trainer.epochs():
        metrics = result.metrics
        curve.append(metrics[trainer.target.metric])
    tests = trainer.test()
    best, own = trainer.bests["target"], trainer.target.task.metric
    trainee = None if trainer.source is None else trainer.source.trainee
    row = {
        "metric": own,
        "val": best.value,
        "test": tests[f"target_test_{own}"],
        "test_loss": tests["target_test_loss"],
        "tests": tests,
        "best_epoch": best.epoch,
        "curve": curve,
        "source_val": metrics.get(f"source_val_{own}" if trainee is None else trainee.metric),
        "source_dependence": metrics.get("source_dependence"),
        "weights": weights_hash(trainer),
    }
    if trainee is not None and "source" in trainer.bests:
        best, own = trainer.bests["source"], trainee.task.metric
        received = {"source_metric": own, "source_best_val": best.value, "source_test": tests[f"source_test_{own}"]}
        row |= received | {"source_best_epoch": best.epoch}
    return row | {"seconds": round(time.perf_counter() - start, 1)}


def weights_hash(trainer: Trainer) -> str:
    """Equal if and only if every parameter and buffer of the best target network is, bit for bit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "best.safetensors"
        save_tensors(path, trainer.bests["target"].network, {})
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


def run(setting: Setting, seeds: Sequence[int], out: Path, jobs: int) -> list[dict[str, Any]]:
    """The rows of all variants and seeds; trains those that `out` lacks."""
    done, code = read(out), code_hash()
    keys = {(seed, name): setting.key(name, seed) for seed in seeds for name in setting.variants}
    missing = {seed: tuple(name for name in setting.variants if keys[seed, name] not in done) for seed in seeds}
    todo = [Job(setting, seed, names, out, code) for seed, names in missing.items() if names]
    total = sum(len(job.variants) for job in todo)
    print(f"{total} runs to train, {len(keys) - total} found in {out}", file=sys.stderr)
    train_all(run_seed, todo, jobs)
    return rows_of(out, keys.values(), code)


def train_all(train_one: Callable[[T], int], todo: Sequence[T], jobs: int) -> None:
    """In so many processes. train_one: trains and appends what is to do; returns its seed."""
    with mapping(min(jobs, len(todo))) as run_all:
        for seed in run_all(train_one, todo):
            print(f"seed {seed} done", file=sys.stderr, flush=True)


def rows_of(out: Path, keys: Iterable[str], code: str) -> list[dict[str, Any]]:
    """The finished runs with these keys, in order; a line says how many of them were trained by other code."""
    done = read(out)
    rows = [done[key] for key in keys]
    if stale := sum(row["code"] != code for row in rows):
        print(f"{stale} of {len(rows)} results in {out} were trained by other source code", file=sys.stderr)
    return rows


@contextmanager
def mapping(jobs: int) -> Iterator[Any]:
    """`map` in this process, or in `jobs` processes."""
    if jobs < 2:
        yield map
        return
    ignore_interrupt = (signal.SIGINT, signal.SIG_IGN)  # the main process ends the others
    with multiprocessing.get_context("spawn").Pool(jobs, signal.signal, ignore_interrupt) as pool:
        yield pool.imap_unordered


def parser(name: str, summary: str) -> argparse.ArgumentParser:
    made = common.parser(name, summary)
    made.add_argument("--seeds", type=common.count, default=6, help="number of paired seeds (default 6)")
    made.add_argument("--first-seed", type=int, default=0, metavar="K", help="seeds are K, K + 1, ...")
    made.add_argument("--set", action="append", default=[], metavar="A.B=C", help="a setting of all variants")
    made.add_argument("--jobs", type=common.count, default=2, help="runs side by side (default 2)")
    made.add_argument("--out", type=Path, default=Path(f"runs/{name}.jsonl"), help="file of finished runs")
    return made


def names_of(text: str) -> list[str]:
    """`a, b,a` -> [a, b]."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


@contextmanager
def errors_told() -> Iterator[None]:
    """A user's error is one line, exit code 2; an interruption says how to resume, exit code 130."""
    try:
        yield
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; finished runs are in the file --out, and the same command goes on", file=sys.stderr)
        sys.exit(130)
