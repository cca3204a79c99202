"""TensorBoard's event files, read back record by record; an event that is written into them."""

from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

from sweeps.tracking.tensorboard import CHECKSUM_SIZE, FRAME


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    found = []
    for path in folder.glob("events.*"):
        data, position = path.read_bytes(), 0
        while position < len(data):
            length, _ = FRAME.unpack_from(data, position)
            event = Event.FromString(data[position + FRAME.size : position + FRAME.size + length])
            found += [(value.tag, event.step, round(value.simple_value, 4)) for value in event.summary.value]
            position += FRAME.size + length + CHECKSUM_SIZE
    return found


def row(epoch: int, loss: float = 0.5) -> dict[str, object]:
    return {"job": "trial-000", "role": "trial", "event": "row", "row": {"epoch": epoch, "loss": loss, "gate": None}}
