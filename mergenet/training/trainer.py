"""The training loop: a generator of EpochResult. The command line, the Ray workers and the tests consume it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mergenet.config import Config
from mergenet.config.choices import PUBLISHED
from mergenet.errors import TrainingDiverged
from mergenet.learner.learner import Learner, set_up, steps_per_epoch
from mergenet.records.run_record import EpochResult, is_value
from mergenet.tasks import built_once
from mergenet.training.distillation import Distiller
from mergenet.transfer.build_links import build_links
from mergenet.transfer.link import Link
from mergenet.transfer.pairs import pairs_begun, resolve_pairs, with_pairs
from mergenet.transfer.phase import Transfer
from mergenet.transfer.recording import describe_source
from mergenet.transfer.source import Source, build_source, factorizer

CHECK_EVERY = 20  # steps between checks of the losses on CUDA, where each check waits for the device


@dataclass(frozen=True)
class Best:
    """A network at its best epoch by validation; the test split is read with these weights, once."""

    epoch: int
    value: float
    network: dict[str, Tensor]


class Phase:
    """Adds the time in its block to its `seconds`; a class, as a step enters several of them in microseconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now, self.seconds, self.start = now, 0.0, 0.0

    def __enter__(self) -> None:
        self.start = self.now()

    def __exit__(self, *_: object) -> None:
        self.seconds += self.now() - self.start


class PhaseClock:
    """Seconds spent in each phase since the last `lap`."""

    def __init__(self, device: torch.device) -> None:
        def synchronized() -> float:
            torch.cuda.synchronize(device)
            return time.perf_counter()

        now = synchronized if device.type == "cuda" else time.perf_counter
        self.phases = {name: Phase(now) for name in ("transfer", "source", "target", "adapter", "evaluate")}

    def phase(self, name: str) -> Phase:
        return self.phases[name]

    def lap(self) -> dict[str, float]:
        lap = {f"seconds_{name}": phase.seconds for name, phase in self.phases.items()}
        for phase in self.phases.values():
            phase.seconds = 0.0
        return lap


