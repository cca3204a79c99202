"""Workers that are forked: they are as fresh ones, they differ, and whatever is lost, a worker is started."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps.execution.forkserver.client import REFUSED, SOCKET, folder_of, tidy
from sweeps.execution.forkserver.start import TOKEN, fork_server, runtime_env

FACTS = """
import json, os, random, sys
import numpy as np
from ray import WorkerID
print(json.dumps({
    "arguments": sys.argv[1:], "script": sys.modules["__main__"].__file__, "name": __name__, "path": sys.path[0],
    "folder": os.getcwd(), "environment": dict(os.environ), "input": sys.stdin.read(), "parent": os.getppid(),
    "oom_score_adj": open("/proc/self/oom_score_adj").read(), "leads": os.getpgid(0) == os.getpid(),
    "loaded": sorted(sys.modules.keys() & {"torch", "ray", "ray.train", "pandas"}),
    "draws": [random.random(), float(np.random.random()), WorkerID.from_random().hex()],
}))
sys.exit(int(os.environ.get("STATUS", 0)))
"""
SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Ray's folder for temporary files, with a server that has loaded everything. Its name is short, for the socket."""
    folder = Path(tempfile.mkdtemp(prefix="forks-", dir="/tmp"))
    with fork_server(folder):
        until(lambda: facts(folder, folder)["parent"] != os.getpid(), 120)  # a client waits for some seconds only
        yield folder
    until(lambda: not (folder_of(folder, TOKEN) / SOCKET).exists(), 30)  # the server ends, and tidies up
    shutil.rmtree(folder)


def worker(place: Path, script: Path, *arguments: str) -> list[str]:
    """A worker's command, as Ray runs it."""
    line = f"exec {runtime_env(here=True)['py_executable']} {script} --temp-dir={place} {' '.join(arguments)}"
    return ["bash", "-c", line]


def facts(place: Path, folder: Path, **changes: str) -> dict[str, Any]:
    script = folder / "facts.py"
    script.write_text(FACTS)
    done = subprocess.run(
        worker(place, script, "--more"),
        cwd=folder,
        env=os.environ | {"OF_THE_WORKER": "yes"} | changes,
        input="what is put in",
        capture_output=True,
        text=True,
        check=False,
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


def test_a_forked_worker_is_as_a_fresh_one(place: Path, tmp_path: Path) -> None:
    forked = facts(place, tmp_path, STATUS="3")
    assert "forkserver.server" in Path(f"/proc/{forked['parent']}/cmdline").read_text()
    assert forked["loaded"] == ["pandas", "ray", "torch"]  # Ray Train draws numbers of Ray's, so it is not
    script = tmp_path / "facts.py"
    fresh = subprocess.run(
        [sys.executable, script, f"--temp-dir={place}", "--more"],
        cwd=tmp_path,
        env=os.environ | {"OF_THE_WORKER": "yes", "STATUS": "3"},
        input="what is put in",
        capture_output=True,
        text=True,
        check=False,
    )
    expected = json.loads(fresh.stdout)
    for name in ("arguments", "script", "name", "folder", "input", "oom_score_adj"):
        assert forked[name] == expected[name], name
    assert forked["leads"]  # a process group of its own, which Ray signals
    assert Path(forked["path"]) == tmp_path
    given, other = forked["environment"], expected["environment"]
    assert given["OF_THE_WORKER"] == "yes"
    assert {name: given[name] for name in other.keys() - {"_", "PWD", "OLDPWD", "SHLVL"}}.items() <= other.items()


def test_two_workers_draw_different_numbers(place: Path, tmp_path: Path) -> None:
    first, second = (facts(place, tmp_path)["draws"] for _ in range(2))
    assert not set(first) & set(second)


def test_ray_train_would_make_them_the_same() -> None:
    code = (
        "from sweeps.execution.forkserver.server import check_draws\n"
        "check_draws()\n"
        "import ray.train\n"
        "try: check_draws()\n"
        "except RuntimeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "an import has drawn random numbers of Ray's\n"


@pytest.mark.parametrize("first", ["client", "worker"])
def test_client_and_worker_end_together(first: str, place: Path, tmp_path: Path) -> None:
    script = tmp_path / "sleep.py"
    script.write_text(SLEEP)
    with subprocess.Popen(worker(place, script), stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        process = int(client.stdout.readline())
        assert process != client.pid
        os.kill(client.pid if first == "client" else process, signal.SIGKILL)
        assert client.wait(timeout=10) == (-9 if first == "client" else 0xFF & -9)
    until(lambda: not alive(process), 10)


def test_a_worker_outlives_its_server_and_the_next_has_another(place: Path, tmp_path: Path) -> None:
    script = tmp_path / "sleep.py"
    script.write_text(SLEEP)
    server = facts(place, tmp_path)["parent"]
    with subprocess.Popen(worker(place, script), stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        process = int(client.stdout.readline())
        os.kill(server, signal.SIGKILL)
        until(lambda: not alive(server), 10)
        until(lambda: facts(place, tmp_path)["parent"] not in (server, os.getpid()), 120)
        assert alive(process)
        assert client.wait(timeout=10) == 1
        os.kill(process, signal.SIGKILL)


def others(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "site").mkdir()
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])}


def test_a_worker_with_another_path_starts_afresh(place: Path, tmp_path: Path) -> None:
    assert facts(place, tmp_path, **others(tmp_path))["parent"] == os.getpid()


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    (tmp_path / f"forks-{os.geteuid()}").mkdir(mode=0o777)
    (tmp_path / f"forks-{os.geteuid()}").chmod(0o777)
    with pytest.raises(PermissionError, match="must be a folder of this user alone"):
        folder_of(tmp_path, "token")
    assert facts(tmp_path, tmp_path)["parent"] == os.getpid()
    with fork_server(tmp_path):
        assert not list(tmp_path.glob(f"*/*/{SOCKET}"))


def test_a_server_that_cannot_be_is_tried_once(tmp_path: Path) -> None:
    short = Path(tempfile.mkdtemp(prefix="forks-", dir="/tmp"))
    changes = others(tmp_path)
    (tmp_path / "site/fsspec.py").write_text("raise ImportError('is not whole')")
    try:
        assert facts(short, tmp_path, **changes)["parent"] == os.getpid()
        refused = folder_of(short, TOKEN) / REFUSED
        assert refused.read_text() == "ImportError: is not whole\n"
        written = refused.stat().st_mtime_ns
        assert facts(short, tmp_path, **changes)["parent"] == os.getpid()
        assert refused.stat().st_mtime_ns == written
    finally:
        shutil.rmtree(short)


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
        "from sweeps.execution.forkserver import server\n"
        "sys.stdin.close()\n"
        "server.load(['json'])\n"
        "server.GPUS = ('/dev/null',)\n"
        "try: server.load(['loads'])\n"
        "except RuntimeError as error: print(error)"
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


def test_what_killed_servers_leave_is_deleted(tmp_path: Path) -> None:
    old, new = (folder_of(tmp_path, name) for name in ("old", "new"))
    os.utime(old, (0, 0))
    tidy(old.parent)
    assert not old.exists()
    assert new.exists()
