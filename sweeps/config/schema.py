"""A sweep file: a training configuration, what to vary in it, and how to run the trials.

base: openmoji                 # a preset of `mergenet train`, or a YAML file
set: {epochs: 6, threads: 1}   # dotted paths into it, the same for every trial
search:                        # dotted paths into it, drawn for each trial
  transfer.t_cycle: {choice: [4, 8, 16]}
  transfer.adapter.rank: {int: [2, 16], log: true}
  transfer.adapter.gate: {float: [0.05, 0.5], log: true}
  transfer.pairs: {layers: {source: "layer3.*", target: "features.*"}}   # one pair of layers that match
num_trials: 12
seeds_per_trial: 3             # optional; a trial that reaches its last epoch is the mean over so many seeds
confirm_seeds: 6               # the best and no transfer train again with so many fresh seeds
confirm_controls: [shuffled, noise]   # optional; to tell the source's contribution from regularisation
adapter_seeds: 4               # optional; the best trains its adapter over so many seeds, tested on the fresh ones, too

Branches: an entry with `when` is drawn only where another searched path was drawn with one of the values named there;
elsewhere the base's value stands. Several paths must all have theirs.

search:
  method: {choice: [mergenet, none, kd]}
  transfer.t_cycle: {choice: [4, 8, 16], when: {method: mergenet}}
  distillation.weight: {float: [0.1, 2.0], when: {method: kd}}

warm_start: [sweep-results/first]   # the study starts with the trials of earlier sweeps of the same base
minimize: [adapter_parameters, step_seconds]   # objectives beside the metric: the result is a Pareto front
constraints:                   # a trial that breaks one is never the best and not on the front
  adapter_parameters: {max: 100000}
  target_val_loss: {max: 2.0}

analysis/measures.py says what adapter_parameters and step_seconds are. Early stopping looks at the metric alone, so
that cheap trials with a low metric are stopped, too; with scheduler: none all of them can be on the front.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from analysis.measures import COSTS, Bounds
from analysis.names import CONFIRM_ADAPTER, CONFIRM_BEST, CONFIRM_NONE, CONTROL_OF, mode_of
from mergenet.config import Seed, Strict
from mergenet.config.choices import OneOf, in_words
from mergenet.config.rules import rule
from mergenet.config.sections import PathText
from mergenet.errors import unknown_name
from sweeps.config.choices import KEEP_FACTS, SAMPLER_FACTS, SCHEDULER_FACTS
from sweeps.space.conditions import check_conditions
from sweeps.space.entry import Count, Entry

Workers = Annotated[int, Field(ge=1, le=1024)]
CONSTRAINED = rf"^({'|'.join(COSTS)}|target_val_[a-z0-9_]+)$"
NUMBER: dict[str, Any] = {"type": "number"}
ONCE: dict[str, Any] = {"uniqueItems": True}


class Limits(Strict):
    """Lower and upper limit of a measure."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [side], "properties": {side: NUMBER}} for side in ("min", "max")]}
    )

    min: float | None = Field(None, description="at least this")
    max: float | None = Field(None, description="at most this")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min is None and self.max is None:
            raise rule("", "have min, max or both", "neither", "for example {max: 100000}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise rule("", "have min <= max", [self.min, self.max])
        return self


class WandbConfig(Strict):
    """A mirror on Weights & Biases. Keys come from the environment or ~/.netrc, never from a file here."""

    mode: Literal["disabled", "offline", "online"] = Field(
        "disabled", description="online, offline (files for `wandb sync`) or disabled mirror"
    )
    project: str = Field(
        "mergenet", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128, description="project on W&B"
    )
    log_model: bool = Field(False, description="also upload the best trial's network, as an artifact")


class SweepConfig(Strict):
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="name of the sweep, its folder's and on W&B",
    )
    base: PathText = Field(
        description="training configuration that is varied: a preset of `mergenet train`, or a YAML file, looked for "
        "beside the sweep file first",
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict,
        alias="set",
        description="changes to the base, the same for every trial: its dotted paths and their values",
    )
    search: dict[str, Entry] = Field(
        min_length=1,
        description="what is drawn for each trial: dotted paths of the base, and how their values are drawn",
    )
    metric: str | None = Field(
        None,
        pattern=r"^target_val_[a-z0-9_]+$",
        description="validation metric that trials are ranked by, target_val_...: the one that selects the target's "
        "best epoch, also if null",
    )
    warm_start: tuple[PathText, ...] = Field(
        (), description="folders of earlier sweeps of the same base, whose trials the study holds from the start"
    )
    minimize: tuple[Literal["adapter_parameters", "step_seconds", "target_val_loss"], ...] = Field(
        (),
        description="further objectives, all minimized; compare seconds on equal machines only",
        json_schema_extra=ONCE,
    )
    constraints: dict[str, Limits] = Field(
        default_factory=dict,
        description="bounds of adapter_parameters, step_seconds (seconds of an optimizer step), target_val_loss and "
        "the metric; a trial that breaks one is never the best",
        json_schema_extra={"propertyNames": {"pattern": CONSTRAINED}},
    )
    num_trials: Count = Field(20, description="configurations to try; fewer where the space holds fewer")
    seeds_per_trial: Annotated[int, Field(ge=1, le=100)] = Field(
        1, description="seeds of a trial that reaches its last epoch; its value is the mean over them"
    )
    slots: Workers = Field(2, description="trials that train at the same time")
    executor: Literal["slots", "per_trial"] = Field(
        "slots", description="worker processes that do trial after trial, or new ones for each trial (some 10 s more)"
    )
    workers_per_trial: int | tuple[int, int] = Field(
        1, description="processes that train one trial together (DDP); [fewest, most]: as many as fit"
    )
    gpus_per_trial: Annotated[float, Field(ge=0, le=1024)] | None = Field(
        None, description="a fraction lets trials share a GPU; null: this machine's GPUs are shared evenly"
    )
    sampler: Annotated[str, OneOf(SAMPLER_FACTS)] = Field(
        "auto", description=f"how the next configuration is sampled; {in_words(SAMPLER_FACTS)}"
    )
    top_k: Count = Field(3, description="sampler top_k: how many of num_trials, the last, train in full")
    scheduler: Annotated[str, OneOf(SCHEDULER_FACTS)] = Field(
        "racing", description=f"which trials are stopped early; {in_words(SCHEDULER_FACTS)}"
    )
    grace_epochs: Count | Literal["auto"] = Field(
        2,
        description="epochs that every trial may train; auto: measured on the first trials, none of which is stopped",
    )
    reduction_factor: Annotated[int, Field(ge=2, le=100)] = Field(
        3,
        description="racing, asha, hyperband: trials are compared after grace_epochs, then each time after this many "
        "times as many; of this many one goes on",
    )
    storage: Literal["sqlite", "journal", "postgresql"] = Field(
        "sqlite",
        description="where the Optuna study is: a file in the sweep folder; postgresql: at the URL in the environment "
        "variable MERGENET_STUDY_URL",
    )
    budget_hours: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="hours of search after which no trial begins; running ones finish, the best is confirmed; null: no "
        "limit",
    )
    budget_epochs: Annotated[int, Field(ge=1)] | None = Field(
        None, description="epochs of all trials together after which no more trials begin; null: no limit"
    )
    confirm_seeds: Annotated[int, Field(ge=0, le=1000)] = Field(
        6, description="fresh seeds for the best configuration and for no transfer, after the search"
    )
    confirm_controls: tuple[Literal["shuffled", "noise", "none"], ...] = Field(
        (),
        description="values of transfer.control; the best configuration trains with each on the fresh seeds",
        json_schema_extra=ONCE,
    )
    adapter_seeds: Annotated[int, Field(ge=0, le=100)] = Field(
        0,
        description="runs of the best configuration that train one adapter, one after another, each with a seed of its "
        "own; the fresh seeds then train with that adapter, too",
    )
    keep_checkpoints: Annotated[str, OneOf(KEEP_FACTS)] = Field(
        "best", description=f"what a run that has ended keeps beside its records; {in_words(KEEP_FACTS)}"
    )
    seed: Seed = Field(0, description="seed of the search; the trials' own seed is that of the base")
    wandb: WandbConfig = Field(default_factory=WandbConfig)

    @field_validator("search")
    @classmethod
    def _check_conditions(cls, search: dict[str, Entry]) -> dict[str, Entry]:
        check_conditions(search)
        return search

    @field_validator("workers_per_trial", mode="before", json_schema_input_type=Workers | tuple[Workers, Workers])
    @classmethod
    def _check_workers(cls, value: Any) -> Any:
        pair = isinstance(value, list | tuple) and len(value) == 2
        numbers = value if pair else [value]
        if not all(type(number) is int and 1 <= number <= 1024 for number in numbers):
            raise rule("workers_per_trial", "be a whole number from 1 to 1024, or [fewest, most] of them", value)
        return tuple(numbers) if pair else value

    @field_validator("constraints")
    @classmethod
    def _check_constraints(cls, value: dict[str, Limits]) -> dict[str, Limits]:
        for name in value:
            if not re.fullmatch(CONSTRAINED, name):
                known = [*COSTS, "target_val_METRIC"]
                raise ValueError(unknown_name("the name of a constraint", name[:60], known))
        return value

    @model_validator(mode="after")
    def _check_objectives(self) -> Self:
        if len(set(self.objectives)) < len(self.objectives):
            raise rule("minimize", "list each objective once, and not the metric", list(self.minimize))
        return self

    @model_validator(mode="after")
    def _check_controls(self) -> Self:
        if len(set(self.confirm_controls)) < len(self.confirm_controls):
            raise rule("confirm_controls", "list each control once", list(self.confirm_controls))
        return self

    @model_validator(mode="after")
    def _check_kept(self) -> Self:
        if self.wandb.log_model and self.keep_checkpoints == "none":
            raise rule("keep_checkpoints", "be best, last or all with wandb.log_model", "none", "it exports the best")
        return self

    @property
    def confirm_roles(self) -> tuple[str, ...]:
        """The roles that train with each fresh seed; controls only if the best configuration can have them."""
        controls = (role for role, control in CONTROL_OF.items() if control in self.confirm_controls)
        trained = (CONFIRM_ADAPTER,) if self.adapter_seeds else ()
        return CONFIRM_BEST, CONFIRM_NONE, *trained, *controls

    @property
    def num_short(self) -> int:
        """How many of the first trials train for one epoch only; 0 for samplers other than `top_k`."""
        return self.num_trials - self.top_k if self.sampler == "top_k" else 0

    @property
    def num_confirmations(self) -> int:
        """Number of runs with fresh seeds."""
        return len(self.confirm_roles) * self.confirm_seeds

    @property
    def objectives(self) -> tuple[str, ...]:
        """The metric, or "metric" before a plan knows it, and what is minimized beside it."""
        return self.metric or "metric", *self.minimize

    @property
    def modes(self) -> tuple[str, ...]:
        """Direction of each objective: "max" or "min"."""
        return self.mode, *("min" for _ in self.minimize)

    @property
    def bounds(self) -> Bounds:
        return {name: limits.model_dump() for name, limits in self.constraints.items()}

    @property
    def objective(self) -> str:
        """The metric that trials are ranked by; the plan fills it in (planning/checks.py)."""
        assert self.metric is not None, "the sweep must be planned"
        return self.metric

    @property
    def mode(self) -> str:
        """Direction of the metric: "max" or "min"."""
        return mode_of(self.objective)
