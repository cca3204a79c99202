"""A run that failed has no value anywhere, whatever it reached before; status and summary say alike what to do."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from analysis.tables.load import load_trials, measure_columns
from mergenet.records.sealed import write_record
from sweeps.config.loading import dump_sweep
from sweeps.planning.plan import Plan
from sweeps.report.status import read_status, status_lines
from sweeps.report.summary import print_summary, summarize
from sweeps.tracking.wandb_about import ending_of
from sweeps.tracking.wandb_summary import how_it_ended, numbers
from sweeps.trials.recorded_source import SourcePlan
from tests.analysis.folders import make_run
from tests.records import edit_record
from tests.sweeps.base import space_of, sweep_config, write_base

SEARCH = {"transfer.t_cycle": {"choice": [2, 4]}}
PLAN = Plan(sweep_config(SEARCH, num_trials=2, confirm_seeds=0), space_of(SEARCH), SourcePlan(), "", 2)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep whose network raises after its first epoch, in every run."""
    folder = tmp_path / "sweep"
    folder.mkdir()
    write_base(folder)
    (folder / "sweep.yaml").write_text(dump_sweep(PLAN.sweep))
    write_record(folder / "sweep.json", {"status": "failed", "error": "no trial trained to its end"})
    for name, role, number in (("baseline", "baseline", 0), ("trial-000", "trial", 0), ("trial-001", "trial", 1)):
        trial = {"role": role, "number": number, "state": "failed", "error": "it raised", "params": {}}
        make_run(folder / "trials" / name, (0.125,), None, trial, more={"status": "failed", "error": "it raised"})
    return folder


def test_it_has_no_value_in_summary_status_table_and_weights_and_biases(sweep: Path) -> None:
    summary = summarize(PLAN, sweep, {"search": 1.0}, None)
    assert summary["baseline"]["value"] is None
    assert [trial["value"] for trial in summary["trials"]] == [None, None]
    assert how_it_ended(summary, PLAN.sweep, sweep, None).summary == {"state": "failed", "trials_failed": 2}
    assert numbers(summary) == {"trials_failed": 2}
    about = {"trial_id": "baseline", "role": "baseline"}
    told = ending_of(PLAN.sweep, sweep, about, "failed", "it raised", None).summary
    assert (told["state"], told["error"]) == ("failed", "it raised")
    assert told.keys().isdisjoint({"objective", "best_epoch", *measure_columns(load_trials(sweep))})
    found = read_status(sweep)
    assert found["best"] is None
    table = load_trials(sweep)
    assert table[measure_columns(table)].isna().all(axis=None)
    assert table["best_epoch"].isna().all()
    console = Console(width=200)
    with console.capture() as captured:
        print_summary(sweep, summary, console)
    said = captured.get()
    assert "no transfer, same recipe and seed: no value, it is failed\n" in said
    shown = "\n".join(status_lines(found))
    for text in (said, shown, json.dumps(summary), table.to_csv()):
        assert "12.5" not in text
        assert "0.125" not in text


def test_status_and_summary_advise_alike(sweep: Path) -> None:
    console = Console(width=200)
    with console.capture() as captured:
        print_summary(sweep, summarize(PLAN, sweep, {}, None), console)
    lines = list(status_lines(read_status(sweep)))
    advice = f"train them again: retry_failed=True (mergenet sweep resume {sweep} --retry-failed)"
    assert lines[-1] == f"3 runs failed (baseline, trial-000, trial-001); if the cause is mended, {advice}"
    assert lines[-1] in captured.get()


def test_one_failed_baseline_is_told_of_beside_what_to_do_next(sweep: Path) -> None:
    for name in ("trial-000", "trial-001"):
        file = sweep / "trials" / name / "trial.json"
        edit_record(file, {"state": "running", "error": None})
    (sweep / "sweep.json").write_text('{"status": "stopped"}')
    *_, failed, following = status_lines(read_status(sweep))
    assert failed.startswith("1 run failed (baseline); if the cause is mended, train them again: ")
    assert following.startswith(f"next: mergenet sweep resume {sweep} (time left")
