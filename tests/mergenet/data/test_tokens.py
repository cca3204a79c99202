"""Texts as token numbers: word tokenizers, tokenizers from files, pairs, windows."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tokenizers")

from mergenet.config import DataConfig
from mergenet.data.text import tokens as module
from mergenet.data.text.tokens import encode, read_tokenizer, tokenizer_for, vocabulary_size, words_of
from mergenet.errors import ConfigError, DataError

PAD, UNKNOWN, START, SEPARATOR = range(4)
WORDS = ("red", "green", "blue", "Café", "can't", "x2", "日本", "!", "e-mail")
TOKENIZER = words_of(WORDS)
TEXTS = st.lists(st.sampled_from((*WORDS, "unheard", "\t", "  ")), max_size=30).map(" ".join)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def test_words_by_frequency_then_alphabet() -> None:
    vocabulary = words_of(["b b B.", "a a c"]).get_vocab()
    assert vocabulary == {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "b": 4, "a": 5, ".": 6, "c": 7}
    assert words_of(["b b B.", "a a c"], min_count=2).get_vocab().keys() - vocabulary.keys() == set()
    assert words_of(["b b B.", "a a c"], min_count=2).get_vocab_size() == 6


def test_most_frequent_words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WORDS", 1)
    assert words_of(["b a a"]).token_to_id("a") == 4
    assert words_of(["b a a"]).token_to_id("b") is None


def test_one_text_by_hand() -> None:
    tokens, text = encode(words_of(["hello, world"]), ["Hello  there, WORLD", ""], None, 7)
    comma, hello, world = 4, 5, 6
    assert tokens.ids.tolist() == [
        [START, hello, UNKNOWN, comma, world, SEPARATOR, PAD],
        [START, SEPARATOR, PAD, PAD, PAD, PAD, PAD],
    ]
    assert tokens.mask.tolist() == [[1] * 6 + [0], [1, 1] + [0] * 5]
    assert tokens.part.tolist() == [[-1, 0, 0, 0, 0, -1, -1], [-1] * 7]
    assert tokens.offsets[0].tolist() == [[0, 0], [0, 5], [7, 12], [12, 13], [14, 19], [0, 0], [0, 0]]
    assert text.tolist() == [0, 1]
    dtypes = tokens.ids.dtype, tokens.mask.dtype, tokens.part.dtype, tokens.offsets.dtype, text.dtype
    assert dtypes == (torch.int32, torch.uint8, torch.int8, torch.int32, torch.int64)


def test_pair_is_cut_in_the_second_text() -> None:
    tokens, text = encode(words_of(["a b"]), ["a", "b a"], ["b b b b", "a"], 6)
    a, b = 4, 5
    assert tokens.ids[1].tolist() == [START, b, a, SEPARATOR, a, SEPARATOR]
    assert tokens.ids[0].tolist() == [START, a, SEPARATOR, b, b, SEPARATOR]
    assert tokens.part.tolist() == [[-1, 0, -1, 1, 1, -1], [-1, 0, 0, -1, 1, -1]]
    assert text.tolist() == [0, 1]


def test_no_texts() -> None:
    tokens, text = encode(TOKENIZER, [], None, 8)
    assert tokens.ids.shape == tokens.mask.shape == tokens.part.shape == (0, 8)
    assert tokens.offsets.shape == (0, 8, 2)
    assert text.shape == (0,)


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = ["red"] * 7, ["green blue " * n for n in range(7)]
    whole = encode(TOKENIZER, first, second, 10, stride=2)
    monkeypatch.setattr(module, "CHUNK", 3)
    parts = encode(TOKENIZER, first, second, 10, stride=2)
    assert whole[1].equal(parts[1])
    assert whole[0].ids.equal(parts[0].ids)
    assert whole[0].offsets.equal(parts[0].offsets)


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(TEXTS | ANY_TEXT, min_size=1, max_size=4), length=st.integers(4, 24))
def test_offsets_give_back_the_text(texts: list[str], length: int) -> None:
    """Every known word is what the text says at its place, lower-cased and without accents."""
    tokens, row = encode(TOKENIZER, texts, None, length)
    assert tokens.ids.shape == (len(texts), length)
    assert row.tolist() == list(range(len(texts)))
    assert (tokens.mask.sum(dim=1) >= 2).all()
    assert tokens.ids[:, 0].eq(START).all()
    for text, ids, part, offsets in zip(texts, tokens.ids, tokens.part, tokens.offsets, strict=True):
        for number, side, (start, end) in zip(ids.tolist(), part.tolist(), offsets.tolist(), strict=True):
            if side == 0 and number != UNKNOWN:
                said = TOKENIZER.normalizer.normalize_str(text[start:end]).strip()
                assert said == TOKENIZER.id_to_token(number)


@settings(deadline=None, max_examples=60)
@given(first=TEXTS, second=TEXTS, stride=st.integers(1, 4), room=st.integers(1, 8))
def test_windows_cover_the_second_text(first: str, second: str, stride: int, room: int) -> None:
    """Each window shows the first text whole; windows overlap by `stride` tokens and leave no token out."""
    TOKENIZER.no_truncation()
    TOKENIZER.no_padding()
    asked = TOKENIZER.encode(first, add_special_tokens=False)
    context = TOKENIZER.encode(second, add_special_tokens=False)
    tokens, row = encode(TOKENIZER, [first], [second], len(asked) + 3 + stride + room, stride=stride)
    assert row.eq(0).all()
    seen: list[int] = []
    for ids, part in zip(tokens.ids, tokens.part, strict=True):
        assert ids[part == 0].tolist() == asked.ids
        window = ids[part == 1].tolist()
        assert not seen or seen[-stride:] == window[:stride]
        seen += window[stride:] if seen else window
    assert seen == context.ids
    places = {tuple(place) for place in tokens.offsets[tokens.part == 1].tolist()}
    assert places == set(context.offsets)


def test_no_room_for_the_second_text() -> None:
    message = (
        r"data\.max_length must be above 8, got 8: text 1 with its special tokens takes 6, and windows overlap by 2"
    )
    with pytest.raises(DataError, match=message):
        encode(TOKENIZER, ["red", "red green blue"], ["green", "green"], 8, stride=2)
    with pytest.raises(DataError, match=r"data\.max_length must be above 8, got 6: .* overlap by 6"):
        encode(TOKENIZER, ["red"], None, 6, stride=6)


def test_tokenizer_from_a_file_or_folder(tmp_path: Path) -> None:
    words_of(["a a b"]).save(str(tmp_path / "tokenizer.json"))
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        tokenizer = tokenizer_for(DataConfig(tokenizer=str(path)), ["never looked at"])
        assert tokenizer.get_vocab_size() == vocabulary_size(tokenizer) == 6
    assert encode(tokenizer, ["A b c"], None, 6)[0].ids.tolist() == [[START, 4, 5, UNKNOWN, SEPARATOR, PAD]]
    assert tokenizer_for(DataConfig(), ["a b", "b"], 2).get_vocab_size() == 5


def test_vocabulary_size_with_a_gap() -> None:
    from tokenizers import Tokenizer, models

    assert vocabulary_size(Tokenizer(models.WordLevel({"a": 0, "b": 9}, unk_token="a"))) == 10


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": "1.0"}', b"\xff\xfe", b'{"model": {"type": "X"}}'])
def test_damaged_tokenizer(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_bytes(content)
    with pytest.raises(
        DataError, match=r"^data\.tokenizer must be a tokenizer\.json, got '.*tokenizer\.json': [^\n]+$"
    ):
        read_tokenizer(tmp_path)


def test_missing_tokenizer(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no.json"):
        with pytest.raises(
            DataError, match=r"^data\.tokenizer must be a tokenizer\.json or a folder .* save_pretrained"
        ):
            read_tokenizer(path)


def test_tokenizer_without_berts_tokens(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({"<s>": 0, "[PAD]": 1}, unk_token="<s>")).save(str(tmp_path / "t.json"))
    with pytest.raises(DataError, match=r"must have the tokens of BERT, '.*t\.json' lacks \[CLS\], \[SEP\]$"):
        read_tokenizer(tmp_path / "t.json")


def test_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for call in (lambda: words_of(["a"]), lambda: read_tokenizer(tmp_path)):
        with pytest.raises(
            ConfigError, match=r'package tokenizers must be installed .* pip install "mergenet\[text\]"'
        ):
            call()
