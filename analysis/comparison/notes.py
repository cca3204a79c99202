"""What a reader must know beside the numbers of a comparison, a sentence each."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from analysis.comparison.pairing import Pairs, trained_elsewhere
from analysis.comparison.recipes import PAIR_KEY, TASK, Recipe, in_words, varying
from analysis.comparison.sides import FOLDER
from analysis.measures import amount
from analysis.names import ABLATION_FILE, TRIAL
from analysis.statistics.paired_tests import PairedDifference
from analysis.statistics.power import EXACT_SEEDS, LEVEL, POWER, smallest_gain, smallest_p
from analysis.sweep_file import read_confirmation
from mergenet.records.run_record import is_metric


def notes(
    pairs: Pairs,
    base: str,
    gains: dict[str, PairedDifference],
    compared: dict[str, list[object]],
    recipes: Mapping[str, Recipe],
    metric: str,
) -> list[str]:
    """What is compared, what is paired and left out, what the seeds could show, and what else is to be known."""
    what = ", ".join(in_words(name, values) for name, values in compared.items())
    data = [name for name in compared if name.startswith(TASK)]
    alike = f"all other settings are alike, and the data {'differ as named' if data else 'are the same'}"
    lines = [f"compared: {what or 'runs of one recipe'}; {alike}"]
    labels = [pairs.labels[key] for key in pairs.keys]
    lines.append(f"paired by seed and data split with {base}: {_seeds(len(labels))} {', '.join(labels)}")
    if pairs.left_out:
        lacks = "; ".join(f"{seed}: not in {sides}" for seed, sides in pairs.left_out.items())
        lines.append(f"{_seeds(len(pairs.left_out))} left out ({lacks})")
    lines += dict.fromkeys(gain.note for gain in gains.values() if gain.note)
    lines += [f"{_seeds(len(labels))} {line}" for line in corrected_too_large(len(labels), len(gains))]
    lines += [line for side, gain in gains.items() if (line := could_show(side, gain, metric))]
    lines += mixed(pairs, recipes, base)
    lines += trained_elsewhere(pairs, base)
    lines += selected_for_luck(pairs)
    if not is_metric(metric):
        lines.append("lower is better: a negative gain is an improvement")
    return lines


def mixed(pairs: Pairs, recipes: Mapping[str, Recipe], base: str) -> list[str]:
    """A line for each side that differs from the baseline in more than one setting."""
    lines = []
    for side, runs in pairs.runs.items():
        key = pairs.keys[0]
        fields = varying([recipes[found[FOLDER]] for found in (pairs.runs[base][key], runs[key])], PAIR_KEY)
        if len(fields) > 1:
            lines.append(f"{side}: its gain is that of {len(fields)} settings together, {', '.join(fields)}")
    return lines


def selected_for_luck(pairs: Pairs) -> list[str]:
    searched = [side for side, runs in pairs.runs.items() if any(map(of_search, runs.values()))]
    if not searched:
        return []
    return [
        f"{', '.join(searched)}: of a search, on its own seeds; a trial that was chosen by its value was selected for "
        "its luck as well, and only runs on fresh seeds (role confirm_best) tell what its settings gain"
    ]


def of_search(run: pd.Series) -> bool:
    """Whether the best of many was chosen on this run's seed; an ablation chooses none and shows every variant."""
    folder = Path(run[FOLDER]).parent.parent
    shows_all = (folder / ABLATION_FILE).is_file() and not read_confirmation(folder)
    return bool(run["role"] == TRIAL) and not shows_all


def corrected_too_large(pairs: int, sides: int) -> list[str]:
    """That so many pairs suffice for one side but not, corrected, for all; empty if they do, or do not for one."""
    least = sides * smallest_p(pairs)
    if smallest_p(pairs) >= LEVEL or least < LEVEL:
        return []
    needed = next((n for n in range(pairs, EXACT_SEEDS + 1) if sides * smallest_p(n) < LEVEL), None)
    takes = f"that takes {needed}" if needed else "compare fewer sides"
    return [f"cannot give p (Holm) < {LEVEL:g} for {sides} sides together ({least:.3g} at the least); {takes}"]


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"


def could_show(side: str, gain: PairedDifference, metric: str) -> str:
    """The mean difference that a t test finds with POWER, by the spread of these pairs; empty where there is none."""
    smallest = smallest_gain(gain.num_seeds)
    if smallest is None or not gain.standard_error > 0:
        return ""
    found = smallest * gain.standard_error * gain.num_seeds**0.5
    text = amount(metric, found) + (" points" if is_metric(metric) else "")
    often = f"in {100 * POWER:.0f} % of the cases ({100 * LEVEL:.0f} % level)"
    return f"{side}: {gain.num_seeds} pairs of this spread show a difference of {text} {often}"
