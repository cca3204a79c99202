"""`mergenet sweep` as a process of its own, with secrets planted, and what it leaves running and on disk."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergenet.records.sealed import read_record

CANARY = "cafe" * 10  # a key of W&B's form: it must not be found anywhere
SECRETS = {"WANDB_API_KEY": CANARY, "MERGENET_STUDY_URL": f"postgresql+psycopg://me:{CANARY}@127.0.0.1:1/none"}
MARK = "MERGENET_TEST_MARK"
COMMAND = "from sweeps.cli.commands import sweep; sweep()"


@dataclass(frozen=True)
class Done:
    folder: Path
    process: subprocess.CompletedProcess[str]
    left_over: list[str]
    ray_folder: Path = Path()

    @property
    def summary(self) -> dict[str, Any]:
        return dict(read_record(self.folder / "summary.json"))


def sweep_command(
    folder: Path, *arguments: str, ray_folder: Path | None = None, **environment: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """`mergenet sweep` as a process of its own; and what of it still runs after it has ended.

    ray_folder: of its Ray's session, which is then the only one there; its path must be short, for sockets.
    """
    mark = uuid.uuid4().hex
    own = {} if ray_folder is None else {"RAY_TMPDIR": str(ray_folder)}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=folder,
        env=sweep_environment() | {MARK: mark} | own | environment,
        capture_output=True,
        text=True,
        timeout=550,
    )
    deadline = time.monotonic() + 20  # Ray's processes end by themselves within moments of their raylet
    while marked_processes(mark) and time.monotonic() < deadline:
        time.sleep(0.2)
    return done, marked_processes(mark)


def sweep_environment() -> dict[str, str]:
    """Our code on the path, secrets planted."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path} | SECRETS


def holding(roots: Iterable[Path], secrets: Iterable[str]) -> tuple[list[Path], list[Path]]:
    """All files below the folders, and those that hold a secret."""
    files = [path for root in roots for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    return files, [path for path in files if any(secret.encode() in path.read_bytes() for secret in secrets)]


def marked_processes(mark: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # gone meanwhile, or another user's
            continue
    return found


def without_seconds(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith("seconds_")}
