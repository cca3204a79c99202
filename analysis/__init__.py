"""Tables, paired gains, what mattered and the best configuration, from the records of runs and sweeps on disk.

    from analysis import load_trials, paired_gain

Public names are imported on first use, so that `import analysis` does not load pandas.
"""

from typing import TYPE_CHECKING

from mergenet.lazy import attach

if TYPE_CHECKING:
    from analysis.best import best_trial, choose_best, confirmed_gain, write_best
    from analysis.comparison.compare import Comparison, compare
    from analysis.comparison.variants import variant
    from analysis.importance.figures import FIGURES, write_figures
    from analysis.importance.findings import Findings, what_mattered
    from analysis.report.answer import Answer, answers
    from analysis.report.page import write_report
    from analysis.statistics.paired_tests import PairedDifference, gain_over, holm, paired_difference, paired_gain
    from analysis.statistics.power import smallest_gain, smallest_p
    from analysis.tables.formats import to_csv, to_latex, to_markdown
    from analysis.tables.load import load_trials, measure_columns, param_columns
    from analysis.verification.verdict import Verification
    from analysis.verification.verify import verify
    from analysis.wandb_runs.table import load_wandb

__distribution__ = "mergenet"

_HOMES = {
    "Comparison": "analysis.comparison.compare",
    "FIGURES": "analysis.importance.figures",
    "Findings": "analysis.importance.findings",
    "PairedDifference": "analysis.statistics.paired_tests",
    "Verification": "analysis.verification.verdict",
    "Answer": "analysis.report.answer",
    "answers": "analysis.report.answer",
    "best_trial": "analysis.best",
    "choose_best": "analysis.best",
    "compare": "analysis.comparison.compare",
    "confirmed_gain": "analysis.best",
    "gain_over": "analysis.statistics.paired_tests",
    "holm": "analysis.statistics.paired_tests",
    "load_trials": "analysis.tables.load",
    "load_wandb": "analysis.wandb_runs.table",
    "measure_columns": "analysis.tables.load",
    "paired_difference": "analysis.statistics.paired_tests",
    "paired_gain": "analysis.statistics.paired_tests",
    "param_columns": "analysis.tables.load",
    "smallest_gain": "analysis.statistics.power",
    "smallest_p": "analysis.statistics.power",
    "to_csv": "analysis.tables.formats",
    "to_latex": "analysis.tables.formats",
    "to_markdown": "analysis.tables.formats",
    "variant": "analysis.comparison.variants",
    "verify": "analysis.verification.verify",
    "what_mattered": "analysis.importance.findings",
    "write_best": "analysis.best",
    "write_figures": "analysis.importance.figures",
    "write_report": "analysis.report.page",
}

__all__ = [
    "FIGURES",
    "Answer",
    "Comparison",
    "Findings",
    "PairedDifference",
    "Verification",
    "answers",
    "best_trial",
    "choose_best",
    "compare",
    "confirmed_gain",
    "gain_over",
    "holm",
    "load_trials",
    "load_wandb",
    "measure_columns",
    "paired_difference",
    "paired_gain",
    "param_columns",
    "smallest_gain",
    "smallest_p",
    "to_csv",
    "to_latex",
    "to_markdown",
    "variant",
    "verify",
    "what_mattered",
    "write_best",
    "write_figures",
    "write_report",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
