"""METHOD, "known to go wrong", point 6: two workers (gloo) hold identical weights and compute what one computes.

One pair of processes trains all scenarios, one after the other, and writes down what each worker holds.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from mergenet.errors import ConfigError, TrainingDiverged
from mergenet.learner.distributed import broadcast_, process_group, torchrun_group
from mergenet.models import MODELS
from mergenet.records.checkpoint import load_latest, load_tensors, save_tensors
from mergenet.records.run_record import read_run
from mergenet.training.run import train_run
from mergenet.training.trainer import Trainer
from tests import own_networks
from tests.tiny import copies, equal, register, same, set_up, tiny_config, without_times

pytestmark = pytest.mark.slow  # processes that train together

UNUSED = own_networks.unused  # a network with a layer that its forward pass does not use
PLAIN = {  # without BatchNorm and dropout in the networks: two halves of a batch are the batch
    "target.model.name": "tiny_plain_cnn",
    "transfer.pairs": [{"source": "3", "target": "6"}],
    "transfer.t_cycle": 1,
    "transfer.adapter.gate": 0.3,
}
BOTH = {"transfer.pairs": [{"source": "3", "target": "6", "direction": "both"}, {"source": "5", "target": "2"}]}
SCENARIOS: dict[str, dict[str, Any]] = {
    "baseline": {**PLAIN, "method": "none"},
    "distilled": {**PLAIN, "method": "dkd"},
    "one way": PLAIN,
    "both ways": {**PLAIN, **BOTH},
    "factorized": {**PLAIN, **BOTH, "transfer.adapter.encoding": "factorized"},
    "full matrix": {**PLAIN, "transfer.adapter.kind": "full_matrix"},
    "learned gate, scale": {
        **PLAIN,
        "transfer.adapter.learned_gate": True,
        "transfer.optimizer_state": "scale",
        "transfer.update.lr": 0.05,
        "transfer.update.horizon": "cycle",
        "transfer.t_cycle": 3,
    },
    "gradient, adamw, reset": {
        **PLAIN,
        "transfer.update.rule": "gradient",
        "target.optimizer": {"name": "adamw", "lr": 0.003},
        "transfer.optimizer_state": "reset",
    },
    "linear": {
        **PLAIN,
        "target.model.name": "tiny_mlp",
        "transfer.pairs": [{"source": "1", "target": "1"}],
        "transfer.adapter": {"kind": "linear", "rank": 4, "gate": 0.3},
    },
    "estimated maps": {**PLAIN, **BOTH, "transfer.align": "outputs", "transfer.adapter.kind": "linear"},
    "noise": {**PLAIN, "transfer.control": "noise"},
    "frozen": {**PLAIN, "source.kind": "frozen"},
    **{
        f"own: {name}": {
            **PLAIN,
            "target.model.name": model,
            "transfer.pairs": [{"source": "3", "target": "a"}],
            "transfer.adapter.gate": 0.1,
        }
        for name, model in {
            "unused": "tests.own_networks:unused",
            "unused, by its short name": "tiny_unused",
            "used in some steps": "tests.own_networks:at_times",
            "int16": "tests.own_networks:int16",
        }.items()
    },
    "batch norm": {"transfer.t_cycle": 1},
    "recalibrated": {"transfer.t_cycle": 1, "transfer.recalibrate_batches": 2},
}
WITHOUT_BASES = ("baseline", "distilled", "factorized", "full matrix")
AS_ONE = [name for name in SCENARIOS if name not in ("batch norm", "recalibrated")]
RESUMED = {**SCENARIOS["learned gate, scale"], "epochs": 3}


def worker(rank: int, folder: str) -> None:
    """Trains every scenario as one of two workers; what comes of it goes to <folder>/<scenario>-<rank>.*"""
    torch.set_num_threads(1)
    register()
    MODELS["tiny_unused"] = UNUSED
    with process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2):
        for name, changes in SCENARIOS.items():
            weights, report = train(changes)
            save_tensors(Path(folder) / f"{name}-{rank}.safetensors", weights, {})
            (Path(folder) / f"{name}-{rank}.json").write_text(json.dumps(report))
        parts = {
            "divergence": divergence,
            "batch size": batch_size,
            "resumed": resumed,
            "in silence": in_silence,
            "sent": sent,
        }
        for name, part in parts.items():
            (Path(folder) / f"{name}-{rank}.json").write_text(json.dumps(part(rank, Path(folder))))


def train(changes: dict[str, Any]) -> tuple[dict[str, Tensor], Any]:
    """Weights of both networks, and the bases that follow them, at the end.

    And the epochs' metrics, those of the test, and what Parameters did.
    """
    trainer = Trainer(tiny_config(changes))
    parameters = [p for learner in trainer.learners for p in learner.network.parameters()]
    places = [(id(p), p.data_ptr()) for p in parameters]
    rows = [without_times(result.metrics) for result in trainer.epochs()]
    stayed = places == [(id(p), p.data_ptr()) for learner in trainer.learners for p in learner.network.parameters()]
    weights = {
        f"{learner.role}/{name}": value
        for learner in trainer.learners
        for name, value in copies(learner.network.state_dict()).items()
    }
    for link in trainer.transfer.links:
        weights |= {f"{link.name}/{name}": value for name, value in link.giver.encoding.state_dict().items()}
    return weights, {"rows": rows, "stayed": stayed, "test": trainer.test(), "transfers": count(trainer)}


def count(trainer: Trainer) -> int:
    return sum(link.num_transfers for link in trainer.transfer.links)


def divergence(rank: int, _: Path) -> str:
    """The second worker's share of a batch gives a loss that is no number: what each worker hears of it."""
    trainer = Trainer(tiny_config(PLAIN))
    trainer._step(0)
    if rank == 1:
        loss = trainer.target.task.loss
        trainer.target.task.loss = lambda model, batch: loss(model, batch) * float("nan")
    try:
        trainer._step(1)
    except TrainingDiverged as error:
        return str(error)
    return "nothing"


