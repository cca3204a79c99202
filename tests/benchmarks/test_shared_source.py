"""What the comparison of a live and a recorded source says; the sweeps themselves run in the benchmark."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks import shared_source
from benchmarks.watched import Watched
from mergenet.config.loading import load_config
from mergenet.records.run_record import EPOCHS_HASH
from mergenet.records.sealed import read_record, write_record
from sweeps.config.loading import load_sweep
from tests.mergenet.runs import config_of, finish


@pytest.fixture
def sweeps(tmp_path: Path, tiny: None) -> list[Path]:  # noqa: ARG001
    run = finish(config_of("open cycle"), tmp_path / "run")
    folders = [tmp_path / side for side in shared_source.SIDES]
    for folder in folders:
        for name in ("trial-000", "trial-001"):
            shutil.copytree(run, folder / "trials" / name)
    return folders


def test_times_may_differ_and_nothing_else(sweeps: list[Path]) -> None:
    assert list(shared_source.differences(*sweeps)) == []
    run = sweeps[1] / "trials" / "trial-001"
    result = read_record(run / "result.json")
    del result[EPOCHS_HASH]  # else altered epochs are damage, and no difference
    write_record(run / "result.json", result)
    rows = [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]
    (run / "epochs.jsonl").write_text("".join(json.dumps(row | {"seconds_target": 9.0}) + "\n" for row in rows))
    assert list(shared_source.differences(*sweeps)) == []
    (run / "epochs.jsonl").write_text("".join(json.dumps(row | {"target_lr": 9.0}) + "\n" for row in rows))
    assert list(shared_source.differences(*sweeps)) == ["trial-001"]


def test_one_bit_of_a_weight_is_told_and_so_is_a_missing_run(sweeps: list[Path]) -> None:
    file = sweeps[0] / "trials" / "trial-000" / "best.safetensors"
    weights = load_file(file)
    name = next(key for key, value in weights.items() if value.is_floating_point())
    weights[name].view(-1)[0] = torch.nextafter(weights[name].view(-1)[0], torch.tensor(9.0))
    save_file(weights, file)
    assert list(shared_source.differences(*sweeps)) == ["trial-000"]
    shutil.rmtree(sweeps[0] / "trials" / "trial-001")
    assert list(shared_source.differences(*sweeps)) == ["the list of runs"]


def test_the_sweep_that_it_runs(tmp_path: Path) -> None:
    sweep = load_sweep(str(shared_source.write_sweep(tmp_path / "sweeps", 8, 4, seeds=3)))
    assert (sweep.num_trials, sweep.seeds_per_trial, sweep.slots, sweep.scheduler) == (8, 3, 1, "none")
    base = load_config(sweep.base)
    assert (base.source.model.name, base.target.model.name, base.source.kind) == ("resnet50", "mobilenetv2", "live")


def test_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    events = [{"time": 5.0}, {"time": 65.0, "driver_cpu": 3.0, "others_cpu": 40.0}]
    watched = Watched(80.0, events)
    assert (shared_source.training_seconds(watched), shared_source.cpu_seconds(watched)) == (60.0, 43.0)
    seconds = {"live": 300.0, "recorded": 80.0}
    figures = {"trials": 8, "seeds_per_trial": 1, "steps": 4, "ratio": 3.75, "training_ratio": 3.75, "cpu_ratio": 3.75}
    figures |= {"seconds": seconds, "training_seconds": seconds, "cpu_seconds": seconds, "different": []}
    shared_source.report(figures)
    assert (
        "every run the same bit for bit; claim: at least 3 times less wall time: 3.75, holds" in capsys.readouterr().out
    )
    shared_source.report(figures | {"different": ["trial-001"], "ratio": 2.0})
    out = capsys.readouterr().out
    assert "DIFFERENT: trial-001" in out and "2.00, DOES NOT HOLD" in out
