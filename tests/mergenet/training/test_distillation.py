"""Distillation baselines: each loss against its paper's formula, and what teaching may not disturb."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mergenet.config import DistillationConfig
from mergenet.config.choices import FEATURE_METHODS, PUBLISHED
from mergenet.config.json_schema import child, field_table, root
from mergenet.config.loading import parse_config
from mergenet.config.spec import EMBEDDING, SPAN, TEXT
from mergenet.errors import ConfigError, TrainingDiverged
from mergenet.learner.rng import Stream
from mergenet.models import MODELS, image_classifier
from mergenet.training.distillation import LOSSES, NEED_LABELS, Features, check_tasks
from mergenet.training.run import train_run
from mergenet.training.trainer import Trainer, train
from tests.tiny import copies, equal, same, snapshot, tiny_config, without_times

pytestmark = pytest.mark.usefixtures("tiny")

METHODS = list(PUBLISHED)
LOGIT_METHODS = [method for method in METHODS if method not in FEATURE_METHODS]
N, C, D = 5, 4, 3
NEUTRAL = {"weight": 0.0, "ce_weight": 1.0}


def draw(seed: int, *shape: int) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels_of(seed: int, count: int = N, classes: int = C) -> Tensor:
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(seed))


def settings(method: str, **changes: float) -> dict[str, float]:
    return PUBLISHED[method] | changes


# ---------------------------------------------------------------- the losses, number by number


def softmax(row: list[float], temperature: float = 1.0) -> list[float]:
    exponentials = [math.exp(value / temperature) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def kl(q: list[float], p: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(q, p, strict=True))


def literal_kd(student: Any, teacher: Any, _: Any, s: dict[str, float]) -> float:
    t = s["temperature"]
    return t**2 * mean(kl(softmax(y, t), softmax(x, t)) for x, y in zip(student, teacher, strict=True))


def literal_logit_std(student: Any, teacher: Any, labels: Any, s: dict[str, float]) -> float:
    def standard(row: list[float]) -> list[float]:
        center = mean(row)
        spread = math.sqrt(sum((x - center) ** 2 for x in row) / (len(row) - 1))
        return [(x - center) / spread for x in row]

    return literal_kd(list(map(standard, student)), list(map(standard, teacher)), labels, s)


def others(row: list[float], label: int) -> list[float]:
    """Of probabilities: the classes but one, normalised."""
    return [value / (1 - row[label]) for i, value in enumerate(row) if i != label]


def literal_dkd(student: Any, teacher: Any, labels: Any, s: dict[str, float]) -> float:
    total, t = [], s["temperature"]
    for x, y, label in zip(student, teacher, labels, strict=True):
        p, q = softmax(x, t), softmax(y, t)
        tckd = kl([q[label], 1 - q[label]], [p[label], 1 - p[label]])
        total.append(s["alpha"] * tckd + s["beta"] * kl(others(q, label), others(p, label)))
    return t**2 * mean(total)


def literal_nkd(student: Any, teacher: Any, labels: Any, s: dict[str, float]) -> float:
    total, t = [], s["temperature"]
    for x, y, label in zip(student, teacher, labels, strict=True):
        soft_p, soft_q = others(softmax(x, t), label), others(softmax(y, t), label)
        rest = sum(b * math.log(a) for a, b in zip(soft_p, soft_q, strict=True))
        total.append(-softmax(y)[label] * math.log(softmax(x)[label]) - s["gamma"] * t**2 * rest)
    return mean(total)


def literal_dist(student: Any, teacher: Any, _: Any, s: dict[str, float]) -> float:
    def distance(a: list[list[float]], b: list[list[float]]) -> float:
        return mean(1 - pearson(x, y) for x, y in zip(a, b, strict=True))

    p, q = ([softmax(row, s["temperature"]) for row in rows] for rows in (student, teacher))
    columns = list(map(list, zip(*p, strict=True))), list(map(list, zip(*q, strict=True)))
    return s["temperature"] ** 2 * (s["beta"] * distance(p, q) + s["gamma"] * distance(*columns))


def pearson(x: list[float], y: list[float]) -> float:
    a, b = [v - mean(x) for v in x], [v - mean(y) for v in y]
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def literal_rkd(student: Any, teacher: Any, _: Any, s: dict[str, float]) -> float:
    count = range(len(student))

    def distances(rows: Any) -> list[float]:
        found = [math.dist(rows[i], rows[j]) for i in count for j in count]
        return [value / mean(v for v in found if v > 0) for value in found]

    def angles(rows: Any) -> list[float]:
        """Cosine at vertex j between the directions to i and k, for all triples."""
        found = []
        for j in count:
            units = [unit([a - b for a, b in zip(rows[i], rows[j], strict=True)]) for i in count]
            found += [dot(units[i], units[k]) for i in count for k in count]
        return found

    def huber(a: list[float], b: list[float]) -> float:
        gaps = [abs(x - y) for x, y in zip(a, b, strict=True)]
        return mean(0.5 * gap**2 if gap < 1 else gap - 0.5 for gap in gaps)

    distance, angle = (huber(of(student), of(teacher)) for of in (distances, angles))
    return s["distance_weight"] * distance + s["angle_weight"] * angle


def literal_pkt(student: Any, teacher: Any, _: Any, __: dict[str, float]) -> float:
    def chances(rows: Any) -> list[list[float]]:
        units = [unit(row) for row in rows]
        similar = [[(dot(a, b) + 1) / 2 for b in units] for a in units]
        return [[value / sum(row) for value in row] for row in similar]

    p, q = chances(student), chances(teacher)
    return mean(b * math.log(b / a) for x, y in zip(p, q, strict=True) for a, b in zip(x, y, strict=True))


def literal_spkd(student: Any, teacher: Any, _: Any, __: dict[str, float]) -> float:
    def rows_of(rows: Any) -> list[float]:
        return [value for a in rows for value in unit([dot(a, b) for b in rows])]

    return mean((a - b) ** 2 for a, b in zip(rows_of(student), rows_of(teacher), strict=True))


def mean(values: Any) -> float:
    values = list(values)
    return sum(values) / len(values)


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(row: list[float]) -> list[float]:
    length = math.sqrt(dot(row, row))
    return [value / length for value in row] if length else row


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_each_loss_is_its_papers_formula(method: str, changed: bool) -> None:
    values = settings(method)
    if changed:  # each setting shows
        values = {name: value * (1.3 + i / 7) for i, (name, value) in enumerate(values.items())}
    for seed in range(4):
        # features of the two networks may differ in length
        student, teacher = draw(seed, N, C), draw(seed + 10, N, D if method in FEATURE_METHODS else C)
        labels = labels_of(seed)
        found = LOSSES[method](student, teacher, labels, values)
        expected = globals()[f"literal_{method}"](student.tolist(), teacher.tolist(), labels.tolist(), values)
        assert found.shape == ()
        assert found.item() == pytest.approx(expected, rel=2e-6)
        assert found.item() > 1e-4


def test_decoupled_and_normalized_kd_of_probabilities_that_can_be_checked_by_hand() -> None:
    student = torch.tensor([[0.5, 0.25, 0.25]]).log()
    teacher = torch.tensor([[0.5, 0.4, 0.1]]).log()
    label = torch.tensor([0])
    # both give the label 1/2; of the rest the student says (1/2, 1/2), the teacher (4/5, 1/5)
    nckd = 0.8 * math.log(1.6) + 0.2 * math.log(0.4)
    found = LOSSES["dkd"](student, teacher, label, {"temperature": 1, "alpha": 5, "beta": 3})
    assert found.item() == pytest.approx(3 * nckd, rel=1e-5)
    found = LOSSES["nkd"](student, teacher, label, {"temperature": 1, "gamma": 3})
    assert found.item() == pytest.approx(0.5 * math.log(2) + 3 * math.log(2), rel=1e-5)
    # of label 1 the student says 1/4, the teacher 2/5
    tckd = 0.4 * math.log(0.4 / 0.25) + 0.6 * math.log(0.6 / 0.75)
    found = LOSSES["dkd"](student, teacher, torch.tensor([1]), {"temperature": 1, "alpha": 5, "beta": 0})
    assert found.item() == pytest.approx(5 * tckd, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_tckd_and_nckd_weighted_by_what_the_teacher_leaves_to_the_others(temperature: float) -> None:
    student, teacher, labels = draw(0, N, C), draw(1, N, C), labels_of(2)
    beta = 1 - (teacher / temperature).softmax(dim=1).gather(1, labels[:, None])
    rows = [
        LOSSES["dkd"](student[i : i + 1], teacher[i : i + 1], labels[i : i + 1],
                      {"temperature": temperature, "alpha": 1, "beta": beta[i].item()})
        for i in range(N)
    ]  # fmt: skip
    whole = LOSSES["kd"](student, teacher, labels, {"temperature": temperature})
    torch.testing.assert_close(torch.stack(rows).mean(), whole)


def test_normalized_kd_of_a_teacher_without_doubt_is_cross_entropy_and_even_others() -> None:
    student, labels = draw(0, N, C), labels_of(1)
    teacher = 60.0 * nn.functional.one_hot(labels, C).double()
    loss = LOSSES["nkd"](student, teacher, labels, {"temperature": 1, "gamma": 0})
    torch.testing.assert_close(loss, nn.functional.cross_entropy(student, labels))
    loss = LOSSES["nkd"](student, teacher, labels, {"temperature": 1, "gamma": 1})
    rest = [math.log(p) / (C - 1) for x, y in zip(student, labels, strict=True) for p in others(softmax(x.tolist()), y)]
    assert loss.item() == pytest.approx(nn.functional.cross_entropy(student, labels).item() - sum(rest) / N)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "nkd"])
def test_there_is_nothing_to_learn_from_an_equal(method: str) -> None:
    """But for nkd, which is a cross-entropy: its gradient is 0 but for the target's own part."""
    student = draw(0, N, C)
    assert LOSSES[method](student, student.clone(), labels_of(1), settings(method)).item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_sure_networks_give_finite_gradients_to_the_student_only(method: str) -> None:
    labels = labels_of(0)
    for scale in (1e-3, 1.0, 200.0):
        student, teacher = (scale * draw(seed, N, C).float() for seed in (0, 1))
        student.requires_grad_()
        before = teacher.clone()
        LOSSES[method](student, teacher, labels, settings(method)).backward()
        assert student.grad is not None
        assert student.grad.isfinite().all(), scale
        assert torch.equal(teacher, before)


