"""What can be known about a transfer before training: how much is shown and written, and in which space. [ours]

Of each link, a pair and a direction: the share of the giver's weight that is shown, beside the best that any basis of
that size could show; the part of the receiver's that can be written; the space in which their columns meet; and the
updates that the adapter will get, against its size. Then a few steps are trained, and the same is computed for the
weights as they are now and for what was learned. advice.py says what follows, cli/diagnose_text.py prints both.

With W (m x n), a basis B (m x R), singular values s of W:

    share = |B^T W|^2 / |W|^2        best = (s_1^2 + ... + s_R^2) / |W|^2
"""

import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mergenet.config import Config, NetworkConfig, PairConfig
from mergenet.config.rules import rule
from mergenet.config.spec import CLASSES
from mergenet.errors import ConfigError, DataError
from mergenet.layers.candidates import architecture
from mergenet.layers.current import current_weight
from mergenet.layers.matrices import find_layer, rows_per_rank, weight_shape
from mergenet.learner.learner import Learner
from mergenet.models import build_model, check_words
from mergenet.records.run_record import is_value
from mergenet.tasks import build_task
from mergenet.training.advice import findings
from mergenet.training.trainer import Trainer
from mergenet.transfer.encodings import FactorizedView, Followed, Projected, Receiving, Whole
from mergenet.transfer.giver import Giver
from mergenet.transfer.link import Link
from mergenet.transfer.phase import Transfer
from mergenet.transfer.recording import Recording
from mergenet.transfer.subspace import share

STEPS = 20  # optimizer steps, or an epoch if that is shorter: enough to show how a weight changes
SECONDS = 30.0  # after which no further step begins: full-size networks on a CPU take seconds a step
EVALUATED = 2000  # validation examples beyond which a network is not measured, for the same reason
WANTED = 0.5  # share of a weight for which the needed rank is reported

Facts = dict[str, Any]


def diagnose(config: Config) -> Facts:
    """The diagnosis as plain values: name, control, steps, networks, links, findings, seconds. Writes no file.

    Raises ConfigError where there is no transfer, else as Trainer, and TrainingDiverged.
    """
    began = time.perf_counter()
    check_diagnosable(config)
    with quiet():
        trainer = Trainer(config)
        facts = before(trainer) | {"networks": networks(trainer)}
        add_learned(trainer, facts)
    return facts | {"findings": findings(facts), "seconds": round(time.perf_counter() - began, 1)}


def check_diagnosable(config: Config) -> None:
    """Raises ConfigError for a method that has no adapters."""
    if config.method != "mergenet":
        way_out = "it maps no weight onto another, so there is nothing to diagnose; set method: mergenet"
        raise ConfigError(str(rule("method", "be mergenet to be diagnosed", config.method, way_out)))


@contextmanager
def quiet() -> Iterator[None]:
    """Without mergenet's own warnings, which the findings repeat."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"mergenet\.")
        yield


# ---------------------------------------------------------------- before any step


def before(trainer: Trainer) -> Facts:
    """What is known before any step; of the networks only their sizes."""
    config, fresh = trainer.config, from_other_seed(trainer)
    return {
        "name": config.name,
        "control": config.transfer.control,
        "steps": 0,
        "networks": {"source": source_size(trainer), "target": target_size(trainer)},
        "links": [
            link_facts(trainer, link, pair, gives) | {"random": stays_random(trainer, pair, fresh)}
            for link, pair, gives in directions(trainer)
        ],
    }


def directions(trainer: Trainer) -> Iterator[tuple[Link, PairConfig, str]]:
    """Every link with its pair and the side that gives."""
    pairs = trainer.config.transfer.written_pairs
    for link in trainer.transfer.links:
        pair, _, direction = link.name.partition("/")
        yield link, pairs[int(pair.removeprefix("pair"))], "source" if direction == "to_target" else "target"


def link_facts(trainer: Trainer, link: Link, pair: PairConfig, gives: str) -> Facts:
    receives, adapter = "source" if gives == "target" else "target", trainer.config.transfer.adapter
    giver = link.giver
    giver.shown(0)
    return {
        "name": link.name,
        "gives": gives,
        "giver": getattr(pair, gives),
        "receives": receives,
        "receiver": getattr(pair, receives),
        "adapter": adapter.kind,
        "encoding": adapter.encoding,
        "init": adapter.init,
        "giver_learns": gives == "target" or trainer.config.source.kind != "frozen",
        "follows": isinstance(giver.encoding, Followed),
        "align": alignment(giver, pair.align),
        "shown": shown(giver, 0),
        "written": written(link.receiver),
        "every": link.every,
        "updates": len(trainer.transfer.updates(link)),
        "parameters": sum(parameter.numel() for parameter in link.adapter.parameters()),
        "reach": trainer.transfer.reach(link),
    }


def alignment(giver: Giver, space: str | None) -> Facts:
    """how: as it is, by word, estimated, numbers only. words: share of the receiver's words that the giver knows."""
    words = None if isinstance(giver.encoding, FactorizedView) else giver.encoding.view.words
    if words is not None:
        return {"space": space, "how": "by word", "words": (words >= 0).float().mean().item(), "r2": None}
    if giver.estimated is not None:
        r2 = giver.estimated.r2
        return {"space": space, "how": "estimated", "words": None, "r2": r2 if math.isfinite(r2) else None}
    return {"space": space, "how": "numbers only" if space == "none" else "as it is", "words": None, "r2": None}


