"""Who imports whom, seen in fresh interpreters: the direction of the packages cannot rot."""

import ast
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import click
import pytest

import analysis
import mergenet
import sweeps
from analysis.cli import analyze
from sweeps.cli.commands import sweep
from tests.arrows import ARROWS, MODULES

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "ray", "optuna", "wandb", "pandas")


def modules(package: str) -> list[str]:
    """All modules of a package, found without importing them."""
    walk = pkgutil.walk_packages([str(ROOT / package)], f"{package}.", onerror=lambda _: None)
    names = [package, *(info.name for info in walk)]
    files = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / package).rglob("*.py")]
    assert len(names) == len(files), "a folder without __init__.py would be overlooked"
    return names


def loaded_by(*imports: str, then: str = "") -> set[str]:
    """Top-level names in sys.modules after importing modules in a fresh interpreter, and running a line there."""
    script = f"import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n{then}\n"
    script += "print(*{name.partition('.')[0] for name, module in sys.modules.items() if module})"
    done = subprocess.run(
        [sys.executable, "-c", script, *imports], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "name",
    [
        "mergenet",
        "mergenet.config",
        "mergenet.config.choices",
        "mergenet.config.loading",
        "mergenet.errors",
        "mergenet.records.run_record",
        "mergenet.cli.main",
        "mergenet.records.packages",
    ],
)
def test_what_only_reads_records_needs_no_torch(name: str) -> None:
    assert loaded_by(name).isdisjoint({*HEAVY, "sweeps", "analysis"})


@pytest.mark.parametrize(
    "name",
    ["analysis", "analysis.cli", "analysis.names", "sweeps", "sweeps.cli.commands", "sweeps.trials.sweep_dir"],
)
def test_what_help_and_names_need_is_light(name: str) -> None:
    assert loaded_by(name).isdisjoint(HEAVY)


def test_a_status_answers_without_what_trains_and_a_table_without_statistics() -> None:
    """It takes them seconds to import; SciPy comes with the first paired difference."""
    assert loaded_by("sweeps.report.status").isdisjoint({*HEAVY, "numpy", "scipy"})
    assert loaded_by("analysis.tables.load", "analysis.tables.overview").isdisjoint({"scipy"})


def test_a_sweep_is_planned_without_what_only_its_search_and_its_end_need() -> None:
    """Nothing else should come before its first epoch; no network of the quickstart is torchvision's."""
    modules = "sweeps.planning.checks", "sweeps.config.loading"
    plan = "{}.plan_sweep({}.load_sweep('quickstart'))".format(*(f"sys.modules[{name!r}]" for name in modules))
    loaded = loaded_by(*modules, "sweeps.driver.start", "sweeps.driver.run", then=plan)
    assert "torch" in loaded
    assert loaded.isdisjoint({"torchvision", "scipy", "pandas", "wandb", "plotly"})


@pytest.mark.parametrize("group", [analyze, sweep])
def test_the_groups_first_line_of_help_is_not_cut_off(group: click.Group) -> None:
    assert not group.get_short_help_str(60).endswith("...")


def test_nothing_in_mergenet_needs_ray_optuna_wandb_or_pandas() -> None:
    loaded = loaded_by(*modules("mergenet"))
    assert "torch" in loaded
    assert loaded.isdisjoint({"ray", "optuna", "wandb", "pandas", "sweeps", "analysis"})


def test_analysis_needs_no_torch_or_ray() -> None:
    loaded = loaded_by(*modules("analysis"))
    assert loaded.isdisjoint({"torch", "ray", "optuna", "wandb", "sweeps"})


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("mergenet", {"sweeps", "analysis", "ray", "optuna", "wandb", "pandas"}),
        ("analysis", {"sweeps", "torch", "ray"}),
    ],
)
def test_not_even_a_function_imports_against_the_direction(package: str, forbidden: set[str]) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno} is a relative import"
                names = [node.module or ""]
            wrong = {name.partition(".")[0] for name in names} & forbidden
            assert not wrong, f"{path.relative_to(ROOT)}:{node.lineno} imports {wrong}"


MOST = 14  # rooms and modules at a package's top; modules of a room


