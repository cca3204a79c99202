"""The workspace view of a sweep, by the real package and client against a stand-in of W&B's server."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import wandb

from mergenet.records.sealed import write_record
from sweeps.tracking import wandb_workspace
from sweeps.tracking.wandb_mirror import Mirror
from sweeps.tracking.wandb_sync import sync_sweep
from tests.sweeps.wandb_base import SUMMARY, sweep_folder
from tests.wandb_server import OPERATIONS, WandbServer

pytest.importorskip("wandb_workspaces")

SEARCH = {"transfer.t_cycle": {"choice": [2, 4]}, "transfer.adapter.gate": {"float": [0.1, 0.5], "log": True}}


def summarized(tmp_path: Path, **changes: Any) -> tuple[Path, list[str]]:
    """The folder, and what was said."""
    sweep, folder = sweep_folder(tmp_path, "online", **changes)
    said: list[str] = []
    mirror = Mirror(sweep, folder, said.append)
    mirror.summarize(SUMMARY)
    mirror.close()
    return folder, said


def test_it_has_the_gain_what_mattered_and_curves_of_the_sweep(
    server: WandbServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, said = summarized(tmp_path, search=SEARCH)
    assert said == []
    assert capfd.readouterr().err == ""
    (view,) = server.views.values()
    assert (view["displayName"], view["projectName"]) == ("tiny: gain, importance, curves", "mergenet")
    section = view["spec"]["section"]
    (runs,) = section["runSets"]
    assert (
        runs["filters"]["filters"][0].items() >= {"key": {"section": "run", "name": "group"}, "value": "tiny"}.items()
    )
    assert runs["grouping"] == [{"section": "config", "name": "variant.value"}]
    panels = [panel for part in section["panelBankConfig"]["sections"] for panel in part["panels"]]
    kinds = [panel["viewType"] for panel in panels]
    assert kinds == [
        *("Bar Chart", "Bar Chart", "Bar Chart"),
        *("Parallel Coordinates Plot", "Parameter Importance"),
        *("Run History Line Plot", "Run History Line Plot", "Run History Line Plot"),
    ]
    assert panels[0]["config"]["metrics"] == ["gain_target_test_top1_mean"], "one seed has no interval"
    columns = [(column["accessor"], column.get("log")) for column in panels[3]["config"]["columns"]]
    assert columns == [
        ("config:transfer_t_cycle.value", False),
        ("config:transfer_adapter_gate.value", True),
        ("summary:objective", None),
    ]
    assert panels[4]["config"]["targetKey"] == "objective"
    curve = {"xAxis": "epoch", "metrics": ["target_val_top1"], "groupBy": "variant.value", "groupArea": "stddev"}
    assert panels[5]["config"].items() >= curve.items()
    url = server.runs["tiny-summary"].setting("workspace")
    assert url.startswith(f"{server.url}/stand-in/mergenet?nw=")


def test_it_is_made_once(server: WandbServer, tmp_path: Path) -> None:
    folder, _ = summarized(tmp_path)
    write_record(folder / "summary.json", SUMMARY)
    wandb.teardown()
    sync_sweep(folder, "online", None, print)
    assert len(server.views) == 1, "a user may have changed it since"


def test_offline_it_is_made_by_sync(server: WandbServer, tmp_path: Path) -> None:
    sweep, folder = sweep_folder(tmp_path, "offline")
    write_record(folder / "summary.json", SUMMARY)
    said: list[str] = []
    mirror = Mirror(sweep, folder, said.append)
    mirror.summarize(SUMMARY)
    mirror.close()
    assert len(said) == 1
    assert said[0].startswith("wandb: artifacts and the workspace are not made offline; `mergenet sweep sync ")
    wandb.teardown()
    sync_sweep(folder, "online", None, said.append)
    assert len(server.views) == 1
    assert said[1:] == ["0 runs are whole online, 0 epochs were added to 0 of them"]


def test_a_refused_one_costs_a_line(server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(OPERATIONS, "UpsertView2")
    _, said = summarized(tmp_path)
    assert len(said) == 1
    assert said[0].startswith("wandb: no workspace view (")
    assert said[0].endswith("; the runs are there as usual")
    assert (server.runs["tiny-summary"].exit_code, "workspace" in server.runs["tiny-summary"].config) == (0, False)


def test_without_the_package_there_is_none(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_workspace, "PACKAGE", "wandb_workspaces_that_nobody_installed")
    assert importlib.util.find_spec(wandb_workspace.PACKAGE) is None
    _, said = summarized(tmp_path)
    assert (said, server.views, server.runs["tiny-summary"].exit_code) == ([], {}, 0)
