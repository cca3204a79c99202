"""Checkpoints: what goes in comes out, and nothing short of losing every one of them loses the run."""

import errno
import hashlib
import json
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import mergenet
from mergenet.errors import CheckpointError, WriteError
from mergenet.records.checkpoint import (
    STATE_FILE,
    TENSORS_FILE,
    load_checkpoint,
    load_latest,
    load_tensors,
    pack,
    save_checkpoint,
    save_tensors,
    tidy,
    unpack,
)

PACKAGE = Path(mergenet.__file__).parent
DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.uint8, torch.bool,
]  # fmt: skip


def same(a: Any, b: Any) -> bool:
    """Equal in value and type, NaN equal to NaN, tensors bit for bit."""
    if isinstance(a, Tensor):
        return (
            isinstance(b, Tensor)
            and (a.dtype, a.shape) == (b.dtype, b.shape)
            and a.contiguous().reshape(-1).view(torch.uint8).equal(b.contiguous().reshape(-1).view(torch.uint8))
        )
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return (
            list(a) == list(b)
            and all(type(x) is type(y) for x, y in zip(a, b, strict=True))
            and all(same(a[key], b[key]) for key in a)
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b or (a != a and b != b)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    values = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))) * 9
    tensor = values.to(draw(st.sampled_from(DTYPES)))
    return tensor.transpose(0, -1) if len(shape) > 1 and draw(st.booleans()) else tensor


leaves = tensors() | st.none() | st.booleans() | st.integers() | st.floats() | st.text()
keys = st.text(max_size=5) | st.integers()
states = st.dictionaries(
    keys,
    st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(keys, inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)

STATE = {
    "epoch": 7,
    "lr": 0.1,
    "model": {"weight": torch.arange(6.0).reshape(2, 3), "num_batches_tracked": torch.tensor(3)},
    "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2, 3)}}, "param_groups": [{"betas": (0.9, 0.999)}]},
    "rng": torch.arange(16, dtype=torch.uint8),
}


@settings(max_examples=40, deadline=None)
@given(states)
def test_a_state_comes_back_from_disk_as_it_was(tmp_path_factory: pytest.TempPathFactory, state: dict) -> None:
    folder = tmp_path_factory.mktemp("round")
    assert same(load_checkpoint(save_checkpoint(folder, 0, state)), state)


@settings(max_examples=100, deadline=None)
@given(states)
def test_unpack_inverts_pack_and_the_tree_is_strict_json(state: dict) -> None:
    tree, flat = pack(state)
    assert same(unpack(json.loads(json.dumps(tree, allow_nan=False)), flat), state)


def test_names_that_join_to_the_same_path_stay_apart() -> None:
    state = {"a": {"b": torch.zeros(1)}, "a/b": torch.ones(1), "a/b'": torch.full((1,), 2.0)}
    assert same(unpack(*pack(state)), state)


def test_views_and_shared_and_strided_tensors(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(2, 3, 2, 2)
    state = {
        "base": base,
        "again": base,
        "view": base[0],
        "transposed": base.transpose(0, 3),
        "expanded": torch.ones(1).expand(5),
        "channels_last": base.contiguous(memory_format=torch.channels_last),
        "parameter": nn.Parameter(base[1]).data,
    }
    path = save_checkpoint(tmp_path, 0, state)
    loaded = load_checkpoint(path)
    assert same(loaded, state)
    loaded["base"].zero_()
    assert same(loaded["again"], base), "loaded tensors must not share memory"


def test_training_goes_on_from_an_optimizer_state_bit_for_bit(tmp_path: Path) -> None:
    def parts() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()

    model, optimizer = parts()
    step(model, optimizer)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
    save_checkpoint(tmp_path, 0, state)
    step(model, optimizer)
    expected = model.state_dict()

    model, optimizer = parts()
    loaded = load_latest(tmp_path)
    assert loaded is not None
    model.load_state_dict(loaded["model"])
    optimizer.load_state_dict(loaded["optimizer"])
    torch.set_rng_state(loaded["rng"])
    step(model, optimizer)
    assert same(dict(model.state_dict()), dict(expected))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": {"b": [1, {2}]}}, "state/a/b/1 must be a tensor, .* got set"),
        ({"a": {(1, 2): 3}}, r"a key of state/a must be a str or an int, got \(1, 2\)"),
        ({"a": {True: 3}}, "a key of state/a must be a str or an int, got True"),
    ],
)
def test_a_value_of_another_type_is_named(tmp_path: Path, state: dict, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        save_checkpoint(tmp_path, 0, state)
    assert list(tmp_path.iterdir()) == []


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for i in range(5):
        save_checkpoint(tmp_path, i, {"epoch": i}, keep=3)
    assert names(tmp_path) == ["epoch-000002", "epoch-000003", "epoch-000004"]
    assert load_latest(tmp_path) == {"epoch": 4}


def test_order_is_by_number_not_by_name(tmp_path: Path) -> None:
    for i in (999_999, 1_000_000):
        save_checkpoint(tmp_path, i, {"epoch": i})
    assert load_latest(tmp_path) == {"epoch": 1_000_000}


def test_no_checkpoints_is_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "missing") is None


