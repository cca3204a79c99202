"""Names in a configuration -> what they stand for: an entry of one of our tables, or "module:object" of the user's."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from mergenet.errors import ConfigError, unknown_name

T = TypeVar("T")


def look_up(path: str, name: str, table: Mapping[str, T]) -> T:
    """`table[name]`, or the object that "module:object" names, imported as Python would from the current folder.

    path: where the configuration has the name. Raises ConfigError, with near names, if there is no such entry, and
    with the reason if the module cannot be imported or lacks the object.
    """
    if ":" not in name:
        if name not in table:
            raise ConfigError(f"{unknown_name(path, name, table)}; one of your own is written module:object")
        return table[name]
    module_name, _, attribute = name.partition(":")
    import_from_here()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's module raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ConfigError(f"{path} must name a module that can be imported, got {name!r} ({reason})") from error
    if not hasattr(module, attribute):
        known = [other for other in vars(module) if not other.startswith("_")]
        raise ConfigError(unknown_name(f"{path}: the object of {module_name}", attribute, known))
    found: T = getattr(module, attribute)
    return found


def import_from_here() -> None:
    """Lets modules of the current folder be imported, as `python -m` does and a console command does not."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
