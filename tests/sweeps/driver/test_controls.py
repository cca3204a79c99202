"""Controls of the confirmation: their configurations, their numbers, and what they let one say."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from analysis.report.verdict import control_lines, controls_verdict
from analysis.trial_file import begun_runs
from mergenet.records.run_deletion import clear_deleted
from sweeps.driver.steps import confirm, confirmations, forget_variants
from sweeps.planning.plan import Plan
from sweeps.report.summary import controls_left_out, print_confirmation
from sweeps.space.space import Space
from sweeps.tracking.remote_copy import stamps
from sweeps.tracking.wandb_summary import numbers
from sweeps.trials.jobs import no_controls
from sweeps.trials.recorded_source import SourcePlan
from sweeps.trials.results import confirmation, failed_runs, without_value
from tests.records import edit_record
from tests.sweeps.base import space_of, sweep_config
from tests.sweeps.folders import CYCLES, TEST, VAL, best_of, write_job

ALL = ["none", "noise", "shuffled"]


def plan_of(controls: list[str], seeds: int = 2, search: dict[str, Any] = CYCLES, **base: Any) -> Plan:
    space: Space = space_of(search, **base)
    sweep = sweep_config(search, num_trials=2, confirm_seeds=seeds, confirm_controls=controls)
    return Plan(sweep, space, SourcePlan(), "", 2)


class Trained:
    """WorkerPool that note what they are given."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def submit(self, job: dict[str, Any]) -> None:
        self.names.append(job["id"])

    def wait(self, names: list[str]) -> None:
        assert names == self.names


def test_a_control_is_the_best_with_another_control_on_the_same_seeds(tmp_path: Path) -> None:
    plan = plan_of(ALL)
    jobs, best = best_of(plan, tmp_path)
    found = {job["id"]: job for job in confirmations(plan, jobs, best)}
    roles = ["confirm-best", "confirm-none", "confirm-shuffled", "confirm-noise", "confirm-control-none"]
    assert list(found) == [f"{role}-{number}" for number in (1, 2) for role in roles]
    assert len(found) == plan.sweep.num_confirmations
    for number in (1, 2):
        real = found[f"confirm-best-{number}"]
        for name, control in (("shuffled", "shuffled"), ("noise", "noise"), ("control-none", "none")):
            job = found[f"confirm-{name}-{number}"]
            transfer = {**real["config"]["transfer"], "control": control}
            assert job["config"] == {**real["config"], "name": job["id"], "transfer": transfer}
            assert (job["config"]["seed"], job["config"]["source"]["recording"]) == (number, "the/recording")
            assert job["params"] == real["params"], "the settings of the best"
    assert found["confirm-none-1"]["config"]["method"] == "none", "not to be taken for control none"


def test_a_control_that_is_searched_is_told_as_it_is(tmp_path: Path) -> None:
    plan = plan_of(["noise"], search=CYCLES | {"transfer.control": {"choice": ["real", "noise"]}})
    jobs, best = best_of(plan, tmp_path)
    found = {job["role"]: job["params"]["transfer.control"] for job in confirmations(plan, jobs, best) if job["params"]}
    assert found == {"confirm_best": "real", "confirm_noise": "noise"}


def test_a_best_that_shows_no_adapter_its_source_has_no_controls_and_says_so(tmp_path: Path) -> None:
    plan = plan_of(ALL)
    jobs, best = best_of(plan, tmp_path, method="kd", source=plan.space.base["source"])
    assert {job["role"] for job in confirmations(plan, jobs, best)} == {"confirm_best", "confirm_none"}
    reason = "its method is kd, and only that of mergenet shows an adapter the source"
    assert controls_left_out(plan.sweep, tmp_path, best) == reason
    assert controls_left_out(plan_of([]).sweep, tmp_path, best) is None
    config = plan.space.base
    assert no_controls(config) == ""
    assert no_controls(config | {"transfer": {"control": "noise"}}) == "its own transfer.control is noise"


def test_controls_of_another_best_are_forgotten_and_those_of_the_same_are_kept(tmp_path: Path) -> None:
    plan = plan_of(["noise"], seeds=1)
    jobs, best = best_of(plan, tmp_path)
    wanted = confirmations(plan, jobs, best)
    for job in wanted:
        write_job(job, "complete")
    confirm(wanted, tmp_path, slots := Trained())
    assert slots.names == ["confirm-best-1", "confirm-none-1", "confirm-noise-1"]
    run = tmp_path / "trials/confirm-noise-1"
    assert run.exists(), "a sweep that is resumed does not train it again"
    config = plan.space.config({"transfer.t_cycle": 4}).model_dump(mode="json")
    confirm([jobs.confirmation("confirm_noise", config, {}, 1, 1)], tmp_path, Trained())
    assert not run.exists(), "of other settings"
    write_job(wanted[-1], "complete")
    confirm(wanted[:2], tmp_path, Trained())
    assert not run.exists(), "the best can have none"
    assert (tmp_path / "trials/confirm-best-1").exists()


