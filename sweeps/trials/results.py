"""The results of a sweep, read from the records of its runs: trials, the best trial, the confirmation."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from analysis.measures import broken
from analysis.names import (
    BASELINE,
    COMPLETE,
    CONFIRM_ADAPTER,
    CONFIRM_BEST,
    CONFIRM_NONE,
    CONTROL_OF,
    FAILED,
    REPLICATE,
    TRIAL,
    TRIALS_FOLDER,
    best_first,
    mode_of,
)
from analysis.report.verdict import as_gain
from analysis.seeds import SD, SEEDS, combined, failure, first_of, is_replicate, last_run, mean_and_sd
from analysis.trial_file import ended_trial, read_outcome, state_of, trial_folders
from mergenet.errors import CheckpointError
from mergenet.records.run_record import (
    ADAPTER_PARAMETERS,
    CONFIG_FILE,
    FINISHED,
    METRIC,
    STATUS,
    RunRecord,
    best_row,
    is_value,
    read_epochs,
    read_trained,
    test_column,
)
from sweeps.config import SweepConfig
from sweeps.trials.objectives import breaks, measured
from sweeps.trials.record import best_value, mean

Sides = dict[str, dict[int, dict[str, Any]]]  # role -> seed -> trial that trained to its end


def read_trial(folder: Path, sweep: SweepConfig) -> dict[str, Any]:
    """trial.json with epochs, the best value by validation (None if it never reported, or failed) and the test metrics.

    measured: the sweep's other measures; broken: the constraints that it breaks. adapter_parameters: 0 without an
    adapter. Raises UserError if a record is damaged.
    """
    trial, rows, result = read_outcome(folder)
    assert trial is not None, folder
    if not (folder / CONFIG_FILE).is_file():  # failed before its run began
        nothing: dict[str, Any] = {"epochs": 0, "value": None, "finished": False, "test": {}}
        return trial | nothing | {"measured": {}, "broken": [], ADAPTER_PARAMETERS: 0}
    test = {name: value for name, value in result.items() if name.startswith("target_test_")}
    value = None if trial["state"] == FAILED or not kept_value(rows, result) else best_value(rows, sweep.objective)
    found = {"epochs": len(rows), "value": value, "finished": result[STATUS] == FINISHED}
    asked = {"measured": measured(sweep, [rows]), "broken": breaks(sweep, [rows])}
    parameters = {ADAPTER_PARAMETERS: rows[-1].get(ADAPTER_PARAMETERS, 0) if rows else 0}
    return trial | found | {"test": test} | asked | parameters


def kept_value(rows: list[dict[str, Any]], result: dict[str, Any]) -> bool:
    """Whether the epoch whose weights a run kept has a finite metric: earlier ones kept the first, NaN or not."""
    kept = best_row(rows, result)
    return not kept or result[METRIC] not in kept or is_value(kept[result[METRIC]])


def read_trials(folder: Path, sweep: SweepConfig, role: str) -> list[dict[str, Any]]:
    """All jobs of a role, by number; those with several seeds as the mean of their runs, see `averaged`."""
    runs = [read_trial(run, sweep) for run in trial_folders(folder)]
    others: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        if is_replicate(run["trial_id"]):
            others.setdefault(first_of(run["trial_id"]), []).append(run)
    trials = [averaged(run, others.get(run["trial_id"], []), sweep) for run in runs if run["role"] == role]
    return sorted(trials, key=lambda t: t["number"])


def averaged(first: dict[str, Any], others: list[dict[str, Any]], sweep: SweepConfig) -> dict[str, Any]:
    """A trial from its runs; from the first alone if that was stopped early, or if there is only one seed.

    values: of the seeds that value is the mean of; none if a seed is missing, because it failed or is still to train.
    """
    if SEEDS not in first:
        return first
    if first["state"] != COMPLETE:
        return first | {"values": [] if first["value"] is None else [first["value"]], SD: None, "finished": False}
    runs = [first, *sorted(others, key=lambda run: first[SEEDS].index(run["seed"]))]
    state = combined([run["state"] for run in runs], len(first[SEEDS]))
    whole = state == COMPLETE and all(run["finished"] for run in runs)
    found: dict[str, Any] = {"state": state, "finished": whole, "error": failure(others), "test": {}}
    value = mean([run["value"] for run in runs]) if whole else None
    if value is None:
        return first | found | {"value": None, "values": [], SD: None}
    values = [run["value"] for run in runs]
    tests = {name: float(np.mean([run["test"][name] for run in runs])) for name in first["test"]}
    means = {name: mean([run["measured"][name] for run in runs]) for name in first["measured"]}
    asked = {"measured": means, "broken": broken(sweep.bounds, means | {sweep.objective: value})}
    return first | found | {"value": value, "values": values, SD: mean_and_sd(values)[1], "test": tests} | asked


def ended_runs(folder: Path) -> dict[str, tuple[str, list[dict[str, Any]]]]:
    """Runs of the search that have ended, each seed one: name -> state, epochs. Unreadable ones are left out."""
    found = {}
    for run in trial_folders(folder):
        trial = None if run.name.startswith(BASELINE) else ended_trial(run)
        if trial is not None and trial["role"] in (TRIAL, REPLICATE):
            with suppress(CheckpointError):  # torn: the run itself will report it
                found[run.name] = (trial["state"], read_epochs(run))
    return found


def failed_runs(folder: Path) -> list[str]:
    """The names of all runs that have failed, of whatever role."""
    return [run.name for run in trial_folders(folder) if state_of(run) == FAILED]


def best_trial(trials: list[dict[str, Any]], metric: str) -> dict[str, Any] | None:
    """The best of the trials that trained to their end and break no constraint, in the order of `best_first`."""
    done = [t for t in trials if t["finished"] and t["value"] is not None and not t.get("broken")]

    def key(trial: dict[str, Any]) -> tuple[float, float, int]:
        return best_first(trial["value"], mode_of(metric), trial[ADAPTER_PARAMETERS], trial["number"])

    return min(done, key=key, default=None)


def best_record(folder: Path, trial: dict[str, Any]) -> RunRecord:
    """Of a trial whose configuration is to train again: of its last seed, so that later ones have not chosen it.

    Raises CheckpointError if it was edited since it trained.
    """
    count = len(trial.get(SEEDS, ())) if trial.get("finished") else 1
    return read_trained(last_run(folder / TRIALS_FOLDER / trial["trial_id"], count))


def confirmation(folder: Path, sweep: SweepConfig) -> dict[str, Any] | None:
    """Paired values of the seeds for which both sides trained to their end, and the gain in each metric.

    The gain is best minus no transfer, whatever the direction of the metric. None if no pair is whole: a run without a
    finite value has none, see `without_value`.
    controls: of each control that was trained, `paired_control`; adapter: `paired_adapter`, of the one that was trained
    over adapter_seeds. Both are missing without such runs.
    """
    runs = {role: {t["seed"]: t for t in read_trials(folder, sweep, role)} for role in sweep.confirm_roles}
    sides = {role: {seed: t for seed, t in found.items() if has_values(t, sweep)} for role, found in runs.items()}
    seeds = sorted(sides[CONFIRM_BEST].keys() & sides[CONFIRM_NONE].keys())
    if not seeds:
        return None
    out: dict[str, Any] = {"seeds": seeds}
    for metric in (sweep.objective, test_column(sweep.objective)):
        best, none = (values_of(sides[role], seeds, metric, sweep) for role in (CONFIRM_BEST, CONFIRM_NONE))
        out[metric] = {"best": best, "none": none, "gain": gain(best, none)}
    trained = {control: role for role, control in CONTROL_OF.items() if runs.get(role)}
    controls = {control: paired_control(sides, role, seeds, sweep) for control, role in trained.items()}
    adapter = {"adapter": paired_adapter(sides, seeds, sweep)} if runs.get(CONFIRM_ADAPTER) else {}
    return out | ({"controls": controls} if controls else {}) | adapter


def has_values(trial: dict[str, Any], sweep: SweepConfig) -> bool:
    """Whether a confirmation trained to its end, and has a finite value on both splits."""
    test = trial["test"].get(test_column(sweep.objective))
    return bool(trial["finished"] and is_value(trial["value"]) and is_value(test))


def without_value(folder: Path, sweep: SweepConfig) -> list[str]:
    """The confirmations that trained to their end and have no finite value on a split, so that they pair with none."""
    trials = [trial for role in sweep.confirm_roles for trial in read_trials(folder, sweep, role)]
    return [trial["trial_id"] for trial in trials if trial["finished"] and not has_values(trial, sweep)]


def paired_control(sides: Sides, role: str, seeds: list[int], sweep: SweepConfig) -> dict[str, Any]:
    """The values of a control, paired by seed with no transfer (gain) and with the best (best_minus_control).

    seeds: for which the other two are there; in the result those of them that the control trained to its end with, and
    nothing more if there is none.
    """
    seeds = [seed for seed in seeds if seed in sides[role]]
    out: dict[str, Any] = {"seeds": seeds}
    for metric, best, none, control in beside_both(sides, role, seeds, sweep):
        out[metric] = {"control": control, "gain": gain(control, none), "best_minus_control": gain(best, control)}
    return out


def paired_adapter(sides: Sides, seeds: list[int], sweep: SweepConfig) -> dict[str, Any]:
    """The same for the best configuration with the trained adapter, minus no transfer (gain) and minus the best."""
    seeds = [seed for seed in seeds if seed in sides[CONFIRM_ADAPTER]]
    out: dict[str, Any] = {"seeds": seeds}
    for metric, best, none, trained in beside_both(sides, CONFIRM_ADAPTER, seeds, sweep):
        out[metric] = {"adapter": trained, "gain": gain(trained, none), "minus_best": gain(trained, best)}
    return out


def beside_both(
    sides: Sides, role: str, seeds: list[int], sweep: SweepConfig
) -> Iterator[tuple[str, list[float], list[float], list[float]]]:
    """Metric, and the values of the best, of no transfer and of the role; nothing without seeds."""
    for metric in (sweep.objective, test_column(sweep.objective)) if seeds else ():
        best, none, values = (values_of(sides[one], seeds, metric, sweep) for one in (CONFIRM_BEST, CONFIRM_NONE, role))
        yield metric, best, none, values


def gain(best: list[float], none: list[float]) -> dict[str, Any]:
    from analysis.statistics.paired_tests import paired_difference  # pandas and SciPy: at the end of a sweep

    return as_gain(paired_difference(np.array(best), np.array(none)))


def values_of(side: dict[int, dict[str, Any]], seeds: list[int], metric: str, sweep: SweepConfig) -> list[float]:
    trials = [side[seed] for seed in seeds]
    return [float(trial["value"] if metric == sweep.objective else trial["test"][metric]) for trial in trials]
