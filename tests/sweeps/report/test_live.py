"""What the user sees: a line for each job that ends, the live status, the text of a gain."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.report.verdict import gain_text, show, verdict
from mergenet.records.sealed import write_record
from sweeps.report.live import View, trials_table
from sweeps.report.wording import show_params
from sweeps.tracking.wandb_about import scalars
from sweeps.tracking.wandb_summary import numbers, trials_html
from sweeps.trials.budget import Budget
from sweeps.trials.results import ended_runs, gain
from tests.sweeps.base import HEAD, sweep_config


def view_and_output(terminal: bool = False) -> tuple[View, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=terminal)
    return View(console, sweep_config({"transfer.t_cycle": {"choice": [2, 4]}}), num_jobs=3), out


def play(view: View, job: str, role: str, rows: list[float], state: str = "complete", error: str | None = None) -> None:
    def tell(event: str, at: float, **more: Any) -> None:
        view({"job": job, "role": role, "event": event, "time": at, **more})

    tell("queued", 0, params={"transfer.pairs": [HEAD], "transfer.adapter.gate": 0.123456})
    tell("started", 1)
    for epoch, value in enumerate(rows, start=1):
        tell("row", 1 + epoch, row={"epoch": epoch, "target_val_top1": value})
    tell("ended", 11, state=state, error=error)


def test_a_line_for_each_job_that_ends() -> None:
    view, out = view_and_output()
    with view:
        play(view, "trial-000", "trial", [0.25, 0.5, 0.375])
        play(view, "trial-001", "trial", [], "failed", "target loss became nan by step 3")
    assert out.getvalue().splitlines() == [
        "trial-000      complete   3 epochs   10.0 s  val top1 50.00 %  gate=0.1235 pairs=fc>classifier.1",
        "trial-001      failed     0 epochs   10.0 s  target loss became nan by step 3",
    ]


def test_a_run_that_was_there_already_has_no_time() -> None:
    """The worker says so."""
    view, out = view_and_output()
    value = 0.5
    view.remember({"trial-000-seed-1": ("complete", [{"epoch": 1, "target_val_top1": value}] * 2)})
    for job, more in (("trial-000-seed-1", {"there": True}), ("baseline", {"there": True}), ("confirm-best-1", {})):
        head: dict[str, Any] = {"job": job, "role": "confirm_best", "time": 5.0}
        view({**head, "event": "queued", "params": {}})
        view({**head, "event": "started"})
        for epoch in (1, 2):
            view({**head, "event": "row", "row": {"epoch": epoch, "target_val_top1": value}})
        view({**head, "event": "ended", "time": 7.1, "state": "complete", "error": None, **more})
    assert out.getvalue().splitlines() == [
        "trial-000-seed-1 complete   2 epochs, there already  val top1 50.00 %",
        "baseline       complete   2 epochs, there already  val top1 50.00 %",
        "confirm-best-1 complete   2 epochs    2.1 s  val top1 50.00 %",
    ]
    assert len(view.seconds) == 1, "the time left goes by what has trained"


def test_the_best_configuration_is_not_repeated_for_each_of_its_seeds() -> None:
    view, out = view_and_output()
    with view:
        play(view, "confirm-best-1", "confirm_best", [0.25])
        play(view, "confirm-noise-1", "confirm_noise", [0.25])
    assert out.getvalue().splitlines() == [
        "confirm-best-1 complete   1 epochs   10.0 s  val top1 25.00 %",
        "confirm-noise-1 complete   1 epochs   10.0 s  val top1 25.00 %",
    ]


def test_the_live_status_counts_and_calls_nothing_a_gain() -> None:
    view, out = view_and_output(terminal=True)
    play(view, "trial-000", "trial", [0.25, 0.5])
    view.console.print(view.status())
    text = out.getvalue()
    assert "trials: 1 complete" in text
    assert "1/3" in text
    assert "about 0:10 left" in text  # two jobs of 10 s on two slots
    assert "highest so far: 50.00 % (trial-000, no transfer is not that far yet; not a gain: the best of many" in text


def test_the_lead_is_over_as_many_epochs_and_lost_workers_are_counted() -> None:
    view, out = view_and_output(terminal=True)
    play(view, "baseline", "baseline", [0.25, 0.375, 0.75])
    play(view, "trial-000", "trial", [0.25, 0.5])
    view({"job": "trial-001", "role": "trial", "event": "queued", "time": 0, "params": {}})
    lost = {"job": "trial-001", "role": "trial", "event": "lost", "time": 3, "reason": "it died"}
    view(lost | {"attempts": 1, "again": True})
    view.console.print(view.status())
    text = out.getvalue()
    assert "trial-001      lost     its workers, time 1 (it died); it is tried again" in text
    assert "trials: 1 complete, 1 retrying; workers lost 1 times" in text
    assert "(trial-000, +12.50 points to no transfer" in text
    view.searched(12)
    assert view.num_jobs == 3, "a whole search changes nothing"


def test_a_resumed_view_knows_what_ended_before(tmp_path: Path) -> None:
    for name, role, state in (
        ("trial-000", "trial", "complete"),
        ("trial-001", "trial", "running"),
        ("b", "baseline", "failed"),
    ):
        (tmp_path / "trials" / name).mkdir(parents=True)
        about = {"trial_id": name, "role": role, "params": {}, "number": 0, "seed": 0, "state": state}
        write_record(tmp_path / "trials" / name / "trial.json", about)
        (tmp_path / "trials" / name / "epochs.jsonl").write_text('{"epoch": 1, "target_val_top1": 0.5}\n')
    (tmp_path / "trials/trial-001/trial.json").write_text('{"torn')
    view, out = view_and_output(terminal=True)
    view.remember(ended_runs(tmp_path))
    view.console.print(view.status())
    assert "trials: 1 complete" in out.getvalue()
    assert "1/3" in out.getvalue()
    assert "highest so far: 50.00 % (trial-000" in out.getvalue()


def test_a_budget_that_is_spent_means_fewer_jobs(tmp_path: Path) -> None:
    out = io.StringIO()
    sweep = sweep_config({"transfer.t_cycle": {"choice": [2, 4]}}, budget_epochs=2, confirm_seeds=1)
    budget = Budget(sweep, tmp_path, lambda: 0.0)
    view = View(Console(file=out, width=120), sweep, 23, budget)
    play(view, "trial-000", "trial", [0.25, 0.5])
    for epoch in (1, 2):
        budget({"job": "trial-000", "role": "trial", "event": "row", "row": {"epoch": epoch}})
    view.searched(2)
    assert view.num_jobs == 1 + 2
    assert "the budget of the search: 2 of 2 epochs is spent: no more trials begin" in out.getvalue()


def test_table_has_a_column_for_each_path_and_a_dash_where_nothing_was_drawn() -> None:
    trial = {"trial_id": "trial-000", "state": "failed", "epochs": 0, "value": None}
    out = io.StringIO()
    trials = [trial | {"params": {"transfer.t_cycle": 4}}, trial | {"params": {"transfer.adapter.rank": 2}}]
    Console(file=out, width=100).print(trials_table(trials, "target_val_top1"))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert lines[0] == ["trial", "state", "epochs", "val", "top1", "t_cycle", "rank"]
    assert lines[1] == ["trial-000", "failed", "0", "-", "4", "-"]
    assert lines[2] == ["trial-000", "failed", "0", "-", "-", "2"]


def test_a_table_with_trials_of_one_seed_and_of_several_is_shown() -> None:
    """As of a sweep that an earlier version let go on with other seeds_per_trial."""
    one = {"trial_id": "trial-000", "state": "complete", "epochs": 3, "value": 0.5, "params": {}}
    two = one | {"trial_id": "trial-001", "seeds": [0, 1], "values": [0.4, 0.6], "sd": 0.1}
    out = io.StringIO()
    Console(file=out, width=100).print(trials_table([one, two], "target_val_top1"))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert lines[1:] == [
        ["trial-000", "complete", "3", "50.00", "%", "1", "-"],
        ["trial-001", "complete", "3", "50.00", "%", "2", "10.00", "%"],
    ]


def test_units() -> None:
    gain = {"mean": 0.0123, "low": -0.01, "high": 0.03, "interval": "t", "p": 0.5}
    assert gain_text("target_test_top1", gain) == "+1.23 points, 95 % interval [-1.00, +3.00] (t), p 0.5"
    assert gain_text("target_val_loss", gain | {"low": None}) == "+0.0123 (one pair: no interval)"
    assert gain_text("target_test_em", gain | {"low": None}) == "+1.23 points (one pair: no interval)"
    assert show("target_val_loss", 1.23456) == "1.235"
    assert show("target_val_i2t_r1", 0.5) == "50.00 %"
    assert show("target_val_top1", None) == "-"


@pytest.mark.parametrize(
    ("differences", "mode", "text"),
    [
        (
            [0.01, -0.01, 0.02, -0.04, 0.08, 0.0],
            "max",
            "no gain shown: the interval holds 0 (p 0.69; 6 seeds could show p down to 0.031)",
        ),
        ([0.0] * 6, "max", "no gain shown: the interval holds 0 (p 1; 6 seeds could show p down to 0.031)"),
        ([0.01, 0.02, 0.03, 0.01, 0.02, 0.03], "max", "a gain is shown at the 5 % level (p 0.031, 6 seeds)"),
        ([0.01, 0.02, 0.03, 0.01, 0.02, 0.03], "min", "a loss is shown at the 5 % level (p 0.031, 6 seeds)"),
        ([-0.01, -0.02, -0.03, -0.01, -0.02, -0.03], "max", "a loss is shown at the 5 % level (p 0.031, 6 seeds)"),
        (
            [0.001, 0.001, 0.001, 0.001, 0.001, 0.9],
            "max",
            "a gain is shown at the 5 % level (p 0.031, 6 seeds), though the t interval holds 0",
        ),
        (
            [0.01, 0.02],
            "max",
            "too few seeds to show anything at the 5 % level: smallest p of 2 seeds is 2/2^2 = 0.5",
        ),
        ([0.01], "max", "too few seeds to show anything at the 5 % level: smallest p of 1 seed is 2/2^1 = 1"),
    ],
)
def test_the_verdict_says_what_was_found(differences: list[float], mode: str, text: str) -> None:
    assert verdict(gain(differences, [0.0] * len(differences)), mode) == text


def test_a_mapping_is_shown_in_every_place_by_what_it_names() -> None:
    params = {"transfer.adapter": {"kind": "linear", "rank": 4}, "transfer.t_cycle": 8}
    assert show_params(params) == "kind=linear rank=4 t_cycle=8"
    trial = {"trial_id": "trial-000", "state": "complete", "epochs": 1, "value": 0.5, "params": params}
    assert [column.header for column in trials_table([trial], "target_val_top1").columns][-3:] == [
        "kind",
        "rank",
        "t_cycle",
    ]
    axes = {"transfer_adapter_kind": "linear", "transfer_adapter_rank": 4, "transfer_t_cycle": 8}
    told = scalars({"trial_id": "trial-000", "params": params}, sweep_config({"transfer.t_cycle": {"choice": [2, 4]}}))
    assert axes.items() <= told.items()
    assert told["searched"] == "transfer.adapter.kind, transfer.adapter.rank, transfer.t_cycle"
    assert "<th>transfer.adapter.rank</th>" in trials_html([trial | {"error": None}])
    told = {"metric": "target_val_top1", "baseline": None, "confirmation": None}
    best = numbers(told | {"trials": [trial], "best": trial})
    assert (best["best_transfer_adapter_kind"], best["best_transfer_adapter_rank"]) == ("linear", 4)