def test_two_classes_leave_no_others_to_compare() -> None:
    student, teacher, labels = draw(0, N, 2), draw(1, N, 2), labels_of(2, classes=2)
    one = LOSSES["dkd"](student, teacher, labels, settings("dkd", beta=8))
    other = LOSSES["dkd"](student, teacher, labels, settings("dkd", beta=0))
    torch.testing.assert_close(one, other)


def degenerate() -> dict[str, tuple[Tensor, Tensor]]:
    """Student and teacher, float32 (N, C), whose formulas divide by a length of 0, or take its root."""
    student, teacher = draw(20, 6, C).float(), draw(21, 6, C).float()
    one_hot = torch.eye(C).repeat(2, 1)[:6]
    dead = torch.where(torch.arange(6)[:, None] == 2, 0, student)
    return {
        "a dead row": (dead, teacher),
        "dead rows": (torch.where(torch.arange(6)[:, None] < 3, 0, student), teacher),
        "a dead row of both": (dead, torch.where(dead == 0, 0, teacher)),
        "all dead": (torch.zeros(6, C), teacher),
        "a teacher that is dead": (student, torch.zeros(6, C)),
        "both dead": (torch.zeros(6, C), torch.zeros(6, C)),
        "all but dead": (1e-30 * student, teacher),
        "equal logits": (torch.full((6, C), 3.0), teacher),
        "logits that rounding makes unequal": (torch.full((6, C), 0.1) / 3 * (1 + 1e-7 * one_hot), teacher),
        "equal examples": (student[:1].repeat(6, 1), teacher),
        "two equal examples": (torch.cat([student[:1], student[:1], student[2:]]), teacher),
        "student and teacher the same": (student, student.clone()),
        "a one-hot teacher": (student, one_hot),
        "a sure teacher": (student, 1e4 * one_hot),
        "sure of something else": (1e4 * one_hot, 1e4 * one_hot.roll(1, 1)),
        "a batch of one": (student[:1], teacher[:1]),
    }


