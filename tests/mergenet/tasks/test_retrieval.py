"""Image-text retrieval: loss, ranks, recalls."""

import itertools
import math
from statistics import mean

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from mergenet.config import DataConfig, NetworkConfig
from mergenet.errors import ConfigError
from mergenet.tasks import Task, build_task
from mergenet.tasks.image_text_retrieval import EMBEDDING_SIZE, TEMPERATURE, chance, ranks

CPU = torch.device("cpu")
EMOJI = DataConfig(name="openmoji_names", image_size=16, max_length=16)


@pytest.fixture(scope="module")
def task() -> Task:
    return build_task(NetworkConfig(task="image_text_retrieval", data=EMOJI))


def unit(*shape: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def recalls(task: Task, images: Tensor, texts: Tensor, image: Tensor) -> dict[str, float]:
    return task.metrics("val", {"images": images, "texts": texts, "image": image})


def test_describes_its_data(task: Task) -> None:
    assert (task.spec.outputs, task.spec.num_outputs, task.metric) == ("embedding", EMBEDDING_SIZE, "recall")
    batch = task.batch("val", torch.tensor([4, 0]), CPU)
    assert {name: (tuple(v.shape), v.dtype) for name, v in batch.items()} == {
        "images": ((2, 3, 16, 16), torch.float32),
        "tokens": ((2, 16), torch.int64),
        "mask": ((2, 16), torch.int64),
        "image": ((2,), torch.int64),
    }
    assert task.metadata.keys() == {"mean", "std", "tokenizer"}


def test_loss_without_duplicates_is_infonce(task: Task) -> None:
    images, texts = unit(5, 8), unit(5, 8, seed=1)
    logits, own = texts @ images.T / TEMPERATURE, torch.arange(5)
    expected = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
    loss = task.loss({"images": images, "texts": texts}, {"image": torch.tensor([7, 3, 9, 1, 0])})
    torch.testing.assert_close(loss, expected)


def test_captions_of_one_image_are_not_each_others_negatives(task: Task) -> None:
    """Two images, the first with two captions: the best embeddings reach the entropy of the targets."""
    corner = torch.eye(2)[[0, 0, 1]]
    image = torch.tensor([4, 4, 2])
    loss = task.loss({"images": corner, "texts": corner}, {"image": image}).item()
    assert loss == pytest.approx(2 / 3 * math.log(2), abs=1e-4)
    apart = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert task.loss({"images": apart, "texts": apart}, {"image": image}).item() > 4


def test_ranks_by_definition() -> None:
    images, texts, owner = unit(7, 4), unit(19, 4, seed=1), torch.arange(19) % 7
    i2t, t2i, loss = ranks(images, texts, owner)
    similarity = texts.double() @ images.double().T
    for i in range(7):
        order = similarity[:, i].argsort(descending=True).tolist()
        assert i2t[i] == next(place for place, text in enumerate(order) if owner[text] == i)
    for n in range(19):
        assert t2i[n] == similarity[n].argsort(descending=True).tolist().index(int(owner[n]))
    assert loss == pytest.approx(cross_entropy(similarity / TEMPERATURE, owner).item(), rel=1e-5)


def test_ranks_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    images, texts, owner = unit(30, 4), unit(90, 4, seed=1), torch.arange(90) // 3
    whole = ranks(images, texts, owner)
    monkeypatch.setattr("mergenet.tasks.image_text_retrieval.CHUNK", 7)
    parts = ranks(images, texts, owner)
    assert whole[0].equal(parts[0]) and whole[1].equal(parts[1]) and whole[2] == pytest.approx(parts[2])


def test_recalls_of_a_case_computed_by_hand(task: Task) -> None:
    """3 images, 4 captions; image 5 has two, of which the second is right and the first is taken for image 9."""
    turns = {5: 0.0, 7: 2.0, 9: 4.0}
    image = torch.tensor([9, 5, 5, 7])
    angles = torch.tensor([turns[n] for n in image.tolist()])
    texts = torch.tensor([4.1, 3.9, 0.1, 2.2])
    points = [torch.stack((value.cos(), value.sin()), dim=1) for value in (angles, texts)]
    found = recalls(task, points[0], points[1], image)
    # image to text: 9 has its own at 4.1 and the wrong one at 3.9, as near: a tie is a miss. 5 and 7 are right
    assert found["i2t_r1"] == pytest.approx(2 / 3)
    assert found["t2i_r1"] == pytest.approx(3 / 4)
    assert found["i2t_r5"] == found["t2i_r5"] == found["i2t_r10"] == found["t2i_r10"] == 1
    assert found["recall"] == pytest.approx(mean([2 / 3, 3 / 4, 1, 1, 1, 1]))


def test_perfect_collapsed_and_broken_embeddings(task: Task) -> None:
    image, point = torch.arange(40), unit(40, 64)
    assert recalls(task, point, point, image)["recall"] == 1
    one = unit(1, 64).expand(40, -1)
    assert recalls(task, one, one, image)["recall"] == 0
    nan = torch.full((40, 64), torch.nan)
    assert recalls(task, nan, nan, image)["recall"] == 0


def test_chance_by_counting_all_orders() -> None:
    """4 texts, images with 1 and 3 of them; recall at 5 and 10 is certain."""
    owner = (0, 1, 1, 1)
    firsts = [order[0] for order in itertools.permutations(owner)]
    i2t = mean([mean([first == i for first in firsts]) for i in (0, 1)])
    assert chance(torch.tensor([1, 3])) == pytest.approx(mean([i2t, 1 / 2, 1, 1, 1, 1]))


def test_chance_is_what_random_embeddings_reach(task: Task) -> None:
    image = torch.arange(300) // 2
    found = [recalls(task, unit(150, 16, seed=s)[image], unit(300, 16, seed=s + 100), image) for s in range(30)]
    assert mean(f["recall"] for f in found) == pytest.approx(found[0]["chance"], rel=0.1)


class Linear(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.images, self.texts = nn.Linear(768, 32), nn.Embedding(vocabulary, 32)

    def forward(self, images: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        texts = (self.texts(tokens) * mask[:, :, None]).sum(dim=1)
        return normalize(self.images(images.flatten(1)), dim=-1), normalize(texts, dim=-1)


def test_the_task_can_be_learned_and_scored_in_batches(task: Task) -> None:
    torch.manual_seed(0)
    model = Linear(task.spec.vocab_size)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    index = torch.arange(task.size("train"))
    for _ in range(12):
        for part in index.split(256):
            optimizer.zero_grad()
            batch = task.batch("train", part, CPU)
            task.loss(task.forward(model, batch), batch).backward()
            optimizer.step()
    parts = []
    for part in index.split(100):
        batch = task.batch("train", part, CPU)
        parts.append(task.score(task.forward(model, batch), batch))
    scores = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    assert not scores["images"].requires_grad
    found = task.metrics("train", scores)
    assert found["recall"] > 20 * found["chance"]


def test_wrong_settings() -> None:
    with pytest.raises(ConfigError, match=r"data.name must be one of coco, openmoji_names, got 'openmoji'"):
        build_task(NetworkConfig(task="image_text_retrieval"))
    with pytest.raises(ConfigError, match=r"task image_text_retrieval has no labels, .* got 0.1"):
        build_task(NetworkConfig(task="image_text_retrieval", data=EMOJI, label_smoothing=0.1))