def test_saving_an_epoch_again_replaces_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 3, {"try": 1})
    save_checkpoint(tmp_path, 3, {"try": 2})
    assert load_latest(tmp_path) == {"try": 2}
    assert names(tmp_path) == ["epoch-000003"]


def test_a_kill_between_the_two_renames_of_a_replacement_loses_nothing(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 3, {"try": 1}).rename(tmp_path / "epoch-000003.old")
    assert load_latest(tmp_path) == {"try": 1}
    save_checkpoint(tmp_path, 4, {"try": 2}, keep=2)
    assert names(tmp_path) == ["epoch-000003", "epoch-000004"]


def test_leftovers_of_killed_processes_are_ignored_then_removed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 3, STATE)
    (tmp_path / "epoch-000003").rename(tmp_path / "epoch-000003.old")
    save_checkpoint(tmp_path, 3, STATE)
    half = tmp_path / ".tmp-epoch-000004-123"
    half.mkdir()
    (half / TENSORS_FILE).write_bytes(b"half")
    assert same(load_latest(tmp_path), STATE)
    save_checkpoint(tmp_path, 4, STATE)
    assert names(tmp_path) == ["epoch-000003", "epoch-000004"]


def test_a_folder_is_tidied_or_one_line_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tidy(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    for epoch in (1, 2, 3):
        save_checkpoint(tmp_path, epoch, STATE, keep=3)
    (tmp_path / ".tmp-epoch-000001-1-gone").mkdir()

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse)
        with pytest.raises(WriteError, match=r"could not be tidied: Read-only file system; its checkpoints are whole$"):
            tidy(tmp_path)
    tidy(tmp_path)
    assert names(tmp_path) == ["epoch-000002", "epoch-000003"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_checkpoint(folder, 1, {"epoch": 1})
    return save_checkpoint(folder, 2, STATE)


def damaged(path: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Whatever the damage, loading says so in one line with the path, and the checkpoint before is used."""
    file = path / name
    whole = file.read_bytes()
    file.write_bytes(change(whole))
    try:
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        assert str(caught.value).startswith(str(file))
        assert "\n" not in str(caught.value)
        with pytest.warns(UserWarning, match="epoch-000002.*going back to epoch-000001"):
            assert load_latest(path.parent) == {"epoch": 1}
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("name", [STATE_FILE, TENSORS_FILE])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_truncation_anywhere_is_noticed(saved: Path, name: str, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, (saved / name).stat().st_size - 1))
    damaged(saved, name, lambda whole: whole[:length])


@pytest.mark.parametrize("name", [STATE_FILE, TENSORS_FILE])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_anywhere_is_noticed(saved: Path, name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, (saved / name).stat().st_size - 1))
    flip = data.draw(st.integers(1, 255))
    damaged(saved, name, lambda whole: whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])


def test_bytes_appended_are_noticed(saved: Path) -> None:
    for name in (STATE_FILE, TENSORS_FILE):
        damaged(saved, name, lambda whole: whole + b"\n")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for name in (STATE_FILE, TENSORS_FILE):
        path = save_checkpoint(tmp_path / name, 0, STATE)
        (path / name).unlink()
        with pytest.raises(CheckpointError, match=rf"{name} could not be read: No such file"):
            load_checkpoint(path)


def test_all_bad_is_an_error_not_a_fresh_start(tmp_path: Path) -> None:
    for i in range(2):
        (save_checkpoint(tmp_path, i, STATE) / STATE_FILE).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"holds no valid checkpoint; .*epoch-000001.*found an empty file"):
        load_latest(tmp_path)


def zip_file(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", "x")


def other_version(path: Path) -> None:
    body = b'{"format":"mergenet-checkpoint","version":2,"state":[]'
    path.write_bytes(body + b',"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}')


FOREIGN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "zip": (zip_file, "found a zip archive"),
    "torch.save": (lambda path: torch.save({"a": torch.ones(2)}, path), "found a zip archive"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=4)), "found a pickle of"),
    "empty": (lambda path: path.write_bytes(b""), "found an empty file"),
    "json": (lambda path: path.write_text('{"a": 1}'), "found JSON of 8 bytes"),
    "deep": (lambda path: path.write_text("[" * 100_000), "found JSON of 100000 bytes"),
    "noise": (lambda path: path.write_bytes(b"\xff\x00garbage"), "found a file that starts with b'"),
    "version": (other_version, "must have format version 1, got 2"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_state_file_is_described_never_opened(tmp_path: Path, kind: str) -> None:
    make, message = FOREIGN[kind]
    path = save_checkpoint(tmp_path, 0, STATE)
    make(path / STATE_FILE)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert str(path / STATE_FILE) in str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "torch.save", "pickle", "empty", "json", "noise"])
def test_foreign_tensor_files_are_described_too(tmp_path: Path, kind: str) -> None:
    make, message = FOREIGN[kind]
    path = save_checkpoint(tmp_path, 0, STATE)
    for file in (path / TENSORS_FILE, tmp_path / "best.safetensors"):
        make(file)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match=f"best.safetensors must be a whole safetensors file, {message}"):
        load_tensors(tmp_path / "best.safetensors")


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    path = save_checkpoint(tmp_path, 0, STATE)
    for name in (STATE_FILE, TENSORS_FILE):
        (path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
    assert not (tmp_path / "executed").exists()


def test_a_file_in_place_of_a_checkpoint_is_described(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "epoch-000000")
    with pytest.raises(CheckpointError, match="must be a checkpoint folder, found a zip archive"):
        load_checkpoint(tmp_path / "epoch-000000")


@contextmanager
def small_disk() -> Iterator[None]:
    """No file may grow beyond 4 KiB: writing more is a real OSError, as on a full disk. Not even pytest's report."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)


def test_a_disk_that_refuses_leaves_the_old_checkpoints(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"small": 1})
    for index in (1, 2):  # replacing, and adding
        refused = pytest.raises(CheckpointError, match=rf"epoch-00000{index} could not be written: File too large")
        with refused, small_disk():
            save_checkpoint(tmp_path, index, {"large": torch.zeros(10_000)})
        assert names(tmp_path) == ["epoch-000001"]
        assert load_latest(tmp_path) == {"small": 1}


def test_a_disk_that_refuses_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_tensors(path, {"a": torch.ones(2)}, {"epoch": "1"})
    refused = pytest.raises(CheckpointError, match=r"best.safetensors could not be written: File too large")
    with refused, small_disk():
        save_tensors(path, {"a": torch.zeros(10_000)}, {"epoch": "2"})
    assert load_tensors(path)[1] == {"epoch": "1"}
    assert names(tmp_path) == ["best.safetensors"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=os.strerror(errno.ENOTDIR)):
        save_checkpoint(tmp_path / "file" / "checkpoints", 0, {})


def test_tensor_files_carry_metadata_and_shared_tensors(tmp_path: Path) -> None:
    base = torch.arange(4.0)
    path = tmp_path / "best.safetensors"
    save_tensors(path, {"a": base, "b": base[1:], "count": torch.tensor(3)}, {"num_outputs": "10"})
    tensors, metadata = load_tensors(path)
    assert same(tensors["b"], base[1:])
    assert same(tensors["count"], torch.tensor(3))
    assert metadata == {"num_outputs": "10"}
    save_tensors(path, tensors, {})
    assert [*load_tensors(path)[0]] == [*tensors], "the file's order is kept"
    assert load_tensors(path)[1] == {}


def test_truncated_tensor_files_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_tensors(path, {"a": torch.arange(8.0)}, {"k": "v"})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="must be a whole safetensors file"):
            load_tensors(path)


