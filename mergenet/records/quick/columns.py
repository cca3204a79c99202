"""What a table or a status needs of epochs.jsonl, as a run writes it: a few columns, the best row and the last one.

Where the hash of the rows is right they are as the run wrote them, so only what is asked for becomes values, and the
times, which the hash leaves out. A file that is not exactly so (torn, damaged, edited, of another program) is left to
the careful reader in run_record.py, which has the messages. What is accepted here is what that one accepts, with the
same values.
"""

import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import sub
from typing import Any

from pydantic_core import from_json

from mergenet.records.quick.rows import LONGEST

_NUMBERS = b"0123456789.-+e"  # what numbers are written with; the shape of a row is what is left without
_VALUE = rb'"[^"\\]*": (?:null|NaN|Infinity)?'
_ROW = re.compile(rb"\{%s(?:, %s)*\}" % (_VALUE, _VALUE))
_BEGIN = re.compile(rb'\{"epoch": 1, "step": ([1-9][0-9]{0,14}), ')
_TIMES, _TIME = re.compile(rb'(?:, "seconds_\w+": [^,}]*)+'), re.compile(rb', "(seconds_\w+)": ')
_LABEL, _SHAPED_LABEL = b', "seconds_', b', "sconds_'
_SHAPED_TIMES = re.compile(rb'(?:, "sconds_[^"]*": [^,}]*)+')

Column = list[Any]  # a value for each epoch, None where it has none


@dataclass(frozen=True)
class Columns:
    """Of the epochs of a run: steps done, all columns seconds_*, those that were asked for, and two whole rows.

    best: of the epoch that the run selected, or else the first best one by its metric. Both are empty before the first.
    """

    steps: Column
    times: dict[str, Column]
    values: dict[str, Column]
    best: dict[str, Any]
    last: dict[str, Any]

    def __len__(self) -> int:
        """The number of epochs."""
        return len(self.steps)


def quick_columns(data: bytes, count: int, sha256: str, best_epoch: int, names: Sequence[str]) -> Columns | None:
    """names: of the columns that are asked for.

    None, for the careful reader, unless there are so many rows, of epochs from 1 on that have equally many steps each,
    whose text has the hash and whose times stand together.
    """
    first = data[: data.find(b"\n")]
    begin, text = _BEGIN.match(first), _times(first)
    if begin is None or not text or best_epoch > count:
        return None
    times, step, places = _TIME.findall(text), int(begin[1]), _line_places(data, count)
    if not _are_rows(data.translate(None, _NUMBERS), count, len(times)):
        return None
    if not all(map(data.startswith, _begins(count, step), places)) or max(map(sub, places[1:], places)) > LONGEST:
        return None
    parts, width = _around(tuple(times), first.endswith(text + b"}")).split(data), len(times) + 1
    timeless = b"[%s]" % b"".join(parts[::width])[:-1].replace(b"\n", b", ")
    if len(parts) != width * count + 1 or hashlib.sha256(timeless).hexdigest() != sha256:
        return None
    try:
        told = {name.decode(): _values(parts[place::width]) for place, name in enumerate(times, start=1)}
        values = {name: _column(data, name, places) for name in names}
        best, last = (from_json(data[places[epoch - 1] : places[epoch]]) for epoch in (best_epoch, count))
    except ValueError:
        return None
    return Columns(list(range(step, step * count + 1, step)), told, values, best, last)


def _times(row: bytes) -> bytes:
    """The text of the columns seconds_* of a row; none unless they stand together."""
    begin = row.find(_LABEL)
    found = _TIMES.match(row, max(begin, 0))
    return found[0] if found is not None and row.find(_LABEL, found.end()) < 0 else b""


@functools.lru_cache(maxsize=64)
def _around(times: Sequence[bytes], at_the_end: bool) -> re.Pattern[bytes]:
    """Cuts rows into what is not times and the value of each time."""
    values = [b'"%s": ([^,]*)' % name for name in times]
    return re.compile(b", " + b", ".join([*values[:-1], values[-1].replace(b",", b"}") if at_the_end else values[-1]]))


def _line_places(data: bytes, count: int) -> list[int]:
    """Where so many lines begin, and where the last one ends; 0 for what there is not."""
    place = 0
    return [0] + [place := data.find(b"\n", place) + 1 for _ in range(count)]


@functools.lru_cache(maxsize=64)
def _begins(count: int, step: int) -> list[bytes]:
    """How the rows begin."""
    return [b'{"epoch": %d, "step": %d, ' % (epoch, step * epoch) for epoch in range(1, count + 1)]


def _are_rows(shapes: bytes, count: int, num_times: int) -> bool:
    """Whether there are so many lines, given without their numbers, of which each has so many times."""
    first = shapes[: shapes.find(b"\n") + 1]
    if shapes == first * count:
        return _num_times(first[:-1]) == num_times
    *each, end = shapes.split(b"\n")
    return not end and len(each) == count and set(map(_num_times, set(each))) == {num_times}


@functools.lru_cache(maxsize=1024)
def _num_times(shape: bytes) -> int:
    """How many times a row has; 0 unless it is a mapping of numbers and nulls and its times stand together."""
    found = _SHAPED_TIMES.findall(shape)
    return found[0].count(_SHAPED_LABEL) if len(found) == 1 and _ROW.fullmatch(shape) is not None else 0


def _values(texts: list[bytes]) -> Column:
    """Raises ValueError if one is none of JSON."""
    return list(from_json(b"[%s]" % b", ".join(texts)))


def _column(data: bytes, name: str, places: list[int]) -> Column:
    """Of the rows between these places. Raises ValueError if a value is none."""
    label = re.compile(b'"%s": ([^,]*)' % re.escape(name.encode()))
    found = label.findall(data)
    if len(found) != len(places) - 1:  # it is missing in some rows
        rows = (label.search(data, *each) for each in pairwise(places))
        found = [b"null" if row is None else row[1] for row in rows]
    return _values([value.partition(b"}")[0] for value in found])
