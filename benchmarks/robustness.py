"""How often do damaged files end in a traceback, or change an answer without a word? The goal is 0 and 0.

files: sweep files and training configurations with random mistakes go through all that is checked before the first
step: the schema, the search space, and where these accept them the networks and the data.
damage: one file of a finished sweep is damaged, and its table, best trial, status and summary are asked for, the
metrics of the damaged run's network, and the checks with which the sweep would be resumed. An answer other than before
must name the damaged run or file.

Every attempt is one of a sequence that the seed gives; `--only N` repeats the one of that number and shows it.
"""

import argparse
import contextlib
import io
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from analysis.names import TRIALS_FOLDER
from benchmarks import common
from benchmarks.mutations import DAMAGE, found_at, garbled, mutated, places
from mergenet.cli.main import cli
from mergenet.config.loading import dump_yaml, load_config, read_values
from mergenet.errors import UserError
from sweeps.config.loading import dump_sweep, load_sweep

NAME = "robustness"
PRESET = "quickstart"
FINE, REFUSED, TRACEBACK, SILENT = "accepted", "refused in a line", "traceback", "silent change"
Outcome = tuple[str, str]  # one of these, and what was said
Attempt = Callable[[random.Random], Outcome]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = common.parser(NAME, "Tracebacks and silent changes from damaged files.")
    parser.add_argument("part", choices=PARTS, help="what is damaged: files to read, or the records of a sweep")
    parser.add_argument("--attempts", type=common.count, default=400, help="attempts (default 400)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first attempt; each has the next one")
    parser.add_argument("--only", type=int, metavar="N", help="only the attempt with this seed, with what it did")
    return parser.parse_args(arguments)


def outcome_of(action: Callable[[], Outcome]) -> Outcome:
    """What an action came to, if its errors are those of a user or not."""
    try:
        return action()
    except UserError as error:
        return judged(str(error))
    except Exception:
        return TRACEBACK, traceback.format_exc()


def judged(line: str) -> Outcome:
    """A refusal says what is wrong, in a form that a terminal shows as it is. Several problems are a line each."""
    whole = bool(line.strip()) and all(part.isprintable() for part in line.splitlines())
    return (REFUSED if whole else TRACEBACK), line


# ---------------------------------------------------------------- files that a person writes


@contextlib.contextmanager
def written_files() -> Iterator[Attempt]:
    with tempfile.TemporaryDirectory() as folder:
        yield lambda rng: read_a_file(rng, Path(folder))


def read_a_file(rng: random.Random, folder: Path) -> Outcome:
    """One file with mistakes: a sweep's, or a training configuration."""
    sweep = rng.random() < 0.5
    path = folder / "mistaken.yaml"
    whole = yaml.safe_load(dump_sweep(load_sweep(PRESET))) if sweep else read_values("shared-inputs")[0]
    values, done = mutated(whole, rng)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    if rng.random() < 0.3:
        text, how = garbled(text, rng)
        values, done = {}, f"{done}, {how}"  # what it says is not known then
    path.write_text(text, encoding="utf-8")
    kind, said = outcome_of(lambda: (as_sweep if sweep else as_config)(path, values))
    return kind, f"{'sweep' if sweep else 'config'}: {done}\n{said}"


def as_sweep(path: Path, values: dict[str, Any]) -> Outcome:
    from sweeps.planning.checks import plan_sweep

    sweep = load_sweep(str(path))
    plan_sweep(sweep)
    return compared(values, yaml.safe_load(dump_sweep(sweep)), ("search", "set"))


def as_config(path: Path, values: dict[str, Any]) -> Outcome:
    from mergenet.training.trainer import Trainer

    config = load_config(str(path))
    Trainer(config)
    return compared(values, yaml.safe_load(dump_yaml(config)), ())


def compared(given: dict[str, Any], read: dict[str, Any], but: Sequence[str]) -> Outcome:
    """Whether what was accepted is what was given. but: keys that are written in another form."""
    for at in places(given):
        value = found_at(given, at)
        if at[0] in but or isinstance(value, dict | list):
            continue
        try:
            found = found_at(read, at)
        except (KeyError, IndexError, TypeError):
            return SILENT, f"{'.'.join(map(str, at))}: {value!r} is gone"
        same_kind = type(found) is type(value) or (type(found), type(value)) == (float, int)  # 1 for 1.0
        if found != value or not same_kind:
            return SILENT, f"{'.'.join(map(str, at))}: {value!r} became {found!r}"
    return FINE, ""


# ---------------------------------------------------------------- the records of a sweep


