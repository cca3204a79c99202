"""One network that trains by itself: its task, network, optimizer, batch stream and random streams.

Source and target are two of these; neither knows about the other.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mergenet.config import Config, NetworkConfig
from mergenet.errors import ConfigError, DataError, TrainingDiverged
from mergenet.learner import distributed
from mergenet.learner.dry_run import DryRun, check_state, dry_run, is_own, place
from mergenet.learner.optim import build_optimizer, clear_gradients, learning_rate, set_rate
from mergenet.learner.own_task import is_own_task, measure, try_metrics
from mergenet.learner.rng import Stream
from mergenet.learner.usual_ranges import cure
from mergenet.models import build_model, check_words
from mergenet.tasks import Batch, Outputs, Task, build_task, similar_task

EVAL_BATCH = 256  # examples; fixed, so that evaluation does not depend on the training batch

Objective = Callable[[Outputs, Tensor], Tensor]  # (outputs, the task's loss) -> what a step minimises


def task_loss(_: Outputs, loss: Tensor) -> Tensor:
    """The objective without distillation: the task's loss."""
    return loss


def set_up(config: Config) -> torch.device:
    """Sets this process's threads and determinism as the configuration says; returns the device."""
    torch.set_num_threads(config.threads)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(config.deterministic, warn_only=True)
    return distributed.resolve_device(config.device)


