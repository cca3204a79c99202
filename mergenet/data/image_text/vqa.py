"""Questions about images: VQA v2.0 from its official files, and what every such data set becomes.

https://visualqa.org/download.html. The official validation set serves as test split, as the test set's answers are
not public; the validation split is taken from the training images, with all their questions.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mergenet.config import DataConfig
from mergenet.data.image_text.image_text import (
    ImageTexts,
    coco_image,
    content_hash,
    image_texts,
    share_of_images,
    unused_files,
)
from mergenet.data.image_text.vqa_answers import NUM_HUMANS, normalise, soft_scores
from mergenet.data.images.pictures import read_images
from mergenet.data.json_fields import field, folder_with, read_json, text_field
from mergenet.data.listing import LeftOut
from mergenet.data.splits import hold_out_groups
from mergenet.data.text.tokens import tokenizer_for, vocabulary_size
from mergenet.errors import DataError

MIN_COUNT, MAX_ANSWERS = 9, 3129  # the usual choice for VQA v2.0: answers given to at least 9 training questions
FOLDERS = ("train2014", "val2014")
QUESTIONS, ANNOTATIONS = "v2_OpenEnded_mscoco_{}_questions.json", "v2_mscoco_{}_annotations.json"
FILL = (
    "mkdir -p ROOT && cd ROOT && for f in Questions_Train Questions_Val Annotations_Train Annotations_Val; do "
    "curl -fLO https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa/v2_${f}_mscoco.zip && unzip v2_${f}_mscoco.zip; done; "
    "for f in train2014 val2014; do curl -fLO http://images.cocodataset.org/zips/$f.zip && unzip -q $f.zip; done"
)


@dataclass(frozen=True)
class Record:
    question: str
    image: Path
    answer: str  # the most common one
    humans: tuple[str, ...]  # all answers, NUM_HUMANS of them


@dataclass(frozen=True)
class Questions:
    """N questions. K answers at most have a score; all other answers score 0."""

    texts: ImageTexts
    answers: Tensor  # int64 (N, K): numbers of answers; 0 where there are fewer
    scores: Tensor  # float32 (N, K): soft accuracy of each, 0 to 1; 0 where there are fewer
    question_only: Tensor  # float32 (N,): score of the answer that the question alone suggests, see `best_guesses`

    def targets(self, index: Tensor, num_answers: int) -> Tensor:
        """float32 (N, num_answers): the score of every answer to the questions `index`."""
        return torch.zeros(len(index), num_answers).scatter_add_(1, self.answers[index], self.scores[index])


@dataclass(frozen=True)
class VqaData:
    train: Questions
    val: Questions
    test: Questions
    answers: tuple[str, ...]
    vocab_size: int
    tokenizer: str  # tokenizer.json
    content_hash: str  # sha256, hex, of all splits
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)  # what was not read -> how many


def load_vqa2(config: DataConfig) -> VqaData:
    """Raises ConfigError without data.root, DataError for files that are missing or malformed."""
    names = [name.format(folder) for folder in FOLDERS for name in (QUESTIONS, ANNOTATIONS)]
    root = folder_with(config, [*names, *FOLDERS], FILL)
    train, test = (read_vqa2(root, folder) for folder in FOLDERS)
    data = vqa_data(train, test, config, MIN_COUNT)
    used = {record.image for record in (*train, *test)}
    unused = unused_files([root / folder for folder in FOLDERS], used)
    return dataclasses.replace(data, left_out=unused | dict(data.left_out))


def vqa_data(train: Sequence[Record], test: Sequence[Record], config: DataConfig, min_count: int) -> VqaData:
    """Validation (`val_fraction` of the training images) split off, then `train_fraction` of the images left kept.

    Answers are those of the training split before `train_fraction`: they are part of the task. Words, and what a
    question alone suggests, come from the training questions that are kept.
    min_count: training questions that an answer must be the most common one of, after normalisation.
    Raises DataError for fewer than two training images, no frequent answer, unreadable images.
    """
    numbers = _numbered(record.image for record in train)
    if len(numbers) < 2:
        raise DataError(f"{train[0].image} must not be the only training image: one more is needed for validation")
    image = torch.tensor([numbers[record.image] for record in train])
    val, rest = hold_out_groups(image, config.val_fraction, config.split_seed)
    answers = frequent_answers([train[i].answer for i in rest.tolist()], min_count)
    if not answers:
        raise DataError(
            f"{train[0].image.parent}: {min_count} questions must share an answer, none of {len(rest)} does"
        )
    kept = rest[share_of_images(image[rest], config.train_fraction, config.split_seed)]
    splits = [[train[i] for i in index.tolist()] for index in (kept, val)] + [list(test)]
    number = {normalise(answer): n for n, answer in enumerate(answers)}
    scores = [[_scores(record, number) for record in split] for split in splits]
    guesses = best_guesses(splits[0], scores[0])
    tokenizer = tokenizer_for(config, [record.question for record in splits[0]])
    parts, left_out = [], LeftOut()
    for split, known in zip(splits, scores, strict=True):
        names = _numbered(record.image for record in split)
        pixels = read_images(list(names), config.image_size, left_out)
        place = torch.tensor([names[record.image] for record in split])
        texts = image_texts(pixels, place, [record.question for record in split], tokenizer, config.max_length)
        parts.append(_questions(texts, known, [guesses.get(record.question, guesses[""]) for record in split]))
    digest = content_hash([tensor for part in parts for tensor in _tensors(part)], answers)
    learned, held_out, tested = parts
    size = vocabulary_size(tokenizer)
    return VqaData(learned, held_out, tested, answers, size, tokenizer.to_str(), digest, dict(left_out))


def frequent_answers(answers: Iterable[str], min_count: int) -> tuple[str, ...]:
    """Normalised answers that come at least `min_count` times, at most MAX_ANSWERS; by frequency, then alphabet.

    An answer of which nothing is left, such as "a", is none: no human's would be equal to it.
    """
    counts = Counter(map(normalise, answers))
    frequent = sorted((a for a, n in counts.items() if a and n >= min_count), key=lambda a: (-counts[a], a))
    return tuple(frequent[:MAX_ANSWERS])


def best_guesses(records: Sequence[Record], scores: Sequence[dict[int, float]]) -> dict[str, int]:
    """Question -> number of the answer that scores most over all `records` with that very text.

    "" -> the same over all records, for questions that are not among them. Ties go to the more frequent answer.
    scores: of each record, by number of the answer.
    """
    sums: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for record, known in zip(records, scores, strict=True):
        for answer, score in known.items():
            sums[record.question][answer] += score
            sums[""][answer] += score
    return {"": 0} | {text: max(of, key=lambda n: (of[n], -n)) for text, of in sums.items()}


def read_vqa2(root: Path, folder: str) -> list[Record]:
    """The questions of train2014 or val2014, in the file's order. Raises DataError naming file and record."""
    asked = root / QUESTIONS.format(folder)
    answered = root / ANNOTATIONS.format(folder)
    annotations: dict[int, tuple[str, tuple[str, ...]]] = {}
    for n, entry in enumerate(field(read_json(answered), "annotations", list, str(answered))):
        where = f"{answered}: annotations[{n}]"
        name = field(entry, "question_id", int, where)
        if name in annotations:
            raise DataError(f"{where}.question_id must be unique, got {name} again")
        annotations[name] = (text_field(entry, "multiple_choice_answer", where), _humans(entry, where))
    records = []
    for n, entry in enumerate(field(read_json(asked), "questions", list, str(asked))):
        where = f"{asked}: questions[{n}]"
        name, image = field(entry, "question_id", int, where), field(entry, "image_id", int, where)
        if name not in annotations:
            raise DataError(f"{where}.question_id must have an annotation of its own in {answered.name}, got {name}")
        if image < 0:
            raise DataError(f"{where}.image_id must not be negative, got {image}")
        question = text_field(entry, "question", where)
        records.append(Record(question, coco_image(root, folder, image), *annotations.pop(name)))
    if annotations or not records:
        raise DataError(
            f"{asked} must hold the questions of {answered.name}, at least one, got {len(records)} and lacks "
            f"{len(annotations)}"
        )
    return records


