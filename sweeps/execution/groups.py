"""The worker groups of a sweep: each a trainer of Ray Train, whose workers take jobs from the queue.

Where a trial has one worker, slots of one node share a group: a worker is a slot, which trains alone, without a process
group of torch. A trainer has a controller and three helpers, half a gibibyte together, whatever the number of its
workers. The price: if one worker dies, Ray Train starts the whole group again, so the jobs of the other slots go on
from their last checkpoint, too. That is why a group has at most SHARED slots.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.train import RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from mergenet.errors import one_line, visible
from sweeps.execution.placement import Shape
from sweeps.execution.resources import SHARED
from sweeps.execution.worker import WorkerFailed, worker_loop
from sweeps.trials.errors import write_refusal


@dataclass(frozen=True)
class Lost:
    """A group that ended before its work was done. died: the ranks of the workers that were the cause; count: all.

    left: whether its controller has not ended by itself, which leaves its resources reserved.
    """

    reason: str
    died: frozenset[int]
    count: int
    left: bool = False

    @property
    def with_its_node(self) -> bool:
        """Whether the node seems to have left, and with it the room for so many workers in one place."""
        return len(self.died) == self.count > 1 and len(ray.nodes()) > 1


@dataclass(frozen=True)
class Groups:
    """How worker groups are started. jobs: how many a slot runs; None: until there are no more.

    workers: processes of a slot, or (fewest, most) of one that grows and shrinks with the cluster.
    gpus: per worker; a fraction lets several share one.
    look_seconds: how often a group that can grow looks for free resources; Ray itself counts the nodes every 20 s.
    Growing means restarting from the last checkpoint, so it should be rare.
    shared: slots that a group has at most, where they may share one.
    """

    jobs: int | None = None
    workers: int | tuple[int, int] = 1
    gpus: float = 0.0
    look_seconds: float = 60.0
    shared: int = SHARED

    def deal(self, count: int) -> list[list[int]]:
        """The slots of each group, by number. On several nodes a group has the slots of one of them."""
        if self.jobs is not None or self.workers != 1:
            return [[slot] for slot in range(count)]
        return list(dealt(count, node_places(self.gpus), self.shared))

    def run(self, queue: str, slots: Sequence[str], scratch: str) -> Lost | None:
        """Trains with one worker group until its work is done. slots: names; queue: the queue's name."""
        try:
            self.trainer(queue, slots, scratch).fit()
        except Exception as error:
            died = error.worker_failures if isinstance(error, WorkerGroupError) else range(len(slots))
            reason = write_refusal(error) or reason_of(error)
            left = not isinstance(error, WorkerGroupError)
            return Lost(reason, frozenset(died if len(slots) > 1 else [0]), len(slots), left)
        return None

    def resources(self) -> dict[str, float]:
        """Of a worker."""
        return {"CPU": 1.0} | ({"GPU": self.gpus} if self.gpus else {})

    def shape(self, slots: Sequence[int]) -> Shape:
        """What a group of these slots reserves."""
        count = len(slots) if self.workers == 1 else self.workers
        fewest, most = (count, count) if isinstance(count, int) else count
        return Shape(self.resources(), fewest, most)

    def trainer(self, queue: str, slots: Sequence[str], scratch: str) -> TorchTrainer | DataParallelTrainer:
        """A TorchTrainer where the workers train together; where each trains alone, its base, which joins nothing."""
        settings = {"queue": queue, "slots": list(slots), "folder": str(Path.cwd()), "jobs": self.jobs}
        resources, alone = self.resources(), self.workers == 1
        elastic: dict[str, Any] = {  # neither is in the types that Ray declares
            "num_workers": len(slots) if alone else self.workers,
            "elastic_resize_monitor_interval_s": self.look_seconds,
        }
        scaling = ScalingConfig(use_gpu=self.gpus > 0, resources_per_worker=resources, **elastic)
        run_config = RunConfig(name=slots[0], storage_path=scratch)
        kind = DataParallelTrainer if alone else TorchTrainer
        return kind(worker_loop, train_loop_config=settings, scaling_config=scaling, run_config=run_config)


def reason_of(error: Exception) -> str:
    """What each worker that failed says last: the exception without its traceback, or why its process has ended."""
    if not isinstance(error, WorkerGroupError):
        return one_line(error, 300)
    said = [last_words(str(failure)) or type(failure).__name__ for failure in error.worker_failures.values()]
    lines = dict.fromkeys(line.rpartition(f"{WorkerFailed.__name__}: ")[2] for line in said)
    return visible("; ".join(lines))[:400]


def last_words(text: str) -> str:
    """What follows the last line that is indented, as a traceback is, and what Ray lists of a process that died."""
    lines = text.strip().splitlines()
    indented = [number for number, line in enumerate(lines, start=1) if line[:1].isspace()]
    return " ".join(" ".join(lines[max(indented, default=0) :] or lines[-1:]).split())


def dealt(count: int, places: Iterable[int], shared: int) -> Iterator[list[int]]:
    """Slots 0 to count - 1 in groups of at most `shared`, node by node; those without a place are groups of their own.

    places: of each node.
    """
    slot = 0
    for place in places:
        end = min(count, slot + place)
        for first in range(slot, end, shared):
            yield list(range(first, min(end, first + shared)))
        slot = end
    yield from ([late] for late in range(slot, count))


def node_places(gpus: float) -> list[int]:
    """How many workers each node has room for, by its CPUs and GPUs. gpus: of a worker."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [places_in(resources, gpus) for resources in nodes]


def places_in(resources: dict[str, float], gpus: float) -> int:
    cpus = int(resources.get("CPU", 0))
    return min(cpus, int(resources.get("GPU", 0) / gpus + 1e-6)) if gpus else cpus
