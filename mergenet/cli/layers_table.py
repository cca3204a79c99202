"""What `mergenet layers` shows: the layers of a network that can take part in a transfer, and what each weighs."""

from typing import Any

import torch
from rich.console import Console
from torch import nn

from mergenet.cli.text_table import show_table
from mergenet.config import NetworkConfig
from mergenet.layers.matrices import layer_flops, list_layers
from mergenet.learner.dry_run import errors_of_network
from mergenet.models import build_model
from mergenet.tasks import Task, build_task

HEAD = ["layer", "kind", "weight", "matrix", "parameters", "share", "largest rank", "compute"]
NUM_TEXT = 4  # leading columns, which are aligned left


def survey(network: NetworkConfig, receives: bool = False) -> dict[str, Any]:
    """A network's name, numbers of parameters and FLOPs, and its candidate layers in network order, as plain values.

    flops: of the forward pass of one validation example. A layer's compute is its share of them, null if its weight is
    used other than by calling the layer; share is the share of its weight in the parameters.
    receives: without the layers whose weight is computed from others, which can only give; they are in gives_only,
    each with what it is computed from.
    Builds the network with its starting weights. Raises ConfigError and DataError.
    """
    task = build_task(network)
    model = build_model(network.model, task.spec).eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    flops, by_layer = flops_of_one(model, task)
    listed = list_layers(model)
    layers = [
        {
            "name": layer.name,
            "kind": layer.kind,
            "weight": list(layer.shape),
            "matrix": list(layer.matrix),
            "parameters": layer.parameters,
            "share": layer.parameters / parameters,
            "largest_rank": layer.largest_rank,
            "compute": by_layer[layer.name] / flops if layer.name in by_layer else None,
        }
        for layer in listed
        if not (receives and layer.computed_from)
    ]
    found = {"model": network.model.name, "parameters": parameters, "flops": flops, "layers": layers}
    computed = {layer.name: list(layer.computed_from) for layer in listed if layer.computed_from}
    return found | ({"gives_only": computed} if receives and computed else {})


def flops_of_one(model: nn.Module, task: Task) -> tuple[int, dict[str, int]]:
    """FLOPs of the first validation example: in total, and by layer. Raises ConfigError if the network fails on it."""
    batch = task.batch("val", torch.arange(1), torch.device("cpu"))
    with errors_of_network():
        return layer_flops(model, lambda: task.forward(model, batch))


def show_network(role: str, found: dict[str, Any], console: Console) -> None:
    """Prints what `survey` returns as a table, or as plain aligned text where the output is no terminal."""
    size = f"{found['flops'] / 1e6:,.2f} MFLOPs an example, {found['parameters']:,} parameters"
    title = f"{role}: {found['model']}, {size}"
    rows = [cells(layer) for layer in found["layers"]]
    show_table(title, HEAD, rows, NUM_TEXT, console)
    if computed := found.get("gives_only"):
        parts = ", ".join(f"{name} ({', '.join(names)})" for name, names in computed.items())
        why = "their weights are computed from others at each pass, so that they cannot receive"
        console.print(f"not listed: {parts}: {why}; take a layer of the table", soft_wrap=True)


def cells(layer: dict[str, Any]) -> list[str]:
    return [
        layer["name"],
        layer["kind"],
        " x ".join(map(str, layer["weight"])),
        " x ".join(map(str, layer["matrix"])),
        f"{layer['parameters']:,}",
        f"{layer['share']:.1%}",
        str(layer["largest_rank"]),
        "-" if layer["compute"] is None else f"{layer['compute']:.1%}",
    ]
