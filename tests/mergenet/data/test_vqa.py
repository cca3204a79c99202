"""Visual question answering: the official rules, easy-VQA, files of VQA v2.0, the task."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mergenet.config import Config, DataConfig, NetworkConfig
from mergenet.data.image_text.easy_vqa import records
from mergenet.data.image_text.vqa import Record, VqaData, best_guesses, frequent_answers, load_vqa2, read_vqa2, vqa_data
from mergenet.data.image_text.vqa_answers import CONTRACTIONS, normalise, soft_scores, without_punctuation
from mergenet.errors import ConfigError, DataError
from mergenet.tasks import Task, build_task
from mergenet.tasks.visual_question_answering import load_questions
from mergenet.training.trainer import Trainer
from tests.samples import ANNOTATIONS, QUESTIONS, spoil, write_vqa2

CPU = torch.device("cpu")
EASY = DataConfig(name="easy_vqa", image_size=16, max_length=12, train_fraction=0.02, val_fraction=0.02)


@pytest.mark.parametrize(
    ("answer", "compared"),
    [
        ("Yes", "yes"),
        ("  the\tRed\nbus ", "red bus"),
        ("two", "2"),
        ("none", "0"),
        ("An apple a day", "apple day"),
        ("dont know", "don't know"),
        ("couldnt've", "couldn't've"),
        ("hadntve", "hadntve"),  # not in the official list
        ("somebody'd", "somebodyd"),  # the official list's slip
        ("lets", "lets"),
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("1,000", "1000"),
        ("red,blue", "red blue"),
        ("red, blue", "red blue"),
        ("t-shirt", "t shirt"),
        ("3.5", "3.5"),
        ("no.", "no"),
        ("5.", "5"),
        ("it's 10:30", "it's 10:30"),  # apostrophes and colons stay
        ("", ""),
    ],
)
def test_official_normalisation(answer: str, compared: str) -> None:
    assert normalise(answer) == compared


def test_contractions() -> None:
    assert len(CONTRACTIONS) == 114
    assert (CONTRACTIONS["'ow'sat"], CONTRACTIONS["yall'd've"], CONTRACTIONS["twas"]) == (
        "'ow's'at",
        "y'all'd've",
        "'twas",
    )


@pytest.mark.parametrize(("matches", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_soft_accuracy(matches: int, score: float) -> None:
    """The average over the ten subsets of nine: with 3 matches it is 0.9, and not the 1 of min(matches / 3, 1)."""
    humans = ["cat"] * matches + ["dog"] * (10 - matches)
    assert soft_scores(humans).get("cat", 0) == pytest.approx(score)


@given(st.lists(st.sampled_from(["a", "b", "c", "d."]), min_size=10, max_size=10))
def test_soft_accuracy_by_its_definition(humans: list[str]) -> None:
    forms = [without_punctuation(h) for h in humans] if len(set(humans)) > 1 else humans
    for answer, score in soft_scores(humans).items():
        subsets = [forms[:left_out] + forms[left_out + 1 :] for left_out in range(10)]
        expected = sum(min(subset.count(answer) / 3, 1) for subset in subsets) / 10
        assert score == pytest.approx(expected)


def test_humans_are_freed_of_punctuation_only_if_they_differ() -> None:
    assert soft_scores(["no."] * 10) == {"no.": 1}
    assert soft_scores(["no."] * 9 + ["No"]).keys() == {"no", "No"}


def test_frequent_answers() -> None:
    given_answers = ["Yes", "yes.", "the yes", "2", "two", "no", "no", "rare"]
    assert frequent_answers(given_answers, 2) == ("yes", "2", "no")
    assert frequent_answers(given_answers, 3) == ("yes",)


def test_best_guesses() -> None:
    def asked(question: str) -> Record:
        return Record(question, Path("x"), "", ())

    asked_scores = [("a?", {0: 0.3, 1: 1.0}), ("a?", {0: 0.6}), ("b?", {2: 1.0}), ("b?", {0: 1.0}), ("c?", {})]
    guesses = best_guesses([asked(q) for q, _ in asked_scores], [s for _, s in asked_scores])
    assert guesses == {"a?": 1, "b?": 0, "": 0}  # 1.0 > 0.9; a tie goes to the smaller number


# ---- easy-VQA


def easy(**options: Any) -> VqaData:
    return load_questions(EASY.model_copy(update=options))


def test_easy_vqa_sizes() -> None:
    data = easy()
    assert len(data.answers) == 13 and set(data.answers) >= {"yes", "no", "teal", "triangle"}
    assert len(data.test.texts.image) == 9673 and len(data.test.texts.images) == 1000
    assert (len(data.train.texts.images), len(data.val.texts.images)) == (78, 80)  # 2 % of 4,000, 2 % of the rest
    assert data.test.texts.images.shape == (1000, 3, 16, 16)


def test_easy_vqa_floor_is_the_documented_one() -> None:
    """66.9 %, of the answer that the same question has most often over all training questions."""
    import easy_vqa

    texts, answers, _ = easy_vqa.get_train_questions()
    by_text: dict[str, Counter[str]] = {}
    for text, answer in zip(texts, answers, strict=True):
        by_text.setdefault(text, Counter())[answer] += 1
    texts, answers, _ = easy_vqa.get_test_questions()
    hits = [by_text[text].most_common(1)[0][0] == answer for text, answer in zip(texts, answers, strict=True)]
    data = easy(train_fraction=1.0, val_fraction=0.001)
    assert data.test.question_only.mean().item() == pytest.approx(sum(hits) / len(hits), abs=0.004)
    assert data.test.question_only.mean().item() == pytest.approx(0.669, abs=0.003)


def test_floor_is_learned_from_the_kept_questions_only() -> None:
    task = build_task(NetworkConfig(task="visual_question_answering", data=EASY))
    data = easy()
    known: dict[tuple[int, ...], list[int]] = {}
    for tokens, targets in zip(data.train.texts.tokens, data.train.answers[:, 0], strict=True):
        known.setdefault(tuple(tokens.tolist()), []).append(int(targets))
    hits = 0
    for tokens, answer in zip(data.val.texts.tokens, data.val.answers[:, 0], strict=True):
        counts = Counter(known.get(tuple(tokens.tolist()), data.train.answers[:, 0].tolist()))
        best = max(counts, key=lambda n: (counts[n], -n))
        hits += best == answer
    floor = task.metrics("val", whole_score(task, Constant(13), "val"))["question_only"]
    assert floor == pytest.approx(hits / len(data.val.texts.image))


def test_images_do_not_cross_splits() -> None:
    data = easy(image_size=32, train_fraction=1.0, val_fraction=0.5)
    assert len(data.train.texts.images) == len(data.val.texts.images) == 2000
    assert len(data.train.texts.image) + len(data.val.texts.image) == 38575


def test_smaller_fractions_are_nested_and_keep_the_other_splits() -> None:
    small, large = easy(), easy(train_fraction=0.04)
    assert len(large.train.texts.images) == 157
    pixels = {image.numpy().tobytes() for image in large.train.texts.images}
    assert all(image.numpy().tobytes() in pixels for image in small.train.texts.images)
    assert small.val.texts.images.equal(large.val.texts.images) and small.answers == large.answers
    assert small.content_hash != large.content_hash
    assert easy(split_seed=1).content_hash != small.content_hash


def test_question_image_and_answer_belong_together() -> None:
    """Where the answer is teal, much of the image is: green and blue, without red."""
    data = easy(image_size=64, max_length=16)
    texts, teal = data.train.texts, data.answers.index("teal")
    rows = (data.train.answers[:, 0] == teal).nonzero().flatten()
    assert len(rows) > 2
    for row in rows:
        red, green, blue = texts.images[texts.image[row]].int()
        assert ((green > red + 60) & (blue > red + 60)).sum() > 20, row


def test_question_about_an_image_that_is_not_there() -> None:
    with pytest.raises(DataError, match=r"easy_vqa: question 1 of the test split is about image 7, which is not there"):
        records((["a?", "b?"], ["yes", "no"], [3, 7]), {3: "3.png"}, "test")


# ---- VQA v2.0


def config_of(root: Path, **options: Any) -> DataConfig:
    return DataConfig(name="vqa2", root=str(root), image_size=8, max_length=8, **options)


def edit(path: Path, change: Any) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_vqa2(tmp_path: Path) -> None:
    write_vqa2(tmp_path, num_images=24)
    data = load_vqa2(config_of(tmp_path, val_fraction=0.25))
    assert data.answers == ("yes", "0", "1") or data.answers == ("yes", "1", "0")
    assert [len(s.texts.image) for s in (data.train, data.val, data.test)] == [36, 12, 48]
    test = data.test
    yes = test.targets(torch.tensor([1, 3]), 3)
    assert yes.tolist() == [[1, 0, 0], [1, 0, 0]]
    blue_and_red = test.texts.images[test.texts.image[torch.tensor([0, 8])], :, 4, 4].long()
    assert (blue_and_red - torch.tensor([[0, 0, 255], [160, 0, 255]])).abs().max() < 12  # JPEG
    few = load_vqa2(config_of(tmp_path, val_fraction=0.25, train_fraction=0.1))
    assert len(few.train.texts.images) == 2 and few.answers == data.answers


def test_rare_answers_are_left_out(tmp_path: Path) -> None:
    """12 training images give yes to 12 questions, 0 and 1 to 6 each: fewer than 9."""
    write_vqa2(tmp_path, num_images=12)
    data = load_vqa2(config_of(tmp_path, val_fraction=0.1))
    assert data.answers == ("yes",)
    assert data.test.targets(torch.arange(4), 1).tolist() == [[0], [1], [0], [1]]


def test_images_that_no_question_is_about_are_counted(tmp_path: Path) -> None:
    write_vqa2(tmp_path, num_images=24)
    assert load_vqa2(config_of(tmp_path)).left_out == {}
    for name in ("train2014/more.jpg", "val2014/notes.txt", "val2014/.DS_Store"):
        (tmp_path / name).write_text("x")
    assert load_vqa2(config_of(tmp_path)).left_out == {"files that no text is about": 2}


def test_an_answer_of_which_nothing_is_left_is_none() -> None:
    assert frequent_answers(["a", "The", "an a", "yes"] * 9, 9) == ("yes",)


def test_no_frequent_answer(tmp_path: Path) -> None:
    write_vqa2(tmp_path, num_images=4)
    with pytest.raises(DataError, match=r"train2014: 9 questions must share an answer, none of 6 does"):
        load_vqa2(config_of(tmp_path, val_fraction=0.25))


TRAIN_Q, TRAIN_A = QUESTIONS.format("train2014"), ANNOTATIONS.format("train2014")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (TRAIN_Q, lambda v: v.pop("questions"), r"questions.json must have the key 'questions'"),
        (TRAIN_Q, lambda v: v["questions"][2].pop("image_id"), r"questions\[2\] must have the key 'image_id'"),
        (TRAIN_Q, lambda v: v["questions"][2].update(image_id=-1), r"questions\[2\].image_id must not be negative"),
        (TRAIN_Q, lambda v: v["questions"][2].update(image_id=99), r"COCO_train2014_000000000099.jpg cannot be read"),
        (TRAIN_Q, lambda v: v["questions"][2].update(image_id=10**300), r"COCO_train2014_1000+.jpg cannot be read"),
        (TRAIN_Q, lambda v: v["questions"][2].update(question=" "), r"questions\[2\].question must not be blank"),
        (TRAIN_Q, lambda v: v["questions"][2].update(question="\ud800"), r"questions\[2\].question must be valid Uni"),
        (TRAIN_Q, lambda v: v["questions"][2].update(question_id=0), r"questions\[2\].question_id must have an annot"),
        (TRAIN_Q, lambda v: v["questions"].pop(2), r"must hold the questions of .*annotations.json.* lacks 1"),
        (TRAIN_A, lambda v: v["annotations"][1].update(question_id=0), r"annotations\[1\].question_id must be unique"),
        (
            TRAIN_A,
            lambda v: v["annotations"][1]["answers"].pop(),
            r"annotations\[1\].answers must be of 10 humans, got 9",
        ),
        (
            TRAIN_A,
            lambda v: v["annotations"][1]["answers"][3].clear(),
            r"annotations\[1\].answers\[3\] must have the key",
        ),
    ],
)
def test_malformed_vqa2(tmp_path: Path, file: str, change: Any, message: str) -> None:
    write_vqa2(tmp_path, num_images=24)
    edit(tmp_path / file, change)
    with pytest.raises(DataError, match=message) as caught:
        load_vqa2(config_of(tmp_path))
    assert "\n" not in str(caught.value)


def test_missing_and_torn_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"name the folder of vqa2, got None; fill it with: mkdir -p FOLDER"):
        load_vqa2(DataConfig(name="vqa2"))
    with pytest.raises(DataError, match=r"lacks v2_OpenEnded_mscoco_train2014_questions.json, .*; fill it with"):
        load_vqa2(config_of(tmp_path))
    write_vqa2(tmp_path, num_images=24)
    image = tmp_path / "val2014" / "COCO_val2014_000000001003.jpg"
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(DataError, match=r"COCO_val2014_000000001003.jpg cannot be read as an image"):
        load_vqa2(config_of(tmp_path))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_is_an_error_or_fine(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("vqa")
    write_vqa2(root, num_images=2)
    file = root / data.draw(st.sampled_from([TRAIN_Q, TRAIN_A, QUESTIONS.format("val2014")]))
    spoil(file, data)
    message = refusal(root)
    assert message is None or (str(root) in message and "\n" not in message)


def refusal(root: Path) -> str | None:
    try:
        for folder in ("train2014", "val2014"):
            assert read_vqa2(root, folder)
    except DataError as error:
        return str(error)
    return None


def test_one_training_image_is_not_enough(tmp_path: Path) -> None:
    one = [Record("a?", tmp_path / "a.png", "yes", ("yes",) * 10)] * 4
    with pytest.raises(DataError, match=r"a.png must not be the only training image"):
        vqa_data(one, one, EASY, 1)


# ---- the task


class Constant(nn.Module):
    def __init__(self, num_answers: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.arange(num_answers).float())

    def forward(self, images: Tensor, _tokens: Tensor, _mask: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)


def whole_score(task: Task, model: nn.Module, split: str) -> dict[str, Tensor]:
    batch = task.batch(split, torch.arange(task.size(split)), CPU)
    return task.score(task.forward(model, batch), batch)


def test_batch(tmp_path: Path) -> None:
    write_vqa2(tmp_path, num_images=24)
    task = build_task(NetworkConfig(task="visual_question_answering", data=config_of(tmp_path)))
    batch = task.batch("train", torch.tensor([3, 0, 3]), CPU)
    assert {name: (tuple(v.shape), v.dtype) for name, v in batch.items()} == {
        "images": ((3, 3, 8, 8), torch.float32),
        "tokens": ((3, 8), torch.int64),
        "mask": ((3, 8), torch.int64),
        "targets": ((3, 3), torch.float32),
        "question_only": ((3,), torch.float32),
    }
    assert batch["images"][0].equal(batch["images"][2])
    assert json.loads(task.metadata["answers"])[0] == "yes"
    assert {"mean", "std", "tokenizer"} < task.metadata.keys()


def test_loss_and_accuracy_of_a_case_computed_by_hand() -> None:
    task = build_task(NetworkConfig(task="visual_question_answering", data=EASY))
    logits = torch.tensor([[2.0, -1.0, 0.0], [0.0, 1.0, 3.0]], requires_grad=True)
    batch = {"targets": torch.tensor([[0.9, 0.3, 0.0], [0.0, 1.0, 0.6]]), "question_only": torch.tensor([0.3, 1.0])}

    def term(x: float, t: float) -> float:
        p = 1 / (1 + math.exp(-x))
        return -t * math.log(p) - (1 - t) * math.log(1 - p)

    pairs = zip(logits.detach().flatten().tolist(), batch["targets"].flatten().tolist(), strict=True)
    expected = sum(term(x, t) for x, t in pairs) / 2
    loss = task.loss({"logits": logits}, batch)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    metrics = task.metrics("val", task.score({"logits": logits}, batch))
    assert metrics == pytest.approx({"loss": expected, "accuracy": 0.75, "question_only": 0.65}, rel=1e-5)


def test_scores_of_batches_are_those_of_the_whole() -> None:
    task, model = build_task(NetworkConfig(task="visual_question_answering", data=EASY)), Constant(13)
    whole = whole_score(task, model, "val")
    batches = [task.batch("val", index, CPU) for index in torch.arange(task.size("val")).split(100)]
    parts = [task.score(task.forward(model, batch), batch) for batch in batches]
    for name, value in whole.items():
        assert not value.requires_grad
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), value)


def test_augmentation_shifts_and_never_mirrors() -> None:
    """Each image, cut at its border, is found again in the plain one; draws come from the global generator."""
    task, index = build_task(NetworkConfig(task="visual_question_answering", data=EASY)), torch.arange(40)
    plain = task.batch("train", index, CPU)["images"]
    torch.manual_seed(0)
    shifted = task.batch("train", index, CPU, augment=True)["images"]
    torch.manual_seed(0)
    assert task.batch("train", index, CPU, augment=True)["images"].equal(shifted)
    assert not shifted.equal(plain)
    windows = [plain[:, :, y : y + 12, x : x + 12] for y in range(5) for x in range(5)]
    found = torch.stack([(window == shifted[:, :, 2:14, 2:14]).flatten(1).all(dim=1) for window in windows])
    assert found.any(dim=0).all()


def test_knowledge_moves_between_vision_and_text_of_one_network() -> None:
    """The paper's cross-modal setting: both directions, in a network that learns to answer questions."""
    data = EASY.model_dump()
    pairs = [
        {"source": "vision.encoder.layers.1.mlp.fc1", "target": "text.encoder.layer.1.intermediate.dense"},
        {"source": "text.encoder.layer.0.output.dense", "target": "vision.encoder.layers.0.mlp.fc2"},
    ]
    config = Config.model_validate(
        {
            "epochs": 1,
            "threads": 1,
            "device": "cpu",
            "source": {"kind": "self"},
            "target": {
                "task": "visual_question_answering",
                "model": {"name": "blip_small"},
                "data": data,
                "batch_size": 64,
                "optimizer": {"name": "adamw", "lr": 0.001},
            },
            "transfer": {"t_cycle": 2, "pairs": pairs, "adapter": {"rank": 4, "depth": 1}},
        }
    )
    trained = {}
    for method in ("mergenet", "none"):
        trainer = Trainer(config.model_copy(update={"method": method}))
        (epoch,) = trainer.epochs()
        assert math.isfinite(epoch.metrics["target_val_loss"])
        assert {"target_val_accuracy", "target_val_question_only"} < epoch.metrics.keys()
        trained[method] = trainer.target.network.state_dict()
    for pair in pairs:
        name = f"{pair['target']}.weight"
        assert not trained["mergenet"][name].equal(trained["none"][name]), name


def test_wrong_settings() -> None:
    with pytest.raises(ConfigError, match=r"data.name must be one of easy_vqa, vqa2, got 'openmoji'"):
        build_task(NetworkConfig(task="visual_question_answering"))
    with pytest.raises(ConfigError, match=r"task visual_question_answering .* label_smoothing must be 0, got 0.1"):
        build_task(NetworkConfig(task="visual_question_answering", data=EASY, label_smoothing=0.1))
