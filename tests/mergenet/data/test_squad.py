"""Files in SQuAD's format: what is read, how it is split, what is refused."""

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenet.config import DataConfig
from mergenet.data.text.squad import Answer, Question, load_squad, nearest, parse_squad, read_squad
from mergenet.errors import ConfigError, DataError
from tests.samples import CONTEXT, squad, write_squad


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


FIRST = ("data", 0, "paragraphs", 0, "qas", 0)


def test_reads_all_of_a_question(tmp_path: Path) -> None:
    write_squad(tmp_path, squad(), squad(1, "dev"))
    first, second = read_squad(tmp_path / "dev-v2.0.json")
    answers = (Answer("Oslo", 20), Answer("capital is Oslo", 9))
    assert first == Question("dev0a", "devT0", "Where is dev0a?", CONTEXT, answers)
    assert second.answers == ()


def test_version_1_needs_no_is_impossible(tmp_path: Path) -> None:
    old = squad()
    for article in old["data"]:
        del article["paragraphs"][0]["qas"][1]
        del article["paragraphs"][0]["qas"][0]["is_impossible"]
    write_squad(tmp_path, old, old, "v1.1")
    sets = load_squad(DataConfig(name="squad1", root=str(tmp_path)))
    assert len(sets.test) == 4
    assert all(question.answers for question in (*sets.train, *sets.val, *sets.test))


def test_validation_has_articles_of_its_own_and_test_is_the_development_file(tmp_path: Path) -> None:
    write_squad(tmp_path, squad(10), squad(2, "dev"))
    sets = load_squad(DataConfig(name="squad2", root=str(tmp_path), val_fraction=0.3))
    assert [q.id for q in sets.test] == ["dev0a", "dev0b", "dev1a", "dev1b"]
    assert (len(sets.train), len(sets.val)) == (14, 6)
    assert not {q.title for q in sets.train} & {q.title for q in sets.val}


def test_a_fraction_of_training_is_nested_and_keeps_the_share_of_unanswerable_questions(tmp_path: Path) -> None:
    write_squad(tmp_path, squad(40), squad(1))
    whole, half, tenth = (
        load_squad(DataConfig(name="squad2", root=str(tmp_path), train_fraction=fraction)) for fraction in (1, 0.5, 0.1)
    )
    assert set(tenth.train) < set(half.train) < set(whole.train)
    assert whole.val == half.val == tenth.val
    assert sum(not q.answers for q in half.train) == pytest.approx(len(half.train) / 2, abs=1)


def test_contexts_without_a_question_are_counted(tmp_path: Path) -> None:
    train, dev = squad(), squad(1, "dev")
    for value, count in ((train, 2), (dev, 1)):
        value["data"][0]["paragraphs"] += [{"context": "Nobody asks.", "qas": []}] * count
    write_squad(tmp_path, train, dev)
    sets = load_squad(DataConfig(name="squad2", root=str(tmp_path)))
    assert sets.left_out == {"contexts without a question": 3} and len(sets.test) == 2


def test_missing_files_name_the_folder_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.root must name the folder of squad2, got None; fill .* curl"):
        load_squad(DataConfig(name="squad2"))
    write_squad(tmp_path, squad(), squad())
    (tmp_path / "dev-v2.0.json").unlink()
    with pytest.raises(DataError, match=r"lacks dev-v2.0.json; fill it with: mkdir -p .*/train-v2.0.json .*/dev-v2"):
        load_squad(DataConfig(name="squad2", root=str(tmp_path)))


def test_one_article_cannot_be_split(tmp_path: Path) -> None:
    write_squad(tmp_path, squad(1), squad(1))
    with pytest.raises(DataError, match=r"train-v2.0.json must hold articles of at least 2 titles, got 1"):
        load_squad(DataConfig(name="squad2", root=str(tmp_path)))


@pytest.mark.parametrize(("start", "place"), [(20, 20), (21, 20), (25, 26), (-3, 20), (10**30, 43)])
def test_an_answer_is_moved_to_the_nearest_place_that_holds_it(start: int, place: int) -> None:
    value = squad(1)
    at(value, FIRST)["answers"] = [{"text": "Oslo", "answer_start": start}]
    assert parse_squad(value, "file")[0].answers == (Answer("Oslo", place),)


