"""What the files of a run hold, key by key: a file that is valid JSON may still hold anything."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mergenet.errors import CheckpointError

NUMBER = "a number or null"
TEXT, HASHES = "text or null", "hashes by name"


class Record(BaseModel):
    """The keys that are read by name, and their types. Others are left alone: later versions may add some."""

    model_config = ConfigDict(strict=True, extra="allow", defer_build=True)


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


class Origin(Record):
    """What provenance.json says of a start, and of each resumption; records of earlier versions say less."""

    data_hashes: dict[str, str] = Field(default_factory=dict, description=HASHES)
    weights_hashes: dict[str, str] = Field(default_factory=dict, description=HASHES)
    code_hashes: dict[str, str] = Field(default_factory=dict, description=HASHES)
    versions: dict[str, str | None] = Field(default_factory=dict, description="versions by package")
    git_commit: str | None = Field(None, description=TEXT)
    git_dirty: bool | None = Field(None, description="true, false or null")
    code_git_commit: str | None = Field(None, description=TEXT)
    code_git_dirty: bool | None = Field(None, description="true, false or null")
    platform: str | None = Field(None, description=TEXT)
    cpu: str | None = Field(None, description=TEXT)
    device: str | None = Field(None, description=TEXT)
    gpu: str | None = Field(None, description=TEXT)
    started: str | None = Field(None, description=TEXT)


class Resumption(Origin):
    epochs_done: int = Field(ge=1, description="a whole number from 1")


class Provenance(Origin):
    """provenance.json."""

    config_hash: str | None = Field(None, description=TEXT)
    threads: int | None = Field(None, description="a whole number or null")
    seeds: dict[str, int] = Field(default_factory=dict, description="whole numbers by network")
    data: dict[str, dict[str, Any]] = Field(default_factory=dict, description="counts by network")
    pairs: list[dict[str, Any]] = Field(default_factory=list, description="layer pairs")
    resumed: list[Resumption] = Field(default_factory=list, description="resumptions, each a mapping")


class RecordingInfo(Record):
    """recording.json of a source, format 1."""

    format: Literal[1] = Field(description="1")
    fingerprint: str = Field(description="text")
    layers: list[str] = Field(description="names of layers")
    embeddings: list[str] = Field(default_factory=list, description="names of layers")
    every: int = Field(ge=1, description="a whole number from 1")
    steps_per_epoch: int = Field(ge=1, description="a whole number from 1")
    total_steps: int = Field(ge=1, description="a whole number from 1")
    source: dict[str, Any] = Field(default_factory=dict, description="the source's settings")
    epochs: list[dict[str, float | None]] = Field(description="metrics by epoch")
    data_hash: str = Field(description="text")
    code_hashes: dict[str, str] = Field(default_factory=dict, description=HASHES)
    dtype: Literal["bf16"] | None = Field(None, description="bf16")
    described: dict[str, Any] = Field(default_factory=dict, description="what the source's task was")


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
