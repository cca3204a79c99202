import subprocess
import sys

import pytest

from analysis.tables.load import (
    ABOUT,
    COST,
    OUTCOME,
    canonical,
    load_trials,
    measure_columns,
    param_columns,
    selecting_metrics,
    varying,
)
from mergenet.errors import UserError
from mergenet.records.sealed import read_record, write_record
from tests.records import edit_record


def test_a_sweep_is_one_row_a_run(sweep):
    table = load_trials(sweep).set_index("trial")
    assert len(table) == 4 + 1 + 6 + 6
    assert table["role"].value_counts().to_dict() == {
        "confirm_best": 6, "confirm_none": 6, "trial": 4, "baseline": 1,
    }  # fmt: skip
    row = table.loc["t1"]
    assert (row["state"], row["number"], row["seed"], row["method"]) == ("complete", 1, 0, "mergenet")
    assert (row["epochs_done"], row["best_epoch"], row["target_val_top1"]) == (3, 2, 0.66)
    assert row["target_val_top5"] == pytest.approx(0.86)
    assert row["target_val_loss"] == pytest.approx(0.34)
    assert (row["target_test_top1"], row["target_test_top5"], row["target_test_loss"]) == (0.63, 0.9, 1.25)
    assert row["seconds"] == pytest.approx(3 * 1.75)
    assert row["adapter_parameters"] == 1000
    assert len(row["config_hash"]) == 12
    assert row["transfer.adapter.rank"] == 8
    assert table.loc["b0", "method"] == "none"
    assert table.loc["c3", "seed"] == 103


def test_an_unfinished_run_has_its_validation_but_no_test_numbers(sweep):
    row = load_trials(sweep).set_index("trial").loc["t2"]
    assert (row["state"], row["best_epoch"], row["target_val_top1"]) == ("pruned", 2, 0.70)
    assert row[["target_test_top1", "target_test_top5", "target_test_loss"]].isna().all()


def test_a_run_of_a_paused_sweep_is_stopped_not_running(sweep):
    for name, place, state in (("trial.json", "state", "running"), ("result.json", "status", "stopped")):
        path = sweep / "trials/t2" / name
        edit_record(path, {place: state})
    assert load_trials(sweep).set_index("trial").loc["t2", "state"] == "stopped"


def test_params_are_the_columns_beyond_the_fixed_ones_and_vary_over_searched_trials_only(sweep):
    table = load_trials(sweep)
    measures = [
        "target_val_top1", "target_val_top5", "target_val_loss",
        "target_test_top1", "target_test_top5", "target_test_loss",
    ]  # fmt: skip
    assert measure_columns(table) == measures, "the selecting metric first, the loss last"
    assert table.columns.tolist() == [*ABOUT, *OUTCOME, *measures, *COST, "transfer.adapter.rank"]
    assert param_columns(table) == ["transfer.adapter.rank"]
    assert varying(table) == ["transfer.adapter.rank"]
    only = table[table["trial"].isin(["t1", "b0", "n0"])]  # one search trial; the baselines lack the parameter
    assert varying(only) == []


def test_plain_runs_get_the_settings_in_which_they_differ(tmp_path, write_run):
    write_run(tmp_path / "runs" / "a", settings={"transfer.t_cycle": 4, "seed": 7, "name": "a"})
    write_run(tmp_path / "runs" / "b", settings={"transfer.t_cycle": 16, "seed": 8, "name": "b"})
    (tmp_path / "runs" / "notes").mkdir()
    table = load_trials(tmp_path / "runs")
    assert param_columns(table) == ["transfer.t_cycle"]
    assert table["transfer.t_cycle"].tolist() == [4, 16]
    assert table["seed"].tolist() == [7, 8]
    assert table["role"].tolist() == ["run", "run"]
    assert table["state"].tolist() == ["complete", "complete"]
    assert table.attrs["problems"] == []


def test_a_single_run_folder_is_a_table_of_one(tmp_path, write_run):
    table = load_trials(write_run(tmp_path / "one"))
    assert table["trial"].tolist() == ["one"]
    assert param_columns(table) == []


