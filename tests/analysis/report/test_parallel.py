from pathlib import Path

import numpy as np
import pytest

from analysis.importance.space import Parameter
from analysis.report.evidence import gather
from analysis.report.parallel import BEST_LINES, MOST_LINES, NOT_DRAWN, _ticks, parallel_coordinates, spread_lines
from mergenet.errors import UserError
from tests.analysis.importance.sweeps import GATE, METHOD, WEIGHT, drawn
from tests.analysis.report.sweeps import reported


def test_a_line_for_each_trial_with_a_value_and_an_axis_for_each_setting(folder: Path) -> None:
    trace = parallel_coordinates(gather(folder)).data[0]
    assert [axis.label for axis in trace.dimensions] == ["gate", "rank", "epochs", "val top1 %"]
    assert len(trace.ids) == len(set(trace.ids)) == 31, "the failed one has none"
    assert {len(axis["values"]) for axis in trace.dimensions} == {31}


@pytest.mark.parametrize("mode", ["max", "min"])
def test_of_many_trials_the_best_are_drawn_and_others_by_equal_steps(mode: str) -> None:
    values = np.random.default_rng(0).permutation(5000).astype(float)
    ranked = values[spread_lines(values, mode)]
    assert len(set(ranked)) == MOST_LINES
    best_first = np.sort(ranked)[::-1] if mode == "max" else np.sort(ranked)
    top = np.arange(4999, 4999 - BEST_LINES, -1) if mode == "max" else np.arange(BEST_LINES)
    assert best_first[:BEST_LINES].tolist() == top.tolist()
    assert set(np.abs(np.diff(best_first[BEST_LINES:]))) <= {6.0, 7.0} and best_first[-1] == (
        0 if mode == "max" else 4999
    )


def test_a_logarithmic_range_is_shown_as_it_was_drawn(folder: Path) -> None:
    evidence = gather(folder)
    trace = parallel_coordinates(evidence).data[0]
    place = list(trace.ids).index("trial-007")
    gate = evidence.trials.set_index("trial").loc["trial-007", GATE]
    assert trace.dimensions[0]["values"][place] == pytest.approx(np.log(gate / 0.02) / np.log(25), abs=1e-4)
    assert trace.dimensions[0].ticktext[0] == "0.02" and trace.dimensions[0].ticktext[-1] == "0.5"


def test_what_a_trial_did_not_draw_lies_below_the_axis(tmp_path: Path) -> None:
    search = {METHOD: {"choice": ["mergenet", "kd"]}, WEIGHT: {"float": [0.1, 2.0], "when": {METHOD: ["kd"]}}}
    points = [{METHOD: "mergenet"}, {METHOD: "kd", WEIGHT: 0.1}, {METHOD: "kd", WEIGHT: 2.0}]
    folder = reported(
        tmp_path / "s",
        states=["complete"] * 3,
        points=points,
        search=search,
        value=lambda p: 0.5 + p.get(WEIGHT, 0) / 10,
    )
    _, weight, *_ = parallel_coordinates(gather(folder)).data[0].dimensions
    assert list(weight["values"]) == [NOT_DRAWN, 0.0, 1.0]
    assert weight.ticktext[0] == "-" and weight.range[0] == NOT_DRAWN


def test_names_of_choices_make_no_markup_and_stay_short() -> None:
    (_, one), (_, other) = _ticks(Parameter("p", ("<b>x", "a" * 40)))
    assert one == "&lt;b&gt;x" and other == "a" * 15 + "..."


def test_one_trial_has_no_parallel_coordinates(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must have two trials with a target_val_top1, got 1"):
        parallel_coordinates(gather(reported(tmp_path / "s", states=["complete"], points=drawn(1))))
