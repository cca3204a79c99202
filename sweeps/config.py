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

Branches: an entry with `when` is drawn only where another searched path was drawn with one of the values named there;
elsewhere the base's value stands. Several paths must all have theirs.

search:
  method: {choice: [mergenet, none, kd]}
  transfer.t_cycle: {choice: [4, 8, 16], when: {method: mergenet}}
  distillation.weight: {float: [0.1, 2.0], when: {method: kd}}

warm_start: [sweep-results/first]   # what the trials of earlier sweeps of the same base found is known from the start
minimize: [adapter_parameters, step_seconds]   # objectives beside the metric: the result is a Pareto front
constraints:                   # a trial that breaks one is never the best and not on the front
  adapter_parameters: {max: 100000}
  target_val_loss: {max: 2.0}

analysis/measures.py says what adapter_parameters and step_seconds are. Early stopping looks at the metric alone, so a
cheap trial of a low metric is stopped, too; with scheduler: none the front has all of them.
"""

import importlib.resources
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from analysis.measures import COSTS, Bounds
from analysis.trials import mode_of
from mergenet.config import PairConfig, Seed, Strict
from mergenet.errors import ConfigError, unknown_name
from mergenet.problems import SECRET, printable, problem
from mergenet.rules import rule, shown
from mergenet.schema import node_at
from mergenet.yamltext import dump_yaml_values, load_yaml
from sweeps.branches import check_conditions, conditions_of

Scalar = str | int | float | bool | None
Count = Annotated[int, Field(ge=1, le=100_000)]
Workers = Annotated[int, Field(ge=1, le=1024)]


class Entry(Strict):
    """How one value is drawn: exactly one of choice, int, float and layers. Bounds are included."""

    choice: tuple[Any, ...] | None = Field(None, min_length=1, description="values to choose from")
    whole: tuple[int, int] | None = Field(None, alias="int", description="whole numbers from low to high")
    real: tuple[float, float] | None = Field(None, alias="float", description="numbers from low to high")
    layers: PairConfig | None = Field(
        None, description="transfer.pairs: one pair of any source with any target layer that match two patterns"
    )
    log: bool = Field(False, description="draw the logarithm uniformly")
    step: Count | None = Field(None, description="int: distance between the values; default: 1")
    when: dict[str, tuple[Scalar, ...]] = Field(
        default_factory=dict, description="drawn only if these searched paths have (one of) these values"
    )

    @field_validator("when", mode="before")
    @classmethod
    def _check_when(cls, value: Any) -> Any:
        return conditions_of(value)

    @model_validator(mode="after")
    def _check(self) -> Self:
        kinds = [kind for kind in (self.choice, self.whole, self.real, self.layers) if kind is not None]
        if len(kinds) != 1:
            must = "be exactly one of choice, int, float and layers"
            raise rule("", must, len(kinds), "for example {choice: [4, 8]}")
        if self.bounds is None:
            return self._check_choice()
        low, high = self.bounds
        if not low < high:
            raise rule("", "have low < high", list(self.bounds), "a fixed value goes under set")
        if self.log and low <= 0:
            raise rule("", "have low > 0 with log: true", low, "drop log")
        if self.step is not None and (self.whole is None or self.log):
            raise rule("", "be an int without log to have a step", self.step, "use choice for other values")
        return self

    def _check_choice(self) -> Self:
        if self.log or self.step is not None:
            kind = "layers" if self.choice is None else "choice"
            raise rule("", f"have neither log nor step with {kind}", "one", "drop it")
        if any(value in self.listed[:i] for i, value in enumerate(self.listed)):
            raise rule("", "list each value once", list(self.listed))
        return self

    @property
    def listed(self) -> tuple[Any, ...]:
        """The values of a choice; of `layers` a pair of its patterns, until `sweeps.layers` has looked them up."""
        if self.layers is not None:
            return ([self.layers.model_dump(mode="json", exclude_defaults=True)],)
        return self.choice or ()

    @property
    def bounds(self) -> tuple[float, float] | None:
        return self.whole if self.whole is not None else self.real


class Limits(Strict):
    """What a measure may be at least and at most."""

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

    mode: Literal["disabled", "offline", "online"] = Field("disabled", description="where the mirror is written")
    project: str = Field("mergenet", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="project on W&B")


class SweepConfig(Strict):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100, description="name of the sweep")
    base: str = Field(min_length=1, description="training configuration: a preset or a YAML file")
    overrides: dict[str, Any] = Field(default_factory=dict, alias="set", description="changes to the base")
    search: dict[str, Entry] = Field(min_length=1, description="dotted paths of the base to draw values for")
    metric: str | None = Field(
        None,
        pattern=r"^target_val_[a-z0-9_]+$",
        description="validation metric that decides: the one by which the target's task selects its best epoch",
    )
    warm_start: tuple[str, ...] = Field(
        (), description="folders of earlier sweeps of the same base, whose trials the sampler knows from the start"
    )
    minimize: tuple[Literal["adapter_parameters", "step_seconds", "target_val_loss"], ...] = Field(
        (), description="objectives beside the metric, all to be small; seconds compare on like machines only"
    )
    constraints: dict[str, Limits] = Field(
        default_factory=dict,
        description="bounds of adapter_parameters, step_seconds, target_val_loss and the metric: {max: 100000}",
    )
    num_trials: Count = Field(20, description="configurations to try")
    seeds_per_trial: Annotated[int, Field(ge=1, le=100)] = Field(
        1, description="seeds of a trial that reaches its last epoch; its value is the mean over them"
    )
    slots: Workers = Field(2, description="trials that train at the same time")
    executor: Literal["slots", "per_trial"] = Field(
        "slots", description="worker processes that do trial after trial, or new ones for each trial (10 s more)"
    )
    workers_per_trial: int | tuple[int, int] = Field(
        1, description="processes that train one trial together (DDP); [fewest, most]: as many as there is room for"
    )
    gpus_per_trial: Annotated[float, Field(ge=0, le=1024)] | None = Field(
        None, description="a fraction lets trials share a GPU; null: this machine's GPUs are shared evenly"
    )
    sampler: Literal["tpe", "gp", "cmaes", "nsga2", "qmc", "random", "grid", "top_k"] = Field(
        "tpe",
        description="how the next configuration is drawn; top_k: at random, for one epoch, the best again in full",
    )
    top_k: Count = Field(3, description="sampler top_k: how many of num_trials, the last, train in full")
    scheduler: Literal["asha", "hyperband", "median", "none"] = Field(
        "asha", description="which trials that lag behind are stopped early; hyperband: asha in several brackets"
    )
    grace_epochs: Count | Literal["auto"] = Field(
        2,
        description="epochs that every trial may train; auto: measured on the first trials, none of which is stopped",
    )
    reduction_factor: Annotated[int, Field(ge=2, le=100)] = Field(
        3, description="asha and hyperband: one of this many trials goes on at each rung"
    )
    storage: Literal["sqlite", "journal", "postgresql"] = Field(
        "sqlite",
        description="where the Optuna study is; postgresql: at the URL in the environment variable MERGENET_STUDY_URL",
    )
    budget_hours: Annotated[float, Field(gt=0)] | None = Field(
        None, description="hours of search after which no more trials begin; those that run end, the best is confirmed"
    )
    budget_epochs: Annotated[int, Field(ge=1)] | None = Field(
        None, description="epochs of all trials together after which no more begin"
    )
    confirm_seeds: Annotated[int, Field(ge=0, le=1000)] = Field(
        6, description="fresh seeds for the best configuration and for no transfer, after the search"
    )
    seed: Seed = Field(0, description="seed of the search; the trials' own seed is that of the base")
    wandb: WandbConfig = Field(default_factory=WandbConfig)

    @field_validator("search")
    @classmethod
    def _check_conditions(cls, search: dict[str, Entry]) -> dict[str, Entry]:
        check_conditions(search)
        return search

    @field_validator("workers_per_trial", mode="before")
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
            if name not in COSTS and not re.fullmatch(r"target_val_[a-z0-9_]+", name):
                known = [*COSTS, "target_val_METRIC"]
                raise ValueError(unknown_name("the name of a constraint", name[:60], known))
        return value

    @model_validator(mode="after")
    def _check_objectives(self) -> Self:
        if len(set(self.objectives)) < len(self.objectives):
            raise rule("minimize", "list each objective once, and not the metric", list(self.minimize))
        return self

    @property
    def objectives(self) -> tuple[str, ...]:
        """The metric, or "metric" before a plan knows it, and what is minimized beside it."""
        return self.metric or "metric", *self.minimize

    @property
    def modes(self) -> tuple[str, ...]:
        """Of each objective."""
        return self.mode, *("min" for _ in self.minimize)

    @property
    def bounds(self) -> Bounds:
        return {name: limits.model_dump() for name, limits in self.constraints.items()}

    @property
    def objective(self) -> str:
        """The metric that decides; a plan has it (plan.py)."""
        assert self.metric is not None, "the sweep must be planned"
        return self.metric

    @property
    def mode(self) -> str:
        """Whether the metric should be large or small: "max" or "min"."""
        return mode_of(self.objective)


def sweeps() -> list[str]:
    """Names of the sweeps that ship with the package."""
    folder = importlib.resources.files("sweeps") / "presets"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_sweep(name_or_path: str, overrides: Sequence[str] = ()) -> SweepConfig:
    """A sweep from a shipped name or a YAML file; overrides are `a.b=c` with a key of the sweep file.

    Paths under `set` and `search` hold dots themselves: `set.transfer.t_cycle=8` changes `transfer.t_cycle`.
    Raises ConfigError, one line a problem.
    """
    text, origin = _read(name_or_path)
    values = load_yaml(text, origin)
    if not isinstance(values, dict):
        raise ConfigError(f"{origin} must be a mapping of settings, got {shown(values)}; an example: base: openmoji")
    for override in overrides:
        _override(values, override)
    return parse_sweep(values, origin, Path(name_or_path).parent)


def parse_sweep(values: dict[str, Any], origin: str, folder: Path = Path()) -> SweepConfig:
    """A checked sweep. folder: where what is relative is looked for first. Raises ConfigError."""
    try:
        sweep = SweepConfig.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        lines = dict.fromkeys(_problem(item) for item in error.errors(include_url=False))
        raise ConfigError("\n".join(f"{line} (in {origin})" for line in lines)) from None
    warm = tuple(str(folder / path) if (folder / path).is_dir() else path for path in sweep.warm_start)
    base = str(folder / sweep.base) if (folder / sweep.base).is_file() else sweep.base
    return sweep.model_copy(update={"base": base, "warm_start": warm})


def dump_sweep(sweep: SweepConfig) -> str:
    """The sweep as YAML with every setting; `load_sweep` reads the same sweep back."""
    values = sweep.model_dump(mode="json", by_alias=True)
    for entry in values["search"].values():
        for key in [key for key, value in entry.items() if value is None or value is False or value == {}]:
            del entry[key]
    values["constraints"] = {name: limits.model_dump(exclude_none=True) for name, limits in sweep.constraints.items()}
    return dump_yaml_values(values)


def _read(name_or_path: str) -> tuple[str, str]:
    label = printable(name_or_path)
    if not name_or_path.endswith((".yaml", ".yml")) and "/" not in name_or_path:
        if name_or_path not in sweeps():
            message = unknown_name("the sweep", name_or_path[:60], sweeps())
            raise ConfigError(f"{message}; a file's name ends in .yaml or has a / in it")
        path = importlib.resources.files("sweeps") / "presets" / f"{name_or_path}.yaml"
        return path.read_text(encoding="utf-8"), f"sweep {label}"
    try:
        return Path(name_or_path).read_text(encoding="utf-8"), label
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        known = ", ".join(sweeps())
        raise ConfigError(f"{label} must be a readable file, got: {reason}; sweeps are {known}") from None


def _override(values: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set must be PATH=VALUE, got {shown(text)}; for example num_trials=4")
    head, dot, rest = path.strip().partition(".")
    parsed = load_yaml(value, f"--set {printable(path)}")
    if head not in _known([head]) and node_at(path.strip().split(".")) is not None:
        raise ConfigError(
            f"--set {printable(path)} must be a key of a sweep, got a setting of its trials; "
            f"write --set set.{printable(text)}"
        )
    if not dot:
        values[head] = parsed
        return
    section = values.setdefault(head, {})
    if not isinstance(section, dict):
        raise ConfigError(f"--set {printable(path)} must lead into a mapping, got {shown(section)} at {head}")
    section[rest] = parsed


def _problem(item: Any) -> str:
    """One of pydantic's errors as a line; keys of the sweep file are not those of a training configuration."""
    location = [str(part) for part in item["loc"]]
    path = printable(".".join(location))
    if SECRET.search(location[-1] if location else ""):
        return f"{path} must not be in a sweep file; keys come from the environment or ~/.netrc only"
    if item["type"] == "extra_forbidden" and len(location) == 1 and node_at(location) is not None:
        return f"{path} must be a key of a sweep, got a setting of its trials; write it under set"
    if item["type"] == "extra_forbidden":
        return f"{unknown_name(path, location[-1], _known(location))[:600]}"
    if item["type"] == "value_error":  # rules of an Entry do not know their path
        text = str(item["ctx"]["error"])
        return f"{path}{text}" if text.startswith((" ", ".")) else text
    if item["type"] == "string_pattern_mismatch" and location[-1] == "metric":
        return f"metric must be a validation metric (target_val_...), got {shown(item['input'])}"
    if item["type"] == "missing" or not location:
        return f"{path or 'the sweep'} must be given, got nothing"
    return problem(item)


def _known(location: Sequence[str]) -> list[str]:
    if location[0] == "search":
        if len(location) > 3:  # inside layers
            return list(PairConfig.model_fields)
        return [field.alias or name for name, field in Entry.model_fields.items()]
    sections: dict[str, type[Strict]] = {"wandb": WandbConfig, "constraints": Limits}
    model = sections.get(location[0], SweepConfig) if len(location) > 1 else SweepConfig
    return [field.alias or name for name, field in model.model_fields.items()]
