"""The knowledge transfer phase: when each link transfers, and when its adapter learns.

At a step t with t mod every == 0 [paper] all due links ask their adapters, then all answers are written, then both
networks take their own step, then the adapters learn.
"""

from collections.abc import Iterable
from typing import Any

import torch

from mergenet.config import TransferConfig
from mergenet.learner import distributed
from mergenet.learner.optim import adapter_rate
from mergenet.transfer.adapter import rms
from mergenet.transfer.link import Link


def stop_step(config: TransferConfig, total_steps: int) -> int:
    """The first step after the last that may transfer."""
    return round(config.stop_fraction * total_steps)


def transfer_steps(config: TransferConfig, every: int, total_steps: int) -> list[int]:
    """The steps of a run at which a link with that cycle transfers."""
    first = -(-config.start_step // every) * every
    return list(range(first, stop_step(config, total_steps), every))


def beyond_the_end(config: TransferConfig, every: int, total_steps: int) -> str:
    """Why a link with that cycle never transfers, for messages."""
    return (
        f"its steps, every {every} from transfer.start_step ({config.start_step}) on, lie beyond "
        f"transfer.stop_fraction ({config.stop_fraction:g}) of a run's {total_steps} steps"
    )


class Transfer:
    """All links of a run. The trainer calls begin, observe and finish once each step, in this order."""

    def __init__(self, links: Iterable[Link], config: TransferConfig, total_steps: int) -> None:
        self.links, self.config, self.total_steps = list(links), config, total_steps
        self.stop_step = stop_step(config, total_steps)

    def due(self, link: Link, step: int) -> bool:
        return step % link.every == 0 and self.config.start_step <= step < self.stop_step

    def updates(self, link: Link) -> list[int]:
        """The steps at which a link transfers, after each of which its adapter learns once."""
        return transfer_steps(self.config, link.every, self.total_steps)

    def reach(self, link: Link) -> float:
        """How far a run's updates can move an adapter, relative to the size of its weights.

        AdamW moves a weight by about its rate at most: sum of rates / RMS of the matrices as they are now. Far below 1
        an adapter stays what it started as.
        """
        update = self.config.update
        done = [step / self.total_steps for step in self.updates(link)]
        moved = sum(adapter_rate(update.lr, update.warmup_fraction, share) for share in done)
        weights = torch.cat([p.detach().flatten() for p in link.adapter.parameters() if p.ndim > 1])
        return moved / rms(weights).item()

    def begin(self, step: int) -> bool:
        """Transfers whatever is due, before the networks' forward passes. True if anything was."""
        for link in self.links:
            if link.open is not None and step - link.open.step >= link.every:
                self._learn(link, step)  # horizon `cycle`: the cycle ends here
        due = [link for link in self.links if self.due(link, step)]
        for link, asked in [(link, link.ask(step)) for link in due]:
            link.write(asked)
        return bool(due)

    def observe(self) -> None:
        """After the backward passes, before the optimizer steps: the gradient at the transferred point."""
        for link in self.links:
            if link.open is not None and self.config.update.rule == "gradient":
                found = link.receiver.grad()
                # the step has left the layer out (LayerDrop): its loss does not depend on it
                link.open.gradient = torch.zeros_like(link.open.written) if found is None else found

    def finish(self, step: int, stepped: dict[str, bool]) -> None:
        """After the optimizer steps. stepped: role -> False if mixed precision skipped its step.

        If the step on the transferred factor was skipped, so is the adapter's.
        """
        for link in self.links:
            if link.open is None:
                continue
            if stepped[link.learner.role]:
                link.open.rates += link.learner.optimizer.param_groups[0]["lr"]
            elif link.open.step == step:
                link.open = None
                continue
            if self.config.update.horizon == "step":
                self._learn(link, step)

    def _learn(self, link: Link, step: int) -> None:
        assert link.open is not None
        if self.config.update.rule == "gradient":
            assert link.open.gradient is not None
            vector = link.open.gradient
        else:
            vector = link.open.written - link.receiver.read()
            link.losses.append(0.5 * vector.square().sum().item())
            if self.config.update.normalize:
                vector = vector / max(link.open.rates, 1e-12)
        link.learn(vector, step / self.total_steps)

    def metrics(self) -> dict[str, float]:
        """num_transfers so far, adapter_loss since the last call, and means over links of the rest.

        That is gate, source_dependence, source_share, and, where there are any, source_change_share and align_r2.
        """
        if not self.links:
            return {}
        losses = [loss for link in self.links for loss in link.losses]
        for link in self.links:
            link.losses = []
        pairs = [(link.adapter.gate.item(), link.dependence()) for link in self.links]
        means = torch.tensor(pairs, dtype=torch.float64, device=self.links[0].learner.device).mean(dim=0)
        gate, dependence = distributed.broadcast_(means).tolist()  # only rank 0's adapters learn
        values = {
            "num_transfers": float(sum(link.num_transfers for link in self.links)),
            "gate": gate,
            "source_dependence": dependence,
        }
        values |= _means([link.giver.metrics() for link in self.links if link.config.control != "none"])
        return values | ({"adapter_loss": sum(losses) / len(losses)} if losses else {})

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for link in self.links for p in link.adapter.parameters())

    def state_dict(self) -> dict[str, Any]:
        return {link.name: link.state_dict() for link in self.links}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for link in self.links:
            link.load_state_dict(state[link.name])


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each column over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    found = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items()}
