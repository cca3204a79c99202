"""The jobs of a sweep: which configuration runs in which role, in which folder, under which name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.trials import BASELINE, CONFIRM_BEST, CONFIRM_NONE, SOURCE, TRIAL, TRIALS_FOLDER
from sweeps.source import SourcePlan, replay
from sweeps.space import Labels, Space

Message = dict[str, Any]  # a job, or what is said of it; see mailbox.py

# What a job is told when it has reported an epoch; SUSPEND is also the outcome of a job that was paused
GO_ON, STOP, SUSPEND = "go on", "stop", "suspend"

# What trials report to Tune
OBJECTIVE = "objective"  # the best value of the sweep's metric so far
EPOCH, EPOCHS = "epoch", "epochs"  # the one that has ended, and how many there will be


def trial_name(number: int) -> str:
    return f"trial-{number:03d}"


@dataclass(frozen=True)
class Jobs:
    """space: its base has the source's seed pinned. recording: folder of the recorded source, if there is one."""

    folder: Path
    space: Space
    recording: str | None

    def source(self, plan: SourcePlan) -> Message:
        extra = {"layers": list(plan.layers), "every": plan.every}
        return self._job(SOURCE, SOURCE, self.space.base, task="record", **extra)

    def trial(self, number: int, labels: Labels) -> Message:
        name = trial_name(number)
        values = self.space.config(labels).model_dump(mode="json") | {"name": name}
        return self._job(name, TRIAL, values, params=self.space.values(labels), number=number)

    def baseline(self) -> Message:
        """The same target without transfer, under the base's recipe and seed."""
        return self._job(BASELINE, BASELINE, without_transfer(self.space.base))

    def confirmation(self, role: str, best: dict[str, Any], params: dict[str, Any], number: int, seed: int) -> Message:
        """The best configuration, or the same recipe without transfer, with a fresh seed (number from 1)."""
        values = without_transfer(best) if role == CONFIRM_NONE else best
        values = values | {"seed": seed, "target": values["target"] | {"seed": None}}
        params = params if role == CONFIRM_BEST else {}
        return self._job(f"{role.replace('_', '-')}-{number}", role, values, params=params, number=number)

    def _job(self, name: str, role: str, values: dict[str, Any], **more: Any) -> Message:
        folder = self.folder / SOURCE if role == SOURCE else self.folder / TRIALS_FOLDER / name
        if role != SOURCE:
            values = replay(values | {"name": name}, self.recording)
        job = {"id": name, "role": role, "task": "train", "folder": str(folder), "config": values}
        return job | {"params": {}, "number": 0} | more


def without_transfer(values: dict[str, Any]) -> dict[str, Any]:
    return values | {"method": "none"}
