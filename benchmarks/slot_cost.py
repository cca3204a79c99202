"""What does a slot cost beyond the process that trains: memory by kind of process, and seconds until it trains?

A sweep of trivial trials (trivial.py) for each number of slots, ended once every slot has started and each has trained.
Then the memory of all its processes is read several times. Memory is the proportional set size (PSS), in which pages
that processes share are divided between them, so sums are right.

A slot's share is what Ray runs for the slots, all but the processes that train, the driver and what a Ray has anyway
(raylet, GCS, the queue), divided by the number of slots. Times count from the start of the sweep's process.

With --against REV the same sweep by an earlier commit, in turn, from a git worktree.

Goals: at 8 slots at most 150 MiB a slot beyond its trainer, and all ready in a third of the time before (commit
6bd31b9).
"""

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import common, trivial
from benchmarks.revisions import ROOT, checkout
from benchmarks.watched import descendants, marked
from mergenet.config.loading import load_config

NAME = "slot_cost"
MANY = 100_000  # trials: more than are trained before the sweep is ended
LOOKS, PAUSE = 5, 1.0  # at the memory, and seconds between two
PATIENCE = 900.0  # seconds until all slots are ready
TRAINS = "RayTrainWorker"  # the kind of process that trains
FORKS = "fork server"
PARTS = {  # by what a command line has, the first that fits: a client's names the raylet, too
    "forkserver.client": "fork client",
    "forkserver.server": FORKS,
    "/raylet ": "raylet",
    "/gcs_server ": "gcs_server",
}
COMMON = (  # kinds that do not grow with the slots: the sweep's own, and what a Ray has on each node
    *("driver", "JobQueue", "other", "raylet", "gcs_server", FORKS),
    *("DashboardAgent", "RuntimeEnvAgent", "AutoscalingCoordinatorActor"),
)
MAX_MIB, MAX_SECONDS = 150.0, 1 / 3  # the goals, at SLOTS slots; the second as a share of the time before
SLOTS = 8


@dataclass(frozen=True)
class Cost:
    """memory: MiB by kind of process; count: processes by kind. Seconds to the first and all ready slots, first epoch.

    Both are medians over the looks. ended: seconds to the end of the sweep, if it was let to end.
    """

    slots: int
    memory: dict[str, float]
    count: dict[str, float]
    first_ready: float
    all_ready: float
    first_epoch: float
    ended: float | None = None

    @property
    def beside(self) -> float:
        """MiB of a slot beyond the process that trains in it."""
        return sum(mib for kind, mib in self.memory.items() if kind not in (TRAINS, *COMMON)) / self.slots


