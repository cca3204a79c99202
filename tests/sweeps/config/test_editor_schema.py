"""The JSON Schema of sweep files takes what `load_sweep` takes, and refuses what it can of the rest."""

import importlib.resources
import json
import re
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from mergenet.cli.main import cli
from mergenet.config.json_schema import field_table
from mergenet.config.yaml12 import load_yaml
from mergenet.errors import ConfigError
from sweeps.config.base import load_base
from sweeps.config.loading import dump_sweep, load_sweep, parse_sweep, sweeps
from sweeps.space.checks import build_space
from tests.sweeps.config.sweep_files import BAD, values

# of BAD: what is between values, which no schema says
BETWEEN_VALUES = (
    "with wandb.log_model",
    "not the metric, got ['target_val_loss']",
    "have min <= max",
    "have low < high",
)

DECAY = "transfer.update.weight_decay"


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    result = CliRunner().invoke(cli, ["sweep", "keys", "--json-schema"])
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("name", sweeps())
def test_shipped_sweeps_are_valid_as_they_are_and_written_out(name: str, validator: Draft202012Validator) -> None:
    file = importlib.resources.files("sweeps.config") / "presets" / f"{name}.yaml"
    for text in (file.read_text(encoding="utf-8"), dump_sweep(load_sweep(name))):
        assert [error.message for error in validator.iter_errors(load_yaml(text, name))] == []


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_what_is_refused_in_a_file_is_marked(
    changes: dict[str, Any], message: str, validator: Draft202012Validator
) -> None:
    file = values(**changes)  # the path a, which no setting has, is read as one that any number from 0 on suits
    file["search"] = {DECAY if path == "a" else path: entry for path, entry in file["search"].items()}
    assert validator.is_valid(file) == any(words in message for words in BETWEEN_VALUES)


GOOD: list[dict[str, Any]] = [
    {"set": {"epochs": 3, "transfer.adapter": {"rank": 4}, "target.model.name": "mine:network"}},
    {"set": {"transfer.pairs": "auto", "source": {"model": {"name": "mlp"}}}},
    {"set": {"transfer.pairs.0.every": 16}},
    {"search": {"transfer.pairs": {"layers": {"source": "layer3.*", "target": "features.*", "direction": "both"}}}},
    {"search": {"transfer.pairs": {"choice": ["auto", [{"source": "fc", "target": "fc"}]]}}},
    {"search": {"transfer.pairs": {"choice": ["fc>fc", ["fc>fc", {"source": "conv1", "target": "conv1"}]]}}},
    {"search": {"transfer.pairs": {"layers": "layer3.*<>features.*"}}, "set": {"transfer.pairs": "fc>classifier.1"}},
    {"search": {"transfer.pairs.0.direction": {"choice": ["both", "to_target"]}}},
    {"search": {"transfer.adapter": {"choice": [{"kind": "linear"}, {"kind": "lpka", "rank": 8}]}}},
    {
        "search": {
            "method": {"choice": ["mergenet", "kd"]},
            "transfer.t_cycle": {"int": [4, 16], "step": 4, "when": {"method": "mergenet"}},
            "distillation.weight": {"float": [1, 2], "when": {"method": ["kd"]}},
        }
    },
    {"search": {"transfer.adapter.width": {"choice": [None, 32]}}},
    {"workers_per_trial": [1, 4], "grace_epochs": "auto", "gpus_per_trial": 0.5, "budget_hours": 1},
    {"minimize": ["step_seconds"], "constraints": {"target_val_top1": {"min": 0.5}, "step_seconds": {"max": 1}}},
]


@pytest.mark.parametrize("changes", GOOD)
def test_what_can_be_searched_is_valid(changes: dict[str, Any], validator: Draft202012Validator) -> None:
    file = values(**changes)
    sweep = parse_sweep(file, "s.yaml")
    build_space(load_base(sweep), sweep.search)
    assert [error.message for error in validator.iter_errors(file)] == []


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"search": {"rank": {"choice": [4]}}}, ["search"]),
        ({"search": {"seed": {"choice": [1, 2]}}}, ["search"]),  # all trials share it
        ({"search": {"transfer.t_cycle": {"choice": [4, 0]}}}, ["search", "transfer.t_cycle", "choice", 1]),
        ({"search": {"transfer.adapter.gate": {"float": [0.1, 2]}}}, ["search", "transfer.adapter.gate", "float", 1]),
        ({"search": {"method": {"choice": ["kid"]}}}, ["search", "method", "choice", 0]),
        ({"search": {"transfer.pairs.0.direction": {"choice": ["left"]}}}, None),
        ({"set": {"epoch": 3}}, ["set"]),
        ({"set": {"epochs": 0}}, ["set", "epochs"]),
        ({"set": {"transfer": {"t_cycles": 4}}}, ["set", "transfer"]),
        ({"set": {"transfer.pairs": [{"source": "fc"}]}}, None),
    ],
)
def test_paths_and_values_of_the_base_are_checked(
    changes: dict[str, Any], path: list[str | int] | None, validator: Draft202012Validator
) -> None:
    errors = [list(error.absolute_path) for error in validator.iter_errors(values(**changes))]
    assert errors == [path] if path else errors
    sweep = parse_sweep(values(**changes), "s.yaml")
    with pytest.raises(ConfigError):
        build_space(load_base(sweep), sweep.search)


def test_every_setting_can_be_set(validator: Draft202012Validator) -> None:
    known = validator.schema["properties"]["set"]
    for field in field_table():
        patterns = [pattern for pattern in known["patternProperties"] if re.search(pattern, field.path)]
        assert (field.path in known["properties"]) + len(patterns) == 1, field.path
