"""How transfer pairs are written where there is room for a word: live lines, tables, W&B, a study's choices."""

from collections.abc import Mapping
from typing import Any

from mergenet.config import PairConfig

ARROWS = {"to_target": ">", "to_source": "<", "both": "<>"}  # by direction


def are_pairs(value: Any) -> bool:
    """Whether it is a list of transfer pairs, as a configuration's plain values have it."""
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_pair, value))


def pairs_label(pairs: list[Mapping[str, Any]] | tuple[Mapping[str, Any], ...]) -> str:
    """Such as fc>head + conv1<>conv2 (every 8): knowledge goes as the arrow points; a pair's own cycle in brackets."""
    return " + ".join(map(_label, pairs))


def _is_pair(value: Any) -> bool:
    return isinstance(value, dict) and {"source", "target"} <= set(value) <= set(PairConfig.model_fields)


def _label(pair: Mapping[str, Any]) -> str:
    arrow = ARROWS[pair.get("direction", "to_target")]
    every = f" (every {pair['every']})" if pair.get("every") else ""
    return f"{pair['source']}{arrow}{pair['target']}{every}"
