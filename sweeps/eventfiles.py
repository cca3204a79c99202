"""TensorBoard's event files: a folder `tensorboard` in each trial's folder, for `tensorboard --logdir DIR/trials`."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.trials import SOURCE, TRIALS_FOLDER
from sweeps.background import Background
from sweeps.jobs import EPOCH, Message

FOLDER = "tensorboard"
FLUSH_SECONDS = 5
CLOSE_SECONDS = 30


class EventFiles:
    """Listens to the events of the slots; `close` at the end. say: called at most once, if files cannot be written."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self.say = folder, say
        self.background = Background("tensorboard")
        self.writers: dict[str, Any] = {}
        self.troubled = False

    def __call__(self, event: Message) -> None:
        if event["event"] in ("row", "ended") and event["role"] != SOURCE and not self.troubled:
            self.background(lambda: self._guarded(event))

    def close(self) -> None:
        self.background(lambda: [writer.close() for writer in self.writers.values()])
        self.background.close(CLOSE_SECONDS)

    def _guarded(self, event: Message) -> None:
        try:
            if event["event"] == "row":
                self._write(event["job"], event["row"])
            elif (writer := self.writers.pop(event["job"], None)) is not None:
                writer.close()
        except (OSError, ImportError) as error:
            if not self.troubled:
                self.troubled = True
                self.say(f"tensorboard: no more event files ({' '.join(str(error).split())[:200]}); training goes on")

    def _write(self, job: str, row: Message) -> None:
        """A job that an earlier driver left begins anew: its rows are reported again from the first on."""
        if job not in self.writers:
            from tensorboardX import SummaryWriter

            folder = self.folder / TRIALS_FOLDER / job / FOLDER
            for old in folder.glob("events.*"):
                old.unlink()
            self.writers[job] = SummaryWriter(str(folder), flush_secs=FLUSH_SECONDS)
        for name, value in row.items():
            if name != EPOCH and isinstance(value, int | float) and math.isfinite(value):
                self.writers[job].add_scalar(name, value, row[EPOCH])
