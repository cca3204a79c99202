"""The home folder in paths."""

import os
import re
from typing import Any


def at_home(value: Any) -> Any:
    """A leading ~ as the home folder: shells read it so, but not in YAML and behind an equals sign."""
    if isinstance(value, str) and re.match(r"~(/|$)", value):
        return os.path.expanduser(value)  # noqa: PTH111  # Path's raises where there is no home
    return value
