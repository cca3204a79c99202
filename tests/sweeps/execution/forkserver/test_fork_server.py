"""Workers that are forked: they are as fresh ones, they differ, and whatever is lost, a worker is started."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps.execution.forkserver import client
from sweeps.execution.forkserver.client import REFUSED, SOCKET, connect, folder_of, tidy
from sweeps.execution.forkserver.start import TOKEN, fork_server, runtime_env

FACTS = """
import json, os, random, resource, sys, tempfile
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as Ray does
import numpy as np
from threadpoolctl import threadpool_info
from ray import WorkerID
print(json.dumps({
    "arguments": sys.argv[1:], "script": sys.modules["__main__"].__file__, "name": __name__, "path": sys.path[0],
    "folder": os.getcwd(), "environment": dict(os.environ), "input": sys.stdin.read(), "parent": os.getppid(),
    "oom_score_adj": open("/proc/self/oom_score_adj").read(), "leads": os.getpgid(0) == os.getpid(),
    "session": os.getsid(0),
    "loaded": sorted(sys.modules.keys() & {"torch", "torchvision", "ray", "ray.train", "pandas"}),
    "temporary": tempfile.gettempdir(), "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "threads": sorted({one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}),
    "draws": [random.random(), float(np.random.random()), WorkerID.from_random().hex()],
}))
sys.exit(int(os.environ.get("STATUS", 0)))
"""
FORKED_ALIKE = [
    "arguments",
    "script",
    "name",
    "folder",
    "input",
    "session",
    "oom_score_adj",
    "temporary",
    "open_files",
    "threads",
]
# what bash sets for itself, or drops: an active virtual environment exports its prompt
SHELLS = "_", "PWD", "OLDPWD", "SHLVL", "PS1"
SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


@pytest.fixture(scope="module")
def driver() -> Iterator[None]:
    with fork_server():
        yield
    until(lambda: not (folder_of(TOKEN.name) / SOCKET).exists(), 10)  # the server ends with its driver, and tidies up
    folder_of(TOKEN.name).rmdir()


@pytest.fixture
def server(driver: None, tmp_path: Path) -> None:  # noqa: ARG001 (it is there)
    """One that has loaded everything, which a client waits for some seconds only. A test may have killed the last."""
    until(lambda: facts(tmp_path)["parent"] != os.getpid(), 120)


def worker(script: Path, *arguments: str) -> list[str]:
    """A worker's command, as Ray runs it."""
    line = f"exec {runtime_env(here=True)['py_executable']} {script} {' '.join(arguments)}"
    return ["bash", "-c", line]


def facts(folder: Path, **changes: str) -> dict[str, Any]:
    """Of a worker that is started as Ray would."""
    return printed(worker(folder / "facts.py", "--more"), folder, changes)


def printed(command: list[str], folder: Path, changes: dict[str, str]) -> dict[str, Any]:
    """What FACTS prints. changes: to the environment; STATUS is the exit status that it shall have."""
    (folder / "facts.py").write_text(FACTS)
    environment = os.environ | {"OF_THE_WORKER": "yes"} | changes
    done = subprocess.run(
        command, cwd=folder, env=environment, input="what is put in", capture_output=True, text=True, check=False
    )
    assert done.returncode == int(changes.get("STATUS", 0)), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(process: int) -> bool:
    """Whether it runs: a process whose end nobody has asked for is listed as Z."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.usefixtures("server")
def test_a_forked_worker_is_as_a_fresh_one(tmp_path: Path) -> None:
    changes = {"STATUS": "3", "TMPDIR": str(tmp_path)}
    forked = facts(tmp_path, **changes)
    assert "forkserver.server" in Path(f"/proc/{forked['parent']}/cmdline").read_text()
    assert forked["loaded"] == [
        "pandas",
        "ray",
        "torch",
        "torchvision",
    ]  # Ray Train draws numbers of Ray's, so it is not
    expected = printed([sys.executable, str(tmp_path / "facts.py"), "--more"], tmp_path, changes)
    for name in FORKED_ALIKE:
        assert forked[name] == expected[name], name
    assert forked["leads"]  # a process group of its own, which Ray signals
    assert Path(forked["path"]) == tmp_path
    given, other = (
        {name: value for name, value in each["environment"].items() if name not in SHELLS}
        for each in (forked, expected)
    )
    assert given["OF_THE_WORKER"] == "yes"
    assert {name: given.get(name) for name in other} == other
    assert given.keys() - other.keys() <= {
        "TORCHINDUCTOR_CACHE_DIR"
    }  # which an import of torch's sets, unless it was set


@pytest.mark.usefixtures("server")
def test_two_workers_draw_different_numbers(tmp_path: Path) -> None:
    first, second = (facts(tmp_path)["draws"] for _ in range(2))
    assert not set(first) & set(second)


def test_ray_train_would_make_them_the_same() -> None:
    code = (
        "from sweeps.execution.forkserver import loading\n"
        "loading.check_draws()\n"
        "import ray.train\n"
        "try: loading.check_draws()\n"
        "except loading.CannotFork as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "an import has drawn random numbers of Ray's\n"


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("first", ["client", "worker"])
def test_client_and_worker_end_together(first: str, tmp_path: Path) -> None:
    script = tmp_path / "sleep.py"
    script.write_text(SLEEP)
    with subprocess.Popen(worker(script), stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        process = int(waiting.stdout.readline())
        assert process != waiting.pid
        os.kill(waiting.pid if first == "client" else process, signal.SIGKILL)
        assert waiting.wait(timeout=10) == (-9 if first == "client" else 0xFF & -9)
    until(lambda: not alive(process), 10)


@pytest.mark.usefixtures("server")
def test_a_worker_outlives_its_server_and_the_next_has_another(tmp_path: Path) -> None:
    script = tmp_path / "sleep.py"
    script.write_text(SLEEP)
    first = facts(tmp_path)["parent"]
    with subprocess.Popen(worker(script), stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        process = int(waiting.stdout.readline())
        os.kill(first, signal.SIGKILL)
        until(lambda: not alive(first), 10)
        until(lambda: facts(tmp_path)["parent"] not in (first, os.getpid()), 120)
        assert alive(process)
        assert waiting.wait(timeout=10) == 1
        os.kill(process, signal.SIGKILL)


def test_a_worker_begins_once_its_client_knows_of_it() -> None:
    """A server that is killed in between would otherwise leave two: this one, and the one that the client starts."""
    code = (
        "import os\n"
        "from sweeps.execution.forkserver.server import Go\n"
        "for told in (True, False):\n"
        "    go = Go(); go.open()\n"
        "    if not (process := os.fork()):\n"
        "        go.wait(); os._exit(7)\n"
        "    go.give() if told else [os.close(end) for end in go.ends]\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["7", "1"]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a server that nobody else uses."""
    token = uuid.uuid4().hex[:8]
    monkeypatch.setattr(TOKEN, "name", token)
    yield folder_of(token)
    shutil.rmtree(folder_of(token), ignore_errors=True)


