"""`mergenet sweep status DIR`: the status of a sweep, from its folder alone, with or without its driver."""

import fcntl
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from analysis.measures import PHASES, STEP_SECONDS, Rows
from analysis.names import ADAPTER, FAILED, RUNNING, SOURCE, SWEEP_FILE, TRIAL, TRIALS_FOLDER, mode_of
from analysis.report.verdict import controls_verdict, gain_text, label, verdict
from analysis.sweep_file import edited_settings
from analysis.trial_file import TRIAL_FILE, folders_in, read_parts
from mergenet.config.loading import load_config
from mergenet.errors import ConfigError, UserError
from mergenet.records.many_runs import Reader, read_many
from mergenet.records.quick.columns import Columns
from mergenet.records.run_record import (
    ADAPTER_PARAMETERS,
    EPOCH,
    EPOCHS_DONE,
    EPOCHS_FILE,
    FINISHED,
    METRIC,
    PROVENANCE_FILE,
    RECORDING_FILE,
    RESULT_FILE,
    STEP,
    read_columns,
    read_provenance,
    test_column,
)
from sweeps.config import SweepConfig
from sweeps.config.loading import load_sweep
from sweeps.planning.epochs import forecast
from sweeps.report.wording import best_text, clock
from sweeps.trials.budget import HOUR, SEARCH, budget_facts, budget_line, is_spent
from sweeps.trials.files import (
    STATE_FILE,
    SUMMARY_FILE,
    read_state,
    read_summary,
    state_problem,
    summary_problem,
)
from sweeps.trials.objectives import asked, feasible
from sweeps.trials.ranking import leader, trial_states
from sweeps.trials.sweep_dir import (
    BASE_FILE,
    LOCK_FILE,
    SWEEP_FILES,
    check_metric,
    holds_sweep,
    how_to_begin,
    resume_command,
    shown_path,
    status_of,
)

KILLED, UNFINISHED, WAITING, DAMAGED = "killed", "unfinished", "waiting", "damaged"
TRAINING = (SOURCE, SEARCH, "confirm")  # steps in which epochs are trained


def read_status(folder: Path) -> dict[str, Any]:
    """All facts of a sweep. Raises ConfigError if the folder holds no sweep. Writes nothing and disturbs no driver."""
    if not holds_sweep(folder):
        raise ConfigError(
            f"{str(folder)!r} must be a sweep folder, with {SWEEP_FILES}, to have a status; {how_to_begin(folder)}"
        )
    state, alive = read_state(folder), is_locked(folder)
    sweep = within_space(load_sweep(str(folder / SWEEP_FILE)), state)
    status = KILLED if status_of(folder) == RUNNING and not alive else status_of(folder)
    check_metric(sweep, folder)
    runs, states, damaged = read_runs(folder, columns_of(sweep))
    summary = read_summary(folder)
    if (problem := state_problem(folder)) is not None:
        damaged[STATE_FILE] = problem
    if status == FINISHED and (problem := summary_problem(folder)) is not None:
        damaged[SUMMARY_FILE] = problem
    trials = {name: rows for name, rows in runs.items() if name.startswith(TRIAL)}
    searched = state.get("seconds", {}).get(SEARCH, 0.0), sum(map(len, trials.values()))
    return {
        "name": sweep.name,
        "folder": str(shown_path(folder)),
        "status": status,
        "error": state.get("error"),
        "driver": alive,
        "metric": sweep.metric,
        "trials": count_states(folder, sweep, states, alive, is_spent(sweep, *searched)),
        "damaged": damaged,
        "edited": edited_settings(folder),
        "failed": [name for name, state in states.items() if state == FAILED],
        "best": leader(feasible(sweep, runs), states, sweep.objective, sweep.seeds_per_trial),
        "confirmation": summary.get("confirmation") if status == FINISHED else None,
        "budget": budget_facts(sweep, *searched),
        **progress(folder, sweep, state, {name: len(rows) for name, rows in runs.items()}),
    }


def within_space(sweep: SweepConfig, state: dict[str, Any]) -> SweepConfig:
    """The sweep with no more trials than its space holds, where that was fewer than asked for at its last start."""
    trials = state.get("num_trials") or {"asked": 0, "held": 0}
    if trials["held"] >= trials["asked"]:
        return sweep
    return sweep.model_copy(update={"num_trials": min(sweep.num_trials, trials["held"])})


