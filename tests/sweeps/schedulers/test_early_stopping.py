"""Early stopping: each rule by name, the grace that is measured, and drivers that go on decide as the first would."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState
from ray import cloudpickle
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from analysis.importance.curves import agreement
from mergenet.records.run_record import EPOCH
from sweeps.schedulers.early_stopping import RULES, EpochScheduler, TrialEpoch, bracket_of, build_scheduler, value_by
from sweeps.schedulers.grace import MIN_TRIALS, measured_grace
from sweeps.schedulers.rungs import overtaken
from sweeps.trials.messages import OBJECTIVE
from tests.sweeps.base import sweep_config
from tests.sweeps.spaces import SEARCH
from tests.sweeps.studies import opened

EPOCHS = 9


def curve(first: float, last: float, epochs: int = EPOCHS) -> dict[int, float]:
    """From first to last, in even steps."""
    return {epoch: first + (last - first) * (epoch - 1) / (epochs - 1) for epoch in range(1, epochs + 1)}


def crossing(count: int, at: int) -> dict[int, dict[int, float]]:
    """Trials whose ranking is upside down before an epoch."""
    return {n: {e: float(n if e >= at else -n) for e in range(1, EPOCHS + 1)} for n in range(count)}


class Driver:
    """A scheduler on a study in a folder, as a driver makes it; what it said."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.study, self.said = opened(folder, **changes), list[str]()
        self.scheduler: EpochScheduler = build_scheduler(self.study, EPOCHS, self.said.append)

    def train(self, number: int, values: dict[int, float]) -> int:
        """One trial, epoch by epoch, on its own; how many epochs it had."""
        drawn = self.study.draw(number)
        trial: Any = SimpleNamespace(config={"number": number})
        for epoch, value in values.items():
            answer = self.scheduler.on_trial_result(None, trial, {EPOCH: epoch, OBJECTIVE: value})
            self.study.report(drawn, epoch, value)
            if answer == TrialScheduler.STOP:
                self.study.tell(drawn, TrialState.PRUNED)
                return epoch
        self.study.tell(drawn, TrialState.COMPLETE, value)
        return epoch


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [
        ({"scheduler": "none"}, [9, 9, 9, 9, 9]),
        ({"scheduler": "asha", "grace_epochs": 1}, [9, 1, 1, 9, 1]),
        ({"scheduler": "asha", "grace_epochs": 2}, [9, 2, 2, 9, 2]),
        ({"scheduler": "asha", "grace_epochs": 9}, [9, 9, 9, 9, 9]),
        ({"scheduler": "asha", "grace_epochs": 20}, [9, 9, 9, 9, 9]),
        ({"scheduler": "racing", "grace_epochs": 2}, [9, 2, 2, 9, 2]),
        ({"scheduler": "racing", "grace_epochs": 9}, [9, 9, 9, 9, 9]),
        ({"scheduler": "median", "grace_epochs": 2}, [9, 9, 9, 9, 2]),  # from the fourth on there are enough others
    ],
)
def test_who_is_stopped(tmp_path: Path, changes: dict[str, Any], epochs: list[int]) -> None:
    driver = Driver(tmp_path, **changes)
    lasts = [0.5, 0.4, 0.3, 0.6, 0.2]
    assert [driver.train(number, curve(last / 2, last)) for number, last in enumerate(lasts)] == epochs


def test_a_loss_is_stopped_when_it_is_high(tmp_path: Path) -> None:
    driver = Driver(tmp_path, metric="target_val_loss", grace_epochs=1)
    assert [driver.train(n, curve(2 * last, last)) for n, last in enumerate([0.5, 0.6, 0.4])] == [9, 1, 9]


def test_asha_decides_as_ray_does(tmp_path: Path) -> None:
    """The same curves through Ray's own scheduler, on the same rungs."""
    driver = Driver(tmp_path, scheduler="asha", grace_epochs=1, num_trials=30)
    stock = ASHAScheduler(
        time_attr=EPOCH, metric=OBJECTIVE, mode="max", max_t=EPOCHS, grace_period=1, reduction_factor=3
    )
    for number in range(30):
        values = curve((number * 7 % 11) / 20, (number * 5 % 13) / 13)
        trial: Any = SimpleNamespace(trial_id=str(number))
        stock.on_trial_add(None, trial)
        stops = (e for e, v in values.items() if stock.on_trial_result(None, trial, {EPOCH: e, OBJECTIVE: v}) == "STOP")
        assert driver.train(number, values) == next(stops, EPOCHS)


def race(curves: dict[int, dict[int, float]], number: int, grace: int = 2, epochs: int = 27) -> int:
    """The epoch at which a trial is stopped that trains last of all, or the last epoch."""
    sweep = sweep_config(SEARCH, scheduler="racing", grace_epochs=grace, reduction_factor=27)
    own = curves[number]
    for epoch in range(1, epochs):
        so_far = curves | {number: {e: value for e, value in own.items() if e <= epoch}}
        if RULES["racing"](TrialEpoch(sweep, so_far, grace, epochs, number, epoch)):
            return epoch
    return epochs