class Crash(BaseException):
    """Stands for the end of the process: no handler of an error runs."""


def crash_at(count: int, action: Callable[[], object]) -> bool:
    """Run `action` up to the `count`-th line of the package's code; whether it crashed before its end."""
    left = count

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal left
        if PACKAGE not in Path(frame.f_code.co_filename).parents:
            return None
        left -= event == "line"
        if left < 0:
            raise Crash
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except Crash:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("index", [1, 2], ids=["replacing", "adding"])
def test_a_crash_at_any_line_leaves_the_old_checkpoint_or_the_new_one(tmp_path: Path, index: int) -> None:
    outcomes = []
    for count in range(1000):
        folder = tmp_path / str(count)
        save_checkpoint(folder, 1, {"try": 1})
        crashed = crash_at(count, lambda folder=folder: save_checkpoint(folder, index, {"try": 2}, keep=1))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            outcomes.append(load_latest(folder))
        save_checkpoint(folder, 3, {"try": 3}, keep=1)
        assert names(folder) == ["epoch-000003"]
        if not crashed:
            break
    assert not crashed
    assert len(outcomes) > 50
    assert outcomes == sorted(outcomes, key=lambda state: state["try"])
    assert (outcomes[0], outcomes[-1]) == ({"try": 1}, {"try": 2})


