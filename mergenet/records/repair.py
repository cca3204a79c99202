"""A damaged epochs.jsonl is made again: the last checkpoint holds the rows, too."""

from pathlib import Path

from mergenet.errors import CheckpointError
from mergenet.records.checkpoint import load_latest
from mergenet.records.run_record import (
    CHECKPOINT_FOLDER,
    EpochResult,
    check_epochs,
    read_epochs,
    read_result,
    write_epochs,
)


def repair_epochs(folder: Path) -> bool:
    """Whether epochs.jsonl of a run that has ended was damaged; then it is written anew from the last checkpoint.

    Raises CheckpointError if it is damaged, and no checkpoint has the epochs that the run ended with.
    """
    result = read_result(folder)
    try:
        read_epochs(folder)
    except CheckpointError as error:
        state = load_latest(folder / CHECKPOINT_FOLDER)
        rows = [] if state is None else [EpochResult(**row).row() for row in state["history"]]
        try:
            check_epochs(folder, result, rows)
        except CheckpointError:
            raise error from None
        write_epochs(folder, rows)
        return True
    return False
