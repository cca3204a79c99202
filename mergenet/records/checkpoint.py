"""Checkpoints: tensors in safetensors, all else in JSON, atomic and checksummed. Nothing is ever unpickled.

    folder/epoch-000003/tensors.safetensors    every tensor of the state
    folder/epoch-000003/state.json             the rest, the tensors' SHA-256 and, as its last member, its own

A checkpoint is written into a temporary sibling folder, flushed, and renamed: it is whole or it is not there.
If one of the same epoch exists, it is kept as `epoch-000003.old`, which counts as a checkpoint, until the new one is in
place. One process at a time may write into a folder.
"""

import hashlib
import json
import math
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mergenet.errors import CheckpointError, WriteError
from mergenet.records.atomic import read_bytes, sync_folder, write_bytes, write_synced
from mergenet.records.run_record import CHECKPOINT_FILES

CHECKSUM = "sha256"  # metadata key in single files
FORMAT = "mergenet-checkpoint"
VERSION = 1
TENSORS_FILE, STATE_FILE = CHECKPOINT_FILES
KEEP = 2  # the newest, and one to go back to if it is damaged

_NAME = re.compile(r"epoch-(\d{6,})(\.old)?")
_TEMPORARY = ".tmp-"
_SEAL = b',"sha256":"'  # opens the last member of state.json, the checksum of all bytes before it


def pack(value: Any) -> tuple[Any, dict[str, Tensor]]:
    """Split a nested state into a JSON tree and flat tensors.

    value: dicts (keys str or int), lists, tuples, tensors, float (inf and nan too), int, bool, str, None.
    The tree stores a tensor as {"tensor": name}, a dict as {"dict": [[key, value], ...]} (int keys
    are kept), a tuple as {"tuple": [...]}, and a non-finite float as {"float": "nan"}.
    Each tensor is a contiguous copy on the CPU.
    Raises TypeError for any other type, naming its place in the state.
    """
    tensors: dict[str, Tensor] = {}
    return _pack(value, "state", tensors), tensors


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = path
        while name in tensors:  # {"a": {"b": x}, "a/b": y}
            name += "'"
        tensors[name] = _copy(value)
        return {"tensor": name}
    if isinstance(value, dict):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"a key of {path} must be a str or an int, got {key!r}")
        return {
            "dict": [
                [key, item if _is_plain(item) else _pack(item, f"{path}/{key}", tensors)] for key, item in value.items()
            ]
        }
    if isinstance(value, list | tuple):
        items = [_pack(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(float(value))}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"{path} must be a tensor, number, str, bool, None, dict, list or tuple, got {type(value).__name__}"
    )


def _is_plain(value: Any) -> bool:
    """Whether JSON holds it as it is, as it does most of a state: the numbers of all epochs that have ended."""
    kind = type(value)
    return (kind is float and math.isfinite(value)) or kind is int or kind is str or kind is bool or value is None