@settings(deadline=None)
@given(st.text("ab", max_size=12), st.text("ab", min_size=1, max_size=3), st.integers(-3, 15))
def test_nearest_equals_a_search_of_all_places(context: str, text: str, start: int) -> None:
    places = [i for i in range(len(context)) if context.startswith(text, i)]
    found = nearest(context, text, start)
    if found is None:
        assert not places
    else:
        anchor = min(max(start, 0), len(context))
        assert found in places and abs(found - anchor) == min(abs(i - anchor) for i in places)


MALFORMED: list[tuple[tuple[Any, ...], Any, str]] = [
    (("data",), {}, r"file.data must be a list, got an empty mapping"),
    (("data",), [], r"file must hold at least one question, got none"),
    (("data", 0), 3, r"file: data\[0\] must be a mapping with the key 'title', got 3"),
    (("data", 0, "title"), " ", r"data\[0\].title must not be blank"),
    (("data", 1, "title"), None, r"data\[1\].title must be a text, got None"),
    (("data", 0, "paragraphs", 0, "context"), "", r"paragraphs\[0\].context must not be blank, got ''"),
    (("data", 0, "paragraphs", 0, "context"), "a\ud800b", r"context must be valid Unicode"),
    ((*FIRST, "id"), 5, r"qas\[0\].id must be a text, got 5"),
    ((*FIRST, "id"), "1a", r"file: ids must be unique, got '1a' twice"),
    ((*FIRST, "question"), "", r"\(id '0a'\).question must not be blank"),
    ((*FIRST, "answers"), [], r"\(id '0a'\) must have answers or is_impossible: true, and not both, got 0 answers"),
    ((*FIRST, "is_impossible"), True, r"and not both, got 2 answers and is_impossible: true"),
    ((*FIRST, "is_impossible"), 0, r"is_impossible must be true or false, got 0"),
    ((*FIRST, "answers", 1, "answer_start"), True, r"\(id '0a'\).answers\[1\].answer_start must be a whole number"),
    ((*FIRST, "answers", 0, "answer_start"), 2.0, r"answer_start must be a whole number, got 2.0"),
    ((*FIRST, "answers", 0, "text"), "Bergen", r"\(id '0a'\).answers\[0\].text must be part of the context"),
]


@pytest.mark.parametrize(("path", "value", "message"), MALFORMED)
def test_malformed_values_are_named(path: tuple[Any, ...], value: Any, message: str) -> None:
    whole = squad(2)
    at(whole, path[:-1])[path[-1]] = value
    with pytest.raises(DataError, match=message) as error:
        parse_squad(whole, "file")
    assert "\n" not in str(error.value)


def test_a_missing_key_is_named() -> None:
    whole = squad(2)
    del at(whole, FIRST)["answers"][0]["text"]
    with pytest.raises(DataError, match=r"data\[0\].*\(id '0a'\).answers\[0\] must have the key 'text', which is miss"):
        parse_squad(whole, "file")


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\xfd", b"[" * 100_000, b'{"data": ' + b"1" * 5000 + b"}"])
def test_files_that_are_no_json(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "train-v2.0.json"
    path.write_bytes(text)
    with pytest.raises(DataError, match=r"train-v2.0.json must be JSON, got a file that is not") as error:
        read_squad(path)
    assert "\n" not in str(error.value)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in items for found in paths_of(item, (*path, key)))]


WHOLE = squad(2)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["Oslo", "\ud800"])
)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=2) | st.dictionaries(st.text(max_size=3), v, max_size=2))


def read_or_refused(value: object) -> tuple[tuple[Question, ...], str | None]:
    try:
        return parse_squad(value, "file"), None
    except DataError as error:
        return (), str(error)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(paths_of(WHOLE)), st.sampled_from(["set", "delete", "double"]), VALUES)
def test_a_mutated_file_is_read_or_refused(path: tuple[Any, ...], how: str, value: Any) -> None:
    """Never another error; what is read holds its answers where it says."""
    whole = copy.deepcopy({"file": WHOLE})
    parent, key = at(whole, ("file", *path)[:-1]), ("file", *path)[-1]
    if how == "set":
        parent[key] = value
    elif how == "delete":
        del parent[key]
    elif isinstance(parent, list):
        parent.append(parent[key])
    questions, refusal = read_or_refused(whole.get("file"))
    if refusal is not None:
        assert "\n" not in refusal and refusal.startswith("file")
        return
    assert questions and len({q.id for q in questions}) == len(questions)
    for question in questions:
        assert question.text.strip() and question.context.strip() and question.title.strip()
        assert all(question.context.startswith(answer.text, answer.start) for answer in question.answers)
