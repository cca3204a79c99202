"""Whether the sweep's source can be trained once for all trials, and which layers must be recorded.

With one-way transfer the source never sees the target: whatever a trial draws for the transfer, the source trains the
same. It is recorded once and replayed, bit for bit, as long as no drawn value changes its training.
"""

import math
from dataclasses import dataclass
from typing import Any

from mergenet.config import Config
from mergenet.config.choices import PUBLISHED
from sweeps.space.possible_values import reachable
from sweeps.space.space import CYCLE, Space, transfers

# Drawn values that change the source's trajectory: its own settings, the number of steps, the arithmetic.
CHANGES_SOURCE = ("source.", "target.batch_size", "target.data.", "target.task", "amp", "deterministic")


@dataclass(frozen=True)
class SourcePlan:
    """layers, every: what to record, empty and 0 when the source is not recorded; reason: why not."""

    layers: tuple[str, ...] = ()
    every: int = 0
    reason: str = ""

    @property
    def record(self) -> bool:
        return bool(self.layers)

    @property
    def text(self) -> str:
        """What is recorded, and when."""
        when = "at every step" if self.every == 1 else f"every {self.every} steps"
        return f"{layers_text(len(self.layers))} recorded {when}"


def layers_text(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"


def plan_source(space: Space) -> SourcePlan:
    """Record if every configuration of the space can replay one recording."""
    configs = [space.config(space.filled(labels)) for labels in filter(transfers, space.combinations())]
    reason = why_not(space, configs)
    if reason:
        return SourcePlan(reason=reason)
    layers = {pair.source: None for config in configs for pair in config.transfer.written_pairs}
    every = space.base["source"]["record_every"] or math.gcd(*reachable(space, CYCLE, transferring=True))
    return SourcePlan(tuple(layers), every)


def why_not(space: Space, configs: list[Config]) -> str:
    """The first reason against a recording; empty if there is none."""
    from mergenet.transfer.pairs import by_activations  # torch

    kind = space.base["source"]["kind"]
    if kind != "live":
        return {"recorded": "is recorded already"}.get(kind, f"does not train (source.kind: {kind})")
    teaching = [method for method in reachable(space, "method") if method in PUBLISHED]
    if teaching:
        return f"trains beside every trial, because method {teaching[0]} learns from its outputs"
    searched = [name for path in space.entries for name in space.names(path) if name.startswith(CHANGES_SOURCE)]
    if searched:
        return f"trains beside every trial, because {searched[0]} is searched"
    directions: set[str] = {pair.direction for config in configs for pair in config.transfer.written_pairs}
    searched = [path for path in space.entries if path.endswith(".direction")]
    directions |= {str(v) for path in searched for v in reachable(space, path, transferring=True)}
    if directions != {"to_target"}:
        return "trains beside every trial, because a pair also gives to the source"
    if "factorized" in reachable(space, "transfer.adapter.encoding", transferring=True):
        return "trains beside every trial, because the factorized encoding trains it differently at every rank"
    if any(mapped := [pair for pair in map(by_activations, configs) if pair is not None]):
        label = f"{mapped[0].source}>{mapped[0].target}"
        return f"trains beside every trial, because {label} is aligned by activations, which a recording lacks"
    return "" if configs else "is not recorded: no trial learns from it"


def pin_source(values: dict[str, Any]) -> dict[str, Any]:
    """The base with the source's seed written out, so that it stays when the run's seed changes for a confirmation."""
    source = values["source"]
    return values | {"source": source | {"seed": values["seed"] if source["seed"] is None else source["seed"]}}


def replay(values: dict[str, Any], folder: str | None) -> dict[str, Any]:
    """The configuration with the recording in `folder` as its source; unchanged without a recording or without
    MergeNet.

    `analysis.names.portable_config` is the inverse.
    """
    if folder is None or values["method"] != "mergenet":
        return values
    return values | {"source": values["source"] | {"kind": "recorded", "recording": folder}}
