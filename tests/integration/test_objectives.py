"""A real sweep of two objectives and a constraint: study, records, summary and front tell the same."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from click.testing import CliRunner

from analysis.best import best_trial
from analysis.cli import analyze
from analysis.measures import step_seconds
from mergenet.config.loading import load_config
from mergenet.records.run_record import read_run
from mergenet.records.sealed import read_record
from sweeps.config.loading import dump_sweep
from tests.sweeps.base import sweep_config, write_base
from tests.sweeps.sweep_command import Done, sweep_command

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

METRIC, SIZE, STEP = "target_val_top1", "adapter_parameters", "step_seconds"
RANK, DEPTH = "transfer.adapter.rank", "transfer.adapter.depth"
SEARCH = {RANK: {"choice": [2, 4, 12]}, DEPTH: {"choice": [1, 2]}}
LARGEST = 100_000  # two layers have more


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("sweep")
    write_base(folder)
    changes: dict[str, Any] = {"minimize": [SIZE], "constraints": {SIZE: {"max": LARGEST}, STEP: {"max": 60}}}
    sweep = sweep_config(SEARCH, num_trials=6, sampler="grid", confirm_seeds=1, grace_epochs=1, **changes)
    (folder / "tiny.yaml").write_text(dump_sweep(sweep))
    process, left_over = sweep_command(folder, "run", "tiny.yaml")
    assert process.returncode == 0, process.stdout + process.stderr
    return Done(folder / "sweep-results/tiny", process, left_over)


def test_the_study_tells_the_same_as_the_records(done: Done) -> None:
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{done.folder / 'study.db'}")
    assert study.metric_names == [METRIC, SIZE]
    names = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    ours = {trial["trial_id"]: trial for trial in done.summary["trials"]}
    assert len(study.trials) == len(ours) == 6
    for trial in study.trials:
        told = ours[trial.user_attrs["trial_id"]]
        record = read_run(done.folder / "trials" / told["trial_id"])
        assert trial.state.name == names[told["state"]]
        assert told["measured"] == {SIZE: record.epochs[-1][SIZE], STEP: step_seconds(record.epochs)}
        assert 0 < told["measured"][STEP] < 60
        expected = [told["value"], told["measured"][SIZE]] if trial.state.name == "COMPLETE" else None
        assert trial.values == expected
        assert (max(trial.constraints.values()) > 0) == bool(told["broken"])
    assert {point["trial_id"] for point in done.summary["front"]} == {
        trial.user_attrs["trial_id"] for trial in study.best_trials
    }


def test_only_what_keeps_the_constraint_is_the_best_and_on_the_front(done: Done) -> None:
    summary = done.summary
    broken = {trial["trial_id"] for trial in summary["trials"] if trial["params"][DEPTH] == 2}
    assert len(broken) == 3
    assert {t["trial_id"] for t in summary["trials"] if t["broken"]} == broken
    front = [point["trial_id"] for point in summary["front"]]
    assert not broken & set(front)
    assert summary["best"]["trial_id"] == front[0] == best_trial(done.folder)["trial"]
    infeasible = summary["infeasible"]
    assert infeasible["rules"] == {f"{SIZE} <= {LARGEST}": infeasible["infeasible"]}
    assert infeasible["infeasible"] >= 1, "the first trial, which nothing can stop early, is the base with two layers"


def test_the_summary_shows_both(done: Done) -> None:
    out = done.process.stdout
    assert done.process.stderr == ""
    assert "complete trials break a constraint" in out
    assert "Pareto front: none of these is beaten by another trial in all objectives" in out
    assert "mergenet analyze best sweep-results/tiny --trial NAME" in out


def test_any_trial_of_the_front_is_written(done: Done, tmp_path: Path) -> None:
    name = done.summary["front"][-1]["trial_id"]
    out = tmp_path / "chosen.yaml"
    ran = CliRunner().invoke(analyze, ["best", str(done.folder), "--trial", name, "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    wanted = read_run(done.folder / "trials" / name).config
    assert load_config(str(out)).transfer.adapter.rank == wanted["transfer"]["adapter"]["rank"]


def test_no_trial_that_keeps_the_constraints(tmp_path: Path) -> None:
    """The loss of the only trial cannot be that small: it trains, and the sweep ends with a line."""
    write_base(tmp_path)
    changes: dict[str, Any] = {"constraints": {"target_val_loss": {"max": 1e-6}}, "set": {"epochs": 1}}
    sweep = sweep_config(SEARCH, num_trials=1, confirm_seeds=1, **changes)
    (tmp_path / "tiny.yaml").write_text(dump_sweep(sweep))
    for command in (("run", "tiny.yaml"), ("resume", "sweep-results/tiny")):
        process, _ = sweep_command(tmp_path, *command)
        assert process.returncode == 1, process.stdout
        assert process.stderr.startswith("error: the sweep failed: 1 of 1 complete trials break a constraint (")
        assert "target_val_loss <= 1e-06: 1" in process.stderr
        assert process.stderr.endswith(" sweep-results/tiny/trials\n")
    summary = read_record(tmp_path / "sweep-results/tiny/summary.json")
    assert (summary["best"], summary["trials"][0]["state"]) == (None, "complete")
    assert not (tmp_path / "sweep-results/tiny/best.yaml").exists()
