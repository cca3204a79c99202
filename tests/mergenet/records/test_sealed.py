"""A sealed record: whatever in it becomes something else is seen; an older one and an edit that is meant are read."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mergenet.errors import CheckpointError
from mergenet.records import sealed
from mergenet.records.sealed import KEY, read_record, write_record

VALUES: dict[str, Any] = {
    "text": 'a "b", \\ \N{SNOWMAN} \ud800',
    "whole": 3,
    "real": 0.1 + 0.2,
    "small": -1e-320,
    "null": None,
    "nested": {"list": [1, [2.5, True], {}], "empty": []},
    "sha": {KEY: "inside"},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_record(tmp_path / "record.json", VALUES)
    return tmp_path / "record.json"


def test_what_is_written_is_read(path: Path) -> None:
    assert read_record(path) == VALUES
    assert list(json.loads(path.read_bytes())) == [*VALUES, KEY], "for other programs it is JSON, the seal its last key"
    write_record(path, read_record(path) | {"whole": 4})
    assert read_record(path)["whole"] == 4


@pytest.mark.parametrize("values", [{}, {"a": math.nan, "b": [math.inf, -math.inf]}, {"1": {"2": -0.0}}])
def test_odd_values_come_back(path: Path, values: dict[str, Any]) -> None:
    write_record(path, values)
    assert repr(read_record(path)) == repr(values)


def test_keys_that_are_numbers_become_text(path: Path) -> None:
    write_record(path, {"values": {1: 0.5, 2: 0.75}})
    assert read_record(path) == {"values": {"1": 0.5, "2": 0.75}}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"whole": 3', '"whole": 4'),
        ('"whole": 3', '"whole": 3.0'),
        ("0.30000000000000004", "0.3000000000000001"),
        ('"null": null', '"null": 0'),
        ("2.5", "2.25"),
        ("true", "false"),
        ('"whole": 3,\n', ""),
        ('"whole": 3', '"whole": 3, "more": 1'),
        ("inside", "insides"),
        (f'"{KEY}": "inside"\n  }},\n  "{KEY}": "', f'"{KEY}": "inside"\n  }},\n  "{KEY}": "0'),
    ],
)
def test_another_valid_value_is_seen(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    json.loads(path.read_bytes())
    with pytest.raises(CheckpointError) as caught:
        read_record(path, "buy another")
    assert str(caught.value) == (
        f"{path} must have the SHA-256 that its key sha256 says; it is damaged or was edited, buy another, or, if the "
        "edit is meant, take that key out"
    )


def test_the_message_s_way_out_leads_out(path: Path) -> None:
    values = json.loads(path.read_bytes()) | {"whole": 4}
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError):
        read_record(path)
    del values[KEY]
    path.write_text(json.dumps(values))
    assert read_record(path)["whole"] == 4


def test_no_bit_changes_a_value_without_a_word(path: Path) -> None:
    """A bit of the key itself makes the record one of an earlier version, whose other values are what they were."""
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                values = read_record(path)
            except CheckpointError:
                continue
            assert VALUES.items() <= values.items(), (place, bit)


@pytest.mark.parametrize("seal", [None, 1, "", {}])
def test_a_seal_that_is_none_does_not_fit(path: Path, seal: object) -> None:
    path.write_text(json.dumps(VALUES | {KEY: seal}))
    with pytest.raises(CheckpointError, match="take that key out"):
        read_record(path)


@pytest.mark.parametrize("indent", [None, 1, 4])
def test_a_record_laid_out_anew_is_the_same(path: Path, indent: int | None) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=indent))
    assert read_record(path) == VALUES


def test_a_record_of_an_earlier_version_is_read_as_it_stands(path: Path) -> None:
    path.write_text(json.dumps(VALUES))
    assert read_record(path) == VALUES


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"3", b"\x80\x04", b"[" * 100_000, b'{"a": 1}}'])
def test_what_is_no_mapping_is_damaged(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"must hold one mapping, got b.*; the file is damaged, mend"):
        read_record(path, "mend")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.json could not be read: No such file"):
        read_record(tmp_path / "none.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="folder could not be read: Is a directory"):
        read_record(tmp_path / "folder")


SIGNS = st.sampled_from(
    [
        *'{}[],:"-+.eE \\\n\t01',
        "NaN",
        "-Infinity",
        '"a"',
        "null",
        "true",
        "1e999",
        "\\ud800",
        "\\u00e9",
        "é",
        "\x01",
        "9" * 30,
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    (st.lists(SIGNS, max_size=12).map("".join) | st.text(max_size=8)).map(str.encode)
    | st.binary(max_size=6)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=10,
    ).map(lambda value: json.dumps(value).encode())
)
@example(b'{"a": ' + b"9" * 5000 + b"}")
@example(b"[" * 5000)
@example(b"\xef\xbb\xbf{}")
@example('{"a": 1}'.encode("utf-16"))
@example(b'{"a": 1, "a": 2}')
def test_json_is_read_as_python_reads_it(data: bytes) -> None:
    try:
        expected = json.loads(data)
    except (ValueError, RecursionError):
        expected = None
    assert repr(sealed._parsed(data)) == repr(expected)
