"""The run of the whole sweep on Weights & Biases: its trials as a table, the best, the confirmation."""

import html
import re
from pathlib import Path
from typing import Any

from analysis.names import COMPLETE, FAILED
from analysis.trial_file import named_values
from analysis.wandb_runs.tracked import METRIC, ROLE, SUMMARY_ROLE
from mergenet.config.pair_labels import in_a_word
from mergenet.records.run_record import test_column
from sweeps.config import SweepConfig
from sweeps.tracking.wandb_about import Ending, notes_of

COLUMNS = ("trial_id", "state", "epochs", "value")


# what `numbers` makes of a summary
OWN = re.compile(r"state|front|baseline_value|(trials|best|gain|control|adapter)_\w+")


def table_config(metric: str) -> dict[str, Any]:
    """The configuration of the run."""
    return {ROLE: SUMMARY_ROLE, METRIC: metric}


def log_summary(run: Any, summary: dict[str, Any]) -> None:
    """summary: report/summary.py's. The table is HTML: a W&B table needs an artifact, which can be refused."""
    import wandb

    run.log({"trials": wandb.Html(trials_html(summary["trials"]), inject=False)})


def how_it_ended(summary: dict[str, Any], sweep: SweepConfig, folder: Path, project_url: str | None) -> Ending:
    """How the sweep ended: without a best trial it failed."""
    state = FAILED if summary["best"] is None else COMPLETE
    return Ending(numbers(summary) | {"state": state}, (state,), notes_of(sweep, folder, project_url), own=OWN)


def numbers(summary: dict[str, Any]) -> dict[str, Any]:
    """Top-level scalars: trials by state, best trial, no transfer, gain of the confirmation and its controls."""
    trials, best, baseline = summary["trials"], summary["best"], summary["baseline"]
    states = [trial["state"] for trial in trials]
    found: dict[str, Any] = {f"trials_{state}": states.count(state) for state in sorted(set(states))}
    if summary.get("constraints"):
        found["trials_infeasible"] = summary["infeasible"]["infeasible"]
    if summary.get("front"):
        found["front"] = ", ".join(point["trial_id"] for point in summary["front"])
    if best is not None:
        found |= {"best_trial": best["trial_id"], "best_value": best["value"]}
        found |= {
            f"best_{path.replace('.', '_')}": in_a_word(value) for path, value in named_values(best["params"]).items()
        }
        found |= {f"best_{name}": value for name, value in best.get("measured", {}).items()}
    if baseline is not None:
        found["baseline_value"] = baseline["value"]
    confirmed = summary["confirmation"] or {}
    for metric in (summary["metric"], test_column(summary["metric"])):
        gain = confirmed.get(metric, {}).get("gain", {})
        found |= {f"gain_{metric}_{key}": value for key, value in gain.items()}
        for name, control in confirmed.get("controls", {}).items():
            beside = control.get(metric, {})
            found |= {f"control_{name}_{metric}_{key}": value for key, value in beside.get("gain", {}).items()}
            over = beside.get("best_minus_control", {})
            found |= {f"best_minus_{name}_{metric}_{key}": value for key, value in over.items()}
        trained = confirmed.get("adapter", {}).get(metric, {})
        for name, what in (("adapter", "gain"), ("adapter_minus_best", "minus_best")):
            found |= {f"{name}_{metric}_{key}": value for key, value in trained.get(what, {}).items()}
    return {key: value for key, value in found.items() if value is not None}


def trials_html(trials: list[dict[str, Any]]) -> str:
    drawn = [named_values(trial["params"]) for trial in trials]
    paths = list(dict.fromkeys(path for params in drawn for path in params))
    names = list(dict.fromkeys(name for trial in trials for name in trial.get("measured", {})))
    lines = [row("th", [*COLUMNS, *names, *paths])]
    for trial, params in zip(trials, drawn, strict=True):
        values = [trial.get("measured", {}).get(name) for name in names]
        values += [in_a_word(params[path]) if path in params else None for path in paths]
        lines.append(row("td", [*(trial[column] for column in COLUMNS), *values]))
    return f"<table>{''.join(lines)}</table>"


def row(tag: str, cells: list[Any]) -> str:
    shown = ("" if cell is None else html.escape(str(cell)) for cell in cells)
    return f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in shown)}</tr>"
