"""The synthetic set: its form, its splits, and that its answers are the tables'."""

import re
import subprocess
import sys
from pathlib import Path

import pycountry

from mergenet.config import DataConfig
from mergenet.data.text.facts import all_articles, facts_json, load_facts, write_facts
from mergenet.data.text.squad import Question, QuestionSets, load_squad, parse_squad

CONFIG = DataConfig(name="facts")


def questions() -> tuple[Question, ...]:
    return parse_squad({"data": list(all_articles())}, "facts")


def test_sizes_and_share_without_an_answer() -> None:
    sets = load_facts(CONFIG)
    assert len(sets.train) <= 3000
    assert len(sets.train) + len(sets.val) + len(sets.test) == len(questions())
    for part in (sets.train, sets.val, sets.test):
        assert 0.28 < sum(not q.answers for q in part) / len(part) < 0.38


def test_contexts_have_3_to_6_sentences_and_vary() -> None:
    contexts = {q.context for q in questions()}
    assert {context.count(". ") + 1 for context in contexts} == {3, 4, 5, 6}
    assert len(contexts) == 4 * len(all_articles())


def test_no_context_is_in_two_splits_and_no_article() -> None:
    sets = load_facts(CONFIG)
    for a, b in ((sets.train, sets.val), (sets.train, sets.test), (sets.val, sets.test)):
        assert not {q.title for q in a} & {q.title for q in b}
        assert not {q.context for q in a} & {q.context for q in b}


def test_no_country_language_currency_or_script_is_in_two_splits() -> None:
    """By what answerable and unanswerable questions alike ask about, "the currency Lek"."""
    kind = re.compile(r"(the (country|language|currency|script) (?!of ).+?)( have)?\?$")

    def things(part: tuple[Question, ...]) -> set[str]:
        return {found[1] for q in part if (found := kind.search(q.text))}

    sets = load_facts(CONFIG)
    assert len(things(sets.train)) > 400
    assert not things(sets.train) & things(sets.val)
    assert not (things(sets.train) | things(sets.val)) & things(sets.test)


def test_an_answer_is_the_tables() -> None:
    """Every question for the code of a country, against ISO 3166-1 itself."""
    asked = [q for q in questions() if "code" in q.text and "the country " in q.text and q.answers]
    assert len(asked) > 50
    for question in asked:
        name = question.text.partition("the country ")[2].removesuffix(" have?").removesuffix("?")
        item = pycountry.countries.get(alpha_3=question.answers[0].text)
        assert item is not None and name in (item.name, getattr(item, "common_name", None))


def test_a_fact_is_asked_for_without_an_answer_only_if_the_context_does_not_say_it() -> None:
    for question in questions():
        asked = question.text.removesuffix(" have?").removesuffix("?")
        lead, _, thing = asked.partition(" of " if asked.startswith("What") else " does ")
        attribute = lead.removeprefix("What is the ").removeprefix("Which ")
        said = f"{thing} has the {attribute} ", f"the {attribute} of {thing} is ", f"is the {attribute} of {thing}."
        assert any(words.lower() in question.context.lower() for words in said) == bool(question.answers), question


def test_files_are_read_to_the_same_splits(tmp_path: Path) -> None:
    write_facts(tmp_path, split_seed=3)
    options = {"split_seed": 3, "train_fraction": 0.5}
    files = load_squad(DataConfig(name="squad2", root=str(tmp_path), **options))
    assert files == load_facts(DataConfig(name="facts", **options))


def test_the_seed_splits_and_the_text_stays() -> None:
    assert facts_json(1) == facts_json(1) != facts_json(2)
    one, two = (load_facts(DataConfig(name="facts", split_seed=seed)) for seed in (1, 2))

    def all_of(sets: QuestionSets) -> set[Question]:
        return {*sets.train, *sets.val, *sets.test}

    assert set(one.test) != set(two.test)
    assert all_of(one) == all_of(two)


def test_the_same_in_another_process() -> None:
    """Nothing rests on the order that Python's hashes give."""
    code = "from mergenet.data.text.facts import facts_json; print(facts_json(0))"
    one, two = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env={"PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    )
    assert one.stdout == two.stdout != b""