def imported(path: Path) -> set[str]:
    """Dotted names of all that a file imports, in its functions too; of `from a import b` also a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_only_command_lines_import_a_command_line() -> None:
    """What both need, such as the check of the packages, lies in a room below."""
    for package in ("sweeps", "analysis"):
        for path in (ROOT / package).rglob("*.py"):
            inside = "cli" in path.relative_to(ROOT).with_suffix("").parts
            assert inside or "mergenet.cli" not in {name[: len("mergenet.cli")] for name in imported(path)}, path


def test_no_test_module_is_imported() -> None:
    """What tests share is in modules beside them: two test modules that need each other cannot be changed alone."""
    for path in (ROOT / "tests").rglob("*.py"):
        wrong = {name for name in imported(path) if name.startswith("tests.") and ".test_" in name}
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(wrong)}: move what is shared beside them"


def arrows(package: str, room: str) -> set[str]:
    """The other rooms of its package that a room imports. The package's own name, for its version, is no room."""
    files = [ROOT / package / f"{room}.py"] if room in MODULES else list((ROOT / package / room).rglob("*.py"))
    assert files
    parts = [name.split(".") for path in files for name in imported(path)]
    return {name[1] for name in parts if name[0] == package and len(name) > 1 and name[1] in ARROWS[package]} - {room}


@pytest.mark.parametrize("package", ARROWS)
def test_no_room_imports_one_that_it_may_not(package: str) -> None:
    rooms, done = ARROWS[package], set[str]()
    for room, allowed in rooms.items():
        assert set(allowed.split()) <= done, f"the arrows of {package}/{room} must point at rooms above it in the table"
        wrong = arrows(package, room) - set(allowed.split())
        assert not wrong, f"{package}/{room} imports {', '.join(sorted(wrong))}: not an arrow of the table"
        done.add(room)


@pytest.mark.parametrize("package", ARROWS)
def test_every_arrow_of_the_table_is_in_use(package: str) -> None:
    for room, allowed in ARROWS[package].items():
        unused = set(allowed.split()) - arrows(package, room)
        assert not unused, f"{package}/{room} does not import {', '.join(sorted(unused))}: take it out of the table"


@pytest.mark.parametrize("package", [*ARROWS, "analysis"])
def test_no_folder_is_crowded(package: str) -> None:
    top = {path.stem for path in (ROOT / package).iterdir()} - {"__init__", "__main__", "__pycache__", "py"}
    assert len(top) <= MOST, "rooms and modules"
    if package in ARROWS:
        assert top == set(ARROWS[package]), "the table has every room"
    for folder in {path.parent for path in (ROOT / package).rglob("*.py")}:
        modules = [path for path in folder.glob("*.py") if not path.stem.startswith("__")]
        assert len(modules) <= MOST, folder


def test_the_rules_of_a_configuration_do_not_know_its_schema() -> None:
    assert "mergenet.config.schema" not in imported(ROOT / "mergenet/config/rules.py")


def test_public_names_come_on_first_use() -> None:
    names = sorted(set(mergenet.__all__) - {"__version__"})
    script = (
        "import sys, mergenet\n"
        "assert set(mergenet.__all__) <= set(dir(mergenet))\n"
        "assert 'torch' not in sys.modules\n"
        "mergenet.Config, mergenet.load_config\n"
        "assert 'torch' not in sys.modules\n"
        f"from mergenet import {', '.join(names)}\n"
        "assert callable(train) and callable(export_run)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", [sweeps, analysis])
def test_sweeps_and_analysis_have_public_names_too(package: ModuleType) -> None:
    name = package.__name__
    script = (
        f"import sys, {name}\n"
        f"assert set({name}.__all__) <= set(dir({name}))\n"
        f"from {name} import {', '.join(package.__all__)}\n"
        "assert not {'torch', 'ray', 'wandb'} & set(sys.modules), 'nothing trains yet'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'trian'"):
        package.trian  # noqa: B018 (the access is what is tested)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'mergenet' has no attribute 'trian'"):
        mergenet.trian  # noqa: B018 (the access is what is tested)


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert mergenet.__version__ == project["version"]
