"""What has failed trains again, from its last whole checkpoint, and the study stays true."""

import shutil
from pathlib import Path

import pytest
from optuna.trial import TrialState

from analysis.names import TRIAL
from analysis.trial_file import trial_of
from mergenet.records.run_record import read_epochs
from sweeps.config import SweepConfig
from sweeps.driver.retry import goes_on, retry_failed
from sweeps.driver.steps import forget_other
from sweeps.execution.seeds import outcome_of
from sweeps.execution.worker import do_job
from sweeps.planning.plan import Plan
from sweeps.space.space import Space
from sweeps.study.study import SweepStudy
from sweeps.trials.jobs import Jobs
from sweeps.trials.messages import GO_ON, STOP, Job, Row
from sweeps.trials.record import write_trial
from sweeps.trials.recorded_source import SourcePlan
from sweeps.trials.results import read_trials
from tests.sweeps.base import space_of, sweep_config

CYCLE = "transfer.t_cycle"
SEARCH = {CYCLE: {"choice": [2, 4, 8]}}


def opened(plan: Plan, folder: Path) -> SweepStudy:
    return SweepStudy(plan.sweep, plan.space, "max", folder)


@pytest.fixture
def plan() -> Plan:
    sweep: SweepConfig = sweep_config(SEARCH, num_trials=3, confirm_seeds=0, sampler="grid")
    space: Space = space_of(SEARCH)
    return Plan(sweep, space, SourcePlan(), "", 3)


@pytest.fixture
def failed(plan: Plan, tmp_path: Path) -> Path:
    """Trial 0 is complete; 1 failed after its first epoch; 2 before it began."""
    study, jobs = opened(plan, tmp_path), Jobs(tmp_path, plan.space, None)
    drawn = [study.draw(index) for index in range(3)]
    trials = [jobs.trial(one.index, one.params) for one in drawn]
    do_job(trials[0], lambda *_: GO_ON)
    do_job(trials[1], lambda *_: STOP)
    for job in trials[1:]:
        write_trial(job, "failed", "the mount is gone")
    reconcile(study, jobs, plan)
    assert states(study) == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL]
    return tmp_path


def reconcile(study: SweepStudy, jobs: Jobs, plan: Plan) -> None:
    study.reconcile(lambda drawn: outcome_of(jobs, jobs.trial(drawn.index, drawn.params), plan.sweep))


def states(study: SweepStudy) -> list[TrialState]:
    return [study.study.trials[one.number].state for one in study.known()]


def test_it_begins_again_and_is_told_once(plan: Plan, failed: Path) -> None:
    before = [one.params for one in opened(plan, failed).known()]
    assert retry_failed(plan, failed) == ["trial-001", "trial-002"]
    study, jobs = opened(plan, failed), Jobs(failed, plan.space, None)
    reconcile(study, jobs, plan)
    assert states(study) == [TrialState.COMPLETE, TrialState.RUNNING, TrialState.RUNNING]
    assert [one.params for one in study.known()] == before
    begun, told = read_epochs(failed / "trials/trial-001"), list[Row]()
    for one in study.known()[1:]:
        do_job(jobs.trial(one.index, one.params), lambda row: told.append(row) or GO_ON)
    assert [row["epoch"] for row in told] == [1, 2, 1, 2]
    assert begun == told[:1], "the second trial goes on after its first epoch"
    reconcile(study, jobs, plan)
    assert states(study) == [TrialState.COMPLETE] * 3
    assert [trial.state for trial in study.study.trials].count(TrialState.FAIL) == 2, "that they failed stays true"
    assert all(trial["finished"] for trial in read_trials(failed, plan.sweep, TRIAL))
    assert retry_failed(plan, failed) == []


def test_damaged_checkpoints_are_given_up(plan: Plan, failed: Path) -> None:
    run = failed / "trials/trial-001"
    for file in (run / "checkpoints").rglob("*.safetensors"):
        file.write_bytes(b"damaged")
    retry_failed(plan, failed)
    assert not run.exists()
    study, jobs = opened(plan, failed), Jobs(failed, plan.space, None)
    one = study.known()[1]
    assert do_job(jobs.trial(one.index, one.params), lambda *_: GO_ON)["state"] == "complete"


