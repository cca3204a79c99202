"""The keys of a sweep file: told in a terminal and on a page, all of them, as the models have them."""

import re
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from mergenet.cli.main import cli
from mergenet.config.json_schema import fields_of
from mergenet.config.yaml12 import load_yaml
from sweeps.config.reference import flow, markdown
from sweeps.config.schema import SweepConfig
from sweeps.space.entry import FORMS, WHEN, Entry, Form
from tests.pages import DOCS


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_page_is_what_the_models_say() -> None:
    page = (DOCS / "sweep-file.md").read_text(encoding="utf-8")
    assert page == markdown(), "mergenet sweep keys --markdown > docs/sweep-file.md"


def test_every_key_is_described_with_values_and_default() -> None:
    fields = {field.path: field for field in fields_of(SweepConfig)}
    models = {"": SweepConfig, "search.*.": Entry}
    for prefix, model in models.items():
        for name, info in model.model_fields.items():
            path = prefix + (info.alias or name)
            assert path in fields or any(other.startswith(f"{path}.") for other in fields), path
    assert all(field.description and field.type for field in fields.values())
    assert fields["reduction_factor"][1:3] == ("whole number >= 2, <= 100", "3")
    assert fields["grace_epochs"].type == "whole number >= 1, <= 100000 or auto"
    assert fields["name"].default == "required"
    assert {"constraints.*.max", "wandb.mode", "search.*.layers.direction"} <= fields.keys()


@pytest.mark.parametrize("width", [80, 100])
def test_the_command_lists_every_key_and_every_form(width: int) -> None:
    result = CliRunner().invoke(cli, ["sweep", "keys"], terminal_width=width)
    assert result.exit_code == 0
    assert all(len(line) <= width for line in result.stdout.splitlines())
    text = words(result.stdout)
    for field in fields_of(SweepConfig):
        assert f"{field.path.rpartition('.')[2]} {words(field.description)} [{words(field.type)}" in text, field.path
    for form in (*FORMS, WHEN):
        assert f"{flow(form.example)} {form.draws}" in text
    assert "budget_hours" in text and "[number > 0 or null; default null]" in text


def test_help_of_run_says_where_the_keys_are() -> None:
    assert "mergenet sweep keys" in words(CliRunner().invoke(cli, ["sweep", "run", "--help"]).stdout)


def test_the_keys_need_no_torch() -> None:
    for option in ((), ("--json-schema",)):
        code = "import sys\nfrom mergenet.cli.main import cli\ntry: cli(%r)\nexcept SystemExit: pass\n"
        code += "print([name for name in ('torch', 'ray', 'optuna', 'pandas') if name in sys.modules])"
        program = code % (["sweep", "keys", *option],)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("form", [*FORMS, WHEN])
def test_a_form_is_an_entry_and_is_written_as_it_is_read(form: Form) -> None:
    assert load_yaml(flow(form.example), "the example") == form.example
    assert Entry.model_validate(form.example)


def test_every_key_of_an_entry_is_in_a_form() -> None:
    shown = {key for form in (*FORMS, WHEN) for key in form.example}
    told = " ".join(form.draws for form in FORMS)
    keys = {info.alias or name for name, info in Entry.model_fields.items()}
    assert {key for key in keys if key not in shown and not re.search(rf"\b{key}\b", told)} == set()


@pytest.mark.parametrize("beside", [{"log": True}, {"step": 2}, {"log": True, "step": 2}])
@pytest.mark.parametrize("form", FORMS)
def test_forms_take_beside_them_what_entries_take(form: Form, beside: dict[str, Any]) -> None:
    """The rules of an entry are code and schema: the two agree."""
    from jsonschema import Draft202012Validator

    entry = form.example | beside
    try:
        Entry.model_validate(entry)
        taken = True
    except ValidationError:
        taken = False
    assert Draft202012Validator(Entry.model_json_schema()).is_valid(entry) == taken
