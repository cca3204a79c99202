"""A run that is killed, at any moment and however often, ends bitwise as one that was not."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mergenet.config import Config
from mergenet.training.run import train_run
from tests.mergenet.runs import VARIANTS, assert_same_run, config_of, finish
from tests.tiny import register, tiny_config

pytestmark = pytest.mark.usefixtures("tiny")

# processes that are cheap to start (torch is imported once) and share no thread with this one
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["mergenet.training.run", "torchvision", "sklearn.datasets", "pytest"])


def child(config: Config, folder: Path, operations: int | None) -> None:
    """Trains in a process of its own that kills itself before its n-th file operation, for n = operations."""
    torch.set_num_threads(1)
    register()
    if operations is not None:
        die_before(operations)
    list(train_run(config, folder))


def die_before(operations: int) -> None:
    left = [operations]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in ("fsync", "replace", "rename", "rmdir", "unlink", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))


def start(config: Config, folder: Path, operations: int | None = None) -> Any:
    process = processes.Process(target=child, args=(config, folder, operations))
    process.start()
    return process


def exit_code(process: Any) -> int | None:
    process.join(timeout=120)
    code = process.exitcode
    process.close()
    return code


@pytest.mark.slow
def test_a_process_killed_between_any_two_file_operations_loses_nothing(tmp_path: Path) -> None:
    """Each attempt dies before its n-th write, rename or deletion, n = 0, 1, 2...; the last one finishes."""
    config = tiny_config({"epochs": 3, "transfer.update.horizon": "cycle", "transfer.t_cycle": 4})
    killed = 0
    while exit_code(start(config, tmp_path / "killed", killed)) == -signal.SIGKILL:
        killed += 1
    assert killed > 10
    assert_same_run(finish(config, tmp_path / "killed"), finish(config, tmp_path / "whole"))


def kill_at_random(config: Config, folder: Path, times: int, longest: float, seed: int) -> None:
    """Kills the run `times` times, each after a random while from its first sign of life."""
    choose = random.Random(seed)
    for _ in range(times):
        before = folder.exists() and (folder / "epochs.jsonl").exists() and (folder / "epochs.jsonl").stat().st_mtime_ns
        process = start(config, folder)
        while process.is_alive() and not changed_since(folder / "epochs.jsonl", before):
            time.sleep(0.005)
        time.sleep(choose.uniform(0, longest))
        process.kill()
        process.join()
        process.close()


def changed_since(path: Path, before: int | bool) -> bool:
    return path.exists() and path.stat().st_mtime_ns != before


def test_a_run_killed_at_random_moments_is_bitwise_one_that_was_not(tmp_path: Path) -> None:
    config = config_of("noise", epochs=6)
    kill_at_random(config, tmp_path / "killed", times=4, longest=0.5, seed=0)
    assert_same_run(finish(config, tmp_path / "killed"), finish(config, tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", VARIANTS)
def test_every_kind_of_run_survives_many_kills(name: str, seed: int, tmp_path: Path) -> None:
    config = config_of(name, epochs=12)
    kill_at_random(config, tmp_path / "killed", times=8, longest=0.6, seed=seed)
    assert_same_run(finish(config, tmp_path / "killed"), finish(config, tmp_path / "whole"))
