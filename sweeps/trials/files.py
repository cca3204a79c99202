"""sweep.json and summary.json, as they are read: what they hold, key by key. One that is wrong is as good as none.

`state_problem` and `summary_problem` say what is wrong with it.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from analysis.names import STATE_FILE as STATE_FILE
from mergenet.errors import CheckpointError
from mergenet.records.models import Record, checked
from mergenet.records.run_record import test_column
from mergenet.records.sealed import read_record

SUMMARY_FILE = "summary.json"
FORGOTTEN = (
    "restore it, or `mergenet sweep resume` writes it anew and forgets the time spent so far and a copy's URL, copy_to "
    "(--copy-to)"
)
WRITTEN_AGAIN = "`mergenet sweep resume` writes it again"
STUDY_FILE, JOURNAL_FILE = "study.db", "study.journal"
BEST_FILE, REPORT_FILE = "best.yaml", "report.html"
COMMAND = "command"  # in sweep.json: the one that began the sweep, as it may be shown elsewhere; none from Python


class State(Record):
    """sweep.json."""

    status: str = Field(description="text")
    error: str | None = Field(None, description="text or null")
    seconds: dict[str, float] = Field(default_factory=dict, description="seconds by step")
    source: dict[str, Any] = Field(default_factory=dict, description="a mapping")
    num_trials: dict[str, int] = Field(default_factory=dict, description="whole numbers, asked and held")
    base_hash: str = Field("", description="text")
    study_id: str = Field("", description="text")
    copy_url: str | None = Field(None, alias="copy", description="a URL or null")
    command: str | None = Field(None, description="text or null")
    settings: dict[str, Any] = Field(default_factory=dict, description="a mapping")


class TrialSummary(Record):
    """A trial, or no transfer, in summary.json."""

    trial_id: str
    state: str
    number: int
    params: dict[str, Any]
    epochs: int
    value: float | None
    measured: dict[str, float | None] = Field(default_factory=dict)
    test: dict[str, float | None] = Field(default_factory=dict)
    values: list[float] = Field(default_factory=list)
    sd: float | None = None


class Gain(Record):
    mean: float
    low: float | None
    high: float | None
    p: float = Field(ge=0, le=1)
    smallest_p: float = Field(ge=0, le=1)
    num_pairs: int = Field(ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends")
        return self


class Compared(Record):
    """Of one metric: no transfer, a control or the trained adapter beside the best."""

    gain: Gain
    best_minus_control: Gain | None = None
    minus_best: Gain | None = None


class Side(Record):
    """What was compared on which seeds; the metrics are the other keys."""

    __pydantic_extra__: dict[str, Compared]
    seeds: list[int]


class Confirmation(Side):
    controls: dict[str, Side] = Field(default_factory=dict)
    adapter: Side | None = None


class Point(Record):
    trial_id: str
    values: dict[str, float]


class Infeasible(Record):
    complete: int
    infeasible: int
    rules: dict[str, int]


class Spent(Record):
    budget_hours: float | None
    budget_epochs: int | None
    search_hours: float
    search_epochs: int


class Summary(Record):
    """summary.json."""

    metric: str = Field(pattern="^target_val_")
    trials: list[TrialSummary]
    baseline: TrialSummary | None
    best: TrialSummary | None
    confirmation: Confirmation | None
    seconds: dict[str, float]
    objectives: list[str] = Field(default_factory=list)
    front: list[Point] | None = None
    constraints: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    infeasible: Infeasible = Infeasible(complete=0, infeasible=0, rules={})
    budget: Spent | None = None
    adapter: str | None = None
    controls_left_out: str | None = None
    failed: list[str] = Field(default_factory=list)
    mixed: list[str] = Field(default_factory=list)
    without_value: list[str] = Field(default_factory=list)


def read_state(folder: Path) -> dict[str, Any]:
    """sweep.json; empty if there is none or it is damaged."""
    with suppress(CheckpointError):
        return whole_state(folder)
    return {}


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json; empty if there is none or it is damaged."""
    with suppress(CheckpointError):
        return whole_summary(folder)
    return {}


def state_problem(folder: Path) -> str | None:
    """What is wrong with sweep.json, in a line; None if nothing is."""
    return _problem(whole_state, folder)


def summary_problem(folder: Path) -> str | None:
    """The same of summary.json."""
    return _problem(whole_summary, folder)


def whole_state(folder: Path) -> dict[str, Any]:
    """sweep.json. Raises CheckpointError if it is missing or damaged."""
    return _read(State, folder / STATE_FILE, FORGOTTEN)


def whole_summary(folder: Path) -> dict[str, Any]:
    """summary.json. Raises CheckpointError if it is missing or damaged."""
    path = folder / SUMMARY_FILE
    found = _read(Summary, path, WRITTEN_AGAIN)
    if (compared := found["confirmation"]) is not None:
        for name in (found["metric"], test_column(found["metric"])):
            if name not in compared:
                raise CheckpointError(
                    f"{path}: confirmation must hold {name}, got none; the file is damaged, {WRITTEN_AGAIN}"
                )
    return found


def _read(model: type[Record], path: Path, way_out: str) -> dict[str, Any]:
    values = read_record(path, way_out)
    checked(model, values, str(path), f"the file is damaged, {way_out}")
    return values


def _problem(read: Callable[[Path], object], folder: Path) -> str | None:
    try:
        read(folder)
    except CheckpointError as error:
        return str(error)
    return None
