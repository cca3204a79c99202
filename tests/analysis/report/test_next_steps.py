"""What to run next: each rule on a sweep that calls for it."""

import dataclasses
import shlex
from pathlib import Path

import numpy as np
import pytest

from analysis.importance.space import Label, Parameter
from analysis.report.evidence import gather
from analysis.report.next_steps import Step, edge, next_steps
from mergenet.records.sealed import write_record
from tests.analysis.importance.sweeps import GATE, RANK, drawn
from tests.analysis.report.sweeps import reported

FEW = ["complete"] * 4  # too few for importances, which take a second


def steps(folder: Path) -> list[Step]:
    return next_steps(gather(folder))


def test_a_gain_of_the_source_is_to_be_trained(folder: Path) -> None:
    found = steps(folder)
    assert Step("a gain is shown: train the best configuration", f"mergenet train {folder}/best.yaml") in found
    assert found[0].sentence.startswith("1 run has failed"), "first what is broken"
    assert found[0].command == f"mergenet sweep resume {folder} --retry-failed"


def test_a_best_without_fresh_seeds_is_to_be_confirmed(tmp_path: Path) -> None:
    folder = reported(tmp_path / "my sweep", states=FEW, points=drawn(4))
    first = steps(folder)[0]
    assert first.sentence == (
        "the best is not confirmed on fresh seeds: train the best and no transfer on 8 seeds, which can show p down to "
        "2/2^8 = 0.0078"
    )
    assert first.command == confirmed_by(folder, "--top 1 --seeds 8")
    assert first.command.endswith("my sweep-best'"), "quoted, beside the sweep"


def confirmed_by(folder: Path, options: str) -> str:
    place = folder.with_name(f"{folder.name}-best")
    return f"mergenet sweep confirm {shlex.quote(str(folder))} {options} --dir {shlex.quote(str(place))}"


def test_as_many_confirm_at_the_same_time_as_in_the_sweep(tmp_path: Path) -> None:
    folder = reported(tmp_path / "s", states=FEW, points=drawn(4))
    set_in(folder, slots=8)
    assert steps(folder)[0].command == confirmed_by(folder, "--top 1 --seeds 8 --max-concurrent 8")


def test_trials_with_several_workers_are_confirmed_by_the_sweep_itself(tmp_path: Path) -> None:
    folder = reported(tmp_path / "s", states=FEW, points=drawn(4))
    set_in(folder, workers_per_trial=2)
    first = steps(folder)[0]
    assert first.sentence.endswith(f"fresh seeds: set confirm_seeds: 8 in {folder}/sweep.yaml and resume it")
    assert first.command == f"mergenet sweep resume {folder}"


def test_a_best_without_transfer_has_those_confirmed_that_have_it(tmp_path: Path) -> None:
    folder = reported(tmp_path / "s", {"best": 0.0}, states=FEW, points=drawn(4))
    found = gather(folder)
    assert found.best is not None
    (first, *_) = next_steps(dataclasses.replace(found, best=found.best.replace("mergenet", "none")))
    assert first.sentence.startswith("the best has no transfer itself: fresh seeds tell whether the best trials that")
    assert first.command == confirmed_by(folder, "--top 3")


def test_a_step_that_was_followed_leads_to_what_it_gave(tmp_path: Path) -> None:
    folder = reported(tmp_path / "s", {"best": 0.0}, states=FEW, points=drawn(4))
    there = tmp_path / "s-best"
    there.mkdir()
    (there / "ablation.yaml").write_text("name: other-best\ntop: 1\n")
    write_record(there / "sweep.json", {"status": "stopped"})
    assert steps(folder)[0].command == confirmed_by(folder, "--top 1 --seeds 12"), "that is another sweep's"
    (there / "ablation.yaml").write_text("name: known-best\ntop: 1\n")
    found = steps(folder)[0]
    assert found.sentence.startswith(f"sweep confirm has trained in {there}, of which this report tells nothing")
    assert found.command == f"mergenet sweep resume {there}"
    write_record(there / "sweep.json", {"status": "finished"})
    found = steps(folder)[0]
    assert found.sentence.endswith(": its table has the gain on fresh seeds")
    assert found.command == f"mergenet sweep ablate {there}"


def set_in(folder: Path, **keys: int) -> None:
    """In sweep.yaml."""
    with (folder / "sweep.yaml").open("a") as file:
        file.writelines(f"{key}: {value}\n" for key, value in keys.items())