def _humans(entry: object, where: str) -> tuple[str, ...]:
    answers = field(entry, "answers", list, where)
    if len(answers) != NUM_HUMANS:
        raise DataError(f"{where}.answers must be of {NUM_HUMANS} humans, got {len(answers)}")
    # what a human typed may be blank; that is an answer too
    return tuple(text_field(a, "answer", f"{where}.answers[{n}]", blank=True) for n, a in enumerate(answers))


def _scores(record: Record, number: dict[str, int]) -> dict[int, float]:
    """Number of an answer -> score, of the known answers that score."""
    return {number[a]: score for a, score in soft_scores(record.humans).items() if a in number}


def _questions(texts: ImageTexts, scores: Sequence[dict[int, float]], guesses: Sequence[int]) -> Questions:
    answers = torch.zeros(len(scores), NUM_HUMANS, dtype=torch.int64)
    values = torch.zeros(len(scores), NUM_HUMANS)
    for row, known in enumerate(scores):
        answers[row, : len(known)] = torch.tensor(list(known))
        values[row, : len(known)] = torch.tensor(list(known.values()))
    floor = [known.get(guess, 0.0) for known, guess in zip(scores, guesses, strict=True)]
    return Questions(texts, answers, values, torch.tensor(floor))


def _tensors(questions: Questions) -> tuple[Tensor, ...]:
    texts = questions.texts
    return (texts.images, texts.image, texts.tokens, texts.mask, questions.answers, questions.scores)


def _numbered(paths: Iterable[Path]) -> dict[Path, int]:
    """Each path once, in order, and its place."""
    return {path: n for n, path in enumerate(dict.fromkeys(paths))}
