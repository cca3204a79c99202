"""The report of a sweep's folder (analysis/report), written by the sweep itself; that it cannot be is never its end."""

from contextlib import suppress
from importlib import import_module
from pathlib import Path


def load_page() -> None:
    """Import what `write_page` needs: pandas, plotly, scikit-learn."""
    with suppress(Exception):  # whatever it is, write_page says it
        import_module("analysis.report.page")


def write_page(folder: Path, status: str = "") -> str:
    """Write report.html and report.md into the folder; returns the line that says so, or why they could not be.

    status: of the sweep, instead of that in sweep.json.
    """
    try:
        from analysis.report.page import write_report  # pandas, plotly, scikit-learn: seconds

        page, _ = write_report(folder, status=status)
    except Exception as error:  # whatever it is, the records are whole, and the sweep has its result
        return f"no report: {' '.join(str(error).split()) or type(error).__name__}"
    return f"report: {page}"
