"""A mirror of the sweep on Weights & Biases: one run for each job and one for the sweep, written from the driver.

The run records are the truth. The mirror may be offline, late or down without an effect on the sweep: every call runs
in a separate thread and is guarded. A run that W&B cannot take is written offline, which is reported once; so is what
W&B lacks in the end, and `mergenet sweep sync` adds it from the records.
"""

import shlex
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.names import SOURCE, TRIALS_FOLDER
from analysis.seeds import SEEDS
from analysis.trial_file import ended_trial, read_outcome, trial_of
from analysis.wandb_runs.tracked import INTERRUPTED, NUM_SEEDS, SUMMARY_ROLE
from mergenet.errors import CheckpointError, named_line, one_line
from mergenet.records.run_record import EPOCH, read_epochs
from sweeps.config import SweepConfig
from sweeps.tracking.background import Background
from sweeps.tracking.wandb_about import config_of, ending_of, run_id, scalars
from sweeps.tracking.wandb_file import Place, is_closed, is_forgotten, known_epochs, listed, told_config
from sweeps.tracking.wandb_run import DISABLED, OFFLINE, MirrorRun, NameTaken, open_run
from sweeps.tracking.wandb_whole import OfSweep, Whole, fill
from sweeps.trials.messages import JobEvent, QueuedEvent, Row, StartEvent
from sweeps.trials.sweep_dir import shown_path

if TYPE_CHECKING:
    from analysis.report.evidence import Evidence

CLOSE_SECONDS = 90  # how long the end of a sweep waits for its mirror
RETRY_SECONDS = 300  # pause after W&B could not be reached: every try costs INIT_SECONDS, while trials go on
FLUSH_SECONDS = 15  # after which the client has written what was logged


@dataclass
class Open:
    """A running job. rows: all so far, in case its W&B run has to begin again elsewhere."""

    about: dict[str, Any]
    run: MirrorRun | None = None
    rows: list[Row] = field(default_factory=list)


