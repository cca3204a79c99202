"""YAML text to plain values and back, with no surprises.

A value is what it looks like, by YAML 1.2's rules: `off`, `no` and `2024-01-01` are text, `1e-3` is a number,
`010` is ten. Refused, each with one line: a key given twice, a key that is not text, anchors and aliases (a
short file must not grow into a huge one), tags (no value may ask for a Python type), and anything above 200 kB.
"""

import re
from typing import Any

import yaml

from mergenet.errors import ConfigError

MAX_BYTES = 200_000
MAX_DEPTH = 50  # lists and mappings within each other

INTEGER = re.compile(r"[-+]?[0-9]+\Z")
NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


def load_yaml(text: str, origin: str) -> Any:
    """The value of one YAML document: None, bool, int, float, str, list or dict with text keys.

    origin: what the message names, a file or an option. Raises ConfigError of one line.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{origin} must be at most {MAX_BYTES // 1000} kB of YAML, got {len(text) // 1000} kB")
    try:
        _check_events(text, origin)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return None if node is None else _value(node, origin)
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin} must be valid YAML, got {_problem(error)}") from None


def _check_events(text: str, origin: str) -> None:
    """Refuses what must not be constructed, and deep nesting, on which PyYAML spends minutes."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = 1 if event.start_mark is None else event.start_mark.line + 1
        if getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None:
            raise ConfigError(f"{origin} must have no YAML anchors, aliases or tags, got one on line {line}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ConfigError(f"{origin} must nest at most {MAX_DEPTH} deep, got more on line {line}")


def dump_yaml_values(values: Any) -> str:
    """Block-style YAML that `load_yaml`, like any YAML 1.1 reader, reads back exactly, in order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Unicode's other line breaks are folded away in plain text; in double quotes they are escaped."""
    style = '"' if set(text) & set("\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)

# Text that looks like a number to either YAML version is quoted. PyYAML knows 1.1's rules; these are ours.
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", INTEGER, list("-+0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+0123456789."))


def _problem(error: yaml.YAMLError) -> str:
    """PyYAML's several-line complaint as a phrase."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        problem = str(error.problem).encode("unicode_escape").decode()
        return f"{problem} at line {mark.line + 1}, column {mark.column + 1}"
    reason = getattr(error, "reason", None) or "unreadable text"
    return f"{reason} at position {getattr(error, 'position', 0)}"


def _value(node: yaml.Node, origin: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, origin)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, origin) for item in node.value]
    assert isinstance(node, yaml.ScalarNode), node
    return _scalar(node, origin)


def _mapping(node: yaml.MappingNode, origin: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = _scalar(key_node, origin) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            raise ConfigError(f"{origin} must have text as keys, got another kind of key on line {line}")
        if key in values:
            raise ConfigError(f"{origin} must give each key once, got {key[:60]!r} again on line {line}")
        values[key] = _value(value_node, origin)
    return values


def _scalar(node: yaml.ScalarNode, origin: str) -> Any:
    text: str = node.value
    if node.style is not None:  # quoted, or a block: text whatever it looks like
        return text
    if text in CONSTANTS:
        return CONSTANTS[text]
    if INTEGER.match(text):
        if len(text) > 1000:  # Python itself refuses from 4300 digits on
            line = node.start_mark.line + 1
            raise ConfigError(f"{origin} must hold numbers of at most 1000 digits, got {len(text)} on line {line}")
        return int(text)
    return float(text) if NUMBER.match(text) else text
