"""The components of the method, each taken out or replaced: proposals of changes to a centre. All choices are [ours].

What a centre cannot be without, or has not, is a proposal without changes that says why.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mergenet.config import Config
from mergenet.config.choices import PUBLISHED
from mergenet.config.pair_labels import pairs_label

GATE, RMS = "transfer.adapter.gate", "transfer.adapter.rms_match"
KIND, PAIRINGS = "transfer.adapter.kind", "transfer.adapter.pairings"
CONTROLS = {"shuffled": "source shuffled", "noise": "noise for the source", "none": "no source"}
RULES: dict[str, dict[str, Any]] = {  # what the adapter learns from, by transfer.update
    "update delta": {"rule": "delta", "horizon": "step"},
    "update delta, whole cycle": {"rule": "delta", "horizon": "cycle"},
    "update gradient": {"rule": "gradient", "horizon": "step", "normalize": False},
}


@dataclass(frozen=True)
class Proposal:
    """label: for tables. changes: dotted path -> value. reason: why it has none."""

    label: str
    changes: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def components(centre: Config) -> Iterator[Proposal]:
    """centre: its transfer pairs written out, if it transfers."""
    yield Proposal("no transfer", {"method": "none"})
    if centre.method == "mergenet":
        yield from of_transfer(centre)
    else:
        yield Proposal("components of the transfer", reason=f"the centre's method is {centre.method}, which has none")
    for method in PUBLISHED:
        # the published settings: those of the centre would be of another method
        own: dict[str, Any] = {"distillation": {}} if centre.distillation != type(centre.distillation)() else {}
        yield Proposal(f"distillation {method}", own | {"method": method})


def of_transfer(centre: Config) -> Iterator[Proposal]:
    yield Proposal("no gate", {GATE: 1.0, "transfer.adapter.learned_gate": False})
    yield Proposal("no RMS matching", {RMS: False})
    yield from [Proposal(label, {"transfer.control": control}) for control, label in CONTROLS.items()]
    yield Proposal("full_matrix", {KIND: "full_matrix"})
    yield from pairings_left_out(centre)
    yield from pairs_left_out(centre)
    for label, update in RULES.items():
        yield Proposal(label, {f"transfer.update.{name}": value for name, value in update.items()})


def pairings_left_out(centre: Config) -> Iterator[Proposal]:
    from mergenet.transfer.adapter import pairings_of  # torch

    pairings = pairings_of(centre.transfer.adapter)
    for pairing in pairings:
        left = [other for other in pairings if other != pairing]
        reason = "" if left else "it is the only pairing of this adapter"
        yield Proposal(f"without pairing {pairing}", {PAIRINGS: left} if left else {}, reason)


def pairs_left_out(centre: Config) -> Iterator[Proposal]:
    pairs = [pair.model_dump(mode="json") for pair in centre.transfer.written_pairs]
    for pair in pairs:
        left = [other for other in pairs if other != pair]
        reason = "" if left else "it is the only pair; without it there is no transfer"
        yield Proposal(f"without pair {pairs_label([pair])}", {"transfer.pairs": left} if left else {}, reason)
