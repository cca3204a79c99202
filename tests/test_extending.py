"""docs/extending.md: its blocks as a reader would run them."""

import ast
import os
import subprocess
import sys
from pathlib import Path

from tests.pages import DOCS, blocks, python_of, write_files

PAGE = "extending.md"
ADDED = ("MODELS", "DATASETS", "TASKS", "SAMPLERS", "RULES", "ENCODERS", "ATTENTIONS", "LOSSES", "FORMATS")


def test_the_page_adds_to_every_table_and_asserts_that_it_is_used() -> None:
    tree = ast.parse(python_of(PAGE))
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    added = {ast.unparse(target.value) for target in targets if isinstance(target, ast.Subscript)}
    assert added >= set(ADDED)
    assert sum(isinstance(node, ast.Assert) for node in ast.walk(tree)) >= 8


def test_the_page_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """In one process, in an empty folder."""
    assert len(blocks(PAGE)) >= 9
    write_files(PAGE, tmp_path)
    environment = {**os.environ, "PYTHONPATH": f"{DOCS.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-c", python_of(PAGE)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
