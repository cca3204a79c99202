"""The files of a run as it trains: a row for each epoch at once, checkpoint, best network and result seconds apart.

A checkpoint is written before the row of its epoch; a run killed in between has the row in its checkpoint. Epochs may
be much shorter than writing a checkpoint takes, so not every one has its own: a killed run repeats those since the
last, and ends with bitwise the same weights.
"""

import time
from pathlib import Path
from typing import Any

from mergenet.learner import distributed
from mergenet.records.checkpoint import save_checkpoint, save_tensors
from mergenet.records.run_record import (
    BEST_EPOCH,
    BEST_FILE,
    CHECKPOINT_FOLDER,
    EPOCHS_DONE,
    EPOCHS_HASH,
    ERROR,
    METRIC,
    RESULT_FILE,
    RUNNING,
    SPEC,
    STATUS,
    STOPPED,
    EpochResult,
    append_epoch,
    epochs_hash,
    read_result,
    write_record,
)
from mergenet.training.trainer import Best, Trainer

CHECKPOINT_SECONDS = 2.0  # between checkpoints: what a kill may cost, beside the epoch that it interrupts


class RunWriter:
    """Of one run, in the first worker; in the others it writes nothing. history: all epochs so far."""

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self.trainer, self.folder = trainer, folder
        self.epoch, self.time = trainer.epoch, time.monotonic()  # of the last checkpoint
        self.best: Best | None = None  # the one in the file, which a kill may have left an older one

    def add_epoch(self, history: list[EpochResult]) -> None:
        if not distributed.is_main():
            return
        is_last = self.trainer.epoch == self.trainer.config.epochs
        is_due = is_last or time.monotonic() - self.time >= CHECKPOINT_SECONDS
        if is_due:
            self.save_checkpoint(history)
        append_epoch(self.folder, history[-1].row())
        if is_due:
            self.save_result(RUNNING, history)

    def save_checkpoint(self, history: list[EpochResult]) -> None:
        """Unless this epoch has one."""
        if self.epoch == self.trainer.epoch or not distributed.is_main():
            return
        rows = [{"epoch": r.epoch, "step": r.step, "metrics": r.metrics} for r in history]
        state = {"trainer": self.trainer.state_dict(), "history": rows}
        save_checkpoint(self.folder / CHECKPOINT_FOLDER, self.trainer.epoch, state)
        self.epoch, self.time = self.trainer.epoch, time.monotonic()

    def save_result(
        self,
        status: str,
        history: list[EpochResult],
        test: dict[str, float] | None = None,
        error: str | None = None,
    ) -> None:
        """The best network, unless it is in its file, then the result. test: metrics on the test split."""
        if not distributed.is_main():
            return
        if (best := self.trainer.best) is not None and best is not self.best:
            task = self.trainer.target.task
            save_tensors(self.folder / BEST_FILE, best.network, {SPEC: task.spec.to_json()} | task.metadata)
            self.best = best
        written = epochs_hash(epoch.row() for epoch in history)
        result: dict[str, Any] = {STATUS: status, ERROR: error, EPOCHS_DONE: len(history), EPOCHS_HASH: written}
        result[BEST_EPOCH] = None
        result[METRIC] = self.trainer.target.metric
        for learner in self.trainer.receivers:
            if (reached := self.trainer.bests.get(learner.role)) is not None:
                name = BEST_EPOCH if learner.role == "target" else f"{learner.role}_{BEST_EPOCH}"
                result |= {name: reached.epoch, learner.metric: reached.value}
        write_record(self.folder / RESULT_FILE, result | (test or {}))

    def stop_there(self) -> None:
        """The run has stopped at its last checkpoint, of whose epoch best network and result are."""
        if distributed.is_main():
            write_record(self.folder / RESULT_FILE, read_result(self.folder) | {STATUS: STOPPED})
