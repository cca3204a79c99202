"""Writes refused by a full or read-only disk, or by the study's storage, which are not a trial's fault.

Such an error pauses the sweep: nothing is marked as failed, and the sweep can be resumed from its records.
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
