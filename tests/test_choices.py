"""Names that a setting can have: each table of them and the dict of what they stand for agree."""

import importlib
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ValidationError

from mergenet import data
from mergenet.config import Config, choices
from mergenet.config.choices import ENCODINGS, KINDS, PUBLISHED, EncodingFacts, OneOf
from mergenet.config.json_schema import node_at, resolve
from mergenet.config.loading import parse_config
from mergenet.data.text.text import TEXT_DATASETS
from mergenet.data.text.windows import QUESTION_SETS
from mergenet.errors import ConfigError
from mergenet.export import FORMAT_NAMES
from mergenet.export.formats import FORMATS
from mergenet.models import MODELS, Architecture
from mergenet.tasks import TASKS, image_text_retrieval, visual_question_answering
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


TABLES: list[tuple[dict[str, str], dict[str, Any], str]] = [
    (choices.SHIPPED_MODELS, MODELS, "mergenet.models."),
    (choices.SHIPPED_IMAGES, data.DATASETS, "mergenet.data."),
    (choices.SHIPPED_TEXTS, TEXT_DATASETS, "mergenet.data."),
    (choices.SHIPPED_QUESTIONS, QUESTION_SETS, "mergenet.data."),
    (choices.SHIPPED_IMAGE_QUESTIONS, visual_question_answering.DATASETS, "mergenet.data."),
    (choices.SHIPPED_CAPTIONS, image_text_retrieval.DATASETS, "mergenet.data."),
    (choices.SHIPPED_TASKS, TASKS, "mergenet.tasks."),
]


def test_every_table_of_what_is_shipped_is_tested() -> None:
    tables = [table for name, table in vars(choices).items() if name.startswith("SHIPPED_") and name != "SHIPPED_DATA"]
    assert tables == [table for table, _, _ in TABLES]
    assert sum(map(len, tables[1:-1])) == len(choices.SHIPPED_DATA), "a data set's name is in one group only"


@pytest.mark.parametrize(("table", "made", "room"), TABLES)
def test_everything_shipped_is_found_where_its_table_says(
    table: dict[str, str], made: dict[str, Any], room: str
) -> None:
    """Under the table's names, in its order, in the room that the arrows of tests/arrows.py count it to."""
    assert list(made) == list(table)
    for name, place in table.items():
        module, _, own = place.partition(":")
        assert module.startswith(room), place
        assert made[name] is getattr(importlib.import_module(module), own), place
        assert isinstance(made[name], Architecture) if made is MODELS else callable(made[name]), place


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
