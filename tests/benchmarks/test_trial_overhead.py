"""Time beyond the training, in real sweeps of a few trivial trials."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import scale, trial_overhead, trivial


def test_the_same_training_without_a_sweep(tmp_path: Path) -> None:
    found = trial_overhead.alone(2, tmp_path)
    assert found["trials"] == 2
    assert 0 < found["trained"]["median"] <= found["trained"]["most"]
    assert found["beyond"]["median"] > 0


def test_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    whole = {"wall": 200.0, "training": 118.0, "share": 0.59, "slot_share": 0.4, "first_epoch": 20.0, "after": 3.0}
    side = {name: trial_overhead.spread([0.25, 0.5, 3.0]) for name in ("beyond", "waited", "trained")}
    trial_overhead.report(
        {
            "slots": side | {"trials": 3},
            "alone": side | {"trials": 3},
            "quickstart": whole,
            "before": whole | {"wall": 250.0, "first_epoch": 50.0},
        }
    )
    out = capsys.readouterr().out
    assert "at most 0.5 s a trial beyond its training: 0.500 s, holds" in out
    assert "118 s of 200 s some run trains; the first epoch has trained after 20.0 s; it ends 3.0 s after" in out
    assert "slot-seconds of training over slots x wall: 40%" in out
    assert "before: 250 s, first epoch after 50.0 s, ends 3.0 s after its last job; now / before: first" in out
    assert "first epoch 0.40, whole 0.80" in out
    assert "at least 60% of its wall time is training: 59%, DOES NOT HOLD" in out
    row = next(line for line in out.splitlines() if line.split()[:1] == ["slots"])
    assert row.split() == ["slots", "3", "0.500", "1.250", "3.000", "0.500", "0.500"]


def test_who_ends_the_benchmark_ends_its_sweep(tmp_path: Path) -> None:
    """Or a Ray would run on that nobody sees."""
    sweep = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    code = "import sys; from pathlib import Path; from benchmarks.watched import run_to_end\n"
    code += "run_to_end([sys.executable, '-c', sys.argv[2]], Path(sys.argv[1]).open('w'))"
    log = tmp_path / "log"
    with subprocess.Popen([sys.executable, "-c", code, str(log), sweep], stderr=subprocess.DEVNULL) as benchmark:
        while not (log.exists() and log.read_text().endswith("\n")):
            assert benchmark.poll() is None
            time.sleep(0.05)
        benchmark.terminate()
    assert benchmark.returncode != 0
    process, deadline = Path(f"/proc/{log.read_text().strip()}"), time.monotonic() + 20
    while process.exists() and time.monotonic() < deadline:  # until the system has taken note of its end
        time.sleep(0.05)
    assert not process.exists()


def test_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in {
        ("--only=slots,alone,now",): "--only must be of slots, per_trial, alone, quickstart, got 'now'",
        ("--trials=6",): "--trials must be more than 6, the warm-up, got 6",
    }.items():
        with pytest.raises(SystemExit):
            trial_overhead.main(words)
        assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.long
def test_real_sweeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = trivial.write_sweep(tmp_path / "few", 4, confirm_seeds=1)
    trial_overhead.main(["--trials=8", "--per-trial=3", f"--sweep={sweep}", "--json"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]
    slots, per_trial, alone, whole = (figures[name] for name in trial_overhead.PARTS)
    assert (slots["trials"], alone["trials"]) == (4, 8)
    assert per_trial["trials"] >= 1
    assert per_trial["beyond"]["median"] > slots["beyond"]["median"] > slots["waited"]["median"] > 0
    assert 0 < whole["training"] < whole["wall"]
    assert 0 < whole["slot_share"] <= whole["share"] < 1


@pytest.mark.slow
@pytest.mark.long
def test_scale_of_a_few_trials(capsys: pytest.CaptureFixture[str]) -> None:
    scale.main(["--only=sweep", "--trials=26", "--block=3", "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]["sweep"]
    assert [(block["first"], block["last"]) for block in found["blocks"]] == [(21, 23), (24, 26)]
    assert all(value > 0 for block in found["blocks"] for value in block.values())
    assert 0.5 < found["ratios"]["driver_mib"] < 2
