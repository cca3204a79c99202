"""The benchmark that looks for tracebacks and silent changes finds both where there are any."""

import random
from pathlib import Path

import pytest

from benchmarks import robustness
from benchmarks.mutations import DAMAGE, garbled, mutated
from benchmarks.robustness import FINE, REFUSED, SILENT, TRACEBACK, compared, judged, outcome_of, run, said_of
from mergenet.errors import UserError


def raising(error: Exception) -> robustness.Outcome:
    raise error


def test_an_error_of_a_user_is_a_refusal_and_any_other_a_traceback() -> None:
    assert outcome_of(lambda: raising(UserError("a must be 1, got 2"))) == (REFUSED, "a must be 1, got 2")
    for error in (KeyError("a"), ValueError("a"), RecursionError(), UserError(""), UserError("\x1b[31m")):
        assert outcome_of(lambda error=error: raising(error))[0] == TRACEBACK  # type: ignore[misc]
    assert judged("one line\nand another")[0] == REFUSED


def test_a_value_that_was_read_as_another_one_is_found() -> None:
    assert compared({"a": 1, "b": [1, 2]}, {"a": 1.0, "b": [1, 2], "c": 3}, ())[0] == FINE
    assert compared({"a": True}, {"a": 1}, ()) == (SILENT, "a: True became 1")
    assert compared({"a": "1"}, {"a": 1}, ())[0] == SILENT
    assert compared({"a": {"b": [1]}}, {"a": {"b": []}}, ()) == (SILENT, "a.b.0: 1 is gone")
    assert compared({"a": "1"}, {"a": 1}, ("a",))[0] == FINE


def test_an_answer_that_changed_must_name_what_was_damaged() -> None:
    before = {"table": (FINE, "trial-000 0.8"), "resume": (FINE, "made again: nothing")}
    file = Path("trials/trial-000/epochs.jsonl")
    assert said_of(file, "cut", before, before)[0] == FINE
    assert said_of(file, "cut", before, before | {"table": (FINE, "0.7")})[0] == SILENT
    assert said_of(file, "cut", before, before | {"table": (REFUSED, "skipped trial-000")})[0] == REFUSED
    assert said_of(file, "cut", before, before | {"resume": (FINE, "made again: trial-000")})[0] == FINE
    assert said_of(file, "cut", before, before | {"resume": (TRACEBACK, "KeyError")})[0] == TRACEBACK


def test_mistakes_and_damage_depend_on_the_seed_alone(tmp_path: Path) -> None:
    values = {"a": {"b": [1, 2], "c": "text"}, "d": 3.5}
    for seed in range(50):
        assert repr(mutated(values, random.Random(seed))) == repr(mutated(values, random.Random(seed)))
        assert garbled("a: {b: 1}\nc: 2\n", random.Random(seed)) == garbled("a: {b: 1}\nc: 2\n", random.Random(seed))
    assert values == {"a": {"b": [1, 2], "c": "text"}, "d": 3.5}
    for name, damage in DAMAGE.items():
        for run_name in ("one", "two"):
            (tmp_path / run_name).mkdir(exist_ok=True)
            (tmp_path / run_name / "record").write_bytes(run_name.encode() * 9 + b"\nline\n")
        whole = (tmp_path / "one/record").read_bytes()
        damage(tmp_path / "one/record", random.Random(3))
        left = tmp_path / "one/record"
        assert not left.is_file() or left.read_bytes() != whole, name
        if left.is_dir():
            left.rmdir()


def test_files_with_mistakes_are_refused_in_a_line() -> None:
    figures = run("files", range(40), shows=False)
    assert figures["outcomes"][TRACEBACK] == figures["outcomes"][SILENT] == 0, figures["faults"]
    assert figures["outcomes"][REFUSED] > 20


def test_a_bad_option_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        robustness.parse(["everything"])
    assert "invalid choice: 'everything'" in capsys.readouterr().err
