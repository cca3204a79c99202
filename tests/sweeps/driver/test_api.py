"""Sweeps from Python: stopped by Ctrl-C, gone on with in another thread on a Ray of the user's, read when finished."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import ray

from analysis import paired_gain
from mergenet.config import Config
from mergenet.errors import ConfigError, UserError
from mergenet.training.run import train_run
from sweeps import Sweep, SweepResult, SweepStopped
from sweeps.execution.ray_cluster import QUIET, quiet
from sweeps.trials.files import SUMMARY_FILE, read_summary
from sweeps.trials.sweep_dir import status_of
from tests.sweeps.base import base_values, write_base

SEARCH = {"transfer.t_cycle": {"choice": [2, 4]}, "transfer.adapter.rank": {"int": [2, 4]}}


def sweep_of(folder: Path, **changes: object) -> Sweep:
    small = {"num_trials": 2, "scheduler": "none", "confirm_seeds": 1, "slots": 1}
    return Sweep({"name": "tiny", "base": str(folder / "base.yaml"), "search": SEARCH} | small | changes)


def sweeps_of_its_own(test: Callable[..., None]) -> Callable[..., None]:
    """Real sweeps, which docs/python-api.md runs in CI too."""
    return pytest.mark.slow(pytest.mark.long(pytest.mark.timeout(600)(test)))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    write_base(folder)
    return folder


def found() -> tuple[object, ...]:
    """What a sweep must leave as it was."""
    handlers = [signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)]
    environment = {name: os.environ.get(name) for name in QUIET}
    return handlers, environment, optuna.logging.get_verbosity(), logging.getLogger("ray").level, Path.cwd()


def interrupt_at(file: Path) -> None:
    """Ctrl-C once the file is there."""
    deadline = time.monotonic() + 240
    while not file.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def stopped(place: Path) -> str:
    """The message of a sweep that Ctrl-C has stopped; its folder is half done."""
    with quiet():  # Ray reads some of its environment when it is imported, and sets log levels: not of the sweep
        pass
    before = found()
    thread = threading.Thread(target=interrupt_at, args=(place / "results/trials/baseline/epochs.jsonl",))
    thread.start()
    with pytest.raises(SweepStopped) as caught:
        sweep_of(place).run(place / "results", quiet=True)
    thread.join()
    assert found() == before
    assert not ray.is_initialized()
    return str(caught.value)


@pytest.fixture(scope="module")
def result(place: Path, stopped: str) -> SweepResult:
    """Gone on with in another thread, on a Ray that is there already."""
    del stopped
    before, results = found(), list[SweepResult]()
    with quiet():
        ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        with pytest.raises(ConfigError, match=r"must have 2 CPUs for slots x workers_per_trial, got 1; lower slots"):
            sweep_of(place, slots=2).run(place / "too-many", quiet=True)
        assert not (place / "too-many" / SUMMARY_FILE).exists()
        thread = threading.Thread(target=lambda: results.append(sweep_of(place).run(place / "results", progress=False)))
        thread.start()
        thread.join()
        assert ray.is_initialized(), "the user's Ray stays up"
    finally:
        ray.shutdown()
    assert found()[1:] == before[1:]
    return results[0]


@sweeps_of_its_own
def test_ctrl_c_says_how_to_go_on(place: Path, stopped: str) -> None:
    folder = place / "results"
    assert stopped == (
        f"stopped, nothing is lost; the same run({str(folder)!r}) goes on from there, "
        f"and so does `mergenet sweep resume {folder}`"
    )
    assert status_of(folder) == "stopped"
    with pytest.raises(ConfigError, match=r"must be that of a finished sweep, got .* \(status: stopped\); go on"):
        SweepResult.load(folder)


@sweeps_of_its_own
def test_the_result(place: Path, result: SweepResult, tmp_path: Path) -> None:
    assert list(result.trials["trial"]) == ["trial-000", "trial-001"]
    assert set(result.runs["role"]) == {"trial", "baseline", "confirm_best", "confirm_none"}
    best = result.best
    row = result.trials.set_index("trial").loc[best.trial_id]
    assert best.value == row[best.metric] == result.trials[best.metric].max()
    assert best.test["target_test_top1"] == row["target_test_top1"]
    assert isinstance(best.config, Config)
    assert best.config.transfer.t_cycle == best.params["transfer.t_cycle"]
    assert best.config.source.kind == "live"
    again = [epoch.metrics[best.metric] for epoch in train_run(best.config, tmp_path / "again")]
    assert max(again) == best.value, "its configuration gives its value again"

    assert isinstance(result.study, optuna.Study)
    assert result.study.best_value == best.value
    assert len(result.study.trials) == 2
    gain = paired_gain(result.runs, "confirm_none", "confirm_best", "target_test_top1", by="role")
    assert result.confirmation is not None
    assert result.confirmation["target_test_top1"]["gain"]["mean"] == gain.mean
    assert result.summary == read_summary(place / "results")
    assert str(result).startswith("trials\n")
    assert repr(result).endswith(f"results', best={best.trial_id}, target_val_top1={best.value:.4f})")


@sweeps_of_its_own
def test_a_finished_sweep_is_only_read(place: Path, result: SweepResult, capsys: pytest.CaptureFixture[str]) -> None:
    folder = place / "results"
    started = time.monotonic()
    read = sweep_of(place).run(folder)
    assert time.monotonic() - started < 20, "nothing starts"
    assert capsys.readouterr().out == f"sweep tiny is finished in {folder}\n"
    sweep_of(place).run(folder, quiet=True)
    assert capsys.readouterr().out == ""
    assert read.summary == SweepResult.load(str(folder)).summary == result.summary
    with pytest.raises(
        ConfigError, match=r"which holds this sweep with other settings: num_trials \(2, now 3\); to go on with it"
    ):
        sweep_of(place, num_trials=3).run(folder)
    (folder / "study.db").rename(folder / "away.db")
    with pytest.raises(UserError, match=r"study\.db must be there for the study of this sweep, and is not; `mergenet"):
        _ = SweepResult.load(folder).study
    assert not (folder / "study.db").exists(), "nothing is made by reading"
    (folder / "away.db").rename(folder / "study.db")


def test_overrides_are_keys_of_the_sweep_file() -> None:
    sweep = Sweep.load(
        "quickstart", num_trials=4, set={"epochs": 3}, wandb={"mode": "offline"}, minimize=("step_seconds",)
    )
    config = sweep.config
    assert (config.num_trials, config.overrides, config.minimize) == (4, {"epochs": 3}, ("step_seconds",))
    assert (config.wandb.mode, config.wandb.project) == ("offline", "mergenet")
    assert len(Sweep.load("quickstart", search={"epochs": {"choice": [1, 2]}}).config.search) == 5, "others stay"
    assert repr(sweep) == "Sweep('quickstart', base='shared-inputs', num_trials=4)"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_trials": 0}, "num_trials must be"),
        ({"num_trails": 4}, "num_trails must be one of"),
        ({"epochs": 4}, "epochs must be a key of a sweep, got a setting of its trials; write it under set"),
        ({"set": {"epochs": print}}, "set must be made of numbers, texts, lists and mappings, got"),
    ],
)
def test_a_bad_override_is_one_line(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Sweep.load("quickstart", **overrides)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1


def test_folders_that_are_none_of_a_sweep(place: Path) -> None:
    (place / "mine").mkdir()
    (place / "mine/notes.txt").touch()
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"^the sweep folder must be new or empty, got .*; choose another f"):
            sweep_of(place).run(place / "mine", overwrite=overwrite, quiet=True)
    with pytest.raises(ConfigError, match=r"^folder must be that of a sweep, got '.*mine'; Sweep\.load"):
        SweepResult.load(place / "mine")


def test_the_plan_is_that_of_the_command_line(place: Path) -> None:
    facts = sweep_of(place).plan(place / "planned")
    assert (facts["name"], facts["trials"], facts["confirmations"]) == ("tiny", 2, 2)
    assert facts["time"]
    assert not (place / "planned").exists()
    assert base_values()["epochs"] == facts["epochs"]["of_a_run"]
