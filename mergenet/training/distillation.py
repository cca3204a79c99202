"""Baselines: knowledge distillation, in which the target learns from the source's outputs on the target's batches.

The losses are torchdistill's where it has them as published, else written here; all are means over the batch, of
class logits (N, C) or of penultimate features (N, D), and come without the task's own loss. The total is

    ce_weight * task loss + warm-up * weight * LOSSES[method]

with settings from `config.DistillationConfig`. A live source trains beside the target as it does for MergeNet and
teaches with its weights at that step; the recipe, the data order and the seeds are those of every other method.

What has no direction (features of zeros, equal logits, equal examples) counts as 0 and gets no gradient: the formulas
divide by its length, and their slope there is infinite, or rounding times 1e7 and more. [ours]
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, one_hot, smooth_l1_loss

from mergenet.config import Config
from mergenet.config.choices import FEATURE_METHODS
from mergenet.config.spec import CLASSES, Spec
from mergenet.errors import ConfigError, TrainingDiverged
from mergenet.learner import distributed
from mergenet.learner.learner import Learner, Objective
from mergenet.learner.rng import Stream
from mergenet.learner.usual_ranges import cure
from mergenet.models.head import find_head, first_input
from mergenet.tasks import Batch, Outputs

Settings = dict[str, float]
Loss = Callable[[Tensor, Tensor, Tensor, Settings], Tensor]  # (student, teacher, labels (N,), settings) -> scalar


def kd(student: Tensor, teacher: Tensor, _labels: Tensor, s: Settings) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) (Hinton et al., 2015)."""
    # alpha 0 leaves torchdistill's own cross-entropy away, and with it the factor T^2
    return s["temperature"] ** 2 * _torchdistill("KDLoss", student, teacher, temperature=s["temperature"], alpha=0.0)


def logit_std(student: Tensor, teacher: Tensor, _labels: Tensor, s: Settings) -> Tensor:
    """KD of logits standardised in each row (Sun et al., CVPR 2024)."""
    t = s["temperature"]
    student, teacher = _varying(student), _varying(teacher)
    return t**2 * _torchdistill("LogitStdKDLoss", student, teacher, temperature=t, alpha=0.0)


def dist(student: Tensor, teacher: Tensor, _labels: Tensor, s: Settings) -> Tensor:
    """T^2 (1 - Pearson correlation) of probabilities, rows (beta) and columns (gamma) (Huang et al., NeurIPS 2022)."""
    t = s["temperature"]
    p, q = ((logits / t).softmax(dim=1) for logits in (student, teacher))

    def unlike(dim: int) -> Tensor:
        return 1 - cosine_similarity(_centred(p, dim), _centred(q, dim), dim=dim, eps=1e-8).mean()

    return t**2 * (s["beta"] * unlike(1) + s["gamma"] * unlike(0))


def dkd(student: Tensor, teacher: Tensor, labels: Tensor, s: Settings) -> Tensor:
    """T^2 (alpha TCKD + beta NCKD): KD of target class against the rest, and of the rest (Zhao et al., CVPR 2022).

    With q, p the teacher's and student's probabilities at temperature T and t the label, TCKD is the divergence of
    (q_t, 1 - q_t) from (p_t, 1 - p_t), NCKD that of q_i / (1 - q_t) from p_i / (1 - p_t), i != t.
    """
    binary_p, others_p = _split(student / s["temperature"], labels)
    binary_q, others_q = _split(teacher / s["temperature"], labels)
    tckd, nckd = _divergence(binary_q, binary_p), _divergence(others_q, others_p)
    return s["temperature"] ** 2 * (s["alpha"] * tckd + s["beta"] * nckd).mean()


def nkd(student: Tensor, teacher: Tensor, labels: Tensor, s: Settings) -> Tensor:
    """-q_t log p_t - gamma T^2 sum_{i != t} q'_i log p'_i: normalized KD (Yang et al., ICCV 2023).

    q, p: the teacher's and student's probabilities; t: the label; q', p': of the other classes alone, at T.
    """
    own_p, own_q = (_split(logits, labels)[0][:, 0] for logits in (student, teacher))
    others_p, others_q = (_split(logits / s["temperature"], labels)[1] for logits in (student, teacher))
    others = (others_q.exp() * others_p).sum(dim=1)
    return -(own_q.exp() * own_p + s["gamma"] * s["temperature"] ** 2 * others).mean()


def rkd(student: Tensor, teacher: Tensor, _labels: Tensor, s: Settings) -> Tensor:
    """Distances between two, angles between three examples (Park et al., CVPR 2019). Memory grows as N^2 (N + D)."""
    if len(student) < 2:  # no distance, no angle
        return 0 * student.sum()
    # torchdistill's angles have a slope of 1e12 between equal examples
    weights = {"dist_factor": s["distance_weight"], "angle_factor": 0}
    distances = _torchdistill("RKDLoss", student, teacher, **weights, reduction="mean")
    return distances + s["angle_weight"] * smooth_l1_loss(_angles(student), _angles(teacher))


