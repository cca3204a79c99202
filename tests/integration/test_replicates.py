"""Trials of two seeds on the real Ray, Tune, Optuna and trainer: values are means of what the run folders hold."""

import json
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import optuna
import pytest

from analysis.best import best_trial
from analysis.sweep_file import edited_settings
from analysis.tables.load import load_trials
from analysis.verification.original import find_original
from mergenet.config.loading import load_config
from mergenet.records.run_record import read_epochs, read_run
from mergenet.records.sealed import read_record, write_record
from sweeps import SweepResult
from sweeps.ablation.centre import load_centre
from sweeps.config.loading import dump_sweep
from tests.records import edit_record
from tests.sweeps.base import sweep_config, write_base
from tests.sweeps.sweep_command import sweep_command, without_seconds

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1200)]

METRIC = "target_val_top1"
SEARCH = {"target.optimizer.lr": {"choice": [0.02, 0.05, 1e9]}}  # 1e9 diverges in the first epoch
CHANGES = {"epochs": 3, "target.data.train_fraction": 1.0, "target.optimizer.lr": 0.02}


@dataclass(frozen=True)
class Done:
    folder: Path
    out: str

    @property
    def summary(self) -> dict[str, Any]:
        return dict(read_record(self.folder / "summary.json"))

    def best(self, run: str) -> float:
        return float(max(row[METRIC] for row in read_epochs(self.folder / "trials" / run)))

    def study(self) -> list[optuna.trial.FrozenTrial]:
        return optuna.load_study(study_name="tiny", storage=f"sqlite:///{self.folder / 'study.db'}").trials


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("sweep")
    write_base(folder)
    fixed = {"num_trials": 3, "seeds_per_trial": 2, "sampler": "grid", "scheduler": "none", "confirm_seeds": 1}
    fixed["keep_checkpoints"] = "all"  # so that a test may put a run back in its last epoch
    sweep = sweep_config(SEARCH, set=CHANGES, wandb={"mode": "offline"}, **fixed)
    (folder / "tiny.yaml").write_text(dump_sweep(sweep))
    process, _ = sweep_command(folder, "run", "tiny.yaml")
    assert process.returncode == 0, process.stdout + process.stderr
    return Done(folder / "sweep-results/tiny", process.stdout)


def test_values_are_the_means_over_the_run_folders(done: Done) -> None:
    trials = {trial["trial_id"]: trial for trial in done.summary["trials"]}
    assert sorted(trial["state"] for trial in trials.values()) == ["complete", "complete", "failed"]
    for name, trial in trials.items():
        if trial["state"] == "complete":
            bests = [done.best(name), done.best(f"{name}-seed-2")]
            assert bests[0] != bests[1], "the seeds differ"
            assert (trial["value"], trial["values"], trial["sd"]) == (fmean(bests), bests, stdev(bests))
    none = [done.best("baseline"), done.best("baseline-seed-2")]
    assert done.summary["baseline"]["value"] == fmean(none)
    winner = done.summary["best"]
    assert winner["value"] == max(trial["value"] for trial in trials.values() if trial["value"] is not None)


def test_the_study_is_told_the_means(done: Done) -> None:
    ours = {trial["trial_id"]: trial for trial in done.summary["trials"]}
    for trial in done.study():
        mine = ours[trial.user_attrs["trial_id"]]
        assert trial.state.name == {"complete": "COMPLETE", "failed": "FAIL"}[mine["state"]]
        if mine["state"] == "complete":
            first = [row[METRIC] for row in read_epochs(done.folder / "trials" / mine["trial_id"])]
            assert trial.value == mine["value"]
            assert trial.intermediate_values == {1: first[0], 2: max(first[:2]), 3: mine["value"]}


def test_what_fails_costs_one_seed(done: Done) -> None:
    failed = next(trial["trial_id"] for trial in done.summary["trials"] if trial["state"] == "failed")
    names = {path.name for path in (done.folder / "trials").iterdir()}
    assert f"{failed}-seed-2" not in names
    assert len(names) == 2 + 2 * 2 + 1 + 2  # no transfer, two whole trials, the failed one, the confirmation


def test_seeds_are_paired_and_the_confirmation_has_others(done: Done) -> None:
    seeds = {path.name: read_run(path).config["seed"] for path in (done.folder / "trials").iterdir()}
    assert {seed for name, seed in seeds.items() if name.endswith("-seed-2")} == {1}
    assert (seeds["confirm-best-1"], seeds["confirm-none-1"]) == (2, 2)
    state = read_record(done.folder / "sweep.json")
    assert state["seeds"] == {"search": 0, "trials": 0, "replicates": [1], "confirmation": [2]}


def test_both_ways_to_the_best_agree_and_the_user_is_told(done: Done, tmp_path: Path) -> None:
    best = done.summary["best"]
    row = best_trial(done.folder)
    assert (row["trial"], row[METRIC], row["sd"]) == (best["trial_id"], best["value"], best["sd"])
    table = load_trials(done.folder)
    assert len(table) == 3 + 1 + 2
    assert "mean over 2 seeds" in (done.folder / "best.yaml").read_text()
    copied = tmp_path / "copied.yaml"
    shutil.copy(done.folder / "best.yaml", copied)
    assert load_config(str(copied)) == SweepResult.load(done.folder).best.config
    assert find_original(done.folder / "best.yaml").folder.name == f"{best['trial_id']}-seed-2"
    assert [load_centre(str(place)).config.seed for place in (copied, done.folder)] == [2, 2], "0 and 1 chose it"
    assert f"best trial: {best['trial_id']}, val top1 {100 * best['value']:.2f} %, mean over 2 seeds (" in done.out
    assert sum("mean over 2 seeds: val top1" in line for line in done.out.splitlines()) == 3
    runs = list(done.folder.glob("wandb/offline-run-*/*.wandb"))
    assert len(runs) == 2 + 5 + 2 + 1, "each run, and the sweep"


