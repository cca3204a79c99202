import json

import pandas as pd
import pytest
from click.testing import CliRunner

from analysis.cli import analyze
from analysis.tables import formatting, overview
from analysis.tables.load import load_trials
from mergenet.cli.main import cli
from mergenet.config.loading import load_config, parse_config
from mergenet.config.yaml12 import load_yaml
from mergenet.errors import UserError
from tests.records import edit_record


def run(*arguments) -> str:
    done = CliRunner().invoke(analyze, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def rows(output: str) -> list[list[str]]:
    return [line.split() for line in output.split("\n\n")[0].splitlines()]


LUCK = "the best of 3 trials (2 trained to their end) was selected for its luck as well: only runs on fresh seeds tell"


def test_table_is_aligned_text_in_percent_with_only_what_varies(sweep):
    output = run("table", sweep)
    assert output.splitlines()[0].split() == [
        "trial", "role", "state", "seed", "rank", "epochs_done", "best_epoch",
        "target_val_top1", "%", "target_test_top1", "%", "seconds",
    ]  # fmt: skip
    assert rows(output)[1:3] == [
        ["t2", "trial", "pruned", "0", "16", "2", "2", "70.00", "-", "3.5"],
        ["t1", "trial", "complete", "0", "8", "3", "2", "66.00", "63.00", "5.2"],
    ]
    lines = output.split("\n\n")[0].splitlines()
    ends = {line.index("66.00") + 5 for line in lines if "66.00" in line}
    assert ends == {lines[0].index("target_val_top1 %") + len("target_val_top1 %")}
    assert "\x1b" not in output


def test_baselines_and_confirmations_are_labelled_and_come_last(sweep):
    roles = [row[1] for row in rows(run("table", sweep))[1:]]
    assert roles == ["trial"] * 4 + ["BASELINE"] + ["CONFIRM-best"] * 6 + ["CONFIRM-none"] * 6


def test_the_footer_has_counts_the_gain_and_the_warning(sweep):
    footer = run("table", sweep).split("\n\n")[1].splitlines()
    assert footer[0] == (
        "17 runs: trial 2 complete, 1 pruned, 1 failed; BASELINE 1 complete; "
        "CONFIRM-best 6 complete; CONFIRM-none 6 complete"
    )
    assert any(line.startswith("best trial: t1, epoch 2 of 3: target_val_top1 66.00 %") for line in footer)
    assert any(line.startswith(LUCK) for line in footer)
    assert footer[-1].startswith(
        "confirmed gain, CONFIRM-best minus CONFIRM-none paired by seed: +3.50 points target_test_top1, 6 seeds, "
        "95 % interval [+1.54, +5.46] (t), [+2."
    )
    assert footer[-1].endswith("sign-flip p 0.0312 (smallest possible 0.0312)")


def test_controls_are_told_from_the_best_and_from_no_transfer(sweep, write_run):
    add_control(sweep, write_run, tests=(0.99, 0.50, 0.51, 0.50, 0.51, 0.50))
    output = run("table", sweep)
    assert [row[1] for row in rows(output)[-6:]] == ["CONFIRM-noise"] * 6
    footer = output.split("\n\n")[1].splitlines()
    assert footer[0].endswith("CONFIRM-none 6 complete; CONFIRM-noise 6 complete")
    assert "CONFIRM-noise: as CONFIRM-best, but transfer.control is noise" in footer
    assert footer[-3].startswith(
        "confirmed gain, CONFIRM-best minus CONFIRM-none paired by seed: +3.50 points target_te"
    )
    assert footer[-2].startswith(
        "control, CONFIRM-noise minus CONFIRM-none paired by seed: +8.50 points target_test_top1"
    )
    assert footer[-1].startswith(
        "control, CONFIRM-best minus CONFIRM-noise paired by seed: -5.00 points target_test_top1"
    )
    assert load_yaml(run("best", sweep), "stdout")["transfer"]["control"] == "real", "whatever a control has reached"


def test_a_control_that_lacks_a_seed_is_not_compared_and_the_gain_stays(sweep, write_run):
    add_control(sweep, write_run, tests=(0.5, 0.5))
    footer = run("table", sweep).split("\n\n")[1].splitlines()
    assert footer[-3].startswith("confirmed gain, CONFIRM-best minus CONFIRM-none paired by seed: +3.50 points")
    assert footer[-2].startswith("control, CONFIRM-noise minus CONFIRM-none paired by seed: not compared, ")
    assert "which 'confirm_noise' lacks" in footer[-1]


def add_control(sweep, write_run, tests):
    for i, test in enumerate(tests):
        settings = {"transfer.adapter.rank": 8, "transfer.control": "noise", "seed": 100 + i}
        about = {"role": "confirm_noise", "number": i, "state": "complete", "params": {"transfer.adapter.rank": 8}}
        write_run(sweep / "trials" / f"x{i}", (0.99,), test, about, settings)


def test_a_sweep_without_confirmation_says_so_and_plain_runs_do_not(sweep, tmp_path, write_run):
    for path in (sweep / "trials").glob("[cn]*"):
        path.rename(tmp_path / path.name)
    assert run("table", sweep).splitlines()[-1] == "no confirmed gain: there are no finished confirmation runs"
    write_run(tmp_path / "runs" / "a")
    assert run("table", tmp_path / "runs").splitlines()[-1] == "1 run: run 1 complete"


def test_a_sweep_without_a_finished_trial_has_a_table(tmp_path, write_run):
    trial = {"role": "trial", "number": 0, "state": "running", "params": {}}
    write_run(tmp_path / "s" / "trials" / "t0", (), None, trial)
    assert run("table", tmp_path / "s").splitlines()[-1] == "1 run: trial 1 stopped"


def test_all_shows_every_column(sweep):
    header = run("table", sweep, "--all").splitlines()[0]
    for column in ("config_hash", "method", "target_test_loss", "adapter_parameters", "folder", "rank"):
        assert column in header


def test_sort_by_a_column_or_its_short_name(sweep):
    ranks = [row[4] for row in rows(run("table", sweep, "--sort", "rank"))[1:]]
    assert ranks == ["4"] + ["8"] * 7 + ["16", "32"] + ["-"] * 7
    assert rows(run("table", sweep, "--sort", "transfer.adapter.rank"))[1][0] == "t0"
    by_test = [row[0] for row in rows(run("table", sweep, "--sort", "target_test_top1"))[1:]]
    assert by_test[0] == "t1"
    assert by_test[-2:] == ["t2", "t3"]
    with pytest.raises(UserError, match=r"--sort must be one of .*, got 'secnds'; did you mean seconds"):
        run("table", sweep, "--sort", "secnds")


def test_csv_has_all_columns_at_full_precision(sweep, tmp_path):
    out = tmp_path / "new" / "trials.csv"
    assert run("table", sweep, "--csv", out).splitlines()[-1] == f"wrote {out} (17 rows)"
    table = pd.read_csv(out, dtype={"config_hash": str})
    expected = overview.ordered(load_trials(sweep))
    assert table.columns.tolist() == expected.columns.tolist()
    empty = ["error", "breaks"]
    assert table[empty].isna().all(axis=None)
    pd.testing.assert_frame_equal(table.drop(columns=empty), expected.drop(columns=empty), check_dtype=False)


def test_csv_holds_lists_as_json(tmp_path, write_run):
    write_run(tmp_path / "runs" / "a")
    pairs = [{"source": "fc", "target": "head", "direction": "to_target", "every": None, "align": None}]
    write_run(tmp_path / "runs" / "b", settings={"transfer.pairs": pairs})
    output = run("table", tmp_path / "runs", "--csv", tmp_path / "t.csv")
    assert "fc>head" in output
    assert json.loads(pd.read_csv(tmp_path / "t.csv")["transfer.pairs"][1]) == pairs


def test_unreadable_runs_are_on_stderr_and_counted(sweep):
    (sweep / "trials" / "t0" / "config.yaml").unlink()
    done = CliRunner().invoke(analyze, ["table", str(sweep)], catch_exceptions=False)
    assert done.stderr.startswith("skipped a run: ")
    assert "t0" in done.stderr
    assert "1 could not be read and are missing here" in done.stdout


def test_best_prints_the_configuration_as_a_file_on_stdout(sweep):
    output = run("best", sweep)
    assert output.startswith("# best trial: t1, epoch 2 of 3: target_val_top1 66.00 %, target_test_top1 63.00 %")
    config = parse_config(load_yaml(output, "stdout"), "stdout")
    assert config == load_config(str(sweep / "trials" / "t1" / "config.yaml"))


def test_best_out_writes_the_file_and_tells_the_story(sweep, tmp_path):
    out = tmp_path / "my best.yaml"
    lines = run("best", sweep, "--out", out).splitlines()
    assert lines[1] == "its settings: transfer.adapter.rank 8"
    assert lines[2].startswith(
        "chosen by the highest target_val_top1 of 2 finished trials (1 pruned, 1 failed left out)"
    )
    assert lines[3].startswith(LUCK)
    assert lines[4].startswith("confirmed gain, CONFIRM-best minus CONFIRM-none paired by seed: +3.50 points")
    assert lines[-1] == f"wrote {out}; train it with: mergenet train '{out}'"
    assert load_config(str(out)).transfer.adapter.rank == 8
    assert out.read_text().startswith("# best trial: t1")


def test_best_names_the_method_where_the_trials_have_several(sweep, write_run):
    trial = {"role": "trial", "number": 9, "state": "complete", "params": {"method": "kd"}}
    write_run(sweep / "trials/t9", (0.9,), 0.5, trial, {"method": "kd"})
    assert "# its settings: method kd" in run("best", sweep).splitlines()
    assert rows(run("table", sweep))[0].count("method") == 1


def test_best_by_another_metric(sweep):
    output = run("best", sweep, "--metric", "target_val_loss")
    assert "target_val_loss 0.34" in output
    assert "# chosen by the lowest target_val_loss of 2 finished trials" in output
    with pytest.raises(UserError, match="the validation split chooses"):
        run("best", sweep, "--metric", "target_test_top1")


def test_best_takes_sort_as_table_does_and_says_why_the_test_split_does_not_choose(sweep):
    assert run("best", sweep, "--sort", "target_val_loss") == run("best", sweep, "--metric", "target_val_loss")
    with pytest.raises(UserError, match=r"got 'target_test_top1'; .* its number is too good$"):
        run("best", sweep, "--sort", "target_test_top1")
    with pytest.raises(UserError, match=r"got 'nothing'; the validation split chooses, the test split only reports$"):
        run("best", sweep, "--sort", "nothing")


MIXED = "got target_val_top1 \\(2 runs\\), target_val_em \\(1 run\\); they are of different tasks: .*with --metric"


@pytest.fixture
def mixed(tmp_path, write_run):
    write_run(tmp_path / "runs" / "a", (0.5,))
    write_run(tmp_path / "runs" / "b", (0.7,))
    write_run(tmp_path / "runs" / "q", (0.9,), metric="em", settings={"name": "q"})
    return tmp_path / "runs"


def test_a_folder_of_several_tasks_is_a_table_that_says_so(mixed):
    lines = run("table", mixed).splitlines()
    assert lines[0].split() == [
        "trial", "role", "state", "seed", "epochs_done", "best_epoch", "target_val_top1", "%", "target_test_top1", "%",
        "target_val_em", "%", "target_test_em", "%", "seconds",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[1:4]] == ["b", "a", "q"]
    assert lines[3].split()[6:10] == ["-", "-", "90.00", "55.00"]
    assert lines[-1] == (
        "runs of different tasks, not to be compared: they select by target_val_top1 (2), target_val_em (1); "
        "- is what a run does not measure"
    )


def test_there_is_no_best_of_several_tasks_but_of_each(mixed):
    with pytest.raises(UserError, match=f"^the runs must have one metric to choose by, {MIXED}"):
        run("best", mixed)
    with pytest.raises(UserError, match=MIXED):  # both have a loss, but of other data
        run("best", mixed, "--metric", "target_val_loss")
    assert "# best run: b, epoch 1 of 1: target_val_top1 70.00 %" in run("best", mixed, "--metric", "target_val_top1")
    output = run("best", mixed, "--metric", "target_val_em")
    assert "# best run: q, epoch 1 of 1: target_val_em 90.00 %, target_test_em 55.00 %" in output
    assert "# chosen by the highest target_val_em of 1 finished runs" in output


def test_a_source_that_received_has_columns_of_its_own(tmp_path, write_run):
    source = {"source_best_epoch": 2, "source_val_em": 0.25, "source_test_em": 0.125, "source_test_loss": 1.5}
    write_run(tmp_path / "runs" / "a", more=source)
    write_run(tmp_path / "runs" / "b")
    table = rows(run("table", tmp_path / "runs"))
    assert " ".join(table[0]).endswith("target_test_top1 % source_best_epoch source_val_em % source_test_em % seconds")
    assert {row[0]: row[-4:-1] for row in table[1:]} == {"a": ["2", "25.00", "12.50"], "b": ["-", "-", "-"]}


def test_a_folder_without_runs_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="must hold runs, found none"):
        run("table", tmp_path)


