"""Problems of a configuration as one line each: path, rule, value received, way out.

pydantic's own messages take three lines and give neither the dotted path nor the way out.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mergenet.config.json_schema import known_keys, node_at, resolve, suggestions
from mergenet.config.rules import shown
from mergenet.errors import SECRET, unknown_name

WAY_OUT = {
    "transfer.t_cycle": "to train without transfer set method: none",
    "transfer.pairs": "to train without transfer set method: none",
}


def printable(text: str) -> str:
    """As it is where that is one printable piece of at most 200 characters, else escaped and shortened."""
    text = text if text.isprintable() and text else repr(text)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _dotted(location: Iterable[str | int]) -> str:
    return printable(".".join(map(str, location)))


def unknown_key(level: Sequence[str], key: str, rest: Sequence[str] = ()) -> str:
    """The message for a key that the schema lacks. It never shows the value, which may be a secret.

    rest: of the path that was asked for, behind the key.
    """
    path = _dotted([*level, key])
    if SECRET.search(key):
        return f"{path} must not be in a configuration; keys come from the environment or ~/.netrc only"
    section = node_at(level)
    assert section is not None, f"{level} is not in the schema"
    if resolve(section).get("type") == "array":
        return f"{path} must name an item of the list by its number, as in {_dotted(level)}.0"
    if "." in key and node_at([*level, *key.split(".")]) is not None:
        return f"{path} must be nested in a file, got one key with dots; write {nested(key.split('.'))}"
    near = suggestions(level, key, rest)
    known = known_keys(level)
    if not known:
        return f"{path} must be a known setting, but {_dotted(level)} has no settings inside"
    hint = f"did you mean {' or '.join(near)}?" if near else f"known here: {', '.join(known)}"
    return f"{path} must be a known setting, got an unknown name; {hint}"


def nested(keys: Sequence[str]) -> str:
    """As a file has it.

    >>> nested(["transfer", "pairs", "0", "every"])
    '`transfer: {pairs: [{every: ...}]}`'
    """
    text = "..."
    for key in reversed(keys[1:]):
        text = f"[{text}]" if key.isdigit() else f"{{{key}: {text}}}"
    return f"`{keys[0]}: {text}`"


def problem(item: Any) -> str:
    """One of pydantic's errors as a line: path, rule, value, way out."""
    location, value, context = item["loc"], item["input"], item.get("ctx", {})
    if location[:2] == ("transfer", "pairs"):
        location = location[:2] + location[3:]  # without pydantic's name for which of its two forms was given
    path = _dotted(location)
    if item["type"] == "extra_forbidden":
        level = [str(part) for part in location[:-1]]
        return unknown_key(level, str(location[-1]))
    if item["type"] == "value_error":  # a rule of schema.py, already a whole line
        return str(context["error"])
    if item["type"] == "missing":
        return f"{path} must be given, got nothing"
    if item["type"] == "json_invalid":
        return "the configuration must be plain Unicode text of moderate depth, got something else"
    if item["type"] == "literal_error" and isinstance(value, str):
        return unknown_name(path, value[:60], re.findall(r"'([^']*)'", context["expected"]))
    known = RULES.get(item["type"])
    rule = known(context) if known is not None else f"be valid ({item['msg']})"
    way_out = "write it in quotes" if item["type"] == "string_type" else ""
    if item["type"] != "int_from_float":  # 2.5 was not meant to be none
        way_out = WAY_OUT.get(path, way_out)
    if item["type"].startswith("model_") and location[:1] == ("search",) and isinstance(value, list):
        way_out = f"a list of values is {{choice: {shown(value)}}}"  # an entry of a sweep file
    return f"{path} must {rule}, got {shown(value)}" + (f"; {way_out}" if way_out else "")


def _pattern(context: dict[str, Any]) -> str:
    meaning = {
        "auto|cpu": "be auto, cpu, cuda or cuda:N",
        "A-Za-z": "be letters, digits, dots, dashes and underscores, the first a letter or digit",
        "x00": "be a path, not empty, without a null character and names of over 255",
    }
    return next(words for part, words in meaning.items() if part in context["pattern"])


WHOLE = "be a whole number"
RULES: dict[str, Callable[[dict[str, Any]], str]] = {
    "literal_error": lambda c: f"be one of {c['expected']}",
    "greater_than_equal": lambda c: f"be >= {c['ge']:g}",
    "greater_than": lambda c: f"be > {c['gt']:g}",
    "less_than_equal": lambda c: f"be <= {c['le']}",
    "less_than": lambda c: f"be < {c['lt']:g}",
    "finite_number": lambda _: "be a finite number",
    "int_type": lambda _: WHOLE,
    "int_from_float": lambda _: WHOLE,
    "int_parsing": lambda _: WHOLE,
    "int_parsing_size": lambda _: WHOLE + " of at most 4300 digits",
    "float_type": lambda _: "be a number",
    "float_parsing": lambda _: "be a number",
    "bool_type": lambda _: "be true or false",
    "bool_parsing": lambda _: "be true or false",
    "string_type": lambda _: "be text",
    "string_too_long": lambda c: f"have at most {c['max_length']} characters",
    "string_pattern_mismatch": _pattern,
    "too_short": lambda c: f"have at least {c['min_length']} item",
    "tuple_type": lambda _: "be a list",
    "dict_type": lambda _: "be a mapping",
    "model_type": lambda _: "be a mapping of settings",
    "model_attributes_type": lambda _: "be a mapping of settings",
}
