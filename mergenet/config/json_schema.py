"""The configuration's schema as data: which keys there are, of which type, with which default and meaning.

Read from the JSON Schema that pydantic derives from `config.Config`, so that help, messages and the checks of
dotted paths cannot drift from the models.
"""

import difflib
import functools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from mergenet.config.schema import Config

REQUIRED = "required"
TYPES = {"integer": "whole number", "number": "number", "boolean": "true | false", "string": "text"}


class Field(NamedTuple):
    path: str  # dotted; a list's items are shown as item 0
    type: str  # in words, with bounds
    default: str  # as YAML; "required" where there is none
    description: str


@functools.cache
def root() -> dict[str, Any]:
    return Config.model_json_schema()


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    """The node itself: references followed, `X or null` and `X or a word` read as X.

    The outer description and default win.
    """
    inner = node
    if "$ref" in node:
        inner = root()["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    elif "anyOf" in node:
        inner = next(branch for branch in node["anyOf"] if branch.get("type") != "null")
    elif "oneOf" in node:  # a list, or a word in its place
        inner = node["oneOf"][0]
    if inner is node:
        return node
    return resolve({**inner, **{key: value for key, value in node.items() if key not in ("$ref", "anyOf", "oneOf")}})


def child(node: dict[str, Any], key: str) -> dict[str, Any] | None:
    """What lies under `key` of a section, or under an item number of a list; None where there is nothing."""
    node = resolve(node)
    if node.get("type") == "array":
        return node["items"] if key.isascii() and key.isdigit() else None
    return node.get("properties", {}).get(key)


def node_at(path: Iterable[str]) -> dict[str, Any] | None:
    """The (unresolved) schema of a path; None for a path that does not exist."""
    node: dict[str, Any] | None = root()
    for key in path:
        if node is None:
            return None
        node = child(node, key)
    return node


def is_section(path: str) -> bool:
    """Whether a path, which need not exist, is a section with named settings below it."""
    node = node_at(path.split("."))
    return node is not None and "properties" in resolve(node)


def known_keys(path: Iterable[str]) -> list[str]:
    node = node_at(path)
    return list(resolve(node).get("properties", {})) if node is not None else []


def suggestions(level: Iterable[str], key: str) -> list[str]:
    """Dotted paths that a wrong key may have meant: near names at its level, then the same name anywhere."""
    level = list(level)
    near = difflib.get_close_matches(key, known_keys(level), n=3, cutoff=0.5)
    if near:
        return [".".join([*level, name]) for name in near]
    return [row.path for row in field_table() if row.path.split(".")[-1] == key][:3]


@functools.cache
def field_table() -> tuple[Field, ...]:
    """Every setting of a training configuration, in schema order."""
    return tuple(_rows(root(), (), Config.model_construct().model_dump(mode="json")))


def _rows(node: dict[str, Any], path: tuple[str, ...], default: Any) -> Iterator[Field]:
    node = resolve(node)
    for name, field in node["properties"].items():
        here, inner = (*path, name), resolve(field)
        required = name in node.get("required", ())
        value = default.get(name, inner.get("default"))
        if "properties" in inner:
            yield from _rows(inner, here, value)
            continue
        default_text = REQUIRED if required else _yaml(value)
        yield Field(".".join(here), _words(field), default_text, inner.get("description", ""))
        item = resolve(inner.get("items", {}))
        if "properties" in item:
            yield from _rows(item, (*here, "0"), {})


def _words(field: dict[str, Any]) -> str:
    node = resolve(field)
    optional = " or null" if any(branch.get("type") == "null" for branch in field.get("anyOf", ())) else ""
    optional += "".join(f" or {branch['const']}" for branch in field.get("oneOf", ()) if "const" in branch)
    if "enum" in node:
        return " | ".join(map(str, node["enum"])) + optional
    if node["type"] == "array":
        item = resolve(node["items"])
        return "list of " + ("mappings" if "properties" in item else _words(node["items"])) + optional
    return TYPES[node["type"]] + _bounds(node) + optional


def _bounds(node: dict[str, Any]) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    # bounds from 2**31 on guard against overflow and mean nothing to a reader
    words = [f"{sign} {_yaml(node[key])}" for key, sign in signs.items() if node.get(key, 2**31) < 2**31 - 1]
    return " " + ", ".join(words) if words else ""


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
