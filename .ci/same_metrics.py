"""Fails unless the retrained best.yaml has exactly the metrics of the trial that it came from.

Usage: same_metrics.py SWEEP RUN
"""

import json
import sys
from pathlib import Path

sweep, run = map(Path, sys.argv[1:])
trial = sweep / "trials" / json.loads((sweep / "summary.json").read_text())["best"]["trial_id"]


def rows(folder: Path) -> list[dict]:
    """The epochs of a run without the columns that no two runs share: the times."""
    lines = (folder / "epochs.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("seconds_")} for line in lines]


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


assert rows(trial) == rows(run), f"epochs differ between {trial} and {run}"
assert result(trial) == result(run), f"results differ between {trial} and {run}"
print(f"{run} has exactly the metrics of {trial}: {len(rows(run))} epochs, {result(run)}")
