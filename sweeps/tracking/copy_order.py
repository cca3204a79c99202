"""In which order the files of a sweep folder are copied, so that what is there of a cut-off copy can be resumed."""

from collections.abc import Iterable

from analysis.trial_file import TRIAL_FILE
from mergenet.records.run_record import (
    CHECKPOINT_FILES,
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    PROVENANCE_FILE,
    RECORDING_FILE,
    RESULT_FILE,
)
from sweeps.trials.files import JOURNAL_FILE, STATE_FILE, STUDY_FILE, SUMMARY_FILE
from sweeps.trials.sweep_dir import FIRST

LAST = (RESULT_FILE, TRIAL_FILE, SUMMARY_FILE, STATE_FILE)  # each says that the files before it are complete
BEGINNING = (*FIRST, STUDY_FILE, JOURNAL_FILE)  # what a sweep begins with, then the study: of every trial with a record
OF_RUN = (CONFIG_FILE, PROVENANCE_FILE)  # without these its other files are no run


def place(name: str, begun: bool = True) -> tuple[int, int, str]:
    """The key to sort by: beginning, what the runs began with, data, checkpoints, and what speaks for them.

    Among data by name: epoch-0001.safetensors of a recording before its recording.json, and both before trials/.
    begun: whether sweep.json is there, which comes first, and from then on last.
    """
    folder, _, file = name.rpartition("/")
    if not folder and file in BEGINNING and not (begun and file == STATE_FILE):
        return 0, BEGINNING.index(file), name
    if file in LAST:
        return 4, LAST.index(file), name
    if checkpoint_of(name) is not None:
        return 3, 0, f"{folder}/{CHECKPOINT_FILES.index(file) if file in CHECKPOINT_FILES else 0}"
    return (1, OF_RUN.index(file), name) if file in OF_RUN else (2, 0, name)


def checkpoint_of(name: str) -> str | None:
    """The folder of the checkpoint that a file belongs to; None if it belongs to none."""
    folder = name.rpartition("/")[0]
    return folder if folder.rpartition("/")[0].rpartition("/")[2] == CHECKPOINT_FOLDER else None


def speaks_for_others(name: str) -> bool:
    """Whether the file says that others are complete: it must not be there beside others than these."""
    file = name.rpartition("/")[2]
    return file in (*LAST, RECORDING_FILE) or (file == CHECKPOINT_FILES[1] and checkpoint_of(name) is not None)


def halves(names: Iterable[str]) -> set[str]:
    """The files of checkpoints of which another file is missing."""
    found = {name: folder for name in names if (folder := checkpoint_of(name)) is not None}
    return {name for name, folder in found.items() if any(f"{folder}/{one}" not in found for one in CHECKPOINT_FILES)}