def test_a_terminal_gets_a_table_with_brackets_left_alone(sweep, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    run_folder = (sweep / "trials" / "t0").rename(sweep / "trials" / "[bold]t0")
    (run_folder / "trial.json").write_text(
        json.dumps({"trial_id": "[bold]t0", "role": "trial", "params": {}, "seed": 0, "number": 0, "state": "complete"})
    )
    overview.show(overview.selected(load_trials(sweep)), rich_output=True)
    output = capsys.readouterr().out
    assert "[bold]t0" in output
    assert "CONFIRM-best" in output
    assert "┃" in output


def test_headers_are_the_shortest_ending_that_is_unique():
    params = ["source.optimizer.lr", "transfer.update.lr", "transfer.adapter.rank", "my.seed"]
    assert formatting.headers(["seed", "target_val_top1", *params], params) == [
        "seed", "target_val_top1 %", "optimizer.lr", "update.lr", "rank", "my.seed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("target_val_top1", 0.73125, "73.12"),
        ("source_test_i2t_r1", 0.73125, "73.12"),
        ("source_test_loss", 1.23456, "1.235"),
        ("target_val_loss", 1.23456, "1.235"),
        ("x", None, "-"),
        ("x", float("nan"), "-"),
        ("x", 1e-5, "1e-05"),
        ("x", True, "true"),
        ("x", 100000, "100000"),
        ("x", ["row_row", "row_column"], "row_row,row_column"),
        ("x", [], "[]"),
        ("x", [{"source": "fc", "target": "head", "every": 8}], "fc>head (every 8)"),
        ("x", [{"source": "a", "target": "b", "direction": d} for d in ("to_source", "both")], "a<b + a<>b"),
        ("x", {"b": 1}, '{"b": 1}'),
        ("role", "confirm_none", "CONFIRM-none"),
        ("role", "confirm_control_none", "CONFIRM-control-none"),
    ],
)
def test_cells(column, value, shown):
    assert formatting.cell(column, value) == shown