def test_a_driver_killed_between_study_and_records_has_failed_trials_as_before(plan: Plan, failed: Path) -> None:
    study = opened(plan, failed)
    study.retry({1, 2})
    again = opened(plan, failed)
    reconcile(again, Jobs(failed, plan.space, None), plan)
    assert states(again) == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL]
    assert retry_failed(plan, failed) == ["trial-001", "trial-002"]


@pytest.fixture
def seeded(plan: Plan, tmp_path: Path) -> tuple[Plan, Jobs, list[Job]]:
    """A trial with three seeds: the second failed, so the third was stopped."""
    plan = Plan(plan.sweep.model_copy(update={"seeds_per_trial": 3}), plan.space, SourcePlan(), "", 3)
    study, jobs = opened(plan, tmp_path), Jobs(tmp_path, plan.space, None, seeds=(1, 2))
    one = study.draw(0)
    first = jobs.trial(0, one.params)
    second, third = jobs.replicates(first)
    do_job(first, lambda *_: GO_ON)
    write_trial(second, "failed", "the mount is gone")
    do_job(third, lambda *_: STOP)
    reconcile(study, jobs, plan)
    assert states(study) == [TrialState.FAIL]
    return plan, jobs, [first, second, third]


def test_seeds_that_were_stopped_because_another_failed_begin_again_with_it(
    seeded: tuple[Plan, Jobs, list[Job]], tmp_path: Path
) -> None:
    plan, jobs, runs = seeded
    assert retry_failed(plan, tmp_path) == ["trial-000-seed-2", "trial-000-seed-3"]
    study = opened(plan, tmp_path)
    reconcile(study, jobs, plan)
    assert states(study) == [TrialState.RUNNING], "nothing has ended"
    for job in runs:
        do_job(job, lambda *_: GO_ON)
    reconcile(study, jobs, plan)
    assert states(study) == [TrialState.COMPLETE]


class Killed(BaseException):
    """The driver."""


@pytest.mark.parametrize("reset", [0, 1])
def test_a_driver_killed_between_the_seeds_of_a_trial_has_it_failed_as_before(
    seeded: tuple[Plan, Jobs, list[Job]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reset: int
) -> None:
    """reset: so many runs have been. The trial does not become one that was stopped early."""
    plan, jobs, runs = seeded
    looks = iter([True] * reset)

    def dies(run: Path) -> bool:
        if not next(looks, False):
            raise Killed
        return goes_on(run)

    with monkeypatch.context() as patch:
        patch.setattr("sweeps.driver.retry.goes_on", dies)
        with pytest.raises(Killed):
            retry_failed(plan, tmp_path)
    study = opened(plan, tmp_path)
    reconcile(study, jobs, plan)
    assert states(study) == [TrialState.FAIL]
    assert "trial-000-seed-2" in retry_failed(plan, tmp_path)
    for job in runs:
        do_job(job, lambda *_: GO_ON)
    study = opened(plan, tmp_path)
    reconcile(study, jobs, plan)
    assert states(study) == [TrialState.COMPLETE]


def test_a_confirmation_of_another_best_is_forgotten(plan: Plan, tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, plan.space, None)
    old, new = (plan.space.config({CYCLE: cycle}).model_dump(mode="json") for cycle in (2, 4))
    job = jobs.confirmation("confirm_best", old, {}, 1, 1)
    do_job(job, lambda *_: GO_ON)
    forget_other(job)
    assert trial_of(Path(job["folder"])) is not None, "the same is kept"
    forget_other(jobs.confirmation("confirm_best", new, {}, 1, 1))
    assert not Path(job["folder"]).exists()
    shutil.rmtree(tmp_path / "trials", ignore_errors=True)
    forget_other(job)  # nothing there
