"""Names that a setting can have: each table of them and the dict of what they stand for agree."""

from typing import Annotated

import pytest
from pydantic import BaseModel, ValidationError

from mergenet.config import Config
from mergenet.config.choices import ENCODINGS, KINDS, EncodingFacts, OneOf
from mergenet.config.distillation_defaults import PUBLISHED
from mergenet.config.json_schema import node_at, resolve
from mergenet.config.loading import parse_config
from mergenet.errors import ConfigError
from mergenet.export import FORMAT_NAMES
from mergenet.export.formats import FORMATS
from mergenet.training.distillation import LOSSES
from mergenet.transfer.adapter import ATTENTIONS
from mergenet.transfer.encodings import ENCODERS
from sweeps.config import SweepConfig
from sweeps.config.choices import SAMPLER_FACTS, SCHEDULER_FACTS
from sweeps.samplers.compatibility import CHECKS
from sweeps.samplers.registry import SAMPLERS
from sweeps.schedulers.early_stopping import RULES


def test_every_name_has_an_implementation() -> None:
    assert list(ENCODERS) == list(ENCODINGS)
    assert list(ATTENTIONS) == list(KINDS)
    assert list(LOSSES) == list(PUBLISHED)
    assert tuple(FORMATS) == FORMAT_NAMES
    assert list(SAMPLERS) == list(SAMPLER_FACTS)
    assert list(RULES) == list(SCHEDULER_FACTS)
    assert {need for facts in SAMPLER_FACTS.values() for need in facts.needs} == set(CHECKS)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("transfer.adapter.kind", [*KINDS]),
        ("transfer.adapter.encoding", [*ENCODINGS]),
        ("method", ["mergenet", "none", *PUBLISHED]),
    ],
)
def test_the_schema_has_the_names_of_the_table(path: str, names: list[str]) -> None:
    node = node_at(path.split("."))
    assert node is not None
    assert resolve(node)["enum"] == names
    for name in names:
        assert f"{path} must be one of {', '.join(sorted(names))}, got 'x'" in message(path, "x"), name


def test_the_sweep_file_has_them_too() -> None:
    fields = SweepConfig.model_json_schema()["properties"]
    assert fields["sampler"]["enum"] == [*SAMPLER_FACTS]
    assert fields["scheduler"]["enum"] == [*SCHEDULER_FACTS]


@pytest.mark.parametrize("value", [3, None, ["kd"], "", "KD"])
def test_a_choice_refuses_what_a_literal_refuses(value: object) -> None:
    """Also what cannot be hashed."""
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"method": value})
    (error,) = caught.value.errors()
    assert (error["type"], error["loc"], error["input"]) == ("literal_error", ("method",), value)
    assert error["msg"].startswith("Input should be 'mergenet', 'none', 'kd', ")
    assert error["msg"].endswith(" or 'spkd'")


def message(path: str, value: object) -> str:
    nested: object = value
    for key in reversed(path.split(".")):
        nested = {key: nested}
    with pytest.raises(ConfigError) as caught:
        parse_config(nested, "here")  # type: ignore[arg-type]
    return str(caught.value)


def test_a_name_that_is_added_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model(BaseModel):
        encoding: Annotated[str, OneOf(ENCODINGS)]

    with pytest.raises(ValidationError, match="Input should be 'projected' or 'factorized'"):
        Model(encoding="mine")
    monkeypatch.setitem(ENCODINGS, "mine", EncodingFacts())
    assert Model(encoding="mine").encoding == "mine"
    assert Model.model_json_schema()["properties"]["encoding"]["enum"] == ["projected", "factorized", "mine"]
