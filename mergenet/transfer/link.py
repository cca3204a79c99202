"""One direction of a transfer pair: factor of a giving layer -> adapter -> factor of a receiving layer."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mergenet.config import TransferConfig
from mergenet.errors import TrainingDiverged
from mergenet.learner import distributed
from mergenet.learner.learner import Learner
from mergenet.learner.optim import adapter_rate, decay_groups, set_rate, stale_state
from mergenet.learner.rng import Stream
from mergenet.learner.usual_ranges import cure
from mergenet.transfer.adapter import Adapter, rms
from mergenet.transfer.encodings import Receiving
from mergenet.transfer.giver import Giver

RMS_BOUNDS = 1e-3, 1e3  # [ours] a factor outside these multiples of its starting RMS has collapsed or diverged
SMALL_START = 0.1  # [ours] x 1 / sqrt(n), n columns: growth of a factor that starts smaller, or at 0, counts from here


@dataclass
class PendingTransfer:
    """A transfer whose adapter has not learned from it yet.

    answer: A', with its graph (rank 0 only); written: its values, on every worker.
    before: what is needed to compute the same answer again after a restart.
    rates: sum of the receiver's learning rates over the optimizer steps taken since.
    gradient: dL/dA at the transferred point, once known (rule `gradient`).
    """

    step: int
    answer: Tensor | None
    written: Tensor
    gate: float
    before: dict[str, Any]
    rates: float = 0.0
    gradient: Tensor | None = None


class Link:
    """One direction of a pair with an adapter, an optimizer and random streams of its own."""

    def __init__(
        self,
        name: str,
        giver: Giver,
        receiver: Receiving,
        learner: Learner,
        config: TransferConfig,
        every: int,
        seed: int,
    ) -> None:
        self.name, self.giver, self.receiver, self.learner = name, giver, receiver, learner
        self.config, self.every, self.seed = config, every, seed
        shape = receiver.factor_shape if config.control == "none" else giver.shape
        with Stream(seed, f"{name}/init").active():
            self.adapter = Adapter(receiver.factor_shape, shape, config.adapter).to(learner.device)
        self.optimizer = torch.optim.AdamW(decay_groups(self.adapter, config.update.weight_decay), lr=config.update.lr)
        self.dropping = Stream(seed, f"{name}/dropout", learner.device)
        self.noise = Stream(seed, f"{name}/noise")
        with Stream(seed, f"{name}/shuffle").active():
            self.shuffle = torch.randperm(shape[0] * shape[1]) if config.control == "shuffled" else None
        self.start_rms = rms(receiver.read()).item()
        self.open: PendingTransfer | None = None
        self.last: tuple[Tensor, Tensor] | None = None  # what the adapter saw at the last transfer
        self.num_transfers = 0
        self.losses: list[float] = []

    def ask(self, step: int) -> PendingTransfer:
        """A' = M({A_s, A_l}); only rank 0 computes it, every worker gets its values."""
        target = self.receiver.read()
        source = self._shown(step, target)
        before = {
            "target": target,
            "source": source,
            "dropping": self.dropping.state_dict(),
            "buffers": {k: v.clone() for k, v in self.adapter.named_buffers()},
        }
        answer = self._answer(target, source) if distributed.is_main() else None
        written = distributed.broadcast_(target.clone() if answer is None else answer.detach().clone())
        gate = distributed.broadcast_(self.adapter.gate.detach().clone()).item()
        self.last = target, source
        return PendingTransfer(step, answer, written, gate, before)

    def write(self, pending: PendingTransfer) -> None:
        """Copies A' into the receiver in place and applies the optimizer-state policy."""
        self._guard(pending)
        self.receiver.write_(pending.written)
        pending.written = self.receiver.read()  # as it stands there, rounded: the delta is measured from this
        stale_state(
            self.learner.optimizer,
            self.receiver.weight_parameter,
            self.config.optimizer_state,
            pending.gate,
        )
        self.open = pending
        self.num_transfers += 1

    def learn(self, vector: Tensor, done: float) -> None:
        """One adapter step along the vector-Jacobian product of the answer with `vector`."""
        assert self.open is not None
        if self.open.answer is not None:
            update = self.config.update
            self.optimizer.zero_grad(set_to_none=True)
            self.open.answer.backward(vector)
            nn.utils.clip_grad_norm_(self.adapter.parameters(), update.clip_norm)
            set_rate(self.optimizer, adapter_rate(update.lr, update.warmup_fraction, done))
            self.optimizer.step()
        self.open = None

    @torch.no_grad()
    def dependence(self) -> float:
        """How far the last transfer's answer depends on the source [ours]: |f(A,S) - f(A,noise)| / |f(A,S)|.

        f is the adapter as it is now, without dropout; the noise has the RMS of S. 0: the source is ignored.
        Control none shows no source at all: 0.
        """
        if self.last is None or self.config.control == "none":
            return 0.0
        target, source = self.last
        with Stream(self.seed, f"{self.name}/probe/{self.num_transfers}").active():
            noise = torch.randn(source.shape).to(source) * rms(source)
        self.adapter.eval()
        answer = self.adapter.answer(target, source)
        other = self.adapter.answer(target, noise)
        self.adapter.train()
        return ((answer - other).norm() / answer.norm().clamp_min(1e-12)).item()

    def _answer(self, target: Tensor, source: Tensor) -> Tensor:
        self.adapter.train()
        with torch.enable_grad(), self.dropping.active():
            return self.adapter(target, source)

    def _shown(self, step: int, target: Tensor) -> Tensor:
        """What the adapter sees of the source: the controls of docs/method.md."""
        if self.config.control == "none":
            return target
        source = self.giver.shown(step)
        if self.shuffle is not None:
            return source.flatten()[self.shuffle.to(source.device)].view_as(source)
        if self.config.control == "noise":
            with self.noise.active():
                return torch.randn(source.shape).to(source) * rms(source)
        return source

    def _guard(self, pending: PendingTransfer) -> None:
        value, start, (low, high) = rms(pending.written).item(), self.start_rms, RMS_BOUNDS
        small = SMALL_START * self.receiver.factor_shape[1] ** -0.5
        if low * start <= value <= high * max(start, small):
            return
        grown = value > start and small > start
        ratio = value / (small if grown else max(start, 1e-12))
        reference = f"a small starting RMS ({small:.3g})" if grown else "its starting RMS"
        raise TrainingDiverged(
            f"transfer {self.name} would write a factor of {ratio:.3g} x {reference} at step {pending.step} "
            f"(allowed: {low:g} to {high:g}); {cure(self.learner.run, self._way_out(ratio))}"
        )

    def _way_out(self, ratio: float) -> str:
        """What to change, if every setting is within its usual range, after a factor of that ratio to its start."""
        own = f"{self.learner.role}.optimizer.lr ({self.learner.config.optimizer.lr:g})"
        adapter = f"transfer.update.lr ({self.config.update.lr:g})"
        if not self.config.adapter.rms_match:
            gate = f"transfer.adapter.gate ({self.config.adapter.gate:g})"
            return f"lower {gate} or {adapter}, or set transfer.adapter.rms_match: true"
        # the answer has the RMS that the layer has: if it is a number, the network's own steps brought it there
        return f"lower {own}" if math.isfinite(ratio) else f"lower {adapter} or {own}"

    def state_dict(self) -> dict[str, Any]:
        state = {
            "adapter": self.adapter.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "receiver": self.receiver.state_dict(),
            "giver": self.giver.state_dict(),
            "dropping": self.dropping.state_dict(),
            "noise": self.noise.state_dict(),
            "num_transfers": self.num_transfers,
            "start_rms": self.start_rms,
            "last": self.last,
            "open": None,
        }
        if self.open is not None:
            pending = self.open
            state["open"] = {
                "step": pending.step,
                "written": pending.written,
                "gate": pending.gate,
                "before": pending.before,
                "rates": pending.rates,
            }
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.adapter.load_state_dict(state["adapter"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.receiver.load_state_dict(state["receiver"])
        self.giver.load_state_dict(state["giver"])
        self.noise.load_state_dict(state["noise"])
        self.num_transfers, self.start_rms = state["num_transfers"], state["start_rms"]
        device = self.learner.device
        self.last = None if state["last"] is None else (state["last"][0].to(device), state["last"][1].to(device))
        self.open = self._ask_again(state["open"]) if state["open"] is not None else None
        self.dropping.load_state_dict(state["dropping"])

    def _ask_again(self, state: dict[str, Any]) -> PendingTransfer:
        """The graph of a pending transfer cannot be saved; the same inputs and random state reproduce it."""
        before = state["before"]
        for name, buffer in self.adapter.named_buffers():
            buffer.copy_(before["buffers"][name])
        self.dropping.load_state_dict(before["dropping"])
        device = self.learner.device
        before = before | {"target": before["target"].to(device), "source": before["source"].to(device)}
        answer = self._answer(before["target"], before["source"]) if distributed.is_main() else None
        return PendingTransfer(
            state["step"], answer, state["written"].to(device), state["gate"], before, state["rates"]
        )
