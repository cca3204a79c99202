"""What decides draws is pinned, recorded, and told when a sweep goes on with something else."""

import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import sweeps.driver.run as driver
from sweeps.study.draws import DRAWS, PACKAGES, draw_changes, draw_facts
from sweeps.trials.files import read_state
from sweeps.trials.recorded_source import SourcePlan
from tests.sweeps.base import space_of, sweep_config

ROOT = Path(__file__).parents[3]


def test_the_lock_pins_what_decides_draws() -> None:
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert set(PACKAGES) <= pinned | {"torch"}
    assert '"greenlet>=' in (ROOT / "pyproject.toml").read_text()


def test_what_changed_is_one_line() -> None:
    now = draw_facts()
    assert draw_changes(now) is None
    assert draw_changes(None) is None, "a sweep of an earlier version"
    then = now | {"scipy": "1.0", "greenlet": None if now["greenlet"] else "3.0", "threads": 64}
    said = draw_changes(then)
    assert said is not None
    assert f"scipy {now['scipy']} (was 1.0), greenlet " in said
    assert said.endswith(f"threads {now['threads']} (was 64)")


def test_the_threads_are_those_that_this_process_uses() -> None:
    code = "from sweeps.study.draws import draw_facts; print(draw_facts()['threads'])"
    for threads in ("1", "2"):
        limited = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
        limited |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        done = subprocess.run([sys.executable, "-c", code], env=limited, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == threads


def test_a_sweep_that_goes_on_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to where Ray would start."""
    search: dict[str, Any] = {"transfer.t_cycle": {"choice": [2, 4]}}
    plan = driver.Plan(sweep_config(search, confirm_seeds=1), space_of(search), SourcePlan(), "", 2)
    driver.begin(plan, tmp_path, None)
    assert read_state(tmp_path)[DRAWS] == draw_facts()
    driver.write_status(tmp_path, plan, "stopped", draws=draw_facts() | {"optuna": "1.0"})
    out = StringIO()
    monkeypatch.setattr(driver, "_train", lambda *_: {})
    driver.resume_sweep(plan, tmp_path, Console(file=out, width=200))
    assert f"optuna {draw_facts()['optuna']} (was 1.0)" in out.getvalue()
    assert read_state(tmp_path)[DRAWS]["optuna"] == "1.0", "compared with the beginning, however often it goes on"