def pkt(student: Tensor, teacher: Tensor, _labels: Tensor, _s: Settings) -> Tensor:
    """Divergence of the examples' similarities, read as probabilities (Passalis and Tefas, ECCV 2018)."""
    alive = student.square().sum(dim=1, keepdim=True) > 1e-14  # beside torchdistill's eps, 1e-7, a length of 0
    return _torchdistill("PKTLoss", torch.where(alive, student, 0), teacher)


def spkd(student: Tensor, teacher: Tensor, _labels: Tensor, _s: Settings) -> Tensor:
    """|G_teacher - G_student|^2 / N^2, G = F F^T, its rows of L2 norm 1 (Tung and Mori, ICCV 2019).

    torchdistill's (1.1.5) makes the rows' L1 norm 1, for which the published weight does not hold.
    """
    gram_s, gram_t = (_directions(x @ x.T) for x in (student, teacher))
    return (gram_t - gram_s).square().mean()


LOSSES: dict[str, Loss] = {
    "kd": kd, "logit_std": logit_std, "dkd": dkd, "nkd": nkd, "dist": dist, "rkd": rkd, "pkt": pkt, "spkd": spkd,
}  # fmt: skip
NEED_LABELS = ("dkd", "nkd")


def _torchdistill(name: str, student: Tensor, teacher: Tensor, **settings: Any) -> Tensor:
    """One of torchdistill's losses, which expect what forward hooks collect, by module and by input or output."""
    from torchdistill.losses import mid_level

    where = {f"{role}_module_path": "." for role in ("student", "teacher")}
    where |= {f"{role}_module_io": "output" for role in ("student", "teacher")}
    if name == "RKDLoss":
        where = {f"{role}_output_path": "." for role in ("student", "teacher")}
    loss = getattr(mid_level, name)(**where, **settings)
    return loss({".": {"output": student}}, {".": {"output": teacher}})


def _directions(x: Tensor, least: Tensor | float = 0.0) -> Tensor:
    """x / |x| along the last dimension; 0, without a gradient, where |x| is at most `least`, or 1e-12."""
    square = x.square().sum(dim=-1, keepdim=True)
    alive = (square > 1e-24) & (square.sqrt() > least)
    return torch.where(alive, x / torch.where(alive, square, 1).sqrt(), 0)


def _angles(x: Tensor) -> Tensor:
    """Cosines of the angles at each example between each two others: (N, N, N)."""
    size = x.detach().norm(dim=1)
    rounding = 1e-6 * torch.maximum(size[None], size[:, None])
    directions = _directions(x[None] - x[:, None], rounding[..., None])
    return directions @ directions.transpose(1, 2)


def _centred(x: Tensor, dim: int) -> Tensor:
    """x minus its mean; 0, without a gradient, where only rounding tells the values apart."""
    centred = x - x.mean(dim=dim, keepdim=True)
    alive = centred.norm(dim=dim, keepdim=True) > 1e-6 * x.norm(dim=dim, keepdim=True)
    return torch.where(alive, centred, 0)


def _varying(logits: Tensor) -> Tensor:
    """The logits; 0, without a gradient, in rows of equal ones, beside torchdistill's eps of 1e-7 too."""
    spread = logits - logits.mean(dim=1, keepdim=True)
    size = spread.norm(dim=1, keepdim=True)
    return torch.where((size > 1e-6 * logits.norm(dim=1, keepdim=True)) & (size > 1e-7), logits, 0)


