"""A whole sweep on a server of W&B and in its folder, to compare what both say of it."""

from pathlib import Path
from typing import Any

import pandas as pd

from analysis.names import TRIALS_FOLDER
from analysis.seeds import SEEDS
from mergenet.records.sealed import read_record, write_record
from sweeps.tracking.wandb_mirror import Mirror
from tests.sweeps.base import CONV
from tests.sweeps.wandb_base import begin, end, epochs, play, record

TRANSFER = {"t_cycle": 2, "pairs": [CONV], "adapter": {"rank": 4}}
NONE: dict[str, Any] = {"method": "none"}
# job, role, seed, epochs, state, changes
JOBS: list[tuple[str, str, int, int, str, dict[str, Any]]] = [
    ("trial-000", "trial", 0, 3, "complete", {}),
    ("trial-001", "trial", 0, 2, "pruned", {"transfer": TRANSFER | {"t_cycle": 4}}),
    ("trial-002", "trial", 0, 1, "failed", {}),
    ("baseline", "baseline", 0, 3, "complete", NONE),
    ("confirm-best-1", "confirm_best", 7, 3, "complete", {}),
    ("confirm-best-2", "confirm_best", 8, 3, "complete", {}),
    ("confirm-none-1", "confirm_none", 7, 2, "complete", NONE),
    ("confirm-none-2", "confirm_none", 8, 1, "complete", NONE),
]


def record_sweep(folder: Path) -> None:
    """All the records of its jobs."""
    for job, role, seed, last, state, changes in JOBS:
        record(folder, job, last, state, role, seed, **changes)
        if state == "failed":
            trial = read_record(folder / TRIALS_FOLDER / job / "trial.json")
            write_record(folder / TRIALS_FOLDER / job / "trial.json", trial | {"error": "it broke"})
        if state != "complete":
            result = {"status": "stopped", "error": None, "epochs_done": last, "best_epoch": last}
            write_record(folder / TRIALS_FOLDER / job / "result.json", result | {"metric": "target_val_top1"})


def mirror_sweep(mirror: Mirror) -> None:
    """All the events of its jobs."""
    for job, role, seed, last, state, changes in JOBS:
        error = "it broke" if state == "failed" else None
        play(mirror, job, *begin(seed, **changes), *epochs(1, last), end(state, error), role=role)
    mirror.close()


def same_but_places(table: pd.DataFrame, other: pd.DataFrame) -> None:
    """The columns, their types and all values, but for where a run lies."""
    pd.testing.assert_frame_equal(table.drop(columns="folder"), other.drop(columns="folder"))
    assert SEEDS not in table.columns or table[SEEDS].equals(other[SEEDS])
