"""Two sweeps one after the other: branches in the first, whose trials the second knows from the start."""

from pathlib import Path
from typing import Any

import optuna
import pytest

from analysis.tables.load import is_missing, load_trials
from mergenet.records.run_record import read_epochs
from mergenet.records.sealed import read_record
from sweeps.config.loading import dump_sweep
from sweeps.samplers.history import WARM
from tests.sweeps.base import sweep_config, write_base
from tests.sweeps.sweep_command import sweep_command

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1200)]

CYCLE, GATE = "transfer.t_cycle", "transfer.adapter.gate"
BRANCHES = {
    "method": {"choice": ["mergenet", "none"]},
    CYCLE: {"choice": [2, 4], "when": {"method": "mergenet"}},
}


def run(folder: Path, name: str, search: dict[str, Any], **changes: Any) -> tuple[dict[str, Any], str]:
    fixed = {"name": name, "slots": 1, "num_trials": 3, "confirm_seeds": 1, "scheduler": "none"}
    path = folder / f"{name}.yaml"
    path.write_text(dump_sweep(sweep_config(search, **(fixed | changes))))
    done, left_over = sweep_command(folder, "run", path.name, "--dir", name)
    assert done.returncode == 0, done.stderr
    assert not left_over
    return read_record(folder / name / "summary.json"), done.stdout


def test_branches_and_a_warm_start_from_them(tmp_path: Path) -> None:
    write_base(tmp_path)
    first, _ = run(tmp_path, "first", BRANCHES, sampler="grid")
    assert [trial["params"] for trial in first["trials"]] == [
        {"method": "mergenet", CYCLE: 2},
        {"method": "none"},
        {"method": "mergenet", CYCLE: 4},
    ]
    none, baseline = (epochs(tmp_path / "first", name) for name in ("trial-001", "baseline"))
    assert none == baseline, "a trial without transfer is the baseline"
    table = load_trials(tmp_path / "first").set_index("trial")
    assert is_missing(table.loc["trial-001", CYCLE])
    assert table.loc["trial-002", CYCLE] == 4

    search = BRANCHES | {GATE: {"float": [0.05, 0.5], "when": {"method": "mergenet"}}}
    second, printed = run(tmp_path, "second", search, warm_start=["first"])
    assert "warm start: 3 trials of first (3 complete, 0 stopped early)\n" in printed
    assert [trial["number"] for trial in second["trials"]] == [0, 1, 2]
    assert second["trials"][0]["params"] == {"method": "mergenet", CYCLE: 2, GATE: 0.1}
    study = optuna.load_study(study_name="second", storage=f"sqlite:///{tmp_path / 'second' / 'study.db'}")
    told = [trial for trial in study.trials if WARM in trial.user_attrs]
    assert [trial.value for trial in told] == [trial["value"] for trial in first["trials"]]
    assert len(study.trials) == 3 + 3
    assert told[0].value == second["trials"][0]["value"], "what was told is what it gives here"


def epochs(folder: Path, name: str) -> list[float]:
    return [row["target_val_loss"] for row in read_epochs(folder / "trials" / name)]
