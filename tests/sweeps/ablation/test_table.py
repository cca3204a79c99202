"""The table of an ablation from runs on disk: means, pairs, Holm, costs, notes, interactions; and as text."""

import json

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.paired_tests import holm, paired_difference
from mergenet.errors import UserError
from sweeps.ablation.results.result import AblationResult
from sweeps.ablation.results.status import read_status, status_lines
from sweeps.ablation.results.table import verdict_lines
from sweeps.ablation.results.text import print_result
from tests.records import edit_record
from tests.sweeps.ablation.ablations import TEST, VAL, ablation_of, begun, planned, write_finished

VALUES = {"transfer.t_cycle": [4, 8], "transfer.adapter.gate": [0.5]}
PAIR = ["transfer.t_cycle", "transfer.adapter.gate"]
EFFECT = {"centre": 0.0, "t_cycle-4": -0.1, "t_cycle-8": 0.002, "gate-0.5": 0.02}


def value(name, seed):
    """A seed's own luck, a variant's effect, and a little noise."""
    noise = np.random.default_rng([seed, *name.encode()]).normal(0, 0.004)
    return 0.7 + 0.01 * seed + EFFECT.get(name, -0.05) + noise


@pytest.fixture
def plan():
    return planned(ablation_of(values=VALUES, interactions=[PAIR], seeds=8))


@pytest.fixture
def folder(tmp_path, plan):
    folder = begun(tmp_path / "ablation", plan)
    for name, jobs in plan.jobs(folder).items():
        for job in jobs:
            write_finished(job, value(name, job["config"]["seed"]))
    return folder


def test_means_and_paired_gains_with_holm(folder):
    table = AblationResult.load(folder).table
    assert list(table["name"]) == [
        "centre",
        "t_cycle-4",
        "t_cycle-8",
        "gate-0.5",
        "t_cycle-4-gate-0.5",
        "t_cycle-8-gate-0.5",
    ]
    seeds = range(1, 9)
    centre, other = (np.array([value(name, seed) for seed in seeds]) for name in ("centre", "t_cycle-4"))
    first, row = table.iloc[0], table.iloc[1]
    assert (first["n"], first["mean"]) == (8, pytest.approx(centre.mean()))
    half = stats.t.ppf(0.975, 7) * centre.std(ddof=1) / 8**0.5
    assert (first["low"], first["high"]) == pytest.approx((centre.mean() - half, centre.mean() + half))
    expected = paired_difference(other, centre)
    assert (row["gain"], row["p"], row["num_pairs"]) == (pytest.approx(expected.mean), expected.p_value, 8)
    assert (row["gain_low"], row["gain_high"]) == pytest.approx(expected.interval)
    assert np.isnan(first["gain"]) and np.isnan(first["p_holm"])
    assert list(table["p_holm"][1:]) == pytest.approx(list(holm(table["p"][1:].to_numpy())))
    assert (row["adapter_parameters"], row["step_ms"]) == (10, pytest.approx(2.5))  # 0.01 s for 4 steps


def test_a_seed_that_failed_on_either_side_is_no_pair_and_is_told(tmp_path, plan):
    folder = begun(tmp_path / "a", plan)
    for name, jobs in plan.jobs(folder).items():
        for place, job in enumerate(jobs):
            bad = (name, place) in {("centre", 0), ("gate-0.5", 7), ("gate-0.5", 6)}
            write_finished(job, value(name, place), "failed" if bad else "complete")
    table = AblationResult.load(folder).table.set_index("name")
    assert (table.loc["centre", "n"], table.loc["centre", "note"]) == (7, "1 of 8 failed")
    gate = table.loc["gate-0.5"]
    assert (gate["n"], gate["num_pairs"], gate["note"]) == (6, 5, "2 of 8 failed")


def test_what_two_changes_together_add_to_each_alone(folder):
    found = AblationResult.load(folder).interactions
    assert list(found["variant"]) == ["t_cycle 4, gate 0.5", "t_cycle 8, gate 0.5"]
    names = ("t_cycle-4-gate-0.5", "centre", "t_cycle-4", "gate-0.5")
    both, centre, one, other = (np.array([value(name, seed) for seed in range(1, 9)]) for name in names)
    assert found["gain"].iloc[0] == pytest.approx((both - one - other + centre).mean())
    assert found["n"].tolist() == [8, 8]
    assert found["p_holm"].tolist() == pytest.approx(list(holm(found["p"].to_numpy())))


