"""Whether workers are forked, and the command that Ray is given for it."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (["--python_worker_command=/env/bin/python /env/setup_worker.py --node-ip-address=1.2.3.4"], "/env/bin/python"),
        (['--python_worker_command="/my env/bin/python" /env/setup_worker.py "a b"'], "/my env/bin/python"),
        ([], "python3"),
    ],
)
def test_another_node_uses_the_python_of_its_raylet(given: list[str], used: str) -> None:
    """A raylet has the command of its workers among its arguments; without it, the path's Python."""
    raylet = "import subprocess, sys; subprocess.run(['bash', '-c', 'echo ' + sys.argv[1]])"
    options = ["--store=1", *given, "--head"]
    done = subprocess.run([sys.executable, "-c", raylet, THEIRS, *options], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == used


def test_the_environment_of_ray_is_one_command(tmp_path: Path) -> None:
    assert runtime_env(here=True).keys() == {"py_executable"}
    script = tmp_path / "a script.py"
    script.write_text("import sys; print(sys.argv[1])")
    command = f"exec {runtime_env(here=True)['py_executable']} {shlex.quote(str(script))} '$HOME is it'"
    assert subprocess.check_output(["bash", "-c", command], text=True) == "$HOME is it\n"
