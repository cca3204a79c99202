import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.best import best_trial
from analysis.importance.ablation_path import ablation_path
from analysis.importance.evaluators import importances
from analysis.importance.findings import Findings
from analysis.importance.search import Search, load_search
from analysis.importance.surrogate import codes, fit_surrogate
from analysis.importance.text import importance_lines
from mergenet.errors import UserError
from tests.analysis.folders import make_run
from tests.analysis.importance.sweeps import BOUND, GATE, RANK, by_gate, by_wide_gate, drawn, write_sweep
from tests.records import edit_record


def test_complete_trials_have_the_value_and_others_say_why_not(search: Search) -> None:
    assert len(search.used) == 24
    assert search.left_out() == {"stopped early": 6, "failed": 1, "still training": 1}
    assert search.trials[GATE].notna().all() and search.trials[RANK].notna().all()
    assert search.used["value"].to_list() == pytest.approx([by_gate({GATE: gate}) for gate in search.used[GATE]])


def test_the_epochs_of_all_seeds_are_counted(tmp_path: Path) -> None:
    """Ten complete trials of three seeds with four epochs each, ten that were stopped after two epochs of the first."""
    points = drawn(20)
    folder = write_sweep(tmp_path / "s", points, by_gate, ["complete"] * 10 + ["pruned"] * 10)
    for number, params in enumerate(points):
        run = folder / f"trials/trial-{number:03d}"
        edit_record(run / "trial.json", {"seeds": [0, 1, 2]})
        for place in (2, 3) if number < 10 else ():
            other = {"role": "replicate", "number": number, "state": "complete", "params": params, "seed": place - 1}
            make_run(run.with_name(f"{run.name}-seed-{place}"), (by_gate(params),) * 4, 0.5, other)
    facts = Findings(load_search(folder)).early_stopping
    assert (facts["trained"], facts["whole"]) == (10 * 3 * 4 + 10 * 2, 20 * 3 * 4)


def test_with_an_epoch_all_count_that_trained_as_long(folder: Path) -> None:
    search = load_search(folder, epoch=2)
    assert len(search.used) == 30
    assert search.left_out() == {"failed": 1, "fewer than 2 epochs": 1}
    assert search.used["value"].to_list() == pytest.approx([0.5 * by_gate({GATE: g}) for g in search.used[GATE]])


def test_another_metric_counts_at_the_best_epoch_with_an_epoch_as_without(tmp_path: Path) -> None:
    """The loss rises from epoch to epoch, while the accuracy that selects does, too."""
    folder = write_sweep(tmp_path / "s", drawn(12), by_gate)
    for number in range(12):
        epochs = folder / f"trials/trial-{number:03d}/epochs.jsonl"
        rows = [json.loads(line) | {"target_val_loss": n + number / 12} for n, line in enumerate(epochs.open(), 1)]
        epochs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole, by_then = (load_search(folder, "target_val_loss", epoch) for epoch in (None, 4))
    assert whole.used["value"].to_list() == by_then.used["value"].to_list() == [4 + n / 12 for n in range(12)]
    assert load_search(folder, "target_val_loss", 2).used["value"].to_list() == [2 + n / 12 for n in range(12)]
    assert whole.curves["trial-000"] == {1: 1, 2: 2, 3: 3, 4: 4}


def test_the_best_is_the_one_that_analyze_best_names(tmp_path: Path) -> None:
    """Wide gates are better and break the constraint; of equals the smaller adapter wins, not the earlier trial."""
    bound = write_sweep(tmp_path / "bound", drawn(20), by_gate, parameters=by_wide_gate, constraints=BOUND)
    best = load_search(bound).best
    assert best["trial"] == best_trial(bound)["trial"] and best[GATE] <= 0.1
    equal = write_sweep(tmp_path / "equal", drawn(20), lambda p: min(by_gate(p), 0.55), parameters=lambda p: p[RANK])
    best = load_search(equal).best
    assert best["trial"] == best_trial(equal)["trial"] and best["trial"] != load_search(equal).used["value"].idxmax()
    by_then = load_search(bound, epoch=2)
    assert len(by_then.used) == 20 and by_then.best["trial"] == best_trial(bound)["trial"]


def test_where_every_trial_breaks_a_constraint_none_is_the_best(tmp_path: Path) -> None:
    bound = {"adapter_parameters": {"max": 10}}
    found = load_search(write_sweep(tmp_path / "s", drawn(12), by_gate, constraints=bound))
    with pytest.raises(UserError, match="must be a trial that breaks no constraint to be the best, got 12 others"):
        _ = found.best


