"""A sweep file to begin with: layers of a base's own networks, what is worth searching, every other key as a comment.

write_starter(Path("my.yaml"), "bars.yaml")
"""

import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mergenet.config import Config, PairConfig
from mergenet.config.loading import load_config
from mergenet.config.pair_labels import pairs_label, pairs_of
from mergenet.config.preset_names import presets
from mergenet.config.yaml12 import dump_yaml_values, load_yaml
from mergenet.errors import UserError
from mergenet.layers.candidates import both_candidates
from mergenet.layers.matrices import LayerInfo
from mergenet.records.atomic import write_text
from mergenet.transfer.encodings import has_rank
from mergenet.transfer.pairs import align, with_pairs, write_pairs
from sweeps.config.base import load_base
from sweeps.config.loading import parse_sweep
from sweeps.config.reference import KEYS, sections
from sweeps.config.schema import SweepConfig
from sweeps.space.checks import build_space
from sweeps.space.layer_choices import rank_limit, with_layers, with_limits

NUM_PAIRS = 3  # that are proposed beside the base's own
MOST_LAYERS = 40  # of a network that are listed
NO_LIMIT = 2**31 - 1

Pairs = Sequence[PairConfig]


def write_starter(out: Path, base: str) -> SweepConfig:
    """Write a sweep of the base that `mergenet sweep plan` accepts. Raises UserError, and writes nothing then."""
    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"the sweep file's name must end in .yaml, got {str(out)!r}")
    if out.exists():
        raise UserError(f"{out} must be a new file, got one that is there; choose another name, or delete it first")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent} must be a folder to write in, got none; make it first")
    text = starter(out, base)
    sweep = parse_sweep(load_yaml(text, str(out)), str(out), out.parent)
    with_limits(with_layers(build_space(load_base(sweep), sweep.search)))
    write_text(out, text)
    return sweep


def starter(out: Path, base: str) -> str:
    """The file's text."""
    config, changes = completed(base)
    choices = pair_choices(config)
    file = shlex.quote(str(out))
    lines = [
        f"# A sweep of {base}. `mergenet sweep keys` tells what each key means, `mergenet train --help` what can be",
        "# searched.",
        "#",
        f"#   mergenet sweep plan {file}     what it costs and can show, before anything runs",
        f"#   mergenet sweep run {file}",
        f"name: {name_of(out)}",
        f"base: {in_yaml(base if base in presets() else os.path.relpath(base, out.parent))}",
        *(["set:", *(f"  {path}: {in_yaml(value)}" for path, value in changes.items())] if changes else []),
        "",
        *layer_comments(config, base),
        "search:",
        *search_lines(config, choices),
        "",
        *chosen_lines(config),
        "",
        "# All other keys, with their defaults",
    ]
    given = {load_yaml(line, "a line").popitem()[0] for line in lines if re.match(r"[a-z_]+:", line)}
    return "\n".join([*lines, *key_comments(given)]) + "\n"


def completed(base: str) -> tuple[Config, dict[str, Any]]:
    """The base as one with transfer, its pairs written out, and what had to be set for that."""
    own = load_config(base, ["method=none"])  # who begins may have no pairs yet
    changes: dict[str, Any] = {} if own.transfer.pairs else {"transfer.pairs": "auto"}
    settings = [f"{path}={value}" for path, value in changes.items()]
    if load_config(base, settings).method != "mergenet":
        changes["method"] = "mergenet"
    return write_pairs(load_config(base, [*settings, "method=mergenet"])), changes


