"""The best K trials of a sweep, or those that are named, as variants beside no transfer: `mergenet sweep confirm`.

A trial that was stopped early is never among the best K: its value is that of a part of a training. One that is named
trains in full, as all variants do.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.names import COMPLETE, FAILED, PRUNED, TRIAL, best_first, mode_of, portable_config
from analysis.trial_file import begun_runs, read_outcome
from mergenet.config import Config
from mergenet.config.loading import load_config, parse_config
from mergenet.errors import ConfigError, unknown_name
from mergenet.records.run_record import ADAPTER_PARAMETERS
from sweeps.ablation.centre import Centre, placed
from sweeps.ablation.variants import LeftOut, Variant, folder_name
from sweeps.planning.plan import first_fresh_seed
from sweeps.trials.jobs import without_transfer
from sweeps.trials.results import best_record, read_trials
from sweeps.trials.sweep_dir import BASE_FILE, check_metric, load_resumable, resume_command, shown_path

NO_TRANSFER = "no transfer"
Trial = dict[str, Any]


def best_trials(folder: Path, top: int, names: Sequence[str] = ()) -> tuple[Centre, list[Variant], list[LeftOut]]:
    """The best of the sweep as a centre; no transfer with its recipe, then the trials by search value, the best first.

    names: of the trials, in the place of the best `top`; those that were stopped early come last. A trial without
    transfer is none. Raises ConfigError if the folder holds no sweep, no trial that finished or none of a name,
    CheckpointError if one of its runs is damaged.
    """
    sweep = load_resumable(folder)
    check_metric(sweep, folder)
    for run in begun_runs(folder):
        read_outcome(run)  # the best may be one that is damaged, or has lost its trial.json
    mode = mode_of(sweep.objective)
    trials = sorted(
        read_trials(folder, sweep, TRIAL),
        key=lambda trial: (
            not trial["finished"],
            best_first(trial["value"] or 0.0, mode, trial[ADAPTER_PARAMETERS], trial["number"]),
        ),
    )
    wanted = named_trials(folder, trials, names) if names else [trial for trial in trials if is_candidate(trial)]
    base = load_config(str(folder / BASE_FILE)).model_dump(mode="json")
    first = first_fresh_seed(base, sweep.seeds_per_trial)
    found: list[Variant] = []
    left_out: list[LeftOut] = []
    for trial in wanted:
        config = parse_config(portable_config(best_record(folder, trial).config), str(folder))
        if config.method == "none" and names:
            raise ConfigError(
                f"trials (--trial) must be trials with transfer, got {trial['trial_id']} without; leave it out"
            )
        if config.method == "none":
            left_out.append(LeftOut(trial["trial_id"], "it has no transfer itself"))
        elif names or len(found) < top:
            found.append(_variant(trial, placed(config, first)))
    if not found:
        raise ConfigError(f"{shown_path(folder)} must hold a finished trial with transfer to confirm, {got(trials)}")
    if not names and len(found) < top:
        has = f"the sweep has {len(found)} finished trial{'s' if len(found) > 1 else ''} with transfer"
        left_out.append(LeftOut(f"top {top}", has + by_name(trials)))
    best = Config.model_validate(found[0].config)
    none = parse_config(without_transfer(found[0].config), str(folder)).model_dump(mode="json")
    reference = Variant(folder_name(NO_TRANSFER, set()), NO_TRANSFER, {"method": "none"}, none)
    return Centre(best, f"{sweep.name}-best"[:100], sweep=folder.absolute()), [reference, *found], left_out


def is_candidate(trial: Trial) -> bool:
    return trial["finished"] and trial["value"] is not None and not trial["broken"]


def named_trials(folder: Path, trials: Sequence[Trial], names: Sequence[str]) -> list[Trial]:
    """In the order of trials. Raises ConfigError unless all of them trained to their end or were stopped early."""
    known = {str(trial["trial_id"]): trial for trial in trials}
    for name in names:
        if name not in known:
            raise ConfigError(unknown_name("trials (--trial)", name, known))
        trial = known[name]
        if trial["state"] not in (COMPLETE, PRUNED):
            failed = trial["state"] == FAILED
            way_out = f"`{resume_command(shown_path(folder))}{' --retry-failed' if failed else ''}` goes on with it"
            raise ConfigError(
                "trials (--trial) must be trials that trained to their end or were stopped early, got "
                f"{name}, which is {trial['state']}; {way_out}"
            )
        if trial["value"] is None:
            raise ConfigError(f"trials (--trial) must be trials with a value in the search, got {name} without one")
    return [trial for name, trial in known.items() if name in names]


def got(trials: Sequence[Trial]) -> str:
    """The states of trials of which none is a candidate, and the way out."""
    states = Counter(map(fate, trials))
    counted = ", ".join(f"{count} {state}" for state, count in states.items())
    return "got " + (f"none of {len(trials)} ({counted})" if trials else "no trial") + by_name(trials)


def fate(trial: Trial) -> str:
    if trial["state"] == PRUNED:
        return "stopped early"
    return "against a constraint" if trial["finished"] and trial["broken"] else str(trial["state"])


def by_name(trials: Sequence[Trial]) -> str:
    """How those that were stopped early are confirmed all the same; empty without any."""
    stopped = [trial["trial_id"] for trial in trials if trial["state"] == PRUNED and trial["value"] is not None]
    if not stopped:
        return ""
    return (
        f"; those that were stopped early train in full if they are named, the best of them by trials=[{stopped[0]!r}] "
        f"(--trial {stopped[0]})"
    )


def _variant(trial: Trial, config: Config) -> Variant:
    name = str(trial["trial_id"])
    stopped = None if trial["finished"] else int(trial["epochs"])
    return Variant(name, name, trial["params"], config.model_dump(mode="json"), float(trial["value"]), stopped)
