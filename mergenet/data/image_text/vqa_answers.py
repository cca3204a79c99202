"""The official rules of VQA v2.0 for answers: when two are the same, and what an answer scores.

As in VQAEval of https://github.com/GT-Vision-Lab/VQA (PythonEvaluationTools/vqaEvaluation/vqaEval.py).
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

NUM_HUMANS = 10  # that answered each question
ARTICLES = ("a", "an", "the")
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"none": "0"} | {word: str(n) for n, word in enumerate(_NUMBERS)}
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")  # the official pattern has "(?!<=\d)" before it, which is always true
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_APOSTROPHE = re.compile("'")

_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't
wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
# each of these with one apostrophe forgotten is mended; the last one is the official list's own slip
CONTRACTIONS = {
    word[: place.start()] + word[place.end() :]: word
    for word in _CONTRACTED.split()
    for place in _APOSTROPHE.finditer(word)
} | {"somebody'd": "somebodyd"}


def normalise(answer: str) -> str:
    """What a network's answer is compared as: lower case, without articles and most punctuation, numbers as digits.

    >>> normalise("The two dogs, I dont know.")
    "2 dogs i don't know"
    """
    text = without_punctuation(answer.replace("\n", " ").replace("\t", " ").strip())
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


@cache  # humans repeat each other
def without_punctuation(text: str) -> str:
    """Marks beside a space, or in a text that holds a number like 1,000, vanish; others become a space."""
    number = _COMMA_IN_NUMBER.search(text) is not None
    result = text
    for mark in PUNCTUATION:
        vanishes = number or f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if vanishes else " ")
    return _PERIOD.sub("", result)


def soft_scores(humans: Sequence[str]) -> dict[str, float]:
    """Score of every answer that at least one of `humans` gave; any other answer scores 0.

    The mean of min(matches / 3, 1) over the subsets that leave out one human each. n of 10 humans: 0.3 n, at most 1.
    What humans gave is only freed of punctuation, and that only if they differ.
    """
    differ = len(set(humans)) > 1
    counts = Counter(map(without_punctuation, humans) if differ else humans)
    total = len(humans)
    return {answer: (n * min((n - 1) / 3, 1) + (total - n) * min(n / 3, 1)) / total for answer, n in counts.items()}
