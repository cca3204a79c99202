"""A sweep goes on only with what is its own: its sweep file, its base, its study, the records of its trials."""

import shutil
from pathlib import Path

import pytest

from analysis.sweep_file import SETTINGS, edited_settings
from analysis.trial_file import read_trial_file
from mergenet.config import Config
from mergenet.config.loading import dump_yaml
from mergenet.config.yaml12 import load_yaml
from mergenet.errors import ConfigError, UserError
from mergenet.records.sealed import write_record
from sweeps.config.loading import dump_sweep
from sweeps.driver.check_records import check_records
from sweeps.driver.start import resumable_plan
from sweeps.planning.plan import Plan, more_seeds
from sweeps.study.storage import AGAIN, load_study
from sweeps.study.study import SweepStudy
from sweeps.trials.jobs import Jobs
from sweeps.trials.record import write_trial
from sweeps.trials.recorded_source import SourcePlan
from tests.sweeps.base import space_of, sweep_config, write_base

CYCLE, RANK = "transfer.t_cycle", "transfer.adapter.rank"
SEARCH = {CYCLE: {"choice": [2, 4, 8]}, RANK: {"int": [2, 8]}}
NARROW = {CYCLE: {"choice": [2, 4, 8]}, RANK: {"int": [2, 3]}}


def plan_of(search: dict[str, object] = SEARCH, settings: dict[str, object] | None = None, **base: object) -> Plan:
    sweep = sweep_config(search, **{"num_trials": 4} | (settings or {}))
    return Plan(sweep, space_of(search, **base), SourcePlan(), "", 4)


def begun(folder: Path, plan: Plan, study_id: str | None = "one", records: int = 2) -> Path:
    """A sweep that has drawn three trials, of which some have begun. study_id: None before versions gave one."""
    folder.mkdir()
    state = {"status": "stopped"} | ({} if study_id is None else {"study_id": study_id})
    write_record(folder / "sweep.json", state)
    study = SweepStudy(plan.sweep, plan.space, "max", folder)
    jobs = Jobs(folder, plan.space, None, tuple(more_seeds(plan)))
    drawn = [study.draw(index) for index in range(3)]
    study.flush()
    for one in drawn[:records]:
        job = jobs.trial(one.index, one.params)
        write_trial(job, "running")
        write_config(job)
    return folder


def write_config(job: dict[str, object]) -> None:
    (Path(str(job["folder"])) / "config.yaml").write_text(dump_yaml(Config.model_validate(job["config"])))


@pytest.mark.parametrize("study_id", ["one", None])
def test_what_is_its_own_goes_on(tmp_path: Path, study_id: str | None) -> None:
    plan = plan_of()
    folder = begun(tmp_path / "one", plan, study_id)
    check_records(plan, folder)
    (folder / "study.db").unlink()
    check_records(plan, folder)
    assert not (folder / "study.db").exists(), "only looked at"


def test_the_study_of_another_sweep_of_the_same_name_and_space_is_refused(tmp_path: Path) -> None:
    plan = plan_of()
    folder = begun(tmp_path / "one", plan, records=0)
    begun(tmp_path / "two", plan, "two")
    shutil.copy(tmp_path / "two/study.db", folder)
    message = f"{folder}/study.db must be the Optuna study of this sweep, and is that of another; move it away: {AGAIN}"
    with pytest.raises(UserError) as refused:
        check_records(plan, folder)
    assert str(refused.value) == message
    with pytest.raises(UserError, match="is that of another"):
        load_study("sqlite", "tiny", folder)


def test_a_study_without_an_id_in_a_sweep_with_one_is_refused(tmp_path: Path) -> None:
    plan = plan_of()
    folder = begun(tmp_path / "one", plan, records=0)
    begun(tmp_path / "older", plan, None)
    shutil.copy(tmp_path / "older/study.db", folder)
    with pytest.raises(UserError, match="is that of another"):
        check_records(plan, folder)


