"""config.yaml of many runs, read like `yaml.safe_load` and many times faster.

The configurations of a sweep differ in a few numbers and names. So a text is cut into its shape and the words at the
ends of its lines, `key: word` or `- word`. PyYAML reads each shape once, with a marker in place of each word, and each
word once; afterwards the values are put together. Where a marker does not come back whole (it was in a comment, or in a
text of several lines), where a value is none of JSON, and where PyYAML finds an error, it reads the text itself.
"""

import functools
import json
import re
from typing import Any

import yaml
from pydantic_core import from_json

MARK = "mergenet-word-"
SHAPES, WORDS = 256, 65536  # that are remembered

# Plain text that is nothing else wherever a value may stand, or a word in quotes; up to the end of its line
_WORD = re.compile(r"(?<=[:-] )([A-Za-z0-9_/](?:[\w.+:/-]*[\w.+/-])?|[+-]?\.?[0-9][\w.+-]*|'[\w.+-]*')(?=\n)", re.ASCII)
_NUMBER = re.compile(r"(?:0|-?[1-9][0-9]{0,14})(?:\.[0-9]+)?", re.ASCII)  # the same in YAML 1.1 and in JSON

_RESOLVER, _TEXT = yaml.resolver.Resolver(), "tag:yaml.org,2002:str"

Shape = tuple[tuple[str, ...], tuple[int, ...]]  # JSON around the words, and the order in which they stand in it


def quick_yaml(data: bytes) -> Any:
    """The value of `yaml.safe_load(data)`. Raises what that raises."""
    try:
        parts = _WORD.split(data.decode())
    except UnicodeDecodeError:
        return yaml.safe_load(data)
    shape, words = _shape(tuple(parts[::2])), [_word(word) for word in parts[1::2]]
    if shape is None or None in words:
        return yaml.safe_load(data)
    texts, order = shape
    parts[::2], parts[1::2] = texts, [words[index] for index in order]
    return from_json("".join(parts))


@functools.lru_cache(SHAPES)
def _shape(texts: tuple[str, ...]) -> Shape | None:
    """texts: YAML around the words. None if a word would not be a value by itself, or another value none of JSON."""
    if any(MARK in text for text in texts):
        return None
    marks = [f"{MARK}{index}-" for index in range(len(texts) - 1)]
    found = _json("".join(text + mark for text, mark in zip(texts, [*marks, ""], strict=True)))
    if found is None:
        return None
    pieces = re.split(rf'"{MARK}(\d+)-"', found)
    order = tuple(map(int, pieces[1::2]))
    around = pieces[::2]
    whole = sorted(order) == list(range(len(marks))) and not any(MARK in piece for piece in around)
    if not whole or any(piece.startswith(":") for piece in around):  # the latter is a key
        return None
    return tuple(around), order


@functools.lru_cache(WORDS)
def _word(word: str) -> str | None:
    """The value of a word as JSON; None if it is none of JSON."""
    if _NUMBER.fullmatch(word):
        return word
    if not word.startswith("'") and _RESOLVER.resolve(yaml.ScalarNode, word, (True, False)) == _TEXT:  # type: ignore[no-untyped-call]
        return json.dumps(word)
    return _json(word)


def _json(text: str) -> str | None:
    """The JSON of a YAML text that has the same value; None if there is none."""
    try:
        value = yaml.safe_load(text)
        found = json.dumps(value)
        return found if repr(from_json(found)) == repr(value) else None
    except (ValueError, TypeError, RecursionError, yaml.YAMLError):
        return None