def test_a_trial_is_stopped_between_rungs_once_too_many_have_overtaken_it() -> None:
    """Of 8 trials 2 * 8 * 2 / epoch may be ahead: all up to epoch 4, 3 at epoch 10, and 1 always."""
    ahead = {number: {1: 0.9} for number in range(3)}  # no value at epoch 2, so nobody is behind at a rung
    behind = {number: {1: 0.1} for number in range(3, 7)}
    slow = {7: dict.fromkeys(range(1, 28), 0.5)}
    assert race(ahead | behind | slow, 7) == 11, "32 / 11 < 3"
    assert race(dict(list(ahead.items())[:2]) | behind | slow, 7) == 14, "28 / 14 = 2"
    assert race(dict(list(ahead.items())[:1]) | behind | slow, 7) == 27, "one may be ahead"
    assert race(ahead | behind | {7: dict.fromkeys(range(1, 28), 0.95)}, 7) == 27
    late = {7: {epoch: 0.5 if epoch < 10 else 0.95 for epoch in range(1, 28)}}
    assert race(ahead | behind | late, 7) == 27, "it has caught up in time"


def test_only_values_by_the_same_epoch_overtake() -> None:
    """A trial that became better later is not ahead of one that is younger."""
    older = {number: {epoch: 0.1 if epoch < 20 else 0.9 for epoch in range(1, 28)} for number in range(6)}
    assert race(older | {6: dict.fromkeys(range(1, 28), 0.5)}, 6) == 27 - 7, "at epoch 20 all six are"
    assert [value_by({1: 0.1, 3: 0.3}, epoch) for epoch in (1, 2, 3, 9)] == [0.1, 0.1, 0.3, 0.3]
    assert value_by({3: 0.3}, 2) == -float("inf")


def test_trials_that_never_reported_count_for_nothing_after_a_restart_either(tmp_path: Path) -> None:
    """Or a driver that goes on would let a trial train longer than the one that was killed."""
    changes: dict[str, Any] = {"scheduler": "racing", "num_trials": 20, "reduction_factor": 27}
    driver = Driver(tmp_path, **changes)
    for number in range(8):
        driver.study.tell(driver.study.draw(number), TrialState.FAIL)
    assert Driver(tmp_path, **changes).scheduler.curves == driver.scheduler.curves == {}


def test_nobody_is_overtaken_in_the_grace_period() -> None:
    assert not overtaken(1000, 1001, 5, 4)
    assert [overtaken(ahead, 1, 5, 50) for ahead in (0, 1, 2)] == [False, False, True]


def test_hyperband_has_a_bracket_for_each_rung() -> None:
    sweep = sweep_config(SEARCH, scheduler="hyperband", grace_epochs=1)
    at = TrialEpoch(sweep, {}, 1, 27, 0, 1)
    brackets = [bracket_of(at, number, 3) for number in range(300)]
    assert at.rungs == [1, 3, 9]
    assert brackets == [bracket_of(at, number, 3) for number in range(300)]
    counts = [brackets.count(bracket) for bracket in range(3)]
    assert counts[0] > counts[1] > counts[2] > 0
    second = brackets.index(1)
    curves = {number: curve(0.1, 0.5, 27) for number in range(30)} | {second: curve(0.0, 0.1, 27)}
    stops = [RULES["hyperband"](TrialEpoch(sweep, curves, 1, 27, second, epoch)) for epoch in range(1, 27)]
    assert stops.index(True) + 1 == 3, "the second bracket begins at the second rung"


def test_agreement_is_spearmans() -> None:
    found = agreement([*crossing(MIN_TRIALS, at=4).values()], EPOCHS)
    assert found == pytest.approx([-1.0] * 3 + [1.0] * 6)
    assert agreement([curve(0.5, 0.5)] * 5, EPOCHS) == [0.0] * EPOCHS, "equal values rank nothing"


@pytest.mark.parametrize("at", [1, 4, 9])
def test_the_grace_is_where_the_ranking_settles(at: int) -> None:
    assert measured_grace(crossing(MIN_TRIALS, at), EPOCHS) == at
    assert measured_grace(crossing(MIN_TRIALS - 1, at), EPOCHS) is None, "too few trials"