def shown(giver: Giver, step: int) -> Facts:
    """The shares of a giver's weight that are shown at a step; call after `giver.shown(step)`.

    share, best: of the weight; change, best_change: of what it learned since the start, null if nothing. rank,
    rank_wanted, largest_rank: the rank, the rank that could show half of the weight, and the layer's largest; null
    where all is shown.
    """
    found = giver.metrics()
    facts: Facts = {"share": found["source_share"], "change": found.get("source_change_share")}
    if giver.start is None:
        all_shown = {"best": 1.0, "best_change": None, "rank": None, "rank_wanted": None, "largest_rank": None}
        return facts | all_shown
    encoding = giver.encoding
    assert isinstance(encoding, Followed | Projected)
    matrix, rows = encoding.view.matrix(giver.weight(step), giver.start.device), encoding.factor_shape[0]
    each = rows_per_rank(weight_shape(encoding.layer), encoding.view.columns)
    best, change = best_shares(matrix), matrix - giver.start
    return facts | {
        "best": share_of(best, rows),
        "best_change": share_of(best_shares(change), rows) if facts["change"] is not None else None,
        "rank": rows // each,
        "rank_wanted": math.ceil((int((best < WANTED).sum()) + 1) / each),
        "largest_rank": len(best) // each,
    }


def best_shares(matrix: Tensor) -> Tensor:
    """Largest share that a basis of 1, 2, ... columns can show: cumulated squared singular values, float64."""
    square = matrix.double().cpu()
    square = square @ square.T if square.shape[0] <= square.shape[1] else square.T @ square
    values = torch.linalg.eigvalsh(square).flip(0).clamp_min(0)
    total = values.sum()
    return values.cumsum(0) / total if total > 0 else torch.ones_like(values)


def share_of(best: Tensor, rows: int) -> float:
    return float(best[min(rows, len(best)) - 1])


def written(receiver: Receiving, start: Tensor | None = None) -> Facts:
    """The part of a receiver's weight that a transfer can write, and of its change since it was `start`, a matrix.

    change is null before there is any.
    """
    facts: Facts = {"share": 1.0, "change": None, "remark": None}
    if isinstance(receiver, FactorizedView):
        return facts | {"remark": "A alone is written, B learns by itself"}
    matrix = matrix_of(receiver)
    assert matrix is not None
    if start is not None and bool((matrix != start).any()):
        facts["change"] = part_of(receiver, matrix - start)
    return facts | {"share": part_of(receiver, matrix)}


def part_of(receiver: Projected | Whole, matrix: Tensor) -> float:
    return share(receiver.factor(matrix), matrix).item() if isinstance(receiver, Projected) else 1.0


def matrix_of(receiver: Receiving) -> Tensor | None:
    """Its layer's weight; None if that is a product, all of which learns."""
    return None if isinstance(receiver, FactorizedView) else receiver.view.matrix(receiver.layer.weight)


# ---------------------------------------------------------------- a few steps


def add_learned(trainer: Trainer, facts: Facts) -> None:
    """Trains a few steps; adds them, and each link's `learned`: shown, written and align as they are then."""
    starts = [matrix_of(link.receiver) for link in trainer.transfer.links]
    facts["steps"] = steps = take_steps(trainer)
    rows = zip(directions(trainer), starts, facts["links"], strict=True)
    for (link, pair, gives), start, known in rows:
        giver, step = link.giver, steps
        if gives == "source" and trainer.config.source.kind == "recorded":
            step = recorded_step(link.every, steps, trainer.total_steps)
        if giver.estimated is not None:
            giver.estimated.epoch = -1  # the map of now
        if known["giver_learns"] or giver.estimated is not None:
            giver.shown(step)
        known["learned"] = {
            "step": step,
            "shown": shown(giver, step) if known["giver_learns"] else known["shown"],
            "written": written(link.receiver, start),
            "align": alignment(giver, pair.align),
        }


def take_steps(trainer: Trainer) -> int:
    """Trains both networks without transfer, so that a weight's change is what it learned; returns the steps taken.

    Layers are shown at each transfer point but not written, so that a basis follows its weight as in a run.
    """
    count, began = min(STEPS, trainer.steps_per_epoch), time.perf_counter()
    for step in range(count):
        if time.perf_counter() - began > SECONDS:
            return step
        with without_links(trainer.transfer) as links:
            for link in links:
                if trainer.transfer.due(link, step):
                    link.giver.shown(step)
            trainer._step(step)
    for learner in trainer.learners:
        learner.check_finite(count)
    return count


