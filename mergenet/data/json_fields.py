"""Fields of JSON files that others wrote: every one is checked when it is taken."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from mergenet.config import DataConfig
from mergenet.config.rules import shown
from mergenet.errors import ConfigError, DataError

T = TypeVar("T", str, int, bool, list[Any])

KINDS = {str: "a text", int: "a whole number", bool: "true or false", list: "a list"}


def folder_with(config: DataConfig, names: Sequence[str], commands: str) -> Path:
    """`config.root`, which holds the files `names`. commands: shell commands that fill a folder ROOT with them.

    Raises ConfigError without a root, DataError for files that are not there; both end with the commands.
    """
    fill = f"fill it with: {commands.replace('ROOT', shlex.quote(config.root or 'FOLDER'))}"
    if config.root is None:
        raise ConfigError(f"data.root must name the folder of {config.name}, got None; {fill}")
    root = Path(config.root)
    if missing := [name for name in names if not (root / name).exists()]:
        raise DataError(f"data.root must hold {', '.join(names)}, {config.root!r} lacks {', '.join(missing)}; {fill}")
    return root


def read_json(path: Path) -> object:
    """Raises DataError for a file that cannot be read or is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; fetch the data set again") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} must be JSON, got a file that is not: {str(error)[:200]}; fetch it again") from None


def field(record: object, key: str, kind: type[T], where: str) -> T:
    """`record[key]`. where: file and place of the record. Raises DataError if it is missing or of another kind."""
    if not isinstance(record, dict):
        raise DataError(f"{where} must be a mapping with the key {key!r}, got {shown(record)}")
    if key not in record:
        raise DataError(f"{where} must have the key {key!r}, which is missing")
    value = record[key]
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise DataError(f"{where}.{key} must be {KINDS[kind]}, got {shown(value)}")
    return value


def text_field(record: object, key: str, where: str, blank: bool = False) -> str:
    """`record[key]`, valid Unicode. blank: whether it may hold nothing but spaces. Raises DataError."""
    value = field(record, key, str, where)
    if not blank and not value.strip():
        raise DataError(f"{where}.{key} must not be blank, got {shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair, which is no character
        raise DataError(f"{where}.{key} must be valid Unicode, got {shown(value.encode('ascii', 'replace'))}") from None
    return value
