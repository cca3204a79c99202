"""The report's links to runs on W&B, from the files of the real client."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import wandb

from analysis.report.page import write_report
from analysis.wandb_runs import links
from analysis.wandb_runs.links import run_urls
from sweeps.tracking.wandb_mirror import Mirror
from sweeps.tracking.wandb_sync import sync_sweep
from tests.sweeps.wandb_base import begin, end, epochs, play, record, sweep_folder
from tests.wandb_server import WandbServer


def mirrored(tmp_path: Path, mode: str, *jobs: str) -> Path:
    sweep, folder = sweep_folder(tmp_path, mode)
    mirror = Mirror(sweep, folder, print)
    for job in jobs:
        record(folder, job, 2)
        play(mirror, job, *begin(), *epochs(1, 2), end())
    mirror.close()
    wandb.teardown()
    return folder


def table_of(page: Path) -> dict[str, Any]:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    found: dict[str, Any] = json.loads(data)["table"]
    return found


def test_a_row_links_to_its_run_on_w_and_b(server: WandbServer, tmp_path: Path) -> None:
    folder = mirrored(tmp_path, "online", "trial-000")
    record(folder, "trial-001", 2)  # which W&B has not
    url = f"{server.url}/stand-in/mergenet/runs/tiny-trial-000"
    assert run_urls(folder) == {"trial-000": url}
    page, _ = write_report(folder)
    table = table_of(page)
    names = [row[0] for row in table["rows"]]
    assert dict(zip(names, table["tracked"], strict=True)) == {"trial-000": url, "trial-001": ""}


def test_offline_there_is_none_until_it_is_synced_and_the_last_project_counts(
    server: WandbServer, tmp_path: Path
) -> None:
    folder = mirrored(tmp_path, "offline", "trial-000")
    assert run_urls(folder) == {}
    assert table_of(write_report(folder)[0])["tracked"] == [""]
    sync_sweep(folder, "online", None, print)
    wandb.teardown()
    assert run_urls(folder)["trial-000"] == f"{server.url}/stand-in/mergenet/runs/tiny-trial-000"


@pytest.mark.parametrize(
    "notes",
    [
        "mine",
        "[x](javascript:alert(1)/runs/y)",
        'see [x](https://host/"onclick=alert(1)/runs/y)',
        "[x](https://host/<script>/runs/y)",
        "see [x](https://host/me/other/runs/y)",
    ],
)
def test_what_is_no_link_of_ours_is_none(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: str
) -> None:
    """A user's own notes, and those that somebody has made up."""
    monkeypatch.setenv("WANDB_NOTES", notes)
    folder = mirrored(tmp_path, "online", "trial-000")
    assert server.runs["tiny-trial-000"].about["notes"].startswith(notes[:10])
    assert run_urls(folder) == {}


def test_damaged_files_are_none(tmp_path: Path) -> None:
    file = tmp_path / "wandb/run-1-x/run-x.wandb"
    file.parent.mkdir(parents=True)
    for content in (b"", b":W&B", b"\x00" * 100, b":W&B\x00\x00\x00" + b"\xff" * 60):
        file.write_bytes(content)
        assert run_urls(tmp_path) == {}


def test_only_the_beginning_of_a_file_is_read(server: WandbServer, tmp_path: Path) -> None:
    sweep, folder = sweep_folder(tmp_path, "online")
    mirror = Mirror(sweep, folder, print)
    play(mirror, "trial-000", *begin(), *epochs(1, 800), end())
    mirror.close()
    wandb.teardown()
    (file,) = folder.glob("wandb/run-*/*.wandb")
    assert file.stat().st_size > 2 * links.BLOCK
    file.write_bytes(file.read_bytes()[: links.BLOCK])
    assert run_urls(folder) == {"trial-000": f"{server.url}/stand-in/mergenet/runs/tiny-trial-000"}
