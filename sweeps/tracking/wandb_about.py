"""What W&B is told about a run beside its rows: configuration, tags, notes, and how it ended.

The configuration holds scalars of the top level only, because W&B groups by nothing else. `variant` is all but the
seed: one group-by gives a group for each recipe, whose runs are its seeds.
"""

import json
import math
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.measures import STEP_SECONDS, step_seconds
from analysis.names import CONFIRM_ROLES, CONTROL_OF, FAILED, REPLICATE, RUNNING, TRIALS_FOLDER, mode_of
from analysis.seeds import SEEDS, first_of
from analysis.sweep_file import read_confirmation
from analysis.trial_file import named_values, trial_of
from analysis.wandb_runs.tracked import (
    CONFIG_HASH,
    CONSTRAINTS,
    INTERRUPTED,
    METHOD,
    NUM_SEEDS,
    NUMBER,
    OWN_NOTES,
    REPLICATE_OF,
    ROLE,
    SEARCHED,
    SEED,
    SUMMARY_ROLE,
    SUMMARY_RUN,
    TRIAL_ID,
    VARIANT,
)
from mergenet.config.loading import parse_config
from mergenet.config.pair_labels import in_a_word
from mergenet.errors import CheckpointError, ConfigError
from mergenet.records.inputs import DATA, short
from mergenet.records.run_record import (
    ADAPTER_PARAMETERS,
    BEST_EPOCH,
    ERROR,
    MEASURE,
    METRIC,
    SOURCE_BEST_EPOCH,
    read_epochs,
    read_provenance,
    read_result,
    read_run,
)
from sweeps.config import SweepConfig
from sweeps.trials.files import COMMAND, read_state
from sweeps.trials.messages import SUSPEND
from sweeps.trials.record import best_value
from sweeps.trials.sweep_dir import ABLATION_FILE

ABLATION, CONFIRM = "ablation", "confirm"  # tags beside the state
OBJECTIVE = "objective"  # the best value of the sweep's metric: one number under one name in every run
ABOUT = (TRIAL_ID, ROLE, NUMBER, SEED, METHOD)
SOLE = ("state", ERROR, OBJECTIVE, BEST_EPOCH, SOURCE_BEST_EPOCH, STEP_SECONDS, ADAPTER_PARAMETERS)
OF_RUN = re.compile(rf"{'|'.join(SOLE)}|(target|source)_test_\w+")  # the keys of a summary that an ending speaks of


@dataclass(frozen=True)
class Ending:
    """How a run ended. summary: for W&B's; has `state`. config: what is known only now.

    own: of the keys that W&B's summary has from an earlier ending, those that go unless this one has them.
    """

    summary: dict[str, Any]
    tags: tuple[str, ...] = ()
    notes: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    own: re.Pattern[str] = OF_RUN


def run_id(sweep: SweepConfig, job: str) -> str:
    return f"{sweep.name}-{job}"


def scalars(about: Mapping[str, Any], sweep: SweepConfig) -> dict[str, Any]:
    """The configuration of a run. about: trial_id, role, params, seed, method, number; config: the whole training's.

    A searched setting has underscores for its dots, whether it was drawn or is the base's, so that runs group by it;
    `searched` has the paths of those that were drawn. A replicate has the number and the name of its trial.
    """
    drawn = named_values(about.get("params", {}))
    given = {path: value_at(about.get("config") or {}, path) for path in searched_paths(sweep)}
    settings = {
        path: value for path, value in given.items() if value is not None and not isinstance(value, dict)
    } | drawn
    axes = {path.replace(".", "_"): in_a_word(value) for path, value in settings.items()}
    of = {REPLICATE_OF: first_of(about["trial_id"])} if about.get("role") == REPLICATE else {}
    fixed = {METRIC: sweep.objective, SUMMARY_RUN: run_id(sweep, SUMMARY_ROLE), SEARCHED: ", ".join(drawn)}
    bounds = {CONSTRAINTS: json.dumps(sweep.bounds)} if sweep.constraints else {}
    group = {VARIANT: found} if (found := variant_of(about.get("config"), sweep)) else {}
    return axes | of | fixed | bounds | group | {key: about[key] for key in ABOUT if about.get(key) is not None}


def variant_of(config: Mapping[str, Any] | None, sweep: SweepConfig) -> str | None:
    """Name and hash of all but the seed; None of a run whose configuration is not known, or not valid any more."""
    if not config:
        return None
    from analysis.comparison.variants import variant  # pandas

    try:
        return variant(parse_config(dict(config), "the run"), searched_paths(sweep))
    except ConfigError:
        return None


def searched_paths(sweep: SweepConfig) -> list[str]:
    """The settings that the sweep varies, by dotted path; of a mapping those that its values name."""
    searched = {path: entry.listed or (None,) for path, entry in sweep.search.items()}
    names = [name for path, values in searched.items() for value in values for name in named_values({path: value})]
    return list(dict.fromkeys(names))


