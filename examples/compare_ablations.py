"""Runs that are finished, compared in pairs: the same seeds with and without a change. Needs neither torch nor Ray.

    python examples/train.py runs/example
    python examples/compare_ablations.py runs/example [MORE FOLDERS]

Prints the gain of transfer over no transfer, over each control, and what so few seeds can show.
"""

import sys
from pathlib import Path

import pandas as pd

from analysis.statistics.paired_tests import PairedDifference, paired_gain
from analysis.tables.load import load_trials

METRIC = "target_test_top1"


def variants(folders: list[Path]) -> pd.DataFrame:
    """One finished run a row; its variant is no transfer, or the control with which it trained."""
    runs = pd.concat([load_trials(folder) for folder in folders], ignore_index=True)
    runs = runs[runs["state"] == "complete"]
    control = runs.get("transfer.control", pd.Series("real", index=runs.index)).fillna("real")
    return runs.assign(variant=control.where(runs["method"] == "mergenet", runs["method"]))


def line(name: str, found: PairedDifference) -> str:
    low, high = found.interval
    points = f"{100 * found.mean:+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}]"
    return f"{name}  {points}  p {found.p_value:.3g}  {found.num_seeds} seeds  {found.note}".rstrip()


def main(folders: list[Path]) -> None:
    runs = variants(folders)
    print(runs.groupby("variant")[METRIC].agg(["mean", "count"]).to_string(float_format="{:.4f}".format))
    for baseline in ("none", "shuffled", "noise"):
        if (runs["variant"] == baseline).any():
            print(line(f"real minus {baseline}", paired_gain(runs, baseline, "real", METRIC)))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:] or ["runs/example"]])
