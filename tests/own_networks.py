"""Networks as users write them, named "tests.own_networks:NAME" in configurations."""

import functools
import sys

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from mergenet.config.spec import Spec
from mergenet.models import Architecture
from tests.tiny import PIXELS


class Mlp(nn.Module):
    """Images (N, 3, 8, 8) -> logits."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Linear(PIXELS, 12), nn.Linear(12, 12), nn.Linear(12, spec.num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(torch.relu(self.b(torch.relu(self.a(images.flatten(1))))))


class Viewing(nn.Module):
    """`view` after a convolution, of the images themselves with `early`, in training only with `late`."""

    def __init__(self, spec: Spec, where: str) -> None:
        super().__init__()
        self.where = where
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(256, spec.num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        if self.where == "early":
            images = images.view(images.size(0), -1).view(-1, 3, 8, 8)
        x = self.conv(images).relu()
        return self.fc(x.view(x.size(0), -1) if self.where == "always" or self.training else x.flatten(1))


class Striding(Viewing):
    """Reads the memory of an activation in its order, another one with channels_last: no error, other numbers."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv(images).relu()
        return self.fc(torch.as_strided(x, (x.size(0), 256), (256, 1)))


class Counting(Mlp):
    """Extra state: a dict, or a tensor."""

    def __init__(self, spec: Spec, tensor: bool) -> None:
        super().__init__(spec)
        self.tensor, self.count = tensor, 3

    def get_extra_state(self) -> object:
        return torch.tensor(self.count) if self.tensor else {"count": self.count}

    def set_extra_state(self, state: object) -> None:
        self.count = int(state) if isinstance(state, Tensor) else 0


class Keeping(Mlp):
    """A buffer of any kind; counts its forward passes in one of whole numbers."""

    def __init__(self, spec: Spec, kept: Tensor, persistent: bool = True) -> None:
        super().__init__(spec)
        self.register_buffer("passes", torch.zeros((), dtype=torch.int32))
        self.register_buffer("kept", kept, persistent)

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.passes += 1
        return super().forward(images)


class Failing(Mlp):
    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.a(images))


class Idle(Mlp):
    """Does not use b; `detached`: uses it without gradient."""

    def __init__(self, spec: Spec, detached: bool) -> None:
        super().__init__(spec)
        self.detached = detached

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.a(images.flatten(1)))
        return self.fc(x + self.b(x).detach() if self.detached else x)


class AtTimes(Mlp):
    """Leaves b out of some steps (LayerDrop, arXiv 1909.11556); `says` so to several workers."""

    def __init__(self, spec: Spec, says: bool) -> None:
        super().__init__(spec)
        self.find_unused_parameters = says

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.a(images.flatten(1)))
        dropped = self.training and bool(torch.rand(()) > 0.7)  # not in the trial before training
        return self.fc(x if dropped else torch.relu(self.b(x)))


class Halves(Mlp):
    """Leaves b out of half of the steps, of the one or of the other half."""

    def __init__(self, spec: Spec, upper: bool) -> None:
        super().__init__(spec)
        self.upper = upper

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.a(images.flatten(1)))
        dropped = self.training and bool(torch.rand(()) > 0.5) == self.upper
        return self.fc(x if dropped else x + torch.relu(self.b(x)))


class Experts(Mlp):
    """Leaves b out for the images that it is shown first."""

    known: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.a(images.flatten(1)))
        if self.known is None:
            self.known = images.clone()
        return self.fc(x if torch.equal(images, self.known) else x + torch.relu(self.b(x)))


class Normed(Mlp):
    """Batch normalisation of single values."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.norm = nn.BatchNorm1d(12)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(torch.relu(self.norm(self.a(images.flatten(1)))))


class HeadFirst(nn.Module):
    """Makes its head before the layer below it; images of any size."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(6, spec.num_outputs), nn.Linear(3, 6)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(images.mean(dim=(2, 3)))))


class Unfinite(Mlp):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * float("nan")


class Exiting(Mlp):
    def forward(self, images: Tensor) -> Tensor:  # noqa: ARG002
        sys.exit(0)


def exits(_: Spec) -> nn.Module:
    sys.exit(0)


@functools.cache
def the_same(spec: Spec) -> nn.Module:
    return Mlp(spec)


@functools.cache
def statistics(features: int) -> nn.Module:
    return nn.BatchNorm1d(features, affine=False)


def sharing_statistics(spec: Spec) -> nn.Module:
    """Anew, but for the running mean and variance of its inputs."""
    return nn.Sequential(nn.Flatten(), statistics(PIXELS), nn.Linear(PIXELS, spec.num_outputs))


CONSTANT = torch.ones(4)


def frozen(spec: Spec) -> nn.Module:
    return Mlp(spec).requires_grad_(requires_grad=False)


def with_lazy(spec: Spec, used: bool = True) -> nn.Module:
    network = Mlp(spec)
    setattr(network, "b" if used else "spare", nn.LazyLinear(12))
    return network


def wrapped(spec: Spec, way: str) -> nn.Module:
    """Layer b, whose weight is computed from others."""
    network = Mlp(spec)
    ways = {
        "weight_norm": parametrizations.weight_norm,
        "spectral_norm": parametrizations.spectral_norm,
        "orthogonal": parametrizations.orthogonal,
        "old_weight_norm": nn.utils.weight_norm,
        "old_spectral_norm": nn.utils.spectral_norm,
        "pruned": lambda layer: prune.random_unstructured(layer, "weight", 0.2),
    }
    network.b = ways[way](network.b)
    return network


WAYS = "weight_norm", "spectral_norm", "orthogonal", "old_weight_norm", "old_spectral_norm", "pruned"

NETWORKS = {
    "mlp": Mlp,
    **{f"viewing_{where}": lambda spec, where=where: Viewing(spec, where) for where in ("always", "early", "training")},
    "striding": lambda spec: Striding(spec, "always"),
    "counting": lambda spec: Counting(spec, tensor=False),
    "counting_tensor": lambda spec: Counting(spec, tensor=True),
    "int16": lambda spec: Keeping(spec, torch.arange(4, dtype=torch.int16)),
    "complex64": lambda spec: Keeping(spec, torch.randn(4, dtype=torch.complex64)),
    "complex128": lambda spec: Keeping(spec, torch.randn(4, dtype=torch.complex128)),
    "complex128_made_anew": lambda spec: Keeping(spec, torch.ones(4, dtype=torch.complex128), persistent=False),
    "sparse": lambda spec: Keeping(spec, torch.eye(4).to_sparse()),
    "lazy": with_lazy,
    "lazy_unused": lambda spec: with_lazy(spec, used=False),
    "failing": Failing,
    "head_first": HeadFirst,
    "normed": Normed,
    "unfinite": Unfinite,
    "exiting": Exiting,
    "exits": exits,
    "the_same": the_same,
    "sharing_statistics": sharing_statistics,
    "sharing_constant": lambda spec: Keeping(spec, CONSTANT),
    "without_parameters": lambda _: nn.Flatten(),
    "frozen": frozen,
    "unused": lambda spec: Idle(spec, detached=False),
    "at_times": lambda spec: AtTimes(spec, says=True),
    "at_times_in_silence": lambda spec: AtTimes(spec, says=False),
    "lower_half": lambda spec: Halves(spec, upper=False),
    "upper_half": lambda spec: Halves(spec, upper=True),
    "experts": Experts,
    "detached": lambda spec: Idle(spec, detached=True),
    **{way: lambda spec, way=way: wrapped(spec, way) for way in WAYS},
}
globals().update({name: Architecture(lambda _, spec, make=make: make(spec)) for name, make in NETWORKS.items()})
