"""One run on Weights & Biases: how it is opened, which rows it lacks, how it ends.

Epochs that W&B already has, from an earlier driver or `mergenet sweep sync`, are not logged again: online W&B reports
the step at which the run continues (an epoch is a step), offline the run's files are read.
"""

import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from analysis.names import COMPLETE, FAILED, PRUNED
from analysis.wandb_runs.client import check_reachable, set_up
from analysis.wandb_runs.tracked import INTERRUPTED, OWN_NOTES, SEED, SUMMARY_ROLE, SWEEP_ID, VARIANT
from mergenet.errors import ConfigError, UserError
from mergenet.records.run_record import EPOCH, MEASURE
from sweeps.config import SweepConfig
from sweeps.tracking.wandb_about import Ending, axis_of, notes_of, run_id, tags_of
from sweeps.tracking.wandb_file import drop_empty, is_forgotten, known_epochs, listed, note_there, run_files, told_keys
from sweeps.trials.files import read_state
from sweeps.trials.messages import Row
from sweeps.trials.sweep_dir import STUDY_ID

ONLINE, OFFLINE, DISABLED = "online", "offline", "disabled"
STATES = {COMPLETE, PRUNED, FAILED, INTERRUPTED}  # tags, of which a run has one
INIT_SECONDS, FINISH_SECONDS = 20, 30
TAKEN = "W&B has a run {} that this sweep folder did not write; give the sweep another name, or another wandb.project"
Resume = Literal["allow", "never"] | None  # of the client; None: in the place of what W&B has


class NameTaken(UserError):
    """Another sweep of the same name is on W&B; the message has a line for each run."""


@dataclass(frozen=True)
class MirrorRun:
    """known: the epochs that were logged before. told: keys of its summary in earlier files, which the client of an
    offline run does not know. defined: the metrics whose summary W&B knows.
    """

    run: Any
    known: set[int]
    told: set[str] = field(default_factory=set)
    defined: set[str] = field(default_factory=set)

    @property
    def project_url(self) -> str | None:
        """None offline: the entity is not known before W&B has the run."""
        return None if self.run.offline else str(self.run.url).partition("/runs/")[0]

    def log(self, row: Row) -> bool:
        """Logs a row unless W&B has it; returns whether it was new."""
        if row[EPOCH] in self.known:
            return False
        self.define(row)
        self.run.log(row)  # without step=: an explicit step drops rows silently
        self.known.add(row[EPOCH])
        return True

    def define(self, metrics: Iterable[str]) -> None:
        """Of what is validated W&B's summary has the best and the last epoch."""
        for name in metrics:
            if name not in self.defined and MEASURE.fullmatch(name):
                self.run.define_metric(name, step_metric=EPOCH, **axis_of(name))
                self.defined.add(name)

    def describe(self, tags: Sequence[str], notes: str) -> None:
        """Tags and notes of a user, from the environment or W&B's pages, stay; of our tags the last state does."""
        kept = [tag for tag in self.run.tags or () if tag not in STATES]
        if (wanted := tuple(dict.fromkeys([*kept, *tags]))) != tuple(self.run.tags or ()):
            self.run.tags = wanted
        if (self.run.notes or OWN_NOTES).startswith(OWN_NOTES) and self.run.notes != notes:
            self.run.notes = notes

    def finish(self, ending: Ending) -> None:
        """Raises TimeoutError if W&B does not confirm what was logged."""
        for key in {*self.run.summary.keys(), *self.told} - ending.summary.keys():
            if ending.own.fullmatch(key):
                del self.run.summary[key]
        self.run.summary.update(ending.summary)
        if ending.config:
            self.run.config.update(ending.config, allow_val_change=True)
        self.describe(ending.tags, ending.notes)
        state = ending.summary["state"]
        if state == INTERRUPTED:
            self.run.mark_preempting()  # W&B then shows it as preempted: neither failed nor finished
        self.run.finish(exit_code=1 if state in (FAILED, INTERRUPTED) else 0)


