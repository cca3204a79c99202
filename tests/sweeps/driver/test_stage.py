"""Where trainings take place: what is recorded while they do."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from sweeps.driver import stage
from sweeps.driver.metadata import write_status
from sweeps.driver.stage import Desk, training
from sweeps.planning.plan import Plan
from sweeps.tracking.wandb_mirror import Mirror
from sweeps.trials import budget
from sweeps.trials.files import read_state
from sweeps.trials.recorded_source import SourcePlan
from tests.sweeps.base import space_of, sweep_config
from tests.sweeps.spaces import SEARCH


class Ended(Exception):
    """The session."""


def test_sweep_json_has_the_time_although_no_job_tells_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(sweep_config(SEARCH), space_of(SEARCH), SourcePlan(), "", 2)
    write_status(tmp_path, plan, "running")
    desk = Desk.of(plan, tmp_path, Console(file=StringIO()), Mirror(plan.sweep, tmp_path, print))

    @contextmanager
    def session(*_: object) -> Iterator[None]:
        deadline = time.monotonic() + 30
        while not read_state(tmp_path)["seconds"]["ray"]:
            assert time.monotonic() < deadline, "no note came"
            time.sleep(0.05)
        raise Ended
        yield

    monkeypatch.setattr(budget, "BEAT", 0.05)
    monkeypatch.setattr(stage, "session", session)
    with pytest.raises(Ended), training(desk, None, ()):
        pass