def pair_choices(config: Config) -> dict[str, tuple[Pairs, int]]:
    """The base's own pairs, then some of layers at the same relative depth: label -> pairs and largest rank."""
    own = config.transfer.written_pairs
    found = [own]
    if config.source.kind != "recorded" and config.transfer.align in ("auto", "none"):
        names = deep_pairs(config)
        places = [(2 * i + 1) * len(names) // (2 * NUM_PAIRS) for i in range(NUM_PAIRS)] if names else []
        direction = own[0].direction
        chosen = dict.fromkeys(names[i] for i in places)
        found += [(PairConfig(source=source, target=target, direction=direction),) for source, target in chosen]
    limits = {label_of(pairs): (pairs, rank_limit(with_pairs(config, tuple(pairs)))) for pairs in found}
    return {label: (pairs, limit) for label, (pairs, limit) in limits.items() if pairs is own or limit > 1}


def deep_pairs(config: Config) -> list[tuple[str, str]]:
    """Layers at the same relative depth, without the first and the last; of one network deep and middle ones."""
    sources, targets = (
        [layer.name for layer in layers if layer.kind != "embedding"][1:-1]
        for layers in both_candidates(config, config.transfer.written_pairs[0].direction)
    )
    if config.source.kind == "self":
        third = len(targets) // 3
        sources, targets = targets[2 * third :], targets[third : 2 * third]
    return align(sources, targets)


def label_of(pairs: Pairs) -> str:
    """As tables show them, in YAML; plain where a layer's name cannot be read back from that."""
    plain = [pair.model_dump(mode="json", exclude_defaults=True) for pair in pairs]
    label = pairs_label(plain)
    try:
        if pairs_of(label) == plain:
            return in_yaml(label)
    except ValueError:
        pass
    return in_yaml(plain)


def layer_comments(config: Config, base: str) -> Iterator[str]:
    """The layers of both networks that can take part, each with its matrix and largest rank."""
    networks = [("target", config.target.model.name, both_candidates(config)[1])]
    if config.source.kind != "self":
        networks.insert(0, ("source", config.source.model.name, both_candidates(config)[0]))
    yield "# The layers that can take part, each with its weight as a matrix and the largest rank that it allows"
    for role, model, layers in networks:
        width = max(len(layer.name) for layer in layers[:MOST_LAYERS])
        yield f"#   {role}: {model}"
        yield from (f"#     {row(layer, width)}" for layer in layers[:MOST_LAYERS])
        if len(layers) > MOST_LAYERS:
            yield f"#     and {len(layers) - MOST_LAYERS} more: mergenet layers {shlex.quote(base)}"


def row(layer: LayerInfo, width: int) -> str:
    matrix = f"{layer.matrix[0]} x {layer.matrix[1]}"
    return f"{layer.name:<{width}}  {layer.kind:<9}  {matrix:<12} rank up to {layer.largest_rank}"


def search_lines(config: Config, choices: dict[str, tuple[Pairs, int]]) -> Iterator[str]:
    transfer = config.transfer
    limits = [limit for _, limit in choices.values()]
    if len(choices) > 1:
        yield "  # which layer gives to which: the base's own pairs first, then layers at the same relative depth."
        yield '  # Any that match instead: transfer.pairs: {layers: "SOURCE.*>TARGET.*"}'
        yield "  transfer.pairs:"
        yield "    choice:"
        for label, (_, limit) in choices.items():
            yield f"      - {label}" + (f"   # rank up to {limit}" if limit < NO_LIMIT else "")
    cycles = cycles_of(config, [pair for pairs, _ in choices.values() for pair in pairs])
    if len(cycles) > 1:
        yield f"  # optimizer steps between transfers; base: {transfer.t_cycle}"
        yield f"  transfer.t_cycle: {{choice: {cycles}}}"
    rank, low, high = transfer.adapter.rank, *ranks_of(config, limits)
    if low < high:
        yield f"  # base: {rank}; of each pair only ranks that its layers allow are drawn"
        yield f"  transfer.adapter.rank: {{int: [{low}, {high}], log: true}}"
    gate = transfer.adapter.gate
    low_gate, high_gate = min(0.02, gate), max(0.5, gate)
    yield f"  # share of the adapter's answer that is taken; base: {gate}"
    yield f"  transfer.adapter.gate: {{float: [{low_gate}, {high_gate}], log: true}}"


def cycles_of(config: Config, pairs: Pairs) -> list[int]:
    """Half the base's cycle, itself and twice of it, where cycles of the pairs' own, and a recording, allow that."""
    cycle = config.transfer.t_cycle
    wanted = [cycle, 2 * cycle] if config.source.kind == "recorded" else [cycle // 2, cycle, 2 * cycle]
    own = [pair.every for pair in pairs if pair.every is not None]
    return [one for one in wanted if one >= 1 and not any(every % one for every in own)]


def ranks_of(config: Config, limits: Sequence[int]) -> tuple[int, int]:
    """From a quarter of the base's rank to twice of it, within what every, and what any, choice of pairs allows."""
    rank = config.transfer.adapter.rank
    if not any(has_rank(config.transfer.adapter, gives) for gives in (True, False)):
        return rank, rank
    return max(1, min(rank // 4, *limits)), min(2 * rank, max(limits))


def chosen_lines(config: Config) -> list[str]:
    """The keys that are given; the rest has defaults."""
    return [
        "num_trials: 12",
        "slots: 2                             # trials at the same time",
        f"grace_epochs: {max(1, config.epochs // 4):<22} # of {config.epochs}: before them no trial is stopped",
        "confirm_seeds: 6                     # fresh seeds for the best beside no transfer; fewer can show nothing",
        "confirm_controls: [shuffled, noise]  # is it the source that helps?",
    ]


def key_comments(given: set[str]) -> Iterator[str]:
    top = next(section for section in sections() if section.heads == KEYS)
    rows = [row for row in top.rows if row[0] not in given]
    width = max(len(f"{key}: {default}") for key, _, _, default in rows)
    yield from (f"# {f'{key}: {default}':<{width}}   {meaning}" for key, meaning, _, default in rows)


def name_of(out: Path) -> str:
    """A name that a sweep can have, after its file."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", out.stem).lstrip("._-")[:100] or "sweep"


def in_yaml(value: Any) -> str:
    """On one line."""
    return dump_yaml_values(value).splitlines()[0] if isinstance(value, str) else json.dumps(value)
