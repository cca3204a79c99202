"""`mergenet sweep status`: the state of a sweep from its folder alone, in every state that it can be found in."""

import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mergenet.records import many_runs
from mergenet.records.run_record import epochs_hash, read_columns
from mergenet.records.sealed import read_record, write_record
from sweeps.cli.commands import sweep as command
from sweeps.config.loading import dump_sweep
from sweeps.report import status
from sweeps.report.status import is_locked, rate_text, read_status, status_lines
from sweeps.trials.ranking import leader
from sweeps.trials.sweep_dir import locked
from tests.sweeps.base import sweep_config, write_base
from tests.sweeps.folders import CYCLES, TEST, VAL, write_begun_sweep, write_run

GAIN = {"mean": 0.1, "low": 0.0, "high": 0.2, "p": 0.5, "smallest_p": 0.5, "num_pairs": 2}


def write_summary(folder: Path, confirmation: dict[str, Any]) -> None:
    found = {"metric": "target_val_top1", "trials": [], "baseline": None, "best": None, "seconds": {}}
    write_record(folder / "summary.json", found | {"confirmation": {"seeds": [1]} | confirmation})


def text(folder: Path) -> str:
    return "\n".join(status_lines(read_status(folder)))


def test_a_running_sweep(tmp_path: Path) -> None:
    write_begun_sweep(tmp_path, "running", budget_epochs=100)
    with locked(tmp_path):
        found = read_status(tmp_path)
        shown = text(tmp_path)
    assert (found["status"], found["driver"]) == ("running", True)
    assert found["trials"] == {"complete": 1, "pruned": 1, "running": 1, "waiting": 1}
    assert found["best"] == {"trial": "trial-000", "value": 0.55, "epochs": 2, "lead": pytest.approx(0.05)}
    assert (found["epochs_done"], found["epochs_expected"]) == (5, 2 + 8 + 4)
    assert found["seconds_left"] == 9 * 20
    assert "highest so far: 55.00 % (trial-000, +5.00 points to no transfer; not a gain: the best of many" in shown
    assert "budget of the search: 3 of 100 epochs" in shown
    assert "time left: about 3 min 0 s; next: wait" in shown


@pytest.mark.parametrize(
    ("rate", "words"), [(1699.96, "1,700"), (123456.0, "120,000"), (9.96, "10"), (2.5, "2.5"), (0.034, "0.034")]
)
def test_a_rate_is_rounded(rate: float, words: str) -> None:
    assert rate_text(rate) == f"about {words} epochs a minute"


def test_of_equal_trials_the_one_with_fewer_adapter_parameters_leads_as_in_the_summary() -> None:
    parameters = {"trial-1000": 4, "trial-002": 4, "trial-001": 4, "trial-000": 9}
    runs = {name: [{"epoch": 1, "target_val_top1": 0.5, "adapter_parameters": n}] for name, n in parameters.items()}
    best = leader(runs, {}, "target_val_top1", 1)
    assert best is not None
    assert best["trial"] == "trial-001"
    best = leader(runs, {"trial-001": "failed"}, "target_val_top1", 1)
    assert best is not None
    assert best["trial"] == "trial-002"


def test_a_killed_sweep_is_told_from_a_running_one_by_its_lock(tmp_path: Path) -> None:
    write_begun_sweep(tmp_path, "running")
    found = read_status(tmp_path)
    assert (found["status"], found["driver"]) == ("killed", False)
    assert found["trials"] == {"complete": 1, "pruned": 1, "unfinished": 1, "waiting": 1}
    assert f"next: mergenet sweep resume {found['folder']}" in text(tmp_path)


def test_what_is_to_be_typed_next_is_quoted(tmp_path: Path) -> None:
    folder = tmp_path / "my sweep"
    folder.mkdir()
    assert f"next: mergenet sweep resume '{folder}'" in text(write_begun_sweep(folder, "stopped"))