def test_best_of_a_named_trial_says_that_it_was_named(sweep, tmp_path):
    (sweep / "sweep.yaml").write_text("constraints: {target_val_loss: {max: 0.35}}")
    out = tmp_path / "t0.yaml"
    lines = run("best", sweep, "--trial", "t0", "--out", out).splitlines()
    assert lines[0].startswith("trial: t0, epoch 2 of 3: target_val_top1 61.00 %")
    assert "named by --trial, complete; it breaks target_val_loss <= 0.35" in lines
    assert not any("optimistic" in line for line in lines)
    assert load_config(str(out)).transfer.adapter.rank == 4
    story = run("best", sweep)
    assert "# chosen by the highest target_val_top1 of 1 finished trials (1 pruned, 1 failed, 1 that break" in story
    assert "breaks" in run("table", sweep).splitlines()[0]


def test_a_table_says_that_code_changed_between_the_runs(sweep):
    for name, sha256 in (("t0", "a" * 64), ("t1", "b" * 64)):
        path = sweep / "trials" / name / "provenance.json"
        edit_record(path, {"code_hashes": {"bars": sha256}})
    said = f"the code of bars changed between runs, so they cannot be compared: {'a' * 12} in t0, {'b' * 12} in t1"
    assert said in run("table", sweep).splitlines()