@contextlib.contextmanager
def damaged_records() -> Iterator[Attempt]:
    """Trains a small sweep; each attempt damages a file of a copy."""
    with tempfile.TemporaryDirectory() as place:
        whole, copy = Path(place) / "whole", Path(place) / "sweep"
        ended = invoke("sweep", "run", PRESET, "--dir", str(whole), *SMALL)
        if ended.exit_code:
            raise RuntimeError(f"the sweep to damage could not be trained: {ended.output}")
        shutil.copytree(whole, copy)
        answers = ask(copy)
        files = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file()]

        def attempt(rng: random.Random) -> Outcome:
            shutil.rmtree(copy)
            shutil.copytree(whole, copy)
            # each kind of file as often as any other, though there are many runs
            name = rng.choice(sorted({path.name for path in files}))
            file = rng.choice([path for path in files if path.name == name])
            how = rng.choice(list(DAMAGE))
            DAMAGE[how](copy / file, rng)
            before, after = answers, ask(copy)
            if file.parts[0] == TRIALS_FOLDER:
                run = Path(*file.parts[:2])
                before = answers | {"evaluate": answer("evaluate", whole / run)}
                after |= {"evaluate": answer("evaluate", copy / run)}
            return said_of(file, how, before, after)

        yield attempt


SMALL = [f"--set={change}" for change in ("num_trials=3", "confirm_seeds=2", "confirm_controls=[]", "set.epochs=2")]
QUESTIONS = {
    "table": ("analyze", "table"),
    "best": ("analyze", "best"),
    "status": ("sweep", "status"),
}


def invoke(*words: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CliRunner().invoke(cli, words)


def answer(*words: str | Path) -> Outcome:
    """What a command printed."""
    result = invoke(*map(str, words))
    if not isinstance(result.exception, SystemExit | None):
        return TRACEBACK, "".join(traceback.format_exception(result.exception))
    return judged(result.output) if result.exit_code else (FINE, result.output)


def ask(folder: Path) -> dict[str, Outcome]:
    """Question -> how it was answered, and the answer."""
    found = {question: answer(*words, folder) for question, words in QUESTIONS.items()}
    found["run again"] = outcome_of(lambda: run_again(folder))
    found["resume"] = outcome_of(lambda: resume(folder))
    return found


def run_again(folder: Path) -> Outcome:
    """`mergenet sweep run` on the finished sweep's folder: its summary, or what is wrong; nothing is trained."""
    from rich.console import Console

    from sweeps.driver.start import finished
    from sweeps.report.summary import print_summary

    shown = io.StringIO()
    if (summary := finished(load_sweep(PRESET, [change.removeprefix("--set=") for change in SMALL]), folder)) is None:
        return REFUSED, "it is not finished, or another sweep"
    print_summary(folder, summary, Console(file=shown, width=200))
    return FINE, shown.getvalue()


def resume(folder: Path) -> Outcome:
    """The checks of `mergenet sweep resume` up to where training goes on, and what it makes again."""
    from sweeps.driver.check_records import check_records
    from sweeps.driver.repair import repair_runs
    from sweeps.driver.start import resumable_plan

    check_records(resumable_plan(folder), folder)
    return FINE, f"made again: {', '.join(repair_runs(folder)) or 'nothing'}"


def said_of(file: Path, how: str, before: dict[str, Outcome], after: dict[str, Outcome]) -> Outcome:
    """The worst of the answers. file: relative to the sweep folder."""
    about = f"{file}: {how}"
    for question, (kind, text) in after.items():
        if kind == TRACEBACK:
            return TRACEBACK, f"{about}; {question}\n{text}"
    run = file.parts[1] if file.parts[0] == TRIALS_FOLDER and len(file.parts) > 2 else file.name
    for question, (kind, text) in after.items():
        named = run in text or file.name in text or (question == "run again" and kind == REFUSED)
        if (kind, text) != before[question] and not named:
            return SILENT, f"{about}; {question}\n{text}"
    refused = any(kind == REFUSED for kind, _ in after.values())
    return (REFUSED if refused else FINE), about


PARTS: dict[str, Callable[[], contextlib.AbstractContextManager[Attempt]]] = {
    "files": written_files,
    "damage": damaged_records,
}


def run(part: str, seeds: Sequence[int], shows: bool) -> dict[str, Any]:
    counted, faults = Counter[str](), []
    start = time.perf_counter()
    with PARTS[part]() as attempt:
        for seed in seeds:
            kind, said = attempt(random.Random(seed))
            counted[kind] += 1
            if shows or kind in (TRACEBACK, SILENT):
                faults.append({"seed": seed, "kind": kind, "said": said})
                print(f"\nattempt {seed}: {kind}\n{said}", flush=True)
    return {
        "attempts": len(seeds),
        "outcomes": {kind: counted[kind] for kind in (FINE, REFUSED, TRACEBACK, SILENT)},
        "faults": faults,
        "seconds": time.perf_counter() - start,
    }


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    facts = common.machine(load_config("shared-inputs"))
    common.header(NAME, arguments, facts)
    first = options.seed if options.only is None else options.only
    seeds = range(first, first + (options.attempts if options.only is None else 1))
    figures = run(options.part, seeds, options.only is not None)
    outcomes = ", ".join(f"{count} {kind}" for kind, count in figures["outcomes"].items())
    print(f"\n{options.part}: {figures['attempts']} attempts in {figures['seconds']:.0f} s: {outcomes}")
    if options.json:
        common.footer(NAME, facts, list(seeds), figures)
    return int(bool(figures["outcomes"][TRACEBACK] or figures["outcomes"][SILENT]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
