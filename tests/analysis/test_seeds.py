"""Trials of several seeds in a table: one row each, the mean of the runs; nothing of those that lack a seed."""

import math
import statistics

import pytest
from click.testing import CliRunner

from analysis.best import choose_best, named, write_best, write_config
from analysis.cli import analyze
from analysis.statistics.paired_tests import paired_gain
from analysis.tables.load import load_trials, param_columns
from analysis.tables.overview import footer, selected, show
from mergenet.config.loading import load_config
from mergenet.errors import UserError
from tests.records import edit_record


def write(write_run, folder, name, runs, rank=4):
    """runs: validation accuracies and test accuracy of each seed, first seed first; test None: it did not finish."""
    for place, (accuracies, test, state) in enumerate(runs, start=1):
        trial = {"role": "trial", "number": 0, "state": state, "params": {"transfer.adapter.rank": rank}}
        if place == 1:
            trial["seeds"] = [0, 1, 2]
        else:
            trial["role"] = "replicate"
        run = name if place == 1 else f"{name}-seed-{place}"
        settings = {"transfer.adapter.rank": rank, "seed": place - 1}
        write_run(folder / "trials" / run, accuracies, test, trial, settings)


@pytest.fixture
def sweep(tmp_path, write_run):
    """Of the four the last three have a better first seed than the first, whose mean alone is whole."""
    folder = tmp_path / "sweep"
    done = "complete"
    write(write_run, folder, "t0", [((0.5, 0.6), 0.5, done), ((0.5, 0.7), 0.6, done), ((0.4, 0.5), 0.4, done)], 4)
    write(write_run, folder, "t1", [((0.5, 0.9), 0.8, done), ((0.5, 0.9), 0.8, done), ((0.4,), None, "failed")], 8)
    write(write_run, folder, "t2", [((0.5, 0.9), 0.8, done), ((0.5, 0.9), 0.8, done)], 16)
    write(write_run, folder, "t3", [((0.8,), None, "pruned")], 32)
    return folder


def test_a_row_a_trial(sweep):
    table = load_trials(sweep).set_index("trial")
    assert table.index.tolist() == ["t0", "t1", "t2", "t3"]
    whole = table.loc["t0"]
    assert (whole["state"], whole["seeds"], whole["target_val_top1"]) == ("complete", 3, pytest.approx(0.6))
    assert whole["sd"] == pytest.approx(statistics.stdev([0.6, 0.7, 0.5]))
    assert whole["target_test_top1"] == pytest.approx(0.5)
    assert whole["target_val_loss"] == pytest.approx(0.4)
    assert whole["seconds"] == pytest.approx(6 * 1.75)
    assert table["epochs_trained"].tolist() == [6, 5, 4, 1], "of all runs of a trial"
    assert table["state"].tolist() == ["complete", "failed", "running", "pruned"]
    assert table.loc[["t1", "t2"], ["target_val_top1", "target_test_top1"]].isna().all(axis=None)
    assert (table.loc["t3", "target_val_top1"], table.loc["t3", "seeds"]) == (0.8, 1)
    assert param_columns(load_trials(sweep)) == ["transfer.adapter.rank"]


def test_a_mean_needs_a_number_of_every_seed(sweep):
    edit_record(sweep / "trials/t0-seed-2/result.json", {"target_val_top1": math.nan})
    whole = load_trials(sweep).set_index("trial").loc["t0"]
    assert whole[["target_val_top1", "sd"]].isna().all()
    assert whole["target_test_top1"] == pytest.approx(0.5)


def test_the_seed_that_failed_is_named(sweep):
    path = sweep / "trials/t1-seed-3/trial.json"
    edit_record(path, {"error": "target loss became nan"})
    assert load_trials(sweep).set_index("trial").loc["t1", "error"] == "seed 2: target loss became nan"


def test_the_best_is_the_best_mean_and_the_reader_is_told(sweep, capsys):
    table = load_trials(sweep)
    assert choose_best(table)["trial"] == "t0"
    assert any(line.startswith("best trial: t0, mean over 3 seeds (sd 10.00 points): ") for line in footer(table))
    show(selected(table), rich_output=False)
    head, first = capsys.readouterr().out.splitlines()[:2]
    assert "sd %" in head
    assert "10.00" in first


