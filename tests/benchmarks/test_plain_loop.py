"""The plain loop trains what the trainer trains, bit for bit: without that the comparison would mean nothing."""

import json

import pytest
import torch

from benchmarks import plain_loop

SOME = ("shared-inputs", "digits", "frozen-text", "cross-task", "vqa", "retrieval")  # every task, SGD and AdamW


@pytest.mark.parametrize("preset", SOME)
def test_the_same_weights(preset: str) -> None:
    trainer = plain_loop.Trainer(plain_loop.preset_config(preset, seed=3))
    plain = plain_loop.plain_loop(trainer)
    before = [parameter.clone() for parameter in plain.network.parameters()]
    for step in range(3):
        trainer._step(step)
        plain.step(step)
    ours = trainer.target.network.state_dict()
    for name, tensor in plain.network.state_dict().items():
        assert torch.equal(tensor, ours[name]), name
    assert torch.equal(plain.total, trainer.target.loss_sum)
    assert any(not torch.equal(old, new) for old, new in zip(before, plain.network.parameters(), strict=True))


def test_other_work_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_loop, "learning_rate", lambda *_: 0.01)
    with pytest.raises(SystemExit, match="other weights"):
        plain_loop.main(["--presets", "shared-inputs", "--rounds", "2"])
    assert "OTHER WEIGHTS" in capsys.readouterr().out


def test_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    plain_loop.main(["--presets", "shared-inputs", "--rounds", "3", "--json"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]["shared-inputs"]
    assert figures["same_weights"]
    assert 0 < figures["ratio_low"] <= figures["ratio"] <= figures["ratio_high"]


def test_what_is_claimed() -> None:
    assert plain_loop.claimed({"ratio_low": 1.0, "ratio_high": 1.03}) == "at most 1.03"
    assert plain_loop.claimed({"ratio_low": 1.0, "ratio_high": 1.04}) == "1.03 not decided"
    assert plain_loop.claimed({"ratio_low": 1.04, "ratio_high": 1.05}) == "above 1.03"