def test_a_confirmation_that_failed_is_not_trained_again(tmp_path: Path) -> None:
    plan = plan_of(["noise"], seeds=1)
    jobs, best = best_of(plan, tmp_path)
    wanted = confirmations(plan, jobs, best)
    write_job(wanted[0], "complete")
    write_job(wanted[1], "failed")
    confirm(wanted, tmp_path, slots := Trained())
    assert slots.names == ["confirm-best-1", "confirm-noise-1"]
    assert failed_runs(tmp_path) == ["confirm-none-1"], "which the summary names, with --retry-failed"


def test_a_kill_while_a_control_is_deleted_leaves_nothing_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(["noise"], seeds=1)
    jobs, best = best_of(plan, tmp_path)
    wanted = confirmations(plan, jobs, best)
    for job in wanted:
        write_job(job, "complete")
    for name in ("unlink", "rmdir"):
        monkeypatch.setattr(os, name, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        forget_variants(tmp_path, set())
    monkeypatch.undo()
    assert not (tmp_path / "trials/confirm-noise-1").exists()
    assert [run.name for run in begun_runs(tmp_path)] == ["confirm-best-1", "confirm-none-1", "trial-000"]
    assert (tmp_path / ".deleted-confirm-noise-1").exists()
    assert not any("deleted" in str(name) for name in stamps(tmp_path)), "nor is it copied"
    clear_deleted(tmp_path)
    assert not (tmp_path / ".deleted-confirm-noise-1").exists()


def test_what_an_earlier_version_left_of_a_deleted_control_goes(tmp_path: Path) -> None:
    plan = plan_of(["noise"], seeds=1)
    jobs, best = best_of(plan, tmp_path)
    wanted = confirmations(plan, jobs, best)
    for job in wanted:
        write_job(job, "complete")
        (Path(job["folder"]) / "trial.json").unlink()
    forget_variants(tmp_path, {"confirm-best-1", "confirm-none-1"})
    names = [run.name for run in begun_runs(tmp_path)]
    assert names == ["confirm-best-1", "confirm-none-1", "trial-000"]


def confirmed(folder: Path, **sides: list[float | None]) -> tuple[Plan, dict[str, Any]]:
    """The confirmation of runs with these metrics by seed, None if it failed; validation is half of test."""
    controls = [name for name in ALL if name in sides]
    roles = {"best": "confirm_best", "baseline": "confirm_none", "none": "confirm_control_none"}
    plan = plan_of(controls, seeds=len(sides["best"]))
    jobs, best = best_of(plan, folder)
    jobs_of = {(job["role"], job["number"]): job for job in confirmations(plan, jobs, best)}
    for side, values in sides.items():
        for number, value in enumerate(values, start=1):
            job = jobs_of[roles.get(side, f"confirm_{side}"), number]
            write_job(job, "failed" if value is None else "complete", (value or 0.0) / 2, value or 0.0)
    found = confirmation(folder, plan.sweep)
    assert found is not None
    return plan, found


def test_a_pair_without_a_finite_value_is_left_out_and_told(tmp_path: Path) -> None:
    plan, found = confirmed(tmp_path, best=[math.nan, 0.7, 0.8], baseline=[0.5, 0.5, 0.5])
    assert found["seeds"] == [2, 3]
    assert found[TEST]["gain"]["mean"] == pytest.approx(0.25)
    assert without_value(tmp_path, plan.sweep) == ["confirm-best-1"]
    for run in ("confirm-none-2", "confirm-best-3"):
        edit_record(tmp_path / "trials" / run / "result.json", {TEST: math.nan})
    assert confirmation(tmp_path, plan.sweep) is None
    assert without_value(tmp_path, plan.sweep) == ["confirm-best-1", "confirm-best-3", "confirm-none-2"]


def test_controls_are_paired_with_no_transfer_and_with_the_best(tmp_path: Path) -> None:
    sides: dict[str, list[float | None]] = {
        "best": [0.6, 0.7, 0.8],
        "baseline": [0.5, 0.5, 0.5],
        "noise": [0.5, None, 0.7],
        "shuffled": [None, None, None],
    }
    _, found = confirmed(tmp_path, **sides)
    assert found["seeds"] == [1, 2, 3]
    noise = found["controls"]["noise"]
    assert noise["seeds"] == [1, 3], "one failed"
    assert noise[TEST]["control"] == [0.5, 0.7]
    assert noise[TEST]["gain"]["mean"] == pytest.approx(0.1)
    assert noise[TEST]["gain"].keys() == found[TEST]["gain"].keys()
    assert noise[TEST]["best_minus_control"]["mean"] == pytest.approx(0.1)
    assert noise[VAL]["gain"]["mean"] == pytest.approx(0.05)
    assert found["controls"]["shuffled"] == {"seeds": []}
    json.dumps(found, allow_nan=False)
    lines = list(control_lines(found, VAL))
    assert lines[0] == (
        "controls, same seeds, paired: the best configuration with the source shuffled or noise for a source"
    )
    assert [line[:37] for line in lines[1:5]] == [
        "  noise minus no transfer, val top1  ",
        "  noise minus no transfer, test top1 ",
        "  best minus noise, val top1         ",
        "  best minus noise, test top1        ",
    ]
    assert all(line.endswith("; 2 of 3 seeds") for line in lines[1:5])
    assert lines[5] == "  shuffled: not compared, because no seed trained to its end"
    assert len(lines) == 6, "too few seeds show no gain, so nothing is said of it"


def test_without_controls_nothing_changes(tmp_path: Path) -> None:
    _, found = confirmed(tmp_path, best=[0.6, 0.7], baseline=[0.5, 0.5])
    assert found.keys() == {"seeds", VAL, TEST}
    assert list(control_lines(found, VAL)) == []


FLAT, RISEN, HIGH = [0.5] * 6, [0.60, 0.61, 0.62, 0.63, 0.64, 0.65], [0.70, 0.72, 0.71, 0.73, 0.75, 0.74]
NOISY = [0.45, 0.55, 0.44, 0.56, 0.70, 0.50]
BOTH = "the source shuffled or noise for a source"
OPEN = f"no gain is shown with {BOTH}, but best is not shown to be better than noise: it may be the source, or not"
SOURCE = (
    f"no gain is shown with {BOTH}, and best is better than shuffled and noise: it is the source, as far as these "
    "controls tell"
)


@pytest.mark.parametrize(
    ("best", "shuffled", "noise", "text"),
    [
        (FLAT, RISEN, RISEN, None),
        (RISEN, FLAT, FLAT, SOURCE),
        (RISEN, [0.4] * 6, FLAT, SOURCE),
        (RISEN, FLAT, NOISY, OPEN),
        (RISEN, FLAT, [None] * 6, OPEN),
        (RISEN, FLAT, RISEN, "a gain is shown with noise for a source too: it may be regularisation, not the source"),
        (
            HIGH,
            RISEN,
            RISEN,
            "a gain is shown with the source shuffled and noise for a source too, though a smaller one: part of it may "
            "be regularisation, not the source",
        ),
    ],
)
def test_the_verdict_says_no_more_than_the_pairs_show(
    tmp_path: Path, best: list[float], shuffled: list[float], noise: list[float], text: str | None
) -> None:
    sides: dict[str, Any] = {"best": best, "shuffled": shuffled, "noise": noise}
    _, found = confirmed(tmp_path, baseline=[0.5] * 6, **sides)
    assert controls_verdict(found, TEST) == (None if text is None else f"controls: {text}")
    said: list[str] = []
    print_confirmation(found, VAL, said.append)
    assert (f"  test top1, controls: {text}" in said) == (text is not None)
    assert said[-1].startswith("  target seeds are fresh")


def test_a_loss_gains_downwards() -> None:
    def gain(mean: float, p: float = 0.03) -> dict[str, Any]:
        return {"mean": mean, "p": p}

    noise = {"seeds": [1], "target_test_loss": {"gain": gain(0.1), "best_minus_control": gain(-0.2)}}
    found = {"target_test_loss": {"gain": gain(-0.1)}, "controls": {"noise": noise}}
    expected = "controls: no gain is shown with noise for a source, and best is better than noise: it is the source, "
    assert (controls_verdict(found, "target_test_loss") or "").startswith(expected)
    found["target_test_loss"]["gain"]["mean"] = 0.1
    assert controls_verdict(found, "target_test_loss") is None


def test_weights_and_biases_has_them_as_shallow_scalars(tmp_path: Path) -> None:
    _, found = confirmed(tmp_path, best=[0.6, 0.7], baseline=[0.5, 0.5], none=[0.5, 0.6], noise=[None, None])
    shown = numbers({"trials": [], "best": None, "baseline": None, "metric": VAL, "confirmation": found})
    assert shown[f"control_none_{TEST}_mean"] == pytest.approx(0.05)
    assert shown[f"best_minus_none_{TEST}_mean"] == pytest.approx(0.1)
    assert shown[f"control_none_{VAL}_num_pairs"] == 2
    assert not any("noise" in key for key in shown), "nothing of what never trained to its end"
    assert all(isinstance(value, int | float | str) for value in shown.values())
