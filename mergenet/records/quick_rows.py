"""epochs.jsonl as a run writes it, read several times faster than line by line.

A file that is not exactly so (torn, damaged, edited, of another program) is left to the careful reader in
run_record.py, which has the messages. What is accepted here is what that one accepts, with the same values.
"""

import functools
import hashlib
import re
from itertools import chain
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from mergenet.records.models import EpochRow

LONGEST = 4000  # bytes of a line; Python's JSON refuses a number of more digits, this one does not

_ROWS = TypeAdapter(list[EpochRow])
_TIMES = re.compile(rb'(, "seconds_\w+": [^,}]*(?:, "seconds_\w+": [^,}]*)*)')
_COUNTS = re.compile(rb'(\{"epoch": ([1-9][0-9]*), "step": (?:0|[1-9][0-9]*))[,}]')
_DIGITS = b"0123456789.-+"
_VALUE = rb'"[^"\\]*": (?:e|null|NaN|Infinity)?'  # without digits
_ROW = re.compile(rb"\{%s(?:, %s)*\}" % (_VALUE, _VALUE))


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


def quick_times(data: bytes, count: int, sha256: str, best_epoch: int) -> list[dict[str, Any]] | None:
    """Of each row epoch, step and times, in their order; of the best epoch the whole row.

    None, for the careful reader, unless there are so many rows and their text has the hash. Then they are as the run
    wrote them, and only those that a table needs become values, and the times, which the hash leaves out.
    """
    *shapes, end = data.translate(None, _DIGITS).split(b"\n")
    if end or len(shapes) != count or not all(map(_has_times_once, set(shapes))):
        return None
    parts = _TIMES.split(data)
    timeless, times = b"".join(parts[::2]), parts[1::2]
    counts = _COUNTS.findall(timeless)
    if len(counts) != count or _hash(timeless[:-1].replace(b"\n", b", ")) != sha256:
        return None
    try:
        best = [int(epoch) for _, epoch in counts].index(best_epoch)
        rows = from_json(b"[%s}]" % b"},".join([begin + text for (begin, _), text in zip(counts, times, strict=True)]))
        rows[best] = from_json(data.split(b"\n", best + 1)[best])
    except ValueError:
        return None
    return list(rows)


@functools.lru_cache(maxsize=1024)
def _has_times_once(shape: bytes) -> bool:
    """Whether a line, without its digits, is a mapping of numbers and nulls, whose times stand together."""
    return _ROW.fullmatch(shape) is not None and len(_TIMES.findall(shape)) == 1


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
