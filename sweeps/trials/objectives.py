"""What a sweep measures beside the metric: further objectives, constraints, and the Pareto front."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analysis.measures import STEP_SECONDS, Rows, broken, measure
from analysis.names import TRIAL
from analysis.seeds import first_of
from mergenet.errors import ConfigError, unknown_name
from mergenet.records.run_record import ADAPTER_PARAMETERS, is_metric
from sweeps.config import SweepConfig
from sweeps.trials.record import CurvePoint, best_value, mean

if TYPE_CHECKING:
    import numpy as np

Measured = Mapping[str, float | None]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended, by its records.

    state: of its trial.json. rows: the metric so far, epoch by epoch. value: the final one. measured: the sweep's
    other measures at the end.
    """

    state: str
    rows: list[CurvePoint]
    value: float | None
    measured: Measured = field(default_factory=dict)


def asked(sweep: SweepConfig) -> list[str]:
    """The measures of each trial beside the metric."""
    return [name for name in dict.fromkeys((*sweep.minimize, *sweep.constraints)) if name != sweep.metric]


def measured(sweep: SweepConfig, runs: Sequence[Rows]) -> dict[str, float | None]:
    """The sweep's measures after these epochs of a trial: of its run, or the mean over those of its seeds."""
    return {name: mean([measure(name, rows, sweep.objective) for rows in runs]) for name in asked(sweep)}


def values_of(sweep: SweepConfig, value: float | None, found: Measured) -> list[float] | None:
    """The objectives of a trial; None if one of them, or a constrained measure, is missing or no number."""
    needed = [value, *(found.get(name) for name in asked(sweep))]
    if not all(number is not None and math.isfinite(number) for number in needed):
        return None
    every = {**found, sweep.objective: value}
    return [float(number) for name in sweep.objectives if (number := every[name]) is not None]


def breaks(sweep: SweepConfig, runs: Sequence[Rows]) -> list[str]:
    """The constraints that a trial breaks as far as its runs have trained."""
    value = mean([best_value(rows, sweep.objective) for rows in runs])
    return broken(sweep.bounds, measured(sweep, runs) | {sweep.objective: value})


def feasible(sweep: SweepConfig, runs: Mapping[str, Rows]) -> dict[str, Rows]:
    """The runs, without those of trials that break a constraint. runs: the epochs of each, by name."""
    if not sweep.bounds:
        return dict(runs)
    groups: dict[str, list[Rows]] = {}
    for name, rows in runs.items():
        groups.setdefault(first_of(name), []).append(rows)
    out = {first for first, found in groups.items() if first.startswith(TRIAL) and breaks(sweep, found)}
    return {name: rows for name, rows in runs.items() if first_of(name) not in out}


def pareto_front(sweep: SweepConfig, trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """{"trial_id", "values" by objective} of the trials that no other beats in all objectives, best metric first.

    trials: of results.py. Only those that trained to their end and break no constraint take part.
    """
    whole = [trial for trial in trials if trial["finished"] and not trial["broken"]]
    found = [(t, values) for t in whole if (values := values_of(sweep, t["value"], t["measured"])) is not None]
    if not found:
        return []
    import numpy as np  # here, because `sweep status` needs the rest of this file, and is to answer at once

    signs = np.array([-1.0 if mode == "max" else 1.0 for mode in sweep.modes])
    points = signs * np.array([values for _, values in found])
    kept = [i for i, point in enumerate(points) if not beaten(point, points)]
    kept.sort(key=lambda i: (*points[i], found[i][0]["number"]))
    return [
        {"trial_id": found[i][0]["trial_id"], "values": dict(zip(sweep.objectives, found[i][1], strict=True))}
        for i in kept
    ]


def beaten(point: "np.ndarray", points: "np.ndarray") -> bool:
    """Whether the point is dominated: another one is nowhere larger and somewhere smaller."""
    return bool(((points <= point).all(axis=1) & (points < point).any(axis=1)).any())


def infeasible(trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the complete trials: how many break a constraint, and how many break which."""
    whole = [trial for trial in trials if trial["finished"]]
    rules = Counter(rule for trial in whole for rule in trial["broken"])
    return {"complete": len(whole), "infeasible": sum(bool(t["broken"]) for t in whole), "rules": dict(rules)}


def infeasible_text(found: Mapping[str, Any]) -> str:
    """What `infeasible` found, as text."""
    rules = "; ".join(f"{rule}: {number}" for rule, number in found["rules"].items())
    count = f"{found['infeasible']} of {found['complete']} complete trials"
    return f"{count} break a constraint ({rules})" if rules else f"{count} break a constraint"


def check_constraints(sweep: SweepConfig) -> None:
    """Raises ConfigError for a metric that does not select the best epoch, and for a bound that no trial can keep."""
    known = list(dict.fromkeys(("adapter_parameters", "step_seconds", "target_val_loss", sweep.objective)))
    for name in sweep.constraints:
        if name not in known:
            raise ConfigError(unknown_name("the name of a constraint", name, known))
    for name, sides in sweep.bounds.items():
        for side, limit in sides.items():
            if limit is None:
                continue
            if name == sweep.objective and is_metric(name) and not 0 <= limit <= 1:
                percent = f"; {limit:g} % is {limit / 100:g}" if 1 < limit <= 100 else ""
                raise ConfigError(f"constraints.{name}.{side} must be a fraction from 0 to 1, got {limit:g}{percent}")
            if name in (ADAPTER_PARAMETERS, STEP_SECONDS) and side == "max" and limit < 0:
                raise ConfigError(f"constraints.{name}.max must be 0 or more, got {limit:g}")
