"""Messages that the command line and Python share name both ways to say a thing, as in overwrite=True (--overwrite)."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps import Sweep
from sweeps.cli.commands import resume_command, run_command

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
