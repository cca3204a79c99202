"""Values by source and target layer, and the trials that no other beats in value and cost."""

import copy
from typing import Any

import numpy as np
import pandas as pd

from analysis.importance.search import COST, Search
from mergenet.config.loading import set_by_path
from mergenet.config.pair_labels import are_pairs, pairs_of
from mergenet.errors import UserError, unknown_name

PAIRS = "transfer.pairs"


def layer_pairs(search: Search) -> pd.DataFrame:
    """Columns: source, target, n (trials with a value that have the pair), mean, best (of their values), best first.

    A trial of several pairs counts for each of them. Raises UserError if the sweep did not search its pairs.
    """
    paths = [path for path in search.parameters if path == PAIRS or path.startswith(f"{PAIRS}.")]
    if not paths:
        raise UserError(f"{PAIRS} must be searched for values by layer pair, and it is not")
    rows = [
        (pair["source"], pair["target"], row["value"])
        for _, row in search.used.iterrows()
        for pair in _pairs(search, {path: row[path] for path in paths if row[path] is not None})
    ]
    if not rows:
        raise UserError(f"{PAIRS} must be written out in the trials for values by layer pair, and are not")
    found = pd.DataFrame(rows, columns=["source", "target", "value"]).groupby(["source", "target"], sort=False)["value"]
    best = found.max() if search.sign > 0 else found.min()
    table = pd.DataFrame({"n": found.size(), "mean": found.mean(), "best": best}).reset_index()
    return table.sort_values("mean", ascending=search.sign < 0, kind="stable", ignore_index=True)


def _pairs(search: Search, drawn: dict[str, Any]) -> list[dict[str, Any]]:
    """The pairs of a trial: the base's with what it drew, the whole list before what lies inside; [] if not written."""
    base = search.base.get("transfer", {}).get("pairs") if isinstance(search.base, dict) else None
    values: dict[str, Any] = {"transfer": {"pairs": copy.deepcopy(base)}}
    try:
        for path in sorted(drawn, key=len):
            set_by_path(values, path, pairs_of(drawn[path]))
    except ValueError:  # a name that no label can hold
        return []
    found = values["transfer"]["pairs"]
    return list(found) if are_pairs(found) else []


def pareto(search: Search, cost: str = COST[0]) -> pd.DataFrame:
    """The trials with a value and a cost, cheapest first: trial, value, the cost, front.

    cost: one of COST, of the machine that trained. front: no other trial is as good at a lower cost, or better at no
    higher one. Raises UserError for another cost, or if no trial has it.
    """
    if cost not in COST:
        raise UserError(unknown_name("cost", cost, COST))
    table = search.used[["trial", "value", cost]].dropna().copy()
    if table.empty:
        raise UserError(
            f"cost must be one that trials with a value have, got {cost}, which none of {len(search.used)} has"
        )
    table["goal"] = search.sign * table["value"]
    table = table.sort_values([cost, "goal"], ascending=[True, False], kind="stable", ignore_index=True)
    goal = table.pop("goal").to_numpy(dtype=float)
    table["front"] = goal > np.concatenate([[-np.inf], np.maximum.accumulate(goal)[:-1]])
    table["front"] = table.groupby([cost, "value"])["front"].transform("any")  # of equals none is beaten
    return table
