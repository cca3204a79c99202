"""Independent random streams: one each for initialisation, data order, augmentation, dropout, per network.

Adding, removing or replaying the source therefore never shifts what the target draws (METHOD: random streams).
torch's layers draw from its global generators, so a stream sets their state while it is active.
"""

import hashlib

import torch
from torch import Tensor


def stream_seed(seed: int, name: str) -> int:
    """A 63-bit seed that depends on both the run's seed and the stream's name, e.g. "target/augment"."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Stream:
    """A named random stream. Inside `with stream:` torch's global generators continue this stream."""

    def __init__(self, seed: int, name: str, device: torch.device | None = None) -> None:
        self.cuda = device if device is not None and device.type == "cuda" else None
        value = stream_seed(seed, name)
        self.state = torch.Generator().manual_seed(value).get_state()
        if self.cuda is not None:
            self.cuda_state = torch.Generator(self.cuda).manual_seed(value).get_state()

    def active(self) -> "Active":
        return Active(self)

    def state_dict(self) -> dict[str, Tensor]:
        state = {"cpu": self.state}
        return state | {"cuda": self.cuda_state} if self.cuda is not None else state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.state = state["cpu"]
        if self.cuda is not None and "cuda" in state:
            self.cuda_state = state["cuda"]


class Active:
    """While entered, torch's global generators continue the stream. A class: a step enters it within microseconds."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        cuda = self.stream.cuda
        self.outer = torch.get_rng_state()
        self.outer_cuda = None if cuda is None else torch.cuda.get_rng_state(cuda)
        torch.set_rng_state(self.stream.state)
        if cuda is not None:
            torch.cuda.set_rng_state(self.stream.cuda_state, cuda)

    def __exit__(self, *_: object) -> None:
        cuda = self.stream.cuda
        self.stream.state = torch.get_rng_state()
        torch.set_rng_state(self.outer)
        if cuda is not None and self.outer_cuda is not None:
            self.stream.cuda_state = torch.cuda.get_rng_state(cuda)
            torch.cuda.set_rng_state(self.outer_cuda, cuda)
