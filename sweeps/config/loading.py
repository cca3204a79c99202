"""Sweep files: read from the package or a path, with `--set` options, and back to YAML.

load_sweep("quickstart", ["num_trials=4", "set.transfer.t_cycle=8"])  ->  SweepConfig
"""

import importlib.resources
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mergenet.config import Config, PairConfig, Strict
from mergenet.config.json_schema import node_at
from mergenet.config.loading import mapping, parse_model, parse_override
from mergenet.config.messages import nested, printable, problem
from mergenet.config.pair_labels import pairs_of
from mergenet.config.preset_names import presets
from mergenet.config.rules import shown
from mergenet.config.yaml12 import dump_yaml_values, load_yaml
from mergenet.errors import SECRET, ConfigError, unknown_name
from sweeps.config.schema import Limits, SweepConfig, WandbConfig
from sweeps.space.entry import Entry
from sweeps.space.space import PAIRS

PATHS = "set", "search"  # keys that hold paths of a training configuration
SECTIONS = (*PATHS, "wandb", "constraints")
EXAMPLE = "base: openmoji"  # a setting, for messages


def sweeps() -> list[str]:
    """Names of the sweeps that ship with the package."""
    folder = importlib.resources.files("sweeps.config") / "presets"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_sweep(
    name_or_path: str, overrides: Sequence[str] = (), changes: Mapping[str, Any] | None = None
) -> SweepConfig:
    """A sweep from a shipped name or a YAML file; overrides are `a.b=c` with a key of the sweep file.

    Paths under `set` and `search` hold dots themselves: `set.transfer.t_cycle=8` changes `transfer.t_cycle`.
    changes: the same from Python, key -> value; a mapping changes only the keys that it has.
    Raises ConfigError, one line a problem.
    """
    text, origin = _read(name_or_path)
    values = mapping(load_yaml(text, origin), origin, EXAMPLE)
    ours, others = SweepConfig.model_fields.keys() | {"set"}, Config.model_fields.keys()
    if values.keys() & (others - ours) and not values.keys() & (ours - others):
        raise ConfigError(f"{origin} must be a sweep, got a configuration; {_of_a_configuration(name_or_path)}")
    for override in overrides:
        _override(values, override)
    for key, value in (changes or {}).items():
        _change(values, key, _plain(key, value))
    return parse_sweep(values, origin, Path(name_or_path).parent)


def parse_sweep(values: dict[str, Any], origin: str, folder: Path = Path()) -> SweepConfig:
    """A checked sweep. folder: relative paths are looked up there first. Raises ConfigError."""
    sweep = parse_model(SweepConfig, with_pairs(mapping(values, origin, EXAMPLE), origin), origin, _problem)
    warm = tuple(str(folder / path) if (folder / path).is_dir() else path for path in sweep.warm_start)
    base = str(folder / sweep.base) if (folder / sweep.base).is_file() else sweep.base
    return sweep.model_copy(update={"base": base, "warm_start": warm})


def with_pairs(values: dict[str, Any], origin: str) -> dict[str, Any]:
    """The same with plain pairs where a choice of pairs has the words of tables, fc>head. Raises ConfigError."""
    search = values.get("search")
    entry = search.get(PAIRS) if isinstance(search, dict) else None
    if not isinstance(search, dict) or not isinstance(entry, dict) or not isinstance(entry.get("choice"), list):
        return values
    try:
        choice = [pairs_of(pairs) for pairs in entry["choice"]]
    except ValueError as error:
        raise ConfigError(f"search.{error} (in {origin})") from None
    return values | {"search": search | {PAIRS: entry | {"choice": choice}}}


def dump_sweep(sweep: SweepConfig) -> str:
    """The sweep as YAML with every setting; `load_sweep` reads the same sweep back."""
    values = sweep.model_dump(mode="json", by_alias=True)
    for entry in values["search"].values():
        for key in [key for key, value in entry.items() if value is None or value is False or value == {}]:
            del entry[key]
    values["constraints"] = {name: limits.model_dump(exclude_none=True) for name, limits in sweep.constraints.items()}
    return dump_yaml_values(values)


