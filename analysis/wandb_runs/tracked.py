"""A run of a sweep as W&B knows it, from its server or from a file, and what its configuration and summary are called.

Written by sweeps/tracking/wandb_about.py, read by folder.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SUMMARY_ROLE = "summary"  # of the run of the whole sweep
INTERRUPTED = "interrupted"  # a state in W&B's summary: the run continues with its sweep
OWN_NOTES = "Of the sweep "  # what our notes begin with
# keys of a run's configuration; all others are searched settings
TRIAL_ID, ROLE, NUMBER, SEED, METHOD, METRIC = "trial_id", "role", "number", "seed", "method", "metric"
VARIANT, SEARCHED, SUMMARY_RUN, CONSTRAINTS = "variant", "searched", "summary_run", "constraints"
NUM_SEEDS, CONFIG_HASH, REPLICATE_OF = "num_seeds", "config_hash", "replicate_of"
SWEEP_ID = "sweep_id"  # random, that of sweep.json: two sweeps may have one name
KEYS = {
    *(TRIAL_ID, ROLE, NUMBER, SEED, METHOD, METRIC, VARIANT, SEARCHED, SUMMARY_RUN, CONSTRAINTS),
    *(NUM_SEEDS, CONFIG_HASH, REPLICATE_OF, SWEEP_ID),
}
# states of W&B
RUNNING, FINISHED, FAILED, CRASHED, PREEMPTED = "running", "finished", "failed", "crashed", "preempted"

NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}  # as W&B writes them


@dataclass
class TrackedRun:
    """id: what it was opened with; name: shown on W&B, where it can be changed. rows: what was logged, in order.

    state: W&B's own. place: its URL, or its file.
    """

    id: str
    name: str
    state: str
    place: str
    group: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)


def number(value: Any) -> Any:
    """A value of a row or a summary; a number that is not finite comes as a text."""
    return NOT_FINITE.get(value, value) if isinstance(value, str) else value


def whole(value: Any) -> int | None:
    """A whole number, which may come as 3.0; None of anything else."""
    return int(value) if isinstance(value, int | float) and math.isfinite(value) and value == int(value) else None


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row, without what W&B adds, whose names begin with an underscore."""
    found = {name: number(value) for name, value in values.items() if not name.startswith("_")}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}
