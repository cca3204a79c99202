"""The records in the `.wandb` files that W&B's client writes on this machine.

Such a file is a header of 7 bytes and LevelDB's log framing in blocks of 32 KiB around W&B's own records. The client
writes with a delay, so that a kill or a full disk loses the end of a file without an error; this module detects it.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER, BLOCK = 7, 32 * 1024
FRAME = struct.Struct("<IHB")  # checksum, length of the chunk, its kind
FULL, FIRST, LAST = 1, 2, 4  # the other kind is a chunk from the middle of a record
MAGIC = b":W&B"


def raw_records(data: bytes) -> Iterator[bytes]:
    """The whole records of a file, up to where it is torn."""
    position, record = HEADER, b""
    while position + FRAME.size <= len(data):
        left = BLOCK - position % BLOCK
        _, length, kind = FRAME.unpack_from(data, position)
        if left < FRAME.size or (length, kind) == (0, 0):  # the rest of a block is padding
            position += left
            continue
        start = position + FRAME.size
        position = start + length
        if position > len(data):
            return
        record = data[start:position] if kind in (FULL, FIRST) else record + data[start:position]
        if kind in (FULL, LAST):
            yield record


def records(path: Path, most: int = -1) -> Iterator[Any]:
    """W&B's own records of a file, parsed, up to where it is torn. None of a file that is no such file.

    most: read so many bytes only, and the records that are whole in them.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2  # generated on import, so that types are unknown

    with path.open("rb") as file:
        data = file.read(most)
    for raw in raw_records(data) if data.startswith(MAGIC) else ():
        record = messages.Record()
        try:
            record.ParseFromString(raw)
        except DecodeError:  # a torn block; what follows is not to be trusted either
            return
        yield record


def rows(path: Path) -> list[dict[str, Any]]:
    """What was logged into a file, in order."""
    logged = (record.history.item for record in records(path) if record.HasField("history"))
    return [{"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items} for items in logged]