def _read(name_or_path: str) -> tuple[str, str]:
    label = printable(name_or_path)
    if not name_or_path.endswith((".yaml", ".yml")) and "/" not in name_or_path:
        if name_or_path not in sweeps():
            if name_or_path in presets():
                way_out = _of_a_configuration(name_or_path)
                raise ConfigError(
                    f"the name must be that of a sweep, got {label!r}, which is a configuration; {way_out}"
                )
            message = unknown_name("the sweep", name_or_path[:60], sweeps())
            raise ConfigError(f"{message}; a file's name ends in .yaml or has a / in it")
        path = importlib.resources.files("sweeps.config") / "presets" / f"{name_or_path}.yaml"
        return path.read_text(encoding="utf-8"), f"sweep {label}"
    try:
        return Path(name_or_path).read_text(encoding="utf-8"), label
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        known = ", ".join(sweeps())
        raise ConfigError(f"{label} must be a readable file, got: {reason}; sweeps are {known}") from None


def _of_a_configuration(name: str) -> str:
    word = shlex.quote(printable(name))
    return f"`mergenet train {word}` trains it, `mergenet sweep init my-sweep.yaml --base {word}` writes a sweep of it"


def _override(values: dict[str, Any], text: str) -> None:
    path, parsed = parse_override(text, "num_trials=4")
    head, dot, rest = path.partition(".")
    if head not in _known([head]) and node_at(path.split(".")) is not None:
        raise ConfigError(
            f"--set {printable(path)} must be a key of a sweep, got a setting of its trials; "
            f"write --set set.{printable(text)}"
        )
    if not dot:
        _change(values, head, parsed)
        return
    section = values.setdefault(head, {})
    if not isinstance(section, dict):
        raise ConfigError(f"--set {printable(path)} must lead into a mapping, got {shown(section)} at {head}")
    section[rest] = parsed


def _change(values: dict[str, Any], key: str, value: Any) -> None:
    """A mapping is merged into an existing one; an empty mapping empties it."""
    changes = isinstance(values.get(key), dict) and isinstance(value, dict) and value
    values[key] = values[key] | value if changes else value


def _plain(key: str, value: Any) -> Any:
    """A value from Python as in a sweep file: tuples become lists. Raises ConfigError for what no file can hold."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        raise ConfigError(
            f"{printable(key)} must be made of numbers, texts, lists and mappings, got {shown(str(value))} of type "
            f"{type(value).__name__}"
        ) from None


def _problem(item: Any) -> str:
    """One of pydantic's errors as a line; keys of the sweep file are not those of a training configuration."""
    location = [str(part) for part in item["loc"]]
    path = printable(".".join(location))
    if SECRET.search(location[-1] if location else ""):
        return f"{path} must not be in a sweep file; keys come from the environment or ~/.netrc only"
    if item["type"] == "extra_forbidden" and len(location) == 1:
        if node_at(location[0].split(".")) is not None:
            return f"{path} must be a key of a sweep, got a setting of its trials; write it under set"
        head, dot, rest = location[0].partition(".")
        if dot and head in SECTIONS:
            keys = [head, rest] if head in PATHS else location[0].split(".")  # paths keep their dots
            return f"{path} must be nested in a file, got one key with dots; write {nested(keys)}"
    if item["type"] == "extra_forbidden":
        return f"{unknown_name(path, location[-1], _known(location))[:600]}"
    if item["type"] == "value_error":  # the rules of an Entry do not know its path
        text = str(item["ctx"]["error"])
        return f"{path}{text}" if text.startswith((" ", ".")) else text
    if item["type"] == "string_pattern_mismatch" and location[-1] == "metric":
        return f"metric must be a validation metric (target_val_...), got {shown(item['input'])}"
    if location[:1] == ["grace_epochs"]:  # pydantic reports each of its two types
        return f"grace_epochs must be auto or a whole number >= 1, got {shown(item['input'])}"
    if item["type"] == "missing" or not location:
        return f"{path or 'the sweep'} must be given, got nothing"
    return problem(item)


def _known(location: Sequence[str]) -> list[str]:
    if location[0] == "search":
        if len(location) > 3:  # inside layers
            return list(PairConfig.model_fields)
        return [field.alias or name for name, field in Entry.model_fields.items()]
    sections: dict[str, type[Strict]] = {"wandb": WandbConfig, "constraints": Limits}
    model = sections.get(location[0], SweepConfig) if len(location) > 1 else SweepConfig
    return [field.alias or name for name, field in model.model_fields.items()]