def others(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "site").mkdir()
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.usefixtures("server")
def test_a_worker_with_another_path_starts_afresh(tmp_path: Path) -> None:
    assert facts(tmp_path, **others(tmp_path))["parent"] == os.getpid()


@pytest.mark.usefixtures("server")
def test_a_worker_with_other_settings_of_rays_starts_afresh(tmp_path: Path) -> None:
    """Ray has read them when the server loaded it: a worker would wait for ever without its token, or end too early."""
    changes = {}, {"RAY_AUTH_TOKEN_PATH": "another"}, {"RAY_RAYLET_PID": "1"}, {"RAY_JOB_ID": "2"}
    parents = [facts(tmp_path, **each)["parent"] for each in changes]
    assert [parent == os.getpid() for parent in parents] == [False, True, True, False]


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PLACE", tmp_path)
    folder_of("token").parent.chmod(0o777)
    with pytest.raises(PermissionError, match="must be a folder of this user alone"):
        folder_of("token")
    with fork_server():
        assert not list(tmp_path.glob(f"*/*/{SOCKET}"))


def test_a_server_that_cannot_be_is_tried_once(alone: Path, tmp_path: Path) -> None:
    changes = others(tmp_path)
    (tmp_path / "site/fsspec.py").write_text("raise ImportError('is not whole')")
    assert facts(tmp_path, **changes)["parent"] == os.getpid()
    assert (alone / REFUSED).read_text() == "ImportError: is not whole\n"
    written = (alone / REFUSED).stat().st_mtime_ns
    assert facts(tmp_path, **changes)["parent"] == os.getpid()
    assert (alone / REFUSED).stat().st_mtime_ns == written


@pytest.mark.slow
def test_without_a_driver_a_server_ends_some_seconds_after_its_last_worker(alone: Path, tmp_path: Path) -> None:
    forked = facts(tmp_path)["parent"]
    assert forked != os.getpid()
    connect(alone).close()  # somebody who looks whether it is there
    time.sleep(1)
    assert facts(tmp_path)["parent"] == forked
    until(lambda: not alone.exists(), 20)
    until(lambda: not alive(forked), 10)


THREAD = "import threading\nthreading.Thread(target=threading.Event().wait, name='t', daemon=True).start()"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (THREAD, "an import has started threads: t"),
        ("file = open('/dev/null')", "an import has opened /dev/null"),
    ],
)
def test_what_cannot_be_forked_is_not(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "loads.py").write_text(text)
    code = (
        "import sys\n"
        "from sweeps.execution.forkserver import loading\n"
        "sys.stdin.close()\n"
        "loading.load(['json'])\n"
        "loading.GPUS = ('/dev/null',)\n"
        "try: loading.load(['loads'])\n"
        "except loading.CannotFork as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == reason


def test_what_killed_servers_leave_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PLACE", tmp_path)
    old, new = folder_of("old"), folder_of("new")
    os.utime(old, (0, 0))
    tidy(old.parent)
    assert not old.exists()
    assert new.exists()
