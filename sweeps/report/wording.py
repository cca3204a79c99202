"""Values, parameters and times of a sweep as words. Imports no rich, so that a status is there at once."""

from typing import Any

from analysis.names import mode_of
from analysis.report.verdict import show, show_difference
from analysis.seeds import SEEDS
from analysis.trial_file import named_values
from mergenet.config.pair_labels import in_a_word


def best_text(best: dict[str, Any] | None, metric: str) -> str:
    """Never calls the lead a gain: that is what the confirmation is for."""
    if best is None:
        return "best so far: none yet"
    extreme = "highest" if mode_of(metric) == "max" else "lowest"
    lead = "no transfer is not that far yet"
    if best["lead"] is not None:
        lead = f"{show_difference(metric, best['lead'])} to no transfer"
    mean = f"mean over {best[SEEDS]} seeds, " if SEEDS in best else ""
    return (
        f"{extreme} so far: {show(metric, best['value'])} ({best['trial']}, {mean}{lead}; "
        "not a gain: the best of many is partly luck)"
    )


def show_params(params: dict[str, Any]) -> str:
    """The parameters as text; layer pairs, which are long, come last."""
    from sweeps.space.space import PAIRS

    params = named_values(params)
    paths = sorted(params, key=lambda path: path.startswith(PAIRS))
    return " ".join(f"{short(path)}={show_value(params[path])}" for path in paths)


def short(path: str) -> str:
    return path.split(".")[-1]


def show_value(value: Any) -> str:
    plain = in_a_word(value)
    return f"{plain:.4g}" if isinstance(plain, float) else str(plain)


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60} s" if seconds >= 60 else f"{seconds:.0f} s"
