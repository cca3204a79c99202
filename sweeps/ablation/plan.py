"""What an ablation will train, cost and show, before anything is created; every bad value is found here."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.statistics.power import LEVEL, POWER, smallest_gain, smallest_p
from mergenet.config import Config
from mergenet.errors import ConfigError, UserError
from mergenet.records.packages import check_packages
from mergenet.records.provenance import config_hash
from sweeps.ablation.schema import AblationConfig
from sweeps.ablation.sources import SharedSource, shared_sources
from sweeps.ablation.variants import LeftOut, Variant, one_line
from sweeps.config import SweepConfig
from sweeps.config.loading import parse_sweep
from sweeps.execution.resources import check_executor
from sweeps.planning.checks import check_device, check_folder_names, counted_data, num_gpus, with_metric
from sweeps.planning.cost import START_SECONDS, TRAINING_CHECKPOINTS, TRIAL_SECONDS, crowding, epoch_seconds, free_disk
from sweeps.planning.plan import Plan, more_seeds
from sweeps.planning.probe import Measured, measure_each
from sweeps.space.space import Space
from sweeps.tracking.wandb_run import check_key
from sweeps.trials.budget import HOUR
from sweeps.trials.jobs import Jobs
from sweeps.trials.messages import Job
from sweeps.trials.recorded_source import SourcePlan
from sweeps.trials.sweep_dir import BASE_FILE

STATE_BYTES = 16  # of an adapter's parameter while it learns: itself, its gradient and AdamW's two moments, in fp32


@dataclass(frozen=True)
class AblationPlan:
    """variants: what the others are compared with first. as_sweep: the same runs as the slots of a sweep see them."""

    ablation: AblationConfig
    variants: tuple[Variant, ...]
    left_out: tuple[LeftOut, ...]
    sources: tuple[SharedSource, ...]
    as_sweep: Plan

    @property
    def seeds(self) -> tuple[int, ...]:
        return int(self.as_sweep.space.base["seed"]), *more_seeds(self.as_sweep)

    @property
    def metric(self) -> str:
        return self.as_sweep.sweep.objective

    def jobs(self, folder: Path) -> dict[str, list[Job]]:
        """The runs of each variant, by its name, one for each seed in order."""
        return {
            variant.name: self._jobs(folder, variant, number) for number, variant in enumerate(self.variants, start=0)
        }

    def _jobs(self, folder: Path, variant: Variant, number: int) -> list[Job]:
        source = next((one for one in self.sources if variant.name in one.variants), None)
        recording = None if source is None else str(folder / source.name)
        jobs = Jobs(folder, Space(variant.config, {}), recording, self.seeds[1:])
        first = jobs.named(variant.name, variant.changes, number)
        return [first, *jobs.replicates(first)]


def plan_ablation(
    ablation: AblationConfig, variants: Sequence[Variant], left_out: Sequence[LeftOut], elsewhere: bool = False
) -> AblationPlan:
    """Raises UserError; creates nothing. elsewhere: it runs on a cluster, so this machine need not have the device."""
    check_packages()
    check_folder_names()
    centre = variants[0].checked
    sweep = with_metric(as_sweep(ablation, variants), centre)
    space = Space(variants[0].config, {})
    if not elsewhere:
        check_device(centre)
    check_executor(sweep, space, None if elsewhere else num_gpus())
    check_key(sweep, "--wandb offline")
    plan = Plan(sweep, space, SourcePlan(), config_hash(centre), len(variants), data=counted_data(centre))
    return AblationPlan(ablation, tuple(variants), tuple(left_out), tuple(shared_sources(variants)), plan)


def as_sweep(ablation: AblationConfig, variants: Sequence[Variant]) -> SweepConfig:
    """A sweep that draws the variants, without early stopping: what slots, live view and records go by."""
    values: dict[str, list[Any]] = {}
    for variant in variants:
        for path, value in (variant.changes or {"method": variant.config["method"]}).items():
            known = values.setdefault(path, [])
            if value not in known:
                known.append(value)
    found: dict[str, Any] = {
        "name": ablation.name,
        "base": BASE_FILE,
        "search": {path: {"choice": choice} for path, choice in values.items()},
        "num_trials": len(variants),
        "seeds_per_trial": ablation.num_seeds,
        "slots": ablation.slots,
        "scheduler": "none",
        "confirm_seeds": 0,
        "budget_hours": ablation.budget_hours,
        "wandb": ablation.wandb.model_dump(mode="json"),
    }
    return parse_sweep(found, "the ablation")


def tried(variants: Sequence[Variant], slots: int) -> tuple[dict[str, Measured], list[LeftOut]]:
    """A few timed steps of each variant, by name, in a process of its own; and those that cannot train, with why.

    Raises UserError if the first one, to which the others are compared, cannot.
    """
    fit, left_out = [variants[0]], []
    for variant in variants[1:]:
        if reason := too_large(variant.checked, slots):
            left_out.append(LeftOut(variant.label, reason))
        else:
            fit.append(variant)
    measured: dict[str, Measured] = {}
    for variant, found in zip(fit, measure_each((variant.config, ()) for variant in fit), strict=True):
        if isinstance(found, Measured):
            measured[variant.name] = found
        elif variant is variants[0]:
            raise found
        else:
            left_out.append(LeftOut(variant.label, one_line(found)))
    return measured, left_out


def too_large(config: Config, slots: int) -> str:
    """Why a machine's memory does not hold the adapters of a variant, such as those of whole matrices; else empty."""
    from mergenet.transfer.pairs import write_pairs  # torch
    from sweeps.space.adapter_size import adapter_parameters

    try:
        parameters = adapter_parameters(write_pairs(config))
    except (UserError, KeyError):  # its layers are not there: building its networks says so
        return ""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = STATE_BYTES * parameters * slots
    if needed <= machine:
        return ""
    return (
        f"its adapters have {parameters:,} parameters, which take {needed / 1024**3:.0f} GiB in {slots} slots, "
        f"and this machine has {machine / 1024**3:.0f}"
    )


