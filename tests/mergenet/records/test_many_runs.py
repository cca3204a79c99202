"""Run folders that were read before: whatever changes is read again, and no cache file does harm."""

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.tables.load import READER
from mergenet.errors import CheckpointError
from mergenet.records import many_runs
from mergenet.records.many_runs import Reader, read_many
from mergenet.records.shared_reading import attempt

FILES = ("a.json", "b.json")


def read_folder(run: Path) -> dict[str, Any]:
    """Importable, for a second process."""
    text = (run / "a.json").read_text()
    if text.startswith("broken"):
        raise CheckpointError(f"{run}: {text}")
    other = (run / "b.json").read_text() if (run / "b.json").exists() else None
    return {"a": text, "b": other, "nan": math.nan, "inf": math.inf, "third": 1 / 3, "one": 1.0, "list": [1, None]}


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five runs are worth a file, and what is older than a hundredth of a second has settled."""
    monkeypatch.setattr(many_runs, "FEWEST", 5)
    monkeypatch.setattr(many_runs, "SETTLED", 0.01)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home/cache"))
    return tmp_path / "home/cache/mergenet"


class Looks:
    """Looks at runs again and again; counts those that are read anew."""

    def __init__(self, folder: Path, count: int = 6) -> None:
        self.read: list[str] = []
        self.runs = [folder / f"run-{number}" for number in range(count)]
        for number, run in enumerate(self.runs):
            run.mkdir(parents=True)
            (run / "a.json").write_text(f"text {number}")
            (run / "b.json").write_text("b")
        self.reader = Reader(self._read, FILES, "test", ("mergenet.records",))

    def _read(self, run: Path) -> Any:
        self.read.append(run.name)
        return read_folder(run)

    def __call__(self) -> list[str]:
        """The names of those that were read; what is told must be what is there."""
        time.sleep(0.05)
        self.read.clear()
        told = read_many(self.runs, self.reader)
        assert repr(told) == repr([attempt(run, read_folder) for run in self.runs])
        return list(self.read)


ALL = [f"run-{number}" for number in range(6)]


def test_what_has_not_changed_is_not_read_again(tmp_path: Path, cache_home: Path) -> None:
    looks = Looks(tmp_path / "runs")
    assert (looks(), looks(), looks()) == (ALL, [], [])
    assert len(list(cache_home.iterdir())) == 1
    assert cache_home.stat().st_mode & 0o777 == 0o700
    assert set(tmp_path.iterdir()) == {tmp_path / "runs", tmp_path / "home"}, "nothing among the records"


def edit(path: Path) -> None:
    path.write_text("Text 1")


def edit_and_put_the_time_back(path: Path) -> None:
    before = path.stat()
    path.write_text("TEXT 1")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def edit_in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"tExt")


def truncate(path: Path) -> None:
    os.truncate(path, 3)


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("more")


def replace_with_the_same_time_and_size(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    other.write_text("texT 1")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def break_it(path: Path) -> None:
    path.write_text("broken")


def remove_the_other(path: Path) -> None:
    path.with_name("b.json").unlink()


def link_elsewhere(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    elsewhere.write_text("text !")
    path.unlink()
    path.symlink_to(elsewhere)


CHANGES = [
    *(edit, edit_and_put_the_time_back, edit_in_place, truncate, append, replace_with_the_same_time_and_size),
    *(break_it, remove_the_other, link_elsewhere),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_read_again(tmp_path: Path, change: Callable[[Path], None]) -> None:
    looks = Looks(tmp_path / "runs")
    assert (looks(), looks()) == (ALL, [])
    change(looks.runs[1] / "a.json")
    assert looks() == ["run-1"]
    assert looks() == (["run-1"] if change is break_it else [])


def test_new_runs_are_read_and_deleted_ones_forgotten(tmp_path: Path, cache_home: Path) -> None:
    looks = Looks(tmp_path / "runs", count=8)
    looks.runs, later = looks.runs[:6], looks.runs[6:]
    assert (looks(), looks()) == (ALL, [])
    looks.runs = looks.runs[1:] + later
    assert (looks(), looks()) == (["run-6", "run-7"], [])
    [file] = cache_home.iterdir()
    assert "run-0" not in file.read_text()


def test_a_run_that_has_changed_just_now_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second change in the same tick of a coarse clock would not be seen."""
    looks = Looks(tmp_path / "runs")
    monkeypatch.setattr(many_runs, "SETTLED", 60.0)
    assert (looks(), looks()) == (ALL, ALL)
    monkeypatch.setattr(many_runs, "SETTLED", 0.01)
    os.utime(looks.runs[0] / "a.json", (time.time() + 1000, time.time() + 1000))
    assert (looks(), looks()) == (ALL, ["run-0"])


