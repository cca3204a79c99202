"""Configurations from files, presets and `--set` options, and back to YAML.

    load_config("openmoji", ["transfer.t_cycle=4"])  ->  Config

Nothing is guessed: a text never becomes a number or a truth value, an unknown key or path is refused with the
nearest known ones. Every problem is one line that starts with the value's dotted path.
"""

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mergenet.config.json_schema import Field, child, field_table, is_section, resolve, root
from mergenet.config.messages import printable, problem, unknown_key
from mergenet.config.pair_labels import is_label, pairs_of
from mergenet.config.preset_names import PRESETS, presets
from mergenet.config.rules import shown
from mergenet.config.schema import Config
from mergenet.config.yaml12 import MAX_BYTES, dump_yaml_values, load_yaml
from mergenet.errors import SECRET, ConfigError, unknown_name

__all__ = [
    "Field",
    "dump_yaml",
    "field_table",
    "load_config",
    "mapping",
    "parse_config",
    "parse_model",
    "read_values",
    "set_by_path",
]

M = TypeVar("M", bound=BaseModel)


def load_config(name_or_path: str, overrides: Sequence[str] = (), method: str | None = None) -> Config:
    """A configuration from a preset's name or a YAML file, with `a.b=c` overrides applied in order.

    A name with a path separator or a .yaml / .yml suffix, or another one that is there, is a file. An override's value
    is read as YAML; items of lists go by number: `transfer.pairs.0.every=8`. method: in place of the configuration's.
    Raises ConfigError.
    """
    values, origin = read_values(name_or_path)
    for override in overrides:
        path, value = parse_override(override)
        set_by_path(values, path, value)
    if method is not None:
        values["method"] = method
    return parse_config(values, f"{origin} with --set" if overrides else origin)


def read_values(name_or_path: str) -> tuple[dict[str, Any], str]:
    """The mapping in a preset or YAML file, unchecked beyond its syntax, and what to call it in messages."""
    separators = [os.sep, *([os.altsep] if os.altsep else [])]
    is_file = name_or_path.endswith((".yaml", ".yml")) or any(sep in name_or_path for sep in separators)
    is_file = is_file or bool(Path(name_or_path).suffix and Path(name_or_path).is_file())  # presets have no suffix
    origin = printable(name_or_path) if is_file else f"preset {printable(name_or_path)}"
    text = _read_file(name_or_path) if is_file else _read_preset(name_or_path)
    values = mapping(load_yaml(text, origin), origin)
    if "search" in values and "base" in values:
        way_out = _of_a_sweep(name_or_path, values["base"])
        raise ConfigError(f"{origin} must be a configuration, got a sweep file; {way_out}")
    return values, origin


