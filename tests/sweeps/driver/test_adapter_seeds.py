"""adapter_seeds: which runs train the adapter, which ones test it, and what is said of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.names import CONFIRM_ADAPTER
from analysis.report.verdict import adapter_lines
from sweeps.driver.steps import adapter_trainings, confirm, confirmations, train_adapter
from sweeps.planning.plan import Plan, adapter_seeds, fresh_seeds, more_seeds
from sweeps.trials.messages import Job, JobOutcome
from sweeps.trials.recorded_source import SourcePlan
from sweeps.trials.results import confirmation
from tests.sweeps.base import space_of, sweep_config
from tests.sweeps.folders import CYCLES, TEST, VAL, best_of, write_job


def plan_of(**settings: Any) -> Plan:
    sweep = sweep_config(CYCLES, num_trials=2, confirm_seeds=2, **settings)
    return Plan(sweep, space_of(CYCLES), SourcePlan(), "", 2)


class WorkerPool:
    """Gives each job the outcome that it is to have, complete if none is named."""

    def __init__(self, **states: str) -> None:
        self.states, self.names = states, list[str]()

    def submit(self, job: Job) -> None:
        self.names.append(job["id"])

    def wait(self, names: list[str]) -> dict[str, JobOutcome]:
        assert set(names) <= set(self.names), "none is waited for before it was handed over"
        return {name: {"state": self.states.get(name.replace("-", "_"), "complete"), "error": None} for name in names}


def test_each_run_starts_with_the_adapter_that_the_one_before_has_trained(tmp_path: Path) -> None:
    plan = plan_of(adapter_seeds=3, seeds_per_trial=2)
    jobs, best = best_of(plan, tmp_path)
    found = adapter_trainings(plan, jobs, best)
    assert [job["id"] for job in found] == ["adapter-1", "adapter-2", "adapter-3"]
    starts = [job["config"]["transfer"]["adapter"]["init"] for job in found]
    assert starts == [None, found[0]["folder"], found[1]["folder"]]
    seeds = [job["config"]["seed"] for job in found]
    assert seeds == adapter_seeds(plan) == [4, 5, 6]
    assert (more_seeds(plan), fresh_seeds(plan)) == ([1], [2, 3]), "as without it, and none of them trains the adapter"


def test_the_last_adapter_is_tested_on_the_fresh_seeds(tmp_path: Path) -> None:
    plan = plan_of(adapter_seeds=2)
    jobs, best = best_of(plan, tmp_path)
    trainings = adapter_trainings(plan, jobs, best)
    wanted = confirmations(plan, jobs, best, trainings)
    assert len(wanted) == plan.sweep.num_confirmations == 6
    of_role = {role: [job for job in wanted if job["role"] == role] for role in ("confirm_best", CONFIRM_ADAPTER)}
    for best_job, job in zip(*of_role.values(), strict=True):
        adapter = best_job["config"]["transfer"]["adapter"] | {"init": trainings[-1]["folder"]}
        transfer = best_job["config"]["transfer"] | {"adapter": adapter}
        assert job["config"] == best_job["config"] | {"name": job["id"], "transfer": transfer}
    slots, said = WorkerPool(), list[str]()
    assert train_adapter(trainings, wanted, slots, said.append) == wanted
    assert (slots.names, said) == (["adapter-1", "adapter-2"], [])


def test_where_a_training_fails_the_rest_is_confirmed_all_the_same(tmp_path: Path) -> None:
    plan = plan_of(adapter_seeds=3)
    jobs, best = best_of(plan, tmp_path)
    trainings = adapter_trainings(plan, jobs, best)
    slots, said = WorkerPool(adapter_2="failed"), list[str]()
    left = train_adapter(trainings, confirmations(plan, jobs, best, trainings), slots, said.append)
    assert [job["role"] for job in left] == ["confirm_best", "confirm_none"] * 2
    assert slots.names == ["adapter-1", "adapter-2"], "what would begin with its adapter does not begin"
    assert said == ["no adapter was trained over adapter_seeds: adapter-2 has failed; the rest is confirmed"]


def test_a_best_without_an_adapter_trains_none(tmp_path: Path) -> None:
    plan = plan_of(adapter_seeds=2)
    jobs, best = best_of(plan, tmp_path, method="kd", source=plan.space.base["source"])
    assert adapter_trainings(plan, jobs, best) == []
    assert {job["role"] for job in confirmations(plan, jobs, best)} == {"confirm_best", "confirm_none"}


def test_runs_with_the_adapter_of_another_best_are_forgotten(tmp_path: Path) -> None:
    plan = plan_of(adapter_seeds=1)
    jobs, best = best_of(plan, tmp_path)
    wanted = confirmations(plan, jobs, best, adapter_trainings(plan, jobs, best))
    for job in wanted:
        write_job(job, "complete")
    confirm(wanted, tmp_path, WorkerPool())
    run = tmp_path / "trials/confirm-adapter-1"
    assert run.exists(), "a sweep that is resumed does not train it again"
    confirm([job for job in wanted if job["role"] != CONFIRM_ADAPTER], tmp_path, WorkerPool())
    assert not run.exists()


def test_what_tested_an_adapter_of_other_seeds_is_forgotten(tmp_path: Path) -> None:
    """More fresh seeds move those that train the adapter; its folder keeps its name."""
    plan = plan_of(adapter_seeds=1)
    jobs, best = best_of(plan, tmp_path)
    trainings = adapter_trainings(plan, jobs, best)
    for job in (*trainings, *confirmations(plan, jobs, best, trainings)):
        write_job(job, "complete")
    runs = {path.name for path in (tmp_path / "trials").iterdir()}
    train_adapter(trainings, confirmations(plan, jobs, best, trainings), WorkerPool(), print)
    assert {path.name for path in (tmp_path / "trials").iterdir()} == runs, "a sweep that is resumed keeps them"
    more = replace(plan, sweep=plan.sweep.model_copy(update={"confirm_seeds": 3}))
    trainings = adapter_trainings(more, jobs, best)
    assert [job["config"]["seed"] for job in trainings] == [4], "it was 3, which is fresh now"
    train_adapter(trainings, confirmations(more, jobs, best, trainings), WorkerPool(), print)
    left = {path.name for path in (tmp_path / "trials").iterdir()}
    assert left == runs - {"adapter-1", "confirm-adapter-1", "confirm-adapter-2"}


def test_it_is_compared_with_no_transfer_and_with_the_best(tmp_path: Path) -> None:
    plan = plan_of(adapter_seeds=1)
    jobs, best = best_of(plan, tmp_path)
    tests = {"confirm_best": (0.5, 0.7), "confirm_none": (0.4, 0.4), CONFIRM_ADAPTER: (0.6, 0.9)}
    for job in confirmations(plan, jobs, best, adapter_trainings(plan, jobs, best)):
        value = tests[job["role"]][job["number"] - 1]
        write_job(job, "complete", value / 2, value)
    found = confirmation(tmp_path, plan.sweep)
    assert found is not None
    assert found["adapter"][TEST]["adapter"] == [0.6, 0.9]
    lines = list(adapter_lines(found, VAL))
    assert lines[0] == "the best configuration with the adapter trained over adapter_seeds, same seeds, paired"
    assert lines[2].startswith("  trained adapter minus no transfer, test top1 +35.00 points, 95 % interval [")
    assert lines[4].startswith("  trained adapter minus best, test top1        +15.00 points, 95 % interval [")
    assert lines[5] == "  test top1: training it over seeds is not shown to matter", "two seeds cannot show it"
    assert list(adapter_lines({"seeds": [1]}, VAL)) == []
