"""The training configuration as a whole; its sections are in `sections.py`, the rules that span fields in `rules.py`.

Reading files, presets and `--set` lives in `loading.py`.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mergenet.config.choices import FEATURE_METHODS, PUBLISHED, OneOf
from mergenet.config.rules import check_config
from mergenet.config.sections import (
    DistillationConfig,
    NetworkConfig,
    Positive,
    Seed,
    SourceConfig,
    Strict,
    TransferConfig,
)


class Config(Strict):
    name: str = Field(
        "run",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="name of the run, used in folder names",
    )
    method: Annotated[str, OneOf(("mergenet", "none"), PUBLISHED)] = Field(
        "mergenet",
        description="none: the target trains by itself; the others but mergenet: the source teaches it by "
        f"distillation, through class logits or ({', '.join(FEATURE_METHODS)}) features",
    )
    seed: Seed = Field(0, description="seed of every random stream of the run")
    epochs: Positive = Field(10, description="passes over the target's training data")
    source: SourceConfig = Field(default_factory=SourceConfig)
    target: NetworkConfig = Field(default_factory=NetworkConfig)
    transfer: TransferConfig = Field(default_factory=TransferConfig)
    distillation: DistillationConfig = Field(default_factory=DistillationConfig)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$", description="auto, cpu, cuda or cuda:N")
    threads: Annotated[int, Field(ge=1, le=1024)] = Field(
        2, description="CPU threads of torch; part of what makes a run reproducible"
    )
    amp: Literal["off", "bf16", "fp16"] = Field("off", description="mixed precision of the two networks")
    deterministic: bool = Field(True, description="deterministic kernels where torch has them")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_config(self)
        return self