def _split(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (label, any other class) (N, 2), and of each other class given it is one of them (N, C).

    The latter are 0 at the label, so that its terms vanish in sums of q (log q - log p) and of q log p.
    """
    own = one_hot(labels, logits.shape[1]).bool()
    rest = logits.masked_fill(own, -math.inf).logsumexp(dim=1, keepdim=True)
    label = logits.gather(1, labels[:, None])
    return torch.cat([label, rest], dim=1).log_softmax(dim=1), (logits - rest).masked_fill(own, 0)


def _divergence(log_q: Tensor, log_p: Tensor) -> Tensor:
    """KL(q || p) in each row: (N,)."""
    return (log_q.exp() * (log_q - log_p)).sum(dim=1)


class Features:
    """The input of a network's head at its latest forward pass: the penultimate features.

    The head is the nn.Linear that gives the logits, or the last one called in a pass.
    Raises ConfigError for a network without such a layer, or whose layer sees more than a vector an example.
    """

    def __init__(self, learner: Learner) -> None:
        self.seen: Tensor | None = None
        inputs = tuple(value.to(learner.device) for value in learner.task.spec.example(2))
        head = find_head(learner.network, inputs, (nn.Linear,))
        if head is None or head.given.ndim != 2:
            found = "none" if head is None else f"shape {tuple(head.given.shape)} for 2 examples"
            raise ConfigError(
                f"{learner.role}.model.name must be a network whose last linear layer is given one feature vector an "
                f"example, got {learner.config.model.name!r}, where it is given {found}"
            )
        head.layer.register_forward_pre_hook(self._keep, with_kwargs=True)

    def _keep(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.seen = first_input(args, kwargs)

    def take(self) -> Tensor:
        """Of the latest forward pass, (N, D), with its graph."""
        assert self.seen is not None
        seen, self.seen = self.seen, None
        return seen


class Distiller:
    """The source as teacher of the target. For each step of the target the trainer calls `lesson`.

    The teacher is shown the target's batch, augmented as it is, in evaluation mode, without a gradient and under the
    same autocast: its weights, BatchNorm statistics and random streams stay as they are. With several workers each
    teaches its own share of the batch; relations are those among the examples of a share.
    Raises ConfigError if the method cannot compare what the two networks give.
    """

    def __init__(self, config: Config, target: Learner, source: Learner, total_steps: int) -> None:
        check_tasks(config.method, target, source)
        self.config, self.method = config, config.method
        self.settings = config.distillation.resolved(config.method)
        self.warmup_steps = self.settings["warmup_fraction"] * total_steps
        self.target, self.source = target, source
        self.features = [Features(target), Features(source)] if self.method in FEATURE_METHODS else []
        self.loss_sum, self.num_losses = torch.zeros((), device=target.device), 0

    def lesson(self, batch: Batch, step: int) -> Objective:
        """What the target minimises on its batch at that step, given its outputs and its task's loss."""
        teacher = self._ask(batch, step)
        weight = self.settings["weight"] * min(1.0, (step + 1) / max(self.warmup_steps, 1.0))

        def objective(outputs: Outputs, task_loss: Tensor) -> Tensor:
            student = self.features[0].take() if self.features else outputs["logits"]
            with torch.autocast(self.target.device.type, enabled=False):
                loss = LOSSES[self.method](student.float(), teacher, batch["labels"], self.settings)
            self.loss_sum += loss.detach()
            self.num_losses += 1
            return self.settings["ce_weight"] * task_loss + weight * loss

        return objective

    @torch.no_grad()
    def _ask(self, batch: Batch, step: int) -> Tensor:
        """The teacher's logits or features for a batch, fp32. One that draws in evaluation mode does so by the step."""
        self.source.network.eval()
        drawing = Stream(self.config.seed, f"teacher/{step}", self.source.device)
        with drawing.active(), self.source.autocast():
            outputs = self.source.task.forward(self.source.network, batch)
        return (self.features[1].take() if self.features else outputs["logits"]).float()

    def check_finite(self, step: int) -> None:
        """Raises TrainingDiverged once the loss stops being a number, on all workers alike."""
        total = distributed.sum_(self.loss_sum.clone()).item()
        if not math.isfinite(total):
            way_out = (
                f"lower distillation.weight ({self.settings['weight']:g}) or target.optimizer.lr "
                f"({self.target.config.optimizer.lr:g})"
            )
            raise TrainingDiverged(
                f"the loss of method {self.method} became {total} by step {step}; {cure(self.config, way_out)}"
            )

    def metrics(self) -> dict[str, float]:
        """The mean of the method's loss since the last call, over all workers, without its weight."""
        pair = torch.stack([self.loss_sum.double(), torch.tensor(float(self.num_losses), device=self.loss_sum.device)])
        total, count = distributed.sum_(pair).tolist()
        self.loss_sum.zero_()
        self.num_losses = 0
        return {"distillation_loss": total / max(count, 1)}


def check_tasks(method: str, target: Learner, source: Learner) -> None:
    """Checks what the configuration alone does not show: inputs, outputs, labels and the size of a worker's share."""
    must = f"method must be mergenet or none for {{}}, got {method!r}, which compares "
    for learner in (target, source):
        spec, what = learner.task.spec, "class logits" if method not in FEATURE_METHODS else "features of classes"
        if spec.outputs != CLASSES:
            raise ConfigError(must.format(f"{learner.role}.task {learner.config.task} ({spec.outputs})") + what)
    if _inputs(target.task.spec) != _inputs(source.task.spec):
        raise ConfigError(
            f"source.task must take the inputs of target.task {target.config.task} for method {method}, "
            f"got {source.config.task!r}; the source is shown the target's batches"
        )
    labels = target.task.batch("train", torch.arange(1), target.device).get("labels")
    if method in NEED_LABELS and (labels is None or labels.shape != (1,) or labels.is_floating_point()):
        raise ConfigError(must.format(f"target.task {target.config.task}") + "the label's class with the others")
    if method in FEATURE_METHODS and target.batches.batch_size < 2 * distributed.world_size():
        raise ConfigError(
            f"target.batch_size must be at least 2 examples a worker for method {method}, which compares examples, "
            f"got {target.batches.batch_size}"
        )


def _inputs(spec: Spec) -> Spec:
    return dataclasses.replace(spec, outputs="", num_outputs=0)
