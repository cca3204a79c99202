"""The verdict on the paired differences of a confirmation, in words."""

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from analysis.measures import amount
from analysis.names import mode_of
from analysis.statistics.power import LEVEL, smallest_p, smallest_p_text
from mergenet.records.run_record import is_metric, test_column

if TYPE_CHECKING:
    from analysis.statistics.paired_tests import PairedDifference

CONTROLS = {"shuffled": "the source shuffled", "noise": "noise for a source", "none": "no source"}
SHORT = {"shuffled": "shuffled", "noise": "noise", "none": "no source"}


def label(metric: str) -> str:
    """target_val_top1 -> val top1."""
    return metric.replace("target_", "").replace("_", " ")


def show(metric: str, value: float | None) -> str:
    """A metric in percent, a number of parameters as an integer, anything else as it is."""
    if value is None:
        return "-"
    return amount(metric, value) + (" %" if is_metric(metric) else "")


def show_difference(metric: str, value: float) -> str:
    """A metric's in points (1 point = 0.01), anything else's as it is."""
    return amount(metric, value, "+") + (" points" if is_metric(metric) else "")


def as_gain(found: "PairedDifference") -> dict[str, Any]:
    """As summary.json has it: the mean with Student's t interval, None with one pair, and the sign-flip p."""
    low, high = (None if math.isnan(bound) else bound for bound in found.interval)
    p = {"p": found.p_value, "smallest_p": found.smallest_p}
    return {"num_pairs": found.num_seeds, "mean": found.mean, "low": low, "high": high, **p}


def shown(gain: dict[str, Any], mode: str) -> str | None:
    """What the pairs show by the two-sided sign-flip p at LEVEL: "gain", "loss" or None."""
    if gain["p"] >= LEVEL:
        return None
    return "gain" if (gain["mean"] > 0) == (mode == "max") else "loss"


def verdict(gain: dict[str, Any], mode: str) -> str:
    """What the pairs show about the difference and its sign, by the two-sided sign-flip p at the 5 % level."""
    n, p, smallest = gain["num_pairs"], gain["p"], smallest_p(gain["num_pairs"])
    seeds = f"{n} seed{'s' if n > 1 else ''}"
    if smallest >= LEVEL:
        return f"too few seeds to show anything at the 5 % level: smallest p of {seeds} is {smallest_p_text(n)}"
    holds_zero = gain["low"] <= 0 <= gain["high"]
    found = shown(gain, mode)
    if found is None:
        interval = "the interval holds 0 " if holds_zero else ""
        return f"no gain shown: {interval}(p {p:.2g}; {seeds} could show p down to {smallest:.2g})"
    but = ", though the t interval holds 0" if holds_zero else ""
    return f"a {found} is shown at the 5 % level (p {p:.2g}, {seeds}){but}"


def gain_text(metric: str, gain: dict[str, Any]) -> str:
    """A metric's gain in points (1 point = 0.01), a loss's as it is."""
    text = show_difference(metric, gain["mean"])
    if gain["low"] is None:
        return f"{text} (one pair: no interval)"
    low, high = (amount(metric, gain[name], "+") for name in ("low", "high"))
    return f"{text}, 95 % interval [{low}, {high}] (t), p {gain['p']:.3g}"


def control_lines(found: dict[str, Any], metric: str) -> Iterator[str]:
    """The controls compared with no transfer, and the best with the controls, on both splits.

    found: of confirmation.py, or of summary.json. metric: on validation.
    """
    controls, names = found.get("controls", {}), (metric, test_column(metric))
    if not controls:
        return
    yield f"controls, same seeds, paired: the best configuration with {listed(controls, 'or')}"
    trained = {SHORT[name]: control for name, control in controls.items() if control["seeds"]}
    pairs = [(short, "no transfer", "gain", control) for short, control in trained.items()]
    pairs += [("best", short, "best_minus_control", control) for short, control in trained.items()]
    rows = [
        (f"{first} minus {second}, {label(name)}", gain_text(name, control[name][key]), len(control["seeds"]))
        for first, second, key, control in pairs
        for name in names
    ]
    width = max((len(title) for title, _, _ in rows), default=0)
    for title, text, count in rows:
        fewer = f"; {count} of {len(found['seeds'])} seeds" if count < len(found["seeds"]) else ""
        yield f"  {title:<{width}} {text}{fewer}"
    for name in controls:
        if not controls[name]["seeds"]:
            yield f"  {SHORT[name]}: not compared, because no seed trained to its end"
    if (line := controls_verdict(found, names[1])) is not None:
        yield f"{label(names[1])}, {line}"


def adapter_lines(found: dict[str, Any], metric: str) -> Iterator[str]:
    """The gain of the adapter that was trained over adapter_seeds, and whether training it that way has helped.

    found: of confirmation.py, or of summary.json. metric: on validation.
    """
    trained, names = found.get("adapter"), (metric, test_column(metric))
    if trained is None:
        return
    seeds = trained["seeds"]
    if not seeds:
        yield "trained adapter: not compared, because no seed trained to its end"
        return
    fewer = f", {len(seeds)} of them" if len(seeds) < len(found["seeds"]) else ""
    yield f"the best configuration with the adapter trained over adapter_seeds, same seeds{fewer}, paired"
    rows = [
        (f"trained adapter minus {other}, {label(name)}", gain_text(name, trained[name][key]))
        for other, key in (("no transfer", "gain"), ("best", "minus_best"))
        for name in names
    ]
    width = max(len(title) for title, _ in rows)
    for title, text in rows:
        yield f"  {title:<{width}} {text}"
    what = {"gain": "training it over seeds helps", "loss": "training it over seeds harms"}
    found_so = shown(trained[names[1]]["minus_best"], mode_of(metric))
    yield f"  {label(names[1])}: {what.get(found_so or '', 'training it over seeds is not shown to matter')}"


def controls_verdict(found: dict[str, Any], metric: str) -> str | None:
    """Whether a gain comes from the source, as far as the controls can tell; None without controls, or without a gain.

    A control that shows no gain may still have one: only best minus control can show that the source matters.
    metric: on the test split.
    """
    mode, controls = mode_of(metric), found.get("controls", {})
    if not controls or shown(found[metric]["gain"], mode) != "gain":
        return None

    def with_gain(key: str) -> list[str]:
        return [name for name, one in controls.items() if one["seeds"] and shown(one[metric][key], mode) == "gain"]

    gaining, beaten = with_gain("gain"), with_gain("best_minus_control")
    if gaining:
        smaller = set(gaining) <= set(beaten)
        size, part = (", though a smaller one", "part of it") if smaller else ("", "it")
        what = f"a gain is shown with {listed(gaining, 'and')} too{size}"
        return f"controls: {what}: {part} may be regularisation, not the source"
    none = f"controls: no gain is shown with {listed(controls, 'or')}"
    if level := [SHORT[name] for name in controls if name not in beaten]:
        return f"{none}, but best is not shown to be better than {' or '.join(level)}: it may be the source, or not"
    better = f"best is better than {' and '.join(SHORT[name] for name in controls)}"
    return f"{none}, and {better}: it is the source, as far as these controls tell"


def listed(controls: Iterable[str], last: str) -> str:
    """last: the word before the last item."""
    *others, final = (CONTROLS[name] for name in controls)
    return f"{', '.join(others)} {last} {final}" if others else final