KILLED = """
import os, sys, pathlib, torch
from mergenet.records.checkpoint import save_checkpoint
torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:  # one child a line, killed by the parent
    folder, first = line.split()
    child = os.fork()
    if child == 0:
        for i in range(int(first), 1_000_000):
            values = torch.full((20_000,), float(i // 3))
            save_checkpoint(pathlib.Path(folder), i // 3, {"index": i // 3, "values": values})  # each one 3 times
            if i == int(first) + 3:
                print(os.getpid(), flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def test_a_process_killed_at_any_moment_leaves_a_valid_checkpoint(tmp_path: Path) -> None:
    draw = random.Random(0)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        reached = 0
        save_checkpoint(tmp_path, 0, {"index": 0, "values": torch.zeros(20_000)})
        for _ in range(25):
            server.stdin.write(f"{tmp_path} {reached * 3}\n")
            server.stdin.flush()
            child = int(server.stdout.readline())  # it has saved the next index by now, and goes on saving
            time.sleep(draw.uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
            assert server.stdout.readline() == "dead\n"
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # not even the newest may be broken
                state = load_latest(tmp_path)
            assert state is not None
            assert state["index"] > reached
            assert state["values"].equal(torch.full((20_000,), float(state["index"])))
            reached = state["index"]
        server.stdin.close()
    save_checkpoint(tmp_path, reached + 1, {})
    assert len(names(tmp_path)) == 2, "leftovers are gone"


def test_a_single_file_knows_its_content(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_tensors(path, {"weight": torch.arange(100.0)}, {"num_outputs": "7"})
    tensors, metadata = load_tensors(path)
    assert torch.equal(tensors["weight"], torch.arange(100.0))
    assert metadata == {"num_outputs": "7"}
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"best\.safetensors must have the checksum .*; it is damaged"):
        load_tensors(path)