def steps_per_epoch(config: Config) -> int:
    """Optimizer steps per epoch: one pass over the target's training data; the source takes as many."""
    with errors_of("target"):
        size = similar_task(config.target).size("train")
    return max(1, size // config.target.batch_size)


@contextmanager
def errors_of(role: str) -> Iterator[None]:
    """Puts "source" or "target" before the paths of the values that an error names and would set."""
    try:
        yield
    except (ConfigError, DataError) as error:
        own = str(error).startswith(("model.", "data.", "task ", "task:", "batch_size "))
        text = str(error).replace("; set model.", f"; set {role}.model.")
        raise type(error)(f"{role}.{text}" if own else text) from None


def draws_as_ever(config: NetworkConfig, task: Task, network: nn.Module) -> bool:
    """Whether a network is known to draw in each step of training or in none: it, its layers and its task are ours or
    torchvision's, with layers of torch. Others may begin at any step.
    """
    parts = {type(part).__module__.partition(".")[0] for part in (task, *network.modules())}
    made = {"torchvision", "mergenet"}
    return not is_own(config.model) and parts <= {"torch", *made} and type(network).__module__.partition(".")[0] in made


class BatchStream:
    """Endless shuffled batches of indices; a new permutation each pass, the incomplete last batch dropped."""

    def __init__(self, size: int, batch_size: int, stream: Stream) -> None:
        self.size, self.batch_size, self.stream = size, min(batch_size, size), stream
        self.order = torch.empty(0, dtype=torch.int64)
        self.position = 0

    def next(self) -> Tensor:
        if self.position + self.batch_size > len(self.order):
            with self.stream.active():
                self.order = torch.randperm(self.size)
            self.position = 0
        self.position += self.batch_size
        return self.order[self.position - self.batch_size : self.position]

    def state_dict(self) -> dict[str, Any]:
        return {"order": self.order, "position": self.position, "stream": self.stream.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.order, self.position = state["order"], state["position"]
        self.stream.load_state_dict(state["stream"])


def reads_data(role: str, run: Config) -> bool:
    """Whether the network sees examples: all but a frozen source of which only the weights are used."""
    return role == "target" or run.source.kind != "frozen" or run.method not in ("mergenet", "none")


class Learner:
    """One of the two networks with everything it needs for a self-learning step.

    role: "source" or "target"; names the random streams and the metrics.
    prepare: called with the plain network before optimizer and DDP exist (factorized layers are made there).
    network: one that is there already, instead of a new one.
    """

    def __init__(
        self,
        role: str,
        config: NetworkConfig,
        run: Config,
        device: torch.device,
        prepare: Callable[[nn.Module], None] = lambda _: None,
        network: nn.Module | None = None,
    ) -> None:
        self.role, self.config, self.run, self.device = role, config, run, device
        seed = run.seed if config.seed is None else config.seed
        with errors_of(role):
            if reads_data(role, run):
                check_words(config.model, config.data.tokenizer)
            self.task: Task = build_task(config)
            batch_size = min(config.batch_size, self.task.size("train"))
            self.amp = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[run.amp]

            def build() -> nn.Module:
                with Stream(seed, f"{role}/init").active():
                    made = build_model(config.model, self.task.spec)
                if role == "target" or run.source.kind != "frozen":  # of what does not learn no checkpoint is written
                    check_state(made)
                prepare(made)
                return made

            self.network: nn.Module = build() if network is None else network
            learns = network is None and (role == "target" or run.source.kind != "frozen")
            if learns and not any(parameter.requires_grad for parameter in self.network.parameters()):
                raise ConfigError(
                    f"model.name: {config.model.name} must make a network that learns, got one with no parameter that "
                    "does (requires_grad)"
                )
            tried, share = DryRun(), batch_size // distributed.world_size()
            single = learns and share < 2 and any(isinstance(m, _BatchNorm) for m in self.network.modules())
            formats = is_own(config.model) or single
            if formats or (learns and distributed.world_size() > 1):
                batch_of, made = self._trial_batches(max(1 if learns else 2, share)), self.network if learns else None
                tried = dry_run(build, self.task, batch_of, device, self.autocast(), made, config.model.name, formats)
            if learns and is_own_task(config.task, self.task):
                twin = build()
                place(twin, device, tried.channels_last)
                try_metrics(config.task, self.task, twin, device)
        self.idle = tried.idle
        self.layout = place(self.network, device, tried.channels_last)
        named = self.network.named_parameters(remove_duplicate=False)
        unused = any(parameter.requires_grad and name in tried.left_out for name, parameter in named)
        self.model = distributed.wrap(self.network, device, unused).train()
        self.optimizer = build_optimizer(config.optimizer, self.network.parameters())
        self.scaler = torch.amp.GradScaler(device.type, enabled=run.amp == "fp16")
        self.augmenting = Stream(seed, f"{role}/augment")
        self.drawing = config.augment or ":" in config.task  # a task of the user's may draw even if it need not
        self.forwarding = Stream(seed, f"{role}/forward", device)
        self.dropping = True  # until a step has shown that this network draws nothing in training
        self.known = device.type == "cpu" and draws_as_ever(config, self.task, self.network)
        self.batches = BatchStream(self.task.size("train"), batch_size, Stream(seed, f"{role}/data"))
        self.loss_sum, self.num_losses = torch.zeros((), device=device), 0
        if self.batches.batch_size % distributed.world_size():
            raise ConfigError(
                f"{role}.batch_size must be divisible by the number of workers ({distributed.world_size()}), "
                f"got {self.batches.batch_size}"
            )

    def _trial_batches(self, count: int) -> Callable[[int], Batch]:
        """The training batch of each step of a dry run, of that many examples."""

        def batch_of(step: int) -> Batch:
            index = torch.arange(step * count, (step + 1) * count) % self.task.size("train")
            with Stream(0, "dry run/batch").active():  # for tasks that draw
                return self.task.batch("train", index, self.device)

        return batch_of

    @property
    def metric(self) -> str:
        """The column that selects the best epoch; higher is better."""
        return f"{self.role}_val_{self.task.metric}"

    def set_rate(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        lr = learning_rate(self.config.optimizer, step, total_steps, steps_per_epoch)
        set_rate(self.optimizer, lr)
        return lr

    def next_batch(self) -> Batch:
        """This worker's share of the next batch. The whole batch is drawn, so that draws do not depend on the share."""
        index = self.batches.next()
        with self.augmenting.active() if self.drawing else nullcontext():
            batch = self.task.batch("train", index, self.device, augment=self.config.augment)
        workers = distributed.world_size()
        return {k: v[distributed.rank() :: workers] for k, v in batch.items()} if workers > 1 else batch

    def backward(self, batch: Batch | None = None, objective: Objective = task_loss) -> None:
        """Forward and backward on a batch, by default the next; gradients are left unscaled in `.grad`."""
        batch = self.next_batch() if batch is None else batch
        if not self.network.training:  # not each time: the walk over all modules costs a small network a percent
            self.model.train()
        clear_gradients(self.optimizer)
        before = self.forwarding.state
        with self.forwarding.active() if self.dropping else nullcontext(), self.autocast():
            outputs = self.task.forward(self.model, batch)
            loss = self.task.loss(outputs, batch)
            total = objective(outputs, loss)
        if self.dropping and self.known:  # entering a stream takes a small network a percent of its step
            self.dropping = not torch.equal(before, self.forwarding.state)
        if self.scaler.is_enabled():
            self.scaler.scale(total).backward()
            self.scaler.unscale_(self.optimizer)
        else:
            total.backward()
        distributed.check_reduced(self.model, f"{self.role}.model.name: {self.config.model.name}")
        self.loss_sum += loss.detach()
        self.num_losses += 1

    def update(self) -> bool:
        """One optimizer step. False if mixed precision skipped it because a gradient overflowed."""
        if self.config.optimizer.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimizer.clip_norm)
        if not self.scaler.is_enabled():
            self.optimizer.step()
            return True
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.scaler.get_scale() >= scale

    def check_finite(self, step: int) -> None:
        """Raises TrainingDiverged once the loss stops being a number, on all workers alike."""
        total = (distributed.sum_(self.loss_sum.clone()) if distributed.world_size() > 1 else self.loss_sum).item()
        if not math.isfinite(total):
            way_out = f"lower {self.role}.optimizer.lr ({self.config.optimizer.lr:g})"
            if self.run.method == "mergenet":
                way_out += ", or transfer.adapter.gate if it happens with transfer only"
            raise TrainingDiverged(f"{self.role} loss became {total} by step {step}; {cure(self.run, way_out)}")

    def mean_loss(self) -> float:
        """Mean training loss since the last call, over all workers."""
        pair = torch.stack([self.loss_sum.double(), torch.tensor(float(self.num_losses), device=self.device)])
        total, count = distributed.sum_(pair).tolist()
        self.loss_sum.zero_()
        self.num_losses = 0
        return total / max(count, 1)

    def results(self) -> dict[str, float]:
        """The results of an epoch that has just ended: training loss, and every metric on the validation split."""
        values = {f"{self.role}_train_loss": self.mean_loss()}
        return values | {f"{self.role}_val_{k}": v for k, v in self.evaluate("val").items()}

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, float]:
        """Metrics on a whole split in fp32 and evaluation mode; the workers share the examples.

        BatchNorm statistics of the workers differ since the last forward pass; rank 0's are saved, so they count.
        """
        for buffer in self.network.buffers():
            distributed.broadcast_(buffer)
        self.network.eval()
        size, workers = self.task.size(split), distributed.world_size()
        scores: dict[str, Tensor] = {}
        with Stream(0, f"{self.role}/evaluate", self.device).active():  # for networks that draw in evaluation mode, too
            for start in range(EVAL_BATCH * distributed.rank(), size, EVAL_BATCH * workers):
                index = torch.arange(start, min(start + EVAL_BATCH, size))
                for name, part in self._score(split, index).items():
                    whole = scores.setdefault(name, part.new_zeros((size, *part.shape[1:])))
                    whole[index.to(whole.device)] = part
        if workers > 1:
            scores = self._gather(split, scores)
        with errors_of(self.role), Stream(0, f"{self.role}/metrics").active():
            return measure(self.config.task, self.task, split, {name: value.cpu() for name, value in scores.items()})

    def _score(self, split: str, index: Tensor) -> dict[str, Tensor]:
        batch = self.task.batch(split, index, self.device)
        return self.task.score(self.task.forward(self.network, batch), batch)

    def _gather(self, split: str, scores: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each worker's rows, zeros elsewhere, added up. A worker without rows learns their shapes from an example."""
        size = self.task.size(split)
        zeros = {k: v.new_zeros((size, *v.shape[1:])) for k, v in self._score(split, torch.arange(1)).items()}
        return {name: distributed.sum_(scores.get(name, zeros[name])) for name in sorted(zeros)}

    @torch.no_grad()
    def recalibrate(self, num_batches: int) -> None:
        """Re-estimate BatchNorm statistics on training batches drawn outside the training streams [ours].

        Layers that the network keeps in evaluation mode when it trains keep their statistics.
        """
        self.network.train()
        norms = [
            m for m in self.network.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats
        ]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over the batches
        batches = BatchStream(self.batches.size, self.batches.batch_size, Stream(0, f"{self.role}/recalibrate"))
        with Stream(0, f"{self.role}/recalibrate/forward", self.device).active():
            for index in [batches.next() for _ in range(num_batches)]:
                self.task.forward(self.network, self.task.batch("train", index, self.device))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "batches": self.batches.state_dict(),
            "augmenting": self.augmenting.state_dict(),
            "forwarding": self.forwarding.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.batches.load_state_dict(state["batches"])
        self.augmenting.load_state_dict(state["augmenting"])
        self.forwarding.load_state_dict(state["forwarding"])

    def autocast(self) -> AbstractContextManager[None]:
        return nullcontext() if self.amp is None else torch.autocast(self.device.type, dtype=self.amp)
