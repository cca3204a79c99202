"""The jobs of a sweep: which configuration runs in which role, in which folder, under which name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.names import (
    ADAPTER,
    BASELINE,
    CONFIRM_ADAPTER,
    CONFIRM_NONE,
    CONTROL_OF,
    CONTROL_PATH,
    REPLICATE,
    SOURCE,
    TRIAL,
    TRIALS_FOLDER,
)
from analysis.seeds import SEEDS, replicate_name
from sweeps.space.space import Labels, Space
from sweeps.trials.recorded_source import SourcePlan, replay

Message = dict[str, Any]  # a job, or an event about one; see execution/job_queue.py

# The answer to a job that has reported an epoch; SUSPEND is also the outcome of a job that was paused
GO_ON, STOP, SUSPEND = "go on", "stop", "paused"

# What trials report to Tune
OBJECTIVE = "objective"  # the best value of the sweep's metric so far
EPOCH, EPOCHS = "epoch", "epochs"  # the epoch that has ended, and how many there will be


def trial_name(number: int) -> str:
    return f"trial-{number:03d}"


@dataclass(frozen=True)
class Jobs:
    """space: its base has the source's seed pinned. recording: folder of the recorded source, if there is one.

    seeds: of trials and baseline beyond the base's own.
    """

    folder: Path
    space: Space
    recording: str | None
    seeds: tuple[int, ...] = ()

    def source(self, plan: SourcePlan) -> Message:
        extra = {"layers": list(plan.layers), "every": plan.every}
        return self._job(SOURCE, SOURCE, self.space.base, task="record", **extra)

    def trial(self, number: int, labels: Labels) -> Message:
        name = trial_name(number)
        values = self.space.config(labels).model_dump(mode="json") | {"name": name}
        return self._job(name, TRIAL, values, params=self.space.values(labels), number=number, **self._all_seeds())

    def baseline(self) -> Message:
        """The baseline: the same target without transfer, with the base's recipe and seed."""
        return self._job(BASELINE, BASELINE, without_transfer(self.space.base), **self._all_seeds())

    def replicates(self, first: Message) -> list[Message]:
        """The same training with the other seeds. first: a trial's job, or the baseline's."""
        return [self._replicate(first, place, seed) for place, seed in enumerate(self.seeds, start=2)]

    def _replicate(self, first: Message, place: int, seed: int) -> Message:
        about = {key: first[key] for key in ("params", "number")}
        name = replicate_name(first["id"], place)
        return self._job(name, REPLICATE, with_seed(first["config"], seed), **about)

    def _all_seeds(self) -> Message:
        """For trial.json: how many runs make the trial whole."""
        return {SEEDS: [self.space.base["seed"], *self.seeds]} if self.seeds else {}

    def adapter_trainings(self, best: dict[str, Any], params: dict[str, Any], seeds: Sequence[int]) -> list[Message]:
        """The best configuration with one seed after another, each starting from the adapter of the one before."""
        jobs: list[Message] = []
        for number, seed in enumerate(seeds, start=1):
            values = with_seed(best if not jobs else with_adapter(best, jobs[-1]["folder"]), seed)
            jobs.append(self._job(f"{ADAPTER}-{number}", ADAPTER, values, params=params, number=number))
        return jobs

    def confirmation(
        self,
        role: str,
        best: dict[str, Any],
        params: dict[str, Any],
        number: int,
        seed: int,
        adapter: str | None = None,
    ) -> Message:
        """The best configuration, a control of it, or the same recipe without transfer, with a fresh seed.

        params: of the best. number: of the seed, from 1. adapter: folder of the run that trained it last.
        """
        if role == CONFIRM_NONE:
            best, params = without_transfer(best), {}
        elif role == CONFIRM_ADAPTER:
            assert adapter is not None
            best = with_adapter(best, adapter)
        elif role in CONTROL_OF:
            best = with_control(best, CONTROL_OF[role])
            params = params | ({CONTROL_PATH: CONTROL_OF[role]} if CONTROL_PATH in params else {})
        values = with_seed(best, seed)
        return self._job(f"{role.replace('_', '-')}-{number}", role, values, params=params, number=number)

    def _job(self, name: str, role: str, values: dict[str, Any], **more: Any) -> Message:
        folder = self.folder / SOURCE if role == SOURCE else self.folder / TRIALS_FOLDER / name
        if role != SOURCE:
            values = replay(values | {"name": name}, self.recording)
        job = {"id": name, "role": role, "task": "train", "folder": str(folder), "config": values}
        return job | {"params": {}, "number": 0} | more


def with_seed(values: dict[str, Any], seed: int) -> dict[str, Any]:
    """The same with another seed for all but the source, whose seed is pinned."""
    return values | {"seed": seed, "target": values["target"] | {"seed": None}}


def with_control(values: dict[str, Any], control: str) -> dict[str, Any]:
    return values | {"transfer": values["transfer"] | {"control": control}}


def with_adapter(values: dict[str, Any], folder: str) -> dict[str, Any]:
    transfer = values["transfer"]
    return values | {"transfer": transfer | {"adapter": transfer["adapter"] | {"init": folder}}}


def no_controls(best: dict[str, Any]) -> str:
    """Why controls of a configuration would show nothing; empty if they would."""
    if best["method"] != "mergenet":
        return f"its method is {best['method']}, and only that of mergenet shows an adapter the source"
    control = best["transfer"]["control"]
    return "" if control == "real" else f"its own {CONTROL_PATH} is {control}"


def without_transfer(values: dict[str, Any]) -> dict[str, Any]:
    return values | {"method": "none"}
