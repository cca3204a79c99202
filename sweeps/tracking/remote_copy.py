"""A copy of the sweep folder in storage that has a URL (s3://, gs://, file://): for machines that may be preempted.

The folder is the truth; the copy is updated in a separate thread whenever a job ends. An outage is reported once and
stops nothing. Whenever an upload is cut off, the sweep can be resumed from the copy by the order of its files
(copy_order.py); what speaks for others is taken away before these change. `fetch` gets it back.

Keys come from the environment (AWS_ACCESS_KEY_ID, ..., the endpoint from AWS_ENDPOINT_URL), never from the URL.
"""

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from analysis.names import ABLATION_FILE, SWEEP_FILE
from mergenet.errors import ConfigError, one_line
from mergenet.records.run_record import CONFIG_FILE
from sweeps.tracking.background import Background
from sweeps.tracking.copy_order import checkpoint_of, halves, place, speaks_for_others
from sweeps.trials.files import STATE_FILE, STUDY_FILE
from sweeps.trials.messages import JobEvent
from sweeps.trials.sweep_dir import is_used, resume_command, shown_path

MANIFEST = "copy.json"  # in the copy only: which folder it is of
CLOSE_SECONDS = 300  # how long the end of a sweep waits for its copy
QUERY = ("region", "scheme", "endpoint_override")
ROUNDS = 3  # of an update while runs train on and delete the checkpoints that are to be copied

Stamps = dict[str, tuple[int, int]]  # path in the folder -> size in bytes, time of the last change in ns


class Copy:
    """Listens to the job queue's events. Use as a context manager around the whole sweep. url: None for no copy."""

    def __init__(self, url: str | None, folder: Path, say: Callable[[str], None]) -> None:
        self.url, self.folder, self.say = url, folder, say
        self.background = Background("copy")
        self.there: Stamps = {}  # as far as this driver has copied them
        self.waiting = False
        self.trouble: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """After a second Ctrl-C it waits for nothing."""
        if self.url is None or (kind is not None and issubclass(kind, KeyboardInterrupt)):
            return
        self._ask()
        done = self.background.close(CLOSE_SECONDS)
        if self.trouble is not None or not done:
            self.say(
                f"copy: {self.url} is not whole ({self.trouble or f'not done after {CLOSE_SECONDS} s'}); "
                f"`{resume_command(shown_path(self.folder))}` completes it"
            )

    def __call__(self, event: JobEvent) -> None:
        if self.url is not None and event["event"] == "ended":
            self._ask()

    def _ask(self) -> None:
        if not self.waiting:
            self.waiting = True
            self.background(self._push)

    def _push(self) -> None:
        assert self.url is not None
        self.waiting = False
        try:
            push(self.folder, filesystem(self.url), self.there)
            self.trouble = None
        except (OSError, ValueError, sqlite3.Error) as error:  # pyarrow's own errors are among the first two
            if self.trouble is None:
                self.say(f"copy: {self.url} cannot be written now ({one_line(error)}); training goes on")
            self.trouble = one_line(error)


def check_url(url: str) -> None:
    """Raises ConfigError for a URL with a key in it, without showing it."""
    parts = urlsplit(url)
    queries = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "@" in parts.netloc or "@" in queries.get("endpoint_override", "") or not queries.keys() <= set(QUERY):
        raise ConfigError(
            f"the URL of a copy must hold no user, key or password, and after the ? only {', '.join(QUERY)}; "
            "keys come from the environment, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if "#" in url:
        raise ConfigError(f"the URL of a copy must be without #, got {url!r}; in a folder's name it is written %23")
    if not parts.scheme or not parts.path.strip("/"):
        raise ConfigError(f"the URL of a copy must be like s3://BUCKET/FOLDER, got {url!r}")


def filesystem(url: str) -> Any:
    """The pyarrow file system whose root is the URL. Raises OSError or ValueError."""
    from pyarrow import fs

    return fs.SubTreeFileSystem(*reversed(fs.FileSystem.from_uri(url)))


def claim(url: str, folder: Path, name: str) -> None:
    """Claims the URL for the sweep of a folder. Raises ConfigError if it cannot be written or holds something.

    What a driver of the same sweep left that was killed before it could be resumed from there counts as nothing.
    """
    check_url(url)
    manifest = json.dumps({"name": name, "folder": str(folder)}).encode()
    try:
        there = filesystem(url)
        held = sizes(there)
        begun = not held.keys().isdisjoint((SWEEP_FILE, ABLATION_FILE))
        if MANIFEST in held and not begun and read(there, MANIFEST) == manifest:
            held = {}
        if not held:
            write(there, MANIFEST, manifest)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"copy_to (--copy-to) must be storage that can be written, got {url} ({one_line(error)})"
        ) from None
    if held:
        way_out = f", or go on with the sweep in it by `{resume_command(url)}`" if MANIFEST in held else ""
        raise ConfigError(
            f"copy_to (--copy-to) must be empty, got {url} with {len(held)} files; choose another{way_out}"
        )


