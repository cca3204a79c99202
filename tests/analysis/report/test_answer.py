"""What the first screen says, for sweeps whose truth is known."""

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.importance.evaluators import FANOVA, LEVEL
from analysis.report.answer import BAD, GOOD, OPEN, Answer, Card, answer
from analysis.report.evidence import gather, permutations_and_resamples
from analysis.report.trials import trials
from mergenet.errors import UserError
from tests.analysis.importance.sweeps import BOUND, GATE, METHOD, RANK, by_gate, by_wide_gate, drawn, write_sweep
from tests.analysis.report.sweeps import BASE, reported

FEW = ["complete"] * 4  # too few for importances, which take a second


def cards(told: Answer) -> dict[str, Card]:
    return {card.name: card for card in told.cards}


def few(place: Path, gains: dict[str, float] | None = None, **more: Any) -> Path:
    return reported(place / "s", gains, states=FEW, points=drawn(4), **more)


@pytest.fixture(scope="module")
def told(folder: Path) -> Answer:
    return answer(gather(folder))


def test_the_best_is_named_with_how_it_was_chosen(told: Answer, folder: Path) -> None:
    best, card = gather(folder).best, cards(told)["best"]
    assert best is not None and card.tone == GOOD
    assert card.answer == f"{best['trial']}: val top1 {100 * best['target_val_top1']:.2f} %"
    assert "chosen by the highest val top1 of 24 finished of 32" in card.details[1]
    luck = "the best of 30 trials (24 trained to their end) was selected for its luck as well"
    assert f"{luck}: its lead over no transfer is not a gain" in card.details
    assert [name for name, _ in card.runs] == [best["trial"], "baseline"]


def test_what_selection_added_is_told_by_fresh_seeds(told: Answer, folder: Path) -> None:
    best = gather(folder).best
    assert best is not None
    mean = 0.5 + 0.001 * 2.5 + 0.03  # the noise of six seeds adds to nothing
    change = 100 * (mean - best["target_val_top1"])
    line = f"on 6 fresh seeds its settings reach {100 * mean:.2f} % on average ({change:+.2f} points)"
    assert line in cards(told)["best"].details


def test_the_gain_has_its_interval_and_what_the_seeds_show(told: Answer) -> None:
    card = cards(told)["gain"]
    assert card.answer == "test top1 +3.00 points, 95 % interval [+2.75, +3.25]" and card.tone == GOOD
    assert card.details[0] == "a gain is shown at the 5 % level (p 0.031, 6 seeds)"
    assert any("p 0.0312" in line for line in card.details)


def test_the_parameter_that_decides_is_named_and_the_other_is_not(told: Answer) -> None:
    card = cards(told)["mattered"]
    assert card.answer == "gate" and card.tone == GOOD
    assert "not told from chance by 24 trials: rank" in card.details
    assert any(line.startswith("gate from 0.02 to ") for line in card.details)


def test_one_chance_among_the_permutations_hides_nothing_in_a_small_sweep(folder: Path) -> None:
    evidence = gather(folder)
    assert evidence.told is not None
    table = evidence.told.importances
    shares = 40 * table["p_value"][table["evaluator"] == FANOVA]
    assert shares.to_list() == pytest.approx(shares.round())
    by_chance = (1 + 1) / (permutations_and_resamples(100)[FANOVA][0] + 1)
    assert by_chance <= LEVEL
    assert permutations_and_resamples(10_000)[FANOVA][0] == 19, "they would take minutes"


def test_the_steps_lead_to_the_best_that_the_report_names(tmp_path: Path) -> None:
    """The trials that are better break a constraint."""
    folder = write_sweep(tmp_path / "s", drawn(20), by_gate, parameters=by_wide_gate, constraints=BOUND)
    told = answer(gather(folder))
    best = cards(told)["best"].runs[0][0]
    details = cards(told)["mattered"].details
    place = details.index(f"from the base to the best ({best}), by a forest:")
    gate = next(one for one in told.settings if one.path == GATE)
    assert details[place + 1].startswith(f"gate from 0.02 to {gate.best}: predicted +")


def test_the_source_is_answered_by_the_controls(told: Answer) -> None:
    card = cards(told)["source"]
    assert card.answer == "it is the source, as far as these controls tell" and card.tone == GOOD
    assert "no gain is shown with the source shuffled or noise for a source" in card.details[0]


def test_the_settings_are_beside_those_of_the_base(told: Answer) -> None:
    assert [one.path for one in told.settings] == [GATE, RANK]
    assert [one.base for one in told.settings] == ["0.02", "2"]


@pytest.mark.parametrize("methods", [("kd", "mergenet"), ("kd", "kd")])
def test_a_method_that_was_searched_is_the_first_of_the_settings(tmp_path: Path, methods: tuple[str, str]) -> None:
    points = [{METHOD: methods[i % 2], RANK: 8 - i} for i in range(4)]
    search = {RANK: {"int": [2, 16]}, METHOD: {"choice": ["mergenet", "kd", "none"]}}
    folder = reported(tmp_path / "s", states=FEW, points=points, search=search, value=lambda p: 0.5 + 0.01 * p[RANK])
    told = answer(gather(folder))
    assert [(one.path, one.base, one.best) for one in told.settings] == [(METHOD, "mergenet", "kd"), (RANK, "2", "8")]
    table = trials(gather(folder), tmp_path / "report.html")
    place = [column["name"] for column in table["columns"]].index(METHOD)
    assert table["columns"][place + 1]["name"] == RANK and table["columns"][place]["title"] == "method"
    assert [row[place] for row in table["rows"]] == [*(methods * 2), "none"]


