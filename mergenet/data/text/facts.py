"""Synthetic questions about real facts: the ISO tables that pycountry ships, in the format of SQuAD v2.0.

Countries (ISO 3166-1) and their subdivisions (3166-2), currencies (4217), languages (639-3) and scripts (15924).
Every article has things of its own, so no fact is in two splits. A context says some of an article's facts; a
question asks for one of them, or (a third of the time) for one of the article that this context does not say.

Some answers are words of a few (the status of a language, the type of a subdivision): a small network that starts
from nothing learns these soon. Others are codes, numbers and names that no other article has: they must be found by
what is said beside them, which is where such a network falls short.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch

from mergenet.config import DataConfig
from mergenet.data.splits import TEST_FRACTION, hold_out
from mergenet.data.text.squad import QuestionSets, parse_squad, split_articles
from mergenet.errors import needs_package

SEED = 0  # of the sentences; the set is the same whatever the split
CONTEXTS = 4  # an article
QUESTIONS = 4  # a context
UNANSWERABLE = 1 / 3
MIN_FACTS = 7  # of an article; what is left of a shorter one would be too little to ask for
LIVING = 0.5  # share of living languages; of all in the table it is nine tenths

STATEMENTS = (
    "{thing} has the {attribute} {value}.",
    "The {attribute} of {thing} is {value}.",
    "{value} is the {attribute} of {thing}.",
)
QUESTION_FORMS = (
    "What is the {attribute} of {thing}?",
    "Which {attribute} does {thing} have?",
)
STATUS = {"L": "living", "E": "extinct", "H": "historic", "C": "constructed", "A": "ancient", "S": "special"}
SCOPES = {"I": "individual", "M": "macrolanguage", "S": "special"}
CLASSES = ("hieroglyphic", "leftward", "rightward", "Brahmic", "syllabic", "ideographic")  # ISO 15924: number // 100


@dataclass(frozen=True)
class Fact:
    """`value` is the `attribute` of `thing`: 008 is the number of the currency Lek."""

    thing: str  # with its kind, "the currency Lek"
    attribute: str
    value: str


def load_facts(config: DataConfig) -> QuestionSets:
    """The generated set through the reader of files. Splits by article: test (15 %), then as of any SQuAD file."""
    train, test = facts_json(config.split_seed)
    return split_articles(parse_squad(train, "facts"), parse_squad(test, "facts"), config, "facts")


def write_facts(folder: Path, split_seed: int = 0) -> None:
    """train-v2.0.json and dev-v2.0.json, which data.name squad2 reads to the same splits as `facts`."""
    for part, value in zip(("train", "dev"), facts_json(split_seed), strict=True):
        (folder / f"{part}-v2.0.json").write_text(json.dumps(value), encoding="utf-8")


def facts_json(split_seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Training and test articles as the values of two SQuAD v2.0 files."""
    articles = all_articles()
    test, train = hold_out(torch.zeros(len(articles), dtype=torch.int64), TEST_FRACTION, split_seed)
    whole = tuple({"version": "v2.0", "data": [articles[i] for i in part.tolist()]} for part in (train, test))
    return whole[0], whole[1]


@cache
def all_articles() -> tuple[dict[str, Any], ...]:
    random = Random(SEED)
    return tuple(
        {"title": title, "paragraphs": [paragraph(facts, random, f"{title}-{i}") for i in range(CONTEXTS)]}
        for title, facts in things(random)
    )


