"""Rules that span fields of a configuration, and the message for a broken one: path, rule, value, way out.

`sections.py` has the fields, with the rules of each.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from mergenet.config.choices import FEATURE_METHODS, PUBLISHED
from mergenet.config.sections import (
    DistillationConfig,
    NetworkConfig,
    OptimizerConfig,
    PairConfig,
    SourceConfig,
    TransferConfig,
)


class Whole(Protocol):
    """The parts of a configuration that the rules read."""

    @property
    def method(self) -> str: ...
    @property
    def source(self) -> SourceConfig: ...
    @property
    def target(self) -> NetworkConfig: ...
    @property
    def transfer(self) -> TransferConfig: ...
    @property
    def distillation(self) -> DistillationConfig: ...


def shown(value: Any) -> str:
    """A value on one line of at most 60 characters; never the contents of a mapping, which may be secret."""
    if isinstance(value, dict):
        return f"a mapping of {len(value)}" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        nested = any(isinstance(item, dict | list | tuple) for item in value)
        return f"a list of {len(value)}" if nested or len(value) > 8 else f"[{', '.join(map(shown, value))}]"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def rule(path: str, must: str, value: Any, way_out: str = "") -> ValueError:
    """One line: the value's path, the rule, the value received, the way out."""
    return ValueError(f"{path} must {must}, got {shown(value)}" + (f"; {way_out}" if way_out else ""))


def check_config(c: Whole) -> None:
    """Rules that span fields. Names of layers, models and data are checked where they are looked up."""
    for side, network in (("source", c.source), ("target", c.target)):
        check_optimizer(f"{side}.optimizer", network.optimizer)
    if c.method != "mergenet":
        check_distillation(c)
        return
    transfer, adapter, update = c.transfer, c.transfer.adapter, c.transfer.update
    if not transfer.pairs:
        raise rule("transfer.pairs", "name at least one pair", [], "to train without transfer set method: none")
    if update.horizon == "cycle" and update.rule != "delta":
        raise rule("transfer.update.horizon", "be step for rule gradient", "cycle", "use rule: delta")
    if update.normalize and update.rule != "delta":
        raise rule("transfer.update.normalize", "be false for rule gradient", True, "use rule: delta")
    if adapter.kind == "full_matrix" and adapter.encoding != "projected":
        raise rule("transfer.adapter.encoding", "be projected for kind full_matrix", adapter.encoding)
    if adapter.kind == "linear" and adapter.start == "identity":
        raise rule(
            "transfer.adapter.start", "be random for kind linear", "identity", "it starts as the identity anyway"
        )
    if c.source.kind == "recorded":
        if c.source.recording is None:
            raise rule(
                "source.recording",
                "name a folder for kind recorded",
                None,
                "write one with `mergenet record`",
            )
        if adapter.encoding == "factorized":
            raise rule(
                "transfer.adapter.encoding",
                "be projected for a recorded source",
                "factorized",
                "a factorized source trains differently at every rank; use source.kind: live",
            )
    elif c.source.recording is not None:
        raise rule(
            "source.recording",
            f"be absent for kind {c.source.kind}",
            c.source.recording,
            "set source.kind: recorded",
        )
    if c.source.kind in ("frozen", "self"):
        for name, unset in (("max_gib", None), ("record_every", None), ("record_dtype", "fp32")):
            if (value := getattr(c.source, name)) != unset:
                raise rule(f"source.{name}", f"be absent for kind {c.source.kind}", value, "nothing is recorded of it")
    if adapter.encoding == "factorized":
        pairs = [] if transfer.pairs == "auto" else [(f"transfer.pairs.{i}", p) for i, p in enumerate(transfer.pairs)]
        for path, align in [("transfer", transfer.align), *((path, pair.align) for path, pair in pairs)]:
            if align in ("inputs", "outputs"):
                way_out = "use encoding: projected"
                raise rule(f"{path}.align", "be auto or none for the factorized encoding", align, way_out)
    if transfer.pairs != "auto":
        check_pairs(c, [(f"transfer.pairs.{i}", pair) for i, pair in enumerate(transfer.pairs)])


def is_pattern(name: str) -> bool:
    """Whether a layer's name has wildcards, and so stands for several layers (transfer/pairs.py)."""
    return any(character in name for character in "*?[")


def check_pairs(c: Whole, pairs: Sequence[tuple[str, PairConfig]]) -> None:
    """pairs: each with its path in messages. Raises ValueError."""
    written: set[tuple[str, str]] = set()
    for path, pair in pairs:
        if pair.every is not None and pair.every % c.transfer.t_cycle:
            raise rule(f"{path}.every", f"be a multiple of t_cycle ({c.transfer.t_cycle})", pair.every)
        if pair.direction != "to_target" and c.source.kind != "live":
            raise rule(
                f"{path}.direction",
                f"be to_target for source kind {c.source.kind}",
                pair.direction,
                "only a live source can receive",
            )
        if c.source.kind == "self" and pair.source == pair.target and not is_pattern(pair.source):
            raise rule(f"{path}.source", "differ from the pair's target for source kind self", pair.source)
        for side, layer in (("target", pair.target), ("source", pair.source)):
            if pair.direction in (f"to_{side}", "both"):
                if (side, layer) in written:
                    raise rule(f"{path}.{side}", "be written by one pair only", layer)
                written.add((side, layer))


def check_distillation(c: Whole) -> None:
    """Rules of the methods that distil. What the networks must give is checked where they are built."""
    if c.method not in PUBLISHED:
        return
    for name, value in c.distillation:
        if value is not None and name not in PUBLISHED[c.method]:
            users = ", ".join(method for method, settings in PUBLISHED.items() if name in settings)
            raise rule(f"distillation.{name}", f"be null for method {c.method}", value, f"for {users} only")
    settings = c.distillation.resolved(c.method)
    if settings["weight"] == settings["ce_weight"] == 0:
        raise rule("distillation.weight", "be above 0 where ce_weight is 0", settings["weight"])
    if reason := {"self": "it has nothing to learn from itself", "recorded": "a recording has only layers"}.get(
        c.source.kind
    ):
        way_out = f"{reason}; use source.kind: live"
        raise rule("source.kind", f"be live or frozen for method {c.method}", c.source.kind, way_out)
    # a teacher may learn from more data, unless the numbering of words depends on the training texts
    may_differ = {"train_fraction"} if c.target.task == "image_classification" or c.target.data.tokenizer else set()
    for name, value in c.target.data:
        if name not in may_differ and (theirs := getattr(c.source.data, name)) != value:
            must = f"equal target.data.{name} ({shown(value)}) for method {c.method}"
            raise rule(f"source.data.{name}", must, theirs, "the source is shown the target's batches")
    if c.method in FEATURE_METHODS:
        return
    if c.source.task != c.target.task:
        must = f"equal target.task ({shown(c.target.task)}) for method {c.method}, which compares class logits"
        raise rule("source.task", must, c.source.task, f"{', '.join(FEATURE_METHODS)} compare features")
    if c.source.kind == "frozen" and c.source.model.weights is None:
        must = f"name a file for source.kind frozen and method {c.method}"
        raise rule("source.model.weights", must, None, "an untrained source teaches nothing; or use source.kind: live")


def check_optimizer(path: str, optimizer: OptimizerConfig) -> None:
    if optimizer.nesterov and optimizer.name != "sgd":
        raise rule(f"{path}.nesterov", f"be false for {optimizer.name}", True, "use name: sgd")
    if optimizer.nesterov and optimizer.momentum == 0:
        raise rule(f"{path}.momentum", "be above 0 with nesterov", optimizer.momentum, "or set nesterov: false")
