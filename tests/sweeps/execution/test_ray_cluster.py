"""A Ray that is to be joined and is not there: one line, at once. What Ray says by itself is not heard.

Workers that would import another package of our name are told of before anything is given to them.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import ray
from click.testing import CliRunner
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.utils.callback import _create_default_callbacks

from mergenet.cli.main import cli
from mergenet.errors import ConfigError
from sweeps.execution.ray_cluster import NEEDED, QUIET, check_address, joined_ray, quiet
from sweeps.execution.tune_callbacks import Silent


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:1", "127.0.0.1:x"])
def test_no_ray_at_the_address(address: str) -> None:
    with quiet(), pytest.raises(ConfigError) as caught, joined_ray(address):
        pass
    assert str(caught.value).startswith(
        f"address (--address) must be that of a running Ray, as auto or HOST:6379, got {address!r}"
    )
    assert len(str(caught.value).splitlines()) == 1
    assert not ray.is_initialized()


def test_a_trial_that_is_paused_before_its_first_report_is_not_told_by_tune(capsys: pytest.CaptureFixture[str]) -> None:
    """Tune's own callback prints its name at any verbosity; with ours among the callbacks Tune adds none."""

    class Paused:
        last_result: ClassVar[dict[str, Any]] = {}

    callbacks = _create_default_callbacks([Silent()])
    assert [type(one) for one in callbacks if isinstance(one, TrialProgressCallback)] == [Silent]
    for callback in (TrialProgressCallback(), Silent()):
        callback.on_trial_complete(0, [], Paused())  # type: ignore[arg-type] # all that it looks at
        assert bool(capsys.readouterr().out) == (type(callback) is TrialProgressCallback)


ROOT = Path(__file__).parents[3]
ASK_WORKERS = """
import sys
sys.path.insert(0, sys.argv[1])  # this process has ours first; Ray's workers are not told
from mergenet.cli.main import cli
from mergenet.errors import ConfigError
from sweeps.execution.local_ray import local_ray
from sweeps.execution.ray_cluster import look_at_workers, quiet
with quiet(), local_ray(1):
    try:
        look_at_workers()()
    except ConfigError as error:
        print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("theirs", [True, False])
def test_workers_that_find_another_package_of_our_name(theirs: bool, tmp_path: Path) -> None:
    other = tmp_path / "site"
    (other / "sweeps").mkdir(parents=True)
    (other / "sweeps/__init__.py").touch()
    (tmp_path / "ask.py").write_text(ASK_WORKERS)
    path = os.pathsep.join(map(str, [other, ROOT] if theirs else [ROOT, other]))
    done = subprocess.run(
        [sys.executable, tmp_path / "ask.py", str(ROOT)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == theirs, lines
    if theirs:
        assert lines[0].startswith("Ray's workers on node ")
        assert f": the package sweeps must be mergenet's own, got {other / 'sweeps'}; rename it" in lines[0]


LOOK_AT_HEAD = """
import sys
from sweeps.execution.local_ray import local_ray
from sweeps.execution.ray_cluster import quiet, slow_head
with quiet(), local_ray(int(sys.argv[1])):
    print(slow_head(15), slow_head(16), sep="\\n")
"""


@pytest.mark.slow
@pytest.mark.parametrize("cpus", [0, 1])
def test_a_head_without_cpus_is_told_where_many_relays_start(cpus: int) -> None:
    told = subprocess.check_output([sys.executable, "-c", LOOK_AT_HEAD, str(cpus)], text=True, cwd=ROOT)
    few, many = told.splitlines()
    assert few == "None"
    assert many == "None" if cpus else many.startswith("the head has no CPUs, so that Ray starts one process at a time")


@pytest.mark.parametrize(
    "address", ["ray://me:canary@localhost:10001", "me:canary@localhost:6379", "nowhere", "ray://a:1"]
)
def test_an_address_is_refused_before_anything_is_written_and_no_password_is_shown(
    tmp_path: Path, address: str
) -> None:
    folder = tmp_path / "sweep"
    done = CliRunner().invoke(cli, ["sweep", "run", "quickstart", "--dir", str(folder), "--address", address])
    assert (done.exit_code, folder.exists()) == (2, False)
    assert done.output.startswith("error: address (--address) must be auto or HOST:PORT of a running Ray, got ")
    assert "canary" not in done.output


@pytest.mark.parametrize(
    "command", [("run", "quickstart"), ("ablate", "shared-inputs", "--factors", "transfer.t_cycle")]
)
def test_where_no_ray_runs_nothing_is_written(tmp_path: Path, command: tuple[str, ...]) -> None:
    folder = tmp_path / "sweep"
    done = CliRunner().invoke(cli, ["sweep", *command, "--dir", str(folder), "--address", "127.0.0.1:1"])
    assert (done.exit_code, folder.exists()) == (2, False)
    assert done.output.startswith(
        "error: address (--address) must be that of a running Ray, as auto or HOST:6379, got "
    )


@pytest.mark.parametrize("address", [None, "auto", "127.0.0.1:6379", "head.example.org:6379", "[::1]:6379"])
def test_an_address_of_a_ray(address: str | None) -> None:
    check_address(address)


def test_what_was_left_in_the_environment_does_not_change_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in QUIET:
        monkeypatch.setenv(name, "left")
    with quiet():
        inside = {name: os.environ[name] for name in QUIET}
    assert inside == {name: value if name in NEEDED else "left" for name, value in QUIET.items()}
    assert {os.environ[name] for name in QUIET} == {"left"}
