"""epochs.jsonl as a run writes it, read several times faster than line by line.

A file that is not exactly so (torn, damaged, edited, of another program) is left to the careful reader in
run_record.py, which has the messages. What is accepted here is what that one accepts, with the same values.
"""

import hashlib
import re
from itertools import chain
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json

from mergenet.records.models import EpochRow

LONGEST = 4000  # bytes of a line; Python's JSON refuses a number of more digits, this one does not

_ROWS = TypeAdapter(list[EpochRow], config=ConfigDict(defer_build=True))
_TIMES = re.compile(rb'(, "seconds_\w+": [^,}]*(?:, "seconds_\w+": [^,}]*)*)')


def quick_rows(data: bytes) -> list[dict[str, Any]] | None:
    """The rows, if every line is one; None if the careful reader has to look."""
    lines = _lines(data)
    if b"\r" in data or max(map(len, lines), default=0) > LONGEST:
        return None
    try:
        rows = [from_json(line) for line in lines]
    except ValueError:
        return None
    return rows if _are_rows(rows) else None


def text_hash(data: bytes, count: int) -> str:
    """`epochs_hash` of the first rows from the text alone; another one if the text is not as `json.dumps` writes it."""
    whole = data.count(b"\n") == count and data.endswith(b"\n")
    text = data[:-1].replace(b"\n", b", ") if whole else b", ".join(_lines(data)[:count])
    return _hash(_TIMES.sub(b"", text))


def _hash(timeless: bytes) -> str:
    return hashlib.sha256(b"[" + timeless + b"]").hexdigest()


def _lines(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _are_rows(rows: list[Any]) -> bool:
    """As EpochRow says. Asking it takes longest, so rows of nothing but floats beside epoch and step are not asked."""
    if not all(type(row) is dict for row in rows):
        return False
    kinds, counts = list(map(type, chain.from_iterable(map(dict.values, rows)))), 2 * len(rows)
    if kinds.count(int) == counts and kinds.count(float) == len(kinds) - counts:
        counted = [(row.get("epoch"), row.get("step")) for row in rows]
        if all(type(epoch) is int and epoch >= 1 and type(step) is int and step >= 0 for epoch, step in counted):
            return True
    try:
        _ROWS.validate_python(rows)
    except ValidationError:
        return False
    return True
