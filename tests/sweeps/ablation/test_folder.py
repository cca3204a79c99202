"""Plans, seeds, reuse and resuming of an ablation, from its folder alone; nothing trains."""

from pathlib import Path

import numpy as np
import pytest

from analysis.tables.load import load_trials
from analysis.trial_file import read_trial_file
from mergenet.config import Config
from mergenet.errors import ConfigError, UserError
from mergenet.records.provenance import config_hash
from mergenet.records.sealed import read_record, write_record
from sweeps.ablation.folder import adjusted, check_free, is_this, load_folder, read_variants, write_adjusted
from sweeps.ablation.plan import estimate, plan_ablation, statistics
from sweeps.ablation.results.text import plan_lines
from sweeps.ablation.reuse import Now, check_reusable, clear_unfinished, copy_run, find_runs, hashes
from sweeps.ablation.run import dropped, left, note_seeds, reuse, rounds
from sweeps.trials.sweep_dir import check_deletable, clear, holds_ablation, holds_sweep, is_rest, load_resumable
from tests.sweeps.ablation.ablations import ablation_of, begun, planned, write_finished
from tests.sweeps.base import HEAD, MEASURED, base_config

VALUES = {"transfer.t_cycle": [4, 8]}


@pytest.fixture
def plan():
    return planned(ablation_of(values=VALUES, seeds=3))


def test_only_an_exact_recording_is_as_good_as_a_live_source() -> None:
    def of(kind: str, **changes: object) -> tuple[str, str]:
        where = "there" if kind == "recorded" else None
        config = base_config()
        return hashes(
            config.model_copy(
                update={"source": config.source.model_copy(update={"kind": kind, "recording": where, **changes})}
            )
        )

    assert of("live") == of("recorded")
    assert of("live")[0] != of("live")[1]
    coarse = of("recorded", record_every=64)
    assert coarse == of("live", record_every=64)
    assert coarse[0] == coarse[1], "never that of a live one"
    assert coarse[1] not in (*of("live"), *of("live", record_dtype="bf16"))
    assert of("live", max_gib=1.0) == of("live")


def test_runs_have_shared_seeds_and_a_pinned_source(tmp_path, plan):
    jobs = plan.jobs(tmp_path)
    assert list(jobs) == ["centre", "t_cycle-4", "t_cycle-8"]
    for name, runs in jobs.items():
        assert [job["config"]["seed"] for job in runs] == [1, 2, 3]
        assert {job["config"]["source"]["seed"] for job in runs} == {0}
        assert [job["id"] for job in runs] == [name, f"{name}-seed-2", f"{name}-seed-3"]
        assert [job["role"] for job in runs] == ["trial", "replicate", "replicate"]
        assert runs[0]["seeds"] == [1, 2, 3]
        assert Path(runs[0]["folder"]) == tmp_path / "trials" / name


def test_the_source_is_recorded_once_for_all_that_train_it_alike(tmp_path):
    values = {
        "transfer.t_cycle": [6], "transfer.pairs": [[HEAD]], "source.optimizer.lr": [0.01],
        "method": ["none", "kd"], "transfer.pairs.0.direction": ["both"],
    }  # fmt: skip
    plan = planned(ablation_of(values=values))
    first, second = plan.sources
    assert first.variants[:2] == ("centre", "t_cycle-6") and len(first.variants) == 3
    assert (first.name, first.plan.layers, first.plan.every) == ("source", ("layer3.0.conv2", "fc"), 2)
    assert (second.name, second.variants) == ("source-2", ("lr-0.01",))
    job = second.job(tmp_path)
    assert (job["id"], job["role"], job["task"]) == ("source-2", "source", "record")
    assert job["folder"] == str(tmp_path / "source-2")
    kinds = {name: runs[0]["config"]["source"]["kind"] for name, runs in plan.jobs(tmp_path).items()}
    assert {name for name, kind in kinds.items() if kind == "live"} == {"method-none", "method-kd", "direction-both"}


def test_the_plan_counts_runs_epochs_and_hours_from_measured_times(tmp_path, plan):
    measured = {one.name: MEASURED for one in plan.variants}
    found = estimate(plan, measured, tmp_path, reused=["centre", "centre-seed-2"], pair_sd=0.5)
    assert found["runs"] == {"all": 9, "reused": 2, "train": 7}
    assert (found["recordings"], found["epochs"]) == (1, 2 * (7 + 1))
    assert found["hours"] > 0 and found["run_hours"] * 3600 > 7 * 2 * (10 * 0.15 + 2)
    lines = list(plan_lines(found))
    assert lines[0] == "ablation tiny-ablation: nothing has been created"
    assert "variants: 2 beside centre, 3 seeds each (1 to 3), paired by seed" in lines
    assert "runs: 9, of which 2 are reused or there and 7 train" in lines
    assert any(" points, if that deviation is 0.50)" in line for line in lines)


