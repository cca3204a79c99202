"""Draws method.svg and system.svg beside this file: python docs/images/draw.py

Each picture has a panel of its own behind it and follows the reader's light or dark colours.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

STYLE = """
.panel { fill: #ffffff; stroke: #d0d7de }
.text { fill: #1f2328; font: 15px system-ui, "Segoe UI", Helvetica, Arial, sans-serif }
.bold { font-weight: 600 } .small { font-size: 14px } .muted { fill: #59636e }
.middle { text-anchor: middle } .end { text-anchor: end }
.box { fill: #f6f8fa; stroke: #818b98; stroke-width: 1.5 }
.frame { fill: none; stroke: #818b98; stroke-width: 1.5; stroke-dasharray: 2 4 }
.source { fill: #ddf4ff; stroke: #0969da; stroke-width: 2 } .source-text { fill: #0550ae }
.target { fill: #dafbe1; stroke: #1a7f37; stroke-width: 2 } .target-text { fill: #116329 }
.adapter { fill: #fff1e5; stroke: #bc4c00; stroke-width: 2 } .adapter-text { fill: #953800 }
.line { fill: none; stroke: #59636e; stroke-width: 1.8 } .back { stroke-dasharray: 6 5 }
.source-line { stroke: #0969da; stroke-width: 2.5 } .target-line { stroke: #1a7f37; stroke-width: 2.5 }
.adapter-line { stroke: #bc4c00; stroke-width: 2.5 }
.tip { fill: #59636e } .source-tip { fill: #0969da } .target-tip { fill: #1a7f37 } .adapter-tip { fill: #bc4c00 }
"""
DARK = """
.panel { fill: #0d1117; stroke: #3d444d }
.text { fill: #f0f6fc } .muted { fill: #a8b1bb }
.box { fill: #161b22; stroke: #848d97 } .frame { stroke: #848d97 }
.source { fill: #0c2d6b; stroke: #58a6ff } .source-text { fill: #a5d6ff }
.target { fill: #0f3d1e; stroke: #3fb950 } .target-text { fill: #aff5b4 }
.adapter { fill: #4d2000; stroke: #f0883e } .adapter-text { fill: #ffc999 }
.line { stroke: #a8b1bb } .source-line { stroke: #58a6ff } .target-line { stroke: #3fb950 }
.adapter-line { stroke: #f0883e }
.tip { fill: #a8b1bb } .source-tip { fill: #58a6ff } .target-tip { fill: #3fb950 } .adapter-tip { fill: #f0883e }
"""
TIPS = ("", "source", "target", "adapter")  # colours of arrows


def text(x: float, y: float, words: str, classes: str = "") -> str:
    return f'<text x="{x}" y="{y}" class="text {classes}">{escape(words, quote=False)}</text>'


def lines(x: float, y: float, many: Sequence[str], classes: str = "small muted") -> str:
    return "\n".join(text(x, y + 19 * number, words, classes) for number, words in enumerate(many))


def box(x: float, y: float, width: float, height: float, classes: str = "box") -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" class="{classes}"/>'


def titled(x: float, y: float, width: float, title: str, many: Sequence[str] = (), classes: str = "box") -> str:
    """A box with a title and lines in its middle."""
    height, middle = 34 + 19 * len(many), x + width / 2
    below = lines(middle, y + 42, many, "small muted middle")
    return "\n".join([box(x, y, width, height, classes), text(middle, y + 23, title, "bold middle"), below])


def arrow(points: Sequence[tuple[float, float]], colour: str = "", back: bool = False) -> str:
    path = "M" + " L".join(f"{x} {y}" for x, y in points)
    classes = f"line {colour}-line" if colour else "line"
    return f'<path d="{path}" class="{classes}{" back" if back else ""}" marker-end="url(#tip{colour})"/>'


def rule(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<path d="M{x} {y} L{to_x} {to_y}" class="line"/>'


def matrix(x: float, y: float, columns: int, rows: int, classes: str, cell: float = 13) -> str:
    """A grid of cells: a weight as a matrix, or its factor."""
    cells = [(x + cell * column, y + cell * row) for row in range(rows) for column in range(columns)]
    return "\n".join(f'<rect x="{a}" y="{b}" width="{cell}" height="{cell}" class="{classes}"/>' for a, b in cells)


def picture(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    tips = "\n".join(
        f'<marker id="tip{colour}" viewBox="0 0 10 10" refX="8.5" refY="5" markerWidth="12" markerHeight="12" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 L10 5 L0 10 z" '
        f'class="{colour + "-" if colour else ""}tip"/></marker>'
        for colour in TIPS
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" aria-label="{escape(title)}">',
            f"<style>{STYLE}@media (prefers-color-scheme: dark) {{{DARK}}}\n</style>",
            f"<defs>{tips}</defs>",
            f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="10" class="panel"/>',
            *parts,
            "</svg>\n",
        ]
    )


def network(y: float, title: str, layers: Sequence[tuple[float, float, str, str]], loss: float) -> list[str]:
    """A row: name, data, layers (x, width, words, classes), loss at x."""
    middle = y + 26
    parts = [text(24, y + 20, title, "bold"), text(24, y + 40, "own task, own data", "small muted")]
    ends = [170.0, *(x + width for x, width, _, _ in layers)]
    for end, (x, width, words, classes) in zip(ends, layers, strict=False):
        parts += [arrow([(end, middle), (x - 2, middle)]), box(x, y, width, 52, classes)]
        parts += [text(x + width / 2, middle + 5, words, f"middle bold {classes}-text")] if words else []
    return [*parts, arrow([(ends[-1], middle), (loss - 2, middle)]), titled(loss, y + 9, 96, "its loss")]


def method() -> str:
    parts = network(
        28,
        "source network",
        [(200, 50, "", "box"), (280, 130, "source layer", "source"), (440, 50, "", "box"), (520, 50, "", "box"),
         (600, 50, "", "box")],
        868,
    )  # fmt: skip
    parts += [
        arrow([(345, 82), (345, 150)], "source"),
        text(362, 120, "its weight, in a few rows", "small source-text"),
        matrix(286, 154, 9, 3, "source"),
        text(345, 216, "the source's factor", "middle bold source-text"),
        arrow([(409, 174), (526, 174)], "source"),
        text(467, 164, "is shown to", "middle small muted"),
        box(530, 136, 250, 76, "adapter"),
        text(655, 168, "adapter", "middle bold adapter-text"),
        text(655, 190, "a small attention network", "middle small muted"),
        arrow([(600, 322), (600, 216)], "target"),
        lines(588, 258, ["reads the", "target's factor"], "small target-text end"),
        arrow([(710, 214), (710, 320)], "adapter"),
        lines(722, 258, ["writes a new", "factor in its place"], "small adapter-text"),
        arrow([(916, 330), (916, 174), (784, 174)], "target", back=True),
        lines(796, 146, ["learns from the", "target's loss"], "small target-text"),
        text(24, 136, "Every T_cycle steps", "bold"),
        lines(
            24,
            158,
            [
                "knowledge moves from the",
                "source to the target through",
                "their weights. The networks",
                "may differ in architecture,",
                "task and data.",
            ],
        ),
    ]
    parts += network(
        324,
        "target network",
        [(200, 70, "", "box"), (310, 70, "", "box"), (420, 70, "", "box"), (560, 200, "target layer", "target")],
        868,
    )
    parts += [
        rule(24, 404, 976, 404),
        text(24, 432, "in time", "bold"),
        rule(170, 456, 960, 456),
    ]
    for step in range(25):
        x = 190 + 31 * step
        if step % 8 == 0:
            parts += [box(x - 8, 442, 16, 28, "adapter"), text(x, 436, "transfer", "middle small adapter-text bold")]
        else:
            parts += [rule(x, 450, x, 462)]
    parts += [
        *(text(314 + 248 * cycle, 444, "T_cycle steps", "middle small muted") for cycle in range(3)),
        text(
            562,
            490,
            "in between each network takes ordinary training steps, on its own data and loss",
            "middle small muted",
        ),
    ]
    title = (
        "MergeNet: every T_cycle steps an adapter reads a factor of a source layer's weight and one of a target "
        "layer's, and writes a new factor into the target layer. In between both networks learn by themselves."
    )
    return picture(1000, 510, title, parts)


def system() -> str:
    parts = [
        titled(20, 72, 132, "sweep file", ["base, search,", "trials, seeds"]),
        arrow([(154, 100), (196, 100)]),
        box(180, 24, 290, 358, "frame"),
        text(198, 52, "driver", "bold"),
        text(256, 52, "mergenet sweep run", "small muted"),
        titled(200, 72, 250, "Optuna study", ["draws what is tried next"], "source"),
        arrow([(300, 127), (300, 168)]),
        text(290, 153, "suggestion", "end small muted"),
        arrow([(370, 170), (370, 129)], back=True),
        text(380, 153, "values", "small muted"),
        titled(200, 172, 250, "Ray Tune", ["one relay a trial;", "which trials stop early"], "source"),
        titled(200, 304, 250, "listeners", ["live view, budget, mirrors"]),
        # the queue and what it gives
        arrow([(452, 196), (536, 196)]),
        text(504, 186, "job", "middle small muted"),
        arrow([(538, 224), (454, 224)], back=True),
        text(504, 242, "epochs", "middle small muted"),
        titled(540, 183, 150, "job queue", ["a Ray actor"], "adapter"),
        arrow([(615, 238), (615, 331), (454, 331)]),
        text(605, 320, "events", "end small muted"),
        arrow([(692, 196), (764, 196)]),
        text(729, 186, "job", "middle small muted"),
        arrow([(766, 224), (694, 224)], back=True),
        text(729, 242, "epochs", "middle small muted"),
        # workers and what they leave
        *(box(768 + 8 * number, 142 - 10 * number, 196, 122, "target") for number in (2, 1, 0)),
        text(866, 176, "worker groups", "middle bold target-text"),
        lines(
            866,
            199,
            ["Ray Train; one a slot,", "one process or several", "(DDP); job after job"],
            "small muted middle",
        ),
        arrow([(866, 266), (866, 320)], "target"),
        titled(768, 324, 212, "run folders", ["configuration, epochs,", "checkpoints, trial.json"], "target"),
        arrow([(866, 398), (866, 452)], "target"),
        titled(768, 456, 212, "analysis", ["table, paired gains,", "best configuration"]),
        # mirrors
        arrow([(325, 359), (325, 424), (262, 424), (262, 452)]),
        arrow([(325, 424), (432, 424), (432, 452)]),
        titled(180, 456, 164, "Weights & Biases", ["online or offline"]),
        titled(364, 456, 136, "TensorBoard", ["event files"]),
        titled(540, 456, 150, "copy at a URL", ["s3://, gs://, file://"]),
        arrow([(766, 361), (640, 361), (640, 452)], "target"),
        lines(650, 384, ["files, whenever", "a job ends"]),
        lines(
            20,
            228,
            [
                "A driver that was",
                "killed begins again",
                "from the folders;",
                "what has ended is",
                "not trained again.",
            ],
        ),
    ]
    title = (
        "A sweep: the driver draws configurations from an Optuna study, Ray Tune passes each as a job through a queue "
        "to worker groups, which train into run folders; analysis reads the folders, mirrors follow."
    )
    return picture(1000, 552, title, parts)


if __name__ == "__main__":
    for name, draw in (("method", method), ("system", system)):
        Path(__file__).with_name(f"{name}.svg").write_text(draw(), encoding="utf-8")
