"""What a run that has ended keeps beside its records: weights of the best epoch, checkpoints.

Its records, config.yaml, provenance.json, epochs.jsonl and result.json, are always kept, and so is a trained adapter.
In place of checkpoints stands one without tensors: the epochs once more, from which a damaged epochs.jsonl is repaired.
"""

from pathlib import Path

from mergenet.errors import CheckpointError
from mergenet.records.checkpoint import holds_tensors, load_latest, save_checkpoint, tidy
from mergenet.records.run_record import (
    BEST_FILE,
    CHECKPOINT_FOLDER,
    EPOCH,
    STEP,
    EpochResult,
    check_epochs,
    read_epochs,
    read_result,
    write_epochs,
)


def keep_only(run: Path, keep: str) -> int:
    """Deletes of an ended run what is not kept; returns the bytes that this has freed.

    keep: none, the records alone; best, and the weights of the best epoch; last, and the last checkpoint; all.

    Raises CheckpointError if its epochs cannot be read, which are then all that could repair them; WriteError or
    OSError if the disk refuses.
    """
    if keep == "all":
        return 0
    before, checkpoints = size_of(run), run / CHECKPOINT_FOLDER
    rows = read_epochs(run)
    if keep == "last":
        tidy(checkpoints, keep=1)
    elif rows and holds_tensors(checkpoints):
        save_checkpoint(checkpoints, rows[-1][EPOCH], {"history": [_packed(row) for row in rows]}, keep=1)
    if keep == "none":
        (run / BEST_FILE).unlink(missing_ok=True)
    return before - size_of(run)


def _packed(row: dict[str, object]) -> dict[str, object]:
    """As a checkpoint has it."""
    metrics = {name: value for name, value in row.items() if name not in (EPOCH, STEP)}
    return {"epoch": row[EPOCH], "step": row[STEP], "metrics": metrics}


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


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