def test_a_torn_last_line_of_epochs_is_dropped(tmp_path, write_run):
    folder = write_run(tmp_path / "one", accuracies=(0.4, 0.5, 0.6), test=None)
    text = (folder / "epochs.jsonl").read_text()
    (folder / "epochs.jsonl").write_text(text[:-20])
    killed_before_its_result(folder)
    row = load_trials(folder).iloc[0]
    assert (row["state"], row["epochs_done"], row["best_epoch"], row["target_val_top1"]) == ("running", 2, 2, 0.5)


def killed_before_its_result(folder):
    """A kill after an epoch's row leaves the result of the epoch before: here of the start."""
    at_start = {"status": "running", "error": None, "epochs_done": 0, "best_epoch": None, "metric": "target_val_top1"}
    write_record(folder / "result.json", at_start)


def test_without_a_chosen_epoch_the_best_is_the_first_of_the_highest_metric(tmp_path, write_run):
    folder = write_run(tmp_path / "one", accuracies=(0.4, 0.7, 0.7, 0.5), test=None)
    killed_before_its_result(folder)
    row = load_trials(folder).iloc[0]
    assert (row["best_epoch"], row["target_val_top1"]) == (2, 0.7)


def test_a_diverged_epoch_is_not_the_best(tmp_path, write_run):
    folder = write_run(tmp_path / "one", accuracies=(0.4, float("nan")), test=None)
    killed_before_its_result(folder)
    row = load_trials(folder).iloc[0]
    assert (row["epochs_done"], row["best_epoch"], row["target_val_top1"]) == (2, 1, 0.4)


def test_a_record_from_before_the_metric_was_named_is_of_image_classification(tmp_path, write_run):
    folder = write_run(tmp_path / "one", accuracies=(0.4, 0.7))
    result = read_record(folder / "result.json")
    del result["metric"]
    write_record(folder / "result.json", result)
    row = load_trials(folder).iloc[0]
    assert (row["metric"], row["best_epoch"], row["target_val_top1"]) == ("target_val_top1", 2, 0.7)


def test_runs_of_several_tasks_lack_each_others_metrics(tmp_path, write_run):
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "q", metric="em")
    table = load_trials(tmp_path / "runs").set_index("trial")
    assert selecting_metrics(table) == {"target_val_top1": 1, "target_val_em": 1}
    assert measure_columns(table)[:4] == ["target_val_top1", "target_val_em", "target_val_top5", "target_val_loss"]
    assert (table.loc["a", "target_val_top1"], table.loc["q", "target_val_em"]) == (0.6, 0.6)
    assert table["target_val_em"].isna().tolist() == table["target_test_em"].isna().tolist() == [True, False]


def test_a_source_that_received_is_measured_too(tmp_path, write_run):
    source = {"source_best_epoch": 2, "source_val_em": 0.25, "source_test_loss": 1.5, "source_test_em": 0.125}
    row = load_trials(write_run(tmp_path / "one", more=source)).iloc[0]
    assert {name: row[name] for name in source} == source
    assert measure_columns(row.to_frame().T)[-3:] == ["source_val_em", "source_test_em", "source_test_loss"]


def test_a_run_that_has_not_reported_has_no_numbers(tmp_path, write_run):
    folder = write_run(tmp_path / "one", accuracies=(), test=None)
    row = load_trials(folder).iloc[0]
    assert row["epochs_done"] == 0
    assert row[["best_epoch", "adapter_parameters"]].isna().all()


