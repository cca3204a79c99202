"""Warm start: the study holds the trials of earlier sweeps before the first draw.

Only results that would be the same here are added: those with the same base, metric, seeds per trial and code of the
user's own modules, and a configuration that this space can draw. They are read from the run records when the sweep is
planned and kept in warm_start.json, so that a sweep that is resumed does not need the earlier folder. prior_trials.py
adds them to the study.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from analysis.measures import STEP_SECONDS, best_so_far
from analysis.names import (
    COMPLETE,
    PRUNED,
    RUNNING,
    SWEEP_FILE,
    TRIAL,
    portable_config,
)
from analysis.seeds import combined, replicate_pattern
from analysis.trial_file import begun_runs, read_outcome, state_of, trial_of
from mergenet.config import Config
from mergenet.config.loading import load_config, parse_config
from mergenet.config.rules import shown
from mergenet.errors import ConfigError, UserError
from mergenet.records.inputs import CODE, code_changes
from mergenet.records.models import Record, checked
from mergenet.records.run_record import read_run
from mergenet.records.sealed import read_record, write_record
from sweeps.config import SweepConfig
from sweeps.config.choices import SAMPLER_FACTS
from sweeps.config.loading import load_sweep
from sweeps.space.space import Labels, Space
from sweeps.trials.files import BEST_FILE
from sweeps.trials.objectives import asked, measured, values_of
from sweeps.trials.sweep_dir import BASE_FILE, SWEEP_FILES, holds_sweep

WARM_FILE = "warm_start.json"
LEARNS = [name for name, facts in SAMPLER_FACTS.items() if facts.learns]
SAME = ("metric", "seeds_per_trial")  # settings of a sweep that define the value of a trial

OUTSIDE, REPEATED, UNREADABLE = "outside this space", "repeated", "not readable"
FAILED, TRAINING, NO_VALUE = "failed", "still training", "without a value"
OTHER_CODE = "trained with other code of your modules"


@dataclass(frozen=True)
class PriorTrial:
    """A trial of an earlier sweep. sweep: its folder; params: labels of this space by path.

    values: the objective, the best value so far, by epoch, of the first seed; with several seeds, of a complete trial,
    the last is their mean. complete: it trained to its last epoch. measured: this sweep's other measures at the end.
    """

    sweep: str
    name: str
    params: Labels
    values: dict[int, float]
    complete: bool
    measured: dict[str, float | None] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The objective at the end."""
        return self.values[max(self.values)]


@dataclass(frozen=True)
class WarmStart:
    """left_out: sweep folder -> reason -> number of trials that are not added."""

    trials: tuple[PriorTrial, ...] = ()
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)

    def facts(self) -> list[dict[str, Any]]:
        """How many trials of each folder are added, and how many are left out for which reason."""
        used = Counter((trial.sweep, trial.complete) for trial in self.trials)
        return [
            {"sweep": sweep, "complete": used[sweep, True], "stopped": used[sweep, False], "left_out": left_out}
            for sweep, left_out in self.left_out.items()
        ]


def read_warm_start(sweep: SweepConfig, space: Space) -> WarmStart:
    """The trials of the folders in `warm_start`. space: the planned one. Raises ConfigError; writes nothing."""
    if sweep.warm_start and not SAMPLER_FACTS[sweep.sampler].learns:
        raise ConfigError(
            f"warm_start must be given to a sampler that learns from it ({', '.join(LEARNS)}), got {sweep.sampler}; "
            "leave it out"
        )
    if sweep.warm_start and STEP_SECONDS in asked(sweep):
        raise ConfigError(
            f"warm_start must be without {STEP_SECONDS} in minimize and constraints, because another sweep's "
            "were measured under another load; leave one out"
        )
    found = []
    for folder in dict.fromkeys(sweep.warm_start):
        check_sweep(sweep, space, Path(folder))
        found += [(folder, trial) for trial in read_folder(Path(folder), space, sweep)]
    found = without_repeats(found)
    reasons = {folder: Counter[str]() for folder in sweep.warm_start}
    for folder, trial in found:
        if isinstance(trial, str):
            reasons[folder][trial] += 1
    trials = tuple(trial for _, trial in found if isinstance(trial, PriorTrial))
    return WarmStart(trials, {folder: dict(counts) for folder, counts in reasons.items()})


def check_sweep(sweep: SweepConfig, space: Space, folder: Path) -> None:
    """Raises ConfigError unless the folder holds a sweep of the same base, metric and seeds per trial."""
    if not holds_sweep(folder):
        raise ConfigError(
            f"warm_start must name sweep folders, with {SWEEP_FILES}, got {str(folder)!r}; "
            "`mergenet sweep run` makes one"
        )
    earlier = load_sweep(str(folder / SWEEP_FILE))
    for name in SAME:
        mine, theirs = getattr(sweep, name), getattr(earlier, name)
        if mine != theirs:
            raise ConfigError(
                f"warm_start must name sweeps with {name} {shown(mine)}, got {str(folder)!r} with {shown(theirs)}; "
                "leave it out"
            )
    base = load_config(str(folder / BASE_FILE))
    other = differences(base, space.config({}), [*earlier.search, *space.entries])
    if other:
        (path, (theirs, mine)), more = next(iter(other.items())), len(other) - 1
        best = folder / BEST_FILE
        raise ConfigError(
            f"warm_start must name sweeps of the same base, got {str(folder)!r}, where {path} is {shown(theirs)} and "
            f"not {shown(mine)}{f' ({more} more differ)' if more else ''}; "
            + (f"base: {best} starts from its best instead" if best.is_file() else "leave it out")
        )