def fetch(url: str, to: Path | None = None) -> Path:
    """Downloads the copy into a new folder, by default where the original was. Raises ConfigError."""
    check_url(url)
    try:
        there = filesystem(url)
        files = sizes(there)
        if MANIFEST not in files:
            raise ConfigError(f"{url} must hold the copy of a sweep (with {MANIFEST}) to be resumed")
        if files.keys() == {MANIFEST}:
            raise ConfigError(
                f"{url} must hold a sweep to be resumed, got {MANIFEST} alone: its driver was killed before the first "
                "job ended; begin it again by the same command"
            )
        folder = Path(json.loads(read(there, MANIFEST))["folder"]) if to is None else to.absolute()
        if is_used(folder):
            raise ConfigError(
                f"the copy in {url} must go into a new folder, got {str(folder)!r}; "
                f"go on with that one by `{resume_command(folder)}`, or choose another folder (--dir)"
            )
        partial = folder.with_name(f".{folder.name}.fetched")
        shutil.rmtree(partial, ignore_errors=True)  # of a fetch that was killed, perhaps of another copy
        for name in files.keys() - halves(files) - {MANIFEST}:
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with there.open_input_stream(name) as stream, path.open("wb") as file:
                shutil.copyfileobj(stream, file, 2**20)
        shutil.rmtree(folder, ignore_errors=True)  # empty, but for a lock
        partial.rename(folder)
    except ConfigError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"the copy in {url} could not be fetched ({one_line(error)})") from None
    return folder


def push(folder: Path, there: Any, known: Stamps) -> None:
    """Bring the copy up to date. known: what was copied, updated here. Raises OSError, ValueError, sqlite3.Error.

    Raises OSError too if the copy lacks a file in the end.
    """
    for _ in range(ROUNDS):
        found, held = stamps(folder), sizes(there)
        order = sorted(found, key=lambda name: place(name, begun=STATE_FILE in held))
        changed = [name for name in order if known.get(name) != found[name]]
        delete(there, withdrawn(folder, there, held.keys(), found.keys(), changed), known)
        missed = False
        for name in changed:
            stamp = None if name == STATE_FILE and name not in held else found[name]
            if upload(folder, name, there, stamp):
                known[name] = found[name]
            else:
                missed = missed or checkpoint_of(name) is not None
        if not missed:
            break
    held = sizes(there)
    delete(there, (held.keys() - found.keys() - {MANIFEST}) | halves(held), known)
    lacks = [name for name in known if name not in held]
    for name in lacks:
        del known[name]
    if lacks:
        raise OSError(f"{len(lacks)} files are not there, among them {lacks[0]}")


def withdrawn(
    folder: Path, there: Any, held: Collection[str], found: Collection[str], changed: Collection[str]
) -> set[str]:
    """What must go before anything is copied: what speaks for files that are others by now, and runs begun anew.

    sweep.json stays, without which there is no sweep. held: files there; found: files here.
    """
    gone = {name for name in held if speaks_for_others(name) and checkpoint_of(name) is None and name not in found}
    for name in changed:
        if name not in held or name == STATE_FILE:
            continue
        is_config = name.endswith(f"/{CONFIG_FILE}")
        if (is_config or speaks_for_others(name)) and differs(folder, name, there):
            gone |= {one for one in held if one.startswith(name.removesuffix(CONFIG_FILE))} if is_config else {name}
    return gone


def differs(folder: Path, name: str, there: Any) -> bool:
    """By the content: a driver that begins does not know what is there. A file that is gone here is no other one."""
    try:
        return bool(read(there, name) != (folder / name).read_bytes())
    except FileNotFoundError:
        return False


def delete(there: Any, names: Iterable[str], known: Stamps) -> None:
    """In the opposite of the order in which they came."""
    for name in sorted(names, key=place, reverse=True):
        there.delete_file(name)
        known.pop(name, None)


def stamps(folder: Path) -> Stamps:
    """All files except hidden ones, which are unfinished or of use to this driver only."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or name.name.startswith(f"{STUDY_FILE}-"):
            continue
        try:
            status = path.lstat()
            if path.is_file() and not path.is_symlink():
                found[name.as_posix()] = (status.st_size, status.st_mtime_ns)
        except FileNotFoundError:  # gone meanwhile
            continue
    return found


def upload(folder: Path, name: str, there: Any, stamp: tuple[int, int] | None) -> bool:
    """Whether the file was copied: not if it is gone, nor if it changed and speaks for others (copied next time).

    stamp: as it was listed; None: whatever it is by now.
    """
    path, fixed = folder / name, stamp is not None and (speaks_for_others(name) or checkpoint_of(name) is not None)
    if name == STUDY_FILE:
        write(there, name, snapshot(path))
        return True
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if fixed and (status.st_size, status.st_mtime_ns) != stamp:
                return False
            write(there, name, file)
    except FileNotFoundError:
        if path.exists():  # it is the storage that lacks something
            raise
        return False
    return True


def snapshot(path: Path) -> bytes:
    """A consistent snapshot of a SQLite database."""
    with tempfile.NamedTemporaryFile(suffix=".db") as file:
        with closing(sqlite3.connect(path)) as living, closing(sqlite3.connect(file.name)) as copied:
            living.backup(copied)
        return Path(file.name).read_bytes()


def write(there: Any, name: str, content: Any) -> None:
    """content: bytes, or a file that is open for reading."""
    if there.base_fs.type_name == "local":
        there.create_dir(str(Path(name).parent), recursive=True)
    with there.open_output_stream(name) as stream:
        if isinstance(content, bytes):
            stream.write(content)
        else:
            shutil.copyfileobj(content, stream, 2**20)


def read(there: Any, name: str) -> bytes:
    with there.open_input_stream(name) as stream:
        return bytes(stream.read())


def sizes(there: Any) -> dict[str, int]:
    """The sizes of the files there, by name."""
    from pyarrow import fs

    found = there.get_file_info(fs.FileSelector("", recursive=True, allow_not_found=True))
    return {info.path: info.size for info in found if info.type == fs.FileType.File}
