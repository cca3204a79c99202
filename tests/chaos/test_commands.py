"""Each command that changes a sweep folder, killed again and again, ends as if nobody had killed it.

These are run --overwrite, resume --retry-failed and sync. Of two drivers on one folder one works, the other says so.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from analysis.trial_file import trial_folders, trial_of
from mergenet.config.loading import dump_yaml
from mergenet.records.run_record import read_run
from sweeps.tracking.wandb_file import is_closed, known_epochs
from tests.chaos.victims import check_whole, family, start, sweep_file
from tests.sweeps.base import base_config
from tests.sweeps.wandb_base import client_environment

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3000)]

TRIALS, EPOCHS = 2, 12
KILLS = int(os.environ.get("MERGENET_CHAOS_KILLS", "6"))
RNG = random.Random(int(os.environ.get("MERGENET_CHAOS_SEED", "0")))
NETWORK = """
from pathlib import Path

from mergenet.config import ModelConfig
from mergenet.models import Architecture, build_model

PASSES = 20  # that succeed: it is tried out before it trains


def build(_, spec):
    network, passes = build_model(ModelConfig(name="mobilenetv2_small"), spec), []

    def check(*_):
        passes.append(1)
        if len(passes) > PASSES and Path(__file__).with_name("mount-is-gone").exists():
            raise OSError("the mount is gone")

    network.register_forward_pre_hook(check)
    return network


target = Architecture(build)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a sweep whose target is a user's network, which fails while a file is there."""
    for name, value in client_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    folder = sweep_file(tmp_path / "place", TRIALS, EPOCHS, 1)
    (folder / "own_network.py").write_text(NETWORK)
    values = base_config().model_dump(mode="json")
    values["target"]["model"]["name"] = "own_network:target"
    (folder / "base.yaml").write_text(dump_yaml(base_config(target=values["target"])))
    return folder


def sweep_of(folder: Path) -> Path:
    return folder / "sweep-results/tiny"


def disturbed(folder: Path, longest: float, *arguments: str) -> int:
    """Runs a command to its end after killing it and all its processes KILLS times; how often it was really killed."""
    killed = 0
    for _ in range(KILLS):
        process = start(folder, *arguments)
        deadline = time.monotonic() + RNG.uniform(0.1, longest)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if process.poll() is None:
            for pid in family(process.pid):
                os.kill(pid, signal.SIGKILL)
            killed += 1
        process.wait()
    ended = start(folder, *arguments)
    assert ended.wait() == 0, last_line(folder)
    return killed


def last_line(folder: Path) -> str:
    return (folder / "out.txt").read_text().splitlines()[-1]


def states(sweep: Path) -> set[str]:
    return {str(trial["state"]) for run in trial_folders(sweep) if (trial := trial_of(run)) is not None}


def test_commands_that_are_killed(place: Path) -> None:
    sweep = sweep_of(place)
    (place / "mount-is-gone").touch()
    assert start(place, "run", "tiny.yaml").wait() == 1
    assert states(sweep) == {"failed"}
    (place / "mount-is-gone").unlink()

    retried = disturbed(place, 14, "resume", str(sweep), "--retry-failed")
    check_whole(sweep, TRIALS, EPOCHS, 1)
    assert states(sweep) == {"complete"}

    synced = disturbed(place, 4, "sync", str(sweep), "--mode", "offline")
    runs = trial_folders(sweep)
    for run in runs:
        name = f"tiny-{run.name}"
        assert known_epochs(sweep, name) == set(range(1, len(read_run(run).epochs) + 1))
        assert is_closed(sweep, name)
    assert is_closed(sweep, "tiny-summary")

    overwritten = disturbed(place, 14, "run", "tiny.yaml", "--overwrite")
    check_whole(sweep, TRIALS, EPOCHS, 1)
    print({"--retry-failed": retried, "sync": synced, "--overwrite": overwritten})
    assert min(retried, synced, overwritten) > 0
    assert "Traceback" not in (place / "out.txt").read_text()


def test_two_drivers_on_one_folder(place: Path) -> None:
    sweep = sweep_of(place)
    first = start(place, "run", "tiny.yaml")
    while not any(path.stat().st_size for path in sweep.glob("trials/*/epochs.jsonl")):
        assert first.poll() is None
        time.sleep(0.1)
    for pid in family(first.pid):
        os.kill(pid, signal.SIGKILL)
    first.wait()
    both = [start(place, "resume", str(sweep)) for _ in range(2)]
    codes = sorted(driver.wait() for driver in both)
    assert codes == [0, 2]
    (refused,) = [line for line in (place / "out.txt").read_text().splitlines() if line.startswith("error: ")]
    assert "is in use by" in refused
    check_whole(sweep, TRIALS, EPOCHS, 1)
