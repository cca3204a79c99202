"""The best of the trials."""

import math
from pathlib import Path
from typing import Any

import pytest

import sweeps.trials.results as results
from sweeps.report.status import read_status, status_lines
from tests.records import edit_record
from tests.sweeps.folders import CYCLES, VAL, planned, write_sweep


def trial(number: int, value: float | None, parameters: int = 10, finished: bool = True) -> dict[str, Any]:
    return {"number": number, "value": value, "finished": finished, "adapter_parameters": parameters}


def test_of_equals_the_one_with_fewer_adapter_parameters_then_the_earlier() -> None:
    trials = [trial(0, 0.5), trial(1, 0.6, 20), trial(2, 0.6, 10), trial(3, 0.6, 10), trial(4, 0.9, finished=False)]
    assert results.best_trial(trials, "target_val_em") == trials[2]
    assert results.best_trial(trials, "target_val_loss") == trials[0]
    assert results.best_trial([trial(0, None), trial(1, 0.5, finished=False)], "target_val_em") is None


@pytest.mark.parametrize("never", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_never_the_best(tmp_path: Path, never: float) -> None:
    plan = planned(tmp_path, CYCLES, num_trials=3, scheduler="none")
    two, four = {"transfer.t_cycle": 2}, {"transfer.t_cycle": 4}
    folder = write_sweep(tmp_path / "s", plan, [(two, [never, 0.5]), (four, [0.4, 0.6]), (two, [never, never])])
    found = results.read_trials(folder, plan.sweep, "trial")
    assert [trial["value"] for trial in found] == [0.5, 0.6, None]
    best = results.best_trial(found, plan.sweep.objective)
    assert best is not None and best["trial_id"] == "trial-001"
    status = read_status(folder)
    assert status["best"]["trial"] == "trial-001"
    assert "highest so far: 60.00 %" in "\n".join(status_lines(status))


def test_a_trial_that_kept_the_weights_of_an_epoch_without_a_number_has_no_value(tmp_path: Path) -> None:
    plan = planned(tmp_path, CYCLES, num_trials=1, scheduler="none")
    folder = write_sweep(tmp_path / "s", plan, [({"transfer.t_cycle": 2}, [math.nan, 0.5])])
    edit_record(folder / "trials/trial-000/result.json", {"best_epoch": 1, VAL: math.nan})
    assert results.read_trials(folder, plan.sweep, "trial")[0]["value"] is None
