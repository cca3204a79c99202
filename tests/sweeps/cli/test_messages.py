"""Messages that the command line and Python share name both ways to say a thing, as in overwrite=True (--overwrite)."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mergenet.cli.group import Failure
from mergenet.cli.main import cli
from sweeps import Sweep
from sweeps.cli.commands import resume_command, run_command
from sweeps.cli.failures import failures
from sweeps.driver.api import told
from sweeps.trials.sweep_dir import ABLATION_FILE, BASE_FILE, STATE_FILE, SWEEP_FILE

SWEEPS = Path(__file__).parents[3] / "sweeps"
KEYWORDS = [name for name in inspect.signature(Sweep.run).parameters if name not in ("self", "progress", "quiet")]


def option(keyword: str) -> str:
    return "--dir" if keyword == "folder" else f"--{keyword.replace('_', '-')}"


def texts(path: Path) -> Iterator[str]:
    """All texts of a module but its docstrings, those with values in them as one with {} for each value."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts | docs:
            yield node.value


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_a_message_that_names_an_option_names_the_keyword_too(keyword: str) -> None:
    known = {name for command in (run_command, resume_command) for param in command.params for name in param.opts}
    assert option(keyword) in known
    modules = [path for path in SWEEPS.rglob("*.py") if path.parent.name != "cli"]
    found = [text for path in modules for text in texts(path) if option(keyword) in text]
    assert found, "or nothing is tested here"
    for text in found:
        assert re.search(rf"\b{keyword}(=True)? \([^()]*{option(keyword)}\)", text), text


@pytest.mark.parametrize("kind", [None, SWEEP_FILE, ABLATION_FILE])
def test_ctrl_c_says_what_is_kept_where_anything_is(kind: str | None, tmp_path: Path) -> None:
    """Ctrl-C may come before the folder holds anything."""
    for name in (kind, BASE_FILE, STATE_FILE) if kind else ():
        (tmp_path / name).write_text("{}")
    with pytest.raises(Failure) as command, failures(lambda: tmp_path):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt) as python, told(tmp_path):
        raise KeyboardInterrupt
    assert command.value.exit_code == 130
    for message in (str(command.value), str(python.value)):
        kept = (
            f"interrupted, what has trained is kept; .*`mergenet sweep resume .*{tmp_path.name}`( goes on from there)?"
        )
        assert re.fullmatch("interrupted" if kind is None else kept, message)


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("command", ["plan", "ablate"])
def test_numbers_of_options_are_finite(command: str, value: str) -> None:
    done = CliRunner().invoke(cli, ["sweep", command, "quickstart", "--pair-sd", value])
    assert done.exit_code == 2
    assert f"'--pair-sd': must be a finite number, got {value}" in done.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--num-trials", "3"], "no such option --num-trials; write --set num_trials=3 (see "),
        (["--num-trials=3"], "no such option --num-trials; write --set num_trials=3 (see "),
        (["--confirm-controls", "[noise, none]"], "; write --set 'confirm_controls=[noise, none]' (see "),
        (["--budget-hours"], "no such option --budget-hours; write --set budget_hours=VALUE (see "),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_option_that_is_a_key_of_the_sweep_file_is_told_so(command: str, words: list[str], told: str) -> None:
    done = CliRunner().invoke(cli, ["sweep", command, "quickstart", *words])
    assert done.exit_code == 2
    assert told in done.output


def test_an_option_that_is_no_key_has_the_nearest_one() -> None:
    done = CliRunner().invoke(cli, ["sweep", "run", "quickstart", "--adress", "auto"])
    assert done.exit_code == 2
    assert "--set" not in done.output and "--address" in done.output
