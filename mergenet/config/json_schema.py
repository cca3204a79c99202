"""The configuration's schema as data: which keys there are, of which type, with which default and meaning.

Read from the JSON Schema that pydantic derives from `config.Config`, so that help, messages and the checks of
dotted paths cannot drift from the models. `fields_of` does the same for any model, such as that of a sweep file.
"""

import difflib
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from mergenet.config.schema import Config

REQUIRED = "required"
TYPES = {"integer": "whole number", "number": "number", "boolean": "true | false", "string": "text", "null": "null"}


class Field(NamedTuple):
    path: str  # dotted; a list's items are shown as item 0, what lies under names of the user's own as *
    type: str  # in words, with bounds
    default: str  # as YAML; "required" where there is none
    description: str


@functools.cache
def root() -> dict[str, Any]:
    return schema_of(Config)


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON Schema with what its references name in their place; an outer description or default wins."""
    schema = model.model_json_schema()
    defs = schema.pop("$defs", {})

    def written(node: Any) -> Any:
        if isinstance(node, list):
            return [written(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = {**defs[node["$ref"].rsplit("/", 1)[-1]], **node} if "$ref" in node else node
        return {key: written(value) for key, value in node.items() if key != "$ref"}

    found: dict[str, Any] = written(schema)
    return found


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    """The node itself: `X or null` and `X or a word` read as X. The outer description and default win."""
    if "properties" in node or not (branches := node.get("anyOf", node.get("oneOf"))):
        return node
    inner = next(branch for branch in branches if branch.get("type") != "null")
    return resolve({**inner, **{key: value for key, value in node.items() if key not in ("anyOf", "oneOf")}})


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


def suggestions(level: Sequence[str], key: str, rest: Sequence[str] = ()) -> list[str]:
    """Dotted paths that a wrong one may have meant: the end of a path, a near name at its level, a near end.

    level: the part of it that is there. key: the first that is not. rest: what follows.
    """
    asked = ".".join([key, *rest])
    inside = [path for path in all_paths() if path.startswith("".join(f"{name}." for name in level))]
    if ends := [path for path in inside if path.endswith(f".{asked}")]:
        return ends[:3]
    for cutoff in (0.75, 0.5):
        near = [".".join([*level, name, *rest]) for name in nearest(key, known_keys(level), cutoff)]
        if found := [path for path in near if path in all_paths()]:
            return found
        if not level:
            ends = nearest(asked.rpartition(".")[2], {path.rpartition(".")[2] for path in inside}, 0.75)
            if found := [path for end in ends for path in inside if path.endswith(f".{end}")]:
                return found[:3]
    return [path for path in all_paths() if path.endswith(f".{asked}")][:3]


def nearest(name: str, known: Iterable[str], cutoff: float) -> list[str]:
    return difflib.get_close_matches(name, sorted(known), n=3, cutoff=cutoff)


@functools.cache
def all_paths() -> tuple[str, ...]:
    """Every setting and section, by name; the outer first."""
    settings = [field.path.split(".") for field in field_table()]
    paths = dict.fromkeys(".".join(keys[: i + 1]) for keys in settings for i in range(len(keys)))
    return tuple(sorted(paths, key=lambda path: path.count(".")))


@functools.cache
def field_table() -> tuple[Field, ...]:
    """Every setting of a training configuration, in schema order."""
    return fields_of(Config)


def fields_of(model: type[BaseModel]) -> tuple[Field, ...]:
    """Every field of a model and of the models inside it, in schema order."""
    return tuple(_rows(schema_of(model), (), model.model_construct().model_dump(mode="json", by_alias=True)))


def _rows(node: dict[str, Any], path: tuple[str, ...], default: Any) -> Iterator[Field]:
    node = resolve(node)
    for name, field in node["properties"].items():
        here, inner = (*path, name), resolve(field)
        required = name in node.get("required", ())
        value = default.get(name, inner.get("default", {} if inner.get("type") == "object" else None))
        if "properties" in inner:
            yield from _rows(inner, here, value or {})
            continue
        default_text = REQUIRED if required else _yaml(value)
        yield Field(".".join(here), _words(field), default_text, inner.get("description", ""))
        for key, item in (("0", inner.get("items", {})), ("*", inner.get("additionalProperties", {}))):
            if isinstance(item, dict) and "properties" in resolve(item):
                yield from _rows(resolve(item), (*here, key), {})


def _words(node: dict[str, Any]) -> str:
    """The type, with bounds and choices."""
    branches = node.get("anyOf", node.get("oneOf", ()))
    if branches and "properties" not in node:
        return " or ".join(sorted(map(_words, branches), key=lambda words: words == "null"))
    if "const" in node:
        return str(node["const"])
    if "enum" in node:
        return " | ".join(map(str, node["enum"]))
    if "prefixItems" in node:
        return f"[{', '.join(map(_words, node['prefixItems']))}]"
    if node.get("type") == "array":
        items = _words(node["items"]).replace("mapping", "mappings")
        return f"list of ({items})" if " or " in items else f"list of {items}"
    if node.get("type") == "object":
        return "mapping"
    return TYPES[node["type"]] + _bounds(node) if "type" in node else "anything"


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
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(inner)}" for key, inner in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)
