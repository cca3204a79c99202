"""Successive rejects: who is rejected when, and that the one that is named is told by seeds that did not choose it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis.names import portable_config
from mergenet.config import Config
from mergenet.config.loading import load_config
from mergenet.errors import ConfigError
from mergenet.records.run_record import read_run
from sweeps.ablation.best_of import best_trials
from sweeps.ablation.centre import load_centre
from sweeps.ablation.folder import adjusted, write_new
from sweeps.ablation.plan import AblationPlan, plan_ablation
from sweeps.ablation.rejects import given_up, phases, rejected_at
from sweeps.ablation.results.named import candidates, lines
from sweeps.ablation.results.published import numbers
from sweeps.ablation.results.result import AblationResult
from sweeps.ablation.run import left, rounds
from tests.records import edit_record
from tests.sweeps.ablation.ablations import ablation_of, begun, write_finished
from tests.sweeps.folders import planned, write_sweep

CYCLES = {"transfer.t_cycle": {"choice": [2, 4, 8]}}


def trained(plan: AblationPlan, folder: Path, value: Callable[[str], float]) -> AblationResult:
    """value: of a run, by its name."""
    begun(folder, plan)
    for runs in plan.jobs(folder).values():
        for job in runs:
            write_finished(job, value(job["id"]))
    return AblationResult.load(folder)


def test_the_phases_are_those_of_the_paper():
    assert phases(3, 8) == [6, 8]  # ceil(16 / 3), 16 / 2
    assert phases(5, 8) == [4, 4, 6, 8]
    assert phases(1, 8) == []


def test_the_worst_of_each_phase_is_rejected_and_a_failed_run_is_the_worst():
    seeds = [1, 2, 3, 4, 5, 6, 7, 8]
    curves = {name: dict.fromkeys(seeds, value) for name, value in (("none", 0.9), ("a", 0.5), ("b", 0.7), ("c", 0.6))}
    assert rejected_at(curves, "none", seeds, 8, "max") == {"a": 6, "c": 8}
    assert rejected_at(curves, "none", seeds, 8, "min") == {"b": 6, "c": 8}
    assert rejected_at(curves | {"b": curves["b"] | {3: None}}, "none", seeds, 8, "max") == {"b": 6, "a": 8}
    assert rejected_at(curves, "none", seeds[:6], 8, "max") == {"a": 6}
    assert rejected_at(curves | {"c": {1: 0.6}}, "none", seeds, 8, "max") == {}, "not before all have ended"
    equal = curves | {"b": curves["a"], "c": curves["a"]}
    assert rejected_at(equal, "none", seeds, 8, "max") == {"c": 6, "b": 8}, "of equals the first in the search stays"


def test_a_candidate_that_is_better_is_named_more_often_than_by_the_search_alone():
    rng = np.random.default_rng(0)
    seeds, hits, lucky = list(range(8)), 0, 0
    for _ in range(300):
        true = np.array([0.0, 0.5, 1.0, 0.0])
        order = np.argsort(-(true + rng.normal(size=4)))  # by one seed of the search
        curves = {str(i): dict(zip(seeds, true[i] + rng.normal(size=8), strict=True)) for i in order}
        out = rejected_at({"none": {}} | curves, "none", seeds, 8, "max")
        hits += "2" not in out
        lucky += order[0] == 2
    assert hits > 1.3 * lucky


@pytest.fixture
def sweep(tmp_path):
    """Three trials that finished, by validation 0.6, 0.8, 0.7, and one that was stopped early."""
    (tmp_path / "in").mkdir()
    plan = planned(tmp_path / "in", CYCLES, num_trials=4)
    trials = [({"transfer.t_cycle": cycle}, [0.5, value]) for cycle, value in ((2, 0.6), (4, 0.8), (8, 0.7))]
    return write_sweep(tmp_path / "sweep", plan, [*trials, ({"transfer.t_cycle": 2}, [0.99], "pruned")])


def confirmation(sweep, top=3, seeds=3):
    _, variants, left_out = best_trials(sweep, top)
    ablation = ablation_of(components=False, top=top, seeds=seeds)
    return plan_ablation(ablation, variants, left_out)


def test_the_best_trials_stand_beside_no_transfer_with_fresh_seeds(sweep):
    plan = confirmation(sweep, top=2)
    assert [one.label for one in plan.variants] == ["no transfer", "trial-001", "trial-002"]
    assert [one.search_value for one in plan.variants] == [None, 0.8, 0.7]
    none, best, other = (one.config for one in plan.variants)
    assert (none["method"], best["transfer"]["t_cycle"], other["transfer"]["t_cycle"]) == ("none", 4, 8)
    assert none["transfer"] == best["transfer"]
    assert plan.seeds == (1, 2, 3, 4, 5, 6), "three that choose, three that tell"


def test_more_trials_than_finished_are_told_and_none_is_an_error(sweep):
    plan = confirmation(sweep, top=9)
    assert len(plan.variants) == 4
    assert plan.left_out[0].label == "top 9"
    assert plan.left_out[0].reason.startswith("the sweep has 3 finished trials with transfer")
    for path in sweep.glob("trials/*/trial.json"):
        edit_record(path, {"state": "failed"})
    with pytest.raises(ConfigError, match="must hold a finished trial with transfer to confirm, got none"):
        best_trials(sweep, 3)


def test_a_trial_that_was_stopped_early_trains_in_full_if_it_is_named(sweep, tmp_path):
    _, variants, left_out = best_trials(sweep, 3, ["trial-003", "trial-000"])
    assert [(one.name, one.search_value, one.stopped_after) for one in variants[1:]] == [
        ("trial-000", 0.6, None),
        ("trial-003", 0.99, 1),
    ], "after those that trained to their end: its value is of a part of a training"
    assert left_out == []
    stopped, whole = variants[2].config, variants[1].config
    assert (stopped["epochs"], stopped["seed"]) == (whole["epochs"], 1) == (2, 1)
    plan, folder = plan_ablation(ablation_of(components=False, top=2, seeds=2), variants, ()), tmp_path / "best"
    result = trained(plan, folder, lambda run: 0.5 + 0.2 * ("003" in run))
    said = list(lines(result.runs, result.variants, result.seeds, result.dropped))
    assert said[2] == (
        "  trial-003: 99.00 % in the search by epoch 1, where it was stopped early, 70.00 % on 2 fresh seeds, "
        "-29.00 points; is named"
    )
    table = candidates(result.runs, result.variants, result.seeds, result.dropped)
    assert table.columns.tolist() == ["name", "search", "stopped", "fresh", "seeds", "rejected"]


def test_those_that_were_stopped_are_no_candidates_by_themselves_and_it_says_how_to_name_them(sweep):
    way_out = "; those that were stopped early train in full if they are named, the best of them by "
    way_out += "trials=['trial-003'] (--trial trial-003)"
    _, _, left_out = best_trials(sweep, 9)
    assert left_out[0].reason == f"the sweep has 3 finished trials with transfer{way_out}"
    for number in range(3):
        edit_record(sweep / f"trials/trial-00{number}/trial.json", {"state": "failed"})
    with pytest.raises(ConfigError) as refused:
        best_trials(sweep, 1)
    assert str(refused.value).endswith(
        f"must hold a finished trial with transfer to confirm, got none of 4 (3 failed, 1 stopped early){way_out}"
    )


def test_a_name_must_be_that_of_a_trial_with_transfer_that_trained(sweep):
    for name, why in (("trial-3", "trials (--trial) must be one of trial-000"), ("baseline", "must be one of")):
        with pytest.raises(ConfigError, match=re.escape(why)):
            best_trials(sweep, 3, [name])
    edit_record(sweep / "trials/trial-001/trial.json", {"state": "failed", "error": "it broke"})
    with pytest.raises(ConfigError, match=r"or were stopped early, got trial-001, which is failed; .* --retry-failed`"):
        best_trials(sweep, 3, ["trial-000", "trial-001"])


def test_one_trial_needs_no_choice_so_that_all_seeds_tell_its_gain(sweep, tmp_path):
    plan, folder = confirmation(sweep, top=1), tmp_path / "best"
    assert [one.name for one in plan.variants] == ["no-transfer", "trial-001"]
    assert (plan.seeds, list(rounds(plan))) == ((1, 2, 3), [3])
    result = trained(plan, folder, lambda run: 0.5 + 0.1 * ("trial" in run))
    said = list(lines(result.runs, result.variants, result.seeds, result.dropped))
    assert said[0] == "val top1 in the search against fresh seeds (the difference is the winner's curse):"
    assert said[1] == "  trial-001: 80.00 % in the search, 60.00 % on 3 fresh seeds, -20.00 points"
    assert said[2] == "trial-001 minus no transfer, on fresh seeds:"
    assert said[4].startswith("  test top1 +10.00 points, 3 seeds")
    assert result.best == "trial-001"
    assert result.table["gain"].iloc[1] == pytest.approx(0.1) and result.table["note"].iloc[1] == ""
    assert (result.facts["seeds_chose"], result.facts["seeds_told"], result.facts["num_pairs"]) == ([], [1, 2, 3], 3)
    assert adjusted(folder, {"seeds": 8}).num_seeds == 8, "more seeds on the same folder"


def test_seeds_decide_the_phases_and_cannot_change(sweep, tmp_path):
    folder = tmp_path / "best"
    folder.mkdir()
    write_new(confirmation(sweep), folder)
    with pytest.raises(ConfigError, match=r"seeds must stay 3 in .*: they decide which trial is rejected when"):
        adjusted(folder, {"seeds": 8})


def test_the_winners_curse_and_the_gain_on_seeds_that_did_not_choose(sweep, tmp_path):
    folder = tmp_path / "best"
    folder.mkdir()
    plan = confirmation(sweep)
    write_new(plan, folder)
    assert list(rounds(plan)) == [2, 3, 6]
    fresh = {"no-transfer": 0.5, "trial-001": 0.55, "trial-002": 0.65, "trial-000": 0.6}
    jobs = plan.jobs(folder)
    for count in rounds(plan):
        for job in left(plan, jobs, count):
            seed = job["config"]["seed"]
            bonus = 0.2 if seed <= 3 and "trial-002" in job["id"] else 0.0  # luck on the seeds that choose
            write_finished(job, fresh[job["id"].partition("-seed")[0]] + bonus + seed / 1000)
    trained = {name: sum(path.name.partition("-seed")[0] == name for path in folder.glob("trials/*")) for name in jobs}
    assert trained == {"no-transfer": 6, "trial-001": 2, "trial-002": 6, "trial-000": 3}
    result = AblationResult.load(folder)
    assert result.best == "trial-002"
    said = list(lines(result.runs, result.variants, result.seeds, result.dropped))
    assert said[1] == ("  trial-001: 80.00 % in the search, 55.15 % on 2 fresh seeds, -24.85 points; rejected after 2")
    assert "  trial-002: 70.00 % in the search, 85.20 % on 3 fresh seeds, +15.20 points; is named" in said
    assert said[-1].startswith("  test top1 +15.00 points, 3 seeds, 95 % interval [+15.00, +15.00] (t), p 0.25")
    table = result.table.set_index("name")
    assert table["n"].to_dict() == {"no-transfer": 6, "trial-001": 2, "trial-002": 6, "trial-000": 3}
    told = table.loc["trial-002"]
    assert (told["gain"], told["num_pairs"], told["p"], told["p_holm"]) == (pytest.approx(0.15), 3, 0.25, 0.25)
    assert (told["gain_low"], told["gain_high"]) == (pytest.approx(0.15), pytest.approx(0.15))
    assert told["note"] == "named; its gain is that of 3 seeds that did not choose it"
    assert table[table["gain"].notna()].index.tolist() == ["trial-002"], "of those that were rejected none is told"
    result.write()
    facts = json.loads((folder / "ablation.json").read_text())
    assert (facts["seeds_chose"], facts["seeds_told"], facts["num_pairs"]) == ([1, 2, 3], [4, 5, 6], 3)
    assert [facts[key] for key in ("gain", "gain_low", "gain_high")] == pytest.approx([0.15] * 3)
    shown = numbers(result)
    assert shown["gain_trial-002"] == shown["gain"] == facts["gain"]
    assert not {"gain_trial-001", "gain_trial-000"} & shown.keys()
    assert (shown["seeds_chose"], shown["seeds_told"]) == ([1, 2, 3], [4, 5, 6])
    cells = [line.split("|")[4].strip() for line in (folder / "ablation.md").read_text().splitlines()[2:]]
    assert cells == ["-", "-", "+15.00 [+15.00, +15.00]", "-"]
    best = tmp_path / "copied.yaml"
    best.write_text((folder / "best.yaml").read_text())
    last = portable_config(read_run(folder / "trials/trial-002-seed-6").config)
    assert load_config(str(best)) == Config.model_validate(last | {"name": "trial-002"}), "it has trained"
    assert load_centre(str(best)).config.seed == 7, "none of those that chose it"


def test_none_is_named_before_the_phases_have_ended(sweep, tmp_path):
    folder = tmp_path / "best"
    folder.mkdir()
    plan = confirmation(sweep)
    write_new(plan, folder)
    for runs in plan.jobs(folder).values():
        write_finished(runs[0], 0.5)
    result = AblationResult.load(folder)
    assert result.best is None
    assert result.table["gain"].isna().all()
    assert "gain" not in result.facts
    assert list(lines(result.runs, result.variants, result.seeds, result.dropped))[-1].startswith("none is named yet")


def test_without_race_and_rejects_nothing_is_given_up():
    assert given_up(ablation_of(), {"centre": {}, "x": {}}, [1, 2], "max") == {}
