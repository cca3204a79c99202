"""optuna-dashboard, started as a user starts it, opens the study of a sweep."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from tests.sweeps.studies import METRIC, SIZE, STEP, measured, study_of_several

pytest.importorskip("optuna_dashboard")


@contextlib.contextmanager
def dashboard(folder: Path, storage: str) -> Iterator[str]:
    """Its address, on this machine only. folder: in which it is started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from optuna_dashboard._cli import main; main()"
    command = [sys.executable, "-c", code, storage, "--host", "127.0.0.1", "--port", str(port), "--server", "wsgiref"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def fetch(url: str) -> bytes:
    """Asked again until the server is up."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return bytes(answer.read())
        except OSError:
            assert time.monotonic() < deadline, "the dashboard does not answer"
            time.sleep(0.2)


@pytest.mark.parametrize(("storage", "url"), [("sqlite", "sqlite:///study.db"), ("journal", "study.journal")])
def test_it_shows_trials_states_objectives_and_constraints(tmp_path: Path, storage: str, url: str) -> None:
    tmp_path /= "50% ?"
    tmp_path.mkdir()
    study = study_of_several(tmp_path, storage=storage, sampler="random")
    for state, size in ((TrialState.COMPLETE, 300), (TrialState.COMPLETE, 600), (TrialState.PRUNED, 300)):
        drawn = study.draw(len(study.known()))
        study.report(drawn, 1, 0.25)
        study.tell(drawn, state, 0.5, measured(size))
    study.tell(study.draw(3), TrialState.FAIL)
    study.draw(4)
    with dashboard(tmp_path, url) as address:
        assert b"<title>Optuna Dashboard</title>" in fetch(f"{address}/dashboard")
        (listed,) = json.loads(fetch(f"{address}/api/studies"))["study_summaries"]
        found: dict[str, Any] = json.loads(fetch(f"{address}/api/studies/{listed['study_id']}"))
    assert listed["study_name"] == "tiny"
    assert found["objective_names"] == [METRIC, SIZE, STEP]
    assert found["directions"] == ["maximize", "minimize", "minimize"]
    assert [trial["state"] for trial in found["trials"]] == ["Complete", "Complete", "Pruned", "Fail", "Running"]
    assert found["trials"][0]["values"] == [0.5, 300, 0.5]
    assert [max(trial["constraints"], default=0) > 0 for trial in found["trials"]] == [False, True, False, False, False]