def paragraph(facts: list[Fact], random: Random, name: str) -> dict[str, Any]:
    """A context of 3 to 6 sentences, one a fact, in random order, and questions about it.

    facts: all of the article.
    """
    said = random.sample(facts, min(random.randint(3, 6), len(facts) - 2))
    unsaid = [fact for fact in facts if fact not in said]
    random.shuffle(unsaid)
    context, starts = "", []
    for fact in said:
        before, after = random.choice(STATEMENTS).split("{value}")
        before = before.format(thing=fact.thing, attribute=fact.attribute)
        before = f"{' ' if context else ''}{before[:1].upper()}{before[1:]}"
        starts.append(len(context) + len(before))
        context += before + fact.value + after.format(thing=fact.thing, attribute=fact.attribute)
    qas = []
    order = random.sample(range(len(said)), len(said))
    for i in range(QUESTIONS):
        answered = bool(order) and (not unsaid or random.random() >= UNANSWERABLE)
        k = order.pop() if answered else 0
        fact = said[k] if answered else unsaid.pop()
        answers = [{"text": fact.value, "answer_start": starts[k]}] if answered else []
        question = random.choice(QUESTION_FORMS).format(thing=fact.thing, attribute=fact.attribute)
        qas.append({"id": f"{name}-{i}", "question": question, "answers": answers, "is_impossible": not answered})
    return {"context": context, "qas": qas}


def things(random: Random) -> Iterator[tuple[str, list[Fact]]]:
    """(title, facts) of each article: a country, a subdivision of it, a language, a currency, a script."""
    with needs_package("pycountry", "text"):
        import pycountry
    subdivisions: dict[str, list[Any]] = {}
    for item in sorted(pycountry.subdivisions, key=lambda item: item.code):
        subdivisions.setdefault(item.country_code, []).append(item)
    languages = plainly_named(pycountry.languages, "alpha_3")
    living, others = ([x for x in languages if (x.type == "L") == alive] for alive in (True, False))
    currencies, scripts = plainly_named(pycountry.currencies, "alpha_3"), plainly_named(pycountry.scripts, "alpha_4")
    countries = sorted(pycountry.countries, key=lambda item: item.alpha_3)
    for items in (living, others, currencies, scripts, countries):
        random.shuffle(items)
    for country in countries:
        own = subdivisions.get(country.alpha_2, [])
        facts = country_facts(country, own)
        if plain := plainly_named(own, "code"):
            facts += subdivision_facts(random.choice(plain), plain_name(country))
        facts += language_facts((living if random.random() < LIVING else others).pop())
        if currencies:
            facts += currency_facts(currencies.pop())
        if scripts:
            facts += script_facts(scripts.pop())
        if len(facts) >= MIN_FACTS:
            yield plain_name(country), facts


def plainly_named(items: Iterable[Any], key: str) -> list[Any]:
    """The items, by code, whose names are one or two words without remarks; of namesakes the first."""
    plain: dict[str, Any] = {}
    for item in sorted(items, key=lambda item: str(getattr(item, key))):
        if len(item.name.split()) < 3 and not set("(),[]*-/") & set(item.name):
            plain.setdefault(item.name, item)
    return list(plain.values())


def plain_name(item: Any) -> str:
    return str(getattr(item, "common_name", item.name))


def country_facts(item: Any, subdivisions: list[Any]) -> list[Fact]:
    types = Counter(part.type.lower() for part in subdivisions).most_common(1)
    values = {
        "code": item.alpha_3,
        "official name": getattr(item, "official_name", None),
        "division": types[0][0] if types else None,
    }
    return _facts(f"the country {plain_name(item)}", values)


def subdivision_facts(item: Any, country: str) -> list[Fact]:
    parent = item.parent.name if item.parent_code else None
    values = {"code": item.code, "country": country, "type": item.type.lower(), "parent": parent}
    return _facts(f"the subdivision {item.name}", values)


def currency_facts(item: Any) -> list[Fact]:
    return _facts(f"the currency {item.name}", {"code": item.alpha_3, "number": item.numeric})


def language_facts(item: Any) -> list[Fact]:
    values: dict[str, str | None] = {"status": STATUS[item.type], "scope": SCOPES[item.scope]}
    return _facts(f"the language {item.name}", values)


def script_facts(item: Any) -> list[Fact]:
    number = int(item.numeric) // 100
    values = {"code": item.alpha_4, "class": CLASSES[number] if number < 6 else None}
    return _facts(f"the script {item.name}", values)


def _facts(thing: str, values: dict[str, str | None]) -> list[Fact]:
    return [Fact(thing, attribute, value) for attribute, value in values.items() if value]
