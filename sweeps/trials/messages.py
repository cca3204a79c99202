"""What travels between driver, job queue, workers and report; all of it is plain dicts, and their keys are here.

driver or relay -- Job --> queue -- Job --> worker
worker -- Row, at last JobOutcome --> queue, which answers GO_ON, STOP or SUSPEND
queue -- JobMessage --> relay -- OBJECTIVE, EPOCH, EPOCHS, and by name what else the sweep asks for; FAILURE --> Tune
queue -- JobEvent --> listeners in the driver: report, tracking, budget
"""

from collections.abc import Callable
from typing import Any, Literal, NotRequired, TypedDict, final

# The answer to a job that has reported an epoch; SUSPEND is also the outcome of a job that was paused
GO_ON, STOP, SUSPEND = "go on", "stop", "paused"

# What trials report to Tune beside mergenet.records.run_record.EPOCH, the epoch that has ended
OBJECTIVE = "objective"  # the best value of the sweep's metric so far
EPOCHS = "epochs"  # how many there will be
FAILURE = "failure"  # at last, why the trial has failed

Row = dict[str, Any]  # an epoch of a run: epoch, step and its metrics by name; the columns of epochs.jsonl


class Job(TypedDict):
    """A training, or the recording of a source: what a worker does in one folder.

    role: as in analysis.names. config: the whole training configuration, plain values. params: what the search drew,
    by path. number: of the trial, or in its role. seeds: of all runs of the trial, in its first one's job where there
    are several. layers, every: what is recorded of a source, and every how many steps.
    """

    id: str
    role: str
    task: Literal["train", "record"]
    folder: str
    config: dict[str, Any]
    params: dict[str, Any]
    number: int
    seeds: NotRequired[list[int]]
    layers: NotRequired[list[str]]
    every: NotRequired[int]


class JobOutcome(TypedDict):
    """How a job ended. state: as in trial.json, or SUSPEND. error: one line. final: no worker wrote that down.

    there: all its epochs had been trained before, and were only read.
    """

    state: str
    error: str | None
    final: NotRequired[bool]
    there: NotRequired[bool]


@final
class RowMessage(TypedDict):
    row: Row


@final
class EndMessage(TypedDict):
    end: JobOutcome


JobMessage = RowMessage | EndMessage  # what who waits for a job gets: its epochs, at last its end


class EventHead(TypedDict):
    """job: its id; of a group's event the group's name. role: of the job, or "group". time: in seconds since 1970."""

    job: str
    role: str
    time: float


class QueuedEvent(EventHead):
    event: Literal["queued"]
    params: dict[str, Any]
    number: int
    seed: int
    method: str
    config: dict[str, Any]


class StartEvent(EventHead):
    event: Literal["started"]
    group: str


class RowEvent(EventHead):
    event: Literal["row"]
    row: Row


class LostEvent(EventHead):
    """The job's workers are gone. attempts: lost since the last new epoch; 0: another slot's worker was the cause.
    again: whether the job is tried again.
    """

    event: Literal["lost"]
    reason: str
    attempts: int
    again: bool


class EndEvent(EventHead, JobOutcome):
    event: Literal["ended"]


class ReadyEvent(EventHead):
    event: Literal["ready"]
    placement: str  # the placement group of its workers


JobEvent = QueuedEvent | StartEvent | RowEvent | LostEvent | EndEvent | ReadyEvent
Listener = Callable[[JobEvent], None]
