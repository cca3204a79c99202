"""Names of the classes of a data set, as a user may give them."""

from collections.abc import Iterable
from typing import Any

from mergenet.errors import DataError


def plain_names(names: Iterable[Any]) -> tuple[Any, ...]:
    """As JSON knows them: NumPy's and torch's as the plain values that they hold, others as text.

    Raises DataError for fewer than two, where there is nothing to learn.
    """
    values = [name.item() if hasattr(name, "item") else name for name in names]
    if len(values) < 2:
        raise DataError(f"class_names must be of at least 2 classes, got {len(values)}")
    return tuple(value if isinstance(value, str | int | float) else str(value) for value in values)
