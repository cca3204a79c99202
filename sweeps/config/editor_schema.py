"""The JSON Schema of sweep files, by which editors complete keys and mark what is wrong.

Read from the models. Paths under `set` and `search` are those of a training configuration, with its own schema for
their values. It takes every file that `load_sweep` takes; rules between values, such as low < high, are not in it.
"""

import re
from collections.abc import Iterator
from typing import Any

from mergenet.config import Config
from sweeps.config.schema import SweepConfig
from sweeps.space.entry import Entry
from sweeps.space.space import SHARED

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ITEM = "*"  # in a path: the number of any item of a list
Node = dict[str, Any]


def sweep_schema() -> Node:
    schema, base = SweepConfig.model_json_schema(), Config.model_json_schema()
    paths = dict(_paths(base, base["$defs"]))
    schema["$defs"] |= base["$defs"] | paths
    for key, found in (
        ("set", {path: _reference(path) for path in paths}),
        ("search", {path: _entry(path) for path in paths if path not in SHARED}),
    ):
        schema["properties"][key] |= {
            "properties": {path: node for path, node in found.items() if ITEM not in path},
            "patternProperties": {_pattern(path): node for path, node in found.items() if ITEM in path},
            "additionalProperties": False,
        }
    return {"$schema": DIALECT, **schema, "title": "A sweep of mergenet"}


def _paths(node: Node, defs: Node, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Every section and setting below a section, by its path."""
    for name, child in node["properties"].items():
        path = prefix + name
        yield path, child
        inner = _followed(child, defs)
        if "properties" in inner:
            yield from _paths(inner, defs, f"{path}.")
        item = _followed(inner.get("items", {}), defs)
        if "properties" in item:
            yield f"{path}.{ITEM}", inner["items"]
            yield from _paths(item, defs, f"{path}.{ITEM}.")


def _followed(node: Node, defs: Node) -> Node:
    """The section or list that a reference, or one of several forms, stands for."""
    if "$ref" in node:
        return _followed(defs[node["$ref"].rpartition("/")[2]], defs)
    branches: list[Node] = node.get("oneOf") or node.get("anyOf") or []
    forms = [_followed(form, defs) for form in branches]
    return next((form for form in forms if form.get("type") in ("array", "object")), node)


def _pattern(path: str) -> str:
    return f"^{re.escape(path).replace(re.escape(ITEM), '[0-9]+')}$"


def _reference(path: str) -> Node:
    return {"$ref": f"#/$defs/{path}"}


def _entry(path: str) -> Node:
    """An entry whose values are the setting's own."""
    value = _reference(path)
    values: Node = {"choice": {"items": value}} | {key: {"prefixItems": [value, value]} for key in ("int", "float")}
    return {"allOf": [_reference(Entry.__name__)], "properties": values}
