"""TensorBoard's event files, read back record by record; an event that is written into them."""

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

FRAME = struct.Struct("<QI")  # length, checksum; a checksum follows the data


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    found = []
    for path in folder.glob("events.*"):
        data, position = path.read_bytes(), 0
        while position < len(data):
            length, _ = FRAME.unpack_from(data, position)
            event = Event.FromString(data[position + FRAME.size : position + FRAME.size + length])
            found += [(value.tag, event.step, round(value.simple_value, 4)) for value in event.summary.value]
            position += FRAME.size + length + 4
    return found


def row(epoch: int, loss: float = 0.5) -> dict[str, object]:
    return {"job": "trial-000", "role": "trial", "event": "row", "row": {"epoch": epoch, "loss": loss, "gate": None}}
