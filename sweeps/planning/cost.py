"""What a sweep will cost and can show, from its plan and a few timed steps; creates nothing."""

import math
import os
import shutil
from pathlib import Path
from typing import Any

from analysis.statistics.power import LEVEL, POWER, smallest_gain, smallest_p
from mergenet.records.run_record import ADAPTER_PARAMETERS
from mergenet.training.advice import lines
from mergenet.transfer.phase import transfer_steps
from sweeps.config import SweepConfig
from sweeps.config.choices import KEEP_FACTS
from sweeps.execution.resources import num_cpus, ray_mib, worker_gpus, worker_range
from sweeps.planning.checks import check_pair_sd, num_gpus, plan_sweep
from sweeps.planning.epochs import Epochs, forecast
from sweeps.planning.plan import Plan
from sweeps.planning.probe import Measured, measure
from sweeps.space.conditions import size
from sweeps.space.possible_values import reachable
from sweeps.space.space import CYCLE, Space
from sweeps.trials.budget import HOUR
from sweeps.trials.objectives import asked

# measured on 2 cores: until the first worker group is up, and what a trial takes beyond its training
START_SECONDS = 15.0
TRIAL_SECONDS = {"slots": 0.3, "per_trial": 12.0}
TRAINING_CHECKPOINTS = 2  # of a run in training; see mergenet.records.checkpoint


def facts(sweep: SweepConfig, folder: Path, pair_sd: float | None = None) -> dict[str, Any]:
    """All numbers of `mergenet sweep plan`; the sweep is checked first. Raises UserError."""
    check_pair_sd(pair_sd)
    plan = plan_sweep(sweep)
    return estimate(plan, measure(plan.space.base, plan.source.layers), folder, pair_sd)


def estimate(plan: Plan, measured: Measured, folder: Path, pair_sd: float | None = None) -> dict[str, Any]:
    """The numbers of a plan.

    folder: the planned sweep folder, for its free disk space. pair_sd: standard deviation of a paired difference, in
    points.
    """
    epochs = forecast(plan.sweep, plan.epochs, plan.source.record)
    return {
        "name": plan.sweep.name,
        "trials": plan.sweep.num_trials,
        "shortage": plan.shortage,
        "warnings": list(plan.warnings),
        "seeds_per_trial": plan.sweep.seeds_per_trial,
        "confirmations": plan.sweep.num_confirmations,
        "adapter_trainings": plan.sweep.adapter_seeds,
        "confirm_controls": list(plan.sweep.confirm_controls),
        "epochs": {
            "of_a_run": plan.epochs,
            "search_full": epochs.search_full,
            "search_expected": round(epochs.search, 1),
            "full": epochs.full,
            "trainings": round(plan.sweep.num_trials + epochs.replicates, 1),
            "expected": round(epochs.expected, 1),
        },
        "data": plan.data,
        "searched_data": plan.searched_data,
        "space": space_size(plan.space),
        "warm_start": plan.warm.facts(),
        "objectives": dict(zip(plan.sweep.objectives, plan.sweep.modes, strict=True)),
        "constraints": plan.sweep.bounds,
        "adapter_parameters": adapter_range(plan),
        "diagnosis": diagnosis(measured),
        "updates": updates(plan, measured),
        "source": {"recorded": plan.source.record, "layers": list(plan.source.layers), "reason": plan.source.reason},
        "budget": {"hours": plan.sweep.budget_hours, "epochs": plan.sweep.budget_epochs},
        "time": times(plan, measured, epochs),
        "disk": disk(plan, measured, folder),
        "memory": memory(plan, measured),
        "statistics": statistics(plan.sweep.confirm_seeds, pair_sd),
    }


def space_size(space: Space) -> dict[str, int]:
    """combinations: of all countable values, over all branches; conditional: number of values with conditions.

    continuous: number of further ranges of numbers, in the branch with the most.
    """
    combinations, continuous = size(space.entries)
    conditional = sum(bool(entry.when) for entry in space.entries.values())
    return {"combinations": combinations, "continuous": continuous, "conditional": conditional}


def adapter_range(plan: Plan) -> list[int] | None:
    """Fewest and most parameters; None if the sweep does not use them, or if there are too many to count."""
    from sweeps.space.adapter_size import adapter_sizes

    sizes = adapter_sizes(plan.space) if ADAPTER_PARAMETERS in asked(plan.sweep) else None
    return None if sizes is None else [sizes[0], sizes[-1]]


def diagnosis(measured: Measured) -> dict[str, Any] | None:
    """The diagnosis of the base configuration: the worst finding, or that there is none, and how many there are.

    None if it transfers nothing.
    """
    found = measured.findings
    if found is None:
        return None
    worst = found[0] if found else {"rule": None, "links": []}
    return {**worst, "line": lines(found)[0], "findings": len(found)}


def updates(plan: Plan, measured: Measured) -> list[dict[str, int]] | None:
    """How many updates an adapter of the base gets with the smallest and with the largest t_cycle that can be drawn.

    fewest, most: of its pairs, which may have cycles of their own. None if the base transfers nothing.
    """
    config = plan.space.config({})
    if config.method != "mergenet":
        return None
    total = measured.steps_per_epoch * plan.epochs
    cycles = reachable(plan.space, CYCLE, transferring=True)
    found = []
    for cycle in sorted({min(cycles), max(cycles)}):
        everies = [pair.every or cycle for pair in config.transfer.written_pairs]
        counts = [len(transfer_steps(config.transfer, every, total)) for every in everies]
        found.append({"t_cycle": cycle, "fewest": min(counts), "most": max(counts)})
    return found