@contextmanager
def without_links(transfer: Transfer) -> Iterator[list[Link]]:
    """Within the block the transfer has no links and so does nothing; yields its links."""
    links, transfer.links = transfer.links, []
    try:
        yield links
    finally:
        transfer.links = links


def recorded_step(every: int, steps: int, total: int) -> int:
    """The step of a recording to look at: the last multiple of `every` up to `steps`, else the first."""
    last = max(every, steps // every * every)
    return last if last < total else 0


# ---------------------------------------------------------------- who knows more


def target_size(trainer: Trainer) -> Facts:
    return {"kind": "target"} | learner_size(trainer, trainer.target)


def source_size(trainer: Trainer) -> Facts:
    """kind, pretrained, and as `learner_size`; a frozen source sees no example here, `examples` is null."""
    source, config = trainer.source, trainer.config.source
    assert source is not None
    facts: Facts = {"kind": config.kind}
    if config.kind == "self":
        return facts | learner_size(trainer, trainer.target)
    if source.learner is not None:
        facts |= learner_size(trainer, source.learner)
        return facts | ({"examples": None, "seen": None} if config.kind == "frozen" else {})
    facts |= {"task": config.task, "pretrained": config.model.weights is not None}
    try:  # a replay needs neither the source's data nor its network
        size, network = build_task(config).size("train"), architecture(config)
    except (ConfigError, DataError):
        return facts | {"examples": None, "seen": None, "parameters": None}
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return facts | examples(trainer, config, size) | {"parameters": parameters}


def learner_size(trainer: Trainer, learner: Learner) -> Facts:
    facts = examples(trainer, learner.config, learner.task.size("train"))
    parameters = sum(parameter.numel() for parameter in learner.network.parameters())
    return {
        "task": learner.config.task,
        "pretrained": learner.config.model.weights is not None,
        **facts,
        "parameters": parameters,
    }


def examples(trainer: Trainer, config: NetworkConfig, size: int) -> Facts:
    """examples: of its training split; seen: how many of them the run's steps reach."""
    return {"examples": size, "seen": min(size, trainer.total_steps * config.batch_size)}


def networks(trainer: Trainer) -> Facts:
    """Both sizes; and the metric of both networks, where the source's is known before it trains."""
    source, target = source_size(trainer), target_size(trainer)
    found = source_value(trainer)
    if found is None:
        return {"source": source, "target": target}
    name, value = found
    own = trainer.target.evaluate("val")[name] if trainer.target.task.size("val") <= EVALUATED else None
    return {"source": source | {"metric": name, "value": value}, "target": target | {"metric": name, "value": own}}


def source_value(trainer: Trainer) -> tuple[str, float] | None:
    """The target's selecting metric, on validation data, of a source that no longer trains: frozen or recorded."""
    source, config, task = trainer.source, trainer.config, trainer.target.task
    assert source is not None
    theirs, ours = (
        network.data.model_copy(update={"train_fraction": 1.0}) for network in (config.source, config.target)
    )
    if config.source.task != config.target.task or theirs != ours:
        return None
    if config.source.recording is not None:
        epochs = Recording.open(Path(config.source.recording)).info["epochs"]
        values = [row[f"source_val_{task.metric}"] for row in epochs if is_value(row.get(f"source_val_{task.metric}"))]
        return (task.metric, max(values)) if values else None
    if source.learner is None or not solves(trainer, source.learner):
        return None
    return task.metric, source.learner.evaluate("val")[task.metric]


def solves(trainer: Trainer, source: Learner) -> bool:
    """Whether a frozen source predicts the target's classes, has no random weights, and is fast to evaluate."""
    fresh, config, spec = from_other_seed(trainer), source.config, source.task.spec
    if fresh is None or config.model.weights is None or spec.outputs != CLASSES:
        return False
    try:
        check_words(config.model, config.data.tokenizer)
    except ConfigError:  # its words would be numbered differently
        return False
    ours, theirs = source.network.state_dict(), fresh.state_dict()
    same = ours.keys() == theirs.keys() and all(torch.equal(v.cpu(), theirs[k]) for k, v in ours.items())
    return same and source.task.size("val") <= EVALUATED


def from_other_seed(trainer: Trainer) -> nn.Module | None:
    """A frozen source's network built again with another seed: what differs is random, not from a file. Else None."""
    config = trainer.config.source
    if config.kind != "frozen":
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build_model(config.model, build_task(config).spec)


def stays_random(trainer: Trainer, pair: PairConfig, fresh: nn.Module | None) -> bool:
    """Whether a pair's source layer keeps random weights. For factorized layers only whether there are no weights."""
    if fresh is None or trainer.config.transfer.adapter.encoding == "factorized":
        return fresh is not None and trainer.config.source.model.weights is None
    assert trainer.source is not None
    ours = current_weight(trainer.source.layer(pair.source, "layer"))
    return not torch.equal(ours.detach().cpu(), current_weight(find_layer(fresh, pair.source, "layer")).detach())
