"""Which sampler suits which search space: checked when a sweep is planned, with one line for each refusal."""

import itertools
from collections.abc import Callable

from mergenet.errors import ConfigError
from sweeps.config import SweepConfig
from sweeps.config.choices import SAMPLER_FACTS
from sweeps.space.space import MAX_LISTED, Space

Check = Callable[[SweepConfig, Space], None]


def check_sampler(sweep: SweepConfig, space: Space) -> None:
    """Raises ConfigError if the sampler cannot draw from the space, or not as often as it should."""
    facts = SAMPLER_FACTS[sweep.sampler]
    if sweep.minimize and facts.one_objective:
        raise ConfigError(
            f"sampler {sweep.sampler} must have one objective, got minimize: {list(sweep.minimize)}; "
            "use tpe, nsga2, gp, random, qmc or grid, or make it a constraint"
        )
    for need in facts.needs:
        CHECKS[need](sweep, space)
    if sweep.sampler == "top_k":
        check_top_k(sweep, space)


def no_choices(sweep: SweepConfig, space: Space) -> None:
    path = next((path for path, entry in space.entries.items() if entry.bounds is None), None)
    if path is not None:
        raise unsuitable(sweep, "draw numbers from ranges only", f"a choice at search.{path}")


def several(sweep: SweepConfig, space: Space) -> None:
    if len(space.entries) < 2:
        raise unsuitable(sweep, "have at least two values to draw", f"{len(space.entries)}")


def unconditional(sweep: SweepConfig, space: Space) -> None:
    """Such a sampler would silently draw at random what only some trials draw, or draw from other bounds."""
    from sweeps.samplers.unit_cube import RecordingTrial

    first = None
    for labels in space.branches(space.shaping, space.entries):
        space(asked := RecordingTrial(space.named(labels)))
        first = first or asked.distributions
        other = first.items() ^ asked.distributions.items() if asked.distributions != first else set()
        if other:
            name = min(name for name, _ in other)
            if name in space.entries and space.entries[name].when:
                raise unsuitable(sweep, "draw every value in every trial", f"a condition at search.{name}.when")
            raise unsuitable(sweep, "draw every value of every trial from the same bounds", f"other bounds of {name}")


def countable(sweep: SweepConfig, space: Space) -> None:
    """Why the space is no grid: it must have no ranges and at most MAX_LISTED points."""
    from sweeps.samplers.fixed import grid_points

    path = next((path for path, entry in space.entries.items() if entry.real is not None), None)
    if path is not None:
        raise ConfigError(
            f"sampler grid must have no range of numbers, got one at search.{path}; list them as a choice"
        )
    count = sum(1 for _ in itertools.islice(grid_points(space), MAX_LISTED + 1))
    if count > MAX_LISTED:
        raise unsuitable(sweep, f"have at most {MAX_LISTED} points", "more")


def possible_trials(sweep: SweepConfig, space: Space) -> int:
    """num_trials, or as many as there are different trainings for samplers that draw none of them twice."""
    from sweeps.samplers.deduplicate import num_trainings

    if SAMPLER_FACTS[sweep.sampler].repeats:
        return sweep.num_trials
    first = sweep.num_short or sweep.num_trials
    return sweep.num_trials - first + num_trainings(space, first)


def check_top_k(sweep: SweepConfig, space: Space) -> None:
    from sweeps.samplers.deduplicate import num_trainings

    if sweep.scheduler != "none":
        raise ConfigError(
            f"scheduler must be none with sampler top_k, which stops trials itself, got {sweep.scheduler!r}; "
            "write scheduler: none"
        )
    if sweep.top_k >= sweep.num_trials:
        raise ConfigError(
            f"top_k must be less than num_trials ({sweep.num_trials}), got {sweep.top_k}; "
            "num_trials counts the short trials and those in full"
        )
    if (count := num_trainings(space, sweep.top_k)) < sweep.top_k:
        raise ConfigError(
            f"top_k must be at most {count}, the trainings of the search space, got {sweep.top_k}; lower it"
        )


def unsuitable(sweep: SweepConfig, must: str, got: str) -> ConfigError:
    return ConfigError(f"sampler {sweep.sampler} must {must}, got {got}; use tpe or random")


CHECKS: dict[str, Check] = {  # what a sampler may require of the space
    "no_choices": no_choices,
    "several": several,
    "unconditional": unconditional,
    "countable": countable,
}