def test_the_same_numbers_as_the_centre_are_told(tmp_path, plan):
    folder = begun(tmp_path / "a", plan)
    for jobs in plan.jobs(folder).values():
        for job in jobs:
            write_finished(job, 0.5 + 0.01 * job["config"]["seed"])
    assert set(AblationResult.load(folder).table["note"][1:]) == {"trains to the same numbers as centre"}


def test_equal_test_metrics_alone_are_not_the_same_numbers(tmp_path, plan):
    folder = begun(tmp_path / "a", plan)
    for jobs in plan.jobs(folder).values():
        for job in jobs:
            write_finished(job, 0.5 + 0.01 * job["config"]["seed"])
    path = folder / "trials/gate-0.5-seed-3/result.json"
    edit_record(path, {VAL: 0.7})
    table = AblationResult.load(folder).table.set_index("name")
    assert (table.loc["gate-0.5", "gain"], table.loc["gate-0.5", "note"]) == (0, "")
    assert table.loc["t_cycle-4", "note"] == "trains to the same numbers as centre"


def test_the_verdict_names_what_is_shown_and_what_could_have_been(folder):
    result = AblationResult.load(folder)
    table = result.table[result.table["name"].isin(["centre", "t_cycle-4", "t_cycle-8"])].copy()
    table["p_holm"] = [np.nan, *holm(table["p"][1:].to_numpy())]
    shown, power = verdict_lines(table, TEST)
    assert shown.startswith(
        "different from centre at the 5 % level after Holm's correction for 2 variants: t_cycle 4 (-1"
    )
    assert "t_cycle 8" not in shown
    assert power.startswith("  8 seeds find a difference of 0.") and " points 80 times in 100 (t test" in power


def test_too_few_seeds_for_so_many_variants_are_told(folder):
    lines = list(verdict_lines(AblationResult.load(folder).table, TEST))
    assert any("8 seeds cannot show it" in line for line in lines) == (2 / 2**8 * 5 >= 0.05)
    few = AblationResult.load(folder).table.assign(smallest_p=0.0625)
    assert "  8 seeds cannot show it for 5 variants: the smallest p is 2/2^8 = 0.0078, 0.31 after the correction; " in (
        "\n".join(verdict_lines(few, TEST))
    )


def test_files_and_text(folder, capsys):
    result = AblationResult.load(folder)
    result.write()
    assert (folder / "ablation.md").read_text().startswith("| variant | n | target_test_top1 % [95 % interval] |")
    assert r"\toprule" in (folder / "ablation.tex").read_text()
    assert (folder / "ablation.csv").read_text().splitlines()[0].startswith("variant,n,mean,low,high,gain,")
    assert (folder / "interactions.csv").read_text().count("\n") == 3
    found = json.loads((folder / "ablation.json").read_text())
    assert (found["metric"], found["seeds"], found["reused"]) == (TEST, list(range(1, 9)), 0)
    assert found["table"][0]["gain"] is None and found["table"][1]["gain"] < -0.09
    assert '"num_pairs": 8,' in (folder / "ablation.json").read_text(), "a whole number"
    print_result(folder, TEST, result.table, result.interactions, [], False)
    out = capsys.readouterr().out
    assert "gain: minus centre, paired by seed; p of the sign-flip test" in out
    assert "interactions: what two changes together add to the sum of each alone, paired by seed" in out


def test_another_metric_can_be_shown_and_an_unknown_one_is_one_line(folder):
    assert AblationResult.load(folder, VAL).table["mean"].iloc[0] == pytest.approx(
        np.mean([value("centre", seed) for seed in range(1, 9)])
    )
    with pytest.raises(
        UserError, match=r"metric \(--metric\) must be one of target_test_top1, target_val_top1, got 'acc'"
    ):
        AblationResult.load(folder, "acc")


def test_status_counts_runs_by_variant(folder):
    found = read_status(folder)
    assert (found["status"], found["driver"], found["runs"]) == ("killed", False, 48)
    lines = list(status_lines(found))
    assert "runs: 48 of 48 complete, 6 variants with 8 seeds" in lines
    assert lines[-1] == f"next: mergenet sweep resume {folder}"
    assert found["can_grow"]
    for can_grow, more in ((True, ", --seeds 16 adds seeds"), (False, "")):  # of several best trials seeds are fixed
        *_, last = status_lines(found | {"status": "finished", "can_grow": can_grow})
        assert last == f"next: mergenet sweep ablate {folder} prints its table{more}"


def test_a_folder_without_a_run_is_one_line(tmp_path, plan):
    with pytest.raises(UserError, match="must hold"):
        AblationResult.load(begun(tmp_path / "empty", plan))
    with pytest.raises(UserError, match="must be the folder of an ablation, with ablation"):
        AblationResult.load(tmp_path)