def test_no_text_in_a_csv_is_a_formula_to_a_spreadsheet(tmp_path, write_run):
    for name, weights in (("a", "=cmd|' /C calc'!A0"), ("b", "-1+1"), ("c", "plain=1")):
        write_run(tmp_path / "runs" / name, settings={"target.model.weights": weights})
    run("table", tmp_path / "runs", "--csv", tmp_path / "t.csv")
    table = pd.read_csv(tmp_path / "t.csv", dtype=str)
    assert sorted(table["target.model.weights"]) == ["'-1+1", "'=cmd|' /C calc'!A0", "plain=1"]
    assert not table["target_val_top1"].str.startswith("'").any()


def test_control_characters_of_a_name_do_not_reach_the_terminal(tmp_path, write_run):
    done = CliRunner().invoke(cli, ["analyze", "table", "\x1b[31mX"])
    assert done.exit_code == 2
    assert done.output.startswith("error: \\x1b[31mX must be a sweep folder")
    for name in ("a", "b"):
        write_run(tmp_path / "runs" / name, settings={"target.model.weights": f"\x1b[31m{name}"})
    assert "\\x1b[31ma" in (shown := run("table", tmp_path / "runs"))
    assert "\x1b" not in shown


def test_best_confirms_by_the_command_of_sweeps(sweep):
    done = CliRunner().invoke(cli, ["analyze", "best", str(sweep), "--confirm", "2"])
    alone = CliRunner().invoke(cli, ["sweep", "confirm", str(sweep), "--top", "2"])
    assert (done.exit_code, done.output) == (alone.exit_code, alone.output)
    assert done.exit_code == 2 and done.output.startswith("error: "), done.output
    done = CliRunner().invoke(cli, ["analyze", "best", str(sweep), "--confirm", "2", "--out", "x.yaml"])
    assert done.output.startswith("error: --confirm must stand alone, got --out too; mergenet sweep confirm --help")
    done = CliRunner().invoke(analyze, ["best", str(sweep), "--confirm", "2"])
    assert "and this command line has none" in done.output