def test_the_exported_configuration_has_the_last_seed_that_chose_it(sweep, tmp_path):
    assert write_best(sweep, tmp_path / "best.yaml")["trial"] == "t0"
    assert load_config(str(tmp_path / "best.yaml")).seed == 2, "what starts from it begins at 3"
    write_config(named(load_trials(sweep), "t3"), tmp_path / "t3.yaml")
    assert load_config(str(tmp_path / "t3.yaml")).seed == 0, "it was stopped early, and trained with no other"


@pytest.fixture
def with_baseline(sweep, write_run):
    for place, test in enumerate((0.4, 0.3, 0.5), start=1):
        trial = {"role": "baseline" if place == 1 else "replicate", "number": 0, "state": "complete", "params": {}}
        trial |= {"seeds": [0, 7, 9]} if place == 1 else {}
        run = "baseline" if place == 1 else f"baseline-seed-{place}"
        write_run(sweep / "trials" / run, (0.5,), test, trial, {"method": "none", "seed": (0, 7, 9)[place - 1]})
    return sweep


def test_a_row_a_seed_to_be_paired(with_baseline):
    """The seed is the one that trained, whatever the folder is called."""
    table = load_trials(with_baseline, per_seed=True)
    assert len(table) == 3 + 3 + 2 + 1 + 3
    found = table[table["trial"] == "baseline"]
    assert found[["role", "seed", "target_test_top1"]].values.tolist() == [
        ["baseline", 0, 0.4],
        ["baseline", 7, 0.3],
        ["baseline", 9, 0.5],
    ]
    assert "seeds" not in table.columns
    assert not table.duplicated(["trial", "seed"]).any()
    for run in ("baseline-seed-2", "baseline-seed-3"):
        file = with_baseline / "trials" / run / "trial.json"
        edit_record(file, {"seed": {"baseline-seed-2": 1}.get(run, 2)})
    table = load_trials(with_baseline, per_seed=True)
    gain = paired_gain(table, "baseline", "t0", "target_test_top1", by="trial")
    assert gain.num_seeds == 3
    assert gain.mean == pytest.approx((0.1 + 0.3 - 0.1) / 3)


def test_runs_of_no_sweep_keep_their_names_whatever_these_are(tmp_path, write_run):
    names = ["kd-seed-1", "kd-seed-2"]
    for seed, name in enumerate(names, start=1):
        write_run(tmp_path / name, (0.5,), 0.5, None, {"seed": seed})
    for per_seed in (False, True):
        assert load_trials(tmp_path, per_seed)["trial"].tolist() == names


def test_the_command_writes_a_row_a_seed_and_says_what_is_a_mean(with_baseline, tmp_path):
    out = tmp_path / "runs.csv"
    done = CliRunner().invoke(analyze, ["table", str(with_baseline), "--per-seed", "--csv", str(out)])
    assert done.exit_code == 0, done.output
    assert len(out.read_text().splitlines()) == 1 + 12
    assert "best trial" not in done.output
    assert "a line is one seed; trials are compared by their means, in the table without --per-seed" in done.output
    caption = "BASELINE: the target trained by itself, with the seed of the search"
    assert f"{caption}\n" in done.output
    done = CliRunner().invoke(analyze, ["table", str(with_baseline)])
    assert f"{caption}; the mean over 3 seeds, those of each trial\n" in done.output


def test_a_sweep_without_a_trial_yet_says_so(tmp_path):
    (tmp_path / "sweep.yaml").write_text("name: new\n")
    message = f"{tmp_path} must hold a trial, and this sweep has none yet: each is a row after its first epoch; `merg"
    for folder in (None, "trials", "trials/trial-000"):
        if folder is not None:
            (tmp_path / folder).mkdir()
        with pytest.raises(UserError) as refused:
            load_trials(tmp_path)
        assert str(refused.value).startswith(message)


def test_one_run_of_a_trial_is_shown_as_it_is(sweep):
    first, other = (load_trials(sweep / "trials" / name).iloc[0] for name in ("t2", "t2-seed-2"))
    assert (first["state"], first["target_val_top1"]) == ("complete", 0.9)
    assert (other["role"], other["target_val_top1"]) == ("replicate", 0.9)
