"""The real client, and a server for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.tracking import wandb_mirror, wandb_run
from tests.sweeps.wandb_base import client
from tests.wandb_server import WandbServer


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with client(tmp_path, monkeypatch):
        yield tmp_path


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with WandbServer() as made, client(tmp_path, monkeypatch, made.url):
        yield made


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives up on W&B after seconds, and tries again at once."""
    monkeypatch.setattr(wandb_run, "INIT_SECONDS", 2)
    monkeypatch.setattr(wandb_run, "FINISH_SECONDS", 2)
    monkeypatch.setattr(wandb_mirror, "RETRY_SECONDS", 0)
