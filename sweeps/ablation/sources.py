"""Which variants can replay one recording of the source: it is trained once for all that train it alike."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.names import SOURCE
from mergenet.config import Config
from mergenet.errors import UserError
from sweeps.ablation.variants import Variant
from sweeps.space.space import Space
from sweeps.trials.jobs import Jobs
from sweeps.trials.messages import Job
from sweeps.trials.recorded_source import SourcePlan, plan_source


@dataclass(frozen=True)
class SharedSource:
    """name: of its folder and its job. plan: the layers of all its variants. variants: names of those that replay it.

    config: one of them, with its source live.
    """

    name: str
    plan: SourcePlan
    variants: tuple[str, ...]
    config: Config

    def job(self, folder: Path) -> Job:
        job = Jobs(folder, Space(self.config.model_dump(mode="json"), {}), None).source(self.plan)
        return {**job, "id": self.name, "folder": str(folder / self.name)}


def shared_sources(variants: Sequence[Variant]) -> list[SharedSource]:
    """The recordings that are needed, that of the first variant first."""
    groups: dict[str, list[tuple[Variant, Config, SourcePlan]]] = {}
    for variant in variants:
        config = written(variant.checked)
        if config is None or config.method != "mergenet":
            continue
        plan = plan_source(Space(config.model_dump(mode="json"), {}))
        if plan.record:
            groups.setdefault(source_key(config), []).append((variant, config, plan))
    found = []
    for number, group in enumerate(groups.values(), start=1):
        layers = dict.fromkeys(layer for _, _, plan in group for layer in plan.layers)
        union = SourcePlan(tuple(layers), math.gcd(*(plan.every for _, _, plan in group)))
        name = SOURCE if number == 1 else f"{SOURCE}-{number}"
        found.append(SharedSource(name, union, tuple(variant.name for variant, _, _ in group), group[0][1]))
    return found


def written(config: Config) -> Config | None:
    """With its pairs written out; None where that is impossible, which its own run will report."""
    from mergenet.transfer.pairs import write_pairs  # torch

    try:
        return write_pairs(config)
    except UserError:
        return None


def source_key(config: Config) -> str:
    """Equal for configurations whose source trains the same: its settings, the number of steps, the arithmetic."""
    values = config.model_dump(mode="json")
    run = {key: values[key] for key in ("epochs", "device", "threads", "amp", "deterministic")}
    steps = {key: values["target"][key] for key in ("task", "data", "batch_size")}
    return json.dumps([values["source"], run, steps], sort_keys=True)