def test_broken_folders_are_named_and_skipped(sweep, capsys):
    (sweep / "trials" / "t0" / "epochs.jsonl").write_text("nonsense\n{}\n")
    (sweep / "trials" / "t1" / "trial.json").write_text('{"trial_id": "t1", "ro')
    (sweep / "trials" / "t2" / "trial.json").write_text('{"trial_id": "t2", "role": "trial"}')
    (sweep / "trials" / "t3" / "provenance.json").unlink()
    (sweep / "trials" / "t4").mkdir()
    trial = read_record(sweep / "trials" / "b0" / "trial.json")
    write_record(sweep / "trials" / "b0" / "trial.json", {**trial, "role": "king"})
    table = load_trials(sweep)
    assert len(table) == 12
    problems = table.attrs["problems"]
    assert len(problems) == 6
    assert all("\n" not in problem for problem in problems)
    said = dict(zip(("b0", "t0", "t1", "t2", "t3", "t4"), problems, strict=True))
    assert all(f"/{name}" in problem for name, problem in said.items())
    confirm = ("best", "none", "adapter", "shuffled", "noise", "control_none")
    roles = ", ".join(("trial", "run", "replicate", "baseline", "adapter", *(f"confirm_{name}" for name in confirm)))
    assert f"role must be one of {roles}, got 'king'" in said["b0"]
    assert "epochs.jsonl line 1" in said["t0"]
    assert "trial.json must hold one mapping" in said["t1"]
    assert "params must be a mapping, got nothing" in said["t2"]
    assert "provenance.json" in said["t3"]
    assert capsys.readouterr().err.splitlines() == problems


def test_a_trial_that_failed_before_its_first_epoch_is_a_row(sweep):
    folder = sweep / "trials" / "t3"
    for name in ("config.yaml", "provenance.json", "epochs.jsonl", "result.json"):
        (folder / name).unlink()
    trial = read_record(folder / "trial.json")
    write_record(folder / "trial.json", {**trial, "error": "out of memory"})
    table = load_trials(sweep)
    row = table.set_index("trial").loc["t3"]
    assert (row["role"], row["state"], row["error"], row["epochs_done"]) == ("trial", "failed", "out of memory", 0)
    assert row["transfer.adapter.rank"] == 32
    assert row[["method", "best_epoch", "target_val_top1"]].isna().all()
    assert table.attrs["problems"] == []


def test_a_trial_of_a_sweep_is_not_taken_for_a_plain_run(sweep, capsys):
    (sweep / "trials" / "t0" / "trial.json").unlink()
    assert "run" not in set(load_trials(sweep)["role"])
    assert "t0 must hold a trial.json, as in every trial of a sweep after its first epoch" in capsys.readouterr().err


def test_no_run_at_all_is_an_error_that_says_what_was_looked_for(tmp_path, write_run):
    with pytest.raises(UserError, match=r"nowhere must be a sweep folder.*there is no such folder"):
        load_trials(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"must hold runs, found none; looked for config.yaml, .*trials/\*/trial.json"):
        load_trials(tmp_path)
    folder = write_run(tmp_path / "runs" / "a")
    (folder / "provenance.json").unlink()
    with pytest.raises(UserError, match=r"must hold a run that can be read, got 1 broken; first .*provenance.json"):
        load_trials(tmp_path / "runs")


def test_canonical_tells_settings_apart_but_not_whole_floats_from_integers():
    assert canonical(8.0) == canonical(8) != canonical(8.5)
    assert canonical({"a": 1, "b": [2]}) == canonical({"b": [2], "a": 1})
    assert canonical(None) == canonical(float("nan")) == ""
    assert canonical("8") != canonical(8)
    assert canonical(True) != canonical(1)


def test_importing_the_command_line_does_not_bring_pandas():
    code = "import sys, analysis.cli; print('pandas' in sys.modules, 'scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_mapping_that_was_drawn_is_what_it_names(tmp_path, write_run):
    """Beside trials that drew the same settings one by one."""
    drawn = [
        {"transfer.adapter": {"kind": "linear", "rank": 4}},
        {"transfer.adapter": {"rank": 2}, "transfer.adapter.rank": 8},
        {"transfer.adapter.rank": 8},
    ]
    for number, params in enumerate(drawn):
        trial = {"role": "trial", "number": number, "state": "complete", "params": params}
        write_run(tmp_path / "s" / "trials" / f"t{number}", (0.5,), 0.5, trial)
    table = load_trials(tmp_path / "s")
    assert param_columns(table) == ["transfer.adapter.kind", "transfer.adapter.rank"]
    assert list(table["transfer.adapter.rank"]) == [4, 8, 8]
