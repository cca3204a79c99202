"""Random damage: to the values of a YAML file as a person could write them, and to files as a disk could leave them."""

import copy
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NUMBER = re.compile(rb"(?<=[ \[])-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?(?=[,\]}\n])")  # a value in JSON or YAML
Keys = tuple[str | int, ...]  # to a value in nested mappings and lists

NASTY: tuple[Any, ...] = (
    None, "", " ", "x" * 300, "../..", "~", "a>b", "1", "true", "nan", -1, 0, 1, 2**63, 10**400, -0.5, 1e-320, 1e308,
    float("nan"), float("inf"), True, False, [], [[]], [None], [1, "1", 1.0], {}, {"": None}, {"a": {"b": 1}},
    "\x1b[31m", "\N{SNOWMAN}", "!!python/object/apply:os.getcwd []",
)  # fmt: skip


def places(value: Any, at: Keys = ()) -> Iterator[Keys]:
    """Of every value inside a mapping or list, itself left out."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*at, key)
        yield from places(inner, (*at, key))


def found_at(value: Any, keys: Keys) -> Any:
    for key in keys:
        value = value[key]
    return value


def mutated(values: dict[str, Any], rng: random.Random) -> tuple[dict[str, Any], str]:
    """A copy with one to three values changed, removed, renamed, wrapped, or exchanged, and what was done."""
    changed, done = copy.deepcopy(values), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.choice(list(places(changed)) or [()])
        if not at:
            break
        parent, key = found_at(changed, at[:-1]), at[-1]
        how = rng.choice(("set", "set", "set", "remove", "rename", "wrap", "exchange"))
        if how == "set":
            parent[key] = copy.deepcopy(rng.choice(NASTY))
        elif how == "remove":
            del parent[key]
        elif how == "rename" and isinstance(parent, dict):
            parent[f"{key}{rng.choice(('s', '_', '.x', ' ', '0'))}"] = parent.pop(key)
        elif how == "wrap":
            parent[key] = rng.choice(([parent[key]], {"choice": parent[key]}, {str(key): parent[key]}))
        else:
            parent[key] = copy.deepcopy(found_at(changed, rng.choice(list(places(changed)))))
        done.append(f"{how} {'.'.join(map(str, at))}")
    return changed, ", ".join(done)


def garbled(text: str, rng: random.Random) -> tuple[str, str]:
    """A text with a part cut, doubled, moved or overwritten, and what was done."""
    start, end = sorted(rng.randrange(len(text)) for _ in range(2))
    end = min(end, start + 40)
    how = rng.choice(("cut", "double", "tab", "colon", "tag", "alias", "end"))
    middle = {
        "cut": "",
        "double": 2 * text[start:end],
        "tab": "\t" + text[start:end],
        "colon": ": " + text[start:end],
        "tag": " !!python/name:os.system " + text[start:end],
        "alias": " &a " + text[start:end] + " *a",
        "end": text[start:end],
    }[how]
    return text[:start] + middle + ("" if how == "end" else text[end:]), f"{how} at {start}"


# ---------------------------------------------------------------- files


def cut(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))] if content else b"")


def emptied(path: Path, _: random.Random) -> None:
    path.write_bytes(b"")


def flipped(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def noise(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(200))


def removed(path: Path, _: random.Random) -> None:
    path.unlink()


def a_folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def lines_lost(path: Path, rng: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    if lines:
        del lines[rng.randrange(len(lines))]
    path.write_bytes(b"".join(lines))


def of_another(path: Path, rng: random.Random) -> None:
    """Replaced by the file of the same name in another folder beside its own, if there is one."""
    others = [other for other in sorted(path.parent.parent.glob(f"*/{path.name}")) if other != path]
    if others:
        shutil.copyfile(rng.choice(others), path)


def number_changed(path: Path, rng: random.Random) -> None:
    """One number of a text file becomes another of its kind, elsewhere nothing changes; of other files a bit."""
    found = list(NUMBER.finditer(path.read_bytes())) if path.suffix in (".json", ".jsonl", ".yaml") else []
    if not found:
        return flipped(path, rng)
    one = rng.choice(found)
    whole = not set(one[0]) & set(b".e")
    value = int(one[0]) + rng.choice((1, 2, 5)) if whole else float(one[0]) * rng.uniform(0.5, 1.5)
    content = path.read_bytes()
    path.write_bytes(content[: one.start()] + repr(value).encode() + content[one.end() :])
    return None


DAMAGE: dict[str, Callable[[Path, random.Random], None]] = {
    "cut": cut,
    "emptied": emptied,
    "bit flipped": flipped,
    "noise": noise,
    "removed": removed,
    "a folder": a_folder,
    "line lost": lines_lost,
    "of another run": of_another,
    "a number changed": number_changed,
}
