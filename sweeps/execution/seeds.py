"""The other seeds of a trial: trained once its first seed has reached the last epoch, and averaged into its value.

The seeds are the same for all trials, so trials are compared in pairs. The first seed trains epoch by epoch, and early
stopping looks at it alone: before the last epoch a trial's value is that of its first seed, at the last epoch it is the
mean. So a configuration that is stopped costs one training, and every epoch compares like with like.

A trial that lost a seed has no value: the mean of the others would favour configurations that diverge now and then.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.names import COMPLETE, FAILED, PRUNED, RUNNING
from analysis.seeds import combined
from analysis.trial_file import ended_trial
from mergenet.records.run_record import EPOCH, read_epochs
from sweeps.config import SweepConfig
from sweeps.trials.jobs import Jobs
from sweeps.trials.messages import Job, JobMessage, JobOutcome, Row
from sweeps.trials.objectives import Measured, Outcome, measured
from sweeps.trials.record import best_value, curve, mean, write_trial

Follow = Callable[[Job], Iterator[JobMessage]]  # submits a job; yields its rows, at last its end


@dataclass(frozen=True)
class Report:
    """What a trial reports after an epoch: the objective, and the sweep's other measures."""

    epoch: int
    value: float | None
    measured: Measured


class TrialFailed(RuntimeError):
    """A job of the trial failed; the message says why."""


def reports(first: Job, others: Sequence[Job], follow: Follow, sweep: SweepConfig) -> Iterator[Report]:
    """The reports of a trial to Tune and Optuna; the last epoch's once all seeds have trained.

    first, others: jobs. Ends early if a job was stopped or paused. Raises TrialFailed if one fails.
    """
    rows: list[Row] = []
    for message in follow(first):
        if "end" in message:
            end = check_end(first, message["end"])
            break
        rows.append(checked(message["row"], sweep.objective))
        if rows[-1][EPOCH] < first["config"]["epochs"] or not others:
            yield report_of([rows], sweep)
    if others and end["state"] == COMPLETE and (runs := runs_of(others, follow)) is not None:
        yield report_of([rows, *runs], sweep)


def report_of(runs: Sequence[list[Row]], sweep: SweepConfig) -> Report:
    """The report after these epochs of a trial's runs (the first seed's first): the mean over them so far."""
    value = mean([best_value(rows, sweep.objective) for rows in runs])
    return Report(runs[0][-1][EPOCH], value, measured(sweep, runs))


def runs_of(others: Sequence[Job], follow: Follow) -> list[list[Row]] | None:
    """The epochs of each of a trial's other seeds, once all have ended; None if any was paused.

    All are submitted before the first is waited for. Raises TrialFailed with the seed if one fails.
    """
    runs: list[list[Row]] = []
    paused = False
    for job, messages in [(job, follow(job)) for job in others]:
        runs.append([])
        for message in messages:
            if "row" in message:
                runs[-1].append(message["row"])
            else:
                end = check_end(job, message["end"], f"seed {job['config']['seed']}: ")
                paused = paused or end["state"] != COMPLETE
    return None if paused else runs


def checked(row: Row, metric: str) -> Row:
    if metric not in row:
        known = ", ".join(name for name in row if name.startswith("target_val_"))
        raise TrialFailed(f"metric must be one that trials report ({known}), got {metric!r}")
    return row


def check_end(job: Job, end: JobOutcome, what: str = "") -> JobOutcome:
    """How a job ended, recorded if no worker did. Raises TrialFailed if it failed; what: before its message."""
    if end.get("final"):
        write_trial(job, FAILED, end["error"])
    if end["state"] == FAILED:
        raise TrialFailed(f"{what}{end['error']}")
    return end


def outcome_of(jobs: Jobs, first: Job, sweep: SweepConfig) -> Outcome:
    """The outcome of a trial by its records, as its relay would have reported it; RUNNING while a seed has to train."""
    folders = [Path(job["folder"]) for job in (first, *jobs.replicates(first))]
    states = [RUNNING if (run := ended_trial(folder)) is None else run["state"] for folder in folders]
    state = combined(states, len(states))
    epochs = read_epochs(folders[0])
    rows = curve(epochs, sweep.objective)
    if state == RUNNING:  # what was decided after its last epoch is not known
        return Outcome(state, rows[:-1], None)
    if len(folders) == 1 or states[0] != COMPLETE:
        return Outcome(state, rows, rows[-1]["value"] if rows else None, measured(sweep, [epochs]))
    if state != COMPLETE:
        return Outcome(state, rows[:-1], None)
    last = report_of([epochs, *map(read_epochs, folders[1:])], sweep)
    return Outcome(state, [*rows[:-1], {"epoch": last.epoch, "value": last.value}], last.value, last.measured)


def mark_stopped(pruned: Iterable[Job]) -> None:
    """Marks a trial as pruned that was stopped while its first seed trained its last epochs and completed.

    Without the mark its records would say that its other seeds are still to train. pruned: jobs of the trials that are
    pruned in the study.
    """
    for job in pruned:
        if (ended := ended_trial(Path(job["folder"]))) is not None and ended["state"] == COMPLETE:
            write_trial(job, PRUNED)
