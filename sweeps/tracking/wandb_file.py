"""What the W&B client has written on this machine about a run of a sweep, and what it lacks."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.wandb_runs.framing import raw_records, records, rows
from mergenet.records.atomic import write_text
from mergenet.records.run_record import EPOCH

THERE = ".there"  # ends a file of our own beside the client's
RUN_FOLDER = re.compile(r"(?:offline-)?run-(\d+_\d+)-(.+)")  # when it began, and the run's id
Place = Path | Mapping[str, list[Path]]  # a sweep folder, or what is `listed` there: one look for many runs


def listed(folder: Path, only: str | None = None) -> dict[str, list[Path]]:
    """The files of all runs below a sweep folder, or of one, by the run's id: oldest first."""
    place, files = folder / "wandb", dict[str, list[Path]]()
    names = [path.name for path in place.iterdir()] if place.is_dir() else []
    found = [match for name in names if (match := RUN_FOLDER.fullmatch(name)) and only in (None, match[2])]
    for match in sorted(found, key=lambda match: match[1]):
        path = place / match[0] / f"run-{match[2]}.wandb"
        if path.is_file():
            files.setdefault(match[2], []).append(path)
    return files


def run_files(place: Place, run_id: str) -> list[Path]:
    """All files of a run, oldest first; a run that was resumed has several."""
    files = listed(place, run_id) if isinstance(place, Path) else place
    return list(files.get(run_id, []))


def is_closed(place: Place, run_id: str) -> bool:
    """Whether the latest of a run's files says how the run ended, as it does unless its writer was killed."""
    files = run_files(place, run_id)
    return bool(files) and any(record.HasField("exit") for record in records(files[-1]))


def known_epochs(place: Place, run_id: str) -> set[int]:
    """The epochs of a run that its files hold, or that W&B had when they began, see `note_there`."""
    files = run_files(place, run_id)
    there = [int(mark.read_text()) for path in files if (mark := path.with_suffix(THERE)).is_file()]
    own = {int(row[EPOCH]) for path in files for row in rows(path) if EPOCH in row}
    return own | set(range(1, max(there, default=0) + 1))


def note_there(run_dir: Path, run_id: str, count: int) -> None:
    """Of a run that goes on without its earlier files, which are lost: how many W&B has. run_dir: the client's."""
    write_text(run_dir.parent / f"run-{run_id}{THERE}", str(count))


def told_keys(place: Place, run_id: str) -> set[str]:
    """The keys of a run's summary that its files hold."""
    found = (record.summary for path in run_files(place, run_id) for record in records(path))
    return {"".join(item.nested_key[:1]) or item.key for summary in found for item in summary.update}


def told_config(place: Place, run_id: str) -> dict[str, Any]:
    """The configuration of a run that its files hold, by what they say last."""
    found = [record for path in run_files(place, run_id) for record in records(path)]
    items = [item for record in found for item in (*record.run.config.update, *record.config.update) if item.key]
    return {item.key: json.loads(item.value_json) for item in items}


def drop_empty(files: list[Path]) -> None:
    """Delete offline files that a kill left without a record: `wandb sync` refuses a run with such a file."""
    for path in files:
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


def is_forgotten(place: Place, run_id: str) -> bool:
    """Whether W&B has a run of that id of which nothing is to stay."""
    online = [path for path in run_files(place, run_id) if not is_offline(path)]
    return bool(online) and all(path.stat().st_size == 0 for path in online)


def is_offline(path: Path) -> bool:
    return path.parent.name.startswith("offline-")