class Trainer:
    """Everything that a run's next step depends on; `state_dict` holds it, so that a run resumes where it stopped.

    begun: the pairs that a run which goes on has recorded.
    Raises ConfigError for names, shapes and data that do not fit, before anything is trained or written.
    """

    def __init__(self, config: Config, begun: Sequence[Mapping[str, Any]] = ()) -> None:
        with built_once():
            self._build(config, begun)

    def _build(self, config: Config, begun: Sequence[Mapping[str, Any]]) -> None:
        describe_source(config)
        earlier = pairs_begun(config, begun) if begun else None
        self.config = config = resolve_pairs(config) if earlier is None else with_pairs(config, earlier)
        self.device = set_up(config)
        self.steps_per_epoch = steps_per_epoch(config)
        self.total_steps = self.steps_per_epoch * config.epochs
        self.target = Learner("target", config.target, config, self.device, factorizer(config, "target"))
        self.source: Source | None = None
        if config.method != "none":
            self.source = build_source(config, self.target, self.total_steps)
        self.distiller: Distiller | None = None
        if config.method in PUBLISHED:
            assert self.source is not None and self.source.learner is not None
            self.distiller = Distiller(config, self.target, self.source.learner, self.total_steps)
        self.transfer = Transfer(self._links(as_it_is=earlier is not None), config.transfer, self.total_steps)
        self.clock = PhaseClock(self.device)
        self.epoch = 0
        self.bests: dict[str, Best] = {}  # by role: of the target, and of a source that receives

    @property
    def best(self) -> Best | None:
        """The target's."""
        return self.bests.get("target")

    @property
    def receivers(self) -> list[Learner]:
        """The networks whose best epoch is kept and tested: the target, and a source that also receives."""
        roles = {"target", *(link.learner.role for link in self.transfer.links)}
        return [learner for learner in self.learners if learner.role in roles]

    @property
    def learners(self) -> list[Learner]:
        """The networks of this run that take steps."""
        source = None if self.source is None else self.source.trainee
        return [self.target] if source is None else [self.target, source]

    def epochs(self) -> Iterator[EpochResult]:
        """Trains the remaining epochs."""
        while self.epoch < self.config.epochs:
            yield self._epoch()

    def _epoch(self) -> EpochResult:
        first = self.epoch * self.steps_per_epoch
        for step in range(first, first + self.steps_per_epoch):
            lr = self._step(step)
        self.epoch += 1
        last = first + self.steps_per_epoch
        for learner in self.learners:
            learner.check_finite(last)
        if self.distiller is not None:
            self.distiller.check_finite(last)
        with self.clock.phase("evaluate"):
            self._recalibrate(first, last)
            values = self.target.results()
            values |= self._source_results()
        values |= {"target_lr": lr, **self.transfer.metrics(), **self.clock.lap()}
        if self.distiller is not None:
            values |= self.distiller.metrics()
        if self.transfer.links:
            values["adapter_parameters"] = float(self.transfer.num_parameters)
        result = EpochResult(self.epoch, last, values)
        self._keep_best(result)
        return result

    def _step(self, step: int) -> float:
        """One step of the method [paper]: transfer, self-learning of both networks, the adapter's update."""
        with self.clock.phase("transfer"):
            self.transfer.begin(step)
        lesson = self._lesson(step)
        rates, stepped = {}, {}
        looks = self.device.type == "cpu" or step % CHECK_EVERY == 0
        for learner in self.learners:
            with self.clock.phase(learner.role):
                rates[learner.role] = learner.set_rate(step, self.total_steps, self.steps_per_epoch)
                learner.backward(**(lesson if learner is self.target else {}))
        with self.clock.phase("adapter"):
            self.transfer.observe()
        for learner in self.learners:
            with self.clock.phase(learner.role):
                stepped[learner.role] = learner.update()
                if looks:
                    learner.check_finite(step)
        if looks and self.distiller is not None:
            self.distiller.check_finite(step)
        with self.clock.phase("adapter"):
            self.transfer.finish(step, stepped)
        return rates["target"]

    def time_steps(self, steps: int) -> dict[str, float]:
        """Seconds of each phase (`seconds_target`, ...) over that many steps from the start of a transfer cycle.

        A warm-up step, in which kernels are chosen and memory is allocated, is not counted. The networks learn.
        """
        self._step(0)
        self.clock.lap()
        for step in range(steps):
            self._step(step)
        return self.clock.lap()

    def _lesson(self, step: int) -> dict[str, Any]:
        """The target's batch and objective at this step, if the source teaches it; the teacher's pass is timed."""
        if self.distiller is None:
            return {}
        with self.clock.phase("target"):
            batch = self.target.next_batch()
        with self.clock.phase("transfer"):
            return {"batch": batch, "objective": self.distiller.lesson(batch, step)}

    def _source_results(self) -> dict[str, float]:
        if self.source is None:
            return {}
        trainee = self.source.trainee
        return self.source.metrics(self.epoch) if trainee is None else trainee.results()

    def _recalibrate(self, first: int, last: int) -> None:
        """Of each network into which a link writes, in the epoch of the last of these transfers."""
        if not self.config.transfer.recalibrate_batches:
            return
        for learner in self.learners:
            links = [link for link in self.transfer.links if link.learner is learner]
            steps = [step for link in links for step in self.transfer.updates(link)]
            if first <= max(steps, default=-1) < last:
                learner.recalibrate(self.config.transfer.recalibrate_batches)

    def _keep_best(self, result: EpochResult) -> None:
        for learner in self.receivers:
            value, best = result.metrics[learner.metric], self.bests.get(learner.role)
            if is_value(value) and (best is None or value > best.value):
                network = {k: v.detach().cpu().clone() for k, v in learner.network.state_dict().items()}
                self.bests[learner.role] = Best(result.epoch, value, network)

    def test(self) -> dict[str, float]:
        """Metrics on the test split, read once, of each receiver with the weights of its best epoch, which it keeps.

        Nothing of a source without a best epoch. Raises TrainingDiverged if the target has none.
        """
        if self.best is None:
            raise TrainingDiverged(
                f"{self.target.metric} must be a finite number after some epoch, got none in {self.epoch}: no epoch is "
                "the best, and nothing is tested; train longer, or mend the metric"
            )
        values: dict[str, float] = {}
        for learner in self.receivers:
            if learner.role not in self.bests:
                continue
            learner.network.load_state_dict(self.bests[learner.role].network)
            values |= {f"{learner.role}_test_{k}": v for k, v in learner.evaluate("test").items()}
        return values

    def _links(self, as_it_is: bool = False) -> list[Link]:
        if self.source is None or self.config.method != "mergenet":
            return []
        return build_links(self.config, self.source, self.target, self.steps_per_epoch, as_it_is)

    def state_dict(self) -> dict[str, Any]:
        bests = {role: {"epoch": b.epoch, "value": b.value, "network": b.network} for role, b in self.bests.items()}
        return {
            "epoch": self.epoch,
            "learners": {learner.role: learner.state_dict() for learner in self.learners},
            "transfer": self.transfer.state_dict(),
            "bests": bests,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        for learner in self.learners:
            learner.load_state_dict(state["learners"][learner.role])
        self.transfer.load_state_dict(state["transfer"])
        bests = {role: Best(**best) for role, best in state["bests"].items()}
        self.bests = {role: best for role, best in bests.items() if is_value(best.value)}  # earlier versions kept NaN


def train(config: Config) -> Iterator[EpochResult]:
    """Trains in memory; for a run folder that can be resumed see `train_run`."""
    yield from Trainer(config).epochs()
