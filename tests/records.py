"""Records as a test wants them, with a right seal: as the program itself would have written them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mergenet.records.sealed import read_record, write_record


def edit_record(path: Path, changes: Mapping[str, Any]) -> None:
    """Gives keys of a record other values, or more keys."""
    write_record(path, read_record(path) | dict(changes))


def replace_in_record(path: Path, old: str, new: str) -> None:
    """Replaces a part of its JSON."""
    text = json.dumps(read_record(path))
    assert old in text, text
    write_record(path, json.loads(text.replace(old, new)))
