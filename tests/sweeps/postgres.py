"""A PostgreSQL server for a test."""

import getpass
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def postgres(password: str) -> Iterator[str]:
    """The URL of a server of its own that listens on a socket only; it takes any password. Skips without PostgreSQL.

    As root it runs as `postgres`: it refuses to be root.
    """
    pytest.importorskip("psycopg")
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("needs PostgreSQL's initdb and pg_ctl")
    root = getpass.getuser() == "root"
    prefix = ["runuser", "-u", "postgres", "--"] if root else []
    folder = tempfile.mkdtemp(prefix="mergenet-pg-", dir="/tmp")  # a socket's path must be short
    if root:
        shutil.chown(folder, "postgres")
    data = f"{folder}/data"

    def call(*command: str) -> None:
        subprocess.run([*prefix, *command], check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)

    call("initdb", "-D", data, "-U", "me", "-A", "trust")
    call("pg_ctl", "-D", data, "-w", "-l", f"{folder}/log", "-o", f"-k {folder} -c listen_addresses=''", "start")
    try:
        yield f"postgresql+psycopg://me:{password}@/postgres?host={folder}"
    finally:
        call("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder)
