"""What mattered, on the run of the whole sweep: the real client against a stand-in of its server, and its files."""

import json
from pathlib import Path
from typing import Any

import pytest
import wandb

from analysis.importance.figures import FIGURES
from analysis.report.evidence import Evidence, gather
from mergenet.records.atomic import write_text
from mergenet.records.sealed import write_record
from sweeps.config.loading import dump_sweep
from sweeps.report.page import write_page
from sweeps.tracking.wandb_media import listed
from sweeps.tracking.wandb_mirror import Mirror
from sweeps.tracking.wandb_sync import sync_sweep
from tests.analysis.importance.sweeps import GATE, RANK, SEARCH, by_gate, drawn, write_sweep
from tests.sweeps.base import sweep_config
from tests.sweeps.wandb_base import SUMMARY
from tests.wandb_server import WandbServer

pytestmark = pytest.mark.slow  # W&B's real client and a server of our own

TABLES = {"importances", "ablation_path"}


def known(folder: Path, mode: str, count: int) -> tuple[Any, Path]:
    """A sweep of so many complete trials, whose value the gate decides alone."""
    path = write_sweep(folder / "sweep", drawn(count), by_gate)
    sweep = sweep_config(SEARCH, wandb={"mode": mode})
    write_text(path / "sweep.yaml", dump_sweep(sweep))
    write_record(path / "sweep.json", {"status": "finished"})
    write_record(path / "summary.json", SUMMARY)
    return sweep, path


def mirrored(sweep: Any, folder: Path, evidence: Evidence | None) -> list[str]:
    said: list[str] = []
    mirror = Mirror(sweep, folder, said.append)
    mirror.summarize(SUMMARY, evidence)
    mirror.close()
    wandb.teardown()
    return [line for line in said if "runs lack something" not in line]  # the trials are not mirrored here


def table_in(server: WandbServer, key: str) -> dict[str, Any]:
    (body,) = {body for name, body in server.files.items() if f"media/table/{key}" in name}
    found: dict[str, Any] = json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    return found


def test_the_summary_run_has_importances_and_plots(server: WandbServer, tmp_path: Path) -> None:
    sweep, folder = known(tmp_path, "online", 24)
    line, evidence = write_page(folder)
    assert line.startswith("report: ") and evidence is not None and evidence.told is not None
    assert mirrored(sweep, folder, evidence) == []
    run = server.runs["tiny-summary"]
    assert run.summary.keys() >= TABLES and run.summary["importances"]["_type"] == "table-file"
    plots = {name for name in run.summary if name.startswith("plots/")}
    assert {"plots/importance", "plots/path", "plots/marginals", "plots/learning_curves"} <= plots
    assert plots <= {f"plots/{one.name}" for one in FIGURES}
    assert "plots/stopping" not in plots, "no trial was stopped: what that risked cannot be drawn"
    assert run.exit_code == 0 and run.summary["best_trial"] == "trial-000"
    table, own = table_in(server, "importances"), evidence.told.importances
    assert table["columns"] == list(own.columns)
    first = dict(zip(table["columns"], table["data"][0], strict=True))
    assert (first["evaluator"], first["parameter"], first["n"]) == ("PED-ANOVA", GATE, 24)
    assert first["p_value"] == own["p_value"].iloc[0] < 0.05
    assert {row[1] for row in table["data"]} == {GATE, RANK}
    kinds = {one.kind for one in server.artifacts}
    assert "run_table" in kinds
    bodies = [body for name, body in server.files.items() if "media/plotly/plots/" in name]
    assert len(bodies) == len(plots)
    for body in bodies:
        assert b"bdata" not in body, "an older plotly knows no arrays as bytes"
        json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_too_few_trials_have_none(server: WandbServer, tmp_path: Path) -> None:
    sweep, folder = known(tmp_path, "online", 4)
    assert mirrored(sweep, folder, gather(folder)) == []
    run = server.runs["tiny-summary"]
    assert not [name for name in run.summary if name in TABLES or name.startswith("plots/")]
    assert (run.summary["best_trial"], run.exit_code) == ("trial-000", 0)


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_sync_makes_them_from_the_records(server: WandbServer, tmp_path: Path, mode: str) -> None:
    _, folder = known(tmp_path, "disabled", 12)
    said: list[str] = []
    sync_sweep(folder, mode, None, said.append)
    wandb.teardown()
    assert said == [f"12 runs are whole {mode}, 48 epochs were added to 12 of them"]
    if mode == "online":
        assert server.runs["tiny-summary"].summary.keys() >= {*TABLES, "plots/importance"}
        return
    assert server.runs == {}
    names = [path.name for path in folder.glob("wandb/offline-run-*-tiny-summary/files/media/*/**/*.json")]
    assert {name.partition("_0_")[0].partition("_1_")[0] for name in names} >= {*TABLES, "importance", "marginals"}


def test_trouble_with_them_costs_a_line(server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, folder = known(tmp_path, "online", 12)
    evidence = gather(folder)

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("no\nway")

    monkeypatch.setattr("analysis.report.evidence.importances", broken)
    said = mirrored(sweep, folder, evidence)
    (line,) = said
    assert line == (
        "wandb: what mattered is not there (ZeroDivisionError: no way); `mergenet analyze importance` tells it"
    )
    run = server.runs["tiny-summary"]
    assert (run.summary["best_trial"], run.summary["state"], run.exit_code) == ("trial-000", "complete", 0)


def test_refused_artifacts_leave_the_files(server: WandbServer, tmp_path: Path) -> None:
    sweep, folder = known(tmp_path, "online", 12)
    server.refuse_artifacts = True
    mirrored(sweep, folder, gather(folder))
    assert len(table_in(server, "importances")["data"]) == 4
    assert server.runs["tiny-summary"].exit_code == 0


def test_figures_hold_lists_and_no_number_that_json_has_not() -> None:
    import numpy as np

    array = {"bdata": "AAAAAAAA8D8AAAAAAAD4fw==", "dtype": "f8"}
    assert listed({"x": array, "y": (1, float("nan")), "z": np.array([[1.0, np.inf]])}) == {
        "x": [1.0, None],
        "y": [1, None],
        "z": [[1.0, None]],
    }
    assert listed({"bdata": "AQIDBA==", "dtype": "i1", "shape": "2, 2"}) == [[1, 2], [3, 4]]
