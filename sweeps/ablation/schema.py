"""ablation.yaml: what an ablation varies around its centre, and with how many seeds.

name: quickstart-ablation
values:                           # one factor at a time: dotted paths of the centre, and the values beside its own
  transfer.t_cycle: [1, 4, 16]
  transfer.adapter.gate: [0.1, 0.5]
components: true                  # what the method is made of, each taken out or replaced (components.py)
interactions: [[transfer.t_cycle, transfer.adapter.gate]]   # these two are also changed together
seeds: 8

The centre, a training configuration, is base.yaml beside it. Only ADJUSTABLE may change once runs are there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from mergenet.config import Strict
from mergenet.config.loading import parse_model
from mergenet.config.messages import printable
from mergenet.config.rules import rule, shown
from mergenet.config.yaml12 import dump_yaml_values, load_yaml
from mergenet.errors import ConfigError, unknown_name
from sweeps.config.schema import WandbConfig, Workers

ADJUSTABLE = ("seeds", "slots", "race", "budget_hours", "reuse", "wandb")
MANY = "an ablation pairs seeds, and a difference has an interval from 2 seeds on; 8 is the default"


class AblationConfig(Strict):
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100, description="name of the ablation, and of its folder"
    )
    values: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(
        default_factory=dict, description="dotted paths of the centre, and values that each of them has instead"
    )
    components: bool = Field(False, description="also take out or replace each component of the method")
    interactions: tuple[tuple[str, str], ...] = Field(
        (), description="pairs of paths in values, which are also changed together"
    )
    seeds: Annotated[int, Field(ge=2, le=100)] = Field(8, description="seeds of each variant, the same for all")
    slots: Workers = Field(2, description="runs that train at the same time")
    race: bool = Field(False, description="variants that are clearly worse than the centre get no more seeds")
    budget_hours: Annotated[float, Field(gt=0)] | None = Field(
        None, description="hours of training after which no further seed begins; null: no limit"
    )
    top: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None, description="in the place of factors and components: so many trials of a sweep (best_of.py)"
    )
    reuse: tuple[str, ...] = Field((), description="sweep folders whose runs are reused where they are the same")
    wandb: WandbConfig = Field(default_factory=WandbConfig, description="mirror on W&B, as of a sweep")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.top is None and not self.values and not self.components:
            raise rule("values", "name a factor where components is false", {}, "or set components: true")
        if self.wandb.log_model:
            raise rule("wandb.log_model", "be false in an ablation", True, "it has no best trial to upload")
        for one, other in self.interactions:
            for path in (one, other):
                if path not in self.values:
                    raise ValueError(unknown_name("interactions", path, self.values))
            if one == other:
                raise rule("interactions", "be pairs of two factors", [one, other])
        return self

    @property
    def num_seeds(self) -> int:
        """Seeds in all: those that choose among trials are not those that tell the gain of the chosen one.

        Where one trial is confirmed there is nothing to choose.
        """
        return self.seeds if self.top in (None, 1) else 2 * self.seeds


def parse_ablation(values: Mapping[str, Any], origin: str) -> AblationConfig:
    """Checked. Raises ConfigError, one line a problem."""
    return parse_model(AblationConfig, values, origin, _problem)


def load_ablation(path: Path) -> AblationConfig:
    """Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"{path} must be a readable file, got: {reason}") from None
    values = load_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must be a mapping, got {shown(values)}; the file is damaged")
    return parse_ablation(values, str(path))


def dump_ablation(ablation: AblationConfig) -> str:
    return dump_yaml_values(ablation.model_dump(mode="json"))


def fixed(ablation: AblationConfig) -> dict[str, Any]:
    """All that makes it this ablation and no other."""
    return ablation.model_dump(mode="json", exclude=set(ADJUSTABLE))


def _problem(item: Any) -> str:
    location = [str(part) for part in item["loc"]]
    path = printable(".".join(location))
    if item["type"] == "extra_forbidden":
        return unknown_name(path, location[-1], AblationConfig.model_fields)
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    if item["type"] == "missing":
        return f"{path or 'the ablation'} must be given, got nothing"
    if location == ["seeds"]:
        return f"seeds must be a whole number from 2 to 100, got {shown(item['input'])}; {MANY}"
    return f"{path}: {item['msg'][0].lower()}{item['msg'][1:]}, got {shown(item['input'])}"
