"""Which of the best trials is the best on fresh seeds, by how much, and how lucky each was in its search."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.report.verdict import label, show
from analysis.statistics.paired_tests import PairedDifference
from mergenet.config.loading import dump_yaml
from mergenet.records.atomic import write_text
from mergenet.records.run_record import METRIC, is_metric, test_column
from sweeps.ablation.results.table import mean_of, paired, size, values_of
from sweeps.ablation.variants import Variant

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Luck:
    """A candidate's value in the search, and its mean on the fresh seeds that chose, by validation.

    rejected: after how many of these seeds; None of the one that is named, and while that is open.
    """

    name: str
    search: float
    fresh: float
    seeds: int
    gain: PairedDifference | None
    rejected: int | None


def lucks(
    runs: "pd.DataFrame", variants: Sequence[Variant], choosing: Sequence[int], rejected: Mapping[str, int]
) -> list[Luck]:
    """Of each candidate. choosing: the seeds that choose."""
    metric = str(runs[METRIC].dropna().iloc[0])

    def chosen(name: str) -> dict[int, float]:
        return {seed: value for seed, value in values_of(runs, name, metric).items() if seed in choosing}

    reference, found = chosen(variants[0].name), []
    for one in variants[1:]:
        values = chosen(one.name)
        mean, gain = mean_of(values), paired(values, reference)
        assert one.search_value is not None
        found.append(Luck(one.name, one.search_value, mean["mean"], mean["n"], gain, rejected.get(one.name)))
    return found


def lines(
    runs: "pd.DataFrame", variants: Sequence[Variant], seeds: Sequence[int], rejected: Mapping[str, int]
) -> Iterator[str]:
    """The search value of each candidate against its fresh value, who is named, and its gain on seeds of its own."""
    metric, half = str(runs[METRIC].dropna().iloc[0]), len(seeds) // 2
    found = lucks(runs, variants, seeds[:half], rejected)
    yield f"{label(metric)} in the search against fresh seeds, which choose (the difference is the winner's curse):"
    for one in found:
        fate = "is named" if one.name == named(variants, rejected) else "left"
        fate = f"rejected after {one.rejected}" if one.rejected is not None else fate
        yield (
            f"  {one.name}: {show(metric, one.search)} in the search, {show(metric, one.fresh)} on {one.seeds} fresh "
            f"seeds, {size(one.fresh - one.search, metric)}; {fate}"
        )
    best = named(variants, rejected)
    if best is None:
        yield "none is named yet: the phases have not ended"
        return
    yield f"best on fresh seeds: {best}, minus {variants[0].label} on further seeds that had no part in choosing it:"
    for name in (metric, test_column(metric)):
        gains = [values_of(runs, one, name) for one in (best, variants[0].name)]
        mine, none = ({seed: value for seed, value in one.items() if seed in seeds[half:]} for one in gains)
        gain = paired(mine, none)
        yield f"  {label(name)} {'not trained yet' if gain is None else gain_text(gain, name)}"


def candidates(
    runs: "pd.DataFrame", variants: Sequence[Variant], seeds: Sequence[int], rejected: Mapping[str, int]
) -> "pd.DataFrame":
    """A row each: name, value in the search, mean on the fresh seeds that chose and their number, rejected after.

    seeds: all of the confirmation, of which the first half chooses.
    """
    import pandas as pd

    found = lucks(runs, variants, seeds[: len(seeds) // 2], rejected)
    columns = ("name", "search", "fresh", "seeds", "rejected")
    return pd.DataFrame([[getattr(one, name) for name in columns] for one in found], columns=columns)


def named(variants: Sequence[Variant], rejected: Mapping[str, int]) -> str | None:
    """The only candidate that is left; None while there are several."""
    left = [one.name for one in variants[1:] if one.name not in rejected]
    return left[0] if len(left) == 1 else None


def gain_text(gain: PairedDifference, metric: str) -> str:
    scale, digits = (100, 2) if is_metric(metric) else (1, 4)
    low, high = (scale * bound for bound in gain.interval)
    return (
        f"{size(gain.mean, metric)}, {gain.num_seeds} seeds, {gain.confidence:.0%} interval "
        f"[{low:+.{digits}f}, {high:+.{digits}f}] (t), p {gain.p_value:.3g}"
    )


def write_named(folder: Path, variants: Sequence[Variant], rejected: Mapping[str, int]) -> Path | None:
    """best.yaml: the configuration of the one that is named, as `mergenet train` accepts it."""
    best = next((one for one in variants if one.name == named(variants, rejected)), None)
    if best is None:
        return None
    head = (
        f"# {best.label}: the best of {len(variants) - 1} trials on fresh seeds; ablation.json beside it has its gain\n"
    )
    write_text(folder / "best.yaml", head + dump_yaml(best.checked))
    return folder / "best.yaml"