def estimate(
    plan: AblationPlan,
    measured: Mapping[str, Measured],
    folder: Path,
    reused: Sequence[str] = (),
    pair_sd: float | None = None,
) -> dict[str, Any]:
    """The numbers of a plan. reused: names of runs that need no training. pair_sd: of a paired difference, points."""
    jobs, sweep = plan.jobs(folder), plan.as_sweep
    left = {name: sum(job["id"] not in reused for job in found) for name, found in jobs.items()}
    seconds = {variant.name: run_seconds(plan, variant, measured[variant.name]) for variant in plan.variants}
    recordings = [source for source in plan.sources if any(left[name] for name in source.variants)]
    recording = sum(recording_seconds(plan, source, measured[source.variants[0]]) for source in recordings)
    training = sum(seconds[name] * count for name, count in left.items())
    clock = START_SECONDS + recording + training / min(sweep.sweep.slots, max(1, sum(left.values())))
    return {
        "name": plan.ablation.name,
        "metric": plan.metric,
        "data": sweep.data,
        "searched_data": sweep.searched_data,
        "variants": [
            {"name": one.name, "label": one.label, "changes": one.changes, "run_seconds": round(seconds[one.name], 2)}
            for one in plan.variants
        ],
        "left_out": [vars(one) for one in plan.left_out],
        "seeds": list(plan.seeds),
        "runs": {"all": sum(map(len, jobs.values())), "reused": len(reused), "train": sum(left.values())},
        "recordings": len(recordings),
        "epochs": sweep.epochs * (sum(left.values()) + len(recordings)),
        "hours": round(clock / HOUR, 4) if left and any(left.values()) else 0.0,
        "run_hours": round((training + recording) / HOUR, 4),
        "budget_hours": plan.ablation.budget_hours,
        "disk": {"needed": disk(plan, measured, left), "free": free_disk(folder)},
        "statistics": statistics(*compared(plan), pair_sd),
    }


def compared(plan: AblationPlan) -> tuple[int, int]:
    """Seeds of a paired difference, and how many of these are tested; of the best of a sweep that of who is named."""
    return (len(plan.seeds), len(plan.variants) - 1) if plan.ablation.top is None else (plan.ablation.seeds, 1)


def run_seconds(plan: AblationPlan, variant: Variant, measured: Measured) -> float:
    """Seconds of one run while all slots are busy."""
    recorded = any(variant.name in source.variants for source in plan.sources)
    own = replace(plan.as_sweep, source=SourcePlan(("any",), 1) if recorded else SourcePlan())
    epoch, _, _ = epoch_seconds(own, measured)
    return crowding(own, measured) * own.epochs * epoch + measured.setup + TRIAL_SECONDS[own.sweep.executor]


def recording_seconds(plan: AblationPlan, source: SharedSource, measured: Measured) -> float:
    _, _, epoch = epoch_seconds(plan.as_sweep, measured)
    return source.config.epochs * epoch + measured.setup


def disk(plan: AblationPlan, measured: Mapping[str, Measured], left: Mapping[str, int]) -> int:
    """Bytes of the best networks and adapters of the runs that train, and of the checkpoints while they do."""
    recorded = {name for source in plan.sources for name in source.variants}
    total, largest = 0, 0
    for name, count in left.items():
        found = measured[name]
        source = 0 if name in recorded else found.source_bytes
        checkpoint = found.target_bytes + found.network_bytes + found.adapter_bytes + source
        largest = max(largest, checkpoint) if count else largest
        total += count * (found.network_bytes + found.trained_adapter_bytes)
    return total + min(plan.as_sweep.sweep.slots, sum(left.values())) * TRAINING_CHECKPOINTS * largest


def statistics(seeds: int, compared: int, pair_sd: float | None = None) -> dict[str, Any]:
    """What so many seeds can show of so many variants.

    gain_in_sd: the smallest difference, in standard deviations of a pair's difference, that a t test finds with the
    given power; holm_gain_in_sd: the same at the level of the first step of Holm's correction. holm_seeds: how many
    the sign-flip test needs to be below the level after that correction. Points if the deviation is known.
    """
    gains = {"gain": smallest_gain(seeds), "holm_gain": smallest_gain(seeds, LEVEL / max(1, compared))}
    found: dict[str, Any] = {
        "seeds": seeds,
        "compared": compared,
        "level": LEVEL,
        "power": POWER,
        "smallest_p": smallest_p(seeds),
        "holm_seeds": next((n for n in range(2, 101) if smallest_p(n) * max(1, compared) < LEVEL), None),
        "pair_sd_points": pair_sd,
    }
    for name, gain in gains.items():
        found[f"{name}_in_sd"] = None if gain is None else round(gain, 3)
        found[f"{name}_points"] = None if gain is None or pair_sd is None else round(gain * pair_sd, 2)
    return found


def check_reference(variants: Sequence[Variant]) -> None:
    """Raises ConfigError if there is nothing to compare."""
    if len(variants) < 2:
        raise ConfigError(
            "an ablation must have a variant beside its centre, got none: all that was proposed equals the centre or "
            "is left out; add factors (--factors, --values) or components=True (--components)"
        )
