"""Workers and GPUs of a trial: what is refused when the sweep is planned, and what becomes of them in Ray."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mergenet.errors import ConfigError
from sweeps.cli.commands import sweep as command
from sweeps.config import SweepConfig
from sweeps.config.loading import dump_sweep
from sweeps.execution.forkserver.start import START_METHOD
from sweeps.execution.resources import check_executor, groups_of, num_cpus, ray_mib, worker_gpus
from sweeps.report.plan_text import memory_lines
from tests.sweeps.base import space_of, sweep_config, write_base

CYCLES = {"transfer.t_cycle": {"choice": [2, 4]}}


def sweep_with(**changes: Any) -> SweepConfig:
    return sweep_config(CYCLES, **changes)


@pytest.mark.parametrize(
    ("changes", "device", "num_gpus", "message"),
    [
        ({"workers_per_trial": [3, 2]}, "cpu", 0, "workers_per_trial must be a number or [fewest, most], got [3, 2]"),
        (
            {"workers_per_trial": [1, 2]},
            "cpu",
            0,
            "workers_per_trial must be one number with executor slots, got [1, 2]",
        ),
        ({"workers_per_trial": 2, "gpus_per_trial": 0.5}, "auto", 4, "gpus_per_trial must be 0 or 2, one for each of"),
        ({"gpus_per_trial": 2.0}, "auto", 4, "gpus_per_trial must be at most 1, one for each worker, got 2; raise"),
        ({"gpus_per_trial": 0.5}, "cpu", 4, "gpus_per_trial must be 0 with device cpu, got 0.5; leave it out"),
        ({"gpus_per_trial": 0.0}, "auto", 1, "gpus_per_trial must be more than 0 with device auto, got 0; write set"),
        (
            {"gpus_per_trial": 1.0},
            "auto",
            1,
            "slots must fit the GPUs of this machine (1), got 2 with 1 GPUs each; lower",
        ),
        (
            {"workers_per_trial": 2},
            "auto",
            3,
            "slots must fit the GPUs of this machine (3), got 2 with 2 GPUs each; lower",
        ),
        ({"workers_per_trial": 3}, "cpu", 0, "target.batch_size must be divisible by the number of workers_per_trial"),
    ],
)
def test_what_cannot_be_had_together(changes: dict[str, Any], device: str, num_gpus: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_executor(sweep_with(**changes), space_of(CYCLES, device=device), num_gpus)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "device", "num_gpus", "gpus"),
    [
        ({}, "auto", 1, 0.5),
        ({}, "auto", 4, 1),
        ({}, "cpu", 4, 0),
        ({}, "auto", 0, 0),
        ({"gpus_per_trial": 0.25}, "auto", 1, 0.25),
        ({"workers_per_trial": 2}, "auto", 4, 1),
        ({"workers_per_trial": 2, "gpus_per_trial": 2.0}, "auto", 4, 1),
    ],
)
def test_gpus_of_a_worker(changes: dict[str, Any], device: str, num_gpus: int, gpus: float) -> None:
    sweep = sweep_with(**changes)
    check_executor(sweep, space_of(CYCLES, device=device), num_gpus)
    assert worker_gpus(sweep, device, num_gpus) == gpus


def test_a_cluster_has_gpus_that_this_machine_has_not() -> None:
    check_executor(sweep_with(gpus_per_trial=1.0, slots=8), space_of(CYCLES, device="auto"), None)


def test_groups() -> None:
    sweep = sweep_with(executor="per_trial", workers_per_trial=[1, 2], slots=3)
    groups = groups_of(sweep, {"device": "cpu"}, 0)
    assert (groups.jobs, groups.workers, groups.gpus) == (1, (1, 2), 0)
    assert num_cpus(sweep) >= 6
    assert groups_of(sweep_with(), {"device": "cpu"}, 0).jobs is None


def plan_fails(folder: Path, *arguments: str) -> str:
    write_base(folder)
    (folder / "s.yaml").write_text(dump_sweep(sweep_with(base=str(folder / "base.yaml"))))
    done = CliRunner().invoke(command, ["run", str(folder / "s.yaml"), "--dir", str(folder / "out"), *arguments])
    assert done.exit_code == 2, done.output
    assert not (folder / "out").exists()
    return done.stderr


def test_options_stand_for_keys_of_the_sweep_file(tmp_path: Path) -> None:
    assert "workers_per_trial must be one number with executor slots, got [1, 2]" in plan_fails(
        tmp_path, "--workers-per-trial", "1-2"
    )
    assert "gpus_per_trial must be 0 with device cpu, got 0.5" in plan_fails(tmp_path, "--gpus-per-trial", "0.5")
    assert "slots must be >= 1, got 0" in plan_fails(tmp_path, "--max-concurrent", "0")
    assert "must be a number, as 2, or a range, as 1-4, got 'two'" in plan_fails(tmp_path, "--workers-per-trial", "two")


def test_forked_workers_cost_less_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    forked = ray_mib(sweep_with(slots=8))
    monkeypatch.setenv(START_METHOD, "spawn")
    assert forked < ray_mib(sweep_with(slots=8))


def test_slots_that_share_a_group_cost_less_memory() -> None:
    shared, two, apart = sweep_with(slots=8), sweep_with(slots=9), sweep_with(slots=8, executor="per_trial")
    assert ray_mib(shared) < ray_mib(two) < ray_mib(apart)
    assert ray_mib(sweep_with(slots=8, workers_per_trial=2)) == ray_mib(apart)


def test_a_plan_warns_of_slots_that_do_not_fit_the_machine() -> None:
    memory = {"worker": 400 * 2**20, "workers": 8, "ray": ray_mib(sweep_with(slots=8)) * 2**20, "machine": 6 * 2**30}
    lines = list(memory_lines(memory))
    assert lines[0].startswith("memory: 400.0 MiB a worker") and "for Ray and the driver" in lines[0]
    assert not lines[1:]
    assert "lower slots" in list(memory_lines(memory | {"machine": 4 * 2**30}))[1]
