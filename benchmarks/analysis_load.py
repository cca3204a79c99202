"""How long do `analyze table` and `sweep status` take on a sweep of many trials?

A folder of trials is written (many_trials.py), and each command runs on it in a process of its own: with nothing
remembered, again, and after a tenth more trials. With --against REV the same by an earlier commit, in turn, from a git
worktree; both are compiled before that, and both must print the same table. Each is done three times, in turn, and the
median is taken; the earlier commit runs once where it takes a minute. With --ray the trials are read by
`analysis.load_trials` and, with the same rows in Ray's own files, by `ray.tune.ExperimentAnalysis`, both without the
time to import; `sweep status` and Ray get the first 1000 trials.

Goals: a table of 10,000 trials x 100 epochs takes at most 1/20 of the time before, commit bae29cb, and 1.5 GiB; a
second look at most a second for 1,000 new trials, beyond that at an unchanged folder; a status of 1,000 trials at most
1/10 of the time before; Ray's analysis takes at least 5 times as long. Not all are reached at the first look: see
docs/results.md.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from analysis.names import TRIALS_FOLDER
from benchmarks import common
from benchmarks.many_trials import add_trials, begin_sweep
from benchmarks.revisions import ROOT, checkout
from benchmarks.watched import PAGE
from mergenet.config.loading import load_config

NAME = "analysis_load"
FEW = 1000  # trials, at most, of `sweep status` and of Ray's side
TIMES, LONG = 3, 60.0  # of each side in turn, the earlier one only once if it takes so many seconds
LOOK = 0.05  # seconds between two looks at the memory of a command
LIMITS = {"table": 20.0, "status": 10.0, "ray": 5.0}  # times as fast: the goals
MAX_MIB, MAX_SECONDS = 1536.0, 1.0  # of a table; of a second look, for 1,000 new trials
OURS = "from analysis import load_trials as load"
RAYS = "from ray.tune import ExperimentAnalysis\ndef load(folder): return ExperimentAnalysis(folder).dataframe()"
TIMED = "\nimport sys, time\nbegin = time.perf_counter()\nload(sys.argv[1])\nprint(time.perf_counter() - begin)"


@dataclass(frozen=True)
class Took:
    """A command: wall and CPU seconds and most MiB of all its processes; what it printed."""

    seconds: float
    cpu: float
    mib: float
    output: str


def run(command: Sequence[str], code: Path, cache: Path) -> Took:
    """Runs `python COMMAND` with the packages of a checkout. Raises SystemExit if it fails."""
    environment = {**os.environ, "PYTHONPATH": str(code), "XDG_CACHE_HOME": str(cache)}
    with tempfile.TemporaryFile("w+") as out:
        begin, mib, ended = time.perf_counter(), 0.0, 0
        process = subprocess.Popen([sys.executable, *command], cwd=code, env=environment, stdout=out)
        while not ended:
            mib = max(mib, resident(process.pid))
            time.sleep(LOOK)
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed in {code}")
        out.seek(0)
        return Took(seconds, used.ru_utime + used.ru_stime, mib, out.read())


def compile_code(code: Path) -> None:
    """As an installation does: no command is to be measured that also compiles."""
    packages = [str(code / package) for package in ("mergenet", "sweeps", "analysis")]
    subprocess.run([sys.executable, "-m", "compileall", "-q", *packages], check=True)


def resident(process: int) -> float:
    """MiB of a process and its children, from Linux's /proc; 0 once it has ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return 0.0
    return pages * PAGE / 2**20 + sum(resident(int(child)) for child in children)


def first_trials(sweep: Path, folder: Path, count: int) -> Path:
    """A sweep folder with the same files, of so many trials."""
    shutil.copytree(sweep, folder, ignore=shutil.ignore_patterns(TRIALS_FOLDER))
    for trial in sorted((sweep / TRIALS_FOLDER).iterdir())[:count]:
        shutil.copytree(trial, folder / TRIALS_FOLDER / trial.name, copy_function=os.link)
    return folder


def looks(command: Sequence[str], before: Path | None, cache: Path) -> dict[str, Took]:
    """A command now, with nothing remembered and again, and before: "first", "again", "before"; medians."""
    found: dict[str, list[Took]] = {"first": []}
    for _ in range(TIMES):
        shutil.rmtree(cache, ignore_errors=True)
        found["first"].append(run(command, ROOT, cache))
        if before is not None and all(took.seconds < LONG for took in found.get("before", [])):
            found.setdefault("before", []).append(run(command, before, cache))
    found["again"] = [run(command, ROOT, cache) for _ in range(TIMES)]
    return {look: middle(took) for look, took in found.items()}


def grown(command: Sequence[str], cache: Path) -> Took:
    """A look at a folder that grew since what the cache has; median."""
    took = []
    cache.mkdir(exist_ok=True)  # of few trials nothing is remembered
    for number in range(TIMES):
        copy = shutil.copytree(cache, cache.with_name(f"{cache.name}-{number}"))
        took.append(run(command, ROOT, copy))
    return middle(took)


