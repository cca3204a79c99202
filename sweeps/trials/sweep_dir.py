"""The sweep folder before a sweep starts: checks, the driver's lock, resuming and deleting."""

import contextlib
import fcntl
import fnmatch
import json
import os
import shlex
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from analysis.names import ABLATION_FILE as ABLATION_FILE
from analysis.names import BASE_FILE as BASE_FILE
from analysis.names import SOURCE, SWEEP_FILE, TRIALS_FOLDER, UNKNOWN
from analysis.trial_file import trial_folders
from mergenet.config.yaml12 import load_yaml
from mergenet.errors import ConfigError, UserError, WriteError
from mergenet.records.run_record import FINISHED, METRIC, read_result
from mergenet.records.sealed import write_record
from sweeps.config import SweepConfig
from sweeps.config.loading import dump_sweep, load_sweep, parse_sweep
from sweeps.trials.files import BEST_FILE, REPORT_FILE, STATE_FILE, SUMMARY_FILE, read_state, read_summary

LOCK_FILE = ".lock"
VARIANTS_FILE = "variants.json"  # of an ablation (sweeps/ablation)
STUDY_ID = "study_id"  # in sweep.json, and in the study that is this sweep's
REST = "what a kill left of a sweep that was begun or deleted"
DELETING = "being deleted"  # a status
OVERWRITE = ", or delete it with overwrite=True (--overwrite)"
# All that is written straight into a sweep folder, and of it what stands there before the sweep starts
FIRST = (LOCK_FILE, ".*.tmp*", STATE_FILE, BASE_FILE, "warm_start.json", SWEEP_FILE, VARIANTS_FILE, ABLATION_FILE)
ABLATION_OWN = (f"{SOURCE}-*", "ablation.*", "interactions.*", ".reused-*")
RESULTS = (SUMMARY_FILE, REPORT_FILE, "report.md", BEST_FILE)
OWN = (*FIRST, *RESULTS, "study.*", SOURCE, TRIALS_FOLDER, "wandb", ".mergenet-ray-*", *ABLATION_OWN)
SWEEP_FILES = f"{SWEEP_FILE}, {STATE_FILE} and {BASE_FILE}"
# Keys of a sweep file with which a finished sweep can go on: any value, and no less than before
ANY_VALUE = ("slots", "executor", "gpus_per_trial", "confirm_controls", "keep_checkpoints", "wandb")
NO_LESS = ("num_trials", "confirm_seeds", "budget_hours", "budget_epochs")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The sweep folder, created if needed, with this process as its only driver; the lock ends with the process.

    A folder that was created for this, and that nothing was written to, is removed again.
    Raises ConfigError if another driver has it, or if the folder cannot be made or written.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK_FILE).open("a+b", buffering=0)
    except OSError as error:
        raise ConfigError(f"the sweep folder {str(folder)!r} cannot be written: {error.strerror}") from None
    with file:
        if not take_lock(file):
            file.seek(0)
            driver = file.read(200).decode(errors="replace").strip() or "another process"
            raise ConfigError(
                f"the sweep folder {str(folder)!r} is in use by {driver}; wait for it, stop it, or choose another one"
            )
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        try:
            yield
        finally:
            if new and not is_used(folder):
                with contextlib.suppress(OSError):
                    (folder / LOCK_FILE).unlink()
                    folder.rmdir()


def take_lock(file: IO[bytes]) -> bool:
    """Tries for a moment: report/status.py holds the lock for microseconds when it looks."""
    for _ in range(5):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.05)
        else:
            return os.fstat(file.fileno()).st_nlink > 0  # else its driver has just removed it with the folder
    return False


def is_used(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(path.name != LOCK_FILE for path in folder.iterdir()))


