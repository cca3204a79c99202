"""How a sweep can end without finishing; and which errors are refused writes, which only pause it.

A write is refused by a full or read-only disk, or by the study's storage: no trial is marked as failed, and a resumed
sweep goes on from its records.
"""

import errno
import os

from mergenet.errors import WriteError

# messages of the system and SQLite; errors of other processes arrive as text only
TEXTS = (
    *(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)),
    "database or disk is full",
    "attempt to write a readonly database",
    "disk I/O error",
    "unable to open database file",
)


class SweepFailed(RuntimeError):
    """The sweep could not go on; the message says why and what is kept."""


class SweepStopped(Exception):
    """The sweep was asked to stop, and has; it can be resumed. The message says how."""


class SweepPaused(RuntimeError):
    """The disk, or the study's server, refused a write; the sweep can be resumed. From `Sweep.run` it says how."""


class SlotDied(RuntimeError):
    """A slot has lost its workers too often, or the queue is gone; the message says which and why."""


class RayFailed(SlotDied):
    """Ray did not start; the message says why and what to do about it."""


class Suspended(Exception):
    """The slots were asked to pause, and have. The message says why, if the sweep itself asked."""


def write_refusal(error: BaseException | None) -> str | None:
    """One line that says which write was refused; None for an error with another cause."""
    while error is not None:
        if isinstance(error, WriteError):
            return str(error)
        if (line := write_refusal_in(str(error))) is not None:
            return line
        error = error.__cause__ or error.__context__
    return None


def write_refusal_in(text: str) -> str | None:
    """The first line of a text that says so."""
    lines = (line.strip() for line in text.splitlines())
    return next((line[:300] for line in lines if any(said in line for said in TEXTS)), None)
