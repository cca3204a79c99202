"""Exact match and F1 of SQuAD v2.0, by the rules of its official evaluation script.

https://worksheets.codalab.org/worksheets/0x8212d84ca41c4150b555a075b19ccc05 (Rajpurkar, Jia and Liang, 2018).
Fractions here, percentages there.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

ARTICLES = re.compile(r"\b(a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lower-case, without ASCII punctuation, English articles and surplus white space."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(WITHOUT_PUNCTUATION)).split())


def exact_match(answer: str, gold: str) -> float:
    return float(normalize_answer(answer) == normalize_answer(gold))


def token_f1(answer: str, gold: str) -> float:
    """Harmonic mean of precision and recall of the words, counted as often as they occur.

    If one of the two has no words, 1 if neither has, else 0.
    """
    given, wanted = normalize_answer(answer).split(), normalize_answer(gold).split()
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


def best_over_golds(score: Callable[[str, str], float], answer: str, golds: Sequence[str]) -> float:
    """The best score over the right answers; those without words do not count. No right answer is the answer ""."""
    return max(score(answer, gold) for gold in [g for g in golds if normalize_answer(g)] or [""])


def squad_metrics(answers: Sequence[str], golds: Sequence[Sequence[str]], no_answer: Tensor) -> dict[str, float]:
    """em and f1 with "no answer" given where `no_answer` > 0; the same at the best threshold; parts of f1.

    answers: the best span of each question. golds: its right answers, none if the context has no answer.
    no_answer: float (N,), score of "no answer" less that of the span.

    em_best and f1_best take the threshold that suits these very questions best, as the official script does:
    an upper bound, never to be compared with a number whose threshold was chosen elsewhere.
    """
    has_answer = torch.tensor([bool(gold) for gold in golds])
    metrics: dict[str, float] = {}
    for name, score in (("em", exact_match), ("f1", token_f1)):
        raw = [best_over_golds(score, answer, gold) for answer, gold in zip(answers, golds, strict=True)]
        spans = torch.tensor(raw, dtype=torch.float64)
        given = torch.where(no_answer > 0, (~has_answer).double(), spans)
        metrics[name] = given.mean().item()
        metrics[f"{name}_best"] = best_over_thresholds(spans, has_answer, no_answer, [bool(a) for a in answers])
        if name == "f1":
            for part, chosen in (("has_answer", has_answer), ("no_answer", ~has_answer)):
                if chosen.any():  # SQuAD v1.1 has no questions without an answer
                    metrics[f"f1_{part}"] = given[chosen].mean().item()
    return metrics


def best_over_thresholds(spans: Tensor, has_answer: Tensor, no_answer: Tensor, given: Sequence[bool]) -> float:
    """The best mean score over all thresholds of `no_answer`, the lowest being "no answer" throughout.

    spans: float64 (N,), scores of the spans. given: whether a span has any text.
    Raising the threshold past a question gives its span instead of "no answer".
    """
    gain = torch.where(has_answer, spans, -torch.tensor(given).double())
    gains = gain[no_answer.argsort(stable=True)].cumsum(0)
    return ((~has_answer).sum() + max(0.0, gains.max().item())).item() / len(spans)
