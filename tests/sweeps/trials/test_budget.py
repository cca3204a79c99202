"""What has been spent, over several drivers, and when a budget ends the drawing of trials."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from sweeps.execution.tune_searcher import StudySearch
from sweeps.trials import budget as module
from sweeps.trials.budget import Budget, Clock, budget_line
from tests.sweeps.base import sweep_config
from tests.sweeps.spaces import SEARCH
from tests.sweeps.studies import opened


def row(job: str, epoch: int, role: str = "trial") -> dict[str, Any]:
    return {"event": "row", "job": job, "role": role, "row": {"epoch": epoch}}


def test_time_goes_to_the_step_that_runs_and_adds_up_over_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    now, notes = [100.0], list[dict[str, float]]()
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    clock = Clock({"search": 50.0, "ray": 2.0}, notes.append)
    clock.begin("ray")
    now[0] += 3
    clock.begin("search")
    now[0] += 11
    clock.begin(None)
    assert notes[-1] == {"search": 61.0, "ray": 5.0}
    now[0] += 1000
    assert clock.seconds() == {"search": 61.0, "ray": 5.0}


def test_time_is_noted_while_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill in a long epoch forgets ten seconds at most, whatever the disk said before."""
    monkeypatch.setattr(module, "BEAT", 0.01)
    notes = list[dict[str, float]]()

    def full_at_first(seconds: dict[str, float]) -> None:
        notes.append(seconds)
        if len(notes) < 3:
            raise OSError(28, "No space left on device")

    clock = Clock({}, full_at_first)
    with clock.beating():
        clock.begin("search")
        deadline = time.monotonic() + 30
        while len(notes) < 6:
            assert time.monotonic() < deadline, "no note came"
            time.sleep(0.01)
        assert notes[0]["search"] < notes[-1]["search"]
        clock.begin(None)
        count = len(notes)
        time.sleep(0.1)
        assert len(notes) == count, "no step runs"
    assert not any(thread.name == "clock" for thread in threading.enumerate())


def test_a_note_that_cannot_be_written_stops_nobody() -> None:
    def full(_: dict[str, float]) -> None:
        raise OSError(28, "No space left on device")

    clock = Clock({}, full)
    clock.begin("search")
    clock.begin(None)
    assert "search" in clock.seconds()


def test_epochs_of_trials_count_once_those_of_earlier_drivers_too(tmp_path: Path) -> None:
    for name, text in {"trial-000": "{}\n{}\n", "baseline": "{}\n"}.items():
        (tmp_path / "trials" / name).mkdir(parents=True)
        (tmp_path / "trials" / name / "epochs.jsonl").write_text(text)
    budget = Budget(sweep_config(SEARCH, budget_epochs=4), tmp_path, lambda: 0.0)
    for event in [row("trial-000", 1), row("trial-000", 2), row("baseline", 1, "baseline"), row("trial-001", 1)]:
        budget(event)
    assert (budget.num_epochs, budget.spent()) == (3, False)
    budget(row("trial-001", 2))
    assert budget.spent()
    assert budget_line(budget.facts() or {}) == "budget of the search: 4 of 4 epochs"


def test_hours(tmp_path: Path) -> None:
    seconds = [1799.0]
    budget = Budget(sweep_config(SEARCH, budget_hours=0.5), tmp_path, lambda: seconds[0])
    assert not budget.spent()
    seconds[0] = 1800.0
    assert budget.spent()
    assert Budget(sweep_config(SEARCH), tmp_path, lambda: 1e9).facts() is None


def test_a_spent_budget_draws_nothing_new_but_what_was_drawn_goes_on(tmp_path: Path) -> None:
    first = StudySearch(opened(tmp_path), "max", 6, bool, bool)
    drawn = first.suggest("a")
    again = StudySearch(opened(tmp_path), "max", 6, bool, bool, spent=lambda: True)
    assert again.suggest("b") == drawn
    assert again.suggest("c") == Searcher.FINISHED
