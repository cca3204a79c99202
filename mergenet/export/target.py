"""The plain target network of a run at its best epoch, without any part of MergeNet."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mergenet.config import ModelConfig
from mergenet.config.loading import load_config
from mergenet.config.spec import IMAGE, Spec
from mergenet.errors import CheckpointError, ConfigError
from mergenet.layers.matrices import to_weight
from mergenet.models import build_model, find_architecture, weights_file
from mergenet.records.checkpoint import load_tensors
from mergenet.records.inputs import warn_of_other_code
from mergenet.records.run_record import BEST_FILE, CONFIG_FILE, PROVENANCE_FILE, SPEC, read_provenance

_FACTORS = ".parametrizations.weight.original"
_MAX_TEXT = 4_194_304  # characters; a longer value (names of very many classes) is left out


@dataclass(frozen=True)
class Target:
    network: nn.Module  # plain, eval mode, on the CPU
    spec: Spec
    metadata: dict[str, str]


def load_target(run_folder: Path) -> Target:
    """The plain target network of a run at its best epoch. Warns if it is built by other code than it was trained with.

    Raises CheckpointError if the run has none yet, or if its weights do not fit the architecture.
    """
    if not (run_folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"{run_folder} must be a run folder, but has no {CONFIG_FILE}")
    whole = load_config(str(run_folder / CONFIG_FILE))
    if (run_folder / PROVENANCE_FILE).is_file():
        warn_of_other_code(run_folder, read_provenance(run_folder), whole)
    config = whole.target
    best = run_folder / BEST_FILE
    if not best.is_file():
        again = f"mergenet train {shlex.quote(str(run_folder / CONFIG_FILE))} --out ANOTHER"
        raise CheckpointError(
            f"{run_folder} must hold {BEST_FILE}, which is written after the first epoch with a finite metric; if it "
            f"is lost: {again}"
        )
    state, metadata = load_tensors(best)
    try:
        spec = Spec.from_json(metadata.get(SPEC, ""))
    except (ValueError, TypeError):
        raise CheckpointError(f"{best} must hold the network's {SPEC} in its metadata, got {metadata!r}") from None
    with torch.random.fork_rng(devices=[]):  # initialising would draw from the caller's random stream
        network = build_model(without_weights(config.model, best), spec)
    plain = plain_state(state, network.state_dict())
    check_fits(plain, network.state_dict(), best)
    network.load_state_dict(plain)
    return Target(network.eval(), spec, describe(config.model, spec, metadata))


def without_weights(model: ModelConfig, best: Path) -> ModelConfig:
    """The configuration that builds the same architecture and needs no weights.

    A folder that gives the architecture its sizes stays; raises CheckpointError if it is gone.
    """
    if model.weights is None or not find_architecture(model.name).sized_by_folder:
        return model.model_copy(update={"weights": None})
    try:
        path = weights_file(model)
    except ConfigError:
        raise CheckpointError(
            f"{best} is of a {model.name} that has its sizes from {model.weights!r}, which is not there any more; "
            "put it back, its config.json is needed"
        ) from None
    return model if path is not None and path.is_dir() else model.model_copy(update={"weights": None})


def describe(model: ModelConfig, spec: Spec, metadata: Mapping[str, str]) -> dict[str, str]:
    """What a user of the file needs to know: architecture, inputs and outputs, and the task's metadata."""
    facts = {"architecture": model.name, "stem": model.stem} if spec.inputs == IMAGE else {"architecture": model.name}
    facts |= {"num_outputs": str(spec.num_outputs), SPEC: spec.to_json()}
    if spec.image_size:
        facts["input_size"] = json.dumps([3, spec.image_size, spec.image_size])
    kept = {k: v for k, v in metadata.items() if k != SPEC and 0 < len(v) <= _MAX_TEXT}
    return kept | facts


def plain_state(state: Mapping[str, Tensor], plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in which each factorized weight B A is one tensor again.

    plain: the plain network's state dict; its shapes tell a convolution's factors (o kh x R), (R x i kw) from a
    linear layer's. Other entries pass unchanged. Raises CheckpointError if B A does not fit the plain weight.
    """
    result = {name: tensor for name, tensor in state.items() if _FACTORS not in name}
    for name in state:
        if not name.endswith(f"{_FACTORS}0"):
            continue
        layer = name.removesuffix(f"{_FACTORS}0")
        left, right, weight = state[name], state.get(f"{layer}{_FACTORS}1"), plain.get(f"{layer}.weight")
        if right is None or weight is None:
            raise CheckpointError(f"{layer} must have two factors and be a layer of the plain network")
        if left.shape[1] != right.shape[0] or left.shape[0] * right.shape[1] != weight.numel():
            raise CheckpointError(
                f"{layer}.weight must be {tuple(weight.shape)}, "
                f"got factors {tuple(left.shape)} and {tuple(right.shape)}"
            )
        result[f"{layer}.weight"] = to_weight(left @ right, weight.shape).contiguous()
    return result


def check_fits(state: Mapping[str, Tensor], plain: Mapping[str, Tensor], path: Path) -> None:
    """Raises CheckpointError, naming the first differences, unless all names and shapes agree."""
    wrong = [f"{name} is missing" for name in plain if name not in state]
    wrong += [f"{name} is not in the network" for name in state if name not in plain]
    wrong += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(plain[name].shape)}"
        for name in plain
        if name in state and state[name].shape != plain[name].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"{path} must fit the target network of {CONFIG_FILE}: {', '.join(wrong[:3])}{more}")
