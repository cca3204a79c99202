"""Errors that a user can cause and mend: one line each, with the value and the way out."""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# keys whose values are never shown, and never in a configuration
SECRET = re.compile(r"api_?key|token|passw|secret|credential", re.IGNORECASE)


class UserError(ValueError):
    """Something the user gave is wrong. The command line prints the message alone and exits with 2."""


class ConfigError(UserError):
    """A configuration value breaks a rule; the message starts with the value's dotted path."""


class DataError(UserError):
    """Data are missing or malformed; the message names the file or folder."""


class CheckpointError(UserError):
    """A checkpoint or run folder is truncated, foreign, or belongs to another configuration."""


class WriteError(CheckpointError):
    """The disk refused a write: full, read-only, gone. What was written before is intact."""


class TrainingDiverged(RuntimeError):
    """Training produced a non-finite loss or a collapsed factor and was stopped, or no epoch with a finite metric."""


def visible(text: str) -> str:
    r"""Control characters as escapes: what a file is named, or an error says, must not steer a terminal.

    >>> visible("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def one_line(error: BaseException, most: int = 200) -> str:
    """The message on one line, `visible`, cut off after so many characters; the error's type where it has none."""
    return visible(" ".join(str(error).split()))[:most] or type(error).__name__


def named_line(error: BaseException, most: int = 200) -> str:
    r"""The same behind the error's type: of errors that other code raises, whose message may say little without it.

    >>> named_line(KeyError("fc"))
    "KeyError: 'fc'"
    >>> named_line(ValueError("\x1b[31mred"))
    'ValueError: \\x1b[31mred'
    """
    return visible(" ".join(f"{type(error).__name__}: {error}".split()))[:most]


def unknown_name(path: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not in a list: nearest names first, then all of them.

    >>> unknown_name("target.model", "resnet81", ["resnet18", "resnet34"])
    "target.model must be one of resnet18, resnet34, got 'resnet81'; did you mean resnet18 or resnet34?"
    >>> unknown_name("sampler", "TPE", ["gp", "tpe"])
    "sampler must be one of gp, tpe, got 'TPE'; did you mean tpe?"
    """
    names = sorted(known)
    near = [full for full in names if full.endswith(f".{name}")][:3]  # it is the end of a dotted one
    lower = [full.lower() for full in names]
    close = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    near = near or list(dict.fromkeys(names[lower.index(one)] for one in close))
    shown = ", ".join(names) if len(names) <= 40 else f"{', '.join(names[:40])}, ... ({len(names)} in all)"
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"{path} must be one of {shown}, got {name!r}{hint}"


@contextmanager
def needs_package(name: str, extra: str) -> Iterator[None]:
    """Around the import of an optional package. Raises ConfigError with the command that installs it.

    extra: the optional dependencies of mergenet that bring it, as in `pip install "mergenet[extra]"`.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != name:
            raise
        raise ConfigError(
            f"the package {name} must be installed for this configuration, and is not; "
            f'pip install "mergenet[{extra}]" brings it'
        ) from None