class Mirror:
    """Listens to the events of the job queue; `close` at the end. say: called with messages for the user.

    Of a job that has ended only the name is kept, until its file is checked.
    """

    def __init__(self, sweep: SweepConfig, folder: Path, say: Callable[[str], None]) -> None:
        self.sweep, self.folder, self.say = sweep, folder, say
        self.background = Background("wandb")  # init and finish may block
        self.jobs: dict[str, Open] = {}
        self.unchecked: dict[str, float] = {}  # job that has ended -> when
        self.seeds: dict[str, int] = {}  # job that has ended -> of how many seeds it was told
        self.offline_until = 0.0
        self.said: set[str] = set()
        self.lacking: dict[str, str] = {}  # job -> what its run lacks
        self.closed = sweep.wandb.mode == DISABLED

    def __call__(self, event: JobEvent) -> None:
        if not self.closed and event["role"] != SOURCE:
            self.background(lambda: self._guarded(event["job"], lambda: self._mirror(event)))

    def catch_up(self, runs: Iterable[Path]) -> None:
        """Mirrors runs that have ended of which W&B's files have nothing: another sweep trained them, or no mirror was.

        runs: folders below the sweep's.
        """
        for run in runs if not self.closed else ():
            self.background(partial(self._guarded, run.name, partial(self._catch_up, run)))

    def amend(self, runs: Iterable[Path]) -> None:
        """Tells W&B of how many seeds the first runs of trials are by now, where its files say another number."""
        for run in runs if not self.closed else ():
            self.background(partial(self._guarded, run.name, partial(self._amend, run)))

    def summarize(self, summary: dict[str, Any], evidence: "Evidence | None" = None) -> None:
        """Mirrors the summary of the sweep, as report/summary.py makes it, in the sweep's own run.

        evidence: what the report has gathered; without it there is nothing of what mattered.
        """
        self.tell(lambda: OfSweep(self.sweep, self.folder, summary, lambda: evidence))

    def tell(self, whole: Callable[[], Whole]) -> None:
        """Fills the run of the whole folder. whole: called in the mirror's thread."""
        if not self.closed:
            self.background(lambda: self._guarded(SUMMARY_ROLE, lambda: self._tell(whole())))

    def close(self) -> None:
        """Wait for pending calls. Jobs that have not ended were interrupted. A second call does nothing."""
        if self.closed:
            return
        self.closed = True
        self.background(lambda: self._guarded("the end", self._close))
        if not self.background.close(CLOSE_SECONDS):
            self.say(f"wandb: not done after {CLOSE_SECONDS} s; {self._way_out()}")

    def _guarded(self, job: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # W&B raises anything from CommError to ConnectionResetError
            self.jobs.pop(job, None)
            self.lacking[job] = "no run"
            way_out = "" if isinstance(error, NameTaken) else f"; {self._way_out()}"
            self._say_once("none", f"wandb: no run for {job} ({why(error)}); training goes on{way_out}")

    def _mirror(self, event: JobEvent) -> None:
        if event["event"] == "queued":
            self._queue(event)
        elif event["event"] == "started":
            self._start(event)
        elif event["event"] == "row":
            self._log(event["job"], event["row"])
        elif event["event"] == "ended":
            self._end(event["job"], event["state"], event["error"])

    def _queue(self, event: QueuedEvent) -> None:
        about = {
            "trial_id": event["job"],
            "role": event["role"],
            "params": event["params"],
            "seed": event["seed"],
            "method": event["method"],
            "number": event["number"],
            "config": event["config"],
        }
        self.jobs[event["job"]] = Open(about)

    def _start(self, event: StartEvent) -> None:
        """Opens a run for a job; if its workers were lost, the job starts a second time and its run continues."""
        if (job := self.jobs.get(event["job"])) is not None and job.run is None:
            job.run = self._open(event["job"], event["role"], scalars(job.about, self.sweep))

    def _log(self, name: str, row: Row) -> None:
        if (job := self.jobs.get(name)) is None or job.run is None:
            return
        job.rows.append(row)
        try:
            job.run.log(row)
        except dead_client() as error:
            self._revive(error)

    def _end(self, name: str, state: str, error: str | None) -> None:
        job = self.jobs.get(name)
        if job is not None and job.run is not None:
            ended = ending_of(self.sweep, self.folder, job.about, state, error, job.run.project_url)
            try:
                job.run.finish(ended)
            except TimeoutError as trouble:
                self._outage(name, trouble)
                self.lacking[name] = "its end"
            except dead_client() as trouble:
                self._revive(trouble)
                job.run.finish(ended)
            self.unchecked[name] = time.monotonic()
            self.seeds[name] = ended.config.get(NUM_SEEDS, 1)
        self.jobs.pop(name, None)
        self._check(FLUSH_SECONDS)

    def _open(self, name: str, role: str, config: dict[str, Any]) -> MirrorRun:
        """The run in the sweep's mode; offline if that fails."""
        if self.sweep.wandb.mode != OFFLINE:
            try:
                if time.monotonic() >= self.offline_until:
                    return open_run(self.sweep, self.folder, name, role, config, self.sweep.wandb.mode)
            except NameTaken:  # not even offline: its file would be added to the other sweep's run
                raise
            except Exception as error:  # as above
                self._outage(name, error)
            self.lacking[name] = "its run"
        return open_run(self.sweep, self.folder, name, role, config, OFFLINE)

    def _outage(self, job: str, error: Exception) -> None:
        self.offline_until = time.monotonic() + RETRY_SECONDS
        what = f"wandb: {job} cannot be mirrored online ({why(error)}); it is written offline and training goes on"
        self._say_once("outage", f"{what}; {self._way_out()}")

    def _revive(self, error: Exception) -> None:
        """After the client's process died, and all runs with it: each continues offline in a new one."""
        import wandb

        with suppress(*dead_client()):
            wandb.teardown()
        self._say_once("dead", f"wandb: its process died ({why(error)}); the runs go on offline, and training too")
        for name, job in self.jobs.items():
            if job.run is not None:
                job.run = open_run(
                    self.sweep, self.folder, name, job.about["role"], scalars(job.about, self.sweep), OFFLINE
                )
                for row in job.rows:
                    job.run.log(row)

    def _catch_up(self, run: Path) -> None:
        name = run_id(self.sweep, run.name)
        there = listed(self.folder, name)
        if there and not is_forgotten(there, name):
            return
        self._again(run)

    def _amend(self, run: Path) -> None:
        count = len((trial_of(run) or {}).get(SEEDS, ()))
        told = self.seeds.get(run.name) or told_config(self.folder, run_id(self.sweep, run.name)).get(NUM_SEEDS)
        if count and told != count:
            self._again(run)

    def _again(self, run: Path) -> None:
        """All that the records say of a run that has ended."""
        (trial, rows, _), config = read_outcome(run), config_of(run)
        assert trial is not None
        about = trial | {"method": config.get("method"), "config": config}
        job = Open(about, self._open(run.name, trial["role"], scalars(about, self.sweep)))
        self.jobs[run.name] = job
        for row in rows:
            self._log(run.name, row)
        self._end(run.name, trial["state"], trial.get("error"))

    def _tell(self, whole: Whole) -> None:
        opened = self._open(SUMMARY_ROLE, SUMMARY_ROLE, whole.config())
        if opened.run.offline:
            self._say_once("offline", f"wandb: artifacts and the workspace are not made offline; {self._way_out()}")
        fill(opened, whole, self.say)

    def _close(self) -> None:
        for name in list(self.jobs):
            self._guarded(name, partial(self._end, name, INTERRUPTED, None))
        deadline = time.monotonic() + FLUSH_SECONDS
        while self._any_lacks() and time.monotonic() < deadline:
            time.sleep(0.2)
        self.unchecked |= {path.name: 0.0 for path in (self.folder / TRIALS_FOLDER).glob("*")}  # of earlier drivers
        self._check(0)
        if self.lacking:
            known = ", ".join(f"{job} {what}" for job, what in list(self.lacking.items())[:5])
            more = ", ..." if len(self.lacking) > 5 else ""
            self.say(f"wandb: {len(self.lacking)} runs lack something ({known}{more}); {self._way_out()}")

    def _check(self, age: float) -> None:
        """Compare the files of jobs that ended at least so many seconds ago with their records."""
        now = time.monotonic()
        due = [job for job, ended in self.unchecked.items() if now - ended >= age]
        there = listed(self.folder) if due else {}
        for job in due:
            del self.unchecked[job]
            if (what := self._lacks(job, there)) is not None:
                self.lacking.setdefault(job, what)

    def _any_lacks(self) -> bool:
        there = listed(self.folder) if self.unchecked else {}
        return any(self._lacks(job, there) for job in self.unchecked)

    def _lacks(self, job: str, there: Place) -> str | None:
        """What the files lack of a job's records. A driver that was killed may have known its end, and not they."""
        run, name = self.folder / TRIALS_FOLDER / job, run_id(self.sweep, job)
        try:
            recorded = {int(row[EPOCH]) for row in read_epochs(run)}
        except CheckpointError:  # damaged: nothing to compare with
            return None
        if missing := recorded - known_epochs(there, name):
            return f"{len(missing)} epochs"
        return "its end" if ended_trial(run) is not None and not is_closed(there, name) else None

    def _say_once(self, what: str, text: str) -> None:
        if what not in self.said:
            self.said.add(what)
            self.say(text)

    def _way_out(self) -> str:
        return f"`mergenet sweep sync {shlex.quote(str(shown_path(self.folder)))}` completes W&B from the records"


def dead_client() -> tuple[type[Exception], ...]:
    """Whether the error is one that calls raise once the client's process is gone; which one depends on timing."""
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return ConnectionError, HandleAbandonedError, MailboxClosedError


def why(error: Exception) -> str:
    return one_line(error) if isinstance(error, NameTaken) else named_line(error)
