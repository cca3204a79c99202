"""The source of users' own modules, which a result depends on beside its configuration: a hash a module.

Hashed are the module of each `module:object`, the packages around it, and every module of the user's that these
import, directly or through others: by a statement anywhere in the source, or by a computed name while the module is
imported or what it names is made. Bound: Python source files outside Python's own library and site-packages; of a named
module that is installed there the version counts in place of its files. Not seen are modules that were in the process
before and are then imported by a computed name, or so only in a forward pass; compiled ones; files that a module reads.
"""

import ast
import functools
import hashlib
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import NamedTuple

OURS = ("mergenet", "sweeps", "analysis")  # their version and commit are in the provenance
INSTALLED = {"site-packages", "dist-packages"}


class Source(NamedTuple):
    """spec: that by which Python had imported the module when its file was read; None if it had not."""

    spec: ModuleSpec | None
    path: Path
    sha256: str
    imports: tuple[str, ...]


_read: dict[str, Source] = {}  # by module, of what this process has imported
_came_with: dict[str, set[str]] = {}  # module -> the user's modules that entered this process while it was used


@contextmanager
def noting_imports(module: str) -> Iterator[None]:
    """In the block the user's module is imported, or what it names is made: what is imported counts as its own."""
    before = set(sys.modules)
    try:
        yield
    finally:
        for name in sys.modules.keys() - before:
            file = getattr(sys.modules.get(name), "__file__", None)
            if isinstance(file, str) and file.endswith(".py") and _is_users(Path(file)) and _source(name) is not None:
                _came_with.setdefault(module, set()).add(name)


def source_hashes(modules: Iterable[str]) -> dict[str, str]:
    """Module -> SHA-256, hex, of its source as it runs in this process, or would if it were imported now.

    A module that is installed as a package of others is hashed as "NAME VERSION".
    """
    named = sorted({module.partition(".")[0] for module in modules})
    installed = {top: found for top in named if (found := _version(top)) is not None}
    return dict(sorted((installed | {name: source.sha256 for name, source in read_sources(modules).items()}).items()))


def read_sources(modules: Iterable[str]) -> dict[str, Source]:
    """The user's own modules among these, and all that they import."""
    found: dict[str, Source] = {}
    waiting = [
        name for module in modules for one in (module, *_came_with.get(module, ())) for name in _with_parents(one)
    ]
    looked: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in looked:
            continue
        looked.add(name)
        source = _source(name)
        if source is not None:
            found[name] = source
            waiting += [other for imported in source.imports for other in _with_parents(imported)]
    return found


def _source(name: str) -> Source | None:
    """What was imported is what runs: a file that was edited since does not count until its module is reloaded."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    known = _read.get(name)
    if known is not None and spec is not None and (known.spec is None or known.spec is spec):
        _read[name] = known._replace(spec=spec)
        return _read[name]
    path = _file(name)
    if path is None:
        return None
    text = path.read_bytes()
    imports = tuple(_imports(text, name if path.name == "__init__.py" else name.rpartition(".")[0]))
    _read[name] = Source(spec, path, hashlib.sha256(text).hexdigest(), imports)
    return _read[name]


def _file(name: str) -> Path | None:
    """The module's source file, found without importing anything; None if it has none, or is not the user's."""
    top, *rest = name.split(".")
    if top in OURS:
        return None
    spec = _spec(top)
    if spec is None:  # a script, or a notebook
        script = getattr(sys.modules.get(top), "__file__", None)
        places = [] if rest or script is None else [Path(script)]
    elif rest:
        folders = [Path(folder, *rest) for folder in spec.submodule_search_locations or ()]
        places = [place for folder in folders for place in (folder / "__init__.py", folder.with_suffix(".py"))]
    else:
        places = [Path(spec.origin)] if spec.origin is not None and spec.has_location else []
    return next((path for path in places if path.suffix == ".py" and _is_users(path) and path.is_file()), None)


def _spec(top: str) -> ModuleSpec | None:
    try:
        return find_spec(top)
    except (ValueError, ImportError):
        return None


def raised_at(error: BaseException) -> str:
    """The last place in the user's own code that an error came through, " (net.py:41)"; empty if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    found = [frame for frame in frames if not frame.filename.startswith("<") and _is_users(Path(frame.filename))]
    if not found:
        return ""
    path = Path(found[-1].filename)
    return f" ({path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.name}:{found[-1].lineno})"


def _is_users(path: Path) -> bool:
    return INSTALLED.isdisjoint(path.parts) and not any(path.is_relative_to(folder) for folder in _others())


@functools.cache
def _others() -> list[Path]:
    """The folders of Python's own library, of what is installed, and of our packages, which may be a checkout."""
    library = [Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    return [*library, *(Path(__file__).parents[2] / name for name in OURS)]


def _version(top: str) -> str | None:
    """Of what brings a module that is installed; None of the user's own."""
    spec = _spec(top)
    if spec is None or not spec.has_location or spec.origin is None or INSTALLED.isdisjoint(Path(spec.origin).parts):
        return None
    names = _distributions().get(top, [])
    return f"{names[0]} {version(names[0])}" if names else None


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _imports(text: bytes, package: str) -> Iterator[str]:
    """Every module that a source may import, wherever in it; nothing of one that Python cannot read."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _resolved("." * node.level + (node.module or ""), package)
            if base is not None:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def _resolved(name: str, package: str) -> str | None:
    try:
        return resolve_name(name, package)
    except ImportError:  # beyond the top of the package
        return None


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
