"""A search space without choices as a unit cube: for samplers that work on real vectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution

from sweeps.samplers.fixed import Answers, first_choice
from sweeps.space.space import Labels, Space


@dataclass(frozen=True)
class Cube:
    distributions: dict[str, BaseDistribution]

    @classmethod
    def of(cls, space: Space) -> "Cube":
        """The same for every draw; the plan has made sure that the space has neither choices nor conditions."""
        asked = RecordingTrial()
        space(asked)
        return cls(asked.distributions)

    @property
    def transform(self) -> _SearchSpaceTransform:
        """Logarithmic where the entry is; each whole number gets an equal part of the cube's edge."""
        return _SearchSpaceTransform(self.distributions, transform_0_1=True)

    def point(self, x: NDArray[np.float64]) -> dict[str, Any]:
        """The values, by Optuna's names, at a point of the cube."""
        return self.transform.untransform(x)

    def coordinates(self, values: Mapping[str, Any]) -> NDArray[np.float64]:
        return self.transform.transform(dict(values))


class RecordingTrial(Answers):
    """Suggests a point's values, else the first choice or the lower bound; records what was suggested."""

    def __init__(self, point: Labels | None = None) -> None:
        self.point, self.distributions = point or {}, dict[str, BaseDistribution]()

    def answer(self, name: str, distribution: BaseDistribution) -> Any:
        self.distributions[name] = distribution
        return self.point.get(name, first_choice(distribution))