def check_folder(folder: Path) -> None:
    """Raises ConfigError, with the way out, if there is something in the sweep folder that a new sweep would delete."""
    if not is_used(folder) or (is_rest(folder) and only(FIRST, folder)):
        return
    must = f"the sweep folder must be new or empty, got {str(folder)!r}"
    if is_rest(folder):
        raise ConfigError(
            f"{must}, which holds {REST}; delete it with overwrite=True (--overwrite), or choose another folder (--dir)"
        )
    if not holds_sweep(folder):
        raise ConfigError(f"{must}; choose another folder (--dir)")
    status = status_of(folder)
    what, way_out = "another sweep", "choose another folder (--dir)"
    overwrite = OVERWRITE
    if status == FINISHED and not read_summary(folder):
        what = f"a finished sweep without a readable {SUMMARY_FILE}"
        way_out = f"`{resume_command(folder)}` writes it again, choose another folder (--dir)"
    elif status != FINISHED:
        what = f"a sweep that has not finished (status: {status})"
        way_out = f"go on with it by `{resume_command(folder)}`, choose another folder (--dir)"
    if "status" not in read_state(folder):  # it deletes only what is surely a sweep
        overwrite = ""
    raise ConfigError(f"{must}, which holds {what}; {way_out}{overwrite}")


def check_settings(folder: Path, sweep: SweepConfig, base_hash: str) -> None:
    """Raises ConfigError, with what differs, if the folder holds this sweep, finished, with other settings."""
    state, written = read_state(folder), _written(folder / SWEEP_FILE)
    whole = holds_sweep(folder) and state.get("status") == FINISHED and read_summary(folder)
    if not whole or written is None or (written.name, state.get("base_hash")) != (sweep.name, base_hash):
        return
    then, now = (load_yaml(dump_sweep(one), SWEEP_FILE) for one in (written, _as_in(written, state, sweep)))
    keys = [key for key in now if now[key] != then[key]]
    if not keys:
        return
    changes = ", ".join(_change(key, then[key], now[key]) for key in keys)
    way_out = "choose another folder (--dir)"
    if all(_can_go_on(key, then[key], now[key], sweep) for key in keys):
        shown = shown_path(folder)
        way_out = (
            f"to go on with it change {'them' if len(keys) > 1 else 'it'} in {shown / SWEEP_FILE} and "
            f"`{resume_command(shown)}`, or {way_out}"
        )
    raise ConfigError(
        f"the sweep folder must be new or empty, got {str(folder)!r}, which holds this sweep with other settings: "
        f"{changes}; {way_out}{OVERWRITE}"
    )


def _change(key: str, then: Any, now: Any) -> str:
    if isinstance(then, dict) and isinstance(now, dict):
        parts = [part for part in {**then, **now} if then.get(part) != now.get(part)]
        return ", ".join(f"{key}.{part}" for part in parts)
    return f"{key} ({json.dumps(then)}, now {json.dumps(now)})"


def _can_go_on(key: str, then: Any, now: Any, sweep: SweepConfig) -> bool:
    if key == "num_trials" and sweep.num_short:  # which of its trials are short would be others
        return False
    more = now is None or (then is not None and now >= then) if key in NO_LESS else False  # None: no limit
    return more or key in ANY_VALUE


def finished_summary(folder: Path, sweep: SweepConfig, base_hash: str) -> dict[str, Any] | None:
    """summary.json, if the folder holds exactly this sweep of exactly this base, finished; else None."""
    summary = read_summary(folder)
    whole = read_state(folder).get("status") == FINISHED and holds_this_sweep(folder, sweep, base_hash)
    return summary if whole and summary else None


def holds_this_sweep(folder: Path, sweep: SweepConfig, base_hash: str) -> bool:
    """Whether the folder is of exactly this sweep of exactly this base, finished or not."""
    state, written = read_state(folder), _written(folder / SWEEP_FILE)
    if not holds_sweep(folder) or written is None or state.get("base_hash") != base_hash:
        return False
    return dump_sweep(written) == dump_sweep(_as_in(written, state, sweep))


def _as_in(written: SweepConfig, state: dict[str, Any], sweep: SweepConfig) -> SweepConfig:
    """The sweep as its folder has it written."""
    if sweep.metric is None:  # then it was the task's own, which was written down
        sweep = sweep.model_copy(update={"metric": written.metric})
    trials = state.get("num_trials", {})
    if trials.get("asked") == sweep.num_trials:  # all that the space holds, if they are fewer
        sweep = sweep.model_copy(update={"num_trials": trials["held"]})
    return sweep