def middle(took: list[Took]) -> Took:
    """The one of median wall time, or the slower of two."""
    return sorted(took, key=lambda one: one.seconds)[len(took) // 2]


def timed(took: Took) -> Took:
    """Of a command that says its seconds itself."""
    return replace(took, seconds=float(took.output))


def measure(options: Any, folder: Path, before: Path | None) -> dict[str, dict[str, Took]]:
    model = begin_sweep(folder / "many", options.trials, options.epochs, options.seed)
    add_trials(folder / "many", model, range(options.trials))
    few = first_trials(folder / "many", folder / "few", min(FEW, options.trials))
    time.sleep(3)  # what has changed just now is not remembered
    table = ["-m", "mergenet", "analyze", "table", str(folder / "many")]
    found = {"table": looks(table, before, folder / "cache")}
    if "before" in found["table"] and len({took.output for took in found["table"].values()}) > 1:
        raise SystemExit("the tables differ")
    add_trials(folder / "many", model, range(options.trials, options.trials + max(1, options.trials // 10)))
    found["table"]["grown"] = grown(table, folder / "cache")
    found["status"] = looks(["-m", "mergenet", "sweep", "status", str(few)], before, folder / "cache-of-status")
    if options.ray:
        found["ray"] = beside_ray(few, folder)
    return found


def beside_ray(few: Path, folder: Path) -> dict[str, Took]:
    from benchmarks.ray_trials import write_experiment

    experiment = write_experiment(folder / "ray", few)
    ours, rays = ["-c", OURS + TIMED, str(few)], ["-W", "ignore", "-c", RAYS + TIMED, str(experiment)]
    found: dict[str, list[Took]] = {"first": [], "before": []}
    for number in range(TIMES):
        found["first"].append(timed(run(ours, ROOT, folder / f"own-{number}")))
        found["before"].append(timed(run(rays, ROOT, folder / "unused")))
    return {side: middle(took) for side, took in found.items()}


def figures_of(found: dict[str, dict[str, Took]], trials: int) -> dict[str, Any]:
    """The times, and what the goals are about."""
    kept = {what: {look: asdict(took) for look, took in looks.items()} for what, looks in found.items()}
    for each in kept.values():
        for took in each.values():
            del took["output"]
    ratios = {what: ratios_of(each) for what, each in kept.items() if "before" in each}
    table = kept["table"]
    new = max(1, trials // 10)
    wall, cpu = (1000 * (table["grown"][unit] - table["again"][unit]) / new for unit in ("seconds", "cpu"))
    per_1000 = {"seconds_per_1000_new": wall, "cpu_per_1000_new": cpu}
    return {"trials": trials, "looks": kept, "ratios": ratios} | per_1000


def ratios_of(looks: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """How many times as long it took before, in wall and CPU seconds."""
    known = [look for look in ("first", "again") if look in looks]
    return {look: {unit: looks["before"][unit] / looks[look][unit] for unit in ("seconds", "cpu")} for look in known}


def report(figures: dict[str, Any]) -> None:
    names = {
        "table": f"analyze table, {figures['trials']} trials",
        "status": f"sweep status, {min(FEW, figures['trials'])} trials",
        "ray": f"load_trials beside Ray (before), {min(FEW, figures['trials'])} trials",
    }
    print(f"\n{'':>48}{'seconds':>9}{'CPU s':>8}{'MiB':>7}")
    for what, each in figures["looks"].items():
        for look, took in each.items():
            print(f"{names[what]:<40}{look:>8}{took['seconds']:9.2f}{took['cpu']:8.2f}{took['mib']:7.0f}")
    for what, ratios in figures["ratios"].items():
        verdict = "reached" if ratios["first"]["seconds"] >= LIMITS[what] else "NOT REACHED"
        found = [f"{look} {each['seconds']:.1f} x (CPU {each['cpu']:.1f} x)" for look, each in ratios.items()]
        print(f"goal: {names[what]}: at least {LIMITS[what]:g} x as fast: {', '.join(found)}, {verdict}")
    mib = figures["looks"]["table"]["first"]["mib"]
    print(f"goal: at most {MAX_MIB:.0f} MiB: {mib:.0f}, {'reached' if mib <= MAX_MIB else 'NOT REACHED'}")
    wall, cpu = figures["seconds_per_1000_new"], figures["cpu_per_1000_new"]
    verdict = "reached" if max(wall, cpu) <= MAX_SECONDS else "NOT REACHED"
    took = f"{wall:.2f} (CPU {cpu:.2f}), {verdict}"
    print(f"goal: at most {MAX_SECONDS:g} s for 1,000 new trials at the second look: {took}")


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = common.parser(NAME, "Time and memory of `analyze table` and `sweep status` on a sweep of many trials.")
    parser.add_argument("--trials", type=common.count, default=1000, help="of the table (default 1000)")
    parser.add_argument("--epochs", type=common.count, default=100, help="of each trial (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the records (default 0)")
    parser.add_argument("--against", metavar="REV", help="an earlier commit, measured in turn")
    parser.add_argument("--ray", action="store_true", help="also beside Ray's own analysis of the same rows")
    options = parser.parse_args(arguments)
    facts = common.machine(load_config("digits"))
    common.header(NAME, arguments, facts)
    with (
        tempfile.TemporaryDirectory(prefix="mergenet-analysis-") as folder,
        checkout(options.against, Path(folder) / "before") as before,
    ):
        for code in (ROOT, before) if before is not None else (ROOT,):
            compile_code(code)
        figures = figures_of(measure(options, Path(folder), before), options.trials)
    report(figures)
    if options.json:
        common.footer(NAME, facts, [options.seed], figures)


if __name__ == "__main__":
    main()
