"""What a verification found, and how it is told."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.names import POINTS
from analysis.tables.formatting import cell
from analysis.verification.spread import LEVEL
from mergenet.records.run_record import EPOCH, METRIC, is_metric

IDENTICAL, WITHIN, OUTSIDE, UNEXPLAINED, UNKNOWN = "identical", "within", "outside", "unexplained", "unknown"
SENTENCES = {
    IDENTICAL: "identical to the bit",
    WITHIN: "not identical, but within the spread of the seeds",
    OUTSIDE: "NOT VERIFIED: the metrics lie outside of the spread of the seeds",
    UNEXPLAINED: "NOT VERIFIED: not identical, although code, data, versions, machine and threads are recorded as the "
    "same: the bits must come back",
    UNKNOWN: "NOT VERIFIED: not identical, and fewer than 2 runs with other seeds lie beside the original to tell the "
    "spread; confirm_seeds of a sweep gives them",
}
MOST = 6  # changes that are listed


@dataclass(frozen=True)
class Verification:
    """verdict: a key of SENTENCES. differences: epoch (missing: result.json), column, recorded, again; a row each.

    original, again: the run folders; that of `again` is gone if it was a temporary one. compared: how many numbers.
    changed: what differs between the two runs beside their numbers. spread: as `analysis.verification.spread.spread`,
    empty if it is not needed. result: of the new run. `print(verification)` shows it all.
    """

    verdict: str
    original: Path
    again: Path
    compared: int
    differences: pd.DataFrame
    changed: list[str]
    spread: pd.DataFrame
    result: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether the metrics have come back: to the bit, or, where something has changed, as another seed's would."""
        return self.verdict in (IDENTICAL, WITHIN)

    def __str__(self) -> str:
        numbers = self._same() if self.verdict == IDENTICAL else self._different()
        changed = f"{', '.join(self.changed[:MOST])}{_more(len(self.changed) - MOST)}"
        told = [f"what has changed: {changed}"] if self.changed else []
        return "\n".join(
            [SENTENCES[self.verdict], numbers, *told, *map(self._interval, self.spread.to_dict("records"))]
        )

    def _same(self) -> str:
        names = [name for name in self.result if name == self.result[METRIC] or name.startswith("target_test_")]
        shown = [f"{name} {cell(name, self.result[name])}{' %' if is_metric(name) else ''}" for name in names]
        return f"all {self.compared:,} numbers of {self.original} came back: {', '.join(shown)}"

    def _different(self) -> str:
        epochs = self.differences["epoch"].dropna()
        since = f"from epoch {epochs.min()} on" if len(epochs) else "in the result only"
        lacking = int((self.differences["column"] == EPOCH).sum())
        lacks = f"; {lacking} epochs are in one of the runs only" if lacking else ""
        return f"{len(self.differences):,} of {self.compared:,} numbers of {self.original} differ, {since}{lacks}"

    def _interval(self, row: Mapping[Hashable, Any]) -> str:
        scale, digits, unit = (POINTS, 2, " %") if is_metric(row["metric"]) else (1.0, 4, "")
        was, now, low, high = (f"{scale * row[name]:.{digits}f}" for name in ("recorded", "again", "low", "high"))
        others = f"{row['n']} run{'s' if row['n'] != 1 else ''} with other seeds"
        level = f"{100 * (1 - LEVEL / len(self.spread)):.4g} % prediction interval"
        bounds = f"{level} from {others} [{low}, {high}]" if row["n"] > 1 else others
        return f"{row['metric']} {now}{unit} (was {was}{unit}); {bounds}"


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
