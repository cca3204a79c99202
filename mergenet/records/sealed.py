"""Records in JSON that notice when a value has become another valid one: the last key, sha256, seals all the rest.

It is the SHA-256 of the file as it would be without that key: indented by two, a line feed at the end. A record without
it is read as it stands. Earlier versions wrote none; and whoever edits a record on purpose takes the key out.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from mergenet.errors import CheckpointError
from mergenet.records.atomic import missing, read_if_any, write_text

KEY = "sha256"
LONGEST = 4000  # bytes; Python's JSON refuses a number of more digits
_OPEN, _CLOSE = f',\n  "{KEY}": "'.encode(), b"\n}\n"  # around the seal, and at the end of any record


def write_record(path: Path, values: dict[str, Any]) -> None:
    """Writes the values and their seal, atomically; a float that is not finite becomes NaN or Infinity.

    Raises WriteError if the disk refuses.
    """
    assert KEY not in values, path
    write_text(path, _text(values | {KEY: _hash(_text(values).encode())}))


def read_record(path: Path, way_out: str = "restore it") -> dict[str, Any]:
    """The values, without the seal. way_out: how to have a damaged file again, in the message.

    Raises CheckpointError if the file cannot be read, holds no mapping or not what its seal is of.
    """
    values = read_record_if_any(path, way_out)
    if values is None:
        raise missing(path)
    return values


def read_record_if_any(path: Path, way_out: str = "restore it") -> dict[str, Any] | None:
    """The same; None if there is no such file."""
    data = read_if_any(path)
    if data is None:
        return None
    values = _parsed(data)
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold one mapping, got {data[:60]!r}; the file is damaged, {way_out}")
    if KEY in values and not _fits(data, values.pop(KEY), values):
        raise CheckpointError(
            f"{path} must have the SHA-256 that its key {KEY} says; it is damaged or was edited, {way_out}, or, if the "
            f"edit is meant, take that key out"
        )
    return values


def _parsed(data: bytes) -> Any:
    """None if it is no JSON. Python's parser has the last word, where the fast one refuses and of large files."""
    try:
        if len(data) <= LONGEST:
            return from_json(data)
    except ValueError:
        pass
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _fits(data: bytes, seal: object, values: dict[str, Any]) -> bool:
    """By the bytes as they were written, which is fast; else, for a file that was laid out anew, by the values."""
    body, _, end = data.rpartition(_OPEN)
    if end == f'{seal}"'.encode() + _CLOSE and _hash(body + _CLOSE) == seal:
        return True
    return _hash(_text(values).encode()) == seal


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2) + "\n"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
