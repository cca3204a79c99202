"""Question answering: windows, spans, the official metrics, and that a small BERT learns it."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from mergenet.config import DataConfig, NetworkConfig
from mergenet.data.text.squad import Answer, Question
from mergenet.data.text.tokens import words_of
from mergenet.data.text.windows import MIN_ARTICLES, Windows, article_words, load_windows, windows_of
from mergenet.errors import ConfigError
from mergenet.learner.learner import Learner
from mergenet.models import build_model
from mergenet.tasks import build_task
from mergenet.tasks.question_answering import (
    MAX_ANSWER,
    QuestionAnswering,
    best_spans,
    over_windows,
    span_loss,
)
from mergenet.tasks.squad_metrics import (
    best_over_golds,
    best_over_thresholds,
    exact_match,
    normalize_answer,
    squad_metrics,
    token_f1,
)
from tests.samples import squad, write_squad
from tests.tiny import tiny_config

CPU = torch.device("cpu")


def question(text: str, context: str, answer: str | None = None, name: str = "q", start: int | None = None) -> Question:
    answers = () if answer is None else (Answer(answer, context.index(answer) if start is None else start),)
    return Question(name, "title", text, context, answers)


def facts_config(**data: Any) -> NetworkConfig:
    values = {"name": "facts", "max_length": 64, "train_fraction": 0.05, "val_fraction": 0.05, **data}
    return NetworkConfig.model_validate(
        {"task": "question_answering", "data": values, "model": {"name": "bert_small"}, "batch_size": 16}
    )


def text_of(windows: Windows, row: int, questions: Sequence[Question]) -> str:
    """What the target span says."""
    first, last = windows.span[row].tolist()
    begin, end = windows.tokens.offsets[row, first, 0], windows.tokens.offsets[row, last, 1]
    return questions[int(windows.question[row])].context[int(begin) : int(end)]


# Windows


def test_a_short_context_is_one_window_and_its_span_is_the_answer() -> None:
    asked = [question("Where is it?", "It is in Oslo, not in Bergen.", "Oslo"), question("Who?", "It is in Oslo.")]
    windows = windows_of(words_of([q.context for q in asked]), asked, 24)
    assert windows.question.tolist() == [0, 1]
    assert text_of(windows, 0, asked) == "Oslo"
    assert windows.span[1].tolist() == [0, 0]


def test_a_long_context_is_covered_by_windows_that_overlap_by_a_third() -> None:
    context = " ".join(f"w{i}" for i in range(60))
    asked = [question("Which?", context, f"w{i} w{i + 1}") for i in range(59)]
    windows = windows_of(words_of([context]), asked, 24)
    parts = windows.tokens.part == 1
    rows = (windows.question == 0).nonzero().flatten().tolist()
    seen = [set(windows.tokens.offsets[row][parts[row]][:, 0].tolist()) for row in rows]
    assert len(set.union(*seen)) == 60
    assert all(len(a & b) == 8 for a, b in pairwise(seen))
    for number, item in enumerate(asked):
        held = [row for row in (windows.question == number).nonzero().flatten().tolist() if windows.span[row].any()]
        assert held and {text_of(windows, row, asked) for row in held} == {item.answers[0].text}


def test_an_answer_that_a_window_cuts_is_not_in_it() -> None:
    context = " ".join(f"w{i}" for i in range(30))
    asked = [question("Which?", context, context)]
    windows = windows_of(words_of([context]), asked, 24)
    assert len(windows.question) > 1 and not windows.span.any()


def test_a_token_that_the_answer_cuts_through_belongs_to_it() -> None:
    asked = [question("How many?", "There were 1990s cars.", "1990")]
    assert text_of(windows_of(words_of(["x"]), asked, 24), 0, asked) == "1990s"


def test_white_space_around_an_answer_is_not_part_of_it() -> None:
    asked = [question("Where?", "It is in Oslo now.", " Oslo ")]
    assert text_of(windows_of(words_of(["x"]), asked, 24), 0, asked) == "Oslo"


def test_a_long_question_leaves_room_for_the_context() -> None:
    asked = [question("why " * 500 + "?", "Because it is so in Oslo.", "Oslo", name="a")]
    windows = windows_of(words_of(["x"]), asked, 16)
    assert ((windows.tokens.part == 0).sum(1) == 5).all()
    assert windows.span.any()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_answer_short_enough_is_whole_in_some_window(data: st.DataObject) -> None:
    """And what the targets say is the answer, up to the rest of words that it cuts through."""
    context = data.draw(st.text("ab é.\u200b-界", min_size=1, max_size=80).filter(str.strip))
    begin = data.draw(st.integers(0, len(context) - 1))
    answer = context[begin : begin + data.draw(st.integers(1, 6))]
    asked = [Question("q", "t", data.draw(st.text("a ?", min_size=1, max_size=40)), context, (Answer(answer, begin),))]
    windows = windows_of(words_of(["a b"]), asked, 16)
    assert windows.span.min() >= 0 and (windows.span[:, 0] <= windows.span[:, 1]).all()
    for row in range(len(windows.question)):
        first, last = windows.span[row].tolist()
        assert (windows.tokens.part[row, first : last + 1] == 1).all() or (first, last) == (0, 0)
    visible = set(answer) - set(" \u200b")
    if visible and not set(context) & {"\u200b"} and answer.strip():
        texts = [text_of(windows, row, asked) for row in range(len(windows.question)) if windows.span[row].any()]
        assert texts and all(answer.strip() in text for text in texts)


def test_words_of_one_article_alone_are_unknown() -> None:
    said = [("A", "Oslo is in Norway."), ("A", "Oslo lies there."), ("B", "Norway is vast.")]
    asked = [Question(str(i), title, "Where is it?", text, ()) for i, (title, text) in enumerate(said)]
    known = set(words_of(article_words(asked), MIN_ARTICLES).get_vocab())
    assert known == {"[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "?", "is", "it", "norway", "where"}


def test_too_short_windows_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.max_length must be at least 16 .* got 15; 384 is usual"):
        load_windows(DataConfig(name="facts", max_length=15))
    with pytest.raises(ConfigError, match=r"data.name must be one of facts, squad1, squad2, got 'squad'; did you mean"):
        load_windows(DataConfig(name="squad", max_length=64))


def test_the_hash_tells_data_apart() -> None:
    def of(**data: Any) -> str:
        return load_windows(facts_config(**data).data).content_hash

    hashes = [of(), of(split_seed=1), of(max_length=48), of(train_fraction=0.06)]
    assert len(set(hashes)) == 4
    load_windows.cache_clear()
    assert of() == hashes[0]


# Spans


@settings(deadline=None)
@given(st.integers(1, 45), st.integers(0, 2**32))
def test_best_span_equals_a_search_of_all_spans(length: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, length, 2, generator=generator)
    context = torch.rand(3, length, generator=generator) < 0.6
    span, best = best_spans(logits, context)
    for n in range(3):
        allowed = context[n].nonzero().flatten().tolist()
        sums = {
            (i, j): float(logits[n, i, 0] + logits[n, j, 1])
            for i in allowed
            for j in allowed
            if i <= j < i + MAX_ANSWER
        }
        if not sums:
            assert (span[n].tolist(), best[n]) == ([0, 0], -torch.inf)
        else:
            assert best[n].item() == max(sums.values()) == sums[tuple(span[n].tolist())]  # type: ignore[index]  # a pair


def test_loss_is_the_mean_of_two_cross_entropies_over_possible_tokens() -> None:
    logits = torch.randn(4, 7, 2, dtype=torch.float64)
    logits[:, [2, 5]] = -torch.inf
    span, kept = torch.tensor([[0, 0], [1, 3], [3, 4], [6, 6]]), [0, 1, 3, 4, 6]
    place = torch.tensor([kept.index(i) for i in span.flatten().tolist()]).view(4, 2)
    for smoothing in (0.0, 0.1):
        expected = sum(cross_entropy(logits[:, kept, i], place[:, i], label_smoothing=smoothing) for i in (0, 1)) / 2
        torch.testing.assert_close(span_loss(logits, span, smoothing).mean(), expected)


def test_windows_of_a_question_are_merged() -> None:
    """The best span of all windows; the lowest score of "no answer" that any of them gives."""
    row, none = over_windows(
        torch.tensor([0, 0, 1, 2, 2]),
        torch.tensor([1.0, 3.0, 2.0, -torch.inf, -torch.inf]),
        torch.tensor([0.5, 4.0, 1.0, 2.0, 3.0]),
        3,
    )
    assert row.tolist() == [1, 2, 3]
    assert none.tolist() == [-2.5, -1.0, torch.inf]


def test_scores_that_are_no_numbers_do_not_crash() -> None:
    row, _ = over_windows(torch.tensor([0, 1]), torch.tensor([torch.nan, 1.0]), torch.tensor([torch.nan, 0.0]), 2)
    assert row.tolist() == [0, 1]


# Metrics: hand-made cases of the official script


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat!", "cat"),
        ("a.b", "ab"),
        ("an apple, a day", "apple day"),
        ("theory", "theory"),
        ("U.S.", "us"),
        ("the", ""),
        ("«Oslo»", "«oslo»"),
        ("a-the", "athe"),
    ],
)
def test_normalised_answers(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("answer", "gold", "em", "f1"),
    [
        ("the Oslo", "Oslo.", 1, 1),
        ("in Oslo", "Oslo", 0, 2 / 3),
        ("to be or to be", "to be", 0, 2 * (2 / 5) * 1 / (2 / 5 + 1)),
        ("to be", "to to be", 0, 2 * 1 * (2 / 3) / (1 + 2 / 3)),
        ("Bergen", "Oslo", 0, 0),
        ("", "", 1, 1),
        ("Oslo", "", 0, 0),
        ("", "Oslo", 0, 0),
        ("the", "", 1, 1),
    ],
)
def test_exact_match_and_f1(answer: str, gold: str, em: float, f1: float) -> None:
    assert exact_match(answer, gold) == em
    assert token_f1(answer, gold) == pytest.approx(f1)


def test_the_best_gold_counts_and_golds_without_words_do_not() -> None:
    assert best_over_golds(exact_match, "Oslo", ["Bergen", "oslo"]) == 1
    assert best_over_golds(exact_match, "", ["the", "Oslo"]) == 0
    assert best_over_golds(exact_match, "", ["the"]) == 1
    assert best_over_golds(token_f1, "", []) == 1


WORDS = st.lists(st.sampled_from(["the", "a", "Oslo", "oslo.", "Bergen", "x", "-"]), max_size=5).map(" ".join)


@settings(deadline=None)
@given(WORDS, WORDS)
def test_f1_is_symmetric_bounded_and_1_for_an_exact_match(a: str, b: str) -> None:
    f1 = token_f1(a, b)
    assert f1 == token_f1(b, a) and 0 <= exact_match(a, b) <= f1 <= 1
    assert token_f1(a, a) == exact_match(a, a) == 1


def test_metrics_by_hand() -> None:
    """Two questions with answers, two without; thresholds 0 and the best, which is between 0.5 and 2."""
    answers, golds = ["Oslo", "in Bergen", "x", "y"], [["Oslo"], ["Bergen"], [], []]
    no_answer = torch.tensor([-1.0, 0.5, 2.0, 3.0])
    assert squad_metrics(answers, golds, no_answer) == pytest.approx(
        {
            "em": 3 / 4,
            "em_best": 3 / 4,
            "f1": 3 / 4,
            "f1_best": (1 + 2 / 3 + 2) / 4,
            "f1_has_answer": 1 / 2,
            "f1_no_answer": 1,
        }
    )


def test_without_unanswerable_questions_there_is_no_such_part() -> None:
    assert "f1_no_answer" not in squad_metrics(["a b"], [["b"]], torch.tensor([-1.0]))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.0, 0.5, 1.0]), st.integers(-9, 9), st.booleans()),
        min_size=1,
        max_size=8,
        unique_by=lambda row: row[2],
    )
)
def test_best_threshold_equals_a_search(rows: list[tuple[bool, float, int, bool]]) -> None:
    """Over all thresholds, with the rule of the official script for every question."""
    has = [row[0] for row in rows]
    given_text = [row[3] for row in rows]
    span = [score if answerable and text else float(not answerable and not text) for answerable, score, _, text in rows]
    odds = torch.tensor([float(row[2]) for row in rows])

    def total(threshold: float) -> float:
        return sum(float(not h) if o > threshold else s for h, s, o in zip(has, span, odds.tolist(), strict=True))

    best = max(map(total, [-10.0, *odds.tolist()])) / len(rows)
    found = best_over_thresholds(torch.tensor(span).double(), torch.tensor(has), odds, given_text)
    assert found == pytest.approx(best)


# The task


@pytest.fixture(scope="module")
def task() -> QuestionAnswering:
    return QuestionAnswering(facts_config())


def perfect(task: QuestionAnswering, split: str) -> dict[str, Tensor]:
    """The scores of a network that always gives the target span."""
    batch = task.batch(split, torch.arange(task.size(split)), CPU)
    logits = torch.zeros(*batch["tokens"].shape, 2)
    logits.scatter_(1, batch["span"][:, None, :], 50.0)
    return task.score(task.forward(lambda tokens, mask: logits, batch), batch)  # type: ignore[arg-type]  # noqa: ARG005


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_targets_themselves_score_1(task: QuestionAnswering, split: str) -> None:
    metrics = task.metrics(split, perfect(task, split))
    assert metrics.pop("loss") < 1e-6
    assert metrics == dict.fromkeys(metrics, 1.0) and len(metrics) == 6


def test_always_no_answer_scores_the_share_of_unanswerable_questions(task: QuestionAnswering) -> None:
    scores = perfect(task, "test")
    metrics = task.metrics("test", {**scores, "none": torch.full_like(scores["none"], 1e6)})
    questions = load_windows(facts_config().data).test.questions
    floor = sum(not q.answers for q in questions) / len(questions)
    assert metrics["em"] == metrics["f1"] == pytest.approx(floor)
    assert (metrics["f1_has_answer"], metrics["f1_no_answer"]) == (0, 1)


def test_questions_separators_and_padding_are_no_answers(task: QuestionAnswering) -> None:
    batch = task.batch("val", torch.arange(5), CPU)
    shape = *batch["tokens"].shape, 2
    outputs = task.forward(lambda tokens, mask: torch.zeros(shape), batch)  # type: ignore[arg-type]  # noqa: ARG005
    possible = outputs["spans"].isfinite().all(2)
    assert possible[:, 0].all() and possible[:, 1:].equal(batch["context"][:, 1:])
    separator = task.tokenizer.token_to_id("[SEP]")
    assert not (possible & (batch["tokens"] == separator)).any() and not (possible & (batch["mask"] == 0)).any()


def test_version_1_is_always_answered(tmp_path: Path) -> None:
    old = squad()
    for article in old["data"]:
        del article["paragraphs"][0]["qas"][1]
    write_squad(tmp_path, old, old, "v1.1")
    task = QuestionAnswering(facts_config(name="squad1", root=str(tmp_path), train_fraction=1.0))
    scores = perfect(task, "test")
    scores["none"] += 1e6
    assert task.metrics("test", scores)["em"] == 1


def test_metadata_holds_the_tokenizer(task: QuestionAnswering) -> None:
    from tokenizers import Tokenizer

    again = Tokenizer.from_str(task.metadata["tokenizer"])
    assert again.encode("the code").ids == task.tokenizer.encode("the code").ids


def test_a_small_bert_learns_four_questions_by_heart() -> None:
    config = facts_config()
    task = build_task(config)
    torch.manual_seed(0)
    network = build_model(config.model, task.spec)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    batch = task.batch("train", torch.arange(4), CPU)
    network.eval()  # without dropout
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = task.loss(task.forward(network, batch), batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 2 and losses[-1] < 1, losses


def test_a_learner_trains_and_evaluates_it() -> None:
    learner = Learner("target", facts_config(), tiny_config(), CPU)
    learner.set_rate(0, 10, 5)
    learner.backward()
    learner.update()
    assert learner.metric == "target_val_f1"
    assert learner.results().keys() >= {"target_train_loss", "target_val_loss", "target_val_f1", "target_val_em"}
