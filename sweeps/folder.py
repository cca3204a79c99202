"""The sweep folder before a sweep starts: new, or what is to be done with the sweep that it holds."""

import json
import shutil
from pathlib import Path
from typing import Any

from analysis.trials import SWEEP_FILE
from mergenet.errors import ConfigError
from mergenet.record import FINISHED
from sweeps.config import SweepConfig, dump_sweep

STATE_FILE, SUMMARY_FILE = "sweep.json", "summary.json"


def is_used(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def check_folder(folder: Path) -> None:
    """Raises ConfigError, with the way out, if there is something in the sweep folder."""
    if not is_used(folder):
        return
    must = f"the sweep folder must be new or empty, got {str(folder)!r}"
    if not holds_sweep(folder):
        raise ConfigError(f"{must}; choose another with --dir")
    status = read_state(folder).get("status")
    what = "another sweep" if status == FINISHED else f"a sweep that has not finished (status: {status})"
    raise ConfigError(f"{must}, which holds {what}; choose another with --dir, or delete it with --overwrite")


def finished_summary(folder: Path, sweep: SweepConfig, base_hash: str) -> dict[str, Any] | None:
    """summary.json, if the folder holds exactly this sweep of exactly this base, finished; else None."""
    state, summary = read_state(folder), read_json(folder / SUMMARY_FILE)
    if not holds_sweep(folder):
        return None
    same = (folder / SWEEP_FILE).read_text(encoding="utf-8", errors="replace") == dump_sweep(sweep)
    whole = state.get("status") == FINISHED and state.get("base_hash") == base_hash
    return summary if same and whole and summary else None


def check_deletable(folder: Path) -> None:
    """Raises ConfigError unless the folder is new, empty or a sweep folder."""
    if is_used(folder) and not holds_sweep(folder):
        raise ConfigError(
            f"--overwrite must meet a sweep folder (with {SWEEP_FILE} and {STATE_FILE}), got {str(folder)!r}; "
            "choose another with --dir"
        )


def clear(folder: Path) -> None:
    """Delete the sweep in the folder. Raises ConfigError, and deletes nothing, if it holds anything else."""
    check_deletable(folder)
    for path in list(folder.iterdir()) if folder.exists() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def holds_sweep(folder: Path) -> bool:
    return (folder / SWEEP_FILE).is_file() and "status" in read_state(folder)


def read_state(folder: Path) -> dict[str, Any]:
    """sweep.json; empty if there is none or it is no such file."""
    return read_json(folder / STATE_FILE)


def read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def shown_path(path: Path) -> Path:
    """Relative to the working directory if it lies below it, as a user would write it."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