@pytest.mark.parametrize("case", degenerate())
@pytest.mark.parametrize("method", METHODS)
def test_a_loss_and_its_gradient_are_numbers_where_a_direction_is_missing(method: str, case: str) -> None:
    """And of the size of ordinary ones: a slope of 1e10 is finite, and ruins the network in one step."""
    student, teacher = degenerate()[case]
    student = student.clone().requires_grad_()
    loss = LOSSES[method](student, teacher, torch.arange(len(student)) % C, settings(method))
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 1e3


@pytest.mark.parametrize("method", FEATURE_METHODS)
def test_the_other_examples_learn_beside_a_dead_one(method: str) -> None:
    student, teacher = degenerate()["a dead row"]
    student = student.clone().requires_grad_()
    LOSSES[method](student, teacher, torch.arange(6) % C, settings(method)).backward()
    assert student.grad is not None
    assert (student.grad.abs().sum(dim=1) > 0).tolist()[:2] == [True, True]


# ---------------------------------------------------------------- the configuration


def test_every_method_has_a_loss_settings_and_a_place_in_the_schema() -> None:
    assert child(root(), "method")["enum"] == ["mergenet", "none", *PUBLISHED]  # type: ignore[index]
    assert LOSSES.keys() == PUBLISHED.keys()
    assert {*FEATURE_METHODS, *NEED_LABELS} <= PUBLISHED.keys()
    used = {name for values in PUBLISHED.values() for name in values}
    assert used == set(DistillationConfig.model_fields)
    described = {field.path: field.description for field in field_table()}
    assert "null: 4 (kd, dkd), 2 (logit_std), 1 (nkd, dist)" in described["distillation.temperature"]
    assert "30000 (pkt), 3000 (spkd)" in described["distillation.weight"]


