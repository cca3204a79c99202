"""One run on Weights & Biases: how it is opened, which rows it lacks, how it ends.

Epochs that W&B already has, from an earlier driver or `mergenet sweep sync`, are not logged again: online W&B reports
the step at which the run continues (an epoch is a step), offline the run's files are read.
"""

import logging
import shutil
import urllib.error
import urllib.request
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.names import FAILED, REPLICATE, RUNNING, TRIALS_FOLDER
from analysis.seeds import first_of
from analysis.trial_file import named_values
from mergenet.config.pair_labels import in_a_word
from mergenet.errors import CheckpointError, ConfigError, UserError
from mergenet.records.run_record import BEST_EPOCH, EPOCH, MEASURE, read_result
from sweeps.config import SweepConfig
from sweeps.tracking.wandb_file import drop_empty, known_epochs, run_files
from sweeps.trials.messages import SUSPEND, Row

ONLINE, OFFLINE, DISABLED = "online", "offline", "disabled"
SUMMARY = "summary"  # the run of the whole sweep
INTERRUPTED = "interrupted"
NO_AGENT = {"sweep_id": None, "sweep_param_path": None, "launch": False, "launch_config_path": None}
INIT_SECONDS, FINISH_SECONDS, PROBE_SECONDS = 20, 30, 5


class NameTaken(UserError):
    """Another sweep of the same name is on W&B; the message is one line."""


@dataclass(frozen=True)
class MirrorRun:
    """known: the epochs that were logged before."""

    run: Any
    known: set[int]

    def log(self, row: Row) -> bool:
        """Logs a row unless W&B has it; returns whether it was new."""
        if row[EPOCH] in self.known:
            return False
        self.run.log(row)  # without step=: an explicit step drops rows silently
        self.known.add(row[EPOCH])
        return True

    def finish(self, outcome: dict[str, Any]) -> None:
        """Raises TimeoutError if W&B does not confirm what was logged."""
        self.run.summary.update(outcome)
        state = outcome["state"]
        if state == INTERRUPTED:
            self.run.mark_preempting()  # W&B then shows it as preempted: neither failed nor finished
        self.run.finish(exit_code=1 if state in (FAILED, INTERRUPTED) else 0)


def run_id(sweep: SweepConfig, job: str) -> str:
    return f"{sweep.name}-{job}"


def open_run(sweep: SweepConfig, folder: Path, job: str, role: str, config: dict[str, Any], mode: str) -> MirrorRun:
    """Blocks for INIT_SECONDS at most. Raises NameTaken, or whatever the client raises.

    A run without a file in this sweep folder must be new on W&B, or two sweeps of the same name would be mixed.
    """
    import wandb

    name = run_id(sweep, job)
    seen = bool(run_files(folder, name))
    if mode == OFFLINE:
        drop_empty(folder, name)
    known = known_epochs(folder, name) if mode == OFFLINE else set()
    logging.getLogger("wandb").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = set_up(wandb)
        if mode != OFFLINE:
            check_reachable(client.settings.base_url)
        try:
            run = wandb.init(
                mode="offline" if mode == OFFLINE else "online",
                project=sweep.wandb.project,
                id=name,
                name=job,
                group=sweep.name,
                job_type=role.split("_")[0],
                config=config,
                dir=str(folder),
                resume="allow" if seen else "never",
                reinit="create_new",
                settings=settings(wandb),
            )
        except wandb.errors.UsageError as error:
            if seen or "already exists" not in str(error):
                raise
            for path in run_files(folder, name):  # files of the attempt, which would look like a run of ours
                shutil.rmtree(path.parent)
            raise NameTaken(
                f"W&B has a run {name} that this sweep folder did not write; "
                "give the sweep another name, or another wandb.project"
            ) from None
    if role != SUMMARY:
        run.define_metric(EPOCH)
        run.define_metric("*", step_metric=EPOCH)
        run.define_metric(sweep.objective, step_metric=EPOCH, summary=f"{sweep.mode},last")
    return MirrorRun(run, known | set(range(1, run.starting_step + 1)))


def set_up(wandb: Any) -> Any:
    """The client of this process, silent before a run has settings too, and as if no agent of W&B's had started it.

    Within a sweep or a launch of W&B's own (WANDB_SWEEP_ID, WANDB_LAUNCH) it drops a run's id and project, and adds
    the agent's settings to its config; its warnings are not heard, because it is silent.
    """
    client = wandb.setup(settings=wandb.Settings(silent=True))
    for name, value in NO_AGENT.items():
        setattr(client.settings, name, value)
    return client


def check_reachable(base_url: str) -> None:
    """Raises OSError if there is no server. A run that could not be opened cannot be opened offline: it is "in use"."""
    try:
        with urllib.request.urlopen(f"{base_url}/graphql", timeout=PROBE_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise OSError(f"{base_url}: HTTP {error.code}") from None


def settings(wandb: Any) -> Any:
    quiet = {"console": "off", "silent": True, "disable_git": True, "disable_code": True, "x_disable_stats": True}
    times = {"init_timeout": INIT_SECONDS, "finish_timeout": FINISH_SECONDS, "finish_timeout_raises": True}
    return wandb.Settings(**quiet, **times)


def scalars(about: dict[str, Any]) -> dict[str, Any]:
    """Top-level scalars, the only values that W&B groups by. about: trial_id, role, params, seed, method, number.

    A replicate has the number and the name of its trial.
    """
    axes = {path.replace(".", "_"): in_a_word(value) for path, value in named_values(about.get("params", {})).items()}
    fixed = ("trial_id", "role", "number", "seed", "method")
    of = {"replicate_of": first_of(about["trial_id"])} if about.get("role") == REPLICATE else {}
    return axes | of | {key: about[key] for key in fixed if about.get(key) is not None}


def outcome(folder: Path, job: str, state: str, error: str | None) -> dict[str, Any]:
    """The end of a run for its W&B summary: state, error, and the measures in result.json."""
    try:
        result = read_result(folder / TRIALS_FOLDER / job)
    except CheckpointError:  # damaged: the mirror goes without
        result = {}
    measured = {name: value for name, value in result.items() if MEASURE.fullmatch(name) or name == BEST_EPOCH}
    measured = {name: value for name, value in measured.items() if value is not None and "_val_" not in name}
    measured = {} if state == FAILED else measured
    state = INTERRUPTED if state in (SUSPEND, RUNNING) else state
    return {"state": state, **measured} | ({} if error is None else {"error": error})


def check_key(sweep: SweepConfig) -> None:
    """Raises ConfigError if W&B would have to ask for a key: in a sweep nobody could answer."""
    if sweep.wandb.mode != ONLINE:
        return
    import wandb

    set_up(wandb)
    if not wandb.api.api_key:
        raise ConfigError(
            "wandb.mode online must find a key in WANDB_API_KEY or ~/.netrc, got none; "
            "`wandb login` writes one, or set wandb.mode=offline"
        )
