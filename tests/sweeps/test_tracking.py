"""The mirror with the real W&B client, offline, and what happens when the client cannot work."""

import json
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from sweeps.tracking import Mirror
from tests.sweeps.base import CONV, sweep_config

EVENTS = [
    {"event": "queued", "params": {"transfer.pairs": [CONV], "transfer.t_cycle": 4}},
    {"event": "started"},
    {"event": "row", "row": {"epoch": 1, "target_val_top1": 0.2}},
    {"event": "row", "row": {"epoch": 2, "target_val_top1": 0.3}},
]
END = {"event": "ended", "state": "complete", "error": None}


def play(mirror: Mirror, job: str, role: str, events: list[dict[str, Any]]) -> None:
    for event in events:
        mirror(event | {"job": job, "role": role, "time": 0.0})


def records(folder: Path) -> list[Any]:
    """The records of an offline run: 7 bytes of header, then LevelDB's log framing in one block."""
    (file,) = folder.glob("*.wandb")
    data, position, found, buffer = file.read_bytes(), 7, [], b""
    while position + 7 <= len(data):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        chunk = data[position + 7 : position + 7 + length]
        position += 7 + length
        buffer = chunk if kind in (1, 2) else buffer + chunk
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(buffer)
            found.append(record)
    return found


@pytest.fixture
def sweep() -> Any:
    return sweep_config({"transfer.t_cycle": {"choice": [2, 4]}}, wandb={"mode": "offline"})


def test_offline_runs_hold_rows_config_role_and_outcome(tmp_path: Path, sweep: Any) -> None:
    said: list[str] = []
    mirror = Mirror(sweep, tmp_path, said.append)
    play(mirror, "trial-000", "trial", [*EVENTS, END])
    play(mirror, "confirm-none-1", "confirm_none", [*EVENTS, END | {"state": "failed"}])
    mirror.close()
    wandb.teardown()  # the client writes behind; at the end of a process it does this by itself
    assert said == []
    folders = {
        next(r.run.run_id for r in records(f) if r.HasField("run")): f for f in tmp_path.glob("wandb/offline-run-*")
    }
    assert set(folders) == {"tiny-trial-000", "tiny-confirm-none-1"}
    found = records(folders["tiny-trial-000"])
    run = next(r.run for r in found if r.HasField("run"))
    assert (run.run_group, run.job_type) == ("tiny", "trial")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["transfer_t_cycle"] == 4
    assert config["transfer_pairs"] == "layer3.0.conv2>features.5.conv.2"
    rows = [
        {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in r.history.item}
        for r in found
        if r.HasField("history")
    ]
    assert [(row["epoch"], row["target_val_top1"]) for row in rows] == [(1, 0.2), (2, 0.3)]
    exits = {name: next(r.exit.exit_code for r in records(f) if r.HasField("exit")) for name, f in folders.items()}
    assert exits == {"tiny-trial-000": 0, "tiny-confirm-none-1": 1}


def test_trouble_is_said_once_and_stops_nothing(tmp_path: Path, sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    said: list[str] = []
    mirror = Mirror(sweep, tmp_path, said.append)
    for job in ("bad/id", "worse:id"):  # the client refuses these ids
        play(mirror, job, "trial", [*EVENTS, END])
    mirror.close()
    assert len(said) == 1
    assert said[0].startswith("wandb: no mirror for bad/id (")


def test_disabled_mirror_writes_nothing(tmp_path: Path) -> None:
    mirror = Mirror(sweep_config({"transfer.t_cycle": {"choice": [2, 4]}}), tmp_path, lambda _: None)
    play(mirror, "trial-000", "trial", [*EVENTS, END])
    mirror.close()
    assert list(tmp_path.iterdir()) == []
