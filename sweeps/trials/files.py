"""sweep.json and summary.json, as they are read: what they hold, key by key. One that is wrong is as good as none."""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from analysis.names import STATE_FILE as STATE_FILE
from mergenet.errors import CheckpointError
from mergenet.records.atomic import read_json as read_json
from mergenet.records.models import Record, checked
from mergenet.records.run_record import test_column

SUMMARY_FILE = "summary.json"
BEST_FILE, REPORT_FILE = "best.yaml", "report.html"
COMMAND = "command"  # in sweep.json: the one that began the sweep, as it may be shown elsewhere; none from Python


class State(Record):
    """sweep.json."""

    status: str = Field("", description="text")
    error: str | None = Field(None, description="text or null")
    seconds: dict[str, float] = Field(default_factory=dict, description="seconds by step")
    source: dict[str, Any] = Field(default_factory=dict, description="a mapping")
    num_trials: dict[str, int] = Field(default_factory=dict, description="whole numbers, asked and held")
    base_hash: str = Field("", description="text")
    study_id: str = Field("", description="text")
    copy_url: str | None = Field(None, alias="copy", description="a URL or null")
    command: str | None = Field(None, description="text or null")


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


def read_state(folder: Path) -> dict[str, Any]:
    """sweep.json; empty if there is none or it is no such file."""
    return as_written(State, read_json(folder / STATE_FILE))


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json; empty if there is none or it is no such file."""
    found = as_written(Summary, read_json(folder / SUMMARY_FILE))
    compared = found.get("confirmation")
    complete = compared is None or {found["metric"], test_column(found["metric"])} <= compared.keys()
    return found if complete else {}


def as_written(model: type[Record], values: dict[str, Any]) -> dict[str, Any]:
    """The values, or none if they are not what the model says."""
    try:
        checked(model, values, "", "")
    except CheckpointError:
        return {}
    return values
