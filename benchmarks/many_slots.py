"""Does the head of a large cluster keep up with hundreds of slots?

A cluster of several raylets on this machine (ray.cluster_utils), and a sweep's own driver on it: study, sampler,
scheduler, Tune, relays, queue, worker pool. Only what trains is simulated: one process a node in which each slot
takes jobs from the queue, sleeps for an epoch and reports a learning curve made from the trial's number. So nothing is
written, and neither torch nor a worker of Ray Train runs.

The wait of an epoch is from "epoch ended", when a slot has reported it, to "go on", when the queue has the scheduler's
answer. It is told for the whole search, and for what comes once the relays of the first trials have started, by which
time answers have piled up. The memory of the head is the PSS of the driver and all that runs on the head node, by kind
of process; what a worker group's controller and helpers take is measured by slot_cost.py.

Goal: 256 slots on 8 nodes, 2,000 trials of 20 epochs: the 99th percentile of the wait is at most 0.5 s, and the driver
takes at most 0.1 s of CPU a trial.
"""

import asyncio
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, trivial
from benchmarks.slot_cost import memory_of
from benchmarks.watched import usage
from mergenet.config.loading import load_config
from sweeps.execution.local_ray import PRESTART
from sweeps.execution.ray_cluster import AT_ONCE

NAME = "many_slots"
MAX_WAIT, MAX_CPU = 0.5, 0.1  # seconds: the 99th percentile of a wait; of the driver's CPU for a trial
MEMORY = 100 * 1024**2  # bytes of a node's object store
METRIC = "target_val_top1"
MARK = "MERGENET_BENCHMARK"  # a variable in the environment of all that the cluster runs

Wait = tuple[float, float]  # when an epoch had ended (since 1970), and the seconds until "go on"


class Node:
    """Simulated slots of one node: an actor whose slots sleep side by side."""

    def __init__(self, queue: str, seconds: float, rate: float) -> None:
        import ray

        from sweeps.execution.job_queue import NAMESPACE

        self.queue = ray.get_actor(queue, NAMESPACE)
        self.seconds, self.rate = seconds, rate
        self.waits: list[Wait] = []

    async def work(self, slots: Sequence[str]) -> list[Wait]:
        """Takes jobs until there are no more. Returns the waits of all epochs."""
        await asyncio.gather(*(self.slot(name) for name in slots))
        return self.waits

    async def slot(self, name: str) -> None:
        from analysis.names import COMPLETE, PRUNED
        from sweeps.trials.messages import GO_ON

        await self.queue.ready.remote(name)
        turn = 0
        while (job := await self.queue.next_job.remote(name, turn)) is not None:
            turn += 1
            rng = np.random.default_rng(job["number"])
            top, state = rng.uniform(0.4, 0.9), COMPLETE
            for epoch in range(1, job["config"]["epochs"] + 1):
                await asyncio.sleep(self.seconds * rng.uniform(0.8, 1.2))
                row = {"epoch": epoch, "step": epoch, METRIC: top * (1 - np.exp(-self.rate * epoch))}
                ended, began = time.time(), time.perf_counter()
                answer = await self.queue.report.remote(name, job["id"], row)
                self.waits.append((ended, time.perf_counter() - began))
                if answer != GO_ON and epoch < job["config"]["epochs"]:
                    state = PRUNED
                    break
            await self.queue.finish.remote(name, job["id"], {"state": state, "error": None})


def simulated(seconds: float, waits: list[Wait]) -> Any:
    """Worker groups of simulated slots, one group a node; what they measure is added to `waits`."""
    import ray

    from sweeps.execution.groups import Groups, Lost

    @dataclass(frozen=True)
    class Simulated(Groups):
        def run(self, queue: str, slots: Sequence[str], scratch: str) -> Lost | None:
            del scratch
            node: Any = ray.remote(num_cpus=len(slots))(Node).remote(queue, seconds, 0.3)
            waits.extend(ray.get(node.work.remote(list(slots))))
            return None

    return Simulated


