"""Texts as token numbers: the words of the training texts, or the tokenizer that comes with a pretrained network."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mergenet.config import DataConfig
from mergenet.data.text.minilm import MINILM, minilm_folder
from mergenet.errors import DataError, needs_package

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

PAD, UNKNOWN, START, SEPARATOR = "[PAD]", "[UNK]", "[CLS]", "[SEP]"  # BERT's names; numbers 0 to 3 of word tokenizers
MAX_WORDS = 30_000  # as many as BERT's vocabulary has word pieces
CHUNK = 1000  # texts encoded at a time: the library's records of a token are 20 times as large as ours


@dataclass(frozen=True)
class Tokens:
    """N texts, or pairs of texts, of at most L tokens: START first SEPARATOR (second SEPARATOR)."""

    ids: Tensor  # int32 (N, L); padding is the tokenizer's own
    mask: Tensor  # uint8 (N, L): 1 for tokens, 0 for padding
    part: Tensor  # int8 (N, L): 0 in the first text, 1 in the second, -1 for special tokens and padding
    offsets: Tensor  # int32 (N, L, 2): characters [start, end) of the text that the token belongs to


def tokenizer_for(config: DataConfig, texts: Iterable[str], min_count: int = 1) -> "Tokenizer":
    """The tokenizer of `config.tokenizer`, or one whose tokens are the words of `texts`, as `words_of` has it.

    texts: of the training split only, so that what other splits say is unknown where training never said it.
    Raises DataError if there is no such tokenizer or it cannot be read.
    """
    return words_of(texts, min_count) if config.tokenizer is None else read_tokenizer(Path(config.tokenizer))


def words_of(texts: Iterable[str], min_count: int = 1) -> "Tokenizer":
    """Words, lower-cased, and punctuation marks that occur at least `min_count` times; the MAX_WORDS most frequent.

    Numbered by frequency, then by alphabet. With min_count 1 the texts hold no unknown word, so a network that
    learns from them all never learns what to make of one.
    """
    with needs_package("tokenizers", "text"):
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    counts = Counter(w for t in texts for w, _ in splitter.pre_tokenize_str(normalizer.normalize_str(t)))
    common = (word for word, count in counts.items() if count >= min_count)
    words = sorted(common, key=lambda word: (-counts[word], word))[:MAX_WORDS]
    special = (PAD, UNKNOWN, START, SEPARATOR)
    vocabulary = {word: number for number, word in enumerate((*special, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    return with_special_tokens(tokenizer)


def read_tokenizer(path: Path) -> "Tokenizer":
    """tokenizer.json, or that of a folder, or MiniLM's by its name.

    Raises DataError if it is missing, damaged or lacks BERT's tokens, ConfigError without MiniLM's package.
    """
    if str(path) == MINILM and not path.exists():
        path = minilm_folder()
    with needs_package("tokenizers", "text"):
        from tokenizers import Tokenizer
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise DataError(
            f"data.tokenizer must be a tokenizer.json or a folder that holds one, got {str(path)!r}; "
            "save_pretrained of a fast tokenizer of transformers writes it"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise DataError(f"data.tokenizer must be a tokenizer.json, got {str(file)!r}: {str(error)[:200]}") from None
    if lacking := [token for token in (PAD, START, SEPARATOR) if tokenizer.token_to_id(token) is None]:
        raise DataError(f"data.tokenizer must have the tokens of BERT, {str(file)!r} lacks {', '.join(lacking)}")
    return with_special_tokens(tokenizer)


def with_special_tokens(tokenizer: "Tokenizer") -> "Tokenizer":
    """The same tokenizer, which puts START before and SEPARATOR after a text, whatever it did before."""
    from tokenizers.processors import TemplateProcessing

    special = [(token, tokenizer.token_to_id(token)) for token in (START, SEPARATOR)]
    single, pair = f"{START} $A {SEPARATOR}", f"{START} $A {SEPARATOR} $B {SEPARATOR}"
    tokenizer.post_processor = TemplateProcessing(single=single, pair=pair, special_tokens=special)
    return tokenizer


def vocabulary_size(tokenizer: "Tokenizer") -> int:
    """One more than the largest token number; a tokenizer may leave numbers out."""
    return max(tokenizer.get_vocab().values()) + 1


def encode(
    tokenizer: "Tokenizer", first: Sequence[str], second: Sequence[str] | None, max_length: int, stride: int = 0
) -> tuple[Tokens, Tensor]:
    """Token numbers, cut off at `max_length`. Returns them and the text that each row comes from, int64 (N,).

    Pairs are cut in the second text. stride > 0: what is cut off gets rows of its own, which overlap by `stride`
    tokens; otherwise it is dropped and rows are texts. The tokenizer keeps the length, for truncation and padding.
    Raises DataError for a first text beside which `max_length` leaves no room for more than `stride` tokens.
    """
    if second is not None or stride:
        _check_room(tokenizer, first, second is not None, max_length, stride)
    strategy = "longest_first" if second is None else "only_second"
    tokenizer.enable_truncation(max_length, stride=stride, strategy=strategy)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(PAD), pad_token=PAD, length=max_length)
    inputs = list(first) if second is None else list(zip(first, second, strict=True))
    starts = range(0, max(len(inputs), 1), CHUNK)
    parts = [_encode(tokenizer, inputs[start : start + CHUNK], max_length, stride > 0) for start in starts]
    fields = zip(*((t.ids, t.mask, t.part, t.offsets) for t, _ in parts), strict=True)
    text = torch.cat([number + start for (_, number), start in zip(parts, starts, strict=True)])
    return Tokens(*map(torch.cat, fields)), text


def _encode(tokenizer: "Tokenizer", inputs: Sequence[Any], max_length: int, overflow: bool) -> tuple[Tokens, Tensor]:
    rows: list[tuple[int, Encoding]] = []
    for text, encoding in enumerate(tokenizer.encode_batch(inputs)):
        rows += [(text, row) for row in ([encoding, *encoding.overflowing] if overflow else [encoding])]
    shape = len(rows), max_length
    part = [[-1 if p is None else p for p in row.sequence_ids] for _, row in rows]
    tokens = Tokens(
        torch.tensor([row.ids for _, row in rows], dtype=torch.int32).reshape(shape),
        torch.tensor([row.attention_mask for _, row in rows], dtype=torch.uint8).reshape(shape),
        torch.tensor(part, dtype=torch.int8).reshape(shape),
        torch.tensor([row.offsets for _, row in rows], dtype=torch.int32).reshape(*shape, 2),
    )
    return tokens, torch.tensor([text for text, _ in rows], dtype=torch.int64)


def _check_room(tokenizer: "Tokenizer", first: Sequence[str], pairs: bool, max_length: int, stride: int) -> None:
    """Raises DataError, with the index of the text; the library itself would abort with a message without one."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for index, text in enumerate(first if pairs else first[:1]):
        taken = len(tokenizer.encode(text, add_special_tokens=False)) + 3 if pairs else 2
        if taken + stride >= max_length:
            raise DataError(
                f"data.max_length must be above {taken + stride}, got {max_length}: text {index} with its special "
                f"tokens takes {taken}, and windows overlap by {stride}"
            )
