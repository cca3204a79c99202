"""Export of a run's target: the plain network, with the layers, parameters and speed it has without MergeNet.

The network is measured again first (evaluate.py): it is the one that was trained. Each format is written beside its
place, loaded again, compared with the network on examples, and only then renamed: a file that exists has been checked.

    safetensors    the weights, and beside them a Python file that reads them and computes with torch alone
    torch-export   one file for torch.export.load
    onnx           one file for any runtime of ONNX
"""

import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mergenet.config.spec import EMBEDDING, Spec
from mergenet.errors import ConfigError, UserError, needs_package, unknown_name
from mergenet.export import codegen
from mergenet.export.evaluate import check_recorded
from mergenet.export.target import Target, check_fits, load_target
from mergenet.learner.dry_run import said
from mergenet.learner.rng import Stream
from mergenet.records.atomic import beside, remove, sync_folder, write_synced
from mergenet.records.checkpoint import load_tensors, tensor_bytes
from mergenet.records.run_record import is_record
from mergenet.tasks import Task

REAL = 8  # examples of the data on which a file is compared, beside random ones
TOLERANCE = 1e-5  # how far the loaded file's outputs may deviate, relative to the largest


class ExportError(UserError):
    """A file could not be exported, or does not compute what the network computes."""


Network = Callable[..., Tensor | tuple[Tensor, ...]]


@dataclass(frozen=True)
class Format:
    suffix: str
    make: Callable[[Target], bytes]  # the file's content
    load: Callable[[Target, Path], Network]  # the written file as a function of the network's inputs
    code: Callable[[Target, str], str | None] = lambda *_: None  # Python source to put beside it, if possible


def export_run(run_folder: Path, format: str, out: Path | None = None, measure: bool = True) -> list[Path]:
    """Write the target of a run, at its best epoch, as a checked file; returns it and what was written beside it.

    format: one of FORMATS. out: file or folder; default: `target.<suffix>` in the run folder.
    measure: the network is evaluated on the run's data first, and must reach what the run recorded.
    Warns if the code beside safetensors cannot be generated, and if the data are not here.
    Raises ConfigError for an unknown format, CheckpointError if the folder has no usable network or one that differs
    from what was recorded, ExportError if the file cannot be made, deviates by more than TOLERANCE or would replace a
    record of a run.
    """
    if format not in FORMATS:
        raise ConfigError(unknown_name("format", format, FORMATS))
    kind = FORMATS[format]
    path = Path(out or run_folder)
    if path.is_dir():
        path = path / f"target{kind.suffix}"
    if is_record(path):
        raise ExportError(f"{path} is part of the run's own record; choose another name with --out")
    target = load_target(Path(run_folder))
    inputs = examples(target.spec, check_recorded(Path(run_folder), target) if measure else None)
    temporary = beside(path)
    with _one_line(path):
        files = [(temporary, path, kind.make(target))]
    if (code := kind.code(target, path.name)) is not None:
        _check_code(path.with_suffix(".py"), path)
        files.insert(0, (temporary.with_suffix(".py"), path.with_suffix(".py"), code.encode()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for part, _, content in files:
            write_synced(part, content)
        with _one_line(path):
            check(target, kind.load(target, temporary), path, inputs)
        for part, final, _ in files:
            part.replace(final)
        sync_folder(path.parent)
    except OSError as error:
        raise ExportError(f"{path} could not be written: {error.strerror or error}") from error
    finally:
        for part, _, _ in files:
            remove(part)
    return [final for _, final, _ in reversed(files)]


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """What torch raises of a network that it cannot write becomes an ExportError; what it prints beside is left out."""
    level, unseen = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(unseen), redirect_stderr(unseen), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporters' own deprecations, too
            yield
    except (UserError, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch follows the user's code, and may raise anything
        raise ExportError(
            f"{path} was not written: torch cannot make it of the network: {said(error)}; --format safetensors gives "
            "the weights"
        ) from error
    finally:
        logging.disable(level)


def _check_code(code: Path, path: Path) -> None:
    """Raises ExportError if the Python file would replace one that an export did not write, or its own weights."""
    there = code.is_file() and not code.read_bytes().startswith(codegen.MARK.encode())
    if there or code == path:
        which = "is there, and is not of an export" if there else "must be the name of the code beside the weights"
        raise ExportError(f"{code} {which}; choose another name with --out, such as {code.stem}-target.safetensors")


def examples(spec: Spec, task: Task | None = None) -> list[tuple[Tensor, ...]]:
    """Random inputs in batches of 1 and of 3, and the first validation examples where the data are here."""
    found = [spec.example(count) for count in (1, 3)]
    if task is not None:
        batch = task.batch("val", torch.arange(min(REAL, task.size("val"))), torch.device("cpu"))
        if all(name in batch for name in spec.argument_names):
            found.append(tuple(batch[name].contiguous() for name in spec.argument_names))
    return found


@torch.no_grad()
def check(target: Target, loaded: Network, path: Path, batches: Sequence[tuple[Tensor, ...]]) -> None:
    """Raises ExportError unless the loaded file computes what the network does."""
    for inputs in batches:
        for expected, found in zip(_outputs(target.network, inputs), _outputs(loaded, inputs), strict=True):
            scale = expected.abs().max().item()
            error = (found - expected).abs().max().item() if found.shape == expected.shape else float("inf")
            if not error <= TOLERANCE * scale:  # written so that NaN fails
                raise ExportError(
                    f"{path} was not written: its outputs must be within {TOLERANCE:g} of the network's largest "
                    f"({scale:.3g}), but are off by {error:.3g}"
                )


def _outputs(network: Network, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """One that draws in evaluation mode draws the same each time."""
    with Stream(0, "export").active():
        outputs = network(*inputs)
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
    # names of one tensor have one value each in the file
    return lambda *inputs: torch.func.functional_call(target.network, state, inputs, tie_weights=False)


def _code(target: Target, name: str) -> str | None:
    """The network as Python text that reads its weights from the file `name`; None, and a warning, if it has none."""
    try:
        text = codegen.generate_code(target.network, target.spec, target.metadata, name)
        with torch.random.fork_rng(devices=[]):  # as above
            network = codegen.build(text, target.network.state_dict(), target.spec)
        check(target, network, Path("its code"), examples(target.spec))
    except (codegen.Untraceable, ExportError) as error:
        warnings.warn(
            f"{name} has the weights alone, and no Python file beside it: {error}; "
            "--format torch-export may give a file that torch alone computes with",
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
    for name in ("onnx", "onnxscript", "onnxruntime"):  # the last one checks the file
        with needs_package(name, "onnx"):
            importlib.import_module(name)
    names = target.spec.argument_names
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
    import onnxruntime

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
