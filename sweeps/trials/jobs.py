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
from analysis.seeds import replicate_name
from sweeps.space.space import Labels, Space
from sweeps.trials.messages import Job
from sweeps.trials.recorded_source import SourcePlan, replay


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

    def source(self, plan: SourcePlan) -> Job:
        job = self._job(SOURCE, SOURCE, self.space.base)
        return {**job, "task": "record", "layers": list(plan.layers), "every": plan.every}

    def trial(self, number: int, labels: Labels) -> Job:
        name = trial_name(number)
        values = self.space.config(labels).model_dump(mode="json") | {"name": name}
        return self._with_seeds(self._job(name, TRIAL, values, self.space.values(labels), number))

    def named(self, name: str, params: dict[str, Any], number: int) -> Job:
        """The base itself as a trial with a name of its own: one of a list of configurations that no space draws."""
        return self._with_seeds(self._job(name, TRIAL, self.space.base, params, number))

    def baseline(self) -> Job:
        """The baseline: the same target without transfer, with the base's recipe and seed."""
        return self._with_seeds(self._job(BASELINE, BASELINE, without_transfer(self.space.base)))

    def replicates(self, first: Job) -> list[Job]:
        """The same training with the other seeds. first: a trial's job, or the baseline's."""
        return [self._replicate(first, place, seed) for place, seed in enumerate(self.seeds, start=2)]

    def _replicate(self, first: Job, place: int, seed: int) -> Job:
        name = replicate_name(first["id"], place)
        return self._job(name, REPLICATE, with_seed(first["config"], seed), first["params"], first["number"])

    def _with_seeds(self, job: Job) -> Job:
        """For trial.json: how many runs make the trial whole."""
        return {**job, "seeds": [self.space.base["seed"], *self.seeds]} if self.seeds else job

    def adapter_trainings(self, best: dict[str, Any], params: dict[str, Any], seeds: Sequence[int]) -> list[Job]:
        """The best configuration with one seed after another, each starting from the adapter of the one before."""
        jobs: list[Job] = []
        for number, seed in enumerate(seeds, start=1):
            values = with_seed(best if not jobs else with_adapter(best, jobs[-1]["folder"]), seed)
            jobs.append(self._job(f"{ADAPTER}-{number}", ADAPTER, values, params, number))
        return jobs

    def confirmation(
        self,
        role: str,
        best: dict[str, Any],
        params: dict[str, Any],
        number: int,
        seed: int,
        adapter: str | None = None,
    ) -> Job:
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
        return self._job(f"{role.replace('_', '-')}-{number}", role, values, params, number)

    def _job(
        self, name: str, role: str, values: dict[str, Any], params: dict[str, Any] | None = None, number: int = 0
    ) -> Job:
        folder = self.folder / SOURCE if role == SOURCE else self.folder / TRIALS_FOLDER / name
        if role != SOURCE:
            values = replay(values | {"name": name}, self.recording)
        return {
            "id": name,
            "role": role,
            "task": "train",
            "folder": str(folder),
            "config": values,
            "params": params or {},
            "number": number,
        }


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