def test_statistics_say_from_how_many_seeds_on_the_test_can_show_anything():
    found = statistics(8, 17)
    assert found["holm_seeds"] == 10, "2/2^10 * 17 < 0.05 < 2/2^9 * 17"
    assert found["holm_gain_in_sd"] > found["gain_in_sd"] > 1
    assert statistics(8, 1)["holm_seeds"] == 6


def test_a_begun_folder_is_an_ablation_and_no_sweep(tmp_path, plan):
    folder = begun(tmp_path / "a", plan)
    assert holds_ablation(folder) and not holds_sweep(folder)
    assert load_folder(folder) == plan.ablation
    assert tuple(read_variants(folder)[0]) == plan.variants
    with pytest.raises(ConfigError, match="must be a sweep folder, got an ablation; `mergenet sweep resume"):
        load_resumable(folder)
    with pytest.raises(ConfigError, match=r"which holds another ablation; choose another folder \(--dir\), or delete"):
        check_free(folder)
    check_deletable(folder)
    clear(folder)
    assert not holds_ablation(folder)


@pytest.mark.parametrize("kept", range(4))
def test_what_a_kill_leaves_of_one_that_was_begun_is_begun_again(tmp_path, plan, kept):
    folder = begun(tmp_path / "a", plan)
    names = ("sweep.json", "base.yaml", "variants.json", "ablation.yaml")  # in the order of writing
    for name in names[kept:]:
        (folder / name).unlink()
    (folder / ".lock").touch()
    assert not holds_ablation(folder)
    assert is_rest(folder) == (kept > 0), "a lock alone is nothing"
    check_free(folder)


def test_the_same_ablation_may_get_more_seeds_and_nothing_else(tmp_path, plan):
    folder = begun(tmp_path / "a", plan)
    assert is_this(folder, ablation_of(values=VALUES, seeds=16), plan.variants)
    assert not is_this(folder, ablation_of(values={"transfer.t_cycle": [4]}), plan.variants)
    other = planned(ablation_of(values=VALUES, seeds=3), epochs=3)
    assert not is_this(folder, plan.ablation, other.variants), "another centre"
    assert adjusted(folder, {"seeds": 16, "race": True}).seeds == 16
    with pytest.raises(ConfigError, match=r"seeds must be at least 3, which the ablation in .* has, got 2; choose"):
        adjusted(folder, {"seeds": 2})
    with pytest.raises(ConfigError, match="values must stay what it is in an ablation that has begun"):
        adjusted(folder, {"values": {}})
    more = plan_ablation(adjusted(folder, {"seeds": 5}), *read_variants(folder))
    write_adjusted(folder, more)
    assert (load_folder(folder).seeds, more.seeds) == (5, (1, 2, 3, 4, 5))


def test_a_variant_that_could_not_train_does_not_make_it_another_ablation(tmp_path, plan):
    from sweeps.ablation.variants import LeftOut

    some = plan_ablation(plan.ablation, plan.variants[:-1], [LeftOut(plan.variants[-1].label, "too large")])
    assert is_this(begun(tmp_path / "a", some), plan.ablation, plan.variants)


@pytest.mark.parametrize("name", ["ablation.yaml", "variants.json"])
@pytest.mark.parametrize("content", ["", "[1", "{}", "name: 3\nvalues: x\n"])
def test_a_damaged_file_is_one_line_with_its_path(tmp_path, plan, name, content):
    folder = begun(tmp_path / "a", plan)
    (folder / name).write_text(content)
    read = load_folder if name == "ablation.yaml" else read_variants
    with pytest.raises(UserError) as caught:
        read(folder)
    assert all(str(folder / name) in line for line in str(caught.value).splitlines())


def run_all(plan, folder, names=("centre", "t_cycle-4", "t_cycle-8"), value=0.5):
    for name in names:
        for job in plan.jobs(folder)[name]:
            write_finished(job, value)


def test_only_what_has_not_ended_trains_and_seeds_come_in_rounds(tmp_path, plan):
    folder = begun(tmp_path / "a", plan)
    jobs = plan.jobs(folder)
    names = [job["id"] for job in left(plan, jobs, 3)]
    assert names[:4] == ["centre", "t_cycle-4", "t_cycle-8", "centre-seed-2"], "all get a seed before any gets the next"
    run_all(plan, folder, ["t_cycle-4"])
    assert len(left(plan, jobs, 3)) == 6
    assert [job["id"] for job in left(plan, jobs, 1)] == ["centre", "t_cycle-8"]
    assert list(rounds(plan)) == [3]
    hours = plan_ablation(ablation_of(values=VALUES, seeds=3, budget_hours=1.0), plan.variants, ())
    assert list(rounds(hours)) == [1, 2, 3]


