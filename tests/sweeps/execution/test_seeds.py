"""Trials of several seeds: what they report, what their records say, and who counts them. Without Ray."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.seeds import combined, first_of, is_replicate
from analysis.trial_file import ended_trial
from mergenet.records.run_record import read_epochs, read_run
from mergenet.records.sealed import read_record
from sweeps.execution.relay import follow
from sweeps.execution.seeds import TrialFailed, mark_stopped, outcome_of, reports
from sweeps.execution.worker import do_job
from sweeps.planning.epochs import forecast
from sweeps.planning.plan import Plan, fresh_seeds, more_seeds
from sweeps.report.live import View, trials_table
from sweeps.report.status import read_status
from sweeps.report.summary import value_text
from sweeps.space.space import Space
from sweeps.tracking.wandb_about import scalars
from sweeps.trials.best_config import header
from sweeps.trials.jobs import Jobs
from sweeps.trials.messages import GO_ON, SUSPEND, Job, JobMessage, Row
from sweeps.trials.objectives import feasible
from sweeps.trials.ranking import leader, trial_states
from sweeps.trials.record import write_trial
from sweeps.trials.recorded_source import SourcePlan, pin_source
from sweeps.trials.results import averaged, best_record, best_trial, ended_runs, read_trials
from tests import tiny
from tests.sweeps.base import space_of, sweep_config
from tests.sweeps.folders import write_begun_sweep, write_run

METRIC = "target_val_top1"
SEARCH = {"target.optimizer.lr": {"choice": [0.05, 0.1]}}
SWEEP = sweep_config(SEARCH, seeds_per_trial=3)
COMPLETE, PRUNED, FAILED, RUNNING = "complete", "pruned", "failed", "running"


def jobs_in(folder: Path, seeds: tuple[int, ...] = (1, 2), **changes: Any) -> Jobs:
    space = space_of(SEARCH, method="none", **changes)
    return Jobs(folder, Space(pin_source(space.base), space.entries, space.limits), None, seeds)


def trial(jobs: Jobs) -> list[Job]:
    """The jobs of trial 3, that of the first seed first."""
    first = jobs.trial(3, {"target.optimizer.lr": 0.05})
    return [first, *jobs.replicates(first)]


class Told:
    """A slot that was told beforehand how each job goes; in which order jobs came and were waited for."""

    def __init__(self, *runs: tuple[list[float], str]) -> None:
        self.runs, self.log = list(runs), list[str]()

    def __call__(self, job: Job) -> Iterator[JobMessage]:
        values, state = self.runs.pop(0)
        self.log.append(f"got {job['id']}")
        return self.messages(job["id"], values, state)

    def messages(self, name: str, values: list[float], state: str) -> Iterator[JobMessage]:
        for epoch, value in enumerate(values, start=1):
            yield {"row": {"epoch": epoch, METRIC: value}}
        self.log.append(f"end of {name}")
        yield {"end": {"state": state, "error": "diverged" if state == FAILED else None}}


def reported(jobs: list[Job], slot: Callable[[Job], Iterator[JobMessage]]) -> list[tuple[int, float | None]]:
    return [(report.epoch, report.value) for report in reports(jobs[0], jobs[1:], slot, SWEEP)]


def test_the_last_epoch_is_the_mean_of_the_best_values_and_comes_when_all_have_ended(tmp_path: Path) -> None:
    slot = Told(([0.5, 0.4], COMPLETE), ([0.1, 0.2], COMPLETE), ([0.9, 0.3], COMPLETE))
    found = reported(trial(jobs_in(tmp_path)), slot)
    assert found == [(1, 0.5), (2, pytest.approx((0.5 + 0.2 + 0.9) / 3))]
    names = ["trial-003", "trial-003-seed-2", "trial-003-seed-3"]
    assert slot.log[:4] == [f"got {names[0]}", f"end of {names[0]}", f"got {names[1]}", f"got {names[2]}"], "together"


def test_one_seed_reports_as_it_trains(tmp_path: Path) -> None:
    slot = Told(([0.5, 0.6], COMPLETE))
    assert reported(trial(jobs_in(tmp_path, seeds=())), slot) == [(1, 0.5), (2, 0.6)]


def test_a_trial_that_was_stopped_or_paused_costs_one_seed(tmp_path: Path) -> None:
    for state in (PRUNED, SUSPEND):
        slot = Told(([0.5], state))
        assert reported(trial(jobs_in(tmp_path)), slot) == [(1, 0.5)]
        assert slot.log == ["got trial-003", "end of trial-003"]


def test_a_seed_that_fails_fails_the_trial_and_is_named(tmp_path: Path) -> None:
    slot = Told(([0.5, 0.4], COMPLETE), ([0.1, 0.2], COMPLETE), ([0.9], FAILED))
    with pytest.raises(TrialFailed, match=r"^seed 2: diverged$"):
        reported(trial(jobs_in(tmp_path)), slot)


def test_a_pause_while_the_other_seeds_train_waits_for_all_and_reports_no_last_epoch(tmp_path: Path) -> None:
    slot = Told(([0.5, 0.4], COMPLETE), ([0.1], SUSPEND), ([0.9, 0.9], COMPLETE))
    assert reported(trial(jobs_in(tmp_path)), slot) == [(1, 0.5)]
    assert slot.log[-1] == "end of trial-003-seed-3", "a job that nobody waits for any more would be stopped for good"


def test_a_seed_without_a_value_leaves_the_trial_without_one(tmp_path: Path) -> None:
    slot = Told(([0.5, 0.4], COMPLETE), ([], COMPLETE), ([0.9, 0.3], COMPLETE))
    assert reported(trial(jobs_in(tmp_path)), slot)[-1] == (2, None)


@pytest.mark.parametrize(
    ("states", "count", "state"),
    [
        ([COMPLETE], 1, COMPLETE),
        ([COMPLETE], 2, RUNNING),
        ([COMPLETE, COMPLETE], 2, COMPLETE),
        ([COMPLETE, COMPLETE], 3, RUNNING),
        ([COMPLETE, RUNNING, FAILED], 3, FAILED),
        ([COMPLETE, PRUNED, FAILED], 3, FAILED),
        ([COMPLETE, PRUNED, COMPLETE], 3, PRUNED),
        ([PRUNED], 3, PRUNED),
        ([FAILED], 3, FAILED),
        ([RUNNING], 3, RUNNING),
    ],
)
def test_the_state_of_a_trial(states: list[str], count: int, state: str) -> None:
    assert combined(states, count) == state


def plan_of(count: int, confirm: int, **base: Any) -> Plan:
    space = space_of(SEARCH, **base)
    space = Space(pin_source(space.base), space.entries, space.limits)
    sweep = sweep_config(SEARCH, seeds_per_trial=count, confirm_seeds=confirm)
    return Plan(sweep, space, SourcePlan(), "hash", sweep.num_trials)


def test_the_seeds_of_trials_are_none_of_the_confirmation() -> None:
    plan = plan_of(3, 4, seed=10)
    assert (more_seeds(plan), fresh_seeds(plan)) == ([11, 12], [13, 14, 15, 16])
    assert (more_seeds(plan_of(1, 2)), fresh_seeds(plan_of(1, 2))) == ([], [1, 2])
    around = plan_of(2, 2, seed=2**32 - 1)
    assert (more_seeds(around), fresh_seeds(around)) == ([0], [1, 2])


def test_the_seed_that_the_target_has_for_itself_is_not_used_twice() -> None:
    target = space_of(SEARCH).base["target"] | {"seed": 2}
    plan = plan_of(3, 2, target=target)
    assert (more_seeds(plan), fresh_seeds(plan)) == ([1, 3], [4, 5])


def test_a_replicate_has_another_seed_and_the_same_source(tmp_path: Path) -> None:
    target = space_of(SEARCH).base["target"] | {"seed": 7}
    jobs = replace(jobs_in(tmp_path, seed=5, target=target), seeds=(6, 8))
    first, *others = trial(jobs)
    assert first["seeds"] == [5, 6, 8]
    assert [job["config"]["seed"] for job in others] == [6, 8]
    for job in others:
        assert (job["config"]["target"]["seed"], job["config"]["source"]["seed"]) == (None, 5)
        assert job["config"]["target"]["optimizer"] == first["config"]["target"]["optimizer"]
        assert (job["role"], job["number"], job["params"]) == ("replicate", 3, first["params"])
        assert (first_of(job["id"]), is_replicate(job["id"])) == ("trial-003", True)
    assert [Path(job["folder"]).name for job in others] == ["trial-003-seed-2", "trial-003-seed-3"]
    assert [job["id"] for job in jobs.replicates(jobs.baseline())] == ["baseline-seed-2", "baseline-seed-3"]
    assert "seeds" not in trial(jobs_in(tmp_path, seeds=()))[0]


# records


@pytest.fixture
def networks() -> Iterator[None]:
    with tiny.set_up():
        yield


class Slot:
    """Does jobs at once, for real; some only up to an epoch. trained: the epochs that were not in a record before."""

    def __init__(self, pauses: dict[str, int] | None = None) -> None:
        self.pauses, self.trained = pauses or {}, dict[str, list[int]]()

    def __call__(self, job: Job) -> Iterator[JobMessage]:
        if (Path(job["folder"]) / "trial.json").exists() and (known := self.ended(job)) is not None:
            return known
        rows, known = [], len(read_epochs(Path(job["folder"])))

        def report(row: Row) -> str:
            rows.append({"row": row})
            if row["epoch"] > known:
                self.trained.setdefault(job["id"], []).append(row["epoch"])
            return SUSPEND if self.pauses.get(job["id"]) == row["epoch"] else GO_ON

        end = do_job(job, report)
        return iter([*rows, {"end": end}])

    def ended(self, job: Job) -> Iterator[JobMessage] | None:
        state = read_record(Path(job["folder"]) / "trial.json")["state"]
        return follow(job, "no queue is asked") if state != RUNNING else None


@pytest.mark.usefixtures("networks")
def test_a_trial_goes_on_where_its_seeds_were_and_ends_as_if_never_paused(tmp_path: Path) -> None:
    """Real training: seed 2 of 3 is paused after an epoch; then a driver goes on; another reads what has ended."""
    target = {"model": {"name": "tiny_mlp"}, "data": {"name": "digits", "image_size": 8, "train_fraction": 0.2}}
    jobs = jobs_in(tmp_path, target=target)
    runs = trial(jobs)
    paused = Slot({"trial-003-seed-2": 1})
    assert [epoch for epoch, _ in reported(runs, paused)] == [1]
    record = outcome_of(jobs, runs[0], SWEEP)
    assert (record.state, [row["epoch"] for row in record.rows]) == (RUNNING, [1]), "one seed is still to train"
    assert paused.trained == {"trial-003": [1, 2], "trial-003-seed-2": [1], "trial-003-seed-3": [1, 2]}

    again = Slot()
    found = reported(runs, again)
    assert again.trained == {"trial-003-seed-2": [2]}, "no epoch is trained twice"
    bests = [max(row[METRIC] for row in read_run(Path(job["folder"])).epochs) for job in runs]
    assert len(set(bests)) == 3, "seeds differ"
    assert found[-1] == (2, pytest.approx(sum(bests) / 3, abs=1e-15))

    last = Slot()
    assert reported(runs, last) == found
    assert last.trained == {}
    record = outcome_of(jobs, runs[0], SWEEP)
    assert (record.state, record.value) == (COMPLETE, found[-1][1])
    assert [(row["epoch"], row["value"]) for row in record.rows] == found
    assert ended_trial(Path(runs[0]["folder"]))["seeds"] == [0, 1, 2]  # type: ignore[index]

    summary = read_trials(tmp_path, sweep_config(SEARCH, seeds_per_trial=3), "trial")
    assert [t["trial_id"] for t in summary] == ["trial-003"]
    assert (summary[0]["values"], summary[0]["value"]) == (bests, found[-1][1])
    tests = [read_run(Path(job["folder"])).result["target_test_top1"] for job in runs]
    assert summary[0]["test"]["target_test_top1"] == pytest.approx(sum(tests) / 3)
    record = best_record(tmp_path, summary[0])
    text = header("tiny", summary[0], record)
    assert f"mean over 3 seeds: {found[-1][1]} (seed 0 {bests[0]}, seed 1 {bests[1]}" in text
    assert record.config["seed"] == 2 and "device: cpu, seed: 2" in text, "the last that chose it"


def test_objectives_and_constraints_are_of_the_mean_over_the_seeds(tmp_path: Path) -> None:
    sweep = sweep_config(
        SEARCH, seeds_per_trial=3, minimize=["target_val_loss"], constraints={"target_val_loss": {"max": 2.0}}
    )
    losses = {"trial-003": 1.0, "trial-003-seed-2": 2.0, "trial-003-seed-3": 6.0}
    jobs = jobs_in(tmp_path)

    def slot(job: Job) -> Iterator[JobMessage]:
        yield {"row": {"epoch": 1, METRIC: 0.4, "target_val_loss": 9.0}}
        yield {"row": {"epoch": 2, METRIC: 0.5, "target_val_loss": losses[job["id"]]}}
        yield {"end": {"state": COMPLETE, "error": None}}

    first, *others = trial(jobs)
    *_, last = reports(first, others, slot, sweep)
    assert (last.value, last.measured) == (0.5, {"target_val_loss": 3.0})
    runs = {name: [{"epoch": 2, METRIC: 0.5, "target_val_loss": loss}] for name, loss in losses.items()}
    assert feasible(sweep, runs | {"baseline": []}) == {"baseline": []}, "the first seed alone would keep the bound"
    assert feasible(sweep, {"trial-003": runs["trial-003"]}) == {"trial-003": runs["trial-003"]}
    run = {"state": COMPLETE, "finished": True, "value": 0.5, "test": {}, "error": None}
    read = [run | {"seed": seed, "measured": {"target_val_loss": loss}} for seed, loss in enumerate(losses.values())]
    found = averaged(read[0] | {"seeds": [0, 1, 2], "broken": []}, read[1:], sweep)
    assert (found["measured"], found["broken"]) == ({"target_val_loss": 3.0}, ["target_val_loss <= 2"])


def write_runs(folder: Path, jobs: list[Job], *runs: tuple[list[float], str]) -> None:
    """Records as runs leave them, so far as they are read here."""
    for job, (values, state) in zip(jobs, runs, strict=False):
        write_run(folder, job["id"], values, None)
        write_trial(job, state, "diverged" if state == FAILED else None)


def test_a_failed_seed_in_the_records_is_what_the_relay_would_have_said(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    runs = trial(jobs)
    write_runs(tmp_path, runs, ([0.5, 0.6], COMPLETE), ([0.4, 0.5], COMPLETE), ([0.3], FAILED))
    found = outcome_of(jobs, runs[0], SWEEP)
    assert (found.state, found.rows, found.value) == (FAILED, [{"epoch": 1, "value": 0.5}], None)
    with pytest.raises(TrialFailed, match=r"^seed 2: diverged$"):
        reported(runs, lambda job: follow(job, "no queue is asked"))


def test_a_trial_that_was_stopped_as_its_last_epoch_ended_waits_for_no_other_seed(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    runs = trial(jobs)
    write_runs(tmp_path, runs, ([0.5, 0.6], COMPLETE))
    assert outcome_of(jobs, runs[0], SWEEP).state == RUNNING
    mark_stopped(runs[:1])
    assert outcome_of(jobs, runs[0], SWEEP).state == PRUNED
    assert reported(runs, lambda job: follow(job, "no queue is asked")) == [(1, 0.5)]
    write_runs(tmp_path / "other", trial(jobs_in(tmp_path / "other")), ([0.5], RUNNING))
    mark_stopped(trial(jobs_in(tmp_path / "other"))[:1])
    assert read_record(tmp_path / "other/trials/trial-003/trial.json")["state"] == RUNNING


def test_ended_runs_are_told_one_by_one(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    write_runs(tmp_path, trial(jobs), ([0.5, 0.6], COMPLETE), ([0.4, 0.5], COMPLETE), ([0.3], RUNNING))
    baseline = jobs.baseline()
    write_runs(tmp_path, [baseline, *jobs.replicates(baseline)], ([0.5], COMPLETE), ([0.5], COMPLETE))
    assert {name: state for name, (state, _) in ended_runs(tmp_path).items()} == {
        "trial-003": COMPLETE,
        "trial-003-seed-2": COMPLETE,
    }


# who counts them

STATES = {
    "baseline": COMPLETE,
    "baseline-seed-2": COMPLETE,
    "trial-000": COMPLETE,
    "trial-000-seed-2": COMPLETE,
    "trial-001": COMPLETE,
    "trial-001-seed-2": RUNNING,
    "trial-002": PRUNED,
}
VALUES = {
    "baseline": [0.2, 0.3],
    "baseline-seed-2": [0.2, 0.5],
    "trial-000": [0.2, 0.5],
    "trial-000-seed-2": [0.7, 0.6],
    "trial-001": [0.9, 0.9],
    "trial-001-seed-2": [0.9],
    "trial-002": [0.99],
}


def test_only_means_are_compared() -> None:
    rows = {name: [{"epoch": i, METRIC: v} for i, v in enumerate(values, 1)] for name, values in VALUES.items()}
    assert trial_states(STATES, 2) == {
        "baseline": COMPLETE,
        "trial-000": COMPLETE,
        "trial-001": RUNNING,
        "trial-002": PRUNED,
    }
    best = leader(rows, STATES, METRIC, 2)
    assert best == {
        "trial": "trial-000",
        "value": pytest.approx(0.6),
        "epochs": 2,
        "lead": pytest.approx(0.2),
        "seeds": 2,
    }
    without = leader(rows, STATES | {"baseline-seed-2": RUNNING}, METRIC, 2)
    assert without is not None
    assert without["lead"] is None
    assert leader(rows, STATES | {"trial-000-seed-2": FAILED}, METRIC, 2) is None


def test_status_counts_trials_and_the_epochs_of_all_seeds(tmp_path: Path) -> None:
    """2 epochs a run, 4 trials of 2 seeds: at most 16 epochs of the search, 4 without transfer, 4 to confirm."""
    write_begun_sweep(tmp_path, "stopped", seeds_per_trial=2, budget_epochs=100)
    write_run(tmp_path, "trial-000-seed-2", [0.6, 0.65], "complete")
    found = read_status(tmp_path)
    assert found["trials"] == {"complete": 1, "pruned": 1, "unfinished": 1, "waiting": 1}
    assert (found["best"]["value"], found["best"]["lead"]) == (pytest.approx(0.6), None)
    assert found["budget"]["search_epochs"] == 5
    assert (found["epochs_done"], found["epochs_expected"]) == (7, 4 + 16 + 4)


def test_the_view_says_the_mean_and_counts_fewer_jobs_for_what_is_stopped() -> None:
    with (console := Console(width=200)).capture() as captured:
        view = View(console, sweep_config(SEARCH, seeds_per_trial=2), num_jobs=10)
        for name, values in VALUES.items():
            role = "replicate" if is_replicate(name) else name.split("-")[0]
            event = {"job": name, "role": role, "time": 0.0}
            view(event | {"event": "queued", "params": {}})
            for epoch, value in enumerate(values, start=1):
                view(event | {"event": "row", "row": {"epoch": epoch, METRIC: value}})
            if STATES[name] != RUNNING:
                view(event | {"event": "ended", "state": STATES[name], "error": None})
        console.print(view.status())
    text = captured.get()
    assert "baseline       mean over 2 seeds: val top1 40.00 % (sd 14.14 %)" in text
    assert "trial-000      mean over 2 seeds: val top1 55.00 %" not in text
    assert "trial-000      mean over 2 seeds: val top1 60.00 % (sd 14.14 %)" in text
    assert "trial-001      mean" not in text
    assert "trials: 1 complete, 1 pruned, 1 running" in text
    assert "highest so far: 60.00 % (trial-000, mean over 2 seeds, +20.00 points to no transfer; " in text
    assert view.num_jobs == 9
    again = View(console, sweep_config(SEARCH, seeds_per_trial=2), num_jobs=10)
    again.remember({name: (state, []) for name, state in STATES.items() if name.startswith("trial")})
    assert again.num_jobs == 9


def test_the_best_is_the_best_mean() -> None:
    mean = {"adapter_parameters": 1, "finished": True, "number": 0, "value": 0.6, "values": [0.5, 0.7], "seeds": [0, 1]}
    mean |= {"trial_id": "trial-000", "state": COMPLETE, "epochs": 2, "params": {}, "sd": 0.1414}
    lucky = mean | {"trial_id": "trial-001", "number": 1, "value": None, "values": [], "sd": None, "finished": False}
    best = best_trial([lucky, mean], METRIC)
    assert best == mean
    assert value_text(mean, METRIC) == "val top1 60.00 %, mean over 2 seeds (50.00 %, 70.00 %; sd 14.14 %)"
    with (console := Console(width=100)).capture() as captured:
        console.print(trials_table([mean, lucky], METRIC))
    lines = [line.split() for line in captured.get().splitlines()]
    assert lines[0][-2:] == ["seeds", "sd"]
    assert lines[1] == ["trial-000", "complete", "2", "60.00", "%", "2", "14.14", "%"]
    assert lines[2] == ["trial-001", "complete", "2", "-", "0", "-"]


def test_a_forecast_has_all_seeds_of_those_that_are_not_stopped() -> None:
    def of(**changes: Any) -> Any:
        return forecast(sweep_config(SEARCH, num_trials=4, seeds_per_trial=3, **changes), 10, recorded=True)

    epochs = of(scheduler="none")
    assert (epochs.source, epochs.baseline, epochs.search, epochs.search_full) == (10, 30, 120, 120)
    assert epochs.replicates == 8
    short = of(scheduler="none", sampler="top_k", top_k=1)
    assert (short.search, short.replicates) == (3 + 30, 2)
    early = of()
    assert 4 * 3 < early.search < 120
    assert early.search > forecast(sweep_config(SEARCH, num_trials=4), 10, recorded=True).search
    assert of(scheduler="none", budget_epochs=60).replicates == 4


def test_on_wandb_a_replicate_names_its_trial() -> None:
    about = {"trial_id": "trial-003-seed-2", "role": "replicate", "number": 3, "seed": 1, "params": {"a.b": 2}}
    sweep = sweep_config(SEARCH)
    own = {"a_b": 2, "replicate_of": "trial-003"} | {k: about[k] for k in about if k != "params"}
    assert own.items() <= scalars(about, sweep).items()
    assert "replicate_of" not in scalars(about | {"trial_id": "trial-003", "role": "trial"}, sweep)