def test_a_run_that_changes_while_it_is_read_is_not_remembered(tmp_path: Path) -> None:
    looks = Looks(tmp_path / "runs")

    def read(run: Path) -> Any:
        value = read_folder(run)
        if run.name == "run-2":
            append(run / "a.json")
        return value

    time.sleep(0.05)
    read_many(looks.runs, Reader(read, FILES, "test", ("mergenet.records",)))
    assert looks() == ["run-2"]


def damage(text: bytes) -> dict[str, bytes]:
    title, body = text.split(b"\n", 1)
    return {
        "empty": b"",
        "no line": b"x",
        "cut off": text[:-10],
        "a digit": title + b"\n" + body.replace(b"text 3", b"text 8"),
        "no title": body,
        "a list": title + b"\n[]",
        "a pickle": b"\x80\x04\x95\n.",
        "deep": b"[" * 100_000,
        "other code": text.replace(json.loads(title)["code"].encode(), b"0" * 64),
        "of another folder": text.replace(b"test of ", b"test of /x"),
    }


@pytest.mark.parametrize("kind", damage(b'{"code": ""}\n'))
def test_a_cache_file_that_is_not_ours_is_as_good_as_none(tmp_path: Path, cache_home: Path, kind: str) -> None:
    looks = Looks(tmp_path / "runs")
    looks()
    [file] = cache_home.iterdir()
    file.write_bytes(damage(file.read_bytes())[kind])
    assert (looks(), looks()) == (ALL, []), "read again, and written anew"


def test_other_code_or_another_python_reads_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(tmp_path / "runs")
    assert (looks(), looks()) == (ALL, [])
    monkeypatch.setattr(sys, "version", "3.99")
    assert looks() == ALL


def test_where_nothing_can_be_written_everything_is_read(
    tmp_path: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(tmp_path / "runs")
    cache_home.parent.parent.mkdir()
    cache_home.parent.write_text("a file in place of the folder")
    assert (looks(), looks()) == (ALL, ALL)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/dev/null")
    assert (looks(), looks()) == (ALL, ALL)


def test_a_folder_whose_name_is_no_text_is_read(tmp_path: Path) -> None:
    looks = Looks(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")))
    assert (looks(), looks()) == (ALL, ALL)


def test_a_read_only_sweep_is_remembered_as_well(tmp_path: Path) -> None:
    looks = Looks(tmp_path / "runs")
    for path in [*(tmp_path / "runs").rglob("*"), tmp_path / "runs"]:
        path.chmod(0o555)
    assert (looks(), looks()) == (ALL, [])
    for path in [tmp_path / "runs", *looks.runs]:
        path.chmod(0o755)


def test_few_runs_have_no_file_and_old_files_make_room(
    tmp_path: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_runs, "KEPT", 2)
    assert Looks(tmp_path / "few", count=4)() == ALL[:4]
    assert not cache_home.exists()
    for name in "abc":
        Looks(tmp_path / name)()
    assert len(list(cache_home.iterdir())) == 2
    monkeypatch.undo()


def test_values_that_json_does_not_give_back_are_read_again(tmp_path: Path) -> None:
    looks = Looks(tmp_path / "runs")
    odd: dict[str, Any] = dict(zip(ALL, [{1: 2}, (1, 2), {"a": {1}}, "\ud800", 2**80, [True, 1, 1.0]], strict=True))
    read: list[str] = []

    def odd_value(run: Path) -> Any:
        read.append(run.name)
        return odd[run.name]

    time.sleep(0.05)
    for expected in (ALL, ALL[:4]):
        read.clear()
        told = read_many(looks.runs, Reader(odd_value, FILES, "odd", ("mergenet.records",)))
        assert (repr(told), read) == (repr(list(odd.values())), expected)


def test_two_that_look_at_once_and_a_writer_disturb_nobody(tmp_path: Path) -> None:
    looks = Looks(tmp_path / "runs", count=40)
    reader, stop, told = Reader(read_folder, FILES, "test", ("mergenet.records",)), threading.Event(), list[Any]()

    def write() -> None:
        while not stop.is_set():
            append(looks.runs[7] / "a.json")

    def look() -> None:
        told.extend(read_many(looks.runs, reader) for _ in range(20))

    threads = [threading.Thread(target=work) for work in (write, look, look)]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join()
    stop.set()
    threads[0].join()
    assert len(told) == 40
    for values in told:
        texts = [value["a"] for value in values]
        assert texts[:7] + texts[8:] == [f"text {n}" for n in range(40) if n != 7]
        assert texts[7].startswith("text 7")


def test_what_decides_what_is_read_is_in_the_hash_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    many_runs.CacheFile(Path("runs"), READER)
    needed = {"run_record", "sealed", "models", "shared_reading", "columns", "rows", "yaml", "trial_file", "runs"}
    assert needed <= {path.stem for path in read}
