"""Short labels of transfer pairs, for live lines, tables and W&B."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mergenet.config import PairConfig

ARROWS = {"to_target": ">", "to_source": "<", "both": "<>"}  # by direction


def in_a_word(value: Any) -> str | int | float | bool | None:
    """A scalar as it is, a list of pairs by `pairs_label`, anything else as JSON."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return pairs_label(value) if are_pairs(value) else json.dumps(value)


def are_pairs(value: Any) -> bool:
    """Whether it is a list of transfer pairs, as a configuration's plain values have it."""
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_pair, value))


def pairs_label(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Such as fc>head + conv1<>conv2 (every 8): knowledge goes as the arrow points; a pair's own cycle in brackets."""
    return " + ".join(map(_label, pairs))


def _is_pair(value: Any) -> bool:
    if not isinstance(value, dict) or not {"source", "target"} <= set(value) <= set(PairConfig.model_fields):
        return False
    return value.get("direction", "to_target") in list(ARROWS)  # a list: what is wrong there may be of any type


def _label(pair: Mapping[str, Any]) -> str:
    arrow = ARROWS[pair.get("direction", "to_target")]
    every = "" if pair.get("every") is None else f" (every {pair['every']})"
    return f"{pair['source']}{arrow}{pair['target']}{every}"
