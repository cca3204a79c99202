"""The text of `mergenet diagnose`: a table of the links, what each network knows, and the advice."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console

from mergenet.cli.text_table import show_table
from mergenet.training.advice import lines, now, percent

HEAD = [
    *("link", "from", "to", "space"),
    *("shown", "at best", "of learned", "at best", "written", "of learned", "updates", "parameters", "reach"),
]
NUM_TEXT = 4  # leading columns, which are aligned left

Facts = dict[str, Any]


def show_diagnosis(facts: Facts, console: Console) -> None:
    """facts: what `mergenet.training.diagnose.diagnose` returns."""
    title = f"{facts['name']}: after {facts['steps']} steps without transfer"
    show_table(title, HEAD, [cells(link) for link in facts["links"]], NUM_TEXT, console)
    for line in text_lines(facts):
        console.print(line, soft_wrap=True)


def text_lines(facts: Facts) -> Iterator[str]:
    for link in facts["links"]:
        if (remark := link["written"]["remark"]) is not None:
            yield f"{link['name']}: {remark}"
    yield from network_lines(facts["networks"])
    yield "advice, worst first:" if facts["findings"] else "advice:"
    yield from (f"  {line}" for line in lines(facts["findings"]))
    yield f"took {facts['seconds']:g} s; nothing has been written"


def cells(link: Facts) -> list[str]:
    seen, written = now(link, "shown"), now(link, "written")
    return [
        link["name"],
        link["giver"],
        link["receiver"],
        space(now(link, "align")),
        percent(seen["share"]),
        percent(seen["best"]),
        share(seen["change"]),
        share(seen["best_change"]),
        percent(written["share"]),
        share(written["change"]),
        str(link["updates"]),
        f"{link['parameters']:,}",
        "identity" if link["adapter"] == "linear" else percent(link["reach"]),
    ]


def share(value: float | None) -> str:
    return "-" if value is None else percent(value)


def space(align: Facts) -> str:
    if align["how"] == "by word":
        return f"{align['space']}, by word ({percent(align['words'])} known)"
    if align["how"] == "estimated":
        r2 = "unknown" if align["r2"] is None else f"{align['r2']:.2f}"
        return f"{align['space']}, estimated (R^2 {r2})"
    return "none, numbers only" if align["how"] == "numbers only" else f"{align['space']}, as it is"


def network_lines(networks: Facts) -> Iterator[str]:
    source, target = networks["source"], networks["target"]
    yield f"source: {source['kind']}, {learns(source)}{known(source)}"
    yield f"target: {learns(target)}{known(target)}"
    if "value" not in source and source["kind"] == "live":
        yield "whether the source is better is not known before it has learned"


def learns(network: Facts) -> str:
    weights = "pretrained" if network["pretrained"] else "random weights"
    size = "unknown size" if network["parameters"] is None else f"{network['parameters']:,} parameters"
    if network["examples"] is None:
        return f"{weights}, {size}"
    seen = f"{network['seen']:,} of {network['examples']:,}" if network["seen"] < network["examples"] else None
    return f"{weights}, {size}, learns from {seen or format(network['examples'], ',')} examples"


def known(network: Facts) -> str:
    if network.get("value") is None:
        return ""
    when = " before it learns" if network["kind"] == "target" else ""
    return f", validation {network['metric']} {percent(network['value'])}{when}"
