"""docs/architecture.md: what it names is there, it has all subpackages, and their imports are those of the code."""

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.arrows import ARROWS, MODULES

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
FILE = re.compile(r"[\w/]+\.py")
NAME = re.compile(r"[A-Za-z_][\w.]*")
ROOM = re.compile(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)


def named() -> list[tuple[str, str]]:
    """`file.py` `name`, `name`: each name with the file before it; the file alone with no name."""
    found, file = [], ""
    for text, between in re.findall(r"`([^`]+)`([^`]*)", PAGE):
        if FILE.fullmatch(text):
            file = text
            found.append((file, ""))
        elif file and NAME.fullmatch(text):
            found.append((file, text))
        if between.strip(" \n") not in ("", ","):
            file = ""
    return found


def definitions(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
            if isinstance(node, ast.ClassDef):
                yield from (f"{node.name}.{inner}" for inner in definitions(node))
        for target in [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", []):
            if isinstance(target, ast.Name):
                yield target.id


def test_what_the_page_names_is_there() -> None:
    names = named()
    assert len({name for _, name in names}) > 40
    for file, name in names:
        assert (ROOT / file).is_file(), file
        if name:
            assert name in definitions(ast.parse((ROOT / file).read_text(encoding="utf-8"))), f"{file}: {name}"


def test_the_files_that_extending_names_are_there() -> None:
    files = set(re.findall(r"`([\w/]+\.py)`", (ROOT / "docs/extending.md").read_text(encoding="utf-8")))
    assert len(files) >= 10
    assert not [file for file in files if not (ROOT / file).is_file()]


def test_links_lead_somewhere() -> None:
    for page in ("architecture.md", "extending.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / "docs" / page).read_text(encoding="utf-8")):
            assert (ROOT / "docs" / link).exists(), f"{page}: {link}"


@pytest.mark.parametrize("package", ARROWS)
def test_the_page_has_the_arrows_that_the_code_is_held_to(package: str) -> None:
    section = PAGE.partition(f"**{package}/**")[2].partition("\n**")[0]
    rooms = {room: set(allowed.replace("-", "").split(", ")) - {""} for room, allowed in ROOM.findall(section)}
    held_to = {room: set(allowed.split()) - MODULES for room, allowed in ARROWS[package].items()}
    assert rooms == {room: allowed for room, allowed in held_to.items() if room not in MODULES}


def test_the_pictures_are_those_that_the_script_draws(tmp_path: Path) -> None:
    images = ROOT / "docs/images"
    (tmp_path / "draw.py").write_bytes((images / "draw.py").read_bytes())
    subprocess.run([sys.executable, "draw.py"], cwd=tmp_path, check=True)
    for name in ("method.svg", "system.svg"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (images / name).read_text(encoding="utf-8")
        assert ET.parse(images / name).getroot().get("viewBox")
