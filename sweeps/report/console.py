"""The console that a sweep's lines go to."""

import sys
from contextlib import suppress
from typing import IO, Any, cast

from rich.console import Console

PIPED_WIDTH = 160  # width of the final table when the output is no terminal


class Lasting(Console):
    def on_broken_pipe(self) -> None:
        """The reader of the output is gone (`| head`, a closed terminal): the sweep goes on silently."""
        with suppress(SystemExit):
            super().on_broken_pipe()


class Output:
    """Standard output, where a closed terminal (EIO) counts as a broken pipe, too."""

    def __init__(self) -> None:
        self.file = sys.stdout

    def write(self, text: str) -> int:
        try:
            return self.file.write(text)
        except OSError as error:
            raise BrokenPipeError(*error.args) from error

    def flush(self) -> None:
        try:
            self.file.flush()
        except OSError as error:
            raise BrokenPipeError(*error.args) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def lasting_console(live: bool = True, quiet: bool = False) -> Console:
    """live: a terminal also has a status that is redrawn below the lines.

    A notebook gets plain lines: its output claims to be a terminal and would keep every status drawn.
    """
    notebook = Console().is_jupyter
    return Lasting(
        file=cast(IO[str], Output()),
        width=None if sys.stdout.isatty() and not notebook else PIPED_WIDTH,
        force_jupyter=False,
        force_terminal=None if live and not notebook else False,
        quiet=quiet,
    )
