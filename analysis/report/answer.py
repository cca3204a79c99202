"""The first screen of a report as plain data: what it says of a sweep before anything is shown.

Five questions, each with an answer of one line and what it rests on: the best configuration, its gain, what mattered,
whether it is the source, what to run next. What cannot be said is said to be so, with the reason.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.importance.evaluators import LEVEL
from analysis.importance.findings import Findings
from analysis.importance.search import MIN_TRIALS
from analysis.importance.space import base_labels
from analysis.importance.text import learned
from analysis.importance.text import verdict as mattered_lines
from analysis.measures import amount
from analysis.names import BASELINE, COMPLETE, CONFIRM_BEST, FAILED, mode_of
from analysis.report.chosen import best_of
from analysis.report.confirmation import without_value
from analysis.report.evidence import Evidence, gather
from analysis.report.next_steps import Step, next_steps
from analysis.report.verdict import controls_verdict, gain_text, label, show, show_difference, shown, verdict
from analysis.seeds import SEEDS
from analysis.tables import formatting
from analysis.tables.load import is_missing, selecting_metrics
from mergenet.errors import UserError
from mergenet.records.run_record import BEST_EPOCH, METRIC, test_column

GOOD, BAD, OPEN = "good", "bad", "open"  # tones: shown, shown to be worse, not told
LARGEST = 3  # steps of the way from the base to the best that the first screen names


@dataclass(frozen=True)
class Card:
    """question, and its answer in a line. runs: names and folders of the runs that it rests on."""

    name: str
    question: str
    answer: str
    tone: str
    details: list[str]
    runs: list[tuple[str, str]]


@dataclass(frozen=True)
class Setting:
    """A searched setting: its path, the base's value and the best's, as text."""

    path: str
    base: str
    best: str


@dataclass(frozen=True)
class Answer:
    """state: one line on how far the sweep is. warnings: what makes the numbers not comparable or not whole."""

    title: str
    state: str
    warnings: list[str]
    cards: list[Card]
    settings: list[Setting]
    steps: list[Step]


def answers(folder: str | Path) -> Answer:
    """What a report of a sweep folder, or of another folder of runs, says first. Raises UserError if it has no run."""
    return answer(gather(Path(folder)))


def answer(evidence: Evidence) -> Answer:
    steps = next_steps(evidence)
    cards = [best_card(evidence), gain_card(evidence), mattered_card(evidence), source_card(evidence)]
    return Answer(evidence.name, state_line(evidence), warnings(evidence), cards, settings(evidence), steps)


def state_line(evidence: Evidence) -> str:
    what = f"sweep, {evidence.status}" if evidence.status else "sweep" if evidence.is_sweep else "runs of no sweep"
    kind = "trial" if evidence.is_sweep else "run"
    count = len(evidence.trials)
    return f"{what}: {count} {kind}{'s' * (count != 1)}, {formatting.counted(evidence.trials['state'])}"


def warnings(evidence: Evidence) -> list[str]:
    """What a reader must know before the numbers."""
    lines = []
    if evidence.is_running:
        lines.append(f"the sweep has not ended ({evidence.status}): all of this is as of now, and may change")
    if len(metrics := selecting_metrics(evidence.table)) > 1:
        lines.append(f"runs of different tasks, not to be compared: they select by {', '.join(metrics)}")
    if problems := evidence.table.attrs.get("problems"):
        lines.append(f"{len(problems)} runs could not be read and are missing here: {problems[0]}")
    return [*lines, *evidence.table.attrs.get("mixed", [])]


def best_card(evidence: Evidence) -> Card:
    best, metric, question = evidence.best, evidence.metric, "What is the best configuration?"
    if best is None or metric is None:
        return Card("best", question, "there is none yet", OPEN, [evidence.why_not["best"]], [])
    test = test_column(str(best[METRIC]))
    seeds = best.get(SEEDS)
    at = f"epoch {best[BEST_EPOCH]} of {best['epochs_done']}" if is_missing(seeds) else f"mean over {seeds} seeds"
    details = [f"{at}{_test_value(best, test)}", _chosen(evidence, metric), *_luck(evidence, metric)]
    runs = [(str(best["trial"]), str(best["folder"]))]
    baseline = evidence.table[(evidence.table["role"] == BASELINE) & (evidence.table["state"] == COMPLETE)]
    if len(baseline) and not is_missing(baseline.iloc[0].get(metric)):
        row = baseline.iloc[0]
        details.append(f"no transfer, same recipe and seed: {label(metric)} {show(metric, row[metric])}")
        runs.append((str(row["trial"]), str(row["folder"])))
    return Card("best", question, f"{best['trial']}: {label(metric)} {show(metric, best[metric])}", GOOD, details, runs)


def _test_value(best: pd.Series, test: str) -> str:
    return "" if is_missing(best.get(test)) else f", where {label(test)} is {show(test, float(best[test]))}"


def _chosen(evidence: Evidence, metric: str) -> str:
    extreme = "lowest" if mode_of(metric) == "min" else "highest"
    whole = f"chosen by the {extreme} {label(metric)} of {evidence.finished} finished"
    return f"{whole} of {len(evidence.trials)}; of equals the one with fewer adapter parameters, then the earlier one"


def _luck(evidence: Evidence, metric: str) -> list[str]:
    """That the best of many was selected for its luck, and by how much, where fresh seeds tell."""
    selected = best_of(evidence.trials["state"], "trial" if evidence.is_sweep else "run")
    if selected is None:
        return ["it is the only one that has finished: nothing was chosen"]
    lines = [f"{selected}: its lead over no transfer is not a gain"]
    if evidence.confirmed is None or evidence.best is None:
        return lines
    table, seeds = evidence.table, evidence.confirmed["seeds"]
    fresh = table[(table["role"] == CONFIRM_BEST) & (table["state"] == COMPLETE) & table["seed"].isin(seeds)]
    mean = float(fresh[metric].mean())
    change = show_difference(metric, mean - float(evidence.best[metric]))
    return [*lines, f"on {len(fresh)} fresh seeds its settings reach {show(metric, mean)} on average ({change})"]


def gain_card(evidence: Evidence) -> Card:
    question, found = "What does it gain over no transfer?", evidence.confirmed
    if found is None or evidence.best is None:
        return Card("gain", question, "not known", OPEN, [evidence.why_not["confirmed"]], [])
    metric = str(evidence.best[METRIC])
    test = test_column(metric)
    gain, tones = found[test]["gain"], {"gain": GOOD, "loss": BAD}
    details = [
        verdict(gain, mode_of(test)),
        f"{label(metric)}: {gain_text(metric, found[metric]['gain'])}",
        f"{len(found['seeds'])} fresh seeds, each trained with the best settings and without transfer; the source and "
        "the data split are those of the search",
    ]
    if gone := without_value(evidence.table, (metric, test)):
        details.append(f"{', '.join(gone)} left out: no finite {label(metric)} or {label(test)}")
    tone = tones.get(shown(gain, mode_of(test)) or "", OPEN)
    answered = gain_text(test, gain).partition(" (t)")[0]
    return Card("gain", question, f"{label(test)} {answered}", tone, details, [])


def mattered_card(evidence: Evidence) -> Card:
    question, found = "What mattered?", evidence.told
    if found is None:
        return Card("mattered", question, "not told", OPEN, _not_told(evidence), [])
    table = found.importances
    told = list(dict.fromkeys(table["parameter"][table["p_value"] <= LEVEL]))
    names = ", ".join(found.names[path] for path in told)
    details = [*(mattered_lines(found, table) if told else []), *learned(found, table), *_way(found)]
    count = len(found.search.used)
    details.append(f"over {count} trials with a value; mergenet analyze importance takes more permutations")
    answered = names or f"no searched setting is told from chance by {count} trials"
    return Card("mattered", question, answered, GOOD if told else OPEN, details, [])


def _not_told(evidence: Evidence) -> list[str]:
    """Why what mattered is not told, and the command that tells it earlier, where there is one."""
    found = evidence.found
    if found is None or (whole := len(found.search.used)) >= MIN_TRIALS:
        return [evidence.why_not["importances"]]
    trials = found.search.trials
    ended = "trained to their end" if whole == (trials["state"] == COMPLETE).sum() else "have a value"
    lines = [f"{whole} of {len(trials)} trials {ended}, {MIN_TRIALS} are needed"]
    epochs = sorted(trials["epochs_done"][trials["state"] != FAILED], reverse=True)
    if len(epochs) >= MIN_TRIALS and (reached := int(epochs[MIN_TRIALS - 1])) > 0:
        command = f"mergenet analyze importance {shlex.quote(str(evidence.folder))} --epoch {reached}"
        lines.append(f"what mattered by epoch {reached}: {command}")
    return lines


def _way(found: Findings) -> list[str]:
    """The largest steps from the base to the best."""
    search = found.search
    try:
        path = found.ablation_path
    except UserError as error:
        return [f"from the base to the best: {error}"]
    if found.surrogate.r2 <= 0:
        return ["a forest predicts a left-out trial no better than the mean does: no single step is told"]
    if len(path) == 1:
        return [f"the best ({path.attrs['best']}) has the base's own values"]
    lines = []
    for _, row in path.iloc[1:].iterrows():
        worth, low, high = (amount(search.metric, row[name], "+") for name in ("worth", "low", "high"))
        change = f"{found.names[row['parameter']]} from {_text(row['before'])} to {_text(row['after'])}"
        lines.append(f"{change}: predicted {worth}{search.unit} [{low}, {high}]")
    return [f"from the base to the best ({path.attrs['best']}), by a forest:", *lines[:LARGEST]]


def source_card(evidence: Evidence) -> Card:
    question, found = "Is it the source?", evidence.confirmed
    if found is None or evidence.best is None:
        return Card("source", question, "not tested", OPEN, ["only a confirmed gain can be attributed"], [])
    test = test_column(str(evidence.best[METRIC]))
    line = controls_verdict(found, test)
    if line is not None:
        told, _, answered = line.rpartition(": ")
        tone = GOOD if answered.startswith("it is the source") else OPEN
        return Card("source", question, answered, tone, [told], [])
    if not found.get("controls"):
        method = evidence.best["method"]
        why = "no control was trained on the fresh seeds (confirm_controls)"
        if method != "mergenet":
            why = f"the best trial's method is {method}, which shows no source's parameters: it has no controls"
        return Card("source", question, "not tested", OPEN, [why], [])
    names = ", ".join(found["controls"])
    why = f"controls were trained ({names}), but no gain is shown that they could explain"
    is_loss = shown(found[test]["gain"], mode_of(test)) == "loss"
    answered = "there is no gain to attribute" if is_loss else "no gain is shown yet that could be attributed"
    return Card("source", question, answered, OPEN, [why], [])


def settings(evidence: Evidence) -> list[Setting]:
    """What was searched: the base's own value beside the best's."""
    if evidence.best is None:
        return []
    own = base_labels(evidence.base, evidence.settings)
    found = [(path, evidence.best[path]) for path in evidence.settings if not is_missing(evidence.best[path])]
    return [Setting(path, _text(own.get(path)), _text(value)) for path, value in found]


def _text(value: Any) -> str:
    return "-" if value is None else formatting.setting(value)
