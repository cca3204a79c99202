"""Runs read by several processes are read as by one, whatever becomes of the others."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mergenet.errors import CheckpointError, UserError
from mergenet.records import shared_reading
from mergenet.records.shared_reading import attempt, read_all

FIRST = "FIRST_PROCESS"  # in the environment: its number


def elsewhere() -> bool:
    return os.environ[FIRST] != str(os.getpid())


def read(run: Path) -> Any:
    """Importable, for a process that is started anew. Says who has read it."""
    text = run.read_text()
    if text.startswith("broken"):
        raise CheckpointError(f"{run}: {text}")
    return {"text": text, "odd": (1, 2) if text.endswith("3") else [float("nan"), 1.0, None], "elsewhere": elsewhere()}


def without_process(found: list[Any]) -> str:
    return repr([value if isinstance(value, UserError) else value | {"elsewhere": None} for value in found])


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv(FIRST, str(os.getpid()))
    paths = [tmp_path / f"run {number}\n" for number in range(60)]
    for number, path in enumerate(paths):
        path.write_text("broken" if number % 7 == 0 else f"text {number}")
    (paths[5]).unlink()
    return paths


@pytest.fixture(params=[True, False], ids=["forked", "started"])
def shared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Few runs are worth a further process. Whether it is a copy of this one."""
    for name in ("FORKED", "STARTED", "BLOCK"):
        monkeypatch.setattr(shared_reading, name, 1)
    monkeypatch.setattr(shared_reading, "_free_cores", lambda: 3)
    monkeypatch.setattr(shared_reading, "_may_fork", lambda: request.param)
    return bool(request.param)


def test_several_processes_read_what_one_reads(runs: list[Path], shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one takes none itself, so that the others, which are started anew or not, do."""
    taken = shared_reading._taken
    monkeypatch.setattr(shared_reading, "_taken", lambda *which: taken(*which) if elsewhere() else iter(()))
    found = read_all(runs, read)
    assert without_process(found) == without_process([attempt(run, read) for run in runs])
    assert [type(value) for value in found].count(UserError) == 10, shared
    for value in found:
        if isinstance(value, dict):
            assert value["elsewhere"] is (value["odd"] != (1, 2)), "JSON does not give a tuple back"


def test_the_first_one_takes_its_part(runs: list[Path], shared: bool) -> None:
    found = read_all(runs, slow)
    assert without_process(found) == without_process([attempt(run, read) for run in runs])
    parts = {value["elsewhere"] for value in found if isinstance(value, dict)}
    assert parts == {False, True} if shared else False in parts


def slow(run: Path) -> Any:
    """So that each process gets some."""
    threading.Event().wait(0.02)
    return read(run)


def dies_elsewhere(run: Path) -> Any:
    if elsewhere() and run.name == "run 30\n":
        os.kill(os.getpid(), signal.SIGKILL)
    return slow(run)


def fails_elsewhere(run: Path) -> Any:
    if elsewhere() and run.name > "run 3":
        raise ZeroDivisionError
    return slow(run)


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("reader", [dies_elsewhere, fails_elsewhere])
def test_what_another_process_leaves_is_read_by_this_one(runs: list[Path], reader: Callable[[Path], Any]) -> None:
    assert without_process(read_all(runs, reader)) == without_process([attempt(run, read) for run in runs])


@pytest.mark.usefixtures("shared")
def test_so_is_everything_where_no_process_can_be_started(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "fork", refused)
    expected = without_process([attempt(run, read) for run in runs])
    for executable in ("/bin/false", "/nowhere/python"):
        monkeypatch.setattr(sys, "executable", executable)
        found = read_all(runs, read)
        assert without_process(found) == expected
        assert not any(value["elsewhere"] for value in found if isinstance(value, dict))


def test_a_reader_without_a_name_is_not_given_to_a_new_process(runs: list[Path], shared: bool) -> None:
    told = []
    found = read_all(runs, lambda run: told.append(run.name) or read(run))
    assert without_process(found) == without_process([attempt(run, read) for run in runs])
    assert shared or told == [run.name for run in runs]


def test_an_error_of_the_program_is_told_and_leaves_no_process(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    started: list[int] = []
    fork = os.fork
    monkeypatch.setattr(os, "fork", lambda: started.append(fork()) or started[-1])

    def wrong(run: Path) -> Any:
        raise ZeroDivisionError(run)

    with pytest.raises(ZeroDivisionError):
        read_all(runs, wrong)
    assert len(started) == (2 if shared else 0)
    for process in started:
        with pytest.raises(ChildProcessError):
            os.waitpid(process, os.WNOHANG)


@pytest.mark.parametrize(
    ("load", "others", "free"), [(0.9, 9, 4), (1.0, 9, 3), (2.7, 9, 2), (9.0, 9, -5), (9.0, 0, 4), (2.7, 1, 3)]
)
def test_cores_that_others_keep_busy_are_left_to_them(
    monkeypatch: pytest.MonkeyPatch, load: float, others: int, free: int
) -> None:
    monkeypatch.setattr(shared_reading, "_others", lambda: others)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    assert shared_reading._free_cores() == free
    monkeypatch.delattr(os, "getloadavg")
    assert shared_reading._free_cores() == 4


def test_others_are_those_that_run_now() -> None:
    spin = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        seen = max(shared_reading._others() for _ in range(200) if not time.sleep(0.01))
    finally:
        for process in spin:
            process.kill()
            process.wait()
    assert 3 <= seen < sys.maxsize if Path("/proc/loadavg").exists() else seen == sys.maxsize


@pytest.mark.usefixtures("shared")
def test_on_a_busy_machine_one_process_reads_all(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_reading, "_free_cores", lambda: -5)
    assert not any(value["elsewhere"] for value in read_all(runs, slow) if isinstance(value, dict))


def test_a_process_with_several_threads_is_not_copied() -> None:
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    try:
        assert not shared_reading._may_fork()
    finally:
        event.set()
        thread.join()


def test_the_last_line_of_a_process_that_was_killed_may_be_torn() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b'[3, {"a": NaN}, null]\n[4, null, "why"]\n[5, {"a"')
        found = shared_reading._told(file)
    assert (repr(found[3]), str(found[4]), len(found)) == ("{'a': nan}", "why", 2)


def test_blocks_cover_all_runs_and_fit_into_a_pipe() -> None:
    for count in (1, 15, 16, 17, 1000, 123_457):
        with shared_reading._queue(count) as queue:
            assert list(shared_reading._taken(queue, count)) == list(range(count))