def value_at(values: Any, path: str) -> Any:
    """Of plain values, by a dotted path; None where it leads nowhere."""
    for key in path.split("."):
        inside = {str(place): value for place, value in enumerate(values)} if isinstance(values, list) else values
        values = inside.get(key) if isinstance(inside, dict) else None
    return values


def tags_of(folder: Path, role: str, state: str | None = None) -> tuple[str, ...]:
    """Tags of a role, and of the state once there is one. folder: of the sweep, or of an ablation."""
    tags = [CONFIRM] if role in CONFIRM_ROLES or read_confirmation(folder) else []
    tags += [ABLATION] if role in CONTROL_OF or (folder / ABLATION_FILE).is_file() else []
    return tuple(tags + ([state] if state else []))


def notes_of(
    sweep: SweepConfig, folder: Path, project_url: str | None, provenance: Mapping[str, Any] | None = None
) -> str:
    """What made a run, as markdown: the command of its sweep, versions, commit and hashes of the data.

    project_url: None where W&B has not said it, as offline. provenance: of the run, once it has one.
    """
    summary, origin = run_id(sweep, SUMMARY_ROLE), provenance or {}
    link = summary if project_url is None else f"[{summary}]({project_url}/runs/{urllib.parse.quote(summary)})"
    command = read_state(folder).get(COMMAND)
    lines = [f"{OWN_NOTES}{sweep.name}; its table, its best and its artifacts: run {link}."]
    lines.append("Made from Python." if command is None else f"Made by `{command}`.")
    if versions := origin.get("versions"):
        commit = f", commit {origin['git_commit'][:12]}" if origin.get("git_commit") else ""
        dirty = " with uncommitted edits" if origin.get("git_dirty") else ""
        known = ", ".join(f"{name} {versions[name]}" for name in ("mergenet", "torch") if versions.get(name))
        lines.append(f"Code: {known}{commit}{dirty}.")
    if hashes := origin.get(DATA):
        lines.append("Data: " + ", ".join(f"{role} {short(value)}" for role, value in hashes.items()) + ".")
    return "\n\n".join(lines)


def ending_of(
    sweep: SweepConfig, folder: Path, about: Mapping[str, Any], state: str, error: str | None, project_url: str | None
) -> Ending:
    """about: of the job, trial_id and role. Whatever of its records is damaged is left out."""
    run = folder / TRIALS_FOLDER / about["trial_id"]
    origin, trial = provenance_of(run), trial_of(run) or {}
    state = INTERRUPTED if state in (SUSPEND, RUNNING) else state
    told = {"state": state, **measures(sweep, run, state), **summed_up(run)} | (
        {} if error is None else {"error": error}
    )
    config = {NUM_SEEDS: len(trial[SEEDS])} if SEEDS in trial else {}
    config |= {CONFIG_HASH: origin[CONFIG_HASH]} if CONFIG_HASH in origin else {}
    return Ending(told, tags_of(folder, about["role"], state), notes_of(sweep, folder, project_url, origin), config)


def measures(sweep: SweepConfig, run: Path, state: str) -> dict[str, Any]:
    """What was measured on the test split, at which epoch, the objective and the costs, as far as they are known.

    What was validated is `summed_up`.
    """
    try:
        result, rows = read_result(run), read_epochs(run)
    except CheckpointError:
        return {}
    found: dict[str, Any] = {name: result.get(name) for name in (BEST_EPOCH, SOURCE_BEST_EPOCH)}
    found |= {name: value for name, value in result.items() if MEASURE.fullmatch(name) and "_val_" not in name}
    found[OBJECTIVE] = best_value(rows, sweep.objective)
    found = {} if state == FAILED else found
    found |= {STEP_SECONDS: step_seconds(rows), ADAPTER_PARAMETERS: rows[-1].get(ADAPTER_PARAMETERS) if rows else None}
    return {name: value for name, value in found.items() if value is not None}


def summed_up(run: Path) -> dict[str, dict[str, float]]:
    """Each measure of the epochs as `axis_of` has it, over all of them: W&B's client knows those that it logged."""
    try:
        rows = read_epochs(run)
    except CheckpointError:
        return {}
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(name for row in rows for name in row if MEASURE.fullmatch(name)):
        values = [row[name] for row in rows if row.get(name) is not None]
        best = best_value([{name: value} for value in values if math.isfinite(value)], name)
        found[name] = ({} if best is None else {mode_of(name): best}) | ({"last": values[-1]} if values else {})
    return {name: values for name, values in found.items() if values}


def config_of(run: Path) -> dict[str, Any]:
    """The whole training's; empty if it failed before its run began."""
    try:
        return read_run(run).config
    except CheckpointError:
        return {}


def provenance_of(run: Path) -> dict[str, Any]:
    """Empty if the run has not begun, or its file is damaged."""
    try:
        return read_provenance(run)
    except (CheckpointError, OSError):
        return {}


def axis_of(metric: str) -> dict[str, str]:
    """How W&B sums up a metric of each epoch: its best beside its last value."""
    return {"summary": f"{mode_of(metric)},last"}