def test_a_dropped_variant_trains_no_further(tmp_path):
    plan = planned(ablation_of(values=VALUES, seeds=8, race=True))
    folder = begun(tmp_path / "a", plan)
    jobs = plan.jobs(folder)
    assert list(rounds(plan)) == [4, 6, 8]
    for name, lead in (("centre", 0.0), ("t_cycle-4", -0.3), ("t_cycle-8", 0.0)):
        for job in jobs[name][:4]:
            write_finished(job, 0.7 + lead + 0.01 * (hash(job["id"]) % 7) / 7 + 0.01 * job["config"]["seed"])
    assert dropped(plan, jobs, 4) == {"t_cycle-4": 4}
    assert {job["id"].partition("-seed")[0] for job in left(plan, jobs, 8)} == {"centre", "t_cycle-8"}
    assert dropped(plan, jobs, 3) == {}, "before the look nothing is dropped"


def test_the_table_of_an_ablation_that_gets_more_seeds_is_the_mean_over_all(tmp_path, plan):
    folder = begun(tmp_path / "a", plan)
    run_all(plan, folder)
    more = plan_ablation(adjusted(folder, {"seeds": 4}), *read_variants(folder))
    jobs = more.jobs(folder)
    for name in jobs:
        write_finished(jobs[name][3], 0.9)
        note_seeds(jobs[name], jobs[name])
    table = load_trials(folder)
    assert set(table["seeds"]) == {4} and set(table["state"]) == {"complete"}
    assert table["target_test_top1"].tolist() == pytest.approx([0.6] * 3)


def test_a_variant_that_gets_no_more_than_one_seed_has_ended(tmp_path, plan):
    """One that was rejected after it read as running for good: the others never come."""
    folder = begun(tmp_path / "a", plan)
    jobs = plan.jobs(folder)
    *others, dropped_one = jobs
    for name, found in jobs.items():
        trained = found[:1] if name == dropped_one else found
        for job in trained:
            write_finished(job, 0.5 + job["config"]["seed"] / 10)
        note_seeds(found, trained)
    table = load_trials(folder).set_index("trial")
    assert set(table["state"]) == {"complete"}
    assert table["seeds"].to_dict() == dict.fromkeys(others, len(plan.seeds)) | {dropped_one: 1}
    assert table["target_test_top1"][dropped_one] == pytest.approx(0.5 + plan.seeds[0] / 10)
    assert np.isnan(table["sd"][dropped_one])


# ---------------------------------------------------------------- reuse


def finished_sweep(folder, plan, **changes):
    """The runs of the centre, recorded as a sweep confirms its best. changes: of their provenance."""
    for number, job in enumerate(plan.jobs(folder)["centre"]):
        config, name = Config.model_validate(job["config"]), f"confirm-best-{number}"
        origin = Now()(config) | {"config_hash": config_hash(config)} | changes
        job |= {"id": name, "folder": str(folder / "trials" / name)}
        write_finished(job, 0.5 + number / 10, provenance=origin)
    return folder


def test_runs_of_the_same_configuration_seed_data_and_code_are_copied(tmp_path):
    earlier = finished_sweep(tmp_path / "sweep", planned(ablation_of(values=VALUES, seeds=3)))
    plan = planned(ablation_of(values=VALUES, seeds=4, reuse=[str(earlier)]))
    folder = begun(tmp_path / "a", plan)
    jobs = plan.jobs(folder)
    found = reuse(plan, jobs, folder)
    assert list(found.lines()) == [f"reused: 3 runs of {earlier}"]
    assert [Path(run).name for run in found.runs.values()] == [f"confirm-best-{i}" for i in range(3)]
    assert [job["id"] for job in left(plan, jobs, 4)][:2] == ["t_cycle-4", "t_cycle-8"]
    assert len(left(plan, jobs, 4)) == 12 - 3
    trial = read_trial_file(folder / "trials/centre-seed-2")
    assert trial is not None and trial["reused"] == str(earlier / "trials/confirm-best-1")
    assert (trial["trial_id"], trial["role"], trial["seed"]) == ("centre-seed-2", "replicate", 2)
    assert reuse(plan, jobs, folder).runs == {}, "what is there is not copied again"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data_hashes": {"target": "0" * 64}}, "target's data "),
        ({"code_hashes": {"tests.own": "1"}}, ""),  # only one side has it
        ({"cpu": "another"}, "CPU "),
        ({"versions": {"mergenet": "0.0.1"}}, "torch "),
    ],
)
def test_a_run_with_other_data_versions_or_machine_trains_anew_and_it_is_said_why(tmp_path, changes, reason):
    earlier = finished_sweep(tmp_path / "sweep", planned(ablation_of(values=VALUES, seeds=2)), **changes)
    plan = planned(ablation_of(values=VALUES, seeds=2, reuse=[str(earlier)]))
    found = find_runs([job for runs in plan.jobs(tmp_path / "a").values() for job in runs], [earlier])
    if not reason:
        assert len(found.runs) == 2
        return
    assert found.runs == {}
    (line,) = found.lines()
    assert line.startswith("not reused: 2 runs of the same configuration and seed, ") and reason in line


