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
SHAPES, LINES = 256, 65536  # that are remembered; as many words as lines

# Plain text that is nothing else wherever a value may stand, or a word in quotes; up to the end of its line
_WORD = re.compile(r"(?<=[:-] )([A-Za-z0-9_/](?:[\w.+:/-]*[\w.+/-])?|[+-]?\.?[0-9][\w.+-]*|'[\w.+-]*')\Z", re.ASCII)
_NUMBER = re.compile(r"(?:0|-?[1-9][0-9]{0,14})(?:\.[0-9]+)?", re.ASCII)  # the same in YAML 1.1 and in JSON

_RESOLVER, _TEXT = yaml.resolver.Resolver(), "tag:yaml.org,2002:str"

Shape = tuple[tuple[str, ...], tuple[int, ...]]  # JSON around the words, and the order in which they stand in it


def quick_yaml(data: bytes) -> Any:
    """The value of `yaml.safe_load(data)`. Raises what that raises."""
    *lines, end = data.split(b"\n")
    try:
        cut = [*map(_cut, lines), (end.decode(), None)]
    except ValueError:
        return yaml.safe_load(data)
    shape = _shape(tuple([text for text, _ in cut]))
    if shape is None:
        return yaml.safe_load(data)
    around, order = shape
    words = [word for _, word in cut if word is not None]
    parts = [""] * (2 * len(words) + 1)
    parts[::2], parts[1::2] = around, [words[index] for index in order]
    return from_json("".join(parts))


@functools.lru_cache(LINES)
def _cut(line: bytes) -> tuple[str, str | None]:
    """A line with MARK in place of the word at its end, and the JSON of the word; the line and None if it has none.

    Raises ValueError if the line is no text in UTF-8 or if the word is none of JSON.
    """
    text = line.decode()
    found = _WORD.search(text)
    if MARK in text:
        raise ValueError(f"{text} must not hold {MARK}")
    if found is None:
        return text, None
    if (word := _word(found[0])) is None:
        raise ValueError(f"{found[0]} is no value of JSON")
    return text[: found.start()] + MARK, word


@functools.lru_cache(SHAPES)
def _shape(lines: tuple[str, ...]) -> Shape | None:
    """lines: YAML, MARK in place of words. None if one would be no value by itself, or another is none of JSON."""
    if MARK in lines[-1]:
        return None
    marked = [index for index, line in enumerate(lines) if line.endswith(MARK)]
    marks = {index: f"{number}-" for number, index in enumerate(marked)}
    found = _json("\n".join(line + marks.get(index, "") for index, line in enumerate(lines)))
    if found is None:
        return None
    pieces = re.split(rf'"{MARK}(\d+)-"', found)
    order = tuple(map(int, pieces[1::2]))
    around = pieces[::2]
    whole = sorted(order) == list(range(len(marks))) and not any(MARK in piece for piece in around)
    if not whole or any(piece.startswith(":") for piece in around):  # the latter is a key
        return None
    return tuple(around), order


@functools.lru_cache(LINES)
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
