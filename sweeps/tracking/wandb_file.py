"""What the W&B client has written on this machine about a run of a sweep, and what it lacks."""

import json
import shutil
from pathlib import Path
from typing import Any

from analysis.wandb_runs.framing import raw_records, records, rows
from mergenet.records.atomic import write_text
from mergenet.records.run_record import EPOCH

THERE = ".there"  # ends a file of our own beside the client's


def run_files(folder: Path, run_id: str) -> list[Path]:
    """All files of a run below a sweep folder, oldest first; a run that was resumed has several."""
    return sorted(folder.glob(f"wandb/*run-*_*/run-{run_id}.wandb"), key=lambda path: path.parent.name.split("run-")[1])


def is_closed(folder: Path, run_id: str) -> bool:
    """Whether the latest of a run's files says how the run ended, as it does unless its writer was killed."""
    files = run_files(folder, run_id)
    return bool(files) and any(record.HasField("exit") for record in records(files[-1]))


def known_epochs(folder: Path, run_id: str) -> set[int]:
    """The epochs of a run that its files hold, or that W&B had when they began, see `note_there`."""
    files = run_files(folder, run_id)
    there = [int(mark.read_text()) for path in files if (mark := path.with_suffix(THERE)).is_file()]
    own = {int(row[EPOCH]) for path in files for row in rows(path) if EPOCH in row}
    return own | set(range(1, max(there, default=0) + 1))


def note_there(run_dir: Path, run_id: str, count: int) -> None:
    """Of a run that goes on without its earlier files, which are lost: how many W&B has. run_dir: the client's."""
    write_text(run_dir.parent / f"run-{run_id}{THERE}", str(count))


def told_keys(folder: Path, run_id: str) -> set[str]:
    """The keys of a run's summary that its files hold."""
    found = (record.summary for path in run_files(folder, run_id) for record in records(path))
    return {"".join(item.nested_key[:1]) or item.key for summary in found for item in summary.update}


def told_config(folder: Path, run_id: str) -> dict[str, Any]:
    """The configuration of a run that its files hold, by what they say last."""
    found = [record for path in run_files(folder, run_id) for record in records(path)]
    items = [item for record in found for item in (*record.run.config.update, *record.config.update) if item.key]
    return {item.key: json.loads(item.value_json) for item in items}


def drop_empty(folder: Path, run_id: str) -> None:
    """Delete offline files that a kill left without a record: `wandb sync` refuses a run with such a file."""
    for path in run_files(folder, run_id):
        if is_offline(path) and not any(raw_records(path.read_bytes())):
            shutil.rmtree(path.parent)


def forget(folder: Path, run_id: str) -> None:
    """Of a run that is deleted: no file says any more what it logged. One that was online leaves an empty file."""
    for path in run_files(folder, run_id):
        if is_offline(path):
            shutil.rmtree(path.parent)
        else:
            path.write_bytes(b"")
            path.with_suffix(THERE).unlink(missing_ok=True)


def is_forgotten(folder: Path, run_id: str) -> bool:
    """Whether W&B has a run of that id of which nothing is to stay."""
    online = [path for path in run_files(folder, run_id) if not is_offline(path)]
    return bool(online) and all(path.stat().st_size == 0 for path in online)


def is_offline(path: Path) -> bool:
    return path.parent.name.startswith("offline-")
