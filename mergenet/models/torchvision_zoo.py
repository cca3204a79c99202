"""torchvision's classification networks by the names that torchvision gives them, e.g. "torchvision/vit_b_16"."""

import re
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mergenet.config.spec import Spec
from mergenet.errors import ConfigError
from mergenet.models._torchvision import Later

models = Later("torchvision.models")

PREFIX = "torchvision/"
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # auxiliary heads that GoogLeNet and Inception have in training only
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\.\w+)$")  # norm.1 is norm1 now


def torchvision_names() -> list[str]:
    return [PREFIX + name for name in models.list_models(module=import_module("torchvision.models"))]


def torchvision_classifier(name: str, spec: Spec) -> nn.Module:
    """The network as torchvision initialises it, for the task's classes and image size.

    GoogLeNet and Inception come without their auxiliary heads.
    Raises ConfigError for images that the network cannot take.
    """
    try:
        model: nn.Module = models.get_model(
            name.removeprefix(PREFIX), num_classes=spec.num_outputs, **_options(name, spec.image_size)
        )
        _pass_shapes(model, spec)
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(f"data.image_size must suit {name}, got {spec.image_size}: {reason}") from None
    return model


def as_built(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Entries of a published file under their names in today's network, without the auxiliary heads."""
    renamed = {_OLD_DENSENET.sub(r"\1\2", name): value for name, value in weights.items()}
    return {name: value for name, value in renamed.items() if not name.startswith(_AUXILIARY)}


def _options(name: str, image_size: int) -> dict[str, Any]:
    if name.startswith(f"{PREFIX}vit_"):
        return {"image_size": image_size}
    if name.startswith(f"{PREFIX}maxvit_"):
        return {"input_size": (image_size, image_size)}
    if name in (f"{PREFIX}googlenet", f"{PREFIX}inception_v3"):
        return {"aux_logits": False, "init_weights": True}
    return {}


def _pass_shapes(model: nn.Module, spec: Spec) -> None:
    """A forward pass without arithmetic or random numbers; it fails where the shapes do not fit."""
    state = {key: torch.empty_like(value, device="meta") for key, value in model.state_dict().items()}
    model.eval()
    functional_call(model, state, tuple(value.to("meta") for value in spec.example(1)))
    model.train()
