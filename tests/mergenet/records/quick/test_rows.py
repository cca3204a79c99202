"""epochs.jsonl read at once is what it is line by line, and is refused with the same words."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mergenet.errors import CheckpointError
from mergenet.records import run_record as record
from mergenet.records.quick.columns import Columns, quick_columns
from mergenet.records.quick.rows import quick_rows, text_hash

NUMBERS = st.floats() | st.none() | st.integers(-3, 2**70)
COUNTS = ("epoch", "step")
COLUMNS = ("target_val_top1", "seconds_target", "seconds_adapter", "gate", "seconds_source")
counted = st.fixed_dictionaries({"epoch": st.integers(1, 9), "step": st.integers(0, 99)})
rows = st.lists(st.builds(dict, counted, **dict.fromkeys(COLUMNS, NUMBERS)), max_size=4)
ASKED = ("target_val_top1", "gate", "x", "seconds_target", "none")
ODD_LINES = [
    *(
        '{"epoch": true}',
        '{"epoch": 1.0}',
        '{"epoch": 0}',
        '{"epoch": 1, "step": -1}',
        '{"epoch": 1, "step": 1.5}',
        "[1]",
        "1",
    ),
    *(
        '{"epoch": 1, "x": "y"}',
        '{"epoch": 1, "x": [1]}',
        '{"epoch": 1, "x": false}',
        "{}",
        "",
        " ",
        "{",
        '{"epoch": 1}{',
    ),
    *(
        '{"epoch": 1},{"epoch": 2}',
        '{"epoch": 1',
        '"step": 2}',
        '{"epoch": 1, "epoch": 2}',
        '{"epoch": 1, "x": "\\ud800"}',
    ),
    *(
        '{"epoch": 1, "x": ' + "9" * 400 + "}",
        '{"epoch": ' + "9" * 5000 + "}",
        '{"epoch": 1, "x": -NaN}',
        '\ufeff{"epoch": 1}',
    ),
    *(
        '{"epoch": 1}\r{"epoch": 2}',
        '{"epoch":1}',
        '{"epoch": 1, "x": 1e999}',
        '{"epoch": 01}',
        "[" * 3000,
        '{"epoch": 1, "x": {}}',
    ),
    *(
        '{"seconds_x": 1, "epoch": 1}',
        '{"epoch": 1, "seconds_x": 1, "seconds_y": 2}',
        '{"epoch": 1, "seconds_x": "a, b"}',
    ),
]


def read(folder: Path) -> str:
    try:
        return repr(record.read_epochs(folder))
    except CheckpointError as error:
        return str(error)


def read_columns(folder: Path) -> Columns | None:
    """As for a table and a status; None if it is refused."""
    try:
        return record.read_columns(folder, record.read_result(folder), ASKED)
    except CheckpointError:
        return None


def check(folder: Path, data: bytes, result: dict[str, Any]) -> str:
    """What is read at once is what is read with care alone. Returns it."""
    (folder / record.EPOCHS_FILE).write_bytes(data)
    record.write_record(folder / record.RESULT_FILE, result)
    found, columns = read(folder), read_columns(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "quick_rows", lambda _: None)
        patch.setattr(record, "quick_columns", lambda *_: None)
        patch.setattr(record, "text_hash", lambda *_: None)
        assert found == read(folder)
        assert repr(columns) == repr(read_columns(folder))
    if columns is None:
        assert not found.startswith("[")
    else:
        rows = record.read_epochs(folder)
        assert repr(columns.steps) == repr([row.get("step") for row in rows])
        for name, values in {**columns.times, **columns.values}.items():
            assert repr(values) == repr([row.get(name) for row in rows]), name
        assert set(columns.times) == {name for row in rows for name in row if name.startswith("seconds_")}
        assert repr(columns.last) == repr(rows[-1] if rows else {})
        assert repr(columns.best) == repr(record.best_row(rows, result))
    return found


def result_of(count: int, sha256: str | None, status: str = "finished", best: int | None = None) -> dict[str, Any]:
    done = {"status": status, "error": None, "epochs_done": count, "best_epoch": best, "metric": "target_val_top1"}
    return done if sha256 is None else done | {"epochs_sha256": sha256}


@settings(max_examples=150, deadline=None)
@given(rows)
def test_what_a_run_writes_is_read_at_once_and_its_text_has_its_hash(told: list[dict[str, Any]]) -> None:
    data = "".join(json.dumps(row) + "\n" for row in told).encode()
    small = all(abs(value) < 2**70 for row in told for value in row.values() if isinstance(value, int))
    if small:
        assert repr(quick_rows(data)) == repr(told)
    for count in range(len(told) + 1):
        assert text_hash(data, count) == record.epochs_hash(told[:count])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(ODD_LINES) | rows.map(lambda told: json.dumps(told[0]) if told else ""), max_size=4),
    st.booleans(),
)
@example(['{"epoch": 1', '"step": 2}'], True)
@example(['{"epoch": 1},{"epoch": 2}', '{"epoch": 3', '"step": 4}'], True)
@example(['{"epoch": 1, "x": ' + "9" * 400 + "}"], True)
def test_odd_lines_are_what_they_are_line_by_line(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], ended: bool
) -> None:
    data = ("\n".join(texts) + ("\n" if ended else "")).encode("utf-8", errors="surrogatepass")
    check(tmp_path_factory.mktemp("odd"), data, result_of(len(texts), None, "running"))


def written(number: int, **more: Any) -> dict[str, Any]:
    return {"epoch": number, "step": 4 * number, "target_val_top1": 1e-05, "seconds_target": 0.25, "gate": 0.5} | more


@pytest.mark.parametrize(
    ("more", "at_once"),
    [
        ({}, True),
        ({"target_val_top1": None, "gate": float("nan"), "seconds_target": -0.0, "x": float("-inf")}, True),
        ({"seconds_target": None}, True),
        ({"seconds_adapter": 1.5}, False),  # behind the gate: not with the other time
        ({"x": "a text"}, False),
        ({"x": True}, False),
        ({"x": [1]}, False),
        ({"seconds_target": "1, 2"}, False),
        ({"gate": None, "x": 1e-7, "y": -1.5e300}, True),
        ({"step": 4.0}, False),
        ({"step": 13}, False),
        ({"epoch": 4}, False),
        ({"step": -1}, False),
        ({"epoch": 0}, False),
    ],
    ids=str,
)
def test_a_table_s_part_of_the_rows(tmp_path: Path, more: dict[str, Any], at_once: bool) -> None:
    """Also of rows whose right hash was written, but which are none: they are refused as before."""
    told = [written(1), written(2), written(3, **more)]
    data = "".join(json.dumps(row) + "\n" for row in told).encode()
    found = check(tmp_path, data, result_of(3, record.epochs_hash(told), best=2))
    taken = quick_columns(data, 3, record.epochs_hash(told), 2, ASKED)
    assert (taken is not None) is at_once
    if taken is not None:
        assert (taken.best, taken.steps, list(taken.times)) == (told[1], [4, 8, 12], ["seconds_target"])
        assert found.startswith("[")
        assert quick_columns(data, 3, record.epochs_hash(told), 4, ASKED) is None, "no such epoch"
        assert quick_columns(data, 2, record.epochs_hash(told[:2]), 2, ASKED) is None, "a killed run's last row"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"seconds_adapter": 2.0, "seconds_source": 1e-7},
        {"gate": 1.0},
        {"gate": 1.0, "seconds_none": None, "seconds_few": float("nan")},
    ],
    ids=str,
)
def test_times_stand_anywhere_in_a_row(tmp_path: Path, more: dict[str, Any]) -> None:
    """At its end or before other columns, one or several; in each row alike."""
    told = [{"epoch": n, "step": 5 * n, "x": n / 3, "seconds_target": 0.1 * n} | more for n in range(1, 5)]
    data = "".join(json.dumps(row) + "\n" for row in told).encode()
    check(tmp_path, data, result_of(4, record.epochs_hash(told), best=3))
    together = list(more) in ([], ["seconds_adapter", "seconds_source"], ["gate"])
    assert (quick_columns(data, 4, record.epochs_hash(told), 3, ASKED) is not None) is together
    other = [row if number != 2 else row | {"seconds_x": 1.0} for number, row in enumerate(told)]
    data = "".join(json.dumps(row) + "\n" for row in other).encode()
    assert check(tmp_path, data, result_of(4, record.epochs_hash(other), best=3)).startswith("[")
    assert quick_columns(data, 4, record.epochs_hash(other), 3, ASKED) is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_is_seen_wherever_it_is(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    told = [
        {"epoch": n, "step": 4 * n, "target_val_top1": n / 7, "seconds_target": 0.25, "gate": 0.5} for n in (1, 2, 3)
    ]
    whole = bytearray("".join(json.dumps(row) + "\n" for row in told).encode())
    place = data.draw(st.integers(0, len(whole) - 2))
    whole[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place]))
    folder = tmp_path_factory.mktemp("damaged")
    found = check(folder, bytes(whole), result_of(3, record.epochs_hash(told), best=2))
    if not found.startswith("["):
        assert "damaged" in found or "altered" in found
    else:  # a time, which is in no hash
        again = [{name: row[name] for name in row if name in told[0]} for row in record.read_epochs(folder)]
        assert [row | {"seconds_target": 0.25} for row in again] == told
