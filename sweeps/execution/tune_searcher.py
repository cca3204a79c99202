"""Ray Tune's searcher on top of the study: Tune asks it what to train next, and reports the results to it."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from optuna.trial import TrialState
from ray.tune.search import Searcher

from mergenet.errors import WriteError
from mergenet.records.run_record import EPOCH
from sweeps.study.storage import storage_errors
from sweeps.study.study import StudyTrial, SweepStudy
from sweeps.trials.jobs import trial_name
from sweeps.trials.messages import EPOCHS, FAILURE, OBJECTIVE
from sweeps.trials.objectives import asked

MAX_STARTING = 16  # relays


class StudySearch(Searcher):
    """A result holds `epoch`, `epochs`, `objective`, and the sweep's other measures by name.

    A suggestion is {"number": index, "params": labels by path}.

    Trials that the study already holds come first, in their order: they are replayed to Tune's scheduler from their
    records. A trial stopped before its last epoch is PRUNED; one that raised, or whose value is missing or
    not finite, is FAIL.

    No more trials than MAX_STARTING wait for a new relay: Ray asks for each of them again and again until it starts,
    which with hundreds takes most of a core of the head, and what is drawn later knows more of the others.

    closed: what this process knows, called before each suggestion and where the scheduler stops a trial; once it is
    true nothing begins or goes on, and such a trial keeps its state.
    spent: called before each draw; once it is true nothing new is drawn, and trials drawn before go on.
    paused: may take long, called where a trial ends by itself before its last epoch; if it is true the trial keeps its
    state, else it is pruned.
    trouble: called with the reason when the study cannot be written; no more trials begin. What the study lacks then is
    read from the records when the sweep is resumed.
    lost: called with the reason when a trial has lost its relay, and nobody hears of its epochs. It keeps its state.
    """

    def __init__(
        self,
        study: SweepStudy,
        mode: str,
        num_trials: int,
        closed: Callable[[], bool],
        paused: Callable[[], bool],
        spent: Callable[[], bool] = lambda: False,
        trouble: Callable[[str], None] = lambda _: None,
        lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(metric=OBJECTIVE, mode=mode)
        self.study = study
        self.closed, self.paused, self.spent, self.trouble, self.lost = closed, paused, spent, trouble, lost
        self.known = study.known()
        drawn = {one.index for one in self.known}
        self.left = [index for index in range(num_trials) if index not in drawn]  # to draw
        self.drawn: dict[str, StudyTrial] = {}
        self.epochs: dict[str, int] = {}  # of each of these the last that was told
        self.waiting = set[str]()  # of these those whose relays start
        self.free = 0  # relays that trials have left, and no other trial has taken

    @contextmanager
    def kept(self) -> Iterator[None]:
        try:
            with storage_errors(self.study.sweep.storage, self.study.folder):
                yield
        except WriteError as error:
            self.trouble(str(error))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override] # Tune takes FINISHED too
        with self.kept():
            return self._suggest(trial_id)
        return Searcher.FINISHED

    def _suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.closed() or not (self.known or (self.left and not self.spent())):
            return Searcher.FINISHED
        if not self.free and len(self.waiting) >= MAX_STARTING:
            return None
        if self.known:
            drawn = self.known.pop(0)
        elif self.study.may_draw(self.left[0]):
            drawn = self.study.draw(self.left[0])
            self.left.pop(0)
        else:
            return None
        self.drawn[trial_id] = drawn
        if self.free:
            self.free -= 1
        else:
            self.waiting.add(trial_id)
        return {"number": drawn.index, "params": drawn.params}

    def on_trial_start(self, trial_id: str) -> None:
        """The trial has a relay; called by a callback, as Tune tells searchers nothing of it."""
        self.waiting.discard(trial_id)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if trial_id in self.drawn:
            self.epochs[trial_id] = result[EPOCH]
            with self.kept():
                self.study.report(self.drawn[trial_id], result[EPOCH], result.get(OBJECTIVE))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """result: of the last epoch, which Tune passes only here if its scheduler stops the trial after it.

        error: of the relay, because what a trial fails of is in its result.
        """
        drawn, told = self.drawn.pop(trial_id, None), self.epochs.pop(trial_id, 0)
        if drawn is None:
            return
        self.free += trial_id not in self.waiting
        self.waiting.discard(trial_id)
        if error:
            self.lost(f"{trial_name(drawn.index)} has lost its relay, the process that passes its epochs on")
            return
        value = (result or {}).get(OBJECTIVE)
        if result is None or FAILURE in result or value is None or not math.isfinite(value):
            state = TrialState.FAIL
        elif result[EPOCH] >= result[EPOCHS]:
            state = TrialState.COMPLETE
        else:
            state = TrialState.PRUNED
        stopped = state == TrialState.PRUNED and result is not None and result[EPOCH] > told  # by the scheduler
        ended = state == TrialState.COMPLETE or not (self.closed() if stopped else self.paused())
        measured = {name: (result or {}).get(name) for name in asked(self.study.sweep)}
        with self.kept():
            if ended and stopped and result is not None:
                self.study.stop(drawn, result[EPOCH])
            if ended and result is not None and state != TrialState.FAIL:
                self.study.report(drawn, result[EPOCH], value)
            if ended:
                self.study.tell(drawn, state, value, measured)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # a sweep is not resumed from Tune's snapshots, and locks cannot be pickled

    def save(self, checkpoint_path: str) -> None:
        """Nothing, as above."""

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError(f"a sweep goes on from its own records, not from {checkpoint_path}")