def test_a_copied_study_is_known_by_its_draws_where_versions_before_gave_no_id(tmp_path: Path) -> None:
    """Outside of the space, or of other values than the trials that began."""
    wide, narrow = plan_of(), plan_of(NARROW)
    folder = begun(tmp_path / "one", narrow, None)
    begun(tmp_path / "two", wide, None)
    shutil.copy(tmp_path / "two/study.db", folder)
    with pytest.raises(ConfigError, match=r"its trial-000 \(.*rank': 4\}\) is none that this search can draw; move it"):
        check_records(narrow, folder)
    other = begun(tmp_path / "three", wide, None, records=3)
    sweep = wide.sweep.model_copy(update={"seed": 7})
    begun(tmp_path / "four", Plan(sweep, wide.space, SourcePlan(), "", 4), None, records=0)
    shutil.copy(tmp_path / "four/study.db", other)
    with pytest.raises(ConfigError, match=r"has other values than the one in trials/; move it away"):
        check_records(wide, other)


def test_a_study_of_other_objectives_is_refused(tmp_path: Path) -> None:
    plan = plan_of()
    folder = begun(tmp_path / "one", plan)
    sweep = plan.sweep.model_copy(update={"minimize": ("adapter_parameters",)})
    with pytest.raises(UserError, match=r"must have the sweep's objectives target_val_top1, adapter_parameters, got"):
        check_records(Plan(sweep, plan.space, SourcePlan(), "", 4), folder)


def test_a_sweep_file_that_does_not_fit_what_was_trained_is_refused(tmp_path: Path) -> None:
    folder = begun(tmp_path / "one", plan_of())
    file = folder / "sweep.yaml"
    with pytest.raises(ConfigError, match=rf"^{file}: search must hold {RANK}, of which trial-000 drew 4; put it back"):
        check_records(plan_of({CYCLE: SEARCH[CYCLE]}), folder)
    with pytest.raises(ConfigError, match=rf"^{file}: search must be one that can draw trial-000 \({CYCLE} 2, "):
        check_records(plan_of(NARROW), folder)
    with pytest.raises(ConfigError, match=rf"^{file}: search must be one that can draw trial-000"):
        check_records(plan_of(SEARCH | {"transfer.adapter.gate": {"float": [0.05, 0.5]}}), folder)


def test_a_base_that_is_not_what_was_trained_is_refused(tmp_path: Path) -> None:
    folder = begun(tmp_path / "one", plan_of())
    message = r"base\.yaml must be the base with which trial-000 trained, where epochs is 2 and not 3; put it back"
    with pytest.raises(ConfigError, match=message):
        check_records(plan_of(epochs=3), folder)


def test_a_base_is_compared_with_the_run_without_transfer_where_no_trial_has_begun(tmp_path: Path) -> None:
    plan = plan_of()
    for name, recording in (("live", None), ("replayed", "the/recording")):
        folder = begun(tmp_path / name, plan, records=0)
        job = Jobs(folder, plan.space, recording).baseline()
        write_trial(job, "running")
        write_config(job)
        check_records(plan, folder)
        with pytest.raises(ConfigError, match=r"with which baseline trained, where epochs is 2 and not 3; put it back"):
            check_records(plan_of(epochs=3), folder)


PUT_BACK = "put it back, or start another sweep, with another folder (--dir)"


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_other_seeds_per_trial_than_the_trials_have_are_refused(tmp_path: Path, first: int, then: int) -> None:
    """Also where an earlier version went on with them, so that sweep.json has the later number."""
    plan, other = (plan_of(settings={"seeds_per_trial": seeds}) for seeds in (first, then))
    folder = written(begun(tmp_path / "one", plan), plan, other)
    before = contents(folder)
    for _ in range(2):
        with pytest.raises(ConfigError) as refused:
            check_records(other, folder)
        assert str(refused.value) == (
            f"{folder}/sweep.yaml: seeds_per_trial must be {first}, as trial-000 has it, got {then}; means over unlike "
            f"seeds cannot be compared: {PUT_BACK}"
        )
        assert contents(folder) == before
        written(folder, other, other)
        before = contents(folder)
    check_records(plan, written(folder, other, plan))


def written(folder: Path, began: Plan, now: Plan) -> Path:
    """sweep.yaml as it is now, and in sweep.json the one with which the sweep began."""
    then = load_yaml(dump_sweep(began.sweep), "test")
    write_record(folder / "sweep.json", {"status": "stopped", "study_id": "one", SETTINGS: then})
    (folder / "sweep.yaml").write_text(dump_sweep(now.sweep))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


