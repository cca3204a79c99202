"""Time beyond the training, in real sweeps of a few trivial trials."""

import json
from pathlib import Path

import pytest

from benchmarks import scale, trial_overhead, trivial


def test_the_same_training_without_a_sweep(tmp_path: Path) -> None:
    found = trial_overhead.alone(2, tmp_path)
    assert found["trials"] == 2
    assert 0 < found["trained"]["median"] <= found["trained"]["most"]
    assert found["beyond"]["median"] > 0


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
