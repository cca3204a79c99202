"""A plain network as Python source that needs only torch, and reads its weights from a safetensors file.

The network's forward is traced in eval mode by torch.fx down to the layers of torch.nn, and written as one forward that
calls them; layers keep their names, and so does the state dict. They follow train() and eval() as usual (BatchNorm,
Dropout); a function whose behaviour depends on `self.training`, such as F.dropout, keeps that of eval mode.
"""

import json
import operator
import pprint
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import _get_qualified_name as qualified_name

from mergenet.config.spec import CLASSES, EMBEDDING, IMAGE, IMAGE_TEXT, SPAN, TEXT, Spec
from mergenet.models.sharing import same_tensors

MARK = "# Written by `mergenet export`."  # the first line; a file without it is the user's own
_LONG = 2_000  # characters; longer metadata are only in the file of weights
_OPERATORS: dict[Callable[..., Any], str] = {
    **{operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.matmul: "@"},
    **{operator.eq: "==", operator.ne: "!=", operator.lt: "<", operator.gt: ">", operator.le: "<=", operator.ge: ">="},
    **{operator.and_: "&", operator.or_: "|", operator.floordiv: "//", operator.mod: "%", operator.pow: "**"},
}


class Untraceable(Exception):
    """This network cannot be written as Python source; the message says why."""


def generate_code(network: nn.Module, spec: Spec, metadata: Mapping[str, str], weights: str) -> str:
    """The source, for weights in the file of that name beside it. Raises Untraceable.

    network: plain, in eval mode.
    """
    try:
        graph = fx.Tracer().trace(network)
    # tracing calls the network's own forward with proxies, which can raise anything
    except Exception as error:
        raise Untraceable(f"torch.fx cannot follow its forward ({type(error).__name__})") from error
    layers = "\n".join(_layers(network))
    forward = list(_forward(graph, network, spec.argument_names))
    return _TEMPLATE.format(
        mark=MARK,
        operator="import operator\n" if _calls("operator", forward) else "",
        functional="from torch.nn import functional\n" if _calls("functional", forward) else "",
        version=torch.__version__,
        inputs=_INPUTS[spec.inputs].format(size=spec.image_size, length=spec.max_length, vocab=spec.vocab_size),
        outputs=_OUTPUTS[spec.outputs].format(count=spec.num_outputs, length=spec.max_length),
        normalised=_NORMALISED if "mean" in metadata else "",
        weights=weights,
        metadata=pprint.pformat(_values(metadata), width=110, sort_dicts=False, compact=True),
        layers=layers,
        arguments=", ".join(f"{name}: Tensor" for name in spec.argument_names),
        result="tuple[Tensor, Tensor]" if spec.outputs == EMBEDDING else "Tensor",
        forward="\n".join(f"        {line}" for line in forward),
    )


def _calls(module: str, lines: list[str]) -> bool:
    """Whether the statements call a function of this module, which must be imported then; a layer may have its name."""
    return any(re.search(rf"(?<![\w.'\"]){module}\.\w+\(", line) for line in lines)


def run(text: str, path: Path) -> dict[str, Any]:
    """What the source defines, executed in a namespace of its own as the file `path`."""
    namespace: dict[str, Any] = {"__name__": "target", "__file__": str(path)}
    exec(compile(text, str(path), "exec"), namespace)
    return namespace


def build(text: str, state: Mapping[str, Tensor], spec: Spec) -> nn.Module:
    """The network that the source defines, with these weights, in eval mode. Raises Untraceable unless it runs."""
    try:
        network: nn.Module = run(text, Path("target.py"))["Target"]()
        network.load_state_dict(state)
        network.eval()(*spec.example(1))
    # what was traced with proxies can raise anything with tensors
    except Exception as error:
        raise Untraceable(f"what torch.fx made of it fails ({type(error).__name__}: {error})") from error
    return network