def test_output_that_nobody_reads_any_more_stops_nothing() -> None:
    """`mergenet sweep run ... | head -1`: what follows is not shown, and the sweep goes on."""
    code = (
        "import sys; from sweeps.cli.failures import console_of; console = console_of()\n"
        "for number in range(20000): console.print(number)\n"
        "print('goes on', file=sys.stderr)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.stderr.read() == "goes on\n"
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("status", ["stopped", "failed"])
def test_a_stopped_or_failed_sweep(tmp_path: Path, status: str) -> None:
    write_begun_sweep(tmp_path, status)
    assert f": {status} (no driver)\n" in text(tmp_path)
    assert "next: mergenet sweep resume" in text(tmp_path)


def test_a_finished_sweep_shows_what_was_confirmed(tmp_path: Path) -> None:
    write_begun_sweep(tmp_path, "finished")
    gain = {"mean": 0.01, "low": None, "high": None, "p": 1.0, "smallest_p": 1.0, "num_pairs": 1}
    write_summary(tmp_path, {"target_val_top1": {"gain": gain}, "target_test_top1": {"gain": gain}})
    shown = text(tmp_path)
    assert "confirmed on fresh seeds: +1.00 points (one pair: no interval); too few seeds" in shown
    assert "best.yaml; mergenet analyze table" in shown
    assert shown.endswith("--open")
    assert read_status(tmp_path)["seconds_left"] == 0


def test_controls_are_counted_and_told(tmp_path: Path) -> None:
    write_begun_sweep(tmp_path, "finished", confirm_controls=["noise"])
    shown = {"mean": 0.01, "low": 0.005, "high": 0.015, "p": 0.031, "smallest_p": 0.031, "num_pairs": 6}
    control = {"seeds": [1], "target_test_top1": {"gain": shown, "best_minus_control": shown | {"p": 0.5}}}
    metrics = {metric: {"gain": shown} for metric in ("target_val_top1", "target_test_top1")}
    write_summary(tmp_path, metrics | {"controls": {"noise": control}})
    assert "  test top1, controls: a gain is shown with noise for a source too: it may be reg" in text(tmp_path)
    state = read_record(tmp_path / "sweep.json")
    write_record(tmp_path / "sweep.json", state | {"status": "stopped"})
    assert read_status(tmp_path)["epochs_expected"] == 2 + 8 + 6


def test_the_lead_waits_for_the_baseline(tmp_path: Path) -> None:
    write_begun_sweep(tmp_path, "stopped")
    shutil.rmtree(tmp_path / "trials/baseline")
    write_run(tmp_path, "baseline", [0.4], "running")
    assert read_status(tmp_path)["best"]["lead"] is None
    assert "no transfer is not that far yet" in text(tmp_path)


def test_the_time_left_ends_with_the_budget(tmp_path: Path) -> None:
    """Half of the hours are spent on 3 epochs of trials: 3 more are to come, not the 5 of all trials."""
    write_begun_sweep(tmp_path, "stopped", budget_hours=200 / 3600)
    found = read_status(tmp_path)
    assert found["epochs_expected"] == 2 + 6 + 4
    assert found["seconds_left"] == 7 * 20
    assert "budget of the search: 0.0278 of 0.0555556 hours" in text(tmp_path)


def test_a_new_sweep_has_nothing_yet(tmp_path: Path) -> None:
    write_base(tmp_path)
    (tmp_path / "sweep.yaml").write_text(dump_sweep(sweep_config(CYCLES, num_trials=4)))
    (tmp_path / "sweep.json").write_text('{"status": "running"}')
    found = read_status(tmp_path)
    assert (found["best"], found["epochs_done"], found["seconds_left"]) == (None, 0, None)
    assert "best so far: none yet" in text(tmp_path)


@pytest.mark.parametrize(
    ("budget", "waiting"), [({"budget_epochs": 4}, 1), ({"budget_epochs": 3}, 0), ({"budget_hours": 100 / 3600}, 0)]
)
def test_no_trial_waits_once_the_budget_is_spent(tmp_path: Path, budget: dict[str, Any], waiting: int) -> None:
    write_begun_sweep(tmp_path, "stopped", **budget)
    assert read_status(tmp_path)["trials"].get("waiting", 0) == waiting


@pytest.mark.parametrize(("asked", "waiting"), [(6, 1), (3, 4)])
def test_more_trials_than_the_space_holds_do_not_wait(tmp_path: Path, asked: int, waiting: int) -> None:
    """Three of four trials have begun; sweep.yaml then asks for seven, of which a space that held fewer has four."""
    write_begun_sweep(tmp_path, "stopped")
    (tmp_path / "sweep.yaml").write_text(dump_sweep(sweep_config(CYCLES, num_trials=7)))
    state = read_record(tmp_path / "sweep.json")
    write_record(tmp_path / "sweep.json", state | {"num_trials": {"asked": asked, "held": min(asked, 4)}})
    assert read_status(tmp_path)["trials"]["waiting"] == waiting


def test_a_look_leaves_the_lock_to_the_driver(tmp_path: Path) -> None:
    """Another process looks without end while a driver takes and leaves the folder."""
    code = "from pathlib import Path\nfrom sweeps.report.status import is_locked\nprint('on', flush=True)\n"
    code += f"while True: is_locked(Path({str(tmp_path)!r}))"
    root = str(Path(__file__).parents[3])
    with locked(tmp_path):
        assert is_locked(tmp_path)
    looker = subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE)
    try:
        assert looker.stdout is not None
        looker.stdout.readline()
        for _ in range(50):
            with locked(tmp_path):
                pass
    finally:
        looker.kill()
        looker.communicate()
    assert not is_locked(tmp_path)


