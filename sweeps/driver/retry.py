"""Retries failed runs: a full node, a lost mount or a damaged checkpoint is not the fault of a trial."""

from pathlib import Path

from analysis.names import FAILED, PRUNED, RUNNING, TRIAL
from analysis.seeds import first_of, is_replicate
from analysis.trial_file import Trial, trial_folders, trial_of, write_trial_file
from mergenet.config.loading import load_config
from mergenet.errors import UserError
from mergenet.records.checkpoint import load_latest
from mergenet.records.inputs import code_changes
from mergenet.records.run_record import CHECKPOINT_FOLDER, CONFIG_FILE, PROVENANCE_FILE, read_provenance
from sweeps.driver.steps import forget_run
from sweeps.planning.plan import Plan
from sweeps.study.storage import storage_errors
from sweeps.study.study import SweepStudy
from sweeps.study.warm_start import load_warm_start


def retry_failed(plan: Plan, folder: Path) -> list[str]:
    """Resets all failed runs of a sweep folder, to begin again from their last valid checkpoint. Returns their names.
    One that was trained with other code begins without a checkpoint.
    The other seeds of such a trial, which were stopped as no longer needed, are reset with it. If the driver is killed
    in between, runs that were not reset have failed, as before.
    """
    runs = {run: trial for run in trial_folders(folder) if (trial := trial_of(run)) is not None}
    failed = {first_of(run.name) for run, trial in runs.items() if trial["state"] == FAILED}
    with storage_errors(plan.sweep.storage, folder):
        study = SweepStudy(plan.sweep, plan.space, plan.sweep.mode, folder, load_warm_start(folder).trials)
        study.retry({trial["number"] for run, trial in runs.items() if trial["role"] == TRIAL and run.name in failed})
    return reset(runs, failed)


def reset_failed(folder: Path) -> list[str]:
    """The same where no study has to be told, as in an ablation: each of its runs stands for itself."""
    return reset({run: trial for run in trial_folders(folder) if (trial := trial_of(run)) is not None}, set())


def reset(runs: dict[Path, Trial], failed: set[str]) -> list[str]:
    """Runs that have failed train again, and the stopped seeds of the trials in failed. Returns their names.

    What has failed comes last: until then a trial has failed, and does not count as stopped early.
    """
    again = []
    for run, trial in sorted(runs.items(), key=lambda item: item[1]["state"] == FAILED):
        stopped = trial["state"] == PRUNED and is_replicate(run.name) and first_of(run.name) in failed
        if trial["state"] != FAILED and not stopped:
            continue
        if goes_on(run):
            write_trial_file(run, trial | {"state": RUNNING, "error": None})
        else:
            forget_run(run)
        again.append(run.name)
    return sorted(again)


def goes_on(run: Path) -> bool:
    """Whether the run has begun with the user's modules as they are now, and has no checkpoint or a valid one."""
    if not (run / CONFIG_FILE).is_file():
        return False
    try:
        config = load_config(str(run / CONFIG_FILE))
        if (run / PROVENANCE_FILE).is_file() and code_changes(read_provenance(run), config):
            return False
        load_latest(run / CHECKPOINT_FOLDER)
    except UserError:
        return False
    return True