def open_run(sweep: SweepConfig, folder: Path, job: str, role: str, config: dict[str, Any], mode: str) -> MirrorRun:
    """Blocks for INIT_SECONDS at most. Raises NameTaken, or whatever the client raises.

    A run without a file in this sweep folder must be new on W&B, or two sweeps of the same name would be mixed; unless
    it has the id of this sweep, whose folder was lost and came back from a copy. A run that trains anew after it was
    deleted takes the place of what W&B has.
    """
    import wandb

    name, state = run_id(sweep, job), read_state(folder)
    own, copied = state.get(STUDY_ID), bool(state.get("copy"))
    config = config | ({SWEEP_ID: own} if own else {})
    there = listed(folder, name)
    seen = bool(there)
    if mode == OFFLINE:
        drop_empty(run_files(there, name))
        there = listed(folder, name)
    known, told = (known_epochs(there, name), told_keys(there, name)) if mode == OFFLINE else (set(), set())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = set_up(wandb)
        client.settings.resume = None  # whatever WANDB_RESUME says
        if mode != OFFLINE:
            check_reachable(client.settings.base_url)
        resume: Resume = None if is_forgotten(there, name) else "allow" if seen else "never"
        if resume == "never" and copied and mode != OFFLINE and (online := config_there(sweep, name)) is not None:
            resume = regained(name, config, online)
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
                resume=resume,
                reinit="create_new",
                settings=settings(wandb),
            )
        except wandb.errors.UsageError as error:
            if resume != "never" or "already exists" not in str(error):
                raise
            for path in run_files(folder, name):  # files of the attempt, which would look like a run of ours
                shutil.rmtree(path.parent)
            raise NameTaken(TAKEN.format(name)) from None
    if mode != OFFLINE and not seen and run.starting_step:
        note_there(Path(run.dir), name, run.starting_step)
    opened = MirrorRun(run, known | set(range(1, run.starting_step + 1)), told)
    if role != SUMMARY_ROLE:
        run.define_metric(EPOCH)
        run.define_metric("*", step_metric=EPOCH)
        opened.define([sweep.objective])
    opened.describe(tags_of(folder, role), notes_of(sweep, folder, opened.project_url))
    return opened


def config_there(sweep: SweepConfig, name: str) -> dict[str, Any] | None:
    """The configuration of a run on W&B; None if there is none, or it cannot be read."""
    import wandb

    try:
        return dict(wandb.Api(timeout=INIT_SECONDS).run(f"{sweep.wandb.project}/{name}").config)
    except Exception:  # W&B raises anything; the client tells what is wrong when it opens the run
        return None


def regained(name: str, config: Mapping[str, Any], there: Mapping[str, Any]) -> Resume:
    """How a run goes on that W&B has and this folder has no file of. Raises NameTaken unless it is of this sweep.

    It is asked before the client tries: a run that it could not open stays "in use". One that is drawn otherwise by
    now takes the place of what W&B has. there: its configuration on W&B.
    """
    if SWEEP_ID not in config or there.get(SWEEP_ID) != config[SWEEP_ID]:
        raise NameTaken(TAKEN.format(name))
    return "allow" if all(there.get(key) == config.get(key) for key in (VARIANT, SEED)) else None


def settings(wandb: Any) -> Any:
    quiet = {"console": "off", "silent": True, "disable_git": True, "disable_code": True, "x_disable_stats": True}
    times = {"init_timeout": INIT_SECONDS, "finish_timeout": FINISH_SECONDS, "finish_timeout_raises": True}
    return wandb.Settings(**quiet, **times)


def check_key(sweep: SweepConfig, otherwise: str = "wandb.mode=offline") -> None:
    """Raises ConfigError if W&B would have to ask for a key: in a sweep nobody could answer.

    otherwise: what to set to do without.
    """
    if sweep.wandb.mode != ONLINE:
        return
    import wandb

    set_up(wandb)
    if not wandb.api.api_key:
        raise ConfigError(
            "wandb.mode online must find a key in WANDB_API_KEY or ~/.netrc, got none; "
            f"`wandb login` writes one, or set {otherwise}"
        )
