"""What to run next, by rules: each looks at the evidence and says a sentence, with a command where there is one.

Of a sweep that has not ended only what lets it end. Else in this order: what failed, whether there is a best trial,
whether it is confirmed, what the confirmation and its controls have shown, ranges that ended at the best, settings that
explain nothing.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from analysis.importance.evaluators import LEVEL as TOLD
from analysis.importance.space import Label, Parameter
from analysis.measures import amount
from analysis.names import FAILED, RUNNING, SWEEP_FILE, mode_of
from analysis.report.confirmation import paired
from analysis.report.evidence import Evidence, read_status
from analysis.report.verdict import controls_verdict, shown
from analysis.statistics.power import LEVEL, POWER, smallest_gain, smallest_p, smallest_p_text
from analysis.sweep_file import read_confirmation
from analysis.tables.formatting import setting
from analysis.tables.load import is_missing
from mergenet.records.run_record import FINISHED, METRIC, STOPPED, is_metric, test_column

SEEDS = 8  # that are advised: p down to 0.0078, enough for a few comparisons after Holm's correction
MOST_SEEDS = 100  # of `mergenet sweep confirm`
CONFIRM_SLOTS = 2  # its trials at the same time, where nothing else is said
CONTROLS = "confirm_controls: [shuffled, noise]"
EDGE = 0.05  # of a range, as it was drawn: a value as near to its end lies at its edge


class Step(NamedTuple):
    """command: empty where there is none."""

    sentence: str
    command: str = ""


def next_steps(evidence: Evidence) -> list[Step]:
    """Never empty."""
    if evidence.is_running:
        return [*_unended(evidence), *_failed(evidence)]
    if not evidence.is_sweep:
        return [_other_runs(evidence)]
    steps = [*_failed(evidence), *_best(evidence), *_confirmed(evidence), *_edges(evidence), *_nothing(evidence)]
    return steps or [Step("nothing is left open by these records")]


def _command(evidence: Evidence, words: str, place: Path | str = "", more: str = "") -> str:
    """words: after mergenet; place: inside the folder."""
    return f"mergenet {words} {_quoted(evidence.folder / place)}{more}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _unended(evidence: Evidence) -> Iterator[Step]:
    if evidence.status == RUNNING:
        look = _command(evidence, "sweep status", more=" --html")
        yield Step("the sweep runs, or was killed: its status says which, and writes this report again", look)
    else:
        how = "is paused" if evidence.status == STOPPED else f"has ended early ({evidence.status})"
        yield Step(f"the sweep {how}: resume it", _command(evidence, "sweep resume"))


def _other_runs(evidence: Evidence) -> Step:
    text = "these runs are of no sweep: nothing was searched or confirmed; a table has all of them, paired by seed"
    return Step(text, _command(evidence, "analyze table"))


def _failed(evidence: Evidence) -> Iterator[Step]:
    failed = evidence.table[evidence.table["state"] == FAILED]
    if failed.empty:
        return
    errors = failed["error"].dropna()
    first = f", the first with: {errors.iloc[0]}" if len(errors) else ""
    runs = "1 run has failed" if len(failed) == 1 else f"{len(failed)} runs have failed"
    again = _command(evidence, "sweep resume", more=" --retry-failed")
    yield Step(f"{runs}{first}; if the cause is mended, train again what failed", again)


def _best(evidence: Evidence) -> Iterator[Step]:
    if evidence.best is None:
        whole = "no trial trained to its end and kept the constraints"
        yield Step(f"{whole}: mend what failed, loosen constraints or early stopping, or search elsewhere")


def _confirmed(evidence: Evidence) -> Iterator[Step]:
    if evidence.best is None:
        return
    if evidence.best["method"] == "none":
        text = "the best has no transfer itself: fresh seeds tell whether the best trials that have it are better"
        yield _elsewhere(evidence) or Step(text, _confirm(evidence, "--top 3"))
        return
    if evidence.confirmed is None:
        can = f"{SEEDS} seeds, which can show p down to {smallest_p_text(SEEDS)}"
        yield _more_seeds(evidence, "the best is not confirmed on fresh seeds", can, SEEDS)
        return
    test = test_column(str(evidence.best[METRIC]))
    gain = evidence.confirmed[test]["gain"]
    found, more = shown(gain, mode_of(test)), 2 * gain["num_pairs"]
    if found == "gain":
        yield from _source(evidence, test)
    elif found == "loss":
        diagnosed = _command(evidence, "diagnose", "best.yaml")
        yield Step("the best settings are shown to be worse than no transfer: see what hinders it", diagnosed)
    elif smallest_p(gain["num_pairs"]) >= LEVEL:
        why = f"{gain['num_pairs']} seeds cannot show anything at the 5 % level"
        yield _more_seeds(evidence, why, f"{SEEDS} seeds in all", SEEDS)
    else:
        why = f"no gain is shown; {_smallest_effect(evidence, test)}, and a smaller one needs more"
        yield _more_seeds(evidence, why, f"{more} seeds in all", more)


def _more_seeds(evidence: Evidence, why: str, what: str, seeds: int) -> Step:
    """The best beside no transfer on so many fresh seeds, of which those that are there do not train again."""
    if (there := _elsewhere(evidence)) is not None:
        return there
    if seeds > MOST_SEEDS or evidence.sweep.get("workers_per_trial") not in (None, 1):
        return _by_resume(evidence, why, f"confirm_seeds: {seeds}")
    return Step(f"{why}: train the best and no transfer on {what}", _confirm(evidence, f"--top 1 --seeds {seeds}"))


def _by_resume(evidence: Evidence, why: str, setting: str) -> Step:
    """For what no command tells: `sweep confirm` has neither controls nor several workers a trial."""
    way = f"set {setting} in {evidence.folder / SWEEP_FILE} and resume it"
    return Step(f"{why}: {way}", _command(evidence, "sweep resume"))


def _confirm(evidence: Evidence, options: str) -> str:
    slots = evidence.sweep.get("slots")
    options += f" --max-concurrent {slots}" if slots not in (None, CONFIRM_SLOTS) else ""
    return _command(evidence, "sweep confirm", more=f" {options} --dir {_quoted(_confirmation_folder(evidence))}")


def _confirmation_folder(evidence: Evidence) -> Path:
    """Where the steps have `sweep confirm` train: beside the sweep folder."""
    folder = evidence.folder if evidence.folder.name not in ("", "..") else evidence.folder.resolve()
    return folder.with_name(f"{folder.name}-best")


def _elsewhere(evidence: Evidence) -> Step | None:
    """What is next where a step of an earlier report was followed; None if that folder has no such confirmation."""
    folder = _confirmation_folder(evidence)
    if read_confirmation(folder).get("name") != f"{evidence.name}-best"[:100]:
        return None
    where = f"sweep confirm has trained in {folder}, of which this report tells nothing"
    if read_status(folder) == FINISHED:
        return Step(f"{where}: its table has the gain on fresh seeds", f"mergenet sweep ablate {_quoted(folder)}")
    return Step(f"{where}, and has not ended: resume it", f"mergenet sweep resume {_quoted(folder)}")


def _smallest_effect(evidence: Evidence, test: str) -> str:
    """What the seeds of the confirmation can show, by the spread of their differences."""
    assert evidence.best is not None and evidence.confirmed is not None
    pairs = paired(evidence.table, evidence.best, test, evidence.confirmed["seeds"])
    effect = smallest_gain(pairs.num_seeds)
    if effect is None or is_missing(pairs.standard_error):
        return "one pair has no spread to judge by"
    size = effect * pairs.standard_error * pairs.num_seeds**0.5
    scaled = amount(test, size) + (" points" if is_metric(test) else "")
    return f"{pairs.num_seeds} seeds of this spread show a difference of {scaled} in {POWER:.0%} of the cases"


def _source(evidence: Evidence, test: str) -> Iterator[Step]:
    assert evidence.best is not None and evidence.confirmed is not None
    told = controls_verdict(evidence.confirmed, test) or ""
    if not told and evidence.best["method"] == "mergenet":
        yield _by_resume(evidence, "whether the gain is the source's was not tested", CONTROLS)
    elif "regularisation" in told:
        yield Step(
            "a control gains too, so that the gain, or a part of it, is regularisation: compare with regularisation "
            "by itself (weight decay, label smoothing, a distillation method) before it is called transfer"
        )
    elif told.endswith("or not"):
        text = "the best is not shown to be better than every control"
        yield _by_resume(evidence, text, f"confirm_seeds: {2 * len(evidence.confirmed['seeds'])}")
    else:
        yield Step("a gain is shown: train the best configuration", _command(evidence, "train", "best.yaml"))


def _edges(evidence: Evidence) -> Iterator[Step]:
    """Ranges at whose end the best lies."""
    best = evidence.best
    if evidence.found is None or best is None:
        return
    search = evidence.found.search
    row = search.trials[search.trials["trial"] == best["trial"]]
    for path, parameter in search.parameters.items():
        label = row[path].iloc[0] if len(row) else None
        at = None if label is None else edge(parameter, label)
        if at is not None:
            what = f"the best has {path} {setting(label)}, at the {at} edge of what was searched"
            but = ", though it is not told from chance yet" if _means_nothing(evidence, path) else ""
            yield Step(f"{what} ({_searched(parameter)}): widen it there, where the setting allows it{but}")


def edge(parameter: Parameter, label: Label) -> str | None:
    """ "lower" or "upper", if the value lies at an end of its range, or is an end of a choice of numbers; else None."""
    if parameter.choices:
        numbers = [choice for choice in parameter.choices if type(choice) in (int, float)]
        if len(numbers) < max(3, len(parameter.choices)):
            return None
        return "lower" if label == min(numbers) else "upper" if label == max(numbers) else None
    if parameter.whole:
        ends = (parameter.low, parameter.high - (parameter.high - parameter.low) % parameter.step)
        return {ends[0]: "lower", ends[1]: "upper"}.get(float(label)) if ends[0] < ends[1] else None
    code = parameter.code(label)
    return "lower" if code < EDGE else "upper" if code > 1 - EDGE else None


def _searched(parameter: Parameter) -> str:
    if parameter.choices:
        return ", ".join(map(setting, parameter.choices))
    return f"{parameter.low:g} to {parameter.high:g}"


def _means_nothing(evidence: Evidence, path: str) -> bool:
    if evidence.told is None:
        return False
    table = evidence.told.importances
    known = table[table["parameter"] == path]["p_value"].dropna()
    return bool(len(known)) and float(known.min()) > TOLD


def _nothing(evidence: Evidence) -> Iterator[Step]:
    """Where no setting is told from chance: what more of would tell it."""
    if evidence.told is None or (evidence.told.importances["p_value"] <= TOLD).any():
        return
    count = len(evidence.told.search.used)
    if evidence.best is not None and evidence.confirmed is not None:
        effect = _smallest_effect(evidence, test_column(str(evidence.best[METRIC])))
    else:
        share = smallest_gain(SEEDS)
        effect = f"{SEEDS} paired seeds show a difference of {share:.2f} of its standard deviations in {POWER:.0%}"
    yield Step(
        f"no searched setting explains more than chance over {count} trials: more trials (num_trials), several seeds "
        f"a trial (seeds_per_trial: 3), or other settings; {effect}"
    )
