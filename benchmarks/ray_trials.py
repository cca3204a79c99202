"""A Ray Tune experiment with the rows of the trials of a sweep folder, as Ray writes it.

Tune runs one trial of one epoch. What it has written, state and rows, is repeated under other names, with the numbers
of each of our trials in place of its own.
"""

import contextlib
import io
import json
import logging
from pathlib import Path
from typing import Any

from analysis.names import TRIALS_FOLDER
from analysis.trial_file import read_trial_file
from mergenet.records.run_record import EPOCH, EPOCHS_FILE


def write_experiment(folder: Path, sweep: Path) -> Path:
    """The folder of the experiment, for `ray.tune.ExperimentAnalysis`."""
    trials = sorted((sweep / TRIALS_FOLDER).iterdir())
    experiment = run_tune(folder, rows_of(trials[0])[0])
    [state_file] = experiment.glob("experiment_state-*.json")
    state = json.loads(state_file.read_text(encoding="utf-8"))
    [[trial, metadata]] = state["trial_data"]
    about = json.loads(trial)
    told = json.loads((experiment / about["relative_logdir"] / "result.json").read_text(encoding="utf-8"))
    state["trial_data"] = []
    for number, run in enumerate(trials):
        name = f"{about['trial_id'][:-5]}{number:05d}"  # as long as before: it stands in pickled text, too
        renamed = renaming(about["trial_id"], name)
        params = (read_trial_file(run) or {})["params"]
        write_trial(experiment / renamed(about["relative_logdir"]), told | {"trial_id": name, "config": params}, run)
        state["trial_data"].append([renamed(json.dumps(about | {"config": params}, indent=2)), renamed(metadata)])
    state_file.write_text(json.dumps(state), encoding="utf-8")
    return experiment


def run_tune(folder: Path, row: dict[str, Any]) -> Path:
    import ray
    from ray import tune

    def trainable(_config: dict[str, Any]) -> None:
        tune.report(row)

    # never a cluster that runs on this machine already: one refuses num_cpus
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        run_config = tune.RunConfig(name="experiment", storage_path=str(folder), verbose=0)
        with contextlib.redirect_stdout(io.StringIO()):
            tune.Tuner(trainable, param_space={}, run_config=run_config).fit()
    finally:
        ray.shutdown()
    return folder / "experiment"


def renaming(before: str, name: str) -> Any:
    """Replaces a name in a text, also where it stands in the hexadecimal digits of a pickle."""
    return lambda text: text.replace(before, name).replace(before.encode().hex(), name.encode().hex())


def write_trial(folder: Path, told: dict[str, Any], run: Path) -> None:
    """result.json as Ray writes it, a line for each epoch of our run."""
    folder.mkdir(exist_ok=True)
    rows = rows_of(run)
    lines = [json.dumps(told | row | {"training_iteration": row[EPOCH], "done": row is rows[-1]}) for row in rows]
    (folder / "result.json").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / EPOCHS_FILE).read_text(encoding="utf-8").splitlines()]
