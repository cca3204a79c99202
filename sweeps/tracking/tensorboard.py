"""TensorBoard's event files: a folder `tensorboard` in each trial's folder, for `tensorboard --logdir DIR/trials`."""

import math
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from analysis.names import SOURCE, TRIALS_FOLDER
from analysis.trial_file import ended_trial, trial_folders
from mergenet.errors import CheckpointError, one_line
from mergenet.records.run_record import EPOCH, EPOCHS_DONE, read_epochs, read_result
from sweeps.tracking.background import Background
from sweeps.trials.messages import JobEvent, Row

FOLDER = "tensorboard"
CLOSE_SECONDS = 30
FRAME, CHECKSUM_SIZE = struct.Struct("<QI"), 4  # TFRecord: length and its checksum, the event, its checksum


class EventFiles:
    """Listens to the job queue's events; `close` at the end. say: called once if files cannot be written.

    Runs that ended under an earlier driver, which was killed before it had written all their epochs, get files anew.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self.say = folder, say
        self.background = Background("tensorboard")
        self.writers: dict[str, Any] = {}
        self.troubled = False
        self.background(lambda: self._guarded(self._catch_up))

    def __call__(self, event: JobEvent) -> None:
        if event["role"] == SOURCE or self.troubled:
            return
        job = event["job"]
        if event["event"] == "row":
            row = event["row"]
            self.background(lambda: self._guarded(lambda: self._write(job, row)))
        elif event["event"] == "ended":
            self.background(lambda: self._guarded(lambda: self._end(job)))

    def close(self) -> None:
        self.background(self._close)
        self.background.close(CLOSE_SECONDS)

    def _close(self) -> None:
        for job in list(self.writers):
            self._guarded(partial(self._end, job))

    def _catch_up(self) -> None:
        for run in trial_folders(self.folder):
            with suppress(CheckpointError, FileNotFoundError):  # damaged: the run will report it; or deleted meanwhile
                result = read_result(run)
                if ended_trial(run) is not None and num_events(run / FOLDER) != result[EPOCHS_DONE]:
                    (run / FOLDER).mkdir(exist_ok=True)  # not again the folder of a run that is deleted
                    for row in read_epochs(run, result):
                        self._write(run.name, row)
                    self._end(run.name)

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except (OSError, ImportError) as error:
            if not self.troubled:
                self.troubled = True
                self.say(f"tensorboard: no more event files ({one_line(error)}); training goes on")

    def _end(self, job: str) -> None:
        if (writer := self.writers.pop(job, None)) is not None:
            writer.close()

    def _write(self, job: str, row: Row) -> None:
        """For a job that an earlier driver left, files start anew: all its rows are reported again."""
        if job not in self.writers:
            # not SummaryWriter: its thread dies at a full disk, and whoever writes then waits for ever
            from tensorboardX.event_file_writer import EventsWriter

            folder = self.folder / TRIALS_FOLDER / job / FOLDER
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("events.*"):
                old.unlink()
            self.writers[job] = EventsWriter(str(folder / "events"))
        self.writers[job].write_event(event_of(row))
        self.writers[job].flush()


def num_events(folder: Path) -> int:
    """How many events with values its files hold; one that was cut off is none."""
    return sum(max(0, _num_records(path.read_bytes()) - 1) for path in folder.glob("events.*"))  # the first has none


def _num_records(data: bytes) -> int:
    count = end = 0
    while end + FRAME.size <= len(data):
        end += FRAME.size + FRAME.unpack_from(data, end)[0] + CHECKSUM_SIZE
        count += end <= len(data)
    return count


def event_of(row: Row) -> Any:
    """All finite numbers of a row at its epoch."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    numbers = {name: value for name, value in row.items() if name != EPOCH and isinstance(value, int | float)}
    values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items() if math.isfinite(value)]
    return Event(wall_time=time.time(), step=int(row[EPOCH]), summary=Summary(value=values))
