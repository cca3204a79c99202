"""report.md: the answer of a report for a pull request, without figures. What comes from users is shown as it is."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis.report.answer import Answer
from analysis.report.evidence import Evidence
from analysis.report.figures import differences
from analysis.report.trials import link
from analysis.report.verdict import gain_text, label
from mergenet.errors import visible
from mergenet.records.run_record import METRIC, test_column

SPECIAL = re.compile(r"([\\`*_\[\]<>|~#@&])")  # what markdown, or GitHub in a comment, makes something of


def markdown(evidence: Evidence, told: Answer, page: Path) -> str:
    """page: where it will be, for its links."""
    return "\n".join(_lines(evidence, told, page)) + "\n"


def _lines(evidence: Evidence, told: Answer, page: Path) -> Iterator[str]:
    yield from (f"## {text(told.title)}", "", text(told.state))
    for warning in told.warnings:
        yield from ("", f"> **Note:** {text(warning)}")
    for card in told.cards:
        yield from ("", f"**{card.question}** {text(card.answer)}", "")
        yield from (f"- {text(line)}" for line in card.details)
        runs = ", ".join(f"[{text(name)}](<{link(folder, page)}/>)" for name, folder in card.runs)
        yield from ([f"- runs: {runs}"] if runs else [])
    yield from ("", "**What to run next?**", "")
    for number, step in enumerate(told.steps, start=1):
        yield f"{number}. {text(step.sentence)}" + (f": {code(step.command)}" if step.command else "")
    if told.settings:
        rows = [[code(one.path), code(one.base), code(one.best)] for one in told.settings]
        yield from ("", *table(["setting", "base", "best"], rows))
    yield from _confirmed(evidence)


def _confirmed(evidence: Evidence) -> Iterator[str]:
    if evidence.confirmed is None or evidence.best is None:
        return
    test = test_column(str(evidence.best[METRIC]))
    rows = [
        [name, text(gain_text(test, gain)), str(gain["num_pairs"])]
        for name, gain in differences(evidence.confirmed, test)
    ]
    yield from ("", *table([f"{label(test)}, paired by seed", "difference", "seeds"], rows))


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """titles and cells: markdown."""
    yield f"| {' | '.join(titles)} |"
    yield f"|{'|'.join('---' for _ in titles)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def text(words: str) -> str:
    """As plain text on one line."""
    return SPECIAL.sub(r"\\\1", visible(words)).replace(r"\@", "&#64;")


def code(words: str) -> str:
    """As code, on one line and in a table's cell too."""
    return f"`{visible(words).replace('`', chr(39)).replace('|', chr(92) + '|')}`"