def test_no_gain_tells_what_the_seeds_could_have_shown(tmp_path: Path) -> None:
    folder = reported(tmp_path / "s", {"best": 0.0}, states=FEW, points=drawn(4))
    sentence = steps(folder)[0].sentence
    assert sentence.startswith("no gain is shown; 6 seeds of this spread show a difference of ")
    assert sentence.endswith("a smaller one needs more: train the best and no transfer on 12 seeds in all")
    assert "in 80% of the cases" in sentence
    assert steps(folder)[0].command == confirmed_by(folder, "--top 1 --seeds 12")
    # the differences' standard deviation times 1.43: of six pairs at 80 % power
    shown = float(sentence.partition("difference of ")[2].split()[0])
    assert shown == pytest.approx(100 * 1.435 * np.std([0.001, -0.002, 0.002, -0.001, 0.003, -0.003], ddof=1), abs=0.02)


def test_too_few_seeds_are_told(tmp_path: Path) -> None:
    folder = reported(tmp_path / "s", {"best": 0.03}, seeds=3, states=FEW, points=drawn(4))
    first = steps(folder)[0]
    told = "3 seeds cannot show anything at the 5 % level: train the best and no transfer on 8 seeds in all"
    assert first == Step(told, confirmed_by(folder, "--top 1 --seeds 8"))


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ({"best": 0.03}, "set confirm_controls: [shuffled, noise]"),
        ({"best": 0.03, "shuffled": 0.0, "noise": 0.0}, "a gain is shown: train"),
        ({"best": 0.03, "shuffled": 0.03}, "is regularisation"),
        ({"best": 0.03, "noise": 0.02}, "is regularisation"),
        ({"best": -0.03}, "worse than no transfer"),
    ],
)
def test_what_the_controls_show_decides(gains: dict[str, float], said: str, tmp_path: Path) -> None:
    folder = reported(tmp_path / "s", gains, states=FEW, points=drawn(4))
    assert said in steps(folder)[0].sentence


def test_a_sweep_that_has_not_ended_is_only_led_to_its_end(tmp_path: Path) -> None:
    running = steps(reported(tmp_path / "running", status="running", states=["complete", "running"], points=drawn(2)))
    assert running[0].command.endswith("running --html") and "mergenet sweep status" in running[0].command
    paused = steps(reported(tmp_path / "paused", status="stopped", states=["complete"] * 2, points=drawn(2)))
    assert [step.command for step in paused] == [f"mergenet sweep resume {tmp_path / 'paused'}"]


def test_a_best_at_the_edge_names_the_path_and_the_range(tmp_path: Path) -> None:
    points = [*drawn(4), {GATE: 0.5, RANK: 9}]
    sentences = [step.sentence for step in steps(reported(tmp_path / "s", states=["complete"] * 5, points=points))]
    assert any(f"the best has {GATE} 0.5, at the upper edge of what was searched (0.02 to 0.5)" in s for s in sentences)
    assert not any(RANK in sentence for sentence in sentences)


def test_an_edge_that_is_not_told_from_chance_says_so(tmp_path: Path) -> None:
    points = [*drawn(14), {GATE: 0.5, RANK: 16}]
    sentences = [step.sentence for step in steps(reported(tmp_path / "s", states=["complete"] * 15, points=points))]
    of_rank = next(sentence for sentence in sentences if RANK in sentence)
    assert of_rank.endswith("though it is not told from chance yet")


def test_where_nothing_matters_more_trials_or_seeds_are_advised(tmp_path: Path) -> None:
    noise = iter(np.random.default_rng(5).normal(0.5, 0.01, 200))
    known: dict[str, float] = {}
    folder = reported(
        tmp_path / "s",
        states=["complete"] * 16,
        points=drawn(16),
        value=lambda point: known.setdefault(str(point), float(next(noise))),
    )
    last = steps(folder)[-1].sentence
    assert last.startswith("no searched setting explains more than chance over 16 trials")
    assert "8 paired seeds show a difference of 1.16 of its standard deviations in 80%" in last


@pytest.mark.parametrize(
    ("parameter", "label", "at"),
    [
        (Parameter("p", (), 0.02, 0.5, log=True), 0.5, "upper"),
        (Parameter("p", (), 0.02, 0.5, log=True), 0.0201, "lower"),
        (Parameter("p", (), 0.02, 0.5, log=True), 0.1, None),
        (Parameter("p", (), 2, 16, whole=True), 2, "lower"),
        (Parameter("p", (), 2, 16, whole=True), 15, None),
        (Parameter("p", (), 2, 16, whole=True, step=4), 14, "upper"),
        (Parameter("p", (4, 8, 16)), 16, "upper"),
        (Parameter("p", (4, 8)), 8, None),
        (Parameter("p", ("linear", "lpka", "none")), "none", None),
        (Parameter("p", (False, True)), True, None),
    ],
)
def test_edges(parameter: Parameter, label: Label, at: str | None) -> None:
    assert edge(parameter, label) == at
