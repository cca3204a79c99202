"""What the files of a run hold, key by key: a file that is valid JSON may still hold anything."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mergenet.errors import CheckpointError

NUMBER = "a number or null"


class Record(BaseModel):
    """The keys that are read by name, and their types. Others are left alone: later versions may add some."""

    model_config = ConfigDict(strict=True, extra="allow")


class Numbers(Record):
    """Nothing but numbers, by name."""

    __pydantic_extra__: dict[str, float | None]


class EpochRow(Numbers):
    """A line of epochs.jsonl."""

    epoch: int = Field(ge=1, description="a whole number from 1")
    step: int = Field(0, ge=0, description="a whole number")


class Result(Record):
    """result.json, but for what was measured."""

    status: Literal["running", "finished", "stopped", "failed"] = Field(
        description="running, finished, stopped or failed"
    )
    error: str | None = Field(description="text or null")
    epochs_done: int = Field(ge=0, description="a whole number")
    epochs_sha256: str = Field("", description="a SHA-256")
    best_epoch: int | None = Field(ge=1, description="a whole number or null")
    metric: str = Field(pattern="^target_val_", description="a column target_val_...")


def checked(model: type[Record], values: Any, place: str, way_out: str) -> None:
    """Raises CheckpointError with the first key that is wrong. place: where the values come from."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = [str(key) for key in first["loc"]]
        field = model.model_fields.get(path[0]) if path else None
        rule = NUMBER if field is None else field.description
        got = "nothing" if first["type"] == "missing" else repr(first["input"])[:80]
        what = f"{place}: {'.'.join(path)} must be {rule}" if path else f"{place} must be a mapping"
        raise CheckpointError(f"{what}, got {got}; {way_out}") from None