def test_a_second_look_sees_what_has_changed_and_leaves_nothing_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of enough runs a look is remembered, in the user's cache folder."""
    monkeypatch.setattr(many_runs, "FEWEST", 1)
    monkeypatch.setattr(many_runs, "SETTLED", 0.01)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "sweep"
    folder.mkdir()
    write_begun_sweep(folder, "stopped", constraints={"step_seconds": {"max": 1.0}})
    rows = [{"epoch": n, "step": 4 * n, "target_val_top1": 0.5 + n / 10, "seconds_target": 2.0} for n in (1, 2)]
    (folder / "trials/trial-000/epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    time.sleep(0.05)
    files = sorted(folder.rglob("*"))
    found = read_status(folder)
    assert found["best"]["trial"] == "trial-000", "its steps take half a second"
    assert read_status(folder) == found
    assert sorted(folder.rglob("*")) == files
    assert any((tmp_path / "cache/mergenet").iterdir())
    slow = [row | {"seconds_target": 8.0} for row in rows]
    (folder / "trials/trial-000/epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in slow))
    assert read_status(folder)["best"]["trial"] == "trial-001"
    (folder / "trials/trial-001/trial.json").write_text("{")
    again = read_status(folder)
    assert list(again["damaged"]) == ["trial-001"]
    assert again["best"] is None


ROWS: dict[str, list[float | None]] = {
    "best in the middle": [0.2, 0.9, 0.1],
    "the same twice": [0.7, 0.7, 0.6],
    "no value": [None, None, None],
    "diverged": [0.6, math.nan, math.nan],
    "one epoch": [0.8],
}


@pytest.mark.parametrize(
    "bounds", [{}, {"adapter_parameters": {"max": 20}}, {"target_val_loss": {"max": 0.5}}], ids=str
)
@pytest.mark.parametrize("values", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("killed", [False, True])
def test_the_best_epoch_alone_gives_the_same_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[float | None], bounds: Any, killed: bool
) -> None:
    """As all epochs do, also where a killed run has one that result.json does not count, and it is the best."""
    write_begun_sweep(tmp_path, "stopped", constraints=bounds)
    rows = [
        {"epoch": n, "step": 4 * n, "target_val_top1": value, "target_val_loss": 1 / n, "adapter_parameters": 10 * n}
        for n, value in enumerate(values, start=1)
    ]
    known = {n: value for n, value in enumerate(values, start=1) if value is not None and not math.isnan(value)}
    best = max(known, key=lambda n: known[n], default=None)
    result = {"status": "running" if killed else "stopped", "error": None, "epochs_done": len(rows)}
    result |= {"epochs_sha256": epochs_hash(rows), "best_epoch": best, "metric": "target_val_top1"}
    write_record(tmp_path / "trials/trial-001/result.json", result)
    if killed:
        rows.append(rows[-1] | {"epoch": len(rows) + 1, "target_val_top1": 0.95})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "trials/trial-001/epochs.jsonl").write_text(text)
    found = read_status(tmp_path)
    if not bounds:
        assert (found["best"]["value"] == 0.95) is killed
    monkeypatch.setattr(status, "needed", lambda run, result, columns: read_columns(run, result, columns))
    assert read_status(tmp_path) == found


def test_the_command_as_json_and_a_foreign_folder(tmp_path: Path) -> None:
    write_begun_sweep(tmp_path, "stopped")
    files = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(command, ["status", str(tmp_path), "--json", "--watch", "1"])
    assert (done.exit_code, json.loads(done.stdout)["status"]) == (0, "stopped"), "nobody at work, nothing to watch"
    assert sorted(tmp_path.rglob("*")) == files
    write_run(tmp_path, "confirm-best-1", [math.nan], "complete")
    write_summary(tmp_path, {VAL: {"gain": GAIN | {"low": math.nan, "high": math.nan}}, TEST: {"gain": GAIN}})
    write_record(tmp_path / "sweep.json", {"status": "finished"})
    done = CliRunner().invoke(command, ["status", str(tmp_path), "--json"])
    read = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert read["confirmation"][VAL]["gain"]["low"] is None
    (tmp_path / "other").mkdir()
    foreign = CliRunner().invoke(command, ["status", str(tmp_path / "other")])
    assert foreign.exit_code == 2
    assert "must be a sweep folder, with sweep.yaml, sweep.json and base.yaml, to have a status" in foreign.stderr