def batch_size(*_: Any) -> str:
    try:
        Trainer(tiny_config({"target.batch_size": 15}))
    except ConfigError as error:
        return str(error)
    return "nothing"


def in_silence(*_: Any) -> str:
    """A layer that some steps do not use, of a network that does not say so."""
    changes = {**PLAIN, "target.model.name": "tests.own_networks:at_times_in_silence", "method": "none"}
    try:
        list(Trainer(tiny_config(changes)).epochs())
    except ConfigError as error:
        return str(error)
    return "nothing"


def sent(rank: int, _: Path) -> list[Any]:
    """What a worker holds of tensors whose values are its rank + 1, after rank 0 has sent its own."""
    types = torch.int16, torch.uint16, torch.uint32, torch.float8_e4m3fn, torch.bool, torch.complex64
    tensors = [torch.full((2, 3), rank + 1).to(one) for one in types]
    tensors += [torch.full((), rank + 1, dtype=torch.int16), torch.full((3, 2), rank + 1, dtype=torch.int16).t()]
    return [value.to(torch.complex64).real.tolist() for value in map(broadcast_, tensors)]


def resumed(_rank: int, folder: Path) -> list[dict[str, Any]]:
    """A run closed after each epoch and taken up again, and one that was not. What this worker was given at last."""
    rows: list[dict[str, Any]] = []
    for stop in (1, 2, 3):
        running = train_run(tiny_config(RESUMED), folder / "stopped")
        rows = []
        for result in running:
            rows.append(without_times(result.row()))
            if result.epoch == stop < 3:
                break
        running.close()
        dist.barrier()
    list(train_run(tiny_config(RESUMED), folder / "whole"))
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("distributed")
    mp.spawn(worker, args=(str(path),), nprocs=2)
    return path


@pytest.fixture(scope="module", autouse=True)
def tiny_networks() -> Any:
    with set_up():
        MODELS["tiny_unused"] = UNUSED
        yield


def report(folder: Path, name: str, rank: int) -> Any:
    return json.loads((folder / f"{name}-{rank}.json").read_text())


def outcome(folder: Path, name: str, rank: int) -> tuple[dict[str, Tensor], Any]:
    return load_tensors(folder / f"{name}-{rank}.safetensors")[0], report(folder, name, rank)


@pytest.mark.parametrize("name", SCENARIOS)
def test_all_workers_hold_identical_weights_and_report_the_same(folder: Path, name: str) -> None:
    (weights, told), (others, told_other) = (outcome(folder, name, rank) for rank in (0, 1))
    assert any(key.endswith("/basis") for key in weights) == (name not in WITHOUT_BASES)
    if name == "batch norm":  # each worker's statistics are of its own share; rank 0's count from each evaluation on
        assert any("running_mean" in key for key in weights)
    assert same(weights, others)
    assert told == told_other
    assert told["stayed"], "DDP knows the Parameters by identity: values are copied in place"
    assert (told["transfers"] > 4) == (name not in ("baseline", "distilled"))


@pytest.mark.parametrize("name", AS_ONE)
def test_two_workers_compute_what_one_computes(folder: Path, name: str) -> None:
    weights, told = outcome(folder, name, 0)
    alone, told_alone = train(SCENARIOS[name])
    assert weights.keys() == alone.keys()
    for key, value in weights.items():
        if not key.endswith("/basis"):  # directions of nearly equal singular values turn at the last digit
            torch.testing.assert_close(value, alone[key], atol=2e-4, rtol=1e-3, msg=f"{name}: {key}")
    for row, other in zip([*told["rows"], told["test"]], [*told_alone["rows"], told_alone["test"]], strict=True):
        assert row == pytest.approx(other, rel=2e-2, abs=2e-3)