def epoch_seconds(plan: Plan, measured: Measured) -> tuple[float, float, float]:
    """Seconds of one epoch, alone on the machine: of a trial, of no transfer, of the recorded source."""
    steps = measured.steps_per_epoch
    none = steps * measured.target + measured.validate_target
    source = steps * measured.source + measured.validate_source
    trial = none + steps * measured.transfer + (0.0 if plan.source.record else source)
    return trial, none, source


def crowding(plan: Plan, measured: Measured) -> float:
    """How much longer a step takes while all slots are busy, because their threads share cores, or GPUs are shared."""
    _, workers = worker_range(plan.sweep)
    if measured.device == "cpu":
        busy = plan.sweep.slots * workers * int(plan.space.base["threads"])
        return max(1.0, busy / (os.cpu_count() or 1))
    share = worker_gpus(plan.sweep, measured.device, num_gpus())
    return 1 / share if 0 < share < 1 else 1.0


def times(plan: Plan, measured: Measured, epochs: Epochs) -> dict[str, Any]:
    """hours: wall time; trial_hours: of all jobs together; gpu_hours: the same times the GPUs of a job."""
    sweep, (trial, none, source) = plan.sweep, epoch_seconds(plan, measured)
    _, workers = worker_range(sweep)
    slower = crowding(plan, measured) / workers
    job = measured.setup + TRIAL_SECONDS[sweep.executor]
    search = slower * epochs.search * trial + (sweep.num_trials + epochs.replicates) * job
    capped = sweep.budget_hours is not None and search > sweep.budget_hours * HOUR * sweep.slots
    if capped:
        assert sweep.budget_hours is not None
        search = sweep.budget_hours * HOUR * sweep.slots
    transferring = sweep.num_confirmations - sweep.confirm_seeds
    confirm = slower * plan.epochs * (transferring * trial + sweep.confirm_seeds * none) + sweep.num_confirmations * job
    chain = sweep.adapter_seeds * (plan.epochs * trial / workers + job)  # one after another, each alone
    recording = epochs.source * source / workers + (measured.setup if epochs.source else 0.0)
    baseline = slower * epochs.baseline * none + sweep.seeds_per_trial * job
    clock = START_SECONDS + recording + (baseline + search) / min(sweep.slots, sweep.num_trials)
    clock += chain + confirm / min(sweep.slots, max(1, sweep.num_confirmations))
    total = recording + search + chain + confirm + baseline
    gpus = worker_gpus(sweep, measured.device, num_gpus()) * workers
    return {
        "hours": round(clock / HOUR, 4),
        "trial_hours": round(total / HOUR, 4),
        "gpu_hours": round(total * gpus / HOUR, 4),
        "epoch_seconds": round(trial, 3),
        "budget_ends_search": capped,
        "slower_when_busy": round(crowding(plan, measured), 2),
        "timed_steps": measured.steps,
        "device": measured.device,
    }


def disk(plan: Plan, measured: Measured, folder: Path) -> dict[str, int]:
    """Bytes at most, from the sizes of all tensors that are written: of what has ended, and of what trains beside."""
    source = 0 if plan.source.record else measured.source_bytes
    none = measured.target_bytes + measured.network_bytes  # a checkpoint holds the best network, too
    trial = none + measured.adapter_bytes + source
    count = plan.sweep.seeds_per_trial
    sweep = plan.sweep
    runs = count * sweep.num_trials + sweep.adapter_seeds + sweep.num_confirmations - sweep.confirm_seeds
    without = count + plan.sweep.confirm_seeds
    kept, slots = KEEP_FACTS[sweep.keep_checkpoints].checkpoints, min(sweep.slots, runs + without)
    points = math.ceil(measured.steps_per_epoch * plan.epochs / max(1, plan.source.every))
    return {
        "checkpoints": kept * (runs * trial + without * none) + (TRAINING_CHECKPOINTS - kept) * slots * trial,
        "best_networks": 0 if sweep.keep_checkpoints == "none" else (runs + without) * measured.network_bytes,
        "adapters": runs * measured.trained_adapter_bytes,
        "recording": points * measured.layers_bytes if plan.source.record else 0,
        "free": free_disk(folder),
    }


def free_disk(folder: Path) -> int:
    """Bytes free where the folder is, or will be."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def memory(plan: Plan, measured: Measured) -> dict[str, int]:
    """Bytes. worker: the peak of the process of the timed steps, whose source was live; ray: all else, as measured."""
    workers = plan.sweep.slots * worker_range(plan.sweep)[1]
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    gpu = {"gpu_worker": measured.gpu_memory_bytes} if measured.gpu_memory_bytes else {}
    ray = ray_mib(plan.sweep) * 2**20
    known = {"worker": measured.memory_bytes, "workers": workers, "ray": ray, "machine": total}
    return {**known, "cpus": num_cpus(plan.sweep), **gpu}


def statistics(seeds: int, pair_sd: float | None) -> dict[str, Any]:
    """gain_in_sd: the smallest gain found with the given power, in standard deviations of a pair's difference."""
    gain = smallest_gain(seeds)
    return {
        "seeds": seeds,
        "smallest_p": smallest_p(seeds),
        "can_show": smallest_p(seeds) < LEVEL,
        "level": LEVEL,
        "power": POWER,
        "gain_in_sd": None if gain is None else round(gain, 3),
        "pair_sd_points": pair_sd,
        "gain_points": None if gain is None or pair_sd is None else round(gain * pair_sd, 2),
    }
