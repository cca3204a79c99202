"""Records of a sweep that were damaged after its runs had ended are made again before it goes on."""

from pathlib import Path

from analysis.names import COMPLETE, RUNNING
from analysis.trial_file import ended_trial, trial_folders, write_trial_file
from mergenet.errors import CheckpointError
from mergenet.records.kept import repair_epochs
from mergenet.records.run_record import CONFIG_FILE, FINISHED, PROVENANCE_FILE, STATUS, read_provenance, read_result


def repair_runs(folder: Path) -> list[str]:
    """The runs whose records were damaged, by name: from their checkpoints they have their epochs again, or go on.

    Raises CheckpointError, with the way out, where there is no such checkpoint. What has not ended goes on by itself.
    """
    return [run.name for run in trial_folders(folder) if (run / CONFIG_FILE).is_file() and repaired(run)]


def repaired(run: Path) -> bool:
    trial = ended_trial(run)
    if trial is None:
        return False
    try:
        if trial["state"] == COMPLETE and read_result(run)[STATUS] != FINISHED:
            write_trial_file(run, trial | {"state": RUNNING})
            return True
        if (run / PROVENANCE_FILE).exists():
            read_provenance(run)
        return repair_epochs(run)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; move {run} away, and it trains again") from None
