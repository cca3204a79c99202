"""Text classification: data sets in their real formats, batches, loss, metrics, and that it learns."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import Int64
from torch import Tensor, nn

pytest.importorskip("tokenizers")

from mergenet.config import Config, DataConfig, NetworkConfig
from mergenet.data.text.labelled import emoji_names, load_emoji_names
from mergenet.data.text.text import load_text
from mergenet.errors import ConfigError, DataError
from mergenet.learner.learner import Learner
from mergenet.tasks import Task, build_task
from tests.samples import write_imdb

CPU = torch.device("cpu")
EMOJI = DataConfig(name="emoji_names", max_length=16)


def emoji_task(**options: Any) -> Task:
    return build_task(NetworkConfig(task="text_classification", data=EMOJI, **options))


def test_emoji_names_do_not_name_their_group() -> None:
    texts, labels, names = emoji_names()
    assert (len(texts), len(names)) == (1748, 9)
    assert labels.bincount().min() == 72
    assert all(texts)
    words = {word for text in texts for word in text.split()}
    assert {"grinning", "norway", "zebra"} < words
    assert not words & {"flag", "flags", "symbol", "symbols", "food", "drink", "people", "smiley", "activity", "object"}
    assert "grinning" in texts[0] and names[labels[0]] == "Smileys & Emotion"


def test_emoji_splits_share_no_text() -> None:
    train, val, test, _ = load_emoji_names(EMOJI)
    parts = [set(part.texts) for part in (train, val, test)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert sum(len(part.labels) for part in (train, val, test)) == 1748
    shares = [part.labels.bincount(minlength=9) / len(part.labels) for part in (train, val, test)]
    assert all((share - shares[0]).abs().max() < 0.03 for share in shares)


def test_vocabulary_is_of_the_training_texts_in_use() -> None:
    data = load_text(EMOJI)
    vocabulary = set(json.loads(data.tokenizer)["model"]["vocab"])
    train, _, _, _ = load_emoji_names(EMOJI)
    assert vocabulary - {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} <= {word for text in train.texts for word in text.split()}
    assert data.vocab_size == len(vocabulary)
    assert data.train.tokens.max() == data.vocab_size - 1
    unknown = (data.train.tokens == 1).sum() / data.train.mask.sum()
    assert 0.05 < unknown < 0.5, "words that occur once are unknown, so that the unknown word is learnt"
    tenth = load_text(EMOJI.model_copy(update={"train_fraction": 0.1}))
    assert len(tenth.train.labels) == 127
    assert tenth.vocab_size < data.vocab_size / 2
    assert len(tenth.test.labels) == len(data.test.labels)
    assert tenth.test.labels.equal(data.test.labels)


def test_hash_is_of_the_data() -> None:
    first, again = load_text(EMOJI), load_text.__wrapped__(EMOJI)
    assert first.content_hash == again.content_hash
    for change in ({"split_seed": 1}, {"max_length": 15}, {"train_fraction": 0.5}):
        assert load_text(EMOJI.model_copy(update=change)).content_hash != first.content_hash


def test_describes_its_data() -> None:
    task, data = emoji_task(), load_text(EMOJI)
    assert (task.spec.inputs, task.spec.outputs, task.spec.num_outputs) == ("text", "classes", 9)
    assert (task.spec.vocab_size, task.spec.max_length) == (data.vocab_size, 16)
    assert (task.metric, task.data_hash) == ("accuracy", data.content_hash)
    assert [task.size(split) for split in ("train", "val", "test")] == [1267, 221, 260]
    assert json.loads(task.metadata["class_names"])[2] == "Flags"


def test_tokenizer_in_the_metadata_makes_the_networks_input() -> None:
    from tokenizers import Tokenizer

    task, (train, _, _, _) = emoji_task(), load_emoji_names(EMOJI)
    tokenizer = Tokenizer.from_str(task.metadata["tokenizer"])
    batch = task.batch("train", torch.tensor([3]), CPU)
    encoding = tokenizer.encode(train.texts[3])
    assert encoding.ids == batch["tokens"][0].tolist()
    assert encoding.attention_mask == batch["mask"][0].tolist()


def test_batch() -> None:
    task, index = emoji_task(), torch.tensor([5, 0, 5])
    state = torch.get_rng_state()
    batch, augmented = task.batch("val", index, CPU), task.batch("val", index, CPU, augment=True)
    assert torch.get_rng_state().equal(state)
    assert isinstance(batch["tokens"], Int64[Tensor, "3 16"])
    assert isinstance(batch["mask"], Int64[Tensor, "3 16"])
    assert isinstance(batch["labels"], Int64[Tensor, " 3"])
    data = load_text(EMOJI)
    assert batch["tokens"].equal(data.val.tokens[index].long())
    assert batch["labels"].equal(data.val.labels[index])
    assert all(batch[key].equal(augmented[key]) for key in batch)
    assert batch["tokens"][batch["mask"] == 0].eq(0).all()


class Fixed(nn.Module):
    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        assert tokens.shape == mask.shape
        return self.logits[: len(tokens)]


def test_loss_and_metrics_of_a_case_computed_by_hand() -> None:
    task = emoji_task(label_smoothing=0.1)
    batch = {key: value for key, value in task.batch("val", torch.arange(2), CPU).items() if key != "labels"}
    batch["labels"] = torch.tensor([0, 1])
    logits = torch.zeros(2, 9)  # as many classes as the task has
    logits[:, 0] = 2
    outputs = task.forward(Fixed(logits), batch)
    log_sum = math.log(math.exp(2) + 8)
    plain = [log_sum - 2, log_sum]
    smooth = sum(0.9 * value + 0.1 * (log_sum - 2 / 9) for value in plain) / 2
    assert task.loss(outputs, batch).item() == pytest.approx(smooth, rel=1e-6)
    scores = task.score(outputs, batch)
    assert not scores["loss"].requires_grad
    assert task.metrics("val", scores) == pytest.approx({"loss": sum(plain) / 2, "accuracy": 0.5})


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def accuracy_of(name: str, epochs: int, train_fraction: float = 1.0) -> float:
    pytest.importorskip("transformers")
    data = EMOJI.model_copy(update={"train_fraction": train_fraction})
    optimizer = {"name": "adamw", "lr": 2e-3, "weight_decay": 0.01}
    network = {"task": "text_classification", "model": {"name": name}, "data": data, "optimizer": optimizer}
    config = Config.model_validate({"method": "none", "device": "cpu", "target": network | {"batch_size": 32}})
    learner = Learner("target", config.target, config, CPU)
    for _ in range(epochs * (learner.task.size("train") // 32)):
        learner.backward()
        learner.update()
    return learner.evaluate("val")["accuracy"]


@pytest.mark.usefixtures("one_thread")
def test_small_network_learns() -> None:
    assert accuracy_of("bert_small", epochs=5) > 0.35, "the largest class has 0.20"


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["bert_small", "distilbert_small"])
def test_same_seed_same_accuracy(name: str) -> None:
    assert accuracy_of(name, 2, train_fraction=0.1) == accuracy_of(name, 2, train_fraction=0.1)


def test_imdb(tmp_path: Path) -> None:
    write_imdb(tmp_path)
    config = DataConfig(name="imdb", root=str(tmp_path), val_fraction=0.25, max_length=8)
    data = load_text(config)
    assert data.class_names == ("neg", "pos")
    assert [len(part.labels) for part in (data.train, data.val, data.test)] == [18, 6, 8]
    assert data.test.labels.tolist() == [0] * 4 + [1] * 4
    assert data.val.labels.sum() == 3
    vocabulary = json.loads(data.tokenizer)["model"]["vocab"]
    assert {"splendid", "awful", "film", ",", "ne"} < vocabulary.keys()
    assert "br" not in vocabulary and "test" not in vocabulary
    word = vocabulary["splendid"]
    for part in (data.train, data.val, data.test):
        assert (part.tokens == word).any(dim=1).long().equal(part.labels)


def fails(config: DataConfig, message: str, kind: type[ValueError] = DataError) -> None:
    with pytest.raises(kind, match=message) as error:
        load_text(config)
    assert "\n" not in str(error.value)


def test_imdb_that_is_missing_or_damaged(tmp_path: Path) -> None:
    config = DataConfig(name="imdb", root=str(tmp_path))
    fails(DataConfig(name="imdb"), r"^data\.root must name the folder that holds aclImdb, got None", ConfigError)
    way_out = r"mkdir -p \S+ && curl -fL https://\S+/aclImdb_v1\.tar\.gz \| tar -xz -C \S+ fills it$"
    fails(config, rf"^data\.root must hold aclImdb, got '.*' without it; {way_out}")
    write_imdb(tmp_path)
    review = tmp_path / "aclImdb" / "test" / "pos" / "2_7.txt"
    review.write_bytes(b"caf\xe9")
    fails(config, r"test/pos/2_7\.txt must be readable UTF-8 text: ")
    for path in review.parent.iterdir():
        path.unlink()
    fails(config, r"test/pos must hold reviews, \*\.txt, got none$")


def write_lines(file: Path, entries: list[tuple[str, Any]]) -> None:
    file.write_text("".join(json.dumps({"text": text, "label": label, "id": 1}) + "\n" for text, label in entries))


def folder(root: Path, **options: Any) -> DataConfig:
    return DataConfig(name="text_folder", root=str(root), max_length=8, **options)


def test_text_folder(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [(f"{'warm' if i % 2 else 'cold'} {i}", i % 2) for i in range(40)])
    data = load_text(folder(tmp_path))
    assert data.class_names == ("0", "1")
    assert [len(part.labels) for part in (data.train, data.val, data.test)] == [29, 5, 6]
    write_lines(tmp_path / "test.jsonl", [("warm", 1), ("cold", 0), ("", 1)])
    write_lines(tmp_path / "val.jsonl", [("warm", 1), ("cold", 0), ("hot", 1), ("cold", 0)])
    data = load_text(folder(tmp_path, split_seed=1))
    assert [len(part.labels) for part in (data.train, data.val, data.test)] == [40, 4, 3]
    assert data.test.labels.tolist() == [1, 0, 1]
    assert data.test.mask.sum(dim=1).tolist() == [3, 3, 2]


def test_text_folder_with_names_of_classes(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [("a", "sport"), ("b", "news")] * 10)
    assert load_text(folder(tmp_path)).class_names == ("news", "sport")


def test_text_folder_that_is_missing(tmp_path: Path) -> None:
    fails(
        folder(tmp_path),
        r'^data\.root must hold train\.jsonl, one \{"text": .*, got .* without a file \.jsonl named train$',
    )
    fails(DataConfig(name="text_folder"), r"^data\.root must name the folder with train\.jsonl, got None", ConfigError)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[1]",
        b"[" * 100_000,
        b'{"text": "a"}',
        b'{"text": "a", "label": true}',
        b'{"text": "a", "label": 1.5}',
        b'{"text": null, "label": 1}',
        b'{"text": "caf\xe9", "label": 1}',
        b'{"text": "\\ud800", "label": 1}',
    ],
)
def test_damaged_line(tmp_path: Path, line: bytes) -> None:
    good = b'{"text": "a", "label": 1}\n'
    (tmp_path / "train.jsonl").write_bytes(good + line + b"\n" + good)
    fails(folder(tmp_path), r"train\.jsonl line 2 must ")


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [("a", 1)] * 5)
    fails(folder(tmp_path), r"train\.jsonl must hold at least 2 classes, got 1$")
    write_lines(tmp_path / "train.jsonl", [("a", 1), ("b", 0)])
    fails(folder(tmp_path, split_seed=1), r"train\.jsonl must hold at least 3 texts, got 2$")
    write_lines(tmp_path / "train.jsonl", [("a", 1), ("b", 0)] * 9)
    write_lines(tmp_path / "test.jsonl", [("a", 1), ("b", 0), ("b", 2)])
    fails(folder(tmp_path, split_seed=2), r"test\.jsonl line 3 must have a label of the train split, got 2$")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((1, "1"), r"labels must be all text or all whole numbers, got 1 and '1'$"),
        ((0, "no"), r"labels must be all text or all whole numbers, got 0 and 'no'$"),
        (("1", "01"), r"labels must differ in more than spelling, got '01' and '1'$"),
        (("1", "1.0"), r"labels must differ in more than spelling, got '1' and '1\.0'$"),
        (("news", "news "), r"labels must differ in more than spelling, got 'news' and 'news '$"),
        (("caf\u00e9", "cafe\u0301"), r"more than spelling, got 'cafe\\u0301' and 'caf\\xe9'$"),
        (("1790000000000000001", "1790000000000000001.0"), r"labels must differ in more than spelling, got "),
        (("", "a"), r"labels must not be blank, got ''$"),
        ((" ", "a"), r"labels must not be blank, got ' '$"),
        ((1, True), r"line 2 must be \{"),
        ((1, None), r"line 2 must be \{"),
        ((1, float("nan")), r"line 2 must be \{"),
        ((1, 0.0), r"line 2 must be \{"),
    ],
)
def test_labels_do_not_silently_become_other_classes(tmp_path: Path, labels: tuple[Any, Any], message: str) -> None:
    write_lines(tmp_path / "train.jsonl", [("a", labels[0]), ("b", labels[1])] * 5)
    fails(folder(tmp_path), rf"train\.jsonl.*{message}")


@pytest.mark.parametrize("first", [2**53, 1790000000000000001])
@pytest.mark.parametrize("kind", [int, str])
def test_whole_numbers_are_compared_exactly(tmp_path: Path, first: int, kind: type) -> None:
    labels = [kind(first), kind(first + 1)]
    write_lines(tmp_path / "train.jsonl", [("a", labels[0]), ("b", labels[1])] * 9)
    assert load_text(folder(tmp_path)).class_names == (str(first), str(first + 1))


def test_a_label_may_have_another_unicode_form_in_test(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [("a", "caf\u00e9"), ("b", "bar")] * 9)
    write_lines(tmp_path / "test.jsonl", [("a", "cafe\u0301"), ("b", "bar"), ("b", "caf\u00e9")])
    data = load_text(folder(tmp_path))
    assert [data.class_names[label] for label in data.test.labels] == ["caf\u00e9", "bar", "caf\u00e9"]


def test_a_number_that_json_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "a", "label": 01}\n')
    fails(folder(tmp_path), r"train\.jsonl line 2 must be a JSON object")


def test_a_label_of_another_type_in_another_split(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [("a", 1), ("b", 0)] * 5)
    write_lines(tmp_path / "test.jsonl", [("a", 1), ("b", "1 "), ("b", 0)])
    fails(folder(tmp_path), r"test\.jsonl line 2 must have a label of the train split, got '1 '; there it is 1$")


def test_other_names_of_text_splits(tmp_path: Path) -> None:
    for name, count in (("TRAIN.JSONL", 10), ("Validation.jsonl", 3), ("test.jsonl", 4), (".hidden.jsonl", 5)):
        write_lines(tmp_path / name, [("a", 1), ("b", 0)] * count)
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "extra").mkdir()
    data = load_text(folder(tmp_path))
    assert [len(part.labels) for part in (data.train, data.val, data.test)] == [20, 6, 8]
    assert data.left_out == {"hidden": 1, "beside the splits (README.md, extra)": 2}


def test_a_split_in_another_format_is_refused(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [("a", 1), ("b", 0)] * 10)
    (tmp_path / "test.csv").write_text("text,label\n")
    fails(folder(tmp_path), r"test\.csv must be a file \.jsonl to be read as the test split; convert it or rename it$")


def test_imdb_counts_what_is_no_review(tmp_path: Path) -> None:
    write_imdb(tmp_path)
    config = DataConfig(name="imdb", root=str(tmp_path))
    assert load_text(config).left_out == {}
    for name in ("._0_7.txt", "a.html", "b.html"):
        (tmp_path / "aclImdb" / "train" / "neg" / name).write_bytes(b"\xff")
    (tmp_path / "aclImdb" / "test" / "neg" / "c.html").write_text("x")
    load_text.cache_clear()
    assert load_text(config).left_out == {"hidden": 1, ".html": 3}


def test_unknown_data_set() -> None:
    fails(
        DataConfig(name="emoji"), r"^data\.name must be one of .*, got 'emoji'; did you mean emoji_names\?", ConfigError
    )