def _written(path: Path) -> SweepConfig | None:
    """A sweep file as this version reads it: one of an earlier version lacks the newer fields. None if damaged."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        return parse_sweep(load_yaml(text, str(path)), str(path))
    except (OSError, UserError):
        return None


def check_deletable(folder: Path) -> None:
    """Raises ConfigError unless the folder is new, empty, a sweep folder or what a kill left of one."""
    known = (holds_sweep(folder) or holds_ablation(folder)) and "status" in read_state(folder)
    if is_used(folder) and not is_rest(folder) and not known:
        raise ConfigError(
            f"overwrite=True (--overwrite) must meet a sweep folder, with {SWEEP_FILES} that can be read, "
            f"got {str(folder)!r}; choose another folder (--dir)"
        )


def clear(folder: Path) -> None:
    """Delete the sweep in the folder. Raises ConfigError, and deletes nothing, if it holds anything else.

    What is left if this is killed says that it is being deleted: no command takes it for a sweep.
    """
    check_deletable(folder)
    if not is_used(folder):
        return
    with contextlib.suppress(WriteError):  # a full disk: deleting makes room
        write_record(folder / STATE_FILE, {"status": DELETING})
    last = (STATE_FILE, LOCK_FILE)
    for path in [path for path in folder.iterdir() if path.name not in last] + [folder / STATE_FILE]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def is_rest(folder: Path) -> bool:
    """Whether the folder holds what is left of a sweep that was killed while its folder was begun or deleted."""
    if not folder.is_dir() or holds_sweep(folder) or holds_ablation(folder):
        return False
    status = read_state(folder).get("status")
    known = status is not None or (folder / LOCK_FILE).exists()
    return status == DELETING or (known and is_used(folder) and only(OWN, folder))


def only(patterns: Sequence[str], folder: Path) -> bool:
    """Whether all names in the folder match one of the patterns."""
    return all(any(fnmatch.fnmatchcase(path.name, one) for one in patterns) for path in folder.iterdir())


def how_to_begin(folder: Path) -> str:
    """The way out where a command needs a sweep and the folder holds none."""
    if is_rest(folder):
        return f"it holds {REST}: `mergenet sweep run` with overwrite=True (--overwrite) begins a new one in it"
    return "`mergenet sweep run` makes one"


def holds_sweep(folder: Path) -> bool:
    """Whether the folder is of a sweep, perhaps with a damaged sweep.json."""
    whole = all((folder / name).is_file() for name in (SWEEP_FILE, BASE_FILE, STATE_FILE))
    return whole and read_state(folder).get("status") != DELETING


def holds_ablation(folder: Path) -> bool:
    """The same of an ablation, which is no sweep: its variants are a list, and it has no study."""
    whole = all((folder / name).is_file() for name in (ABLATION_FILE, BASE_FILE, STATE_FILE))
    return whole and read_state(folder).get("status") != DELETING


def status_of(folder: Path) -> str:
    return str(read_state(folder).get("status", UNKNOWN))


def load_resumable(folder: Path) -> SweepConfig:
    """The sweep of a folder, with the base that it started with and its warm start.

    Raises ConfigError if there is none to resume.
    """
    if holds_ablation(folder):
        raise ConfigError(
            f"{str(folder)!r} must be a sweep folder, got an ablation; `{resume_command(folder)}` resumes it"
        )
    if not holds_sweep(folder):
        raise ConfigError(
            f"{str(folder)!r} must be a sweep folder, with {SWEEP_FILES}, to be resumed; {how_to_begin(folder)}"
        )
    sweep = load_sweep(str(folder / SWEEP_FILE), ())
    return sweep.model_copy(update={"base": str(folder / BASE_FILE), "overrides": {}, "warm_start": ()})


def check_metric(sweep: SweepConfig, folder: Path) -> None:
    """Raises ConfigError if sweep.yaml was changed: its metric must be that by which the runs select their best."""
    for run in trial_folders(folder):
        with contextlib.suppress(UserError):
            own = read_result(run)[METRIC]
            break
    else:
        own = None
    if sweep.metric is None or own not in (None, sweep.metric):
        file, want = folder / SWEEP_FILE, own or "that of the task"
        raise ConfigError(
            f"{file}: metric must be {want}, as in the runs, got {sweep.metric or 'nothing'}; put it back"
        )


def resume_command(place: Path | str | None) -> str:
    """The command that resumes a sweep: a folder or a URL, quoted for a shell."""
    return f"mergenet sweep resume {shlex.quote(str(place))}"


def shown_path(path: Path) -> Path:
    """Relative to the working directory if it lies below it, as a user would write it."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
