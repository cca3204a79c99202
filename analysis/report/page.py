"""report.html: one file that holds all it needs, plotly's script included, and asks no network for anything.

A Content-Security-Policy in the page forbids all requests and all scripts but ours, which it knows by their hashes.
What comes from users is escaped: by jinja2 in the markup, in the data because the page's script writes text only.
"""

import base64
import functools
import hashlib
import json
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import jinja2
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from plotly.offline import get_plotlyjs

import mergenet
from analysis.best import write_file
from analysis.report.answer import Answer, answer
from analysis.report.evidence import Evidence, gather
from analysis.report.figures import sections, templates
from analysis.report.markdown import markdown
from analysis.report.trials import link, seeds, trials
from mergenet.errors import UserError

REPORT_FILE, MARKDOWN_FILE = "report.html", "report.md"


def write_report(folder: str | Path, out: str | Path | None = None, status: str = "") -> list[Path]:
    """Write the report of a folder of runs as HTML to `out` (FOLDER/report.html), and as markdown beside it.

    status: of the sweep, instead of that in its sweep.json. Returns both files. Raises UserError if there is no run
    that can be read, or a file cannot be written.
    """
    folder = Path(folder)
    page = Path(out) if out is not None else folder / REPORT_FILE
    if page.suffix not in (".html", ".htm"):
        raise UserError(
            f"--out (out=) must be a file named .html, got {str(page)!r}; the markdown gets its name, as .md"
        )
    return write_pages(gather(folder, status), page)


def write_pages(evidence: Evidence, page: Path) -> list[Path]:
    """The same of what has been gathered. page: the HTML file."""
    told = answer(evidence)
    text = page.with_suffix(".md")
    write_file(page, render(evidence, told, page))
    write_file(text, markdown(evidence, told, text))
    return [page, text]


def render(evidence: Evidence, told: Answer, page: Path) -> str:
    """The HTML. page: where it will be, for its links."""
    shown = list(sections(evidence))
    data = {
        "templates": templates(),
        "figures": {one.name: one.figure for one in shown if one.figure is not None},
        "table": trials(evidence, page),
    }
    scripts = [get_plotlyjs(), _source("report.js")]
    return (
        _environment()
        .get_template("report.html")
        .render(
            told=told,
            sections={one.name: one for one in shown},
            rest=[one for one in shown if one.name not in ("gains", "parallel")],
            seeds=seeds(evidence, page),
            link=lambda run: f"{link(run, page)}/",
            style=Markup(_source("report.css")),
            scripts=[Markup(script) for script in scripts],
            policy=policy(scripts),
            data=htmlsafe_json_dumps(data, dumps=_dumps),
            made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, mergenet {mergenet.__version__}",
        )
    )


def policy(scripts: list[str]) -> str:
    """No network and no script but these. plotly's parallel coordinates compile their shaders, which needs eval."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in scripts)
    return (
        f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


_dumps = functools.partial(json.dumps, allow_nan=False, separators=(",", ":"))


def _source(name: str) -> str:
    return (files("analysis.report") / "templates" / name).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("analysis.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