def test_auto_stops_nobody_before_it_has_measured_says_so_and_keeps_it(tmp_path: Path) -> None:
    curves = crossing(MIN_TRIALS + 3, at=4)
    order = [3, 4, 2, 1, 0, 5, -1, -2]  # which curve each trial has; the last two are bad ones
    chosen = [curves[number % len(curves)] if number >= 0 else curve(-9.0, -9.0) for number in order]
    driver = Driver(tmp_path, grace_epochs="auto", num_trials=20)
    assert [driver.train(number, chosen[number]) for number in range(7)] == [9] * 6 + [4]
    assert driver.said == [
        f"racing: in the first {MIN_TRIALS} complete trials the ranking agrees with that of epoch 9 from epoch 4 on "
        "(Spearman >= 0.8); none is stopped before it"
    ]
    again = Driver(tmp_path, grace_epochs="auto", num_trials=20)
    assert again.study.grace == 4
    assert again.train(7, chosen[7]) == 4
    assert again.said == []


def test_a_driver_that_goes_on_knows_all_curves(tmp_path: Path) -> None:
    for name in ("once", "often"):
        (tmp_path / name).mkdir()
    curves = [curve((n * 7 % 11) / 20, (n * 5 % 13) / 13) for n in range(12)]
    changes: dict[str, Any] = {"grace_epochs": "auto", "num_trials": 12}
    driver = Driver(tmp_path / "once", **changes)
    once = [driver.train(number, values) for number, values in enumerate(curves)]
    often = [Driver(tmp_path / "often", **changes).train(number, values) for number, values in enumerate(curves)]
    assert once == often
    assert min(once) < EPOCHS


def test_what_is_complete_is_never_stopped_when_it_is_relayed_again(tmp_path: Path) -> None:
    driver = Driver(tmp_path, grace_epochs=1)
    driver.train(0, curve(0.1, 0.2))
    driver.train(1, curve(0.3, 0.4))
    again = Driver(tmp_path, grace_epochs=1).scheduler
    trial: Any = SimpleNamespace(config={"number": 0})
    assert again.on_trial_result(None, trial, {EPOCH: 1, OBJECTIVE: 0.1}) == TrialScheduler.CONTINUE


def test_what_was_pruned_stops_at_the_same_epoch_if_its_driver_was_killed_before_its_worker_had_noted_that(
    tmp_path: Path,
) -> None:
    """It trains once more, and must neither go on nor stop elsewhere, whatever came after it."""
    driver = Driver(tmp_path, grace_epochs=2)
    assert [driver.train(0, curve(0.5, 0.9)), driver.train(1, curve(0.1, 0.2))] == [EPOCHS, 2]
    again = Driver(tmp_path, grace_epochs=2).scheduler
    trial: Any = SimpleNamespace(config={"number": 1})
    answers = [again.on_trial_result(None, trial, {EPOCH: epoch, OBJECTIVE: 0.99}) for epoch in (1, 2)]
    assert answers == [TrialScheduler.CONTINUE, TrialScheduler.STOP]


def test_epochs_that_a_running_trial_had_passed_are_not_asked_about_again(tmp_path: Path) -> None:
    """It went on then; with the trials that came after it the answer might be another one now."""
    driver = Driver(tmp_path, grace_epochs=1)
    drawn = driver.study.draw(0)
    for epoch in (1, 2, 3):
        driver.study.report(drawn, epoch, 0.1)
    for number in (1, 2, 3):
        driver.train(number, curve(0.5, 0.9))
    again = Driver(tmp_path, grace_epochs=1).scheduler
    trial: Any = SimpleNamespace(config={"number": 0})
    answers = [again.on_trial_result(None, trial, {EPOCH: epoch, OBJECTIVE: 0.1}) for epoch in (1, 2, 3, 4)]
    assert answers == [*[TrialScheduler.CONTINUE] * 3, TrialScheduler.STOP]


def test_a_trial_that_was_stopped_as_its_driver_was_killed_stops_there(tmp_path: Path) -> None:
    """Of the stop, its last report and its end, which are told one after the other, the study had the first."""
    driver = Driver(tmp_path, grace_epochs=2)
    driver.train(0, curve(0.5, 0.9))
    drawn = driver.study.draw(1)
    driver.study.report(drawn, 1, 0.1)
    driver.study.stop(drawn, 2)
    again = Driver(tmp_path, grace_epochs=2).scheduler
    trial: Any = SimpleNamespace(config={"number": 1})
    answers = [again.on_trial_result(None, trial, {EPOCH: epoch, OBJECTIVE: 0.99}) for epoch in (1, 2)]
    assert answers == [TrialScheduler.CONTINUE, TrialScheduler.STOP]


def test_tune_can_write_its_snapshot(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.study.lock = threading.Lock()  # type: ignore[attr-defined] # as a live view has
    assert cloudpickle.dumps(driver.scheduler)


def test_top_k_has_short_trials_first(tmp_path: Path) -> None:
    driver = Driver(tmp_path, sampler="top_k", scheduler="none", num_trials=6, top_k=2)
    assert [driver.train(number, curve(0.1 * number, 0.5)) for number in range(6)] == [1, 1, 1, 1, 9, 9]
