"""What has failed in a sweep trains again: a full node, a lost mount or a damaged checkpoint is no fault of a trial."""

import shutil
from pathlib import Path

from analysis.trials import FAILED, RUNNING, TRIAL_FILE, TRIALS_FOLDER
from mergenet.checkpoint import load_latest
from mergenet.errors import CheckpointError
from mergenet.files import write_json
from mergenet.record import CHECKPOINT_FOLDER, CONFIG_FILE
from sweeps.plan import Plan
from sweeps.records import trial_of
from sweeps.storage import kept
from sweeps.study import SweepStudy
from sweeps.warmstart import load_warm_start


def retry_failed(plan: Plan, folder: Path) -> list[str]:
    """Lets all runs of a sweep folder that have failed begin again, from their last checkpoint that is whole.

    Their names. If the driver is killed in between, what has not begun again has failed, as before.
    """
    with kept(plan.sweep.storage, folder):
        SweepStudy(plan.sweep, plan.space, plan.sweep.mode, folder, load_warm_start(folder).trials).retry_failed()
    names = []
    for path in sorted((folder / TRIALS_FOLDER).glob(f"*/{TRIAL_FILE}")):
        trial = trial_of(path.parent)
        if trial is not None and trial["state"] == FAILED:
            if goes_on(path.parent):
                write_json(path, trial | {"state": RUNNING, "error": None})
            else:
                shutil.rmtree(path.parent)
            names.append(path.parent.name)
    return names


def goes_on(run: Path) -> bool:
    """Whether the run has begun, and has no checkpoint or one that is whole."""
    if not (run / CONFIG_FILE).is_file():
        return False
    try:
        load_latest(run / CHECKPOINT_FOLDER)
    except CheckpointError:
        return False
    return True