def test_a_control_that_gains_too_is_regularisation(tmp_path: Path) -> None:
    card = cards(answer(gather(few(tmp_path, {"best": 0.03, "shuffled": 0.03}))))["source"]
    assert "may be regularisation, not the source" in card.answer and card.tone == OPEN


def test_a_loss_is_not_called_a_gain(tmp_path: Path) -> None:
    told = cards(answer(gather(few(tmp_path, {"best": -0.03, "noise": -0.03}))))
    assert told["gain"].tone == BAD and "a loss is shown" in told["gain"].details[0]
    assert told["source"].answer == "there is no gain to attribute"


def test_a_gain_that_too_few_seeds_could_show_is_not_denied(tmp_path: Path) -> None:
    told = cards(answer(gather(few(tmp_path, {"best": 0.03, "noise": 0.0}, seeds=1))))
    assert "too few seeds to show anything" in told["gain"].details[0]
    assert told["source"].answer == "no gain is shown yet that could be attributed" and told["source"].tone == OPEN


def test_what_cannot_be_said_is_said(tmp_path: Path) -> None:
    told = cards(answer(gather(reported(tmp_path / "s", states=["complete"] * 3, points=drawn(3)))))
    assert told["gain"].answer == "not known"
    assert "no seed has been trained to its end both with the best settings and without" in told["gain"].details[0]
    assert told["mattered"].answer == "not told"
    assert told["mattered"].details == ["3 of 3 trials trained to their end, 10 are needed"]
    assert told["source"].answer == "not tested"


def test_what_mattered_by_an_earlier_epoch_is_a_command(tmp_path: Path) -> None:
    """Where the trials that were stopped early are enough of them."""
    folder = reported(tmp_path / "a sweep", states=["complete"] * 2 + ["pruned"] * 10, points=drawn(12))
    card = cards(answer(gather(folder)))["mattered"]
    epoch = sorted(gather(folder).trials["epochs_done"])[2]
    command = f"mergenet analyze importance '{folder}' --epoch {epoch}"
    assert (card.answer, card.tone) == ("not told", OPEN)
    assert card.details == [
        "2 of 12 trials trained to their end, 10 are needed",
        f"what mattered by epoch {epoch}: {command}",
    ]


def test_a_sweep_of_which_all_failed_has_no_best(tmp_path: Path) -> None:
    told = answer(gather(reported(tmp_path / "s", states=["failed"] * 4, points=drawn(4), status="failed")))
    assert cards(told)["best"].answer == "there is none yet"
    assert "got 4 failed" in cards(told)["best"].details[0]
    assert told.settings == []


def test_one_trial_chose_nothing(tmp_path: Path) -> None:
    told = cards(answer(gather(reported(tmp_path / "s", states=["complete"], points=drawn(1)))))
    assert "it is the only one that has finished: nothing was chosen" in told["best"].details


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    card = cards(answer(gather(few(tmp_path, {"best": 0.03}, seeds=1))))["gain"]
    assert card.answer == "test top1 +3.10 points (one pair: no interval)" and card.tone == OPEN


def test_a_sweep_that_has_not_ended_says_so(tmp_path: Path) -> None:
    told = answer(gather(few(tmp_path, status="running")))
    assert told.state.startswith("sweep, running: 4 trials")
    assert told.warnings[0].startswith("the sweep has not ended (running): all of this is as of now")


def test_the_sweep_itself_may_say_how_it_ended(folder: Path, tmp_path: Path) -> None:
    running = few(tmp_path, status="running")
    assert not gather(running, "finished").is_running and gather(running).is_running
    assert not gather(folder).is_running


def test_runs_of_no_sweep_are_told_too(tmp_path: Path) -> None:
    from tests.analysis.folders import make_run

    for rank in (2, 4):
        make_run(tmp_path / f"run-{rank}", (0.5, 0.1 * rank), settings={RANK: rank})
    told = answer(gather(tmp_path))
    assert told.state.startswith("runs of no sweep: 2 runs")
    assert "must be a sweep folder" in cards(told)["mattered"].details[0]
    assert [one.path for one in told.settings] == [RANK]
    make_run(tmp_path / "run-kd", (0.5, 0.3), settings={RANK: 2, METHOD: "kd"})
    assert [(one.path, one.best) for one in answer(gather(tmp_path)).settings] == [(METHOD, "mergenet"), (RANK, "2")]


def test_a_damaged_run_is_told(tmp_path: Path) -> None:
    folder = few(tmp_path)
    (folder / "trials/trial-003/trial.json").write_text("{")
    assert any("1 runs could not be read" in line for line in answer(gather(folder)).warnings)


def test_a_folder_without_runs_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must hold runs, found none"):
        gather(tmp_path)
    (tmp_path / "sweep.yaml").write_text("- a\n")
    (tmp_path / "trials").mkdir()
    with pytest.raises(UserError, match="this sweep has none yet"):
        gather(tmp_path)


def test_a_base_that_has_not_what_was_searched_shows_a_dash(tmp_path: Path) -> None:
    base = {**BASE, "transfer": {}}
    told = answer(gather(few(tmp_path, base=base)))
    assert [one.base for one in told.settings] == ["-", "-"]


def test_numbers_are_plain_data(told: Answer) -> None:
    json.dumps([vars(card) for card in told.cards])
    assert by_gate({GATE: 0.5, RANK: 2}) == pytest.approx(0.6)
