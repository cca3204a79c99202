"""Names in a configuration -> what they stand for: an entry of one of our tables, or "module:object" of the user's."""

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, TypeVar

from mergenet.config.user_code import noting_imports, raised_at, read_sources
from mergenet.errors import ConfigError, UserError, named_line, unknown_name

T = TypeVar("T")


def shipped(table: Mapping[str, str]) -> dict[str, Any]:
    """Name -> object, from one of the tables of our own "module:object" in `mergenet.config.choices`."""
    places = {name: place.split(":") for name, place in table.items()}
    return {name: getattr(importlib.import_module(module), own) for name, (module, own) in places.items()}


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
    read_sources([module_name])  # read now, it is the source that runs here
    try:
        with noting_imports(module_name):
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        reason = f"{named_line(error)}){_where_looked(module_name, error)}"
        raise ConfigError(f"{path} must name a module that can be imported, got {name!r} ({reason}") from error
    if not hasattr(module, attribute):
        raise ConfigError(unknown_name(f"{path}: the object of {module_name}", attribute, _own_names(module)))
    found: T = getattr(module, attribute)
    return found


def _own_names(module: ModuleType) -> list[str]:
    """The public names of what the module, or one inside it, defines; all where it defines nothing."""
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    own = [name for name, value in public.items() if f"{_made_in(value, module)}.".startswith(f"{module.__name__}.")]
    return own or list(public)


def _made_in(value: Any, module: ModuleType) -> str:
    """The module that defines a class or a function; of other values, but modules, it is taken to be this one."""
    if isinstance(value, type | FunctionType | BuiltinFunctionType):
        return str(value.__module__)
    imported = isinstance(value, ModuleType) or type(value).__module__ == "__future__"
    return "" if imported else module.__name__


def _where_looked(module: str, error: BaseException) -> str:
    """The way out where the module itself was not found, or a package around it."""
    if not isinstance(error, ModuleNotFoundError) or not f"{module}.".startswith(f"{error.name}."):
        return ""
    return f"; modules are looked for in the folder one starts in, {str(Path.cwd())!r}, and on the Python path"


def made(path: str, name: str, table: Mapping[str, Callable[..., T]], kind: type, *arguments: Any) -> T:
    """The object of type `kind` that the entry, or the user's function or class, makes from the arguments.

    Raises ConfigError as `look_up` does, and if what the user named cannot be called, raises, or makes something else.
    """
    make = look_up(path, name, table)
    return make(*arguments) if ":" not in name else made_by(path, name, make, kind, *arguments)


def made_by(path: str, name: str, make: Callable[..., T], kind: type, *arguments: Any) -> T:
    """The same for the user's own `make`."""
    if not callable(make):
        raise ConfigError(f"{path} must name a function or a class, got {name!r}, which is {kind_of(make)}")
    try:
        with noting_imports(name.partition(":")[0]):
            found = make(*arguments)
    except UserError as error:
        if str(error).startswith(("model.", "data.", "task")):
            raise
        raise type(error)(f"{path}: {name}: {error}") from error
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise ConfigError(f"{path}: {name} must work, got {named_line(error)}{raised_at(error)}") from error
    if not isinstance(found, kind):
        raise ConfigError(f"{path}: {name} must return {a(kind.__name__)}, got {kind_of(found)}")
    return found


def kind_of(value: object) -> str:
    """For messages: a word for what was given instead."""
    return "None" if value is None else a(type(value).__name__)


def a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "AEIOUaeio" else f"a {noun}"


def import_from_here() -> None:
    """Lets modules of the current folder be imported, as `python -m` does and a console command does not."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
