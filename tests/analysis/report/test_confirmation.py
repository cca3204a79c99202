from pathlib import Path

import pytest

from analysis.best import choose_best
from analysis.report.confirmation import confirmation
from analysis.tables.load import load_trials
from mergenet.errors import UserError
from sweeps.trials.files import Confirmation
from tests.analysis.importance.sweeps import drawn
from tests.analysis.report.sweeps import reported
from tests.records import edit_record


def found(folder: Path) -> dict[str, object]:
    table = load_trials(folder)
    return confirmation(table, choose_best(table))


def test_it_is_what_a_summary_holds(folder: Path) -> None:
    values = found(folder)
    checked = Confirmation.model_validate(values)
    assert checked.seeds == [101, 102, 103, 104, 105, 106]
    assert set(checked.controls) == {"shuffled", "noise"}
    gain = values["target_test_top1"]["gain"]  # type: ignore[index]
    assert gain["mean"] == pytest.approx(0.03) and gain["num_pairs"] == 6 and gain["p"] == pytest.approx(2 / 64)
    beside = values["controls"]["shuffled"]["target_test_top1"]["best_minus_control"]  # type: ignore[index]
    assert beside["mean"] == pytest.approx(0.034) and beside["low"] == pytest.approx(0.034)


def test_seeds_of_one_side_alone_wait_for_the_other(tmp_path: Path) -> None:
    folder = reported(tmp_path / "s", {"best": 0.03, "noise": 0.0}, states=["complete"] * 3, points=drawn(3))
    for name in ("confirm-none-2", "confirm-noise-3"):
        trial = folder / "trials" / name / "trial.json"
        edit_record(trial, {"state": "running"})
    values = found(folder)
    assert values["seeds"] == [101, 103, 104, 105, 106]
    assert values["controls"]["noise"]["seeds"] == [101, 104, 105, 106]  # type: ignore[index]


def test_without_a_pair_there_is_none(tmp_path: Path) -> None:
    folder = reported(tmp_path / "s", states=["complete"] * 3, points=drawn(3))
    with pytest.raises(UserError, match="no seed has been trained to its end both with the best settings and without"):
        found(folder)
