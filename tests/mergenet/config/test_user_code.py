"""The source of users' modules: what is hashed, and when."""

import hashlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mergenet.config import user_code
from mergenet.config.registry import look_up, made_by
from mergenet.config.user_code import raised_at, read_sources, source_hashes
from mergenet.errors import ConfigError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package and modules beside it, in the current folder."""
    files = {
        "codepkg/__init__.py": "",
        "codepkg/nets.py": "import torch\nfrom . import blocks\nfrom codehelp import width\ntwo = 2\n",
        "codepkg/blocks.py": "def late():\n    import codelate\n",
        "codepkg/unused.py": "",
        "codehelp.py": "import json, mergenet.config\nwidth = 3\n",
        "codelate.py": "from ..beyond import top\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(user_code, "_came_with", {})
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("codepkg", "codehelp", "codelate")]:
        del sys.modules[name]


def test_what_a_module_imports_counts_and_nothing_else(project: Path) -> None:
    found = source_hashes(["codepkg.nets"])
    assert list(found) == ["codehelp", "codelate", "codepkg", "codepkg.blocks", "codepkg.nets"]
    assert found["codehelp"] == hashlib.sha256((project / "codehelp.py").read_bytes()).hexdigest()
    assert "codepkg" not in sys.modules, "looking imports nothing"


@pytest.mark.parametrize("edited", ["codepkg/__init__.py", "codepkg/nets.py", "codepkg/blocks.py", "codelate.py"])
def test_an_edit_of_any_of_them_changes_a_hash(project: Path, edited: str) -> None:
    before = source_hashes(["codepkg.nets"])
    (project / edited).write_text("three = 3\n" + (project / edited).read_text())
    after = source_hashes(["codepkg.nets"])
    name = edited.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert [module for module in before if before[module] != after[module]] == [name]


def test_what_was_imported_is_what_counts_until_it_is_reloaded(project: Path) -> None:
    assert look_up("model.name", "codepkg.nets:two", {}) == 2
    before = source_hashes(["codepkg.nets"])
    (project / "codepkg/nets.py").write_text("from codehelp import width\ntwo = 22\n")
    assert look_up("model.name", "codepkg.nets:two", {}) == 2
    assert source_hashes(["codepkg.nets"]) == before
    importlib.reload(sys.modules["codepkg.nets"])
    assert look_up("model.name", "codepkg.nets:two", {}) == 22
    assert source_hashes(["codepkg.nets"])["codepkg.nets"] != before["codepkg.nets"]


def test_a_module_that_is_not_there_is_told_with_where_it_was_looked_for(project: Path) -> None:
    looked = f"modules are looked for in the folder one starts in, {str(project)!r}, and on the Python path"
    for name in ("codeless:load", "codepkg.less:load"):
        message = refused(name)
        assert message.startswith(f"data.name must name a module that can be imported, got {name!r} (ModuleNotFoundErr")
        assert message.endswith(f"); {looked}")
    (project / "codepkg/unused.py").write_text("import codeless")
    assert refused("codepkg.unused:load").endswith("(ModuleNotFoundError: No module named 'codeless')")


def test_only_what_a_module_defines_is_listed(project: Path) -> None:
    lines = ("from __future__ import annotations", "import json", "from pathlib import Path", "from os import getpid")
    own = ("from .blocks import late", "class Net: ...", "def load(): ...", "large = Path()", "_hidden = 1")
    (project / "codepkg/__init__.py").write_text("\n".join((*lines, *own)))
    known = "data.name: the object of codepkg must be one of Net, large, late, load, got 'lode'; did you mean load"
    assert refused("codepkg:lode").startswith(known)
    (project / "codelate.py").write_text("from pathlib import Path")
    assert refused("codelate:lode") == "data.name: the object of codelate must be one of Path, got 'lode'"


def refused(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        look_up("data.name", name, {})
    return str(caught.value)


def test_of_an_installed_package_the_version_counts() -> None:
    assert source_hashes(["yaml.nodes"]) == {"yaml": f"PyYAML {importlib.import_module('yaml').__version__}"}
    assert read_sources(["torch.nn", "json", "mergenet.models", "builtins"]) == {}


@pytest.mark.parametrize("name", ["", "no_such_module_here", "codepkg.no_such"])
@pytest.mark.usefixtures("project")
def test_what_is_not_there_has_no_hash(name: str) -> None:
    assert name not in source_hashes([name])


def test_a_source_that_python_cannot_read_counts_all_the_same(project: Path) -> None:
    (project / "codelate.py").write_bytes(b"def \xff(:\x00")
    assert "codelate" in source_hashes(["codepkg.nets"])


def test_modules_that_come_by_a_computed_name_count_and_those_of_others_do_not(project: Path) -> None:
    (project / "codepkg/nets.py").write_text(
        "import importlib\nimportlib.import_module('code' + 'help')\nimport colorsys\n"
        "def make():\n    importlib.import_module('.unused', 'code' + 'pkg')\n    return 2\n"
    )
    assert "codehelp" not in source_hashes(["codepkg.nets"]), "it is known once it has run"
    importlib.import_module("codepkg.blocks")  # by somebody else
    make = look_up("model.name", "codepkg.nets:make", {})
    assert list(source_hashes(["codepkg.nets"])) == ["codehelp", "codepkg", "codepkg.nets"]
    assert made_by("model.name", "codepkg.nets:make", make, int) == 2
    found = source_hashes(["codepkg.nets"])
    assert list(found) == ["codehelp", "codepkg", "codepkg.nets", "codepkg.unused"]
    (project / "codehelp.py").write_text("width = 4\n")
    assert source_hashes(["codepkg.nets"]) == found, "what was imported is what counts"


def test_an_error_is_placed_in_the_users_code_by_its_last_line_there(project: Path) -> None:
    """Not in a library that it calls, nor in our packages, which may be a checkout; relative where it lies below."""
    (project / "codehelp.py").write_text("import json\n\ndef read(text):\n    return json.loads(text)\n")
    (project / "codepkg/blocks.py").write_text("import codehelp\ndef make():\n    return codehelp.read('{')\n")
    with pytest.raises(ConfigError, match=r"must work, got JSONDecodeError: .* \(codehelp\.py:4\)$"):
        made_by("task", "codepkg.blocks:make", look_up("task", "codepkg.blocks:make", {}), dict)
    with pytest.raises(KeyError) as raised:
        look_up(**{"path": "model.name", "name": "a", "table": Missing()})
    assert raised_at(raised.value) == f" ({Path(__file__).name}:{line_of('raise KeyError(key)')})"
    assert raised_at(ValueError("was not raised")) == ""
    with pytest.raises(ConfigError) as ours:
        look_up("model.name", "a", {})
    ours.value.__traceback__ = ours.value.__traceback__.tb_next
    assert raised_at(ours.value) == ""


class Missing(dict):  # type: ignore[type-arg]
    def __contains__(self, key: object) -> bool:
        raise KeyError(key)


def line_of(text: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return 1 + next(number for number, line in enumerate(lines) if line.strip() == text)
