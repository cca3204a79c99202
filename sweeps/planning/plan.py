"""What a sweep decides before it creates anything, and the seeds that follow from it."""

import itertools
import re
from dataclasses import dataclass, field
from typing import Any

from sweeps.config import SweepConfig
from sweeps.space.space import Space
from sweeps.study.warm_start import WarmStart
from sweeps.trials.recorded_source import SourcePlan


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before anything is created.

    sweep: with its metric, and no more trials than its space holds. asked: how many the sweep file asks for. base_hash:
    of the base with the changes of `set`. warm: what earlier sweeps found. data: what the base's networks learn from,
    by role, as `mergenet.tasks.contents` counts it. warnings: lines on what may not be meant.
    """

    sweep: SweepConfig
    space: Space
    source: SourcePlan
    base_hash: str
    asked: int
    warm: WarmStart = field(default_factory=WarmStart)
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def epochs(self) -> int:
        return int(self.space.base["epochs"])

    @property
    def searched_data(self) -> list[str]:
        """The settings by which trials learn from other data than the base."""
        roles = "|".join(self.data)
        names = dict.fromkeys(name for path in self.space.entries for name in self.space.names(path))
        return [name for name in names if re.match(rf"({roles})\.(task|data)\b", name)]

    @property
    def shortage(self) -> str | None:
        """A message if the space holds fewer trainings than were asked for."""
        held = self.sweep.num_trials
        text = f"num_trials: {held} in place of {self.asked}, because the search space holds no more"
        return None if held == self.asked else text

    @property
    def num_jobs(self) -> int:
        """Number of jobs if every trial reaches its last epoch."""
        repeated = self.sweep.seeds_per_trial * (1 + self.sweep.num_trials)
        return int(self.source.record) + repeated + self.sweep.adapter_seeds + self.sweep.num_confirmations


def more_seeds(plan: Plan) -> list[int]:
    """The further seeds of a trial beside the base's, the same for all trials."""
    return seeds_after(plan.space.base, plan.sweep.seeds_per_trial - 1)


def fresh_seeds(plan: Plan) -> list[int]:
    """Seeds that no trial had, so that the selection of the best trial cannot have profited from them."""
    more = plan.sweep.seeds_per_trial - 1
    return seeds_after(plan.space.base, more + plan.sweep.confirm_seeds)[more:]


def adapter_seeds(plan: Plan) -> list[int]:
    """Seeds that train the adapter: neither those of the search nor the fresh seeds, on which it is tested."""
    before = plan.sweep.seeds_per_trial - 1 + plan.sweep.confirm_seeds
    return seeds_after(plan.space.base, before + plan.sweep.adapter_seeds)[before:]


def first_fresh_seed(base: dict[str, Any], seeds_per_trial: int = 1) -> int:
    """The first seed that chose nothing, for runs whose target has no seed of its own, and those after it.

    The target's own seed in the base chose, too: where it would come among the next thousand, they begin after it.
    """
    first, own = seeds_after(base, seeds_per_trial)[-1], base["target"]["seed"]
    return first if own is None or not first < own < first + 1000 else (int(own) + 1) % 2**32


def seeds_after(base: dict[str, Any], count: int) -> list[int]:
    """The numbers that follow the base's seed, except the target's own seed, if it has one."""
    first = int(base["seed"])
    following = ((first + i) % 2**32 for i in itertools.count(1))
    return list(itertools.islice((seed for seed in following if seed != base["target"]["seed"]), count))
