"""The report as the sweep writes it: while it runs, and in a folder that refuses it."""

import json
import re
from pathlib import Path

from click.testing import CliRunner

from mergenet.records.sealed import write_record
from sweeps.cli.commands import sweep as command
from sweeps.report.page import write_page
from sweeps.trials.sweep_dir import locked
from tests.sweeps.folders import CYCLES, planned, write_sweep


def begun(place: Path, status: str) -> Path:
    plan = planned(place, CYCLES, num_trials=3, confirm_seeds=0)
    trials = [({"transfer.t_cycle": 2}, [0.5, 0.55]), ({"transfer.t_cycle": 4}, [0.4], "pruned")]
    folder = write_sweep(place / "begun", plan, trials)
    write_record(folder / "sweep.json", {"status": status, "error": None, "seconds": {}})
    return folder


def test_status_writes_the_report_of_a_sweep_that_runs(tmp_path: Path) -> None:
    folder = begun(tmp_path, "running")
    with locked(folder):
        done = CliRunner().invoke(command, ["status", str(folder), "--html"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == f"report: {folder / 'report.html'}"
    assert "the sweep has not ended (running)" in (folder / "report.html").read_text()
    assert "mergenet sweep status" in (folder / "report.md").read_text()


def test_json_stays_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["status", str(begun(tmp_path, "stopped")), "--html", "--json"])
    assert json.loads(done.stdout)["status"] == "stopped"
    assert done.stderr.startswith("report: ")


def test_a_sweep_that_has_just_ended_is_not_told_to_run(tmp_path: Path) -> None:
    folder = begun(tmp_path, "running")
    assert write_page(folder, "finished")[0] == f"report: {folder / 'report.html'}"
    assert "has not ended" not in (folder / "report.html").read_text()


def test_what_refuses_the_report_is_one_line_and_no_error(tmp_path: Path) -> None:
    assert re.match(r"no report: .* must hold runs, found none", write_page(tmp_path)[0])
    folder = begun(tmp_path, "finished")
    (folder / "report.html").mkdir()
    line, _ = write_page(folder)
    assert line.startswith("no report: ") and "must be a file to write, got a folder" in line
    assert len(line.splitlines()) == 1
