"""What every task says of its data, and the line that it becomes."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mergenet.config import NetworkConfig
from mergenet.tasks import MEMBERS, Task, build_task, contents
from mergenet.tasks.contents import in_a_line
from tests.samples import squad, write_coco, write_squad, write_vqa2


def line(**network: Any) -> str:
    config = NetworkConfig.model_validate(network)
    counted = contents(build_task(config), config)
    assert json.loads(json.dumps(counted)) == counted  # it goes into a record
    return in_a_line(counted)


def test_images() -> None:
    data = {"name": "digits", "image_size": 8, "train_fraction": 0.1}
    assert line(data=data) == "digits, 10 classes: train 130 images, val 229, test 270"


def test_a_split_that_lacks_a_class_and_files_that_are_left_out(tmp_path: Path) -> None:
    for name, count in (("ant", 30), ("bee", 30), ("owl", 1)):  # the only owl stays in train
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / "train" / name / f"{i}.png")
    (tmp_path / "train" / "owl" / "more.heic2").write_text("x")
    assert line(data={"name": "folder", "root": str(tmp_path), "image_size": 4}) == (
        "folder, 3 classes: train 44 images, val 8 (2 of the classes), test 9 (2 of the classes); left out: 1 .heic2"
    )


def test_texts(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    lines = "".join(json.dumps({"text": f"a {i}", "label": i % 2}) + "\n" for i in range(40))
    (tmp_path / "train.jsonl").write_text(lines)
    (tmp_path / "notes.txt").write_text("x")
    data = {"name": "text_folder", "root": str(tmp_path), "max_length": 8}
    assert line(task="text_classification", data=data) == (
        "text_folder, 2 classes: train 29 texts, val 5, test 6; left out: 1 beside the splits (notes.txt)"
    )


def test_questions_about_texts(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    test = squad(1, "dev")
    test["data"][0]["paragraphs"].append({"context": "Nobody asks.", "qas": []})
    long = "Oslo " * 30
    answers = [{"text": long, "answer_start": 0}]
    asked = {"id": "long", "question": "Where?", "answers": answers, "is_impossible": False}
    test["data"][0]["paragraphs"].append({"context": f"{long} it is.", "qas": [asked]})
    write_squad(tmp_path, squad(4), test)
    data = {"name": "squad2", "root": str(tmp_path), "max_length": 24, "val_fraction": 0.25}
    found = line(task="question_answering", data=data)
    start = "squad2: train 6 questions (6 windows), val 2 (2 windows), test 3 ("
    assert found.startswith(start) and found.endswith(
        " windows, 1 with an answer that no window holds); left out: 1 contexts without a question"
    )


def test_questions_about_images(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    write_vqa2(tmp_path, num_images=12)
    data = {"name": "vqa2", "root": str(tmp_path), "image_size": 4, "val_fraction": 0.25, "max_length": 8}
    assert line(task="visual_question_answering", data=data) == (  # the images' numbers are answers too rare
        "vqa2: train 18 questions (9 images, 9 without a frequent answer), "
        "val 6 (3 images, 3 without a frequent answer), test 24 (12 images, 12 without a frequent answer)"
    )


def test_captions(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    write_coco(tmp_path)
    data = {"name": "coco", "root": str(tmp_path), "image_size": 4, "max_length": 8}
    assert line(task="image_text_retrieval", data=data) == (
        "coco: train 9 captions (4 images), val 4 (2 images), test 4 (2 images)"
    )


def test_a_task_of_the_users_own_need_not_count() -> None:
    config = NetworkConfig.model_validate({"data": {"name": "digits", "image_size": 8}})
    whole = build_task(config)

    class Own:
        pass

    own: Any = Own()
    for name in MEMBERS:
        setattr(own, name, getattr(whole, name))
    task: Task = own
    assert in_a_line(contents(task, config)) == "digits: train 1,298 examples, val 229, test 270"
