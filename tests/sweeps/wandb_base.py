"""Sweep folders, events and a client for the tests of the mirror."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from analysis.names import SWEEP_FILE
from mergenet.config.loading import dump_yaml
from mergenet.records.atomic import write_text
from mergenet.records.run_record import write_epochs
from mergenet.records.sealed import write_record
from sweeps.config import SweepConfig
from sweeps.config.loading import dump_sweep
from sweeps.tracking.wandb_mirror import Mirror
from tests.sweeps.base import CONV, base_config, sweep_config, write_base

KEY = "c0ffee" * 6 + "c0ff"  # of 40 digits, as the client wants it
SEARCH = {"transfer.t_cycle": {"choice": [2, 4]}}
PARAMS = {"transfer.pairs": [CONV], "transfer.t_cycle": 4}
BEST = {
    "trial_id": "trial-000",
    "number": 0,
    "state": "complete",
    "epochs": 2,
    "value": 0.2,
    "params": {"transfer.t_cycle": 4},
}
FAILED_ONE = {
    "trial_id": "trial-001",
    "number": 1,
    "state": "failed",
    "epochs": 0,
    "value": None,
    "params": {"a": "<b>"},
}
GAIN = {"mean": 0.05, "low": None, "high": None, "p": 0.5, "smallest_p": 1.0, "num_pairs": 1}
SUMMARY: dict[str, Any] = {
    "metric": "target_val_top1",
    "trials": [BEST, FAILED_ONE],
    "baseline": BEST | {"trial_id": "baseline", "value": 0.1, "params": {}},
    "best": BEST,
    "confirmation": {"seeds": [1], "target_val_top1": {"gain": GAIN}, "target_test_top1": {"gain": GAIN}},
    "seconds": {},
}
PROVENANCE = {
    "config_hash": "0123456789ab",
    "data_hashes": {"target": "ab" * 32},
    "versions": {"mergenet": "9.8", "torch": "7.6"},
    "git_commit": "f" * 40,
    "git_dirty": True,
}


def client_environment(folder: Path, url: str = "http://127.0.0.1:9") -> dict[str, str]:
    """Everything that the client reads or writes stays below the folder; the default url has no server."""
    places = {f"WANDB_{name}_DIR": str(folder / f"client-{name.lower()}") for name in ("CONFIG", "CACHE", "DATA")}
    fixed = {"WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false", "WANDB_BASE_URL": url, "HOME": str(folder)}
    return places | fixed | {"WANDB_DIR": str(folder)}


@contextlib.contextmanager
def client(folder: Path, monkeypatch: pytest.MonkeyPatch, url: str = "http://127.0.0.1:9") -> Iterator[None]:
    """The real client with that environment, in a process of its own that ends with the block."""
    for name, value in client_environment(folder, url).items():
        monkeypatch.setenv(name, value)
    with contextlib.suppress(ConnectionError):
        wandb.teardown()  # a client that another test has set up would keep its own server
    yield
    with contextlib.suppress(ConnectionError):
        wandb.teardown()


def sweep_folder(folder: Path, mode: str, **changes: Any) -> tuple[SweepConfig, Path]:
    sweep = sweep_config(changes.pop("search", SEARCH), wandb={"mode": mode}, **changes)
    path = folder / "sweep"
    path.mkdir(exist_ok=True)
    write_text(path / SWEEP_FILE, dump_sweep(sweep))
    write_base(path)
    write_record(path / "sweep.json", {"status": "running", "name": sweep.name})
    return sweep, path


def rows(first: int, last: int) -> list[dict[str, Any]]:
    return [
        {"epoch": epoch, "step": 10 * epoch, "target_val_loss": 1 / epoch, "target_val_top1": epoch / 10}
        for epoch in range(first, last + 1)
    ]


def record(
    folder: Path, job: str, last: int, state: str = "complete", role: str = "trial", seed: int = 0, **changes: Any
) -> None:
    """What the worker would have written of a job with so many epochs. changes: to its configuration."""
    path = folder / "trials" / job
    path.mkdir(parents=True, exist_ok=True)
    write_epochs(path, rows(1, last))
    about = {"trial_id": job, "role": role, "params": PARAMS, "number": 3, "seed": seed, "state": state, "error": None}
    write_record(path / "trial.json", about)
    write_text(path / "config.yaml", dump_yaml(base_config(seed=seed, **changes)))
    write_record(path / "provenance.json", PROVENANCE)
    result = {"status": "finished", "error": None, "epochs_done": last, "best_epoch": last}
    write_record(path / "result.json", result | {"metric": "target_val_top1", "target_test_top1": 0.75})


def play(mirror: Mirror, job: str, *events: dict[str, Any], role: str = "trial") -> None:
    for event in events:
        mirror(event | {"job": job, "role": role, "time": 0.0})


def begin(seed: int = 0, **changes: Any) -> list[dict[str, Any]]:
    """changes: to the configuration."""
    config = base_config(**{"seed": seed} | changes)
    about = {"params": PARAMS, "number": 3, "seed": seed, "method": config.method}
    queued = {"event": "queued", **about, "config": config.model_dump(mode="json")}
    return [queued, {"event": "started", "group": "g"}]


def epochs(first: int, last: int) -> list[dict[str, Any]]:
    return [{"event": "row", "row": row} for row in rows(first, last)]


def end(state: str = "complete", error: str | None = None) -> dict[str, Any]:
    return {"event": "ended", "state": state, "error": error}