def differences(one: Config, other: Config, searched: Iterable[str]) -> dict[str, tuple[Any, Any]]:
    """Path -> both values, of the settings in which two bases differ, except names and searched settings."""
    ours, theirs = (dict(leaves(config.model_dump(mode="json", exclude={"name"}))) for config in (one, other))
    changed = {
        path: (ours.get(path), theirs.get(path)) for path in {**ours, **theirs} if ours.get(path) != theirs.get(path)
    }
    inside = [f"{path}." for path in searched]
    return {path: pair for path, pair in changed.items() if not any(f"{path}.".startswith(start) for start in inside)}


def leaves(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The plain values of a nested mapping, by dotted path."""
    items = values.items() if isinstance(values, Mapping) else enumerate(values) if isinstance(values, list) else None
    if items is None:
        yield path, values
        return
    for key, value in items:
        yield from leaves(value, f"{path}.{key}" if path else str(key))


def read_folder(folder: Path, space: Space, sweep: SweepConfig) -> Iterator[PriorTrial | str]:
    """The trials of a sweep's search by number, or the reasons why they are left out."""
    found = [(run, trial_of(run)) for run in begun_runs(folder)]
    yield from [UNREADABLE for run, trial in found if trial is None and run.name.startswith(TRIAL)]
    trials = [(run, trial) for run, trial in found if trial is not None and trial["role"] == TRIAL]
    for path, _ in sorted(trials, key=lambda pair: (pair[1]["number"], pair[0])):
        yield read_known(path, space, sweep)


def read_known(folder: Path, space: Space, sweep: SweepConfig) -> PriorTrial | str:
    """folder: that of the trial's first seed."""
    runs = [folder, *sorted(folder.parent.glob(replicate_pattern(folder.name)))]
    state = combined([state_of(run) for run in runs], sweep.seeds_per_trial)
    if state not in (COMPLETE, PRUNED):
        return TRAINING if state == RUNNING else FAILED
    try:
        for run in runs:
            read_outcome(run)
        records = [read_run(run) for run in (runs if state == COMPLETE else runs[:1])]
        config = parse_config(portable_config(records[0].config), str(folder))
        own = [record.provenance for record in records if record.provenance.get(CODE)]
        if own and any(code_changes(origin, config) for origin in own):
            return OTHER_CODE
    except UserError:
        return UNREADABLE
    rows = [record.epochs for record in records]
    curves = [best_so_far(row, sweep.objective) for row in rows]
    if not all(curves):
        return NO_VALUE
    values = curves[0] | {max(curves[0]): statistics.fmean(curve[max(curve)] for curve in curves)}
    if state == PRUNED and sweep.seeds_per_trial > 1:
        values.pop(config.epochs, None)  # where others have means: its other seeds did not get there
    found = measured(sweep, rows)
    if not values or values_of(sweep, values[max(values)], found) is None:
        return NO_VALUE
    labels = space.locate(config)
    if labels is None or not the_same(space.config(labels), config):
        return OUTSIDE
    return PriorTrial(str(folder.parent.parent), folder.name, labels, values, state == COMPLETE, found)


def the_same(one: Config, other: Config) -> bool:
    """Whether two configurations train the same: a recording replays what the live source gives."""
    values = [portable_config(config.model_dump(mode="json", exclude={"name"})) for config in (one, other)]
    return bool(values[0] == values[1])


def without_repeats(found: Sequence[tuple[str, PriorTrial | str]]) -> list[tuple[str, PriorTrial | str]]:
    """Of trials with the same configuration only the one that trained longest is kept, of equals the first."""
    best: dict[frozenset[Any], PriorTrial] = {}
    for _, trial in found:
        if isinstance(trial, PriorTrial):
            key = frozenset(trial.params.items())
            best[key] = max(best.get(key, trial), trial, key=lambda one: (one.complete, len(one.values)))
    kept = [id(trial) for trial in best.values()]
    return [
        (folder, REPEATED if isinstance(trial, PriorTrial) and id(trial) not in kept else trial)
        for folder, trial in found
    ]


class WarmTrial(Record):
    sweep: str
    name: str
    params: dict[str, Any]
    values: dict[str, float] = Field(min_length=1)
    complete: bool
    measured: dict[str, float | None]


class WarmFile(Record):
    """warm_start.json."""

    trials: list[WarmTrial] = Field(description="trials as they were written")
    left_out: dict[str, dict[str, int]] = Field(description="numbers of trials")


def write_warm_start(folder: Path, warm: WarmStart) -> None:
    if warm.left_out:
        write_record(folder / WARM_FILE, asdict(warm))


def load_warm_start(folder: Path) -> WarmStart:
    """What `write_warm_start` wrote into a sweep folder. Raises CheckpointError if it is damaged."""
    path = folder / WARM_FILE
    if not path.exists():
        return WarmStart()
    way_out = "without it the sweep goes on, and knows no earlier trial"
    values = read_record(path, way_out)
    checked(WarmFile, values, str(path), f"the file is damaged, {way_out}")
    trials = [
        PriorTrial(**one | {"values": {int(epoch): value for epoch, value in one["values"].items()}})
        for one in values.get("trials", ())
    ]
    return WarmStart(tuple(trials), values.get("left_out", {}))
