"""What is counted as the cost of a slot, and what is said of the goals."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks import many_slots, slot_cost
from benchmarks.slot_cost import TRAINS, Cost, kind_of, memory_of


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("ray::SweepRelay.train ", "SweepRelay"),
        ("ray::_RayTrainWorker__execute.get_next() ", TRAINS),
        ("ray::PlacementGroupCleaner", "PlacementGroupCleaner"),
        ("ray::IDLE", "idle"),
        ("/lib/ray/core/src/ray/raylet/raylet --raylet_socket", "raylet"),
        ("/usr/bin/python log_monitor.py", "other"),
        ("sh -c read -r status; exit ${status:-1}  # forkserver.client of worker 12 ", "fork client"),
        ("python -c from sweeps.execution.forkserver.client import main --raylet-name=/s/raylet --a", "fork client"),
        ("python -P -c from sweeps.execution.forkserver.server import main; main() 4 /tmp/f", "fork server"),
    ],
)
def test_kinds_of_processes(title: str, kind: str) -> None:
    assert kind_of(title) == kind


def cost(slots: int, ready: float, relay: float) -> Cost:
    memory = {TRAINS: 400.0 * slots, "driver": 450.0, "SweepRelay": relay * slots, "TrainController": 120.0}
    return Cost(slots, memory, dict.fromkeys(memory, 1.0), ready / 2, ready, ready + 1)


def test_a_slot_is_charged_with_all_but_its_trainer_and_what_is_there_anyway() -> None:
    assert cost(4, 10.0, 70.0).beside == 100.0


def test_what_is_said_of_the_goals(capsys: pytest.CaptureFixture[str]) -> None:
    slot_cost.report({"now": [cost(8, 10.0, 70.0)], "before": [cost(8, 20.0, 300.0)]})
    text = capsys.readouterr().out
    assert "at most 150 MiB a slot beyond its trainer at 8: 85, reached" in text
    assert "all ready 0.50, NOT REACHED" in text
    assert "MiB together" in text
    assert "to the end of all trials" not in text
    slot_cost.report({"now": [replace(cost(8, 10.0, 70.0), ended=61.25)]})
    assert "s to the end of all trials            61.2" in capsys.readouterr().out


def test_memory_of_this_process_and_its_child() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = memory_of(os.getpid())
        assert child.stdin is not None
        child.stdin.close()
    assert found["driver"][0] > 10
    assert len(found["other"]) >= 1 and all(mib >= 0 for mib in found["other"])


def test_the_report_of_many_slots(capsys: pytest.CaptureFixture[str]) -> None:
    waits = {"wait": many_slots.quantiles([0.1] * 98 + [2.0] * 2), "wait_later": many_slots.quantiles([0.2])}
    found = {"trials": 10, "epochs": 50, "seconds": 9.0, "started": 4.0, "driver_cpu": 0.2, "driver_cpu_later": 0.1}
    many_slots.report(found | waits | {"memory": {"SweepRelay": [2, 140.0]}})
    text = capsys.readouterr().out
    assert "from epoch ended to go on: median 0.100 s, p99 2.000, most 2.000" in text
    assert "p99 of the wait at most 0.5 s: 2.000, NOT REACHED" in text
    assert "p99 once they run at most 0.5 s: 0.200, reached" in text
    assert "CPU at most 0.1 s: 0.200, NOT REACHED" in text
