import math
from pathlib import Path

import pytest

from analysis.best import choose_best
from analysis.report.answer import answers
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


def test_a_pair_without_a_finite_value_is_left_out_and_told(tmp_path: Path) -> None:
    folder = reported(tmp_path / "s", {"best": 0.03}, states=["complete"] * 3, points=drawn(3))
    edit_record(folder / "trials/confirm-none-2/result.json", {"target_test_top1": math.nan})
    assert found(folder)["seeds"] == [101, 103, 104, 105, 106]
    card = next(card for card in answers(folder).cards if card.name == "gain")
    assert "confirm-none-2 left out: no finite val top1 or test top1" in card.details
    for place in (1, 3, 4, 5, 6):
        edit_record(folder / f"trials/confirm-best-{place}/result.json", {"target_val_top1": math.nan})
    with pytest.raises(UserError, match="without transfer; confirm-best-1 has no finite value; confirm-best-3 has"):
        found(folder)


def test_without_a_pair_there_is_none(tmp_path: Path) -> None:
    folder = reported(tmp_path / "s", states=["complete"] * 3, points=drawn(3))
    with pytest.raises(UserError, match="no seed has been trained to its end both with the best settings and without"):
        found(folder)
