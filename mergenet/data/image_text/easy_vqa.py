"""easy-VQA: generated questions about 5,000 images of one coloured shape each, from `pip install easy-vqa`.

V. Zhou, https://github.com/vzhou842/easy-VQA, MIT licence. 38,575 questions about 4,000 training images, 9,673 about
1,000 test images, 64 x 64; 13 answers, one a question, no human gave them. Two thirds of the questions can be
answered without looking: see `question_only` among the metrics.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mergenet.config import DataConfig
from mergenet.data.image_text.vqa import Record, VqaData, vqa_data
from mergenet.data.image_text.vqa_answers import NUM_HUMANS
from mergenet.errors import DataError, needs_package

Questions = tuple[Sequence[str], Sequence[str], Sequence[int]]  # texts, answers, numbers of images


def load_easy_vqa(config: DataConfig) -> VqaData:
    """The package's test split is the test split; validation and `train_fraction` go by training image."""
    with needs_package("easy_vqa", "text"):
        import easy_vqa
    package: Any = easy_vqa
    train = records(package.get_train_questions(), package.get_train_image_paths(), "training")
    test = records(package.get_test_questions(), package.get_test_image_paths(), "test")
    return vqa_data(train, test, config, min_count=1)


def records(questions: Questions, paths: Mapping[int, str], split: str) -> list[Record]:
    """Raises DataError if a question is about an image that is not there."""
    made = []
    for n, (text, answer, image) in enumerate(zip(*questions, strict=True)):
        if image not in paths:
            raise DataError(f"easy_vqa: question {n} of the {split} split is about image {image}, which is not there")
        made.append(Record(text, Path(paths[image]), answer, (answer,) * NUM_HUMANS))
    return made
