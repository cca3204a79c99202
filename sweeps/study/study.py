"""The Optuna study of a sweep: every trial has the state in which its training ended.

Trials are counted by `index`, from 0, in the order in which they were completely drawn. Optuna's own number may run
ahead of it: a driver that is killed while it draws leaves a trial that never began.

What trial `index` draws depends on the sweep's seed, the index and the study so far, and not on how often the driver
was started: the sampler is built anew for every draw (samplers/registry.py).
"""

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.measures import excesses
from sweeps.config import SweepConfig
from sweeps.config.choices import SAMPLER_FACTS
from sweeps.samplers.deduplicate import distinct
from sweeps.samplers.history import (
    CURVE,
    INDEX,
    PARAMS,
    TRIAL_ID,
    by_index,
    constrain,
    is_finished,
    note,
    report,
    reported,
    trial_key,
)
from sweeps.samplers.registry import build_sampler
from sweeps.samplers.unit_cube import RecordingTrial
from sweeps.space.space import Labels, Space
from sweeps.study.prior_trials import tell_known
from sweeps.study.storage import open_study, study_in
from sweeps.study.warm_start import PriorTrial
from sweeps.study.write_through import flush, keep
from sweeps.trials.jobs import trial_name
from sweeps.trials.objectives import Measured, Outcome, values_of

GRACE = "grace_epochs"  # user attribute of the study
STOPPED = "stopped_after"  # user attribute of a trial: the epoch after which the scheduler stopped it
TOLD = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


@dataclass(frozen=True)
class StudyTrial:
    """A trial of the study. key: Optuna's id of it; params: labels by path."""

    index: int
    params: Labels
    number: int
    key: int


