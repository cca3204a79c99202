"""Tables, paired gains, what mattered and the best configuration, from the records of runs and sweeps on disk.

    from analysis import load_trials, paired_gain

Public names are imported on first use, so that `import analysis` does not load pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.best import best_trial, choose_best, confirmed_gain, write_best
    from analysis.importance.figures import FIGURES, write_figures
    from analysis.importance.findings import Findings, what_mattered
    from analysis.load import load_trials, measure_columns, param_columns
    from analysis.paired_tests import PairedDifference, gain_over, holm, paired_difference, paired_gain
    from analysis.power import smallest_gain, smallest_p
    from analysis.report.answer import Answer, answers
    from analysis.report.page import write_report

__distribution__ = "mergenet"

_HOMES = {
    "Answer": "analysis.report.answer",
    "FIGURES": "analysis.importance.figures",
    "Findings": "analysis.importance.findings",
    "PairedDifference": "analysis.paired_tests",
    "answers": "analysis.report.answer",
    "best_trial": "analysis.best",
    "choose_best": "analysis.best",
    "confirmed_gain": "analysis.best",
    "gain_over": "analysis.paired_tests",
    "holm": "analysis.paired_tests",
    "load_trials": "analysis.load",
    "measure_columns": "analysis.load",
    "paired_difference": "analysis.paired_tests",
    "paired_gain": "analysis.paired_tests",
    "param_columns": "analysis.load",
    "smallest_gain": "analysis.power",
    "smallest_p": "analysis.power",
    "what_mattered": "analysis.importance.findings",
    "write_best": "analysis.best",
    "write_figures": "analysis.importance.figures",
    "write_report": "analysis.report.page",
}

__all__ = [
    "FIGURES",
    "Answer",
    "Findings",
    "PairedDifference",
    "answers",
    "best_trial",
    "choose_best",
    "confirmed_gain",
    "gain_over",
    "holm",
    "load_trials",
    "measure_columns",
    "paired_difference",
    "paired_gain",
    "param_columns",
    "smallest_gain",
    "smallest_p",
    "what_mattered",
    "write_best",
    "write_figures",
    "write_report",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