@contextmanager
def cluster_of(nodes: int, cpus: int) -> Iterator[str]:
    """The address of a cluster: a head without CPUs, set up as docs/cluster.md says, and so many nodes."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ[MARK] = uuid.uuid4().hex
    os.environ.setdefault(AT_ONCE, str(max(1, (os.cpu_count() or 1) - 1)))
    os.environ[PRESTART] = "0"  # else each node starts a Python process for each of its CPUs, all on this machine
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": MEMORY})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=cpus, object_store_memory=MEMORY)
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


def measure(options: Any, folder: Path) -> dict[str, Any]:
    from sweeps.config.loading import load_sweep
    from sweeps.execution.ray_cluster import joined_ray, quiet
    from sweeps.planning.checks import plan_sweep

    scheme = {"sampler": options.sampler, "scheduler": "asha", "slots": options.slots}
    plan = plan_sweep(
        load_sweep(str(trivial.write_sweep(folder / "trivial", options.trials, options.epochs, **scheme)))
    )
    per_node = -(-options.slots // options.nodes)
    with quiet(), cluster_of(options.nodes, per_node) as address, joined_ray(address):
        return searched(plan, options, folder, per_node)


def searched(plan: Any, options: Any, folder: Path, per_node: int) -> dict[str, Any]:
    """The search of a plan on the cluster: waits, CPU of the driver, memory of the head, once and at the end."""
    from sweeps.driver.steps import search
    from sweeps.execution.worker_pool import WorkerPool
    from sweeps.trials.jobs import Jobs
    from sweeps.trials.messages import JobEvent

    mark = os.environ[MARK]
    waits, starts, ends, cpu = list[Wait](), list[float](), list[float](), list[float]()
    memory: dict[str, list[float]] = {}

    def listener(event: JobEvent) -> None:
        if event["event"] == "started":
            starts.append(event["time"])
        elif event["event"] == "ended":
            ends.append(event["time"])
            cpu.append(time.process_time())
            if len(ends) == options.trials // 2:
                memory.update(memory_of(os.getpid(), mark))

    groups = simulated(options.seconds, waits)(shared=per_node)
    begin = time.perf_counter()
    with WorkerPool(plan.sweep.slots, listener, groups, folder) as slots:
        slots.wait_ready(plan.sweep.slots)
        ready, used = time.perf_counter() - begin, time.process_time()
        jobs = Jobs(folder, plan.space, None)
        search(plan, jobs, slots, lambda: False, folder, print)
    whole = usage(os.getpid())
    first = min(options.slots, len(cpu) - 1)  # while the first trials train, relays start
    started = sorted(starts)[min(options.slots, len(starts)) - 1]
    return {
        "trials": len(ends),
        "epochs": len(waits),
        "seconds": time.perf_counter() - begin,
        "ready": ready,
        "started": started - starts[0],
        "wait": quantiles([wait for _, wait in waits]),
        "wait_later": quantiles([wait for ended, wait in waits if ended >= started]),
        "driver_cpu": (cpu[-1] - used) / len(cpu),
        "driver_cpu_later": (cpu[-1] - cpu[first]) / max(1, len(cpu) - 1 - first),
        "driver_mib": whole["driver_mib"],
        "memory": {kind: [len(each), sum(each)] for kind, each in sorted(memory.items())},
    }


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    return {name: float(np.quantile(seconds, q)) for name, q in (("median", 0.5), ("p99", 0.99), ("most", 1.0))}


def report(found: dict[str, Any]) -> None:
    print(f"\n{found['trials']} trials, {found['epochs']} epochs in {found['seconds']:.0f} s")
    print(f"the relays of the first trials started within {found['started']:.0f} s")
    for when, wait in (("", found["wait"]), (" once they run", found["wait_later"])):
        times = f"median {wait['median']:.3f} s, p99 {wait['p99']:.3f}, most {wait['most']:.3f}"
        print(f"from epoch ended to go on{when}: {times}")
    print(f"driver: {found['driver_cpu']:.3f} s of CPU a trial, {found['driver_cpu_later']:.3f} once all relays run")
    for kind, (count, mib) in found["memory"].items():
        print(f"{kind:>28} {count:>5} processes {mib:>8.0f} MiB")
    first, later = found["wait"]["p99"], found["wait_later"]["p99"]
    waits = (("p99 of the wait", first, MAX_WAIT), ("p99 once they run", later, MAX_WAIT))
    for what, value, most in (*waits, ("CPU", found["driver_cpu"], MAX_CPU)):
        print(f"goal: {what} at most {most:g} s: {value:.3f}, {'reached' if value <= most else 'NOT REACHED'}")


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = common.parser(NAME, "The head of a cluster under hundreds of simulated slots.")
    parser.add_argument("--slots", type=common.count, default=256, help="trials at the same time (default 256)")
    parser.add_argument("--nodes", type=common.count, default=8, help="of the cluster (default 8)")
    parser.add_argument("--trials", type=common.count, default=2000, help="of the sweep (default 2000)")
    parser.add_argument("--epochs", type=common.count, default=20, help="of a trial (default 20)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of an epoch, give or take a fifth (default 8)")
    parser.add_argument("--sampler", default="random", help="of the sweep (default random)")
    options = parser.parse_args(arguments)
    facts = common.machine(load_config("digits"))
    common.header(NAME, arguments, facts)
    with tempfile.TemporaryDirectory(prefix="mergenet-many-") as folder:
        found = measure(options, Path(folder))
    report(found)
    if options.json:
        common.footer(NAME, facts, [0], found)


if __name__ == "__main__":
    main()
