"""Whether Python finds the three packages of mergenet: others, too, have packages named sweeps and analysis.

W&B's `sweeps` on PyPI, which `pip install "wandb[sweeps]"` brings, is one. Beside an editable install it is found
first; beside an installed wheel it overwrites three of our files, and deletes them when it is uninstalled.
"""

from importlib.metadata import Distribution, PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

from mergenet.errors import ConfigError

# each with a file that no other package of that name has
PACKAGES = {"mergenet": "errors.py", "sweeps": "execution/worker.py", "analysis": "names.py"}
OWN = '__distribution__ = "mergenet"'  # a line of each __init__.py
INIT = "__init__.py"
AGAIN = "install mergenet again, with pip's --force-reinstall --no-deps"
AWAY = "rename it, or take the folder that it is in from PYTHONPATH and sys.path"


def check_packages() -> None:
    """Raises ConfigError if one of the packages is another one, or damaged."""
    for line in package_problems():
        raise ConfigError(line)


def package_problems() -> list[str]:
    """A line for each package that is not ours, or not whole. None of them is imported."""
    return [line for name in PACKAGES if (line := package_problem(name)) is not None]


def package_problem(name: str) -> str | None:
    """What is wrong with a package, and the way out."""
    must = f"the package {name} must be mergenet's own, got"
    place = found(name)
    if place is None:
        return f"{must} none; {AGAIN}"
    if place.name != INIT:
        if not place.is_dir():
            return f"{must} {place}; {AWAY}"
        return f"{must} {place} without its {INIT}, as `pip uninstall {name}` leaves it; {AGAIN}"
    if OWN in place.read_text(encoding="utf-8", errors="replace"):
        return None
    folder, owner = place.parent, owner_of(place.parent)
    got = f"{must} {folder}" if owner is None else f"{must} that of {owner} in {folder}"
    if (folder / PACKAGES[name]).is_file():  # two in one folder: some files are ours and some are not
        return f"{got}, which wrote over ours; `pip uninstall {name}`, then {AGAIN}"
    return f"{got}; {AWAY if owner is None else f'`pip uninstall {name}`, or use an environment without it'}"


def found(name: str) -> Path | None:
    """What Python finds, without importing it: the __init__.py of a package, its folder if it has none, or a module."""
    try:
        spec = find_spec(name)
    except ValueError:  # loaded by hand, without a spec
        return None
    if spec is None:
        return None
    places = [spec.origin] if spec.has_location else [*(spec.submodule_search_locations or ())]
    return Path(places[0]) if places and places[0] is not None else None


def owner_of(folder: Path) -> str | None:
    """The distribution of the package's own name that is installed beside it, with its version."""
    try:
        owner = Distribution.from_name(folder.name)
    except PackageNotFoundError:
        return None
    beside = Path(str(owner.locate_file(folder.name))).resolve() == folder.resolve()
    return f"{owner.metadata['Name']} {owner.version}" if beside else None