def unpack(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `pack`; tensors that shared memory come back as equal copies."""
    if isinstance(tree, list):
        return [unpack(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    [(kind, content)] = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: unpack(item, tensors) for key, item in content}
    if kind == "tuple":
        return tuple(unpack(item, tensors) for item in content)
    assert kind == "float", kind
    return float(content)


def save_checkpoint(folder: Path, index: int, state: dict[str, Any], keep: int = KEEP) -> Path:
    """Write `state` as checkpoint `index` (the epoch), delete all but the `keep` newest; returns its folder.

    Raises WriteError if the disk refuses; the checkpoints already there are then untouched.
    """
    assert index >= 0, index
    assert keep >= 1, keep
    folder = Path(folder)
    final = folder / f"epoch-{index:06d}"
    temporary = folder / f"{_TEMPORARY}{final.name}-{os.getpid()}"
    tree, tensors = pack(state)
    data = safetensors.torch.save(tensors)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clean(folder)
        temporary.mkdir()
        write_synced(temporary / TENSORS_FILE, data)
        write_synced(temporary / STATE_FILE, _seal(index, tree, data))
        sync_folder(temporary)
        _put(temporary, final)
        _prune(folder, keep, spare=final)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise WriteError(
            f"{final} could not be written: {error.strerror}; earlier checkpoints are unchanged"
        ) from error
    return final


def tidy(folder: Path, keep: int = KEEP) -> None:
    """Remove what a process that was killed while writing left in `folder`, and all but the `keep` newest checkpoints.

    For the folder's one writer, once it has read its checkpoint; a folder that is missing stays so.
    Raises WriteError if the disk refuses.
    """
    folder = Path(folder)
    try:
        _clean(folder)
        _prune(folder, keep)
    except OSError as error:
        raise WriteError(f"{folder} could not be tidied: {error.strerror}; its checkpoints are whole") from error


def holds_tensors(folder: Path) -> bool:
    """Whether any checkpoint in `folder`, whole or not, holds more than a state without tensors."""
    empty = len(safetensors.torch.save({}))
    return any(path.stat().st_size > empty for path in Path(folder).glob(f"*/{TENSORS_FILE}"))


def load_latest(folder: Path) -> dict[str, Any] | None:
    """The state of the newest valid checkpoint in `folder`; None if there are no checkpoints.

    A bad one is reported by a warning and passed over.
    Raises CheckpointError if there are checkpoints but none is valid.
    """
    bad: list[CheckpointError] = []
    for _, path in _checkpoints(Path(folder)):
        try:
            state = load_checkpoint(path)
        except CheckpointError as error:
            bad.append(error)
            continue
        for problem in bad:
            warnings.warn(f"{problem}; going back to {path.name}", stacklevel=2)
        return state
    if bad:
        raise CheckpointError(f"{folder} holds no valid checkpoint; the newest: {bad[0]}; delete it to start afresh")
    return None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state of one checkpoint folder.

    Raises CheckpointError if it is missing, truncated, altered, foreign or of another format version.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{path} must be a checkpoint folder, found {describe(read_bytes(path))}")
    head = _unseal(path / STATE_FILE, read_bytes(path / STATE_FILE))
    file = path / TENSORS_FILE
    data = read_bytes(file)
    if len(data) != head["tensors"]["bytes"]:
        found = describe(data)
        raise CheckpointError(f"{file} must be {head['tensors']['bytes']} bytes long, found {found}; it is damaged")
    if hashlib.sha256(data).hexdigest() != head["tensors"]["sha256"]:
        raise CheckpointError(f"{file} must have the SHA-256 that {STATE_FILE} names; it was altered")
    state = unpack(head["state"], _parse(file, data)[0])
    assert isinstance(state, dict), type(state)
    return state


def _seal(index: int, tree: Any, data: bytes) -> bytes:
    """The bytes of state.json."""
    tensors = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    head = {"format": FORMAT, "version": VERSION, "index": index, "tensors": tensors, "state": tree}
    body = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()[:-1]
    return body + _SEAL + hashlib.sha256(body).hexdigest().encode() + b'"}'


def _unseal(path: Path, data: bytes) -> dict[str, Any]:
    try:
        head = json.loads(data)
    except (ValueError, RecursionError):  # neither JSON nor even text
        head = None
    if isinstance(head, dict) and head.get("format") == FORMAT and head.get("version") != VERSION:
        raise CheckpointError(f"{path} must have format version {VERSION}, got {head.get('version')!r}")
    body, _, checksum = data.rpartition(_SEAL)
    if checksum == hashlib.sha256(body).hexdigest().encode() + b'"}' and isinstance(head, dict):
        return head
    if data.startswith(f'{{"format":"{FORMAT}"'.encode()):
        raise CheckpointError(f"{path} must end with the checksum of its content; it is truncated or was altered")
    raise CheckpointError(f"{path} must be the state of a checkpoint, found {describe(data)}")


def _checkpoints(folder: Path) -> Iterator[tuple[int, Path]]:
    """(index, folder) of each checkpoint, newest first; the one in place goes before its `.old`."""
    if not folder.is_dir():
        return
    found = [(match, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    for match, path in sorted(found, key=lambda item: (-int(item[0][1]), item[0][2] is not None)):
        yield int(match[1]), path


def _put(temporary: Path, final: Path) -> None:
    """Rename a complete checkpoint into place; until then the one it replaces, if any, waits as `.old`."""
    old = final.with_name(final.name + ".old")
    replaces = final.exists()
    if replaces:
        final.rename(old)
    try:
        temporary.rename(final)
    except OSError:
        if replaces:
            old.rename(final)
        raise
    sync_folder(final.parent)
    if replaces:
        _discard(old)


def _discard(path: Path) -> None:
    """Delete a checkpoint under a temporary name, so that a kill half-way leaves no broken checkpoint."""
    temporary = path.with_name(f"{_TEMPORARY}{path.name}-{os.getpid()}-gone")
    path.rename(temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def _prune(folder: Path, keep: int, spare: Path | None = None) -> None:
    for _, old in list(_checkpoints(folder))[keep:]:
        if old != spare:
            _discard(old)


def _clean(folder: Path) -> None:
    """Finish what a killed process left: drop temporary folders, settle each replaced checkpoint."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob("epoch-*.old"):
        final = path.with_suffix("")
        if final.exists():
            _discard(path)
        else:
            path.rename(final)


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write one safetensors file atomically, its content's checksum in the metadata.

    Tensors may share memory and be on any device. Raises WriteError if the disk refuses.
    """
    checksum = content_hash(tensor_bytes(tensors, {}))
    write_bytes(Path(path), tensor_bytes(tensors, metadata | {CHECKSUM: checksum}))


def tensor_bytes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """The content of such a file."""
    return safetensors.torch.save({name: _copy(tensor) for name, tensor in tensors.items()}, metadata)


def _copy(tensor: Tensor) -> Tensor:
    """Contiguous, on the CPU, with memory of its own: safetensors refuses tensors that share memory."""
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises CheckpointError if it is missing, truncated or something else, or if its content is not what was written.
    """
    data = read_bytes(Path(path))
    tensors, metadata = _parse(Path(path), data)
    written = metadata.pop(CHECKSUM, None)
    if written is not None and written != content_hash(data):
        raise CheckpointError(
            f"{path} must have the checksum {written[:12]}... that it was written with; it is damaged"
        )
    return tensors, metadata


def check_tensors(path: Path) -> None:
    """Reads a file of `save_tensors` once, without keeping it. Raises CheckpointError if it is damaged."""
    try:
        with safe_open(path, "pt") as file:
            written = (file.metadata() or {}).get(CHECKSUM)
        with path.open("rb") as stream:
            stream.seek(8 + int.from_bytes(stream.read(8), "little"))
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} must be a whole safetensors file: {error}") from error
    if digest != written:
        raise CheckpointError(f"{path} must have the checksum {str(written)[:12]}... that it was written with")


def content_hash(data: bytes) -> str:
    """SHA-256 of the tensors' bytes in a safetensors file: all that comes after the header."""
    return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()


def _parse(path: Path, data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} must be a whole safetensors file, found {describe(data)}: {error}") from error
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = header.pop("__metadata__", None) or {}
    return {name: tensors[name] for name in header}, metadata  # safetensors gives them in random order


def describe(data: bytes) -> str:
    """What a file seems to be, judged by its first bytes alone: nothing is parsed or unpickled for that.

    >>> describe(b"PK...")
    'a zip archive (torch.save writes those) of 5 bytes'
    """
    if not data:
        return "an empty file"
    if data.startswith(b"PK"):
        kind = "a zip archive (torch.save writes those)"
    elif data[8:9] == b"{":  # before the pickle: the length of a header may well start with 80 04
        kind = "a safetensors file"
    elif data[0] == 0x80 and data[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        kind = "a pickle"
    elif data.startswith((b"{", b"[")):
        kind = "JSON"
    else:
        kind = f"a file that starts with {data[:8]!r}"
    return f"{kind} of {len(data)} bytes"
