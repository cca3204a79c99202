"""Whether what a sweep folder holds is of one sweep: its sweep file, its base, its study and the records of its trials.

Any of them may have been edited, or copied from another folder. Going on would then mix two sweeps without a word.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from analysis.names import BASELINE, SWEEP_FILE, TRIAL, TRIALS_FOLDER, portable_config
from analysis.seeds import SEEDS
from analysis.sweep_file import SEEDS_KEY, refused_edits
from analysis.trial_file import trial_folders, trial_of
from mergenet.config import Config
from mergenet.config.loading import load_config, parse_config
from mergenet.config.rules import shown
from mergenet.errors import ConfigError, WriteError
from mergenet.records.run_record import CONFIG_FILE
from sweeps.driver.rebuild_study import labels_in
from sweeps.planning.plan import Plan
from sweeps.space.space import Space
from sweeps.study.storage import AGAIN, FILES, NAME_FILE, place_of, storage_errors
from sweeps.study.study import StudyTrial, SweepStudy
from sweeps.study.warm_start import differences, load_warm_start
from sweeps.trials.jobs import trial_name, without_transfer
from sweeps.trials.sweep_dir import BASE_FILE

Drawn = Mapping[str, Any]  # path -> value, as in trial.json
PUT_BACK = "put it back, or start another sweep, with another folder (--dir)"


def check_records(plan: Plan, folder: Path) -> None:
    """Raises ConfigError, with what does not fit, unless the sweep of the plan is the one that the folder holds."""
    check_settings(plan.sweep.seeds_per_trial, folder)
    drawn = drawn_in(folder)
    check_search(plan.space, drawn, folder / SWEEP_FILE)
    check_base(plan.space, drawn, folder / BASE_FILE)
    if (folder / FILES.get(plan.sweep.storage, NAME_FILE)).is_file():
        warm = load_warm_start(folder).trials
        with suppress(WriteError), storage_errors(plan.sweep.storage, folder):  # who has to write it will say so
            study = SweepStudy(plan.sweep, plan.space, plan.sweep.mode, folder, warm)
            known = {run.name: values for run, values in drawn.items()}
            check_study(plan.space, study.known(), known, place_of(plan.sweep.storage, folder))


def check_settings(seeds: int, folder: Path) -> None:
    """Of the keys that stay as the sweep began. seeds: how many a trial has by the sweep file.

    How many it has had is known by the trials; by sweep.json, as of the others, where there are none.
    """
    found = [trial for run in trial_folders(folder) if (trial := trial_of(run))]
    trials = [trial for trial in found if trial["role"] in (TRIAL, BASELINE)]
    for trial in trials:
        if (count := len(trial.get(SEEDS) or [trial["seed"]])) != seeds:
            raise ConfigError(
                f"{folder / SWEEP_FILE}: {SEEDS_KEY} must be {count}, as {trial['trial_id']} has it, got {seeds}; "
                f"means over unlike seeds cannot be compared: {PUT_BACK}"
            )
    for name, edit in refused_edits(folder).items():
        if name != SEEDS_KEY or not trials:
            raise ConfigError(
                f"{folder / SWEEP_FILE}: {name} must stay as the sweep began, and was edited: {edit}; {PUT_BACK}"
            )


def drawn_in(folder: Path) -> dict[Path, Drawn]:
    """What each trial of the search drew, by its run folder."""
    trials = {run: trial for run in trial_folders(folder) if (trial := trial_of(run)) and trial["role"] == TRIAL}
    return {run: trial["params"] for run, trial in trials.items()}


def check_search(space: Space, drawn: Mapping[Path, Drawn], file: Path) -> None:
    """drawn: by run folder."""
    for run, values in drawn.items():
        for path, value in values.items():
            if path not in space.entries:
                raise ConfigError(
                    f"{file}: search must hold {path}, of which {run.name} drew {shown(value)}; {PUT_BACK}"
                )
        if not space.can_draw(labels_in(values)):
            text = ", ".join(f"{path} {shown(value)}" for path, value in values.items())
            raise ConfigError(
                f"{file}: search must be one that can draw {run.name} ({text}), and cannot; put it back, move "
                f"{run} away if it is of another sweep, or start another sweep, with another folder (--dir)"
            )


def check_base(space: Space, drawn: Mapping[Path, Drawn], file: Path) -> None:
    """By the first trial that began, or else by the run without transfer: all have the same base."""
    baseline = file.parent / TRIALS_FOLDER / BASELINE
    run = next((run for run in (*drawn, baseline) if (run / CONFIG_FILE).is_file()), None)
    if run is None:
        return
    trained = load_config(str(run / CONFIG_FILE))
    plain = Config.model_validate(without_transfer(space.base))
    config = plain if run == baseline else space.config(labels_in(drawn[run]))
    live = parse_config(portable_config(trained.model_dump(mode="json")), str(run / CONFIG_FILE))
    for path, (theirs, mine) in differences(live, config, ()).items():
        raise ConfigError(
            f"{file} must be the base with which {run.name} trained, where {path} is {shown(theirs)} and not "
            f"{shown(mine)}; {PUT_BACK}"
        )


def check_study(space: Space, known: list[StudyTrial], drawn: Mapping[str, Drawn], place: str) -> None:
    """drawn: by the names of the trials."""
    for trial in known:
        name = trial_name(trial.index)
        if not space.can_draw(trial.params):
            fault = f"its {name} ({trial.params}) is none that this search can draw"
        elif name in drawn and drawn[name] != json.loads(json.dumps(space.values(trial.params))):
            fault = f"its {name} ({trial.params}) has other values than the one in trials/"
        else:
            continue
        raise ConfigError(f"{place} must be the Optuna study of this sweep, and {fault}; move it away: {AGAIN}")