def parse_override(text: str, example: str = "seed=1") -> tuple[str, Any]:
    """`a.b=c` -> ("a.b", value of c as YAML). No message shows a value that may be a secret."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        got = "an assignment without =" if SECRET.search(text) else shown(text)
        raise ConfigError(f"--set must be PATH=VALUE, got {got}; for example {example}")
    return path.strip(), load_yaml(value, f"--set {printable(path.strip())}")


def set_by_path(values: dict[str, Any], path: str, value: Any) -> None:
    """Set one value of a (possibly partial) mapping in place; sections and list items on the way are made.

    A mapping changes only those settings of a section that it names; an empty mapping empties the section. A list item
    may be the next one, which appends it. Raises ConfigError for a path that the schema lacks.
    """
    if isinstance(value, dict) and value and is_section(path):
        for key, inner in value.items():
            set_by_path(values, f"{path}.{key}", inner)
        return
    keys = path.split(".")
    schema = root()
    here: Any = values
    for depth, key in enumerate(keys):
        inner = child(schema, key)
        if inner is None:
            raise ConfigError(unknown_key(keys[:depth], key, keys[depth + 1 :]))
        slot = _slot(here, key, ".".join(keys[: depth + 1]))
        if depth == len(keys) - 1:
            here[slot] = value
            return
        schema = resolve(inner)
        here[slot] = _container(here[slot], schema, ".".join(keys[: depth + 1]))
        here = here[slot]


def parse_config(values: dict[str, Any], origin: str) -> Config:
    """A checked Config from plain values. Arguments and errors as `parse_model`."""
    return parse_model(Config, upgraded(mapping(values, origin)), origin)


def parse_model(model: type[M], values: Mapping[str, Any], origin: str, line: Callable[[Any], str] = problem) -> M:
    """A model from plain values. origin: where they came from, shown after each problem.

    line: one of pydantic's errors in words. Types are strict, as in JSON: 1 is a number, "1" and true are not.
    Raises ConfigError, one line a problem.
    """
    try:
        return model.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        lines = dict.fromkeys(line(item) for item in error.errors(include_url=False))
        raise ConfigError("\n".join(f"{text} (in {origin})" for text in lines)) from None
    except (TypeError, ValueError, RecursionError):  # json.dumps; ValidationError is a ValueError and went above
        kinds = "numbers, text, true, false, null, lists and mappings"
        raise ConfigError(f"{origin} must hold only {kinds}, got another kind of value") from None


ALL_BEFORE = {"kind", "encoding", "rank", "depth", "heads", "width", "mlp_ratio", "pairings", "gate", "rms_match"}
ALL_SINCE = {"source_basis", "start", "init"}


def upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """The same values; a configuration that version 0.1.0 wrote out in full gets that version's behaviour.

    It had neither `transfer.align` nor `adapter.source_basis`, whose defaults differ today. Old runs and sweeps thus
    continue as they began. Values that are set are kept.
    """
    transfer = values.get("transfer")
    adapter = transfer.get("adapter") if isinstance(transfer, dict) else None
    if not isinstance(transfer, dict) or not isinstance(adapter, dict):
        return values
    if adapter.keys() >= ALL_SINCE or not adapter.keys() >= ALL_BEFORE:
        return values
    return values | {"transfer": {"align": "none"} | transfer | {"adapter": {"source_basis": "start"} | adapter}}


def dump_yaml(config: Config) -> str:
    """Every setting as YAML, in schema order; `load_config` reads exactly the same Config back."""
    return dump_yaml_values(config.model_dump(mode="json"))


def _read_file(name: str) -> str:
    path, label = Path(name), printable(name)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        way_out = f"; try {label.rstrip('/')}/config.yaml" if (path / "config.yaml").is_file() else ""
        raise ConfigError(f"{label} must be a YAML file, got a folder{way_out}") from None
    except FileNotFoundError:
        raise ConfigError(f"{label} must be an existing file; presets are {', '.join(presets())}") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise ConfigError(f"{label} must be a readable file, got: {getattr(error, 'strerror', error)}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{label} must be at most {MAX_BYTES // 1000} kB of YAML, got a larger file")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{label} must be UTF-8 text, got another byte at position {error.start}") from None


def _read_preset(name: str) -> str:
    if name not in presets():
        if (sweep := _shipped_sweep(name)) is not None:
            way_out = _of_a_sweep(name, load_yaml(sweep.read_text(encoding="utf-8"), name)["base"])
            raise ConfigError(f"the preset must be a configuration, got {name!r}, which is a sweep; {way_out}")
        message = unknown_name("the preset", name[:60], presets())
        raise ConfigError(f"{message}; a file's name ends in .yaml or has a / in it")
    return (PRESETS / f"{name}.yaml").read_text(encoding="utf-8")


def _shipped_sweep(name: str) -> Path | None:
    """The file of a sweep that ships beside this package, which may not be imported here."""
    spec = find_spec("sweeps")
    folders = () if spec is None else spec.submodule_search_locations or ()
    files = [Path(folder) / "config" / "presets" / f"{name}.yaml" for folder in folders]
    return next((file for file in files if printable(name) == name and file.is_file()), None)


def _of_a_sweep(name: str, base: Any) -> str:
    return f"`mergenet sweep run {shlex.quote(printable(name))}` runs it, and its base is {shown(base)}"


def mapping(values: Any, origin: str, example: str = "epochs: 10") -> dict[str, Any]:
    """The values. Raises ConfigError, with an example, if they are none with names."""
    if not isinstance(values, dict):
        raise ConfigError(f"{origin} must be a mapping of settings, got {shown(values)}; an example: {example}")
    return values


def _slot(here: Any, key: str, path: str) -> Any:
    """Where a value goes: the key of a mapping, the number of a list's item, made if it is the next one."""
    if isinstance(here, dict):
        here.setdefault(key, None)
        return key
    if len(key) > 9 or int(key) > len(here):
        raise ConfigError(f"{printable(path)} must be an item from 0 to {len(here)} (the next), got no such item")
    if int(key) == len(here):
        here.append(None)
    return int(key)


def _container(value: Any, schema: dict[str, Any], path: str) -> Any:
    """The mapping or list at a path, made when absent; a tuple (from model_dump) becomes a list."""
    kind: type = list if schema.get("type") == "array" else dict
    if is_label(value):
        value = pairs_of(value)
    if value is None:
        return kind()
    if isinstance(value, tuple) and kind is list:
        return list(value)
    if not isinstance(value, kind):
        rule = "a list" if kind is list else "a mapping"
        raise ConfigError(f"{path} must be {rule} to set a value inside, got {shown(value)}")
    return value
