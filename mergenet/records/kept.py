"""What a run that has ended keeps beside its records: weights of the best epoch, checkpoints.

Its records, config.yaml, provenance.json, epochs.jsonl and result.json, are always kept, and so is a trained adapter.
In place of checkpoints stands one without tensors: the epochs once more, from which a damaged epochs.jsonl is repaired.
"""

from pathlib import Path

from mergenet.records.checkpoint import holds_tensors, save_checkpoint, tidy
from mergenet.records.run_record import BEST_FILE, CHECKPOINT_FOLDER, EPOCH, STEP, read_epochs


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
