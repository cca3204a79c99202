"""Export of a run's target: the plain network, with the layers, parameters and speed it has without MergeNet.

Each format is written beside its place, loaded again, compared with the network on random images, and only then
renamed: a file that exists has been checked.
"""

import io
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mergenet.checkpoint import load_tensors, tensor_bytes
from mergenet.config import ModelConfig
from mergenet.configfile import load_config
from mergenet.errors import CheckpointError, ConfigError, UserError, unknown_name
from mergenet.files import beside, remove, sync_folder, write_synced
from mergenet.layers import to_weight
from mergenet.models import build_model
from mergenet.record import BEST_FILE, CONFIG_FILE

TOLERANCE = 1e-5  # of the largest output: what the loaded file may deviate by
_FACTORS = ".parametrizations.weight.original"
_KEPT = ("mean", "std", "class_names")  # JSON lists that best.safetensors may carry
_MAX_TEXT = 65_536  # characters; a longer value (names of very many classes) is left out


class ExportError(UserError):
    """A file could not be exported, or does not compute what the network computes."""


@dataclass(frozen=True)
class Target:
    network: nn.Module  # plain, eval mode, on the CPU
    image_size: int  # pixels
    metadata: dict[str, str]

    def images(self, count: int) -> Tensor:
        """Random images (count, 3, H, W), the same at every call; global random streams are left alone."""
        shape = count, 3, self.image_size, self.image_size
        return torch.randn(shape, generator=torch.Generator().manual_seed(count))


@dataclass(frozen=True)
class Format:
    suffix: str
    make: Callable[[Target], bytes]  # the file's content
    load: Callable[[Target, Path], Callable[[Tensor], Tensor]]  # the written file as a function of images


def export_run(run_folder: Path, format: str, out: Path | None = None) -> Path:
    """Write the target of a run, at its best epoch, as a checked file; returns its path.

    format: one of FORMATS. out: file or folder; default: `target.<suffix>` in the run folder.
    Raises ConfigError for an unknown format, CheckpointError if the folder has no usable network, ExportError
    if the file cannot be made or deviates by more than TOLERANCE.
    """
    if format not in FORMATS:
        raise ConfigError(unknown_name("format", format, FORMATS))
    kind = FORMATS[format]
    target = load_target(Path(run_folder))
    path = Path(out or run_folder)
    if path.is_dir():
        path = path / f"target{kind.suffix}"
    temporary = beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_synced(temporary, kind.make(target))
        check(target, kind.load(target, temporary), path)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise ExportError(f"{path} could not be written: {error.strerror or error}") from error
    finally:
        remove(temporary)
    return path


def load_target(run_folder: Path) -> Target:
    """The plain target network of a run at its best epoch.

    Raises CheckpointError if the run has none yet, or if its weights do not fit the architecture.
    """
    if not (run_folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"{run_folder} must be a run folder, but has no {CONFIG_FILE}")
    config = load_config(str(run_folder / CONFIG_FILE)).target
    best = run_folder / BEST_FILE
    if not best.is_file():
        raise CheckpointError(f"{run_folder} must hold {BEST_FILE}, which is written after the first epoch")
    state, metadata = load_tensors(best)
    if not metadata.get("num_outputs", "").isdigit():
        raise CheckpointError(f"{best} must name num_outputs in its metadata, got {metadata!r}")
    with torch.random.fork_rng(devices=[]):  # initialising draws from the caller's stream
        network = build_model(config.model.model_copy(update={"weights": None}), int(metadata["num_outputs"]))
    plain = plain_state(state, network.state_dict())
    check_fits(plain, network.state_dict(), best)
    network.load_state_dict(plain)
    size = config.data.image_size
    return Target(network.eval(), size, describe(config.model, size, metadata))


def describe(model: ModelConfig, image_size: int, metadata: Mapping[str, str]) -> dict[str, str]:
    """What a user of the file must know: architecture, input, normalisation, class names."""
    size = [3, image_size, image_size]
    facts = {"architecture": model.name, "stem": model.stem, "num_outputs": metadata["num_outputs"]}
    kept = {name: metadata[name] for name in _KEPT if 0 < len(metadata.get(name, "")) <= _MAX_TEXT}
    return facts | {"input_size": json.dumps(size)} | kept


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


@torch.no_grad()
def check(target: Target, loaded: Callable[[Tensor], Tensor], path: Path) -> None:
    """Raises ExportError unless the loaded file computes what the network does, for batches of 1 and of 3."""
    for count in (1, 3):
        images = target.images(count)
        expected, found = target.network(images), loaded(images)
        scale = expected.abs().max().item()
        error = (found - expected).abs().max().item() if found.shape == expected.shape else float("inf")
        if not error <= TOLERANCE * scale:  # written so that NaN fails
            raise ExportError(
                f"{path} was not written: its outputs must be within {TOLERANCE:g} of the network's largest "
                f"({scale:.3g}), but are off by {error:.3g}"
            )


def _make_safetensors(target: Target) -> bytes:
    return tensor_bytes(target.network.state_dict(), target.metadata)


def _load_safetensors(target: Target, path: Path) -> Callable[[Tensor], Tensor]:
    state, _ = load_tensors(path)
    return lambda images: torch.func.functional_call(target.network, state, (images,), strict=True)


def _program(target: Target) -> torch.export.ExportedProgram:
    """The network as a graph with any batch size, free of source paths of this machine."""
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        program = torch.export.export(target.network, (target.images(2),), dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _make_torch_export(target: Target) -> bytes:
    file = io.BytesIO()
    torch.export.save(_program(target), file, extra_files={"metadata.json": json.dumps(target.metadata)})
    return file.getvalue()


def _load_torch_export(_: Target, path: Path) -> Callable[[Tensor], Tensor]:
    module: nn.Module = torch.export.load(path).module()
    return module


def _make_onnx(target: Target) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            _program(target),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["outputs"],
        )
    assert program is not None
    program.model.metadata_props.update(target.metadata)
    return program.model_proto.SerializeToString()


def _load_onnx(_: Target, path: Path) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError("format onnx needs onnxruntime to check the file; pip install onnxruntime") from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


FORMATS: dict[str, Format] = {
    "safetensors": Format(".safetensors", _make_safetensors, _load_safetensors),
    "torch-export": Format(".pt2", _make_torch_export, _load_torch_export),
    "onnx": Format(".onnx", _make_onnx, _load_onnx),
}