class SweepStudy:
    def __init__(
        self, sweep: SweepConfig, space: Space, mode: str, place: Path | BaseStorage, warm: Iterable[PriorTrial] = ()
    ) -> None:
        """Opens or creates the study of the sweep folder, or the one in a storage.

        warm: trials of earlier sweeps to add, in this order.
        Raises UserError if the study there is not this sweep's.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sweep, self.space = sweep, space
        objectives = {sweep.objective: mode} | dict.fromkeys(sweep.minimize, "min")
        self.folder = place if isinstance(place, Path) else Path()
        if isinstance(place, Path):
            self.study = open_study(sweep.storage, sweep.name, objectives, place)
        else:
            self.study = study_in(place, sweep.name, objectives)
        tell_known(self.study, sweep, space, warm)
        first = distinct(space, space.first_points())  # a base without transfer is itself what is tried beside it
        self.first = list(first)[: sweep.num_short or None]  # top_k's last draws are not drawn from them

    def known(self) -> list[StudyTrial]:
        """All trials that were completely drawn, by index."""
        return [drawn_of(trial) for trial in by_index(self.study)]

    def pruned(self) -> list[StudyTrial]:
        return [drawn_of(trial) for trial in by_index(self.study) if trial.state == TrialState.PRUNED]

    def may_draw(self, index: int) -> bool:
        """Whether everything that the draw depends on is known: `top_k` waits until all short trials have ended."""
        short = self.sweep.num_short
        if index < short or not short:
            return True
        first = [trial for trial in by_index(self.study) if trial.user_attrs[INDEX] < short]
        return all(trial.state.is_finished() for trial in first)

    def curves(self) -> tuple[dict[int, dict[int, float]], dict[int, int | None]]:
        """What the trials have reported so far, by index and epoch, and which of them have ended.

        Of these the epoch after which the scheduler stopped them, None if it did not. They include those that it has
        stopped and whose end is not told yet: a driver may be killed in between.
        """
        trials = by_index(self.study)
        curves = {trial.user_attrs[INDEX]: reported(trial) for trial in trials}
        ended = [trial for trial in trials if trial.state.is_finished() or STOPPED in trial.user_attrs]
        return curves, {trial.user_attrs[INDEX]: stopped_after(trial) for trial in ended}

    @property
    def grace(self) -> int | None:
        """The grace period in epochs, if it was measured already."""
        found = self.study.user_attrs.get(GRACE)
        return None if found is None else int(found)

    @grace.setter
    def grace(self, epochs: int) -> None:
        self.study.set_user_attr(GRACE, epochs)

    def restore(self, lost: Mapping[int, Labels]) -> None:
        """Adds trials from the records that a study whose file was lost lacks: by index, as they were drawn."""
        for index, labels in sorted(lost.items()):
            point = self.space.named(labels)
            self.space(asked := RecordingTrial(point))
            about = {TRIAL_ID: trial_name(index), PARAMS: json.dumps(labels), INDEX: index}
            self._add(params=point, distributions=asked.distributions, user_attrs=about)

    def retry(self, indices: Collection[int]) -> None:
        """Begins failed trials once more, each as a new Optuna trial, because ended trials cannot be changed."""
        for trial in by_index(self.study):
            if trial.state == TrialState.FAIL and trial.user_attrs[INDEX] in indices:
                told = (TRIAL_ID, PARAMS, INDEX, CURVE)
                about = {name: trial.user_attrs[name] for name in told if name in trial.user_attrs}
                values = trial.intermediate_values
                drawn = {"params": trial.params, "distributions": trial.distributions}
                self._add(**drawn, user_attrs=about, intermediate_values=values)

    def _add(self, **fields: Any) -> None:
        self.study.add_trial(create_trial(state=TrialState.RUNNING, **fields))

    def draw(self, index: int) -> StudyTrial:
        """Draws the next trial.

        Where the sampler keeps something of its own in a trial it is stored before it is used; from the records it
        could not be made again. Others are written behind.
        """
        if index < len(self.first) and not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self.study.enqueue_trial(self.first[index])
        self.study.sampler = build_sampler(self.sweep, self.space, self.study, index)
        trial = self.study.ask()
        params = self.space(trial)
        trial.set_user_attr(TRIAL_ID, trial_name(index))
        trial.set_user_attr(PARAMS, json.dumps(params))
        trial.set_user_attr(INDEX, index)  # last: a trial that has it is complete
        keep(self.study, trial_key(trial))
        if SAMPLER_FACTS[self.sweep.sampler].generations:
            self.flush()
        return StudyTrial(index, params, trial.number, trial_key(trial))

    def report(self, drawn: StudyTrial, epoch: int, value: float | None) -> None:
        """The metric so far; ignored once the trial has ended, and if it is missing or not finite."""
        if value is not None and math.isfinite(value) and self.is_running(drawn):
            report(self.study, drawn.key, epoch, value)

    def stop(self, drawn: StudyTrial, epoch: int) -> None:
        """Stores that the scheduler stops a trial after this epoch, before its last report and its end are told."""
        if self.is_running(drawn):
            note(self.study, drawn.key, STOPPED, epoch)

    def tell(
        self, drawn: StudyTrial, state: TrialState, value: float | None = None, measured: Measured | None = None
    ) -> None:
        """Tells the study how the trial ended; only the first call counts. Without a finite value it has failed.

        value: of the metric. measured: the sweep's other measures. PRUNED keeps its last intermediate value if
        there is one objective, and no value if there are several; what it was measured to break is known of it, too.
        """
        if not self.is_running(drawn):
            return
        values = values_of(self.sweep, value, measured or {})
        if values is None and state == TrialState.COMPLETE:
            state = TrialState.FAIL
        if values is not None and state != TrialState.FAIL:
            self._note(drawn, {**(measured or {}), self.sweep.objective: value})
        self.study.tell(drawn.number, values if state == TrialState.COMPLETE else None, state=state)

    def _note(self, drawn: StudyTrial, measured: Measured) -> None:
        """Stores a trial's measures and constraint violations; after a kill the next driver stores the same."""
        if not self.sweep.constraints:
            return
        for name in self.sweep.constraints:
            note(self.study, drawn.key, name, measured[name])
        constrain(self.study, drawn.key, excesses(self.sweep.bounds, measured))

    def is_running(self, drawn: StudyTrial) -> bool:
        return not is_finished(self.study, drawn.key)

    def reconcile(self, outcome: Callable[[StudyTrial], Outcome]) -> None:
        """Bring the study up to date with the records that a killed driver left behind.

        outcome: how a trial ended, or how far it is if its state is none of `TOLD`.
        Trials that were not drawn completely fail, those that have ended are told, the others stay running. Of these
        the study knows the epochs, too: where one has trained on it was decided that it goes on.
        """
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if INDEX not in trial.user_attrs:
                self.study.tell(trial.number, state=TrialState.FAIL)
                continue
            drawn = drawn_of(trial)
            found = outcome(drawn)
            for row in found.rows:
                self.report(drawn, row["epoch"], row["value"])
            if found.state in TOLD:
                self.tell(drawn, TOLD[found.state], found.value, found.measured)
        self.flush()

    def flush(self) -> None:
        """Waits until all that was told is written. Raises what its storage has raised."""
        flush(self.study)


def stopped_after(trial: FrozenTrial) -> int | None:
    """The epoch after which the scheduler stopped a trial; None if it did not."""
    if trial.state in (TrialState.COMPLETE, TrialState.FAIL):
        return None
    return int(trial.user_attrs.get(STOPPED, max(reported(trial), default=0)))


def drawn_of(trial: FrozenTrial) -> StudyTrial:
    attributes = trial.user_attrs
    return StudyTrial(attributes[INDEX], json.loads(attributes[PARAMS]), trial.number, trial_key(trial))
