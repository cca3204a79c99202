import json
import re
from pathlib import Path

import pytest

from analysis.best import best_trial, choose_best, confirmed_gain, named, write_best
from analysis.names import best_first, portable_config
from analysis.tables.load import load_trials
from mergenet.config.loading import load_config
from mergenet.errors import CheckpointError, ConfigError, UserError


def add_trial(folder, write_run, name, number, accuracy=0.66, parameters=1000, rank=8, **settings):
    trial = {"role": "trial", "number": number, "state": "complete", "params": {"transfer.adapter.rank": rank}}
    settings = {"transfer.adapter.rank": rank, **settings}
    return write_run(folder / "trials" / name, (accuracy,), 0.5, trial, settings, parameters)


def test_the_best_is_a_finished_trial_by_validation(sweep):
    # t2 had 0.70 when it was stopped early, and no trial's test accuracy counts
    assert best_trial(sweep)["trial"] == "t1"
    assert best_trial(sweep, "target_val_loss")["trial"] == "t1"


def test_a_lower_loss_is_better(sweep, write_run):
    row = add_trial(sweep, write_run, "t9", 9, accuracy=0.6)
    lines = [json.loads(line) | {"target_val_loss": 0.01} for line in (row / "epochs.jsonl").read_text().splitlines()]
    (row / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert best_trial(sweep)["trial"] == "t1"
    assert best_trial(sweep, "target_val_loss")["trial"] == "t9"


def test_of_equals_fewer_adapter_parameters_then_the_lower_number(sweep, write_run):
    add_trial(sweep, write_run, "a-later", 7, parameters=1000)
    assert best_trial(sweep)["trial"] == "t1"
    add_trial(sweep, write_run, "z-smaller", 8, parameters=999)
    assert best_trial(sweep)["trial"] == "z-smaller"


def test_the_key_that_sorts_trials_puts_the_best_first():
    assert best_first(0.6, "max", 5, 1) < best_first(0.5, "max", 1, 0)
    assert best_first(0.5, "min", 5, 1) < best_first(0.6, "min", 1, 0)
    assert best_first(0.5, "max", 1, 1) < best_first(0.5, "max", 2, 0)
    assert best_first(0.5, "max", 1, 0) < best_first(0.5, "max", 1, 1)


def test_test_metrics_do_not_choose(sweep):
    with pytest.raises(UserError, match="got 'target_test_top1'; the validation split chooses, the test split only"):
        best_trial(sweep, "target_test_top1")


def test_no_finished_trial(tmp_path, write_run):
    trial = {"role": "trial", "number": 0, "state": "running", "params": {}}
    write_run(tmp_path / "s" / "trials" / "t0", (0.5,), None, trial)
    baseline = {"role": "baseline", "number": 1, "state": "complete", "params": {}}
    write_run(tmp_path / "s" / "trials" / "b", (0.9,), 0.9, baseline)
    with pytest.raises(UserError, match=r"there must be a finished trial .* got 1 stopped$"):
        best_trial(tmp_path / "s")


def test_plain_runs_have_a_best_too(tmp_path, write_run):
    write_run(tmp_path / "runs" / "a", (0.5,))
    write_run(tmp_path / "runs" / "b", (0.7,))
    write_run(tmp_path / "runs" / "c", (0.8,), None)
    assert best_trial(tmp_path / "runs")["trial"] == "b"


def test_write_best_gives_a_file_that_loads_as_the_trials_own_configuration(sweep, tmp_path):
    out = tmp_path / "new" / "best.yaml"
    row = write_best(sweep, out)
    assert row["trial"] == "t1"
    assert load_config(str(out)) == load_config(str(sweep / "trials" / "t1" / "config.yaml"))
    assert load_config(str(out)).transfer.adapter.rank == 8


def test_a_recorded_source_becomes_live(sweep, write_run, tmp_path):
    recorded = {"source.kind": "recorded", "source.recording": "recordings/gone", "source.seed": 3}
    add_trial(sweep, write_run, "t9", 9, accuracy=0.9, **recorded)
    write_best(sweep, tmp_path / "best.yaml")
    config = load_config(str(tmp_path / "best.yaml"))
    assert (config.source.kind, config.source.recording, config.source.seed) == ("live", None, 3)
    assert "recordings/gone" not in (tmp_path / "best.yaml").read_text()


def test_portable_config_leaves_other_sources_and_its_argument_alone():
    frozen = {"source": {"kind": "frozen", "recording": None}, "seed": 1}
    assert portable_config(frozen) == frozen
    recorded = {"source": {"kind": "recorded", "recording": "r", "seed": 2}, "seed": 1}
    assert portable_config(recorded) == {"source": {"kind": "live", "recording": None, "seed": 2}, "seed": 1}
    assert recorded["source"]["kind"] == "recorded"


def test_files_that_cannot_be_written_or_read(sweep, tmp_path):
    with pytest.raises(UserError, match="must be a file to write, got a folder"):
        write_best(sweep, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file must be a folder to write in"):
        write_best(sweep, tmp_path / "file" / "best.yaml")
    path = sweep / "trials" / "t1" / "config.yaml"
    path.write_text(path.read_text().replace("t_cycle: 8", "t_cycle: 0"))
    with pytest.raises(ConfigError, match=r"transfer.t_cycle .*t1/config.yaml"):
        write_best(sweep, tmp_path / "best.yaml")
    assert not (tmp_path / "best.yaml").exists()


def test_the_confirmed_gain_is_that_of_the_chosen_settings(sweep, write_run):
    table = load_trials(sweep)
    gain = confirmed_gain(table, choose_best(table))
    assert gain.mean == pytest.approx(0.035)
    assert (gain.num_seeds, gain.p_value) == (6, 2 / 64)
    add_trial(sweep, write_run, "t9", 9, accuracy=0.9, rank=2)  # found after the confirmation
    table = load_trials(sweep)
    with pytest.raises(UserError, match="no finished confirmation run with the settings of trial t9"):
        confirmed_gain(table, choose_best(table))


def test_the_confirmed_gain_is_not_that_of_another_method(sweep, write_run):
    add_trial(sweep, write_run, "t9", 9, accuracy=0.5, method="kd")
    table = load_trials(sweep)
    assert named(table, "t9")["method"] == "kd" and confirmed_gain(table, choose_best(table)).num_seeds == 6
    with pytest.raises(UserError, match="no finished confirmation run with the settings of trial t9"):
        confirmed_gain(table, named(table, "t9"))


def test_a_control_is_compared_by_the_settings_of_the_chosen_one(sweep, write_run):
    """Where transfer.control is searched the two differ in it, and in nothing else."""
    for i in range(6):
        for name, role, control, rank in (
            ("x", "confirm_noise", "noise", 8),
            ("y", "confirm_shuffled", "shuffled", 16),
        ):
            params = {"transfer.adapter.rank": rank, "transfer.control": control}
            about = {"role": role, "number": i, "state": "complete", "params": params}
            write_run(sweep / "trials" / f"{name}{i}", (0.9,), 0.52, about, {**params, "seed": 100 + i})
    table = load_trials(sweep)
    best = choose_best(table)
    assert best["trial"] == "t1"
    assert confirmed_gain(table, best).mean == pytest.approx(0.035)
    assert confirmed_gain(table, best, variant="confirm_noise").mean == pytest.approx(0.02)
    assert confirmed_gain(table, best, baseline="confirm_noise").mean == pytest.approx(0.015)
    with pytest.raises(UserError, match="no finished confirmation run with the settings of trial t1"):
        confirmed_gain(table, best, variant="confirm_shuffled")  # of another best


def test_no_confirmation_and_a_seed_that_is_missing(sweep):
    table = load_trials(sweep)
    best = choose_best(table)
    with pytest.raises(UserError, match="there are no finished confirmation runs"):
        confirmed_gain(table[~table["role"].str.startswith("confirm")], best)
    with pytest.raises(UserError, match="'confirm_best' has seed 102, which 'confirm_none' lacks"):
        confirmed_gain(table[table["trial"] != "n2"], best)


def constrain(sweep, **constraints):
    (sweep / "sweep.yaml").write_text(json.dumps({"constraints": constraints}))


def test_what_breaks_a_constraint_of_the_sweep_is_not_the_best(sweep, write_run):
    add_trial(sweep, write_run, "t9", 9, accuracy=0.9, parameters=5000)
    assert best_trial(sweep)["trial"] == "t9"
    constrain(sweep, adapter_parameters={"max": 2000}, step_seconds={"max": 1.0})
    assert best_trial(sweep)["trial"] == "t1"
    table = load_trials(sweep).set_index("trial")
    assert table["breaks"].dropna().to_dict() == {"t9": "adapter_parameters <= 2000"}
    assert table.loc["t1", "step_seconds"] == pytest.approx(0.15)
    constrain(sweep, step_seconds={"max": 0.1})
    with pytest.raises(UserError, match=r"there must be a finished trial .*; 5 break a constraint$"):
        best_trial(sweep)
    (sweep / "sweep.yaml").write_text("constraints: 3")
    with pytest.raises(UserError, match=r"sweep.yaml must be a sweep file, and its constraints a mapping"):
        load_trials(sweep)


def test_a_trial_by_its_name(sweep):
    table = load_trials(sweep)
    assert named(table, "t2")["state"] == "pruned"
    with pytest.raises(UserError, match=r"--trial must be one of .*t1.*, got 't7'; did you mean"):
        named(table, "t7")
    (sweep / "trials/t3/config.yaml").unlink()
    with pytest.raises(UserError, match=r"--trial must be a trial that began to train, got 't3', which failed before"):
        named(load_trials(sweep), "t3")


def test_a_configuration_that_was_edited_after_it_trained_is_not_given_out(sweep, tmp_path):
    file = Path(best_trial(sweep)["folder"]) / "config.yaml"
    write_best(sweep, tmp_path / "best.yaml")
    text = file.read_text()
    edited = re.sub(r"(?m)^epochs: .*$", "epochs: 77", text)
    assert edited != text
    file.write_text(edited)
    with pytest.raises(
        CheckpointError, match=r"config.yaml must be what the run was trained with \(\w{12}\), got other"
    ):
        write_best(sweep, tmp_path / "best.yaml")


@pytest.mark.parametrize("name", ["trials/t1/config.yaml", "trials/t1/epochs.jsonl", "trials/t1/trial.json"])
def test_the_record_of_a_run_is_not_replaced(sweep, name):
    before = (sweep / name).read_bytes()
    with pytest.raises(UserError, match=f"{name} is part of what a run or a sweep has recorded; choose another file"):
        write_best(sweep, sweep / name)
    assert (sweep / name).read_bytes() == before


@pytest.mark.parametrize("name", ["sweep.yaml", "base.yaml", "sweep.json"])
def test_the_record_of_a_sweep_is_not_replaced(sweep, name):
    (sweep / "base.yaml").write_text("epochs: 1")
    with pytest.raises(UserError, match=f"{name} is part of what a run or a sweep has recorded; choose another file"):
        write_best(sweep, sweep / name)
    assert (sweep / "base.yaml").read_text() == "epochs: 1"
    write_best(sweep, sweep / "mine.yaml")