def test_a_value_that_is_no_number_is_left_out_and_counted(tmp_path: Path, folder: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    path = copy / "trials/trial-003/result.json"
    edit_record(path, {"target_val_top1": None})
    rows = (copy / "trials/trial-003/epochs.jsonl").read_text()
    (copy / "trials/trial-003/epochs.jsonl").write_text(
        "".join(json.dumps({**json.loads(row), "target_val_top1": float("nan")}) + "\n" for row in rows.splitlines())
    )
    search = load_search(copy)
    assert len(search.used) == 23
    assert search.left_out()["without a finite value"] == 1


@pytest.mark.parametrize(
    ("count", "states", "message"),
    [
        (
            1,
            [],
            r"must hold at least 10 complete trials .* got 1 \(of 1: 1 complete\); search with a larger num_trials$",
        ),
        (
            12,
            ["complete"] * 3 + ["pruned"] * 9,
            r"got 3 \(of 12: 3 complete, 9 pruned\); --epoch 2 \(epoch=2\) explains what 12 trials had reached",
        ),
        (12, ["failed"] * 12, r"got 0 \(of 12: 12 failed\); search with a larger num_trials$"),
        (12, ["running"] * 12, r"got 0 \(of 12: 12 running\); --epoch 1 \(epoch=1\) explains what 12 trials"),
    ],
)
def test_too_few_trials_are_refused_in_one_line(tmp_path: Path, count: int, states: list[str], message: str) -> None:
    folder = write_sweep(tmp_path / "s", drawn(count), by_gate, states)
    with pytest.raises(UserError, match=message) as caught:
        importances(load_search(folder))
    assert "\n" not in str(caught.value)


def test_equal_values_and_equal_settings_leave_nothing_to_explain(tmp_path: Path) -> None:
    same = write_sweep(tmp_path / "same", drawn(10), lambda _: 0.5)
    with pytest.raises(UserError, match=r"got 10 trials with 0\.5 each; there is nothing to explain"):
        importances(load_search(same))
    values = iter(range(10))
    alike = write_sweep(tmp_path / "alike", drawn(1) * 10, lambda _: 0.5 + 0.01 * next(values))
    with pytest.raises(UserError, match="must hold trials of different settings, got 10 with the same"):
        importances(load_search(alike))


def test_bad_input_is_one_line(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match=r"--epoch \(epoch=\) must be from 1 to 4, .* got 5"):
        load_search(folder, epoch=5)
    with pytest.raises(UserError, match=r"metric must be one of target_val_top1, .* got 'accuracy'"):
        load_search(folder, metric="accuracy")
    with pytest.raises(UserError, match=r"metric must be one of .* the validation split chooses"):
        load_search(folder, metric="target_test_top1")
    make_run(tmp_path / "runs" / "a")
    with pytest.raises(UserError, match=r"runs must be a sweep folder, whose sweep\.yaml says what was searched"):
        load_search(tmp_path / "runs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="must hold runs, found none"):
        load_search(tmp_path / "empty")


def test_runs_of_different_tasks_need_a_metric_and_others_are_left_out(tmp_path: Path, folder: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    trial = {"role": "trial", "number": 90, "state": "complete", "params": {GATE: 0.1, RANK: 4}}
    make_run(copy / "trials/trial-090", (0.9,), 0.9, trial, {GATE: 0.1, RANK: 4}, metric="f1")
    with pytest.raises(UserError, match="the runs must have one metric to choose by"):
        load_search(copy)
    assert len(load_search(copy, metric="target_val_top1").used) == 24


def test_of_many_trials_importances_and_forests_learn_from_some(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best one may be none of them, and is the best all the same."""
    assert search.sampled is search
    monkeypatch.setattr("analysis.importance.search.MOST", 16)
    many = dataclasses.replace(search)
    few = many.sampled
    assert len(few.used) == 16 < len(many.used) == 24
    assert set(few.used["trial"]) < set(many.used["trial"])
    pd.testing.assert_frame_equal(dataclasses.replace(search).sampled.used, few.used)
    table = importances(many, permutations=19, resamples=5)
    pd.testing.assert_frame_equal(table, importances(few, permutations=19, resamples=5))
    assert set(table["n"]) == {16}
    surrogate = fit_surrogate(many)
    assert ablation_path(surrogate).attrs["best"] == search.best["trial"]
    path = codes(many, many.used)
    assert np.corrcoef(surrogate.predictions(path)[0], many.used["value"].astype(float))[0, 1] > 0.9
    text = importance_lines(Findings(many))
    assert text[1] == "computed from 16 of them, drawn at random, the same each time"