def test_a_failed_run_and_another_configuration_are_not_reused(tmp_path):
    earlier = finished_sweep(tmp_path / "sweep", planned(ablation_of(values=VALUES, seeds=2)))
    run = earlier / "trials/confirm-best-0"
    trial = read_record(run / "trial.json")
    write_record(run / "trial.json", trial | {"state": "failed"})
    plan = planned(ablation_of(values=VALUES, seeds=2, reuse=[str(earlier)]), epochs=3)
    jobs = [job for runs in plan.jobs(tmp_path / "a").values() for job in runs]
    assert find_runs(jobs, [earlier]).runs == {}
    same = planned(ablation_of(values=VALUES, seeds=2, reuse=[str(earlier)]))
    jobs = [job for runs in same.jobs(tmp_path / "a").values() for job in runs]
    assert [run.name for run in find_runs(jobs, [earlier]).runs.values()] == ["confirm-best-1"]
    with pytest.raises(ConfigError, match=r"reuse \(--reuse\) must name folders of sweeps or ablations with runs, got"):
        check_reusable([tmp_path / "nowhere"])


def test_a_copy_that_was_killed_leaves_no_run(tmp_path, plan, monkeypatch):
    earlier = finished_sweep(tmp_path / "sweep", plan)
    folder = begun(tmp_path / "a", plan)
    job = plan.jobs(folder)["centre"][0]
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        copy_run(earlier / "trials/confirm-best-0", job, folder)
    monkeypatch.undo()
    assert not Path(job["folder"]).exists() and list(folder.glob(".reused-*"))
    clear_unfinished(folder)
    assert not list(folder.glob(".reused-*"))


def test_the_best_of_a_sweep_is_the_centre_with_the_seeds_of_its_confirmation(tmp_path):
    from mergenet.config.loading import dump_yaml
    from sweeps.ablation.centre import load_centre
    from sweeps.config.loading import dump_sweep
    from sweeps.planning.plan import fresh_seeds
    from sweeps.trials.jobs import with_seed
    from sweeps.trials.recorded_source import pin_source
    from tests.sweeps.folders import planned as planned_sweep

    (tmp_path / "in").mkdir()
    sweep = planned_sweep(tmp_path / "in", {"transfer.t_cycle": {"choice": [2, 4]}}, seeds_per_trial=3, confirm_seeds=2)
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "base.yaml").write_text(dump_yaml(base_config()))
    (folder / "sweep.yaml").write_text(dump_sweep(sweep.sweep))
    write_record(folder / "sweep.json", {"status": "running"})
    with pytest.raises(ConfigError, match=r"must be a sweep with a best trial, got none yet \(status: running\)"):
        load_centre(str(folder))
    best = pin_source(base_config().model_dump(mode="json"))
    (folder / "best.yaml").write_text(dump_yaml(Config.model_validate(best)))
    centre = load_centre(str(folder))
    assert (centre.config.seed, centre.name) == (fresh_seeds(sweep)[0], "tiny-ablation")
    assert config_hash(centre.config) == config_hash(Config.model_validate(with_seed(best, fresh_seeds(sweep)[0])))
    assert list(centre.search) == ["transfer.t_cycle"]
    assert load_centre(str(folder / "best.yaml")) == centre, "the file beside its sweep is the same"


@pytest.mark.parametrize(("own", "first"), [(None, 1), (0, 1), (1, 2), (3, 4), (5000, 1), (2**32 - 1, 1)])
def test_no_run_of_an_ablation_trains_the_target_with_the_seed_that_chose_its_centre(tmp_path, own, first):
    """The target of a trial has the base's target.seed, if that is set; of an ablation that of the run."""
    from mergenet.config.loading import dump_yaml
    from sweeps.ablation.centre import load_centre

    base = base_config()
    base = base.model_copy(update={"seed": 0, "target": base.target.model_copy(update={"seed": own})})
    (tmp_path / "base.yaml").write_text(dump_yaml(base))
    config = load_centre(str(tmp_path / "base.yaml")).config
    assert (config.seed, config.target.seed) == (first, None)
