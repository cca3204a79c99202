"""What `--json` prints."""

import json
import math
from typing import Any


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON, in which a number that is not finite is null: JSON has no NaN.

    >>> json_text({"value": float("nan")})
    '{"value": null}'
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
