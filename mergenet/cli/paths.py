"""Paths on the command line, whose leading ~ is the home folder behind an equals sign too: shells leave that alone."""

from pathlib import Path
from typing import Any

import click

from mergenet.config.home import at_home


class PathType(click.Path):
    """click's, as a pathlib.Path.

    >>> PathType().convert("runs/~a", None, None).as_posix()
    'runs/~a'
    """

    def __init__(self, **rules: Any) -> None:
        super().__init__(path_type=Path, **rules)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(at_home(value), param, ctx)


PATH = PathType()
