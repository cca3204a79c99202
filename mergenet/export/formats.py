"""Export of a run's target: the plain network, with the layers, parameters and speed it has without MergeNet.

Each format is written beside its place, loaded again, compared with the network on random inputs, and only then
renamed: a file that exists has been checked.

    safetensors    the weights, and beside them a Python file that reads them and computes with torch alone
    torch-export   one file for torch.export.load
    onnx           one file for any runtime of ONNX
"""

import io
import json
import shlex
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mergenet.config import ModelConfig
from mergenet.config.loading import load_config
from mergenet.config.spec import EMBEDDING, IMAGE, Spec
from mergenet.errors import CheckpointError, ConfigError, UserError, unknown_name
from mergenet.export import codegen
from mergenet.layers.matrices import to_weight
from mergenet.models import build_model, find_architecture, weights_file
from mergenet.records.atomic import beside, remove, sync_folder, write_synced
from mergenet.records.checkpoint import load_tensors, tensor_bytes
from mergenet.records.inputs import warn_of_other_code
from mergenet.records.run_record import BEST_FILE, CONFIG_FILE, PROVENANCE_FILE, SPEC, read_provenance

TOLERANCE = 1e-5  # how far the loaded file's outputs may deviate, relative to the largest
_FACTORS = ".parametrizations.weight.original"
_MAX_TEXT = 4_194_304  # characters; a longer value (names of very many classes) is left out


class ExportError(UserError):
    """A file could not be exported, or does not compute what the network computes."""


Network = Callable[..., Tensor | tuple[Tensor, ...]]


@dataclass(frozen=True)
class Target:
    network: nn.Module  # plain, eval mode, on the CPU
    spec: Spec
    metadata: dict[str, str]


@dataclass(frozen=True)
class Format:
    suffix: str
    make: Callable[[Target], bytes]  # the file's content
    load: Callable[[Target, Path], Network]  # the written file as a function of the network's inputs
    code: Callable[[Target, str], str | None] = lambda *_: None  # Python source to put beside it, if possible


def export_run(run_folder: Path, format: str, out: Path | None = None) -> list[Path]:
    """Write the target of a run, at its best epoch, as a checked file; returns it and what was written beside it.

    format: one of FORMATS. out: file or folder; default: `target.<suffix>` in the run folder.
    Warns if the code beside safetensors cannot be generated.
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
    files = [(temporary, path, kind.make(target))]
    if (code := kind.code(target, path.name)) is not None:
        _check_code(path.with_suffix(".py"), path)
        files.insert(0, (temporary.with_suffix(".py"), path.with_suffix(".py"), code.encode()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for part, _, content in files:
            write_synced(part, content)
        check(target, kind.load(target, temporary), path)
        for part, final, _ in files:
            part.replace(final)
        sync_folder(path.parent)
    except OSError as error:
        raise ExportError(f"{path} could not be written: {error.strerror or error}") from error
    finally:
        for part, _, _ in files:
            remove(part)
    return [final for _, final, _ in reversed(files)]


def _check_code(code: Path, path: Path) -> None:
    """Raises ExportError if the Python file would replace one that an export did not write, or its own weights."""
    there = code.is_file() and not code.read_bytes().startswith(codegen.MARK.encode())
    if there or code == path:
        which = "is there, and is not of an export" if there else "must be the name of the code beside the weights"
        raise ExportError(f"{code} {which}; choose another name with --out, such as {code.stem}-target.safetensors")


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
            f"{run_folder} must hold {BEST_FILE}, which is written after the first epoch; if it is lost: {again}"
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


@torch.no_grad()
def check(target: Target, loaded: Network, path: Path) -> None:
    """Raises ExportError unless the loaded file computes what the network does, for batches of 1 and of 3."""
    for count in (1, 3):
        inputs = target.spec.example(count)
        for expected, found in zip(_tuple(target.network(*inputs)), _tuple(loaded(*inputs)), strict=True):
            scale = expected.abs().max().item()
            error = (found - expected).abs().max().item() if found.shape == expected.shape else float("inf")
            if not error <= TOLERANCE * scale:  # written so that NaN fails
                raise ExportError(
                    f"{path} was not written: its outputs must be within {TOLERANCE:g} of the network's largest "
                    f"({scale:.3g}), but are off by {error:.3g}"
                )


def _tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def _make_safetensors(target: Target) -> bytes:
    return tensor_bytes(target.network.state_dict(), target.metadata)


def _load_safetensors(target: Target, path: Path) -> Network:
    code = path.with_suffix(".py")
    if code.is_file():
        with torch.random.fork_rng(devices=[]):  # as above
            network: nn.Module = codegen.run(code.read_text("utf-8"), code)["load"](path)
        return network
    state, _ = load_tensors(path)
    check_fits(state, target.network.state_dict(), path)
    return lambda *inputs: torch.func.functional_call(target.network, state, inputs)


def _code(target: Target, name: str) -> str | None:
    """The network as Python text that reads its weights from the file `name`; None, and a warning, if it has none."""
    try:
        text = codegen.generate_code(target.network, target.spec, target.metadata, name)
        with torch.random.fork_rng(devices=[]):  # as above
            network = codegen.build(text, target.network.state_dict(), target.spec)
        check(target, network, Path("its code"))
    except (codegen.Untraceable, ExportError) as error:
        warnings.warn(
            f"{name} has the weights alone, and no Python file beside it: {error}; "
            "--format torch-export gives a file that torch alone computes with",
            stacklevel=3,
        )
        return None
    return text


def _program(target: Target) -> torch.export.ExportedProgram:
    """The network as a graph with any batch size, free of source paths of this machine."""
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        inputs = target.spec.example(2)
        program = torch.export.export(target.network, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _make_torch_export(target: Target) -> bytes:
    file = io.BytesIO()
    torch.export.save(_program(target), file, extra_files={"metadata.json": json.dumps(target.metadata)})
    return file.getvalue()


def _load_torch_export(_: Target, path: Path) -> Network:
    module: nn.Module = torch.export.load(path).module()
    return module


def _output_names(spec: Spec) -> tuple[str, ...]:
    return ("image_embeddings", "text_embeddings") if spec.outputs == EMBEDDING else ("outputs",)


def _make_onnx(target: Target) -> bytes:
    names = target.spec.argument_names
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            _program(target),
            dynamo=True,
            verbose=False,
            input_names=list(names),
            output_names=list(_output_names(target.spec)),
        )
    assert program is not None
    program.model.metadata_props.update(target.metadata)
    return program.model_proto.SerializeToString()


def _load_onnx(target: Target, path: Path) -> Network:
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError("format onnx needs onnxruntime to check the file; pip install onnxruntime") from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = target.spec.argument_names

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        arrays = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return tuple(map(torch.from_numpy, session.run(None, arrays)))

    return run


FORMATS: dict[str, Format] = {  # the names are those of __init__.py
    "safetensors": Format(".safetensors", _make_safetensors, _load_safetensors, _code),
    "torch-export": Format(".pt2", _make_torch_export, _load_torch_export),
    "onnx": Format(".onnx", _make_onnx, _load_onnx),
}