def is_locked(folder: Path) -> bool:
    """Whether a driver holds the folder. This takes a shared lock for microseconds; a driver then retries."""
    try:
        with (folder / LOCK_FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:  # never run, or a file system without locks
        return False


def columns_of(sweep: SweepConfig) -> tuple[str, ...]:
    """Those of all epochs that a status goes by: the objective and what else the sweep measures."""
    names = asked(sweep)
    steps = (STEP, *PHASES) if STEP_SECONDS in names else ()
    return tuple(dict.fromkeys((sweep.objective, *names, *steps)))


def read_runs(folder: Path, columns: Sequence[str]) -> tuple[dict[str, Rows], dict[str, str], dict[str, str]]:
    """The epochs and the state of each run, by name, and of those that are damaged the reason: they have no epochs.

    Of the epochs only these columns, the first of which is the objective, and of the last one the number of parameters
    of the adapters; of trials that selected by the objective only the best epoch's, where no time of a step is asked.
    """
    paths = folders_in(folder / TRIALS_FOLDER)
    found = dict(zip((path.name for path in paths), read_many(paths, reader(columns)), strict=True)) if paths else {}
    damaged = {name: str(run) for name, run in found.items() if isinstance(run, UserError)}
    whole = {name: run for name, run in found.items() if name not in damaged}
    states = {name: DAMAGED if name in damaged else str(run[0]) for name, run in found.items()}
    runs: dict[str, Rows] = {name: rows_of(columns, *run[1:]) for name, run in whole.items()}
    runs |= {name: [] for name in damaged}
    return runs, states, damaged


def reader(columns: Sequence[str]) -> Reader:
    """Reads a run's state, and of its epochs what `rows_of` makes rows of."""

    def read(path: Path) -> list[Any]:
        trial, epochs, _ = read_parts(path, partial(needed, columns=columns))
        if (path / PROVENANCE_FILE).exists():
            read_provenance(path)
        state = RUNNING if trial is None else trial["state"]
        values = [epochs.values[name] for name in columns]
        return [state, len(epochs), epochs.best.get(EPOCH, 1), values, epochs.last.get(ADAPTER_PARAMETERS)]

    return Reader(
        read,
        (TRIAL_FILE, RESULT_FILE, EPOCHS_FILE, PROVENANCE_FILE),
        f"status ({', '.join(columns)})",
        ("analysis", "sweeps.report"),
    )


def needed(run: Path, result: dict[str, Any], columns: Sequence[str]) -> Columns:
    """The columns of a run, or the best epoch's values alone, see `read_runs`."""
    by_objective = run.name.startswith(TRIAL) and result[METRIC] in columns[:1] and STEP not in columns
    epochs = read_columns(run, result, () if by_objective else columns)
    if by_objective and len(epochs) != result[EPOCHS_DONE]:  # the best may be one that result.json does not know yet
        return read_columns(run, result, columns)
    return replace(epochs, values={name: [epochs.best.get(name)] for name in columns}) if by_objective else epochs


def rows_of(
    columns: Sequence[str], count: int, best: int, values: Sequence[Sequence[Any]], parameters: float | None
) -> Rows:
    """The values by epoch again, those of each or those of the best epoch, without what is missing."""
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, column in zip(columns, values, strict=True):
        for row, value in zip(rows if len(column) == count else rows[best - 1 :], column, strict=False):
            if value is not None:
                row[name] = value
    if rows and parameters is not None:
        rows[-1][ADAPTER_PARAMETERS] = parameters
    return rows


def count_states(folder: Path, sweep: SweepConfig, runs: dict[str, str], alive: bool, spent: bool) -> dict[str, int]:
    """Number of trials by state. Those that have not ended are running, or unfinished if no driver runs.

    spent: whether the budget of the search is, so that no more trials begin.
    """
    trials = trial_states(
        {name: state for name, state in runs.items() if name.startswith(TRIAL)}, sweep.seeds_per_trial
    )
    counts = Counter(trials.values())
    if not alive and RUNNING in counts:
        counts[UNFINISHED] = counts.pop(RUNNING)
    if len(trials) < sweep.num_trials and not spent and not read_summary(folder):
        counts[WAITING] = sweep.num_trials - len(trials)
    return dict(counts)


def progress(folder: Path, sweep: SweepConfig, state: dict[str, Any], epochs: dict[str, int]) -> dict[str, Any]:
    """epochs_done and epochs_expected of all runs, their rate, and seconds_left; None where unknown."""
    recorded = bool(state.get("source", {}).get("recorded"))
    of_a_run = load_config(str(folder / BASE_FILE)).epochs
    planned = forecast(sweep, of_a_run, recorded)
    searching = not any(name.startswith((f"{ADAPTER}-", "confirm-")) for name in epochs)
    searched = sum(count for name, count in epochs.items() if name.startswith(TRIAL))
    finished = state.get("status") == FINISHED  # then the recording may have been pruned
    whole = finished or (folder / SOURCE / RECORDING_FILE).is_file()  # written last
    files = (folder / SOURCE).glob("epoch-*.safetensors")
    source = (of_a_run if whole else len(list(files))) if recorded else 0
    done = sum(epochs.values()) + source
    seconds = state.get("seconds", {})
    search = max(planned.search, searched) if searching else searched
    if searching and sweep.budget_hours is not None and seconds.get(SEARCH):
        search = max(searched, min(search, searched * sweep.budget_hours * HOUR / seconds[SEARCH]))
    expected = planned.source + planned.baseline + search + planned.confirmation
    spent = sum(seconds.get(step, 0.0) for step in TRAINING)
    rate = done / spent if spent > 0 and done else None
    left = 0.0 if finished else None if rate is None else max(0.0, expected - done) / rate
    return {
        "epochs_done": done,
        "epochs_expected": done if finished else round(expected),
        "epochs_per_minute": None if rate is None else round(60 * rate, 2),
        "seconds_spent": round(sum(seconds.values()), 1),
        "seconds_left": None if left is None else round(left),
        "written": state.get("written"),
    }


def status_lines(found: dict[str, Any]) -> Iterator[str]:
    """The facts as lines of text."""
    metric, driver = found["metric"], "a driver is at work" if found["driver"] else "no driver"
    yield f"sweep {found['name']} in {found['folder']}: {found['status']} ({driver})"
    if found["error"]:
        yield f"  {found['error']}"
    yield f"trials: {', '.join(f'{number} {state}' for state, number in sorted(found['trials'].items())) or 'none yet'}"
    for reason in found["damaged"].values():
        yield f"damaged, and left out: {reason}"
    yield from found["edited"]
    yield best_text(found["best"], metric)
    if found["confirmation"] is not None:
        gain = found["confirmation"][metric]["gain"]
        yield f"confirmed on fresh seeds: {gain_text(metric, gain)}; {verdict(gain, mode_of(metric))}"
        if (line := controls_verdict(found["confirmation"], test_column(metric))) is not None:
            yield f"  {label(test_column(metric))}, {line}"
    if found["budget"] is not None:
        yield budget_line(found["budget"])
    left = "unknown" if found["seconds_left"] is None else f"about {clock(found['seconds_left'])}"
    rate = "" if found["epochs_per_minute"] is None else f", {rate_text(found['epochs_per_minute'])}"
    epochs = f"{found['epochs_done']} of about {found['epochs_expected']}{rate}"
    yield f"epochs: {epochs}; took {clock(found['seconds_spent'])}"
    yield from next_lines(found, left)


def rate_text(per_minute: float) -> str:
    """Epochs a minute, to two figures."""
    rounded = float(f"{per_minute:.2g}")
    return f"about {rounded:,.0f} epochs a minute" if rounded >= 10 else f"about {rounded:g} epochs a minute"


def next_lines(found: dict[str, Any], left: str) -> Iterator[str]:
    folder = shlex.quote(found["folder"])
    if found["failed"] and not found["driver"]:
        yield failed_text(found["failed"], found["folder"])
    if found["damaged"] and not found["driver"]:
        yield f"next: {resume_command(found['folder'])} (makes again what is damaged, or says what to do)"
    elif found["status"] == FINISHED:
        train = f"mergenet train {shlex.quote(found['folder'] + '/best.yaml')}"
        yield f"next: {train}; mergenet analyze table {folder}; mergenet analyze report {folder} --open"
    elif found["driver"]:
        yield f"time left: {left}; next: wait, or look again with mergenet sweep status {folder} --watch 10"
    elif not (found["failed"] and found["status"] == FAILED):  # then it would fail again
        yield f"next: {resume_command(found['folder'])} (time left then: {left})"


def failed_text(names: Sequence[str], folder: Path | str) -> str:
    """Which runs have failed, and what to do if their configurations are not to blame."""
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    runs = f"{len(names)} run{'s' if len(names) > 1 else ''} failed ({some})"
    again = f"retry_failed=True ({resume_command(folder)} --retry-failed)"
    return f"{runs}; if the cause is mended, train them again: {again}"


def watch(
    folder: Path, seconds: float, read: Callable[[Path], dict[str, Any]] = read_status
) -> Iterator[dict[str, Any]]:
    """Yields the status again and again, until no driver is running."""
    while True:
        found = read(folder)
        yield found
        if not found["driver"]:
            return
        time.sleep(seconds)
