"""What lies in a data folder: the files that are read, the splits by their usual names, and a count of all the rest.

Names are compared and ordered by their characters' code points ("10" before "2", "Zoo" before "ant"), so the order is
the same on every machine. Hidden files and folders, and those that systems leave behind, are no data.
"""

import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from mergenet.errors import DataError

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
LITTER = ("__MACOSX", "@eaDir")  # what unpacked archives and network drives hold beside the data
SHOWN = 3  # names in a message

LeftOut = Counter[str]  # what was not read, in words -> how many of it


def hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name in LITTER


def composed(name: str) -> str:
    """A name as it is written on most systems, NFC: macOS may write an accent as a character of its own."""
    return unicodedata.normalize("NFC", name)


def entries(folder: Path) -> list[Path]:
    """What a folder holds, in order of the names. Raises DataError if it cannot be listed."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}") from None


def files_below(folder: Path, suffixes: Collection[str], left_out: LeftOut) -> list[Path]:
    """Files of these suffixes (lower-case) in a folder and its folders, in order; all others are counted."""
    return sorted(_files_below(folder, suffixes, left_out, ()))


def _files_below(folder: Path, suffixes: Collection[str], left_out: LeftOut, above: tuple[Path, ...]) -> list[Path]:
    here = folder.resolve()
    if here in above:
        raise DataError(f"{folder} must not be a link to a folder that it lies in; remove it")
    found: list[Path] = []
    for path in entries(folder):
        if hidden(path):
            left_out["hidden"] += 1
        elif path.is_dir():
            found += _files_below(path, suffixes, left_out, (*above, here))
        elif path.suffix.lower() in suffixes:
            found.append(path)
        else:
            left_out[path.suffix.lower() or "without suffix"] += 1
    return found


def split_places(root: Path, suffix: str, train: str, left_out: LeftOut) -> dict[str, Path]:
    """Where the splits lie that there are, by our names: files of a suffix, or folders if it is empty.

    train: what the training split must be, for messages. Raises DataError if there is none, if a split is there under
    two names, and if what bears a split's name is something else.
    """
    if not root.is_dir():
        raise DataError(f"data.root must hold {train}, got {str(root)!r}, which is no folder")
    names = {usual: split for split, words in SPLITS.items() for usual in words}
    places: dict[str, Path] = {}
    beside: list[Path] = []
    for path in entries(root):
        name = path.name.lower()
        split = names.get(name.removesuffix(suffix))
        if hidden(path):
            left_out["hidden"] += 1
        elif split is None or path.is_dir() == bool(suffix) or not name.endswith(suffix):
            beside.append(path)
        elif split in places:
            raise DataError(f"{root} must hold one {split} split, got {places[split].name} and {path.name}")
        else:
            places[split] = path
    kind = f"a file {suffix}" if suffix else "a folder"
    for path in beside:
        split = names.get(path.name.partition(".")[0].lower())
        if split is not None and split not in places:
            raise DataError(f"{path} must be {kind} to be read as the {split} split; convert it or rename it")
    if "train" not in places:
        holds = f"; it holds {some([path.name for path in beside])}" if beside else ""
        raise DataError(f"data.root must hold {train}, got {str(root)!r} without {kind} named train{holds}")
    if beside:
        left_out[f"beside the splits ({some([path.name for path in beside])})"] += len(beside)
    return places


def some(names: Collection[str]) -> str:
    """The first names, and how many more there are."""
    shown = list(names)[:SHOWN]
    return ", ".join([*shown, f"{len(names) - SHOWN} more"] if len(names) > SHOWN else shown)


def in_words(left_out: Mapping[str, int]) -> str:
    """
    >>> in_words({".txt": 1200, "hidden": 2})
    '1,200 .txt, 2 hidden'
    """
    return ", ".join(f"{count:,} {what}" for what, count in left_out.items())
