"""The report of a sweep's folder (analysis/report), written by the sweep itself; that it cannot be is never its end."""

from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.report.evidence import Evidence


def load_page() -> None:
    """Import what `write_page` needs: pandas, plotly, scikit-learn."""
    with suppress(Exception):  # whatever it is, write_page says it
        import_module("analysis.report.page")


def write_page(folder: Path, status: str = "") -> tuple[str, "Evidence | None"]:
    """Write report.html and report.md into the folder; returns the line that says so, or why they could not be.

    status: of the sweep, instead of that in sweep.json. Also returns what the report is made of, if that could be
    gathered, with all that has been computed.
    """
    evidence = None
    try:
        from analysis.report.evidence import gather  # pandas, plotly, scikit-learn: seconds
        from analysis.report.page import REPORT_FILE, write_pages

        evidence = gather(folder, status)
        page, _ = write_pages(evidence, folder / REPORT_FILE)
    except Exception as error:  # whatever it is, the records are whole, and the sweep has its result
        return f"no report: {' '.join(str(error).split()) or type(error).__name__}", evidence
    return f"report: {page}", evidence