def test_null_is_the_published_value() -> None:
    assert DistillationConfig().resolved("kd") == PUBLISHED["kd"]
    assert DistillationConfig(weight=0, temperature=2).resolved("kd") == settings("kd", weight=0, temperature=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distillation.gamma": 1.0}, "distillation.gamma must be null for method kd, got 1.0; for nkd, dist only"),
        ({"distillation": {"weight": 0, "ce_weight": 0}}, "distillation.weight must be above 0 where ce_weight is 0"),
        ({"source.kind": "self"}, "source.kind must be live or frozen for method kd, got 'self'; it has nothing"),
        ({"source.kind": "recorded", "source.recording": "x"},
         "source.kind must be live or frozen for method kd, got 'recorded'; a recording has only layers"),
        ({"source.kind": "frozen"}, "source.model.weights must name a file for source.kind frozen and method kd"),
        ({"source.task": "text_classification"},
         "source.task must equal target.task ('image_classification') for method kd, which compares class logits, "
         "got 'text_classification'; rkd, pkt, spkd compare features"),
        ({"source.data": {"name": "digits", "image_size": 16, "train_fraction": 0.085, "val_fraction": 0.05}},
         "source.data.image_size must equal target.data.image_size (8) for method kd, got 16; the source is shown"),
        ({"distillation.temperature": 0}, "distillation.temperature must be > 0, got 0"),
        ({"distillation.weight": -1}, "distillation.weight must be >= 0, got -1"),
        ({"method": "rkd", "distillation.temperature": 4},
         "distillation.temperature must be null for method rkd, got 4.0; for kd, logit_std, dkd, nkd, dist only"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    values = tiny_config().model_dump(mode="json") | {"method": "kd"}
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = values
        for name in parents:
            node = node[name]
        node[last] = node[last] | value if isinstance(value, dict) else value
    with pytest.raises(ConfigError) as caught:
        parse_config(values, "x")
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1


def test_settings_of_distillation_and_of_transfer_do_not_matter_elsewhere() -> None:
    tiny_config({"distillation": {"gamma": 1, "temperature": 2}})
    tiny_config({"method": "none", "distillation": {"gamma": 1, "temperature": 2}})
    tiny_config({"method": "rkd", "transfer": {"pairs": []}, "source.kind": "frozen"})
    trainer = Trainer(tiny_config({"method": "kd", "transfer": {"pairs": [{"source": "nowhere", "target": "none"}]}}))
    assert trainer.transfer.links == []


# ---------------------------------------------------------------- what the two networks must give


def built(changes: dict[str, Any]) -> Trainer:
    return Trainer(tiny_config(changes))


@pytest.mark.parametrize("outputs", [SPAN, EMBEDDING])
@pytest.mark.parametrize("method", ["kd", "rkd"])
def test_tasks_without_classes_are_refused(method: str, outputs: str) -> None:
    trainer = built({"method": method})
    assert trainer.source is not None and trainer.source.learner is not None
    target, source = trainer.target, trainer.source.learner
    check_tasks(method, target, source)
    task = source.task if method == "rkd" else target.task
    task.spec = dataclasses.replace(task.spec, outputs=outputs)
    role = "source" if method == "rkd" else "target"
    what = "features of classes" if method == "rkd" else "class logits"
    message = f"method must be mergenet or none for {role}.task image_classification ({outputs}), got '{method}'"
    with pytest.raises(ConfigError, match="^" + re.escape(f"{message}, which compares {what}") + "$"):
        check_tasks(method, target, source)


def test_features_need_the_same_inputs_and_not_the_same_classes() -> None:
    trainer = built({"method": "rkd"})
    assert trainer.source is not None and trainer.source.learner is not None
    target, source = trainer.target, trainer.source.learner
    source.task.spec = dataclasses.replace(source.task.spec, num_outputs=3)
    check_tasks("rkd", target, source)
    source.task.spec = dataclasses.replace(source.task.spec, inputs=TEXT)
    with pytest.raises(
        ConfigError, match=r"^source\.task must take the inputs of target\.task image_classification for"
    ):
        check_tasks("rkd", target, source)


def test_labels_that_are_no_class_and_batches_of_one_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = built({"method": "kd"})
    assert trainer.source is not None and trainer.source.learner is not None
    task, batch = trainer.target.task, trainer.target.task.batch
    monkeypatch.setattr(task, "batch", lambda *given: {"labels": batch(*given)["images"][:, 0, 0]})  # soft ones
    check_tasks("kd", trainer.target, trainer.source.learner)
    with pytest.raises(ConfigError, match="got 'dkd', which compares the label's class with the others"):
        check_tasks("dkd", trainer.target, trainer.source.learner)
    with pytest.raises(ConfigError, match=r"^target\.batch_size must be at least 2 examples a worker .* pkt, .*got 1$"):
        built({"method": "pkt", "target.batch_size": 1})


def test_features_are_the_input_of_the_last_linear_layer() -> None:
    trainer = built({"method": "none"})
    features = Features(trainer.target)
    images = trainer.target.next_batch()["images"]
    trainer.target.network.eval()
    logits = trainer.target.network(images)
    last = trainer.target.network.get_submodule("9")
    assert isinstance(last, nn.Linear)
    seen = features.take()
    assert seen.shape == (16, 8)
    torch.testing.assert_close(last(seen), logits)
    assert seen.requires_grad


class HeadFirst(nn.Module):
    """Makes its head before the layers below it. way: how the logits come out of it, and what is called after it."""

    def __init__(self, num_outputs: int, way: str) -> None:
        super().__init__()
        self.way = way
        self.head, self.auxiliary = nn.Linear(24, num_outputs), nn.Linear(24, num_outputs)
        self.body, self.spare = nn.Linear(192, 24), nn.Linear(5, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.body(images.flatten(1)))
        if self.way == "by name":
            return self.head(input=x)
        logits = self.head(x)
        if self.way == "auxiliary":
            self.auxiliary(x + 1)
        return {"reshaped": logits[:, None].clone().flatten(1), "scaled": 2 * logits}.get(self.way, logits)


@pytest.mark.parametrize("way", ["plain", "by name", "auxiliary", "reshaped", "scaled"])
def test_features_are_the_input_of_the_layer_that_gives_the_logits(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "head_first", image_classifier(lambda outputs, _: HeadFirst(outputs, way)))
    trainer = built({"method": "rkd", "target.model.name": "head_first", "source.model.name": "head_first"})
    assert trainer.distiller is not None
    images, network = trainer.target.next_batch()["images"], trainer.target.network
    network(images)
    features = trainer.distiller.features[0].take()
    torch.testing.assert_close(features, torch.relu(network.get_submodule("body")(images.flatten(1))))
    list(trainer.epochs())


def test_networks_without_a_vector_an_example_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    convolution = image_classifier(lambda outputs, _: nn.Sequential(nn.Conv2d(3, outputs, 8), nn.Flatten()))
    tokens = image_classifier(
        lambda outputs, _: nn.Sequential(nn.Flatten(2), nn.Linear(64, outputs), nn.Flatten(), nn.ReLU())
    )
    monkeypatch.setitem(MODELS, "convolution", convolution)
    monkeypatch.setitem(MODELS, "tokens", tokens)
    for name, found in (("convolution", "none"), ("tokens", r"shape \(2, 3, 64\) for 2 examples")):
        with pytest.raises(ConfigError, match=rf"^source\.model\.name must .*got '{name}', where it is given {found}$"):
            built({"method": "rkd", "source.model.name": name})


# ---------------------------------------------------------------- teaching

BATCH_NORM = {"source.model.name": "tiny_cnn", "transfer.pairs": [{"source": "3", "target": "3"}]}


def finished(changes: dict[str, Any]) -> tuple[Trainer, list[dict[str, Any]]]:
    trainer = built(changes)
    return trainer, [without_times(result.metrics) for result in trainer.epochs()]


def of_source(trainer: Trainer) -> dict[str, Any]:
    assert trainer.source is not None and trainer.source.learner is not None
    return snapshot(trainer.source.learner.state_dict())


@pytest.mark.parametrize(("method", "amp"), [*((method, "off") for method in METHODS), ("kd", "bf16"), ("rkd", "bf16")])
def test_a_weight_of_zero_is_bitwise_no_method_and_the_source_never_notices(method: str, amp: str) -> None:
    """Its weights, BatchNorm statistics and streams are those of MergeNet's source, the target's those of none."""
    base = BATCH_NORM | {"amp": amp}
    alone, rows_alone = finished(base | {"method": "none"})
    merged, rows_merged = finished(base)
    taught, rows = finished(base | {"method": method, "distillation": NEUTRAL})
    assert equal(snapshot(taught.target.state_dict()), snapshot(alone.target.state_dict()))
    assert equal(of_source(taught), of_source(merged))
    for row, row_alone, row_merged in zip(rows, rows_alone, rows_merged, strict=True):
        assert row_alone.items() <= row.items()
        assert {k: v for k, v in row_merged.items() if k.startswith("source_val")}.items() <= row.items()
        assert row["distillation_loss"] > 0


@pytest.mark.parametrize("method", METHODS)
def test_at_its_published_weight_every_method_changes_the_target_only(method: str) -> None:
    alone, _ = finished(BATCH_NORM | {"method": "none"})
    merged, _ = finished(BATCH_NORM)
    taught, _ = finished(BATCH_NORM | {"method": method})
    assert not same(taught.target.network.state_dict(), alone.target.network.state_dict())
    assert equal(of_source(taught), of_source(merged))
    for name in ("batches", "augmenting", "forwarding"):
        assert equal(taught.target.state_dict()[name], alone.target.state_dict()[name]), name


def test_a_lesson_is_the_sources_answer_to_the_targets_batch_and_leaves_no_trace() -> None:
    trainer = built(BATCH_NORM | {"method": "kd", "distillation": {"temperature": 2, "weight": 3, "ce_weight": 0.5}})
    next(trainer.epochs())
    assert trainer.distiller is not None and trainer.source is not None and trainer.source.learner is not None
    source, before = trainer.source.learner, of_source(trainer)
    batch, stream = trainer.target.next_batch(), torch.get_rng_state()
    objective = trainer.distiller.lesson(batch, step=0)
    assert equal(of_source(trainer), before)
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(p.grad is None or not p.grad.requires_grad for p in source.network.parameters())
    with torch.no_grad(), Stream(0, "any").active():
        answer = source.network.eval()(batch["images"])
    logits = torch.randn(16, 10, requires_grad=True)
    total = objective({"logits": logits}, torch.tensor(0.25))
    expected = 0.5 * 0.25 + 3 * literal_kd(logits.tolist(), answer.tolist(), None, {"temperature": 2})
    assert total.item() == pytest.approx(expected, rel=1e-4)
    assert not torch.equal(answer, source.network.train()(batch["images"])), "or else the mode would not show"


def test_a_live_source_teaches_with_what_it_knows_at_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"method": "kd", "epochs": 1, **BATCH_NORM}
    trainer = built(changes)
    assert trainer.distiller is not None
    asked, source = [], trainer.distiller.source.network
    ask = trainer.distiller._ask

    def told(batch: dict[str, Tensor], step: int) -> Tensor:
        asked.append(copies(source.state_dict()))
        return ask(batch, step)

    monkeypatch.setattr(trainer.distiller, "_ask", told)
    list(trainer.epochs())
    assert len(asked) == 7
    other = built(changes)
    assert other.source is not None and other.source.trainee is not None
    for step, weights in enumerate(asked):
        assert same(weights, other.source.trainee.network.state_dict()), f"before its own step {step}"
        other._step(step)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """Weights of a source that has learned."""
    trainer, _ = finished({"source.kind": "live", "epochs": 12})
    assert trainer.source is not None and trainer.source.learner is not None
    path = tmp_path / "teacher.safetensors"
    save_file(trainer.source.learner.network.state_dict(), path)
    return path


@pytest.mark.parametrize("method", METHODS)
def test_a_frozen_source_teaches_what_it_knows(method: str, teacher: Path) -> None:
    changes = {
        "method": method, "source.kind": "frozen", "source.model.weights": str(teacher), "epochs": 12,
        "target.model.name": "tiny_mlp", "target.seed": 5, "distillation.warmup_fraction": 0,
        "target.optimizer.lr": 0.05 if method == "kd" else 0.005, "target.augment": False,
    }  # fmt: skip
    trainer, rows = finished(changes)
    assert trainer.learners == [trainer.target]
    assert "source_train_loss" not in rows[-1]
    losses = [row["distillation_loss"] for row in rows]
    own = built(changes)
    assert equal(of_source(trainer), of_source(own)), "nothing of the source has changed"
    assert losses[-1] < (0.98 if method == "nkd" else 0.9) * losses[0]  # nkd: a cross-entropy, which ends above 0


def test_the_weight_rises_over_the_warm_up() -> None:
    trainer = built({"method": "kd", "distillation": {"warmup_fraction": 0.5, "weight": 8, "ce_weight": 0}})
    assert trainer.distiller is not None
    batch, logits = trainer.target.next_batch(), torch.randn(16, 10)
    totals = [trainer.distiller.lesson(batch, step)({"logits": logits}, torch.tensor(1.0)).item() for step in range(14)]
    assert [total / totals[-1] for total in totals] == pytest.approx([*(i / 7 for i in range(1, 8)), *[1] * 7])


def test_the_column_is_the_mean_over_the_epoch_and_the_answers_are_timed_as_transfer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = built({"method": "dist"})
    assert trainer.distiller is not None
    sums = []
    check = trainer.distiller.check_finite

    def checked(step: int) -> None:
        assert trainer.distiller is not None
        sums.append(trainer.distiller.loss_sum.item())
        check(step)

    monkeypatch.setattr(trainer.distiller, "check_finite", checked)
    for result in trainer.epochs():
        assert result.metrics["distillation_loss"] == pytest.approx(sums[-1] / 7, rel=1e-6)
        assert result.metrics["seconds_transfer"] > 0
        sums.clear()


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_under_mixed_precision_the_loss_is_in_fp32(amp: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    def loss(student: Tensor, teacher: Tensor, *_: Any) -> Tensor:
        seen.add((student.dtype, teacher.dtype, (student @ teacher.T).dtype, student.requires_grad))
        return (student - teacher).square().mean()

    for method in ("kd", "pkt"):
        monkeypatch.setitem(LOSSES, method, loss)
        changes = {"method": method, "amp": amp, "source.model.name": "tiny_cnn", "distillation.weight": 0.1}
        list(train(tiny_config(changes | {"target.optimizer.lr": 0.01})))
    assert seen == {(torch.float32, torch.float32, torch.float32, True)}


def test_a_loss_that_is_no_number_stops_the_training_in_one_line() -> None:
    changes = {"method": "kd", "distillation.temperature": 1e-44, "distillation.weight": 2}
    message = (
        r"^the loss of method kd became (nan|inf) by step 0; raise distillation\.temperature "
        r"\(1e-44, usual is from 0\.05\)$"
    )
    with pytest.raises(TrainingDiverged, match=message):
        list(train(tiny_config(changes)))


def test_nothing_is_written_for_a_method_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"target\.batch_size must be at least 2"):
        list(train_run(tiny_config({"method": "rkd", "target.batch_size": 1}), tmp_path / "run"))
    assert not (tmp_path / "run").exists()
