"""Every key of a sweep file, for people: as help in a terminal and as a page of docs/, both read from the models."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from mergenet.config.json_schema import REQUIRED, Field, fields_of
from sweeps.config.schema import SweepConfig
from sweeps.space.entry import FORMS, WHEN

ENTRY = "search.*"  # what lies under it is told by forms as well


class Section(NamedTuple):
    """heads, rows: a table. keys: whether its rows are keys, and not forms of an entry."""

    title: str
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]


KEYS, ENTRIES = ("key", "is", "values", "default"), ("entry", "draws")


def sections() -> list[Section]:
    """The keys at the top, the forms of an entry of `search`, then what lies inside mappings."""
    inside: dict[str, list[tuple[str, ...]]] = {}
    for field in fields_of(SweepConfig):
        place, _, key = field.path.rpartition(".")
        inside.setdefault(place, []).append((key, field.description, field.type, _default(field, place)))
    top = inside.pop("")
    forms: list[tuple[str, ...]] = [(flow(form.example), form.draws) for form in (*FORMS, WHEN)]
    found = [
        Section("Keys", KEYS, top),
        Section("An entry of search, PATH: {...}, is one of", ENTRIES, forms),
    ]
    return found + [Section(f"Keys under {_shown(place)}", KEYS, rows) for place, rows in inside.items()]


def _default(field: Field, place: str) -> str:
    """An entry has one of its forms, so that none of the keys which say it has a default."""
    one_of = place == ENTRY and field.path.rpartition(".")[2] in {key for form in FORMS for key in form.example}
    return "" if one_of and field.default == "null" else field.default


def _shown(place: str) -> str:
    """search.*.layers -> search.PATH.layers"""
    return place.replace("search.*", "search.PATH").replace("constraints.*", "constraints.MEASURE")


def flow(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return json.dumps(value) if not isinstance(value, str) or "*" in value else value


def help_sections() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Title and rows of two columns, as `mergenet train --help` lists the settings of a training."""
    for section in sections():
        rows = [(first, _described(*rest)) for first, *rest in section.rows]
        yield section.title, rows


def _described(description: str, values: str = "", default: str = "") -> str:
    if not values:
        return description
    told = {"": "", REQUIRED: f"; {REQUIRED}"}.get(default, f"; default {default}")
    return f"{description}  [{values}{told}]"


INTRODUCTION = """\
# Keys of a sweep file

Made from the models by `mergenet sweep keys --markdown`; `mergenet sweep keys` prints the same in a terminal.
[Sweeps](sweeps.md) is the guide. `mergenet sweep init FILE --base CONFIG` writes a sweep file to begin with,
`mergenet sweep plan FILE` checks one.

Any key is changed for one run by `--set KEY=VALUE`. The paths under `set` and `search` are those of a training
configuration, which `mergenet train --help` lists.

An editor that knows JSON Schema completes the keys and paths, and marks what is wrong:

    mergenet sweep keys --json-schema > sweep.schema.json

and as the first line of the sweep file

    # yaml-language-server: $schema=sweep.schema.json
"""


def markdown() -> str:
    """The page of docs/."""
    return "\n".join([INTRODUCTION, *("\n".join(_table(section)) for section in sections())])


def _table(section: Section) -> list[str]:
    code = {0, 2, 3} if section.heads == KEYS else {0}  # columns
    rows = [[_cell(text, i in code) for i, text in enumerate(row)] for row in section.rows]
    head = [f"## {section.title}", "", _line(section.heads), _line(["---"] * len(section.heads))]
    return [*head, *map(_line, rows), ""]


def _cell(text: str, code: bool) -> str:
    text = text.replace("|", "\\|")
    return f"`{text}`" if code and text else text


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"
