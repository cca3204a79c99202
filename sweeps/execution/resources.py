"""Which processes train a trial: how many, with which share of the GPUs, persistent or its own; checked by a plan.

`executor: slots` keeps worker groups that train trial after trial, `per_trial` starts one for each trial: ten seconds
more, in exchange for fresh processes, and for groups that grow and shrink with the cluster.
"""

import itertools
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mergenet.errors import ConfigError
from sweeps.config import SweepConfig
from sweeps.execution.forkserver.start import forks
from sweeps.space.possible_values import reachable
from sweeps.space.space import Space

if TYPE_CHECKING:
    from sweeps.execution.groups import Groups


SHARED = 8  # slots of a worker group at most (groups.py): the GPUs of a usual node
# MiB of memory (PSS) on this machine or the head, measured at eight slots by benchmarks/slot_cost.py: Ray and the
# driver; a group's controller and helpers; a slot's relay
FORKED, SPAWNED = (1050, 310, 45), (950, 470, 70)


def ray_mib(sweep: SweepConfig) -> int:
    """MiB of everything in a sweep but the processes that train."""
    together = SHARED if worker_range(sweep) == (1, 1) and sweep.executor == "slots" else 1
    base, group, relay = FORKED if forks() else SPAWNED
    return base + group * -(-sweep.slots // together) + relay * sweep.slots


def head_gib(sweep: SweepConfig) -> int:
    """Memory to ask for where only the head of a cluster runs: half as much again as was measured, 8 GiB or more."""
    return max(8, math.ceil(1.5 * ray_mib(sweep) / 1024))


def worker_range(sweep: SweepConfig) -> tuple[int, int]:
    """The fewest and the most workers of a trial."""
    workers = sweep.workers_per_trial
    return (workers, workers) if isinstance(workers, int) else workers


def num_cpus(sweep: SweepConfig) -> int:
    """CPUs that Ray on this machine is started with: one for each worker, however many cores there are."""
    return max(sweep.slots * worker_range(sweep)[1], os.cpu_count() or 1)


def worker_gpus(sweep: SweepConfig, device: str, num_gpus: float) -> float:
    """GPUs of each worker. num_gpus: of this machine or the cluster, shared evenly if the sweep does not say."""
    most = worker_range(sweep)[1]
    if sweep.gpus_per_trial is not None:
        return sweep.gpus_per_trial / most
    if device == "cpu":
        return 0.0
    share = min(1.0, num_gpus / (sweep.slots * most))
    return share if most == 1 or share == 1.0 else 0.0


def groups_of(sweep: SweepConfig, base: Mapping[str, Any], num_gpus: float) -> "Groups":
    """The worker groups of a checked sweep. To be called where Ray may be imported."""
    from sweeps.execution.groups import Groups

    fewest, most = worker_range(sweep)
    workers = most if fewest == most else (fewest, most)
    gpus = worker_gpus(sweep, base["device"], num_gpus)
    return Groups(jobs=1 if sweep.executor == "per_trial" else None, workers=workers, gpus=gpus)


def check_executor(sweep: SweepConfig, space: Space, num_gpus: int | None) -> None:
    """Raises ConfigError for workers and GPUs that cannot be had together.

    num_gpus: of this machine; None for a cluster.
    """
    fewest, most = worker_range(sweep)
    if fewest > most:
        raise ConfigError(f"workers_per_trial must be a number or [fewest, most], got {[fewest, most]}; swap them")
    if fewest < most and sweep.executor != "per_trial":
        raise ConfigError(
            f"workers_per_trial must be one number with executor {sweep.executor}, got {[fewest, most]}; "
            f"groups grow and shrink with executor: per_trial only"
        )
    check_gpus(sweep, str(space.base["device"]), num_gpus)
    check_batches(sweep, space)


def check_gpus(sweep: SweepConfig, device: str, num_gpus: int | None) -> None:
    gpus, (_, most) = sweep.gpus_per_trial, worker_range(sweep)
    if gpus is not None and most > 1 and gpus not in (0, most):
        raise ConfigError(
            f"gpus_per_trial must be 0 or {most}, one for each of the {most} workers, got {gpus:g}; "
            "two workers of a trial cannot share a GPU"
        )
    if gpus is not None and gpus > most:
        raise ConfigError(
            f"gpus_per_trial must be at most 1, one for each worker, got {gpus:g}; raise workers_per_trial"
        )
    if gpus and device == "cpu":
        raise ConfigError(f"gpus_per_trial must be 0 with device cpu, got {gpus:g}; leave it out, or set device: auto")
    if num_gpus is None or device == "cpu":
        return
    if gpus == 0 and num_gpus:
        raise ConfigError("gpus_per_trial must be more than 0 with device auto, got 0; write set: {device: cpu}")
    needed = sweep.slots * (gpus or 0)
    if gpus is None and num_gpus and most > 1:
        needed = sweep.slots * most
    if needed > num_gpus:
        raise ConfigError(
            f"slots must fit the GPUs of this machine ({num_gpus}), got {sweep.slots} with "
            f"{needed / sweep.slots:g} GPUs each; lower slots, workers_per_trial or gpus_per_trial, or set device: cpu"
        )


def check_batches(sweep: SweepConfig, space: Space) -> None:
    """Each worker takes its share of a batch."""
    fewest, most = worker_range(sweep)
    for path in ("target.batch_size", "source.batch_size"):
        for size, workers in itertools.product(reachable(space, path), range(fewest, most + 1)):
            if size % workers:
                raise ConfigError(
                    f"{path} must be divisible by the number of workers_per_trial, got {size} with {workers} workers"
                )
