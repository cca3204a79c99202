"""Numbers of the command line that must be finite."""

import math
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """click's own lets NaN and, without a maximum, infinity pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"must be a finite number, got {value}", param, ctx)
        return number