def test_a_resumed_sweep_ends_as_an_undisturbed_one(done: Done, tmp_path: Path) -> None:
    """As a kill leaves it: of the first whole trial seed 2 was not begun, of the other it was in its last epoch.

    In another place than it began in, and with an edit of its sweep file, which is told once.
    """
    folder = tmp_path / "moved"
    shutil.copytree(done.folder, folder)
    whole = [trial["trial_id"] for trial in done.summary["trials"] if trial["state"] == "complete"]
    forget(folder, whole)
    shutil.rmtree(folder / f"trials/{whole[0]}-seed-2")
    lose_last_epoch(folder / f"trials/{whole[1]}-seed-2")
    assert not edited_settings(folder)
    file = folder / "sweep.yaml"
    file.write_text(file.read_text().replace("budget_hours: null\n", "budget_hours: 9.0\n"))
    process, _ = sweep_command(tmp_path, "resume", str(folder))
    assert process.returncode == 0, process.stdout + process.stderr
    assert "goes on by sweep.yaml as it was edited: budget_hours (null became 9.0)" in process.stdout
    assert not edited_settings(folder)
    again = Done(folder, process.stdout)
    assert table(again) == table(done)
    assert values(again) == values(done)
    for name in (path.name for path in (done.folder / "trials").iterdir()):
        rows = [[without_seconds(row) for row in read_epochs(of / "trials" / name)] for of in (done.folder, folder)]
        assert rows[0] == rows[1], name
    untouched = [f"trials/{whole[0]}/epochs.jsonl", f"trials/{whole[1]}/epochs.jsonl"]
    assert all((folder / file).read_text() == (done.folder / file).read_text() for file in untouched)
    before, after = ((of / f"trials/{whole[1]}-seed-2/epochs.jsonl").read_text() for of in (done.folder, folder))
    assert before.splitlines()[:2] == after.splitlines()[:2], "what a checkpoint has is not trained again"
    assert before != after


def table(sweep: Done) -> list[dict[str, Any]]:
    keys = ("trial_id", "state", "epochs", "value", "values", "sd", "params", "error")
    return [{key: trial[key] for key in keys} for trial in sweep.summary["trials"]]


def values(sweep: Done) -> dict[str, Any]:
    return {t.user_attrs["trial_id"]: (t.state, t.value, t.intermediate_values) for t in sweep.study()}


def lose_last_epoch(run: Path) -> None:
    shutil.rmtree(run / "checkpoints/epoch-000003")
    rows = (run / "epochs.jsonl").read_text().splitlines(keepends=True)
    (run / "epochs.jsonl").write_text("".join(rows[:2]))
    for name, changed in (("trial.json", {"state": "running"}), ("result.json", {"status": "running"})):
        edit_record(run / name, changed)


def forget(folder: Path, names: list[str]) -> None:
    """The study as it was before the last epoch of these trials was told; the sweep as killed."""
    with sqlite3.connect(folder / "study.db") as database:
        for (number,) in database.execute(
            "select trial_id from trial_user_attributes where key = 'trial_id' and value_json in (?, ?)",
            [json.dumps(name) for name in names],
        ).fetchall():
            database.execute("update trials set state = 'RUNNING' where trial_id = ?", [number])
            database.execute("delete from trial_values where trial_id = ?", [number])
            database.execute("delete from trial_intermediate_values where trial_id = ? and step = 3", [number])
    state = read_record(folder / "sweep.json")
    write_record(folder / "sweep.json", state | {"status": "running"})
    (folder / "summary.json").unlink()


def test_a_trial_that_is_stopped_is_pruned_with_one_seed(tmp_path: Path) -> None:
    """The only rung is the epoch before the last."""
    write_base(tmp_path)
    search = {"target.optimizer.lr": {"choice": [0.01, 1e-6]}}  # the first learns in two epochs, the other does not
    fixed = {
        "num_trials": 2,
        "seeds_per_trial": 2,
        "sampler": "grid",
        "grace_epochs": 2,
        "confirm_seeds": 0,
        "slots": 1,
    }
    sweep = sweep_config(search, set=CHANGES | {"target.optimizer.lr": 0.01}, **fixed)
    (tmp_path / "tiny.yaml").write_text(dump_sweep(sweep))
    process, _ = sweep_command(tmp_path, "run", "tiny.yaml")
    assert process.returncode == 0, process.stdout + process.stderr
    done = Done(tmp_path / "sweep-results/tiny", process.stdout)
    assert [trial["state"] for trial in done.summary["trials"]] == ["complete", "pruned"]
    assert [trial.state.name for trial in done.study()] == ["COMPLETE", "PRUNED"]
    assert load_trials(done.folder).set_index("trial")["state"].to_dict() == {
        "trial-000": "complete",
        "trial-001": "pruned",
        "baseline": "complete",
    }
    assert not (done.folder / "trials/trial-001-seed-2").exists()
    assert len(read_epochs(done.folder / "trials/trial-001")) == 2, "the slot waits for the decision"
