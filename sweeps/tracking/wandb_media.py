"""Tables and figures of the run of a whole sweep on Weights & Biases: what mattered, as `mergenet analyze importance`.

W&B keeps a table as an artifact too. Where these are refused the file of the table is there all the same.
"""

import base64
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mergenet.errors import UserError, named_line

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from analysis.report.evidence import Evidence

IMPORTANCES, PATH = "importances", "ablation_path"  # keys of the tables
PLOTS = "plots/"  # before the name of each figure: W&B makes a section of it


def log_findings(run: Any, gathered: Callable[[], "Evidence | None"], say: Callable[[str], None]) -> None:
    """Importances, the steps from the base to the best, and a figure of each finding; nothing of too few trials.

    gathered: what is known of the sweep, called here. say: called with a line if it cannot be told or logged.
    """
    try:
        found = None if (evidence := gathered()) is None else evidence.told
        if found is None:
            return
        from analysis.importance.figures import FIGURES

        parts: dict[str, Callable[[], Any]] = {
            IMPORTANCES: lambda: table_of(found.importances),
            PATH: lambda: table_of(found.ablation_path),
        }
        parts |= {PLOTS + one.name: lambda one=one: plot_of(one.draw(found)) for one in FIGURES}  # type: ignore[misc]
        if media := allowed(parts):
            run.log(media)
    except UserError:  # no trial that can be read
        return
    except Exception as error:  # whatever it is, the sweep has its result
        say(f"wandb: what mattered is not there ({named_line(error)}); `mergenet analyze importance` tells it")


def allowed(parts: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Those that the trials allow."""
    found = {}
    for key, make in parts.items():
        try:
            found[key] = make()
        except UserError:  # the report says why
            continue
    return found


def table_of(frame: "pd.DataFrame") -> Any:
    """A W&B table: numbers are numbers, all else is text, and what is missing is empty."""
    import wandb

    from analysis.tables import formatting
    from analysis.tables.load import is_missing

    numeric = formatting.numeric(frame)
    columns = [
        [None if is_missing(value) else number(value) if plain else formatting.setting(value) for value in frame[name]]
        for name, plain in zip(frame.columns, numeric, strict=True)
    ]
    return wandb.Table(columns=list(frame.columns), data=[list(row) for row in zip(*columns, strict=True)])


def number(value: Any) -> float | int | None:
    """A number of Python's own; None for one that JSON has not."""
    found: float | int = value.item() if hasattr(value, "item") else value
    return found if math.isfinite(found) else None


def plot_of(figure: "go.Figure") -> Any:
    """A figure as W&B shows it, whose plotly may be too old for arrays as bytes, and whose JSON knows no NaN."""
    import plotly.graph_objects as go
    import wandb

    return wandb.Plotly(go.Figure(listed(figure.to_plotly_json())))


def listed(value: Any) -> Any:
    """The same with lists for arrays, None for what is not finite."""
    if isinstance(value, dict) and {"bdata", "dtype"} <= value.keys():
        import numpy as np

        array = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
        shape = [int(part) for part in str(value.get("shape", len(array))).split(",")]
        return listed(array.reshape(shape).tolist())
    if isinstance(value, dict):
        return {key: listed(inner) for key, inner in value.items()}
    if hasattr(value, "tolist"):
        return listed(value.tolist())
    if isinstance(value, list | tuple):
        return [listed(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
