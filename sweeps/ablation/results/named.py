"""Which of the best trials is the best on fresh seeds, by how much, and how lucky each was in its search."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.measures import amount
from analysis.report.verdict import label, show, show_difference
from analysis.statistics.paired_tests import PairedDifference
from mergenet.config import Config
from mergenet.config.loading import dump_yaml
from mergenet.records.atomic import write_text
from mergenet.records.run_record import METRIC, test_column
from sweeps.ablation.results.table import mean_of, paired, values_of
from sweeps.ablation.variants import Variant
from sweeps.trials.files import BEST_FILE
from sweeps.trials.jobs import with_seed

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Luck:
    """A candidate's value in the search, and its mean on the fresh seeds that chose, by validation.

    stopped: the epochs of its training in the search, if that was stopped early. rejected: after how many of the seeds;
    None of the one that is named, and while that is open.
    """

    name: str
    search: float
    stopped: int | None
    fresh: float
    seeds: int
    gain: PairedDifference | None
    rejected: int | None


def lucks(
    runs: "pd.DataFrame", variants: Sequence[Variant], choosing: Sequence[int], rejected: Mapping[str, int]
) -> list[Luck]:
    """Of each candidate. choosing: the seeds that choose, or all if there is nothing to choose."""
    metric = str(runs[METRIC].dropna().iloc[0])

    def chosen(name: str) -> dict[int, float]:
        return {seed: value for seed, value in values_of(runs, name, metric).items() if seed in choosing}

    reference, found = chosen(variants[0].name), []
    for one in variants[1:]:
        values = chosen(one.name)
        mean, gain = mean_of(values), paired(values, reference)
        assert one.search_value is not None
        at = rejected.get(one.name)
        found.append(Luck(one.name, one.search_value, one.stopped_after, mean["mean"], mean["n"], gain, at))
    return found


def split(variants: Sequence[Variant], seeds: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """The seeds that choose, and those that tell the gain of the chosen one; of a single candidate all tell it."""
    half = len(seeds) // 2 if len(variants) > 2 else 0
    return seeds[:half], seeds[half:]


def lines(
    runs: "pd.DataFrame", variants: Sequence[Variant], seeds: Sequence[int], rejected: Mapping[str, int]
) -> Iterator[str]:
    """The search value of each candidate against its fresh value, who is named, and its gain on seeds of its own."""
    metric, (choosing, telling) = str(runs[METRIC].dropna().iloc[0]), split(variants, seeds)
    best = named(variants, rejected)
    choose = ", which choose" if choosing else ""
    yield f"{label(metric)} in the search against fresh seeds{choose} (the difference is the winner's curse):"
    for one in lucks(runs, variants, choosing or telling, rejected):
        fate = ("; is named" if one.name == best else "; left") if choosing else ""
        fate = f"; rejected after {one.rejected}" if one.rejected is not None else fate
        part = "" if one.stopped is None else f" by epoch {one.stopped}, where it was stopped early"
        yield (
            f"  {one.name}: {show(metric, one.search)} in the search{part}, {show(metric, one.fresh)} on {one.seeds} "
            f"fresh seeds, {show_difference(metric, one.fresh - one.search)}{fate}"
        )
    if best is None:
        yield "none is named yet: the phases have not ended"
        return
    reference = variants[0].label
    if choosing:
        yield f"best on fresh seeds: {best}, minus {reference} on further seeds that had no part in choosing it:"
    else:
        yield f"{best} minus {reference}, on fresh seeds:"
    for name in (metric, test_column(metric)):
        gains = [values_of(runs, one, name) for one in (best, variants[0].name)]
        mine, none = ({seed: value for seed, value in one.items() if seed in telling} for one in gains)
        gain = paired(mine, none)
        yield f"  {label(name)} {'not trained yet' if gain is None else gain_text(gain, name)}"


def candidates(
    runs: "pd.DataFrame", variants: Sequence[Variant], seeds: Sequence[int], rejected: Mapping[str, int]
) -> "pd.DataFrame":
    """A row each: name, value in the search, after how many epochs it was stopped there, mean on the fresh seeds that
    chose and their number, rejected after how many.

    seeds: all of the confirmation. The second is left out where none was stopped.
    """
    import pandas as pd

    choosing, telling = split(variants, seeds)
    found = lucks(runs, variants, choosing or telling, rejected)
    stopped = ("stopped",) if any(one.stopped is not None for one in found) else ()
    columns = ("name", "search", *stopped, "fresh", "seeds", "rejected")
    return pd.DataFrame([[getattr(one, name) for name in columns] for one in found], columns=columns)


def named(variants: Sequence[Variant], rejected: Mapping[str, int]) -> str | None:
    """The only candidate that is left; None while there are several."""
    left = [one.name for one in variants[1:] if one.name not in rejected]
    return left[0] if len(left) == 1 else None


def gain_text(gain: PairedDifference, metric: str) -> str:
    low, high = (amount(metric, bound, "+") for bound in gain.interval)
    return (
        f"{show_difference(metric, gain.mean)}, {gain.num_seeds} seeds, {100 * gain.confidence:.4g} % interval "
        f"[{low}, {high}] (t), p {gain.p_value:.3g}"
    )


def write_named(folder: Path, variants: Sequence[Variant], rejected: Mapping[str, int], seed: int) -> Path | None:
    """best.yaml: the configuration of the one that is named, as `mergenet train` accepts it.

    seed: its last one here, so that an ablation around the file takes later ones.
    """
    best = next((one for one in variants if one.name == named(variants, rejected)), None)
    if best is None:
        return None
    count = len(variants) - 1
    what = f"the best of {count} trials on fresh seeds" if count > 1 else "confirmed on fresh seeds"
    head = f"# {best.label}: {what}; ablation.json has its gain, on seeds that did not choose it\n"
    write_text(folder / BEST_FILE, head + dump_yaml(Config.model_validate(with_seed(best.config, seed))))
    return folder / BEST_FILE
