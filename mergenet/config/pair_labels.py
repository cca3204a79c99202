"""Short labels of transfer pairs, such as fc>head + conv1<>conv2 (every 8), for live lines, tables and W&B; and back.

The arrow points to the layer that receives; the pair's own cycle and alignment are in brackets.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

ARROWS = {"to_target": ">", "to_source": "<", "both": "<>"}  # by direction
KEYS = {"source", "target", "direction", "every", "align"}  # of sections.PairConfig
PAIR = re.compile(r"([^<>\s]+)\s*(<>|<|>)\s*([^<>\s]+)(?:\s+\(([^()]*)\))?")
OWN = re.compile(r"every (\d+)|align (\w+)")


def in_a_word(value: Any) -> str | int | float | bool | None:
    """A scalar as it is, a list of pairs by `pairs_label`, anything else as JSON."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return pairs_label(value) if are_pairs(value) else json.dumps(value)


def are_pairs(value: Any) -> bool:
    """Whether it is a list of transfer pairs, as a configuration's plain values have it."""
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_pair, value))


def pairs_label(pairs: Sequence[Mapping[str, Any]]) -> str:
    """The pairs in a word; `auto`, an alignment that is not chosen yet, is left out."""
    return " + ".join(map(_label, pairs))


def pairs_of(value: Any) -> Any:
    """What stands for pairs, with plain pairs in the place of words; as it is where there are none, such as `auto`.

    value: a word, or a list of words and pairs. Raises ValueError.

    >>> pairs_of("fc>head + conv1<>conv2 (every 8)")[1]
    {'source': 'conv1', 'target': 'conv2', 'direction': 'both', 'every': 8}
    """
    if isinstance(value, list | tuple):
        return [pair for item in value for pair in (pairs_of(item) if is_label(item) else [item])]
    if not is_label(value):
        return value
    return [_pair(word) for word in re.split(r"\s\+\s", value)]


def is_label(value: Any) -> bool:
    return isinstance(value, str) and any(arrow in value for arrow in "<>")


def _is_pair(value: Any) -> bool:
    if not isinstance(value, dict) or not {"source", "target"} <= set(value) <= KEYS:
        return False
    return value.get("direction", "to_target") in list(ARROWS)  # a list: what is wrong there may be of any type


def _label(pair: Mapping[str, Any]) -> str:
    arrow = ARROWS[pair.get("direction", "to_target")]
    align = None if pair.get("align") == "auto" else pair.get("align")
    own = {"every": pair.get("every"), "align": align}
    told = "; ".join(f"{key} {value}" for key, value in own.items() if value is not None)
    return f"{pair['source']}{arrow}{pair['target']}" + (f" ({told})" if told else "")


def _pair(word: str) -> dict[str, Any]:
    found = PAIR.fullmatch(word.strip())
    own = [OWN.fullmatch(part.strip()) for part in found[4].split(";")] if found and found[4] else []
    if found is None or not all(own):
        raise ValueError(
            f"transfer.pairs must be read as SOURCE>TARGET, SOURCE<TARGET or SOURCE<>TARGET, got {word[:60]!r}; "
            "for example fc>head + conv1<>conv2 (every 8)"
        )
    direction = next(name for name, arrow in ARROWS.items() if arrow == found[2])
    pair: dict[str, Any] = {"source": found[1], "target": found[3]}
    pair |= {} if direction == "to_target" else {"direction": direction}
    for part in filter(None, own):
        pair |= {"every": int(part[1])} if part[1] else {"align": part[2]}
    return pair
