"""The summary of a sweep: its numbers in summary.json, and the same numbers as text."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from analysis.names import ADAPTER, ADAPTER_PATH, BASELINE, COMPLETE, TRIAL, TRIALS_FOLDER, mode_of
from analysis.report.chosen import best_of
from analysis.report.verdict import adapter_lines, control_lines, gain_text, label, show, verdict
from analysis.seeds import SD
from analysis.trial_file import ended_trial, trial_folders
from mergenet.records.mixed import mixed_inputs
from mergenet.records.run_record import test_column
from sweeps.config import SweepConfig
from sweeps.planning.plan import Plan
from sweeps.report.live import front_table, trials_table
from sweeps.report.status import failed_text
from sweeps.report.wording import clock
from sweeps.space.space import Space
from sweeps.trials.budget import budget_line
from sweeps.trials.jobs import no_controls
from sweeps.trials.objectives import infeasible, infeasible_text, pareto_front
from sweeps.trials.results import best_record, best_trial, confirmation, failed_runs, read_trials, without_value
from sweeps.trials.sweep_dir import shown_path


def summarize(plan: Plan, folder: Path, times: dict[str, float], budget: dict[str, Any] | None) -> dict[str, Any]:
    """All numbers of the sweep, from the records on disk."""
    sweep = plan.sweep
    trials = read_trials(folder, sweep, TRIAL)
    best = best_trial(trials, sweep.objective)
    baseline = read_trials(folder, sweep, BASELINE)
    return {
        "name": sweep.name,
        "metric": sweep.objective,
        "objectives": list(sweep.objectives),
        "front": pareto_front(sweep, trials) if sweep.minimize else None,
        "constraints": sweep.bounds,
        "infeasible": infeasible(trials),
        "trials": trials,
        "baseline": baseline[0] if baseline else None,
        "best": best,
        "failed": failed_runs(folder),
        "best_is_base": best is not None and best["params"] == base_values(plan.space),
        "confirmation": confirmation(folder, sweep),
        "without_value": without_value(folder, sweep),
        "controls_left_out": controls_left_out(sweep, folder, best),
        "adapter": trained_adapter(sweep, folder),
        "budget": budget,
        "mixed": mixed_inputs(trial_folders(folder)),
        "seconds": times,
    }


def controls_left_out(sweep: SweepConfig, folder: Path, best: dict[str, Any] | None) -> str | None:
    """Why the best trial has none of the controls that were asked for; None if it has them."""
    if best is None or not (sweep.adapter_seeds or (sweep.confirm_controls and sweep.confirm_seeds)):
        return None
    return no_controls(best_record(folder, best).config) or None


def trained_adapter(sweep: SweepConfig, folder: Path) -> str | None:
    """The run, relative to the sweep folder, in which the adapter was trained last; None if there is none."""
    last = f"{TRIALS_FOLDER}/{ADAPTER}-{sweep.adapter_seeds}"
    trial = ended_trial(folder / last) if sweep.adapter_seeds else None
    return last if trial is not None and trial["state"] == COMPLETE else None


def base_values(space: Space) -> dict[str, Any] | None:
    """The base's own values of the searched settings; None if the space does not hold them."""
    labels = space.locate(space.config({}))
    return None if labels is None else space.values(labels)


def print_summary(folder: Path, summary: dict[str, Any], console: Console) -> None:
    def say(text: str = "") -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    folder = shown_path(folder)
    metric, best, baseline = summary["metric"], summary["best"], summary["baseline"]
    say()
    say("trials")
    constraints = summary.get("constraints") or {}
    others = [name for name in dict.fromkeys((*summary.get("objectives", ()), *constraints)) if name != metric]
    console.print(trials_table(summary["trials"], metric, others))
    say()
    if constraints:
        say(infeasible_text(summary["infeasible"]))
    if summary.get("budget") is not None:
        say(budget_line(summary["budget"]))
    for line in summary.get("mixed", ()):
        say(line)
    if failed := summary.get("failed"):
        say(failed_text(failed, folder))
    if baseline is not None:
        say(f"no transfer, same recipe and seed{'s' * repeated(baseline)}: {value_text(baseline, metric)}")
    if best is not None:
        say(f"best trial: {best['trial_id']}, {value_text(best, metric)}")
        if summary.get("best_is_base"):
            whole = "trained to its end" + (" and keeps the constraints" if constraints else "")
            say(f"  these are the base's own values: no other trial that {whole} is better by {label(metric)}")
        if (selected := best_of(trial["state"] for trial in summary["trials"])) is not None:
            say(f"  {selected}: its lead over no transfer is not a gain")
        if summary.get("front"):
            say("Pareto front: none of these is beaten by another trial in all objectives")
            console.print(front_table(summary["front"]))
            say(f"  a configuration of it: mergenet analyze best {shlex.quote(str(folder))} --trial NAME")
        print_confirmation(summary["confirmation"], metric, say)
        if gone := summary.get("without_value"):
            say(f"  left out: {', '.join(gone)}, which trained to the end without a finite {label(metric)} or its test")
        if reason := summary.get("controls_left_out"):
            say(f"  confirm_controls and adapter_seeds: left out for this best configuration: {reason}")
        if (adapter := summary.get("adapter")) is not None:
            say(f"trained adapter: {ADAPTER_PATH}={folder / adapter}")
        say(f"best configuration: {folder / 'best.yaml'}")
        say("next:")
        say(f"  mergenet train {shlex.quote(str(folder / 'best.yaml'))}")
        say(f"  mergenet analyze table {shlex.quote(str(folder))}")
        say(f"  mergenet analyze report {shlex.quote(str(folder))} --open")
    say(f"took {clock(sum(summary['seconds'].values()))}; all records are in {folder}")


def repeated(trial: dict[str, Any]) -> bool:
    """Whether its value is the mean over several seeds."""
    return len(trial.get("values", [])) > 1


def value_text(trial: dict[str, Any], metric: str) -> str:
    if trial["value"] is None:
        return f"no value, it is {trial['state']}"
    text = f"{label(metric)} {show(metric, trial['value'])}"
    if not repeated(trial):
        return text
    values = ", ".join(show(metric, value) for value in trial["values"])
    return f"{text}, mean over {len(trial['values'])} seeds ({values}; sd {show(metric, trial[SD])})"


def print_confirmation(found: dict[str, Any] | None, metric: str, say: Callable[[str], None]) -> None:
    if found is None:
        say("not confirmed: no pair of runs with fresh seeds (confirm_seeds)")
        return
    n = len(found["seeds"])
    say(f"confirmation, {n} fresh seed{'s' if n > 1 else ''}, paired: best configuration minus no transfer")
    names = (metric, test_column(metric))
    width = max(10, *(len(label(name)) for name in names))
    for name in names:
        say(f"  {label(name):<{width}} {gain_text(name, found[name]['gain'])}")
    say(f"  {label(names[1])}: {verdict(found[names[1]]['gain'], mode_of(metric))}")
    for line in (*adapter_lines(found, metric), *control_lines(found, metric)):
        say(f"  {line}")
    say("  target seeds are fresh; the source and the data split are those of the search")