def _values(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Metadata as Python values, without the long ones."""
    values = {}
    for name, text in metadata.items():
        if len(text) <= _LONG:
            try:
                values[name] = json.loads(text)
            except ValueError:  # a name, not JSON
                values[name] = text
    return values


def _layers(network: nn.Module) -> Iterator[str]:
    """The statements that make the network's parts."""
    for name, text in _parts(network, ""):
        made = text.replace("\n", "\n        ")
        if name in network._buffers:
            yield f"        self.register_buffer({name!r}, {made})"
        else:
            yield f"        self.{name} = {made}" if name.isidentifier() else f"        setattr(self, {name!r}, {made})"
    yield from _shared(network)


def _shared(network: nn.Module) -> Iterator[str]:
    """The statements by which what is one tensor under several names becomes one again."""
    saved, buffers = network.state_dict(), dict(network.named_buffers(remove_duplicate=False))
    for names in same_tensors(network):
        first, *others = [name for name in names if name in saved] or [""]
        for name in others:
            alone = ".detach()" if name in buffers and first not in buffers else ""
            yield f"        {_place(network, name)} = {_place(network, first)}{alone}"


def _parts(module: nn.Module, path: str) -> Iterator[tuple[str, str]]:
    """Name and expression of each parameter, buffer and layer of a module itself, in the state dict's order."""
    for name, value in module.state_dict().items():
        if "." not in name:
            empty = f"torch.empty({tuple(value.shape)}, dtype={value.dtype})"
            yield name, f"nn.Parameter({empty})" if name in module._parameters else empty
    for name, child in module._modules.items():  # under each of its names
        if child is not None:
            yield name, _made(child, f"{path}{name}")


def _made(module: nn.Module, path: str) -> str:
    """The expression that makes a layer of torch.nn, or a container that names its parts as the module does."""
    kind = type(module)
    if fx.Tracer().is_leaf_module(module, path) and kind not in (nn.ModuleList, nn.ModuleDict):
        if getattr(nn, kind.__name__, None) is not kind or next(module.children(), None) or "\n" in repr(module):
            raise Untraceable(f"its layer {path} ({kind.__name__}) does not say how it is made")
        return f"nn.{module!r}".replace(", bias=True", "")  # the default; BatchNorm of older torch lacks it
    parts = {name: text.replace("\n", "\n    ") for name, text in _parts(module, f"{path}.")}
    if parts and list(parts) == [str(i) for i in range(len(parts))]:
        return "nn.Sequential(\n" + "".join(f"    {text},\n" for text in parts.values()) + ")"
    return "block({\n" + "".join(f"    {name!r}: {text},\n" for name, text in parts.items()) + "})"


def _forward(graph: fx.Graph, network: nn.Module, arguments: tuple[str, ...]) -> Iterator[str]:
    """The statements of the recorded forward; a value takes the name of one that is not needed any more."""
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != len(arguments):
        raise Untraceable(f"its forward takes {len(inputs)} arguments, not {', '.join(arguments)}")
    names = dict(zip(inputs, arguments, strict=True))
    last = {value: node for node in graph.nodes for value in node.all_input_nodes}
    free: list[str] = []
    made = 0
    for node in graph.nodes:
        if node.op == "placeholder":
            continue
        if node.op == "output":
            yield f"return {_text(node.args[0], names)}"
            return
        expression = _expression(node, network, names)
        dead = [names[value] for value in node.all_input_nodes if last[value] is node and value.op != "placeholder"]
        free = [*dead, *free]
        if not node.users:  # called for its side effect on its arguments
            yield expression
            continue
        if not free:
            made += 1
            free = ["x" if made == 1 else f"x{made}"]
        names[node] = free.pop(0)
        yield f"{names[node]} = {expression}"


def _expression(node: fx.Node, network: nn.Module, names: dict[fx.Node, str]) -> str:
    if node.op == "get_attr":
        if node.target not in network.state_dict():
            raise Untraceable(f"its constant {node.target} is not among its weights")
        return _place(network, str(node.target))
    values = [_text(value, names) for value in node.args]
    given = ", ".join([*values, *(f"{key}={_text(value, names)}" for key, value in node.kwargs.items())])
    if node.op == "call_module":
        return f"{_place(network, str(node.target))}({given})"
    if node.op == "call_method":
        return f"{values[0]}.{node.target}({given.removeprefix(values[0]).removeprefix(', ')})"
    function = node.target
    assert callable(function), function
    if function in _OPERATORS:
        return f"{values[0]} {_OPERATORS[function]} {values[1]}"
    if function is getattr and len(values) == 2:
        return f"{values[0]}.{node.args[1]}"
    if function is operator.getitem:
        return f"{values[0]}[{_index(node.args[1], names)}]"
    name = qualified_name(function).replace("_operator.", "operator.")
    if not name.startswith(("torch.", "operator.")):
        raise Untraceable(f"it calls {name}, which is not of torch")
    return f"{name.replace('torch.nn.functional.', 'functional.')}({given})"


def _place(network: nn.Module, path: str) -> str:
    """A layer, parameter or buffer as an expression: layer1.0.conv1 -> self.layer1[0].conv1"""
    result, module = "self", network
    for depth, name in enumerate(path.split(".")):
        if name.isidentifier():
            result = f"{result}.{name}"
        elif name.isdigit() and depth and list(module._modules) == [str(i) for i in range(len(module._modules))]:
            result = f"{result}[{name}]"
        else:
            result = f"{result}.get_submodule({name!r})"
        module = module._modules.get(name) or module
    return result


def _index(value: Any, names: dict[fx.Node, str]) -> str:
    if isinstance(value, slice):
        bounds = ["" if bound is None else _text(bound, names) for bound in (value.start, value.stop)]
        return ":".join(bounds) + ("" if value.step is None else f":{_text(value.step, names)}")
    if isinstance(value, tuple) and value:
        return ", ".join(_index(item, names) for item in value) + ("," if len(value) == 1 else "")
    return _text(value, names)


def _text(value: Any, names: dict[fx.Node, str]) -> str:
    """A value of the recorded forward as an expression."""
    if isinstance(value, fx.Node):
        return names[value]
    if isinstance(value, tuple):
        return "(" + ", ".join(_text(item, names) for item in value) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(_text(item, names) for item in value) + "]"
    if isinstance(value, float) and value - value != 0:  # infinite or NaN
        return f"float({str(value)!r})"
    if value is None or isinstance(value, bool | int | float | str | torch.dtype | torch.memory_format):
        return repr(value)
    if isinstance(value, torch.device):
        return f"torch.{value!r}"
    if isinstance(value, slice):
        return f"slice({', '.join(_text(bound, names) for bound in (value.start, value.stop, value.step))})"
    if value is Ellipsis:
        return "..."
    raise Untraceable(f"its forward uses a {type(value).__name__}")


_INPUTS = {
    IMAGE: "images   float32 (N, 3, {size}, {size})",
    TEXT: "tokens   int64 (N, {length}), below {vocab}\nmask     int64 (N, {length}), 1 for tokens, 0 for padding",
}
_INPUTS[IMAGE_TEXT] = f"{_INPUTS[IMAGE]}\n{_INPUTS[TEXT]}"
_OUTPUTS = {
    CLASSES: "logits (N, {count})",
    SPAN: "logits of first and last token (N, {length}, 2)",
    EMBEDDING: "embeddings of images and of texts, each (N, {count})",
}
_NORMALISED = "\nImages are pixels from 0 to 255, less `mean`, divided by `std`, both of METADATA, by channel."
_TEMPLATE = '''{mark}
"""The trained network alone; needs torch and nothing else. Written with torch {version}.

load() reads its weights from the safetensors file beside this one.

{inputs}
returns  {outputs}
{normalised}
"""

import json
{operator}from pathlib import Path

import torch
from torch import Tensor, nn
{functional}
WEIGHTS = Path(__file__).with_name({weights!r})
METADATA = {metadata}
DTYPES = {{
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "C64": torch.complex64, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}}


def load(path: str | Path = WEIGHTS) -> "Target":
    """The trained network, in eval mode, on the CPU."""
    network = Target()
    network.load_state_dict(read(path))
    return network.eval()


def read(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file: the header's length (8 bytes), the header (JSON), the tensors' bytes.

    Numbers are little-endian, in the file and, it is assumed, on this machine.
    """
    data = bytearray(Path(path).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    tensors = {{}}
    for name, entry in header.items():
        first, end = entry["data_offsets"]
        values = torch.frombuffer(data[start + first : start + end], dtype=DTYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def block(parts: dict[str, nn.Module | Tensor]) -> nn.Module:
    """A module of these layers, parameters and buffers."""
    module = nn.Module()
    for name, part in parts.items():
        if isinstance(part, nn.Module | nn.Parameter):
            setattr(module, name, part)
        else:
            module.register_buffer(name, part)
    return module


class Target(nn.Module):
    def __init__(self) -> None:
        super().__init__()
{layers}

    def forward(self, {arguments}) -> {result}:
{forward}
'''