TOP_K = {"sampler": "top_k", "scheduler": "none", "top_k": 2}
LIMIT = {"constraints": {"adapter_parameters": {"max": 9}}}


@pytest.mark.parametrize(
    ("before", "edits", "told"),
    [
        ({"seeds_per_trial": 2}, {"seeds_per_trial": 1}, "seeds_per_trial (2 became 1)"),
        ({}, {"base": "other.yaml"}, "base (base.yaml became other.yaml)"),
        ({}, {"set": {"epochs": 3}}, "set (edited)"),
        ({}, {"warm_start": ["elsewhere"]}, "warm_start (edited)"),
        ({}, LIMIT, "constraints (edited)"),
        (TOP_K, {"num_trials": 6}, "num_trials (4 became 6)"),
        (TOP_K, {"sampler": "random"}, "sampler (top_k became random)"),
        ({}, TOP_K, "sampler (auto became top_k)"),
    ],
)
def test_an_edit_that_cannot_be_followed_is_refused(
    tmp_path: Path, before: dict[str, object], edits: dict[str, object], told: str
) -> None:
    """By what sweep.json holds, where no trial has a record yet. Tables say so before."""
    plan, edited = plan_of(settings=before), plan_of(settings=before | edits)
    folder = written(begun(tmp_path / "one", plan, records=0), plan, edited)
    key = told.partition(" ")[0]
    with pytest.raises(ConfigError) as refused:
        check_records(edited, folder)
    assert str(refused.value) == (
        f"{folder}/sweep.yaml: {key} must stay as the sweep began, and was edited: {told}; {PUT_BACK}"
    )
    (line,) = edited_settings(folder)
    assert f"`mergenet sweep resume {folder}` goes on once " in line and key in line.partition("goes on once")[2]


@pytest.mark.parametrize(
    "edits",
    [
        {"num_trials": 6},
        {"sampler": "random"},
        {"scheduler": "none"},
        {"grace_epochs": 1},
        {"confirm_seeds": 2},
        {"slots": 3},
        {"seed": 5},
        {"budget_epochs": 30},
        {"wandb": {"mode": "offline"}},
    ],
)
def test_an_edit_that_leaves_earlier_trials_what_they_were_goes_on(tmp_path: Path, edits: dict[str, object]) -> None:
    plan, edited = plan_of(), plan_of(settings=edits)
    folder = written(begun(tmp_path / "one", plan), plan, edited)
    check_records(edited, folder)
    (line,) = edited_settings(folder)
    assert line.endswith(f"`mergenet sweep resume {folder}` goes on by it")


def test_a_base_that_was_edited_is_named_before_the_data_that_follow_from_it(tmp_path: Path) -> None:
    folder = begun(tmp_path / "sweep", plan := plan_of())
    (folder / "sweep.yaml").write_text(dump_sweep(plan.sweep))
    write_base(folder)
    text = (folder / "base.yaml").read_text()
    assert "train_fraction: 0.2" in text
    (folder / "base.yaml").write_text(text.replace("train_fraction: 0.2", "train_fraction: 0.3"))
    with pytest.raises(
        ConfigError, match=r"base\.yaml must be the base with which trial-000 trained, where .*0\.2 and"
    ):
        resumable_plan(folder)
    (folder / "base.yaml").write_bytes(b"\xff" + text.encode())
    with pytest.raises(ConfigError, match=r"^base must be UTF-8 text, got another byte .* \(in .*base\.yaml\)$"):
        resumable_plan(folder)


def test_the_record_of_another_trial_is_damaged(tmp_path: Path) -> None:
    folder = begun(tmp_path / "sweep", plan_of())
    shutil.copy(folder / "trials/trial-001/trial.json", folder / "trials/trial-000/trial.json")
    with pytest.raises(UserError, match=r"trial\.json must be of trial-000, got that of 'trial-001'; "):
        read_trial_file(folder / "trials/trial-000")
    copied = shutil.copytree(folder / "trials/trial-001", tmp_path / "kept-for-later")
    assert (read_trial_file(copied) or {})["trial_id"] == "trial-001", "a copy elsewhere may have another name"