def measure(slots: int, code: Path, folder: Path, trials: int | None = None) -> Cost:
    """One sweep with the packages of a checkout. trials: to the end. Raises SystemExit if it does not start or end."""
    sweep = trivial.write_sweep(folder / "trivial", trials or MANY, slots=slots)
    ended = None
    events, log = folder / "events", folder / "log"
    command = [sys.executable, "-m", "benchmarks.watched", str(sweep), str(folder / "sweep"), str(events)]
    with log.open("w", encoding="utf-8") as file:
        start = time.time()
        environment = {**os.environ, "PYTHONPATH": str(code)}
        process = subprocess.Popen(command, cwd=code, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            known = wait_busy(process, events, slots)
            looks = list[dict[str, list[float]]]()
            for _ in range(LOOKS):
                time.sleep(PAUSE)
                looks.append(memory_of(process.pid))
            if trials is not None:
                if process.wait(PATIENCE) != 0:
                    raise TimeoutError("the sweep failed")
                ended = time.time() - start
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            raise SystemExit(
                f"{slots} slots: {error}; last lines:\n{log.read_text(encoding='utf-8')[-2000:]}"
            ) from None
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
    kinds = sorted({kind for look in looks for kind in look})
    memory = {kind: statistics.median(sum(look.get(kind, ())) for look in looks) for kind in kinds}
    count = {kind: statistics.median(len(look.get(kind, ())) for look in looks) for kind in kinds}
    ready = sorted(event["time"] - start for event in known if event["event"] == "ready")
    epoch = min(event["time"] - start for event in known if event["event"] == "row")
    return Cost(slots, memory, count, ready[0], ready[-1], epoch, ended)


def wait_busy(process: subprocess.Popen[bytes], events: Path, slots: int) -> list[dict[str, Any]]:
    """The events until every slot has ended a job. Raises TimeoutError if the sweep ends or takes too long."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
        text = events.read_text(encoding="utf-8") if events.exists() else ""
        known = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        groups = {event["job"]: event["group"] for event in known if event["event"] == "started"}
        ended = {groups[event["job"]] for event in known if event["event"] == "ended" and event["job"] in groups}
        if len(ended) >= slots:
            return known
    raise TimeoutError("the sweep ended" if process.poll() is not None else f"not all were ready in {PATIENCE:g} s")


def memory_of(driver: int, mark: str | None = None) -> dict[str, list[float]]:
    """MiB of each process of a sweep, by kind. mark: what the environment of all of them has."""
    found = dict[str, list[float]]()
    for process in descendants(driver) if mark is None else {driver, *marked(mark)}:
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8")
            title = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:  # it has ended meanwhile
            continue
        pss = next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("Pss:")), 0.0)
        found.setdefault("driver" if process == driver else kind_of(title), []).append(pss)
    return found


def kind_of(title: str) -> str:
    """The kind of a process that Ray has started: an actor's class, "idle", or a part of Ray itself."""
    if title.startswith("ray::"):
        name = title.removeprefix("ray::").split("(")[0].split(".")[0].strip()
        return "idle" if name == "IDLE" else TRAINS if TRAINS in title else name.removeprefix("_")
    return next((kind for part, kind in PARTS.items() if part in title), "other")


def compare(
    counts: Iterable[int], before: Path | None, folder: Path, trials: int | None = None
) -> dict[str, list[Cost]]:
    """ "now" and "before", for each number of slots."""
    sides = {"now": ROOT} | ({} if before is None else {"before": before})
    found: dict[str, list[Cost]] = {side: [] for side in sides}
    for slots in counts:
        for side, code in sides.items():
            where = folder / f"{side}-{slots}"
            where.mkdir()
            found[side].append(measure(slots, code, where, trials))
            print(".", end="", flush=True)
    print()
    return found


def report(found: dict[str, list[Cost]]) -> None:
    for side, costs in found.items():
        kinds = sorted({kind for cost in costs for kind in cost.memory}, key=lambda kind: (kind in COMMON, kind))
        print(f"\n{side}: MiB (processes)" + "".join(f"{f'{cost.slots} slots':>16}" for cost in costs))
        for kind in kinds:
            cells = [f"{cost.memory.get(kind, 0.0):.0f} ({cost.count.get(kind, 0.0):.0f})" for cost in costs]
            print(f"{kind:>28}" + "".join(f"{cell:>16}" for cell in cells))
        rows = {"a slot beyond its trainer": "beside", "s to the first ready slot": "first_ready"}
        for title, name in (rows | {"s to all ready": "all_ready", "s to the first epoch": "first_epoch"}).items():
            print(f"{title:>28}" + "".join(f"{getattr(cost, name):>16.1f}" for cost in costs))
        print(f"{'MiB together':>28}" + "".join(f"{sum(cost.memory.values()):>16.0f}" for cost in costs))
        if any(cost.ended is not None for cost in costs):
            print(f"{'s to the end of all trials':>28}" + "".join(f"{cost.ended or math.nan:>16.1f}" for cost in costs))
    verdicts(found)


def verdicts(found: dict[str, list[Cost]]) -> None:
    for number, cost in enumerate(found["now"]):
        if cost.slots == SLOTS:
            verdict = "reached" if cost.beside <= MAX_MIB else "NOT REACHED"
            print(f"goal: at most {MAX_MIB:g} MiB a slot beyond its trainer at {SLOTS}: {cost.beside:.0f}, {verdict}")
        if "before" in found:
            before = found["before"][number]
            share = cost.all_ready / before.all_ready
            verdict = "" if cost.slots != SLOTS else ", reached" if share <= MAX_SECONDS else ", NOT REACHED"
            print(
                f"{cost.slots} slots, now / before: all ready {share:.2f}{verdict}; "
                f"first epoch {cost.first_epoch / before.first_epoch:.2f}; beside {cost.beside / before.beside:.2f}"
            )


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = common.parser(NAME, "Memory and starting time of the slots of a sweep.")
    parser.add_argument("--slots", default=f"1,4,{SLOTS}", help="numbers of slots, separated by commas (default 1,4,8)")
    parser.add_argument("--against", metavar="REV", help="an earlier commit, measured in turn")
    parser.add_argument("--trials", type=common.count, help="run so many to the end (default: until all slots train)")
    options = parser.parse_args(arguments)
    try:
        counts = [common.count(text) for text in options.slots.split(",")]
    except ValueError:
        parser.error(f"--slots must be whole numbers separated by commas, got {options.slots!r}")
    facts = common.machine(load_config("digits"))
    common.header(NAME, arguments, facts)
    with (
        tempfile.TemporaryDirectory(prefix="mergenet-slots-") as folder,
        checkout(options.against, Path(folder) / "code") as before,
    ):
        found = compare(counts, before, Path(folder), options.trials)
    report(found)
    if options.json:
        figures = {side: [asdict(cost) | {"beside": cost.beside} for cost in costs] for side, costs in found.items()}
        common.footer(NAME, facts, [0], figures)


if __name__ == "__main__":
    main()
