"""Whether workers are forked, and the command that Ray is given for it."""

import json
import subprocess
import sys

import pytest

from mergenet.errors import ConfigError
from sweeps.execution.forkserver.start import START_METHOD, THEIRS, forks, runtime_env

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (START_METHOD, JOB):
        monkeypatch.delenv(name, raising=False)


def test_the_start_method_is_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert forks()
    monkeypatch.setenv(START_METHOD, "spawn")
    assert not forks()
    assert runtime_env(here=True) == runtime_env(here=False) == {}
    monkeypatch.setenv(START_METHOD, "fork")
    with pytest.raises(ConfigError) as caught:
        forks()
    text = "MERGENET_START_METHOD must be forkserver or spawn, got 'fork'; unset it for the first"
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("job", "forked"),
    [
        ({"runtime_env": {"pip": ["rich"]}}, False),  # it may have a Python of its own
        ({"runtime_env": {}, "metadata": {"job_name": "a"}}, True),
        ({}, True),
    ],
)
def test_a_job_with_a_runtime_environment_starts_its_workers_its_own_way(
    job: object, forked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JOB, json.dumps(job))
    assert forks() == forked


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux")
@pytest.mark.parametrize("told", [True, False])
def test_another_node_uses_the_python_of_its_raylet(told: bool) -> None:
    """A raylet has the command of its workers among its arguments; without it, the path's Python."""
    raylet = "import subprocess, sys; subprocess.run(['bash', '-c', 'echo ' + sys.argv[1]])"
    command = "--python_worker_command=/env/bin/python /env/setup_worker.py --node-ip-address=1.2.3.4"
    options = ["--store=1", *([command] if told else []), "--head"]
    done = subprocess.run([sys.executable, "-c", raylet, THEIRS, *options], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ("/env/bin/python" if told else "python3")


def test_the_environment_of_ray_is_one_command() -> None:
    assert runtime_env(here=True).keys() == {"py_executable"}
    command = runtime_env(here=True)["py_executable"]
    printed = subprocess.check_output(["bash", "-c", f"exec {command} -c 'print(1)'"], text=True)
    assert printed == "1\n"  # no script of Ray's: started as it is
