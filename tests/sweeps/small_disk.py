"""A disk of its own for a test: small, so that it can be full, or read-only. Needs the right to mount."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def mount(*arguments: str) -> bool:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True, check=False, timeout=20).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def small_disk(folder: Path, mebibytes: float) -> Iterator[Path]:
    """A tmpfs of that size, mounted at a new folder. Skips the test where nothing can be mounted."""
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", f"size={int(mebibytes * 1024)}k", "tmpfs", str(folder)):
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=20)


def fill(folder: Path) -> Path:
    """A file that takes all room."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        size = 2**20
        while size:
            try:
                written = file.write(b"x" * size)
            except OSError:
                written = 0
            if not written:
                size //= 2
    return path


def make_writable(folder: Path, writable: bool) -> None:
    assert mount("-o", f"remount,{'rw' if writable else 'ro'}", str(folder)), "remount"
