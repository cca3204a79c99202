"""What a reader of a table from W&B must know: runs that have not ended, were renamed, or lack something."""

from collections.abc import Callable, Iterable, Sequence

from analysis.wandb_runs.folder import ENDED, epochs, state_of
from analysis.wandb_runs.tracked import CRASHED, ROLE, RUNNING, SUMMARY_ROLE, TRIAL_ID, TrackedRun
from mergenet.errors import visible
from mergenet.records.run_record import EPOCH, STOPPED

LISTED = 8  # runs that a line names


def notes(found: Iterable[TrackedRun], runs: Sequence[TrackedRun]) -> list[str]:
    """A line for each kind of run that is not as the sweep leaves it. found: all that is there; runs: in the table."""
    others = [run for run in found if not any(run is own for own in runs) and run.config.get(ROLE) != SUMMARY_ROLE]
    lines = [
        line(runs, running, "still running, or their files have no end; the rows show how far they are"),
        line(runs, crashed, "crashed, W&B hears nothing of them any more; the rows show how far they came"),
        line(runs, otherwise, "in a state of W&B's own"),
        line(runs, renamed, "renamed on W&B; the table has the names of the sweep"),
        line(runs, lacking, "without all their epochs; `mergenet sweep sync` of the sweep folder adds them"),
        line(others, origin, "left out, because the sweep did not write them or they are copies"),
    ]
    return [text for text in lines if text]


def line(runs: Iterable[TrackedRun], tell: Callable[[TrackedRun], str], what: str) -> str:
    """`WHAT: ...`; empty if `tell` has nothing to say of any."""
    told = [visible(text) for run in runs if (text := tell(run))]
    more = f", ... ({len(told)} in all)" if len(told) > LISTED else ""
    return f"{what}: {', '.join(told[:LISTED])}{more}" if told else ""


def running(run: TrackedRun) -> str:
    return str(run.config[TRIAL_ID]) if state_of(run) == RUNNING else ""


def crashed(run: TrackedRun) -> str:
    return str(run.config[TRIAL_ID]) if state_of(run) == CRASHED else ""


def otherwise(run: TrackedRun) -> str:
    state = state_of(run)
    return "" if state in (*ENDED, STOPPED, RUNNING, CRASHED) else f"{run.config[TRIAL_ID]} {state}"


def renamed(run: TrackedRun) -> str:
    return f"{run.config[TRIAL_ID]} is called {run.name!r}" if run.name != run.config[TRIAL_ID] else ""


def lacking(run: TrackedRun) -> str:
    """By the gaps between its epochs."""
    there = [row[EPOCH] for row in epochs(run)]
    missing = max(there, default=0) - len(there)
    return f"{run.config[TRIAL_ID]} {missing}" if missing else ""


def origin(run: TrackedRun) -> str:
    return f"{run.name} ({run.state})"
