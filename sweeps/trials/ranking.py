"""The leaderboard so far, from the states and epochs of runs: for the live view and for `sweep status`."""

from collections.abc import Mapping
from typing import Any

from analysis.measures import Rows, measure
from analysis.names import BASELINE, COMPLETE, FAILED, TRIAL, best_first, mode_of
from analysis.seeds import combined, first_of
from mergenet.records.run_record import ADAPTER_PARAMETERS
from sweeps.trials.record import best_value, mean


def trial_states(states: Mapping[str, str], count: int) -> dict[str, str]:
    """The state of each trial, and of no transfer, from those of its runs. count: seeds per trial."""
    groups: dict[str, list[str]] = {name: [name] for name in states if first_of(name) == name}
    for name in states:
        if (first := first_of(name)) != name and first in groups:
            groups[first].append(name)
    return {first: combined([states[name] for name in names], count) for first, names in groups.items()}


def leader(runs: Mapping[str, Rows], states: Mapping[str, str], metric: str, count: int) -> dict[str, Any] | None:
    """The best trial so far, and its lead over no transfer; None if no trial has a value.

    runs: the epochs of each run, by name. With one seed a trial all but failed trials count, and the lead is over as
    many epochs as the trial has; None until the baseline has trained them. With several seeds only means count, those
    of whole trials.
    """
    if count == 1:
        return _leader({name: rows for name, rows in runs.items() if states.get(name) != FAILED}, metric)
    whole = [name for name, state in trial_states(states, count).items() if state == COMPLETE]
    means = {name: found for name in whole if (found := mean_of(runs, name, metric)) is not None}
    baseline = means.get(BASELINE)
    trials = {name: value for name, value in means.items() if name.startswith(TRIAL)}
    if not trials:
        return None
    best = _first(trials, runs, metric)
    lead = None if baseline is None else trials[best] - baseline
    return {"trial": best, "value": trials[best], "epochs": len(runs[best]), "lead": lead, "seeds": count}


def mean_of(runs: Mapping[str, Rows], trial: str, metric: str) -> float | None:
    """The mean over the runs of a whole trial; None if one has no value."""
    return mean([best_value(rows, metric) for name, rows in runs.items() if first_of(name) == trial])


def _leader(runs: Mapping[str, Rows], metric: str) -> dict[str, Any] | None:
    values = {job: best_value(rows, metric) for job, rows in runs.items() if job.startswith(TRIAL)}
    known = {job: value for job, value in values.items() if value is not None}
    if not known:
        return None
    best, baseline = _first(known, runs, metric), runs.get(BASELINE, [])
    epochs = len(runs[best])
    other = best_value(baseline[:epochs], metric) if len(baseline) >= epochs else None
    lead = None if other is None else known[best] - other
    return {"trial": best, "value": known[best], "epochs": epochs, "lead": lead}


def _first(values: Mapping[str, float], runs: Mapping[str, Rows], metric: str) -> str:
    """In the order of `best_first`. values: by trial."""

    def key(trial: str) -> tuple[float, float, int, str]:
        parameters = measure(ADAPTER_PARAMETERS, runs[trial], metric) or 0
        # by number: trial-1000 after trial-999
        return *best_first(values[trial], mode_of(metric), parameters, len(trial)), trial

    return min(values, key=key)
