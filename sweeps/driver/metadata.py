"""The files about the sweep as a whole: those in its folder from the start, and sweep.json."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import mergenet
from analysis.names import RUNNING, SWEEP_FILE
from analysis.sweep_file import SETTINGS
from mergenet.config import Config
from mergenet.config.loading import dump_yaml
from mergenet.config.yaml12 import load_yaml
from mergenet.errors import WriteError
from mergenet.records.atomic import remove, write_text
from mergenet.records.command import running_command
from mergenet.records.sealed import write_record
from sweeps.config.loading import dump_sweep
from sweeps.planning.inputs import INPUTS, inputs_of
from sweeps.planning.plan import Plan, fresh_seeds, more_seeds
from sweeps.study.draws import DRAWS, draw_facts
from sweeps.study.warm_start import WARM_FILE, write_warm_start
from sweeps.tracking.remote_copy import claim
from sweeps.trials.files import COMMAND, STATE_FILE, read_state
from sweeps.trials.sweep_dir import BASE_FILE, STUDY_ID, check_deletable, clear, locked

# kept when the sweep is resumed
KEPT = ("base_hash", "copy", COMMAND, "num_trials", "seconds", INPUTS, DRAWS, STUDY_ID, SETTINGS)
VERSIONS = ("ray", "optuna", "torch", "wandb")
WRITING = threading.Lock()  # sweep.json is read and written again, by the clock's thread too


@contextmanager
def new_folder(
    folder: Path, check_free: Callable[[Path], None], overwrite: bool, name: str, copy_to: str | None
) -> Iterator[Path]:
    """The folder, absolute, locked and empty, and the URL of its copy claimed for the sweep of this name.

    check_free: raises ConfigError for a folder that holds anything, which with overwrite may be a sweep.
    """
    check = check_deletable if overwrite else check_free
    check(folder)
    folder = folder.absolute()
    with locked(folder):
        check(folder)  # again: another driver may have been faster
        clear(folder)
        if copy_to is not None:
            claim(copy_to, folder, name)
        yield folder


def begin(plan: Plan, folder: Path, copy_to: str | None) -> None:
    """Writes the files that the folder holds from the start. Raises WriteError, and then leaves none of them.

    sweep.json comes first: from then on the folder is known as a sweep's. sweep.yaml is last: then it can be resumed.
    """
    try:
        trials = {"asked": plan.asked, "held": plan.sweep.num_trials}
        own: dict[str, Any] = {
            STUDY_ID: uuid.uuid4().hex,
            "base_hash": plan.base_hash,
            "copy": copy_to,
            COMMAND: running_command(),
            "num_trials": trials,
            DRAWS: draw_facts(),
            SETTINGS: load_yaml(dump_sweep(plan.sweep), SWEEP_FILE),
        }
        write_status(folder, plan, RUNNING, **own)
        note_inputs(folder, plan)
        write_text(folder / BASE_FILE, dump_yaml(Config.model_validate(plan.space.base)))
        write_warm_start(folder, plan.warm)
        write_text(folder / SWEEP_FILE, dump_sweep(plan.sweep))
    except WriteError:
        for name in (BASE_FILE, SWEEP_FILE, WARM_FILE, STATE_FILE):
            remove(folder / name)
        raise


def write_status(folder: Path, plan: Plan, status: str, error: str | None = None, **more: Any) -> None:
    versions = {"mergenet": mergenet.__version__} | {name: metadata.version(name) for name in VERSIONS}
    seeds = {"search": plan.sweep.seed, "trials": plan.space.base["seed"], "confirmation": fresh_seeds(plan)}
    seeds |= {"replicates": found} if (found := more_seeds(plan)) else {}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    source = {"recorded": plan.source.record, "layers": list(plan.source.layers), "every": plan.source.every}
    state = {"name": plan.sweep.name, "status": status, "error": error, "written": now, "seeds": seeds}
    with WRITING:
        kept = {key: value for key, value in read_state(folder).items() if key in KEPT}
        write_record(folder / STATE_FILE, state | {"versions": versions, "source": source} | kept | more)


def note_inputs(folder: Path, plan: Plan) -> None:
    """The code and data of the trials from here on."""
    inputs = inputs_of(Config.model_validate(plan.space.base), plan.sweep.search)
    write_status(folder, plan, RUNNING, inputs=inputs)


def note_status(folder: Path, plan: Plan, status: str, error: str | None = None) -> None:
    """If it cannot be written the folder still says that the sweep runs; `status` sees that no driver is running."""
    with suppress(WriteError):
        write_status(folder, plan, status, error)
