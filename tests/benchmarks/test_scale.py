"""Blocks of trials, the memory and CPU of processes, and both parts of the benchmark on a few trials."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import scale
from benchmarks.scale import Block, blocks
from benchmarks.watched import usage


def ends(count: int, **last: float) -> list[dict[str, Any]]:
    """Trials that end every half second, each with a driver of 100 MiB; `last`: what the last one has."""
    facts = {"driver_mib": 100.0, "others_mib": 900.0}
    found: list[dict[str, Any]] = [
        {"role": "trial", "event": "ended", "time": i / 2, "driver_cpu": i / 8, "others_cpu": i / 4} | facts
        for i in range(count)
    ]
    found[-1] |= last
    return [{"role": "baseline", "event": "ended"}, *found, {"role": "trial", "event": "row"}]


def test_blocks_come_after_the_warm_up_and_end_with_the_last_trial() -> None:
    found = blocks(ends(63, driver_mib=150.0, time=41.0), size=10, warm_up=20)
    assert [(block.first, block.last) for block in found] == [(21, 30), (31, 40), (41, 50), (51, 60), (54, 63)]
    first, last = found[0], found[-1]
    assert (first.seconds, first.driver_mib, first.driver_cpu, first.others_cpu) == (0.5, 100, 0.125, 0.25)
    assert last.seconds == pytest.approx((41 - 26) / 10)
    assert last.driver_mib == pytest.approx(105)


def test_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [asdict(Block(first, first + 99, 0.5, 600.0, 0.1, 4000.0, 0.3)) for first in (21, 901)]
    ratios = {"seconds": 1.19, "driver_mib": 0.79, "driver_cpu": 1.4, "others_mib": 1.0}
    scale.report({"sweep": {"wall": 500.0, "slots": 2, "blocks": rows, "ratios": ratios}})
    out = capsys.readouterr().out
    assert "time a trial is flat within 20%: last block / first = 1.190, holds" in out
    assert "the driver's memory is flat within 20%: last block / first = 0.790, DOES NOT HOLD" in out
    assert ["901-1000", "0.500", "0.100", "0.300", "600.0", "4000"] in [line.split() for line in out.splitlines()]


def test_too_few_trials_for_two_blocks() -> None:
    with pytest.raises(ValueError, match="trials must be at least 40, got 39; lower --block"):
        blocks(ends(39), size=10, warm_up=20)
    with pytest.raises(SystemExit):
        scale.main(["--trials=39", "--block=10"])


def test_usage_is_of_the_process_and_of_what_it_started() -> None:
    before = usage(os.getpid())
    work = "x = bytearray(80 << 20); sum(range(10**6)); print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    now = usage(os.getpid())
    child.communicate(b"\n")
    assert now["others_mib"] - before["others_mib"] > 80
    assert now["others_cpu"] > before["others_cpu"]
    assert before["driver_mib"] > 20
    assert now["driver_cpu"] >= before["driver_cpu"] > 0


def test_draws_of_each_sampler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scale.main(["--only=draws", "--trials=10", "--json"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]
    assert figures["draws"].keys() == {"random", "tpe", "auto"}
    assert all(
        len(tenths) == 10 and min(tenths) > 0 for kinds in figures["draws"].values() for tenths in kinds.values()
    )
    assert not list(tmp_path.iterdir())