def test_the_comparison_can_fail(folder: Path) -> None:
    weights, _ = outcome(folder, "one way", 0)
    baseline, _ = outcome(folder, "baseline", 0)
    distance = (weights["target/6.weight"] - baseline["target/6.weight"]).abs().max()
    assert distance > 0.01, "what the transfer does is far above the tolerance"


def test_a_loss_that_is_no_number_on_one_worker_stops_all(folder: Path) -> None:
    messages = [report(folder, "divergence", rank) for rank in (0, 1)]
    assert messages[0] == messages[1]
    assert messages[0].startswith("target loss became nan by step 1; lower target.optimizer.lr")


def test_a_batch_that_cannot_be_shared_is_a_config_error(folder: Path) -> None:
    for rank in (0, 1):
        message = report(folder, "batch size", rank)
        assert message == "target.batch_size must be divisible by the number of workers (2), got 15"


def test_a_network_that_uses_a_parameter_in_some_steps_must_say_so(folder: Path) -> None:
    for rank in (0, 1):
        message = report(folder, "in silence", rank)
        assert message.startswith("target.model.name: tests.own_networks:at_times_in_silence must use all parameters")
        assert "find_unused_parameters = True" in message


def test_tensors_of_any_type_are_sent(folder: Path) -> None:
    rows = [[1.0] * 3] * 2
    for rank in (0, 1):
        assert report(folder, "sent", rank) == [*[rows] * 6, 1.0, rows]


def test_a_resumed_run_of_two_workers_is_bitwise_one_that_was_not_stopped(folder: Path) -> None:
    rows = [report(folder, "resumed", rank) for rank in (0, 1)]
    assert rows[0] == rows[1]
    stopped, whole = (read_run(folder / name) for name in ("stopped", "whole"))
    for record in (stopped, whole):
        assert [without_times(row) for row in record.epochs] == rows[0]
        assert record.result["status"] == "finished"
    assert stopped.result == whole.result
    states = [load_latest(record.folder / "checkpoints") for record in (stopped, whole)]
    assert equal(*states)


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
QUICK = [
    *("--set=epochs=1", "--set=target.data.train_fraction=0.2", "--set=source.data.train_fraction=0.2"),
    *("--set=target.data.image_size=8", "--set=source.data.image_size=8"),
]


def torchrun(
    place: Path, *arguments: str, program: Sequence[str] = ("-m", "mergenet.cli")
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, *program, *arguments]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_torchrun_trains_one_run_and_its_first_worker_speaks(tmp_path: Path) -> None:
    done = torchrun(tmp_path, "train", "digits", *QUICK, "--out=run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/1  target: ") == done.stdout.count("best epoch   1 ") == 1
    assert "destroy_process_group" not in done.stderr, "torch complains if the group is left up"
    record = read_run(tmp_path / "run")
    assert record.result["status"] == "finished"
    assert len(record.epochs) == 1


AT_EXIT = """
import atexit, os, sys
from pathlib import Path

def count():
    threads = [Path(f"/proc/self/task/{task}/comm").read_text() for task in os.listdir("/proc/self/task")]
    Path(f"threads-{os.environ['RANK']}").write_text(str(sum("pt_gloo" in name for name in threads)))

atexit.register(count)
from mergenet.cli.main import main
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="names of threads are read from /proc")
def test_no_thread_of_the_group_is_left_when_the_interpreter_ends(tmp_path: Path) -> None:
    """One that frees a tensor then aborts the process: now and then, on a busy machine."""
    (tmp_path / "script.py").write_text(AT_EXIT)
    done = torchrun(tmp_path, "train", "digits", *QUICK, "--out=run", program=["script.py"])
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / f"threads-{rank}").read_text() for rank in (0, 1)] == ["0", "0"]


@pytest.mark.slow
def test_an_error_under_torchrun_ends_all_workers(tmp_path: Path) -> None:
    done = torchrun(tmp_path, "train", "digits", *QUICK, "--set=target.batch_size=15", "--out=run")
    assert done.returncode == 1
    assert "target.batch_size must be divisible by the number of workers (2), got 15\n" in done.stderr
    assert list(tmp_path.iterdir()) == []
    done = torchrun(tmp_path, "record", "digits", *QUICK, "--out=run")
    assert "a source must be recorded by one process, got 2; leave torchrun away\n" in done.stderr


def test_a_group_is_made_for_several_workers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with torchrun_group("cpu"):
        assert not dist.is_initialized()
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "WORLD_SIZE": "1", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    dist.init_process_group("gloo")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with torchrun_group("cpu"):
        pass
    assert dist.is_initialized(), "a group of someone else stays up"
    dist.destroy_process_group()


def test_two_workers_on_one_gpu_are_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    with pytest.raises(ConfigError, match=r"device must give each worker a GPU of its own, got 'auto' \(1 of them\)"):
        torchrun_group("auto").__enter__()
