"""Do paired differences keep their promises: false positives and coverage where the truth is known.

Draws pairs of runs without any effect, from five kinds of noise, and counts how often the sign-flip test says p <= 0.05
and how often the 95 % intervals hold the true difference, 0. A pair shares its seed's luck, and each run has its own.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from analysis.statistics.paired_tests import paired_difference
from benchmarks import common
from mergenet.config import Config

NAME = "calibration"
LEVEL = 0.05
RNG_SEED = 0  # of the draws
IMAGES = 101  # of the coarse metric's test split

Pairs = tuple[np.ndarray, np.ndarray]  # variant, baseline: one value a seed


def _shared(own: Callable[[np.random.Generator, int], np.ndarray]) -> Callable[[np.random.Generator, int], Pairs]:
    """Both runs of a pair: 0.7, the seed's luck (sd 0.02) and noise of their own (sd 0.01)."""

    def draw(rng: np.random.Generator, n: int) -> Pairs:
        luck = rng.normal(0.7, 0.02, n)
        return luck + 0.01 * own(rng, n), luck + 0.01 * own(rng, n)

    return draw


def coarse(rng: np.random.Generator, n: int) -> Pairs:
    """Shares of 101 images, so that many differences are equal, or 0."""
    luck = np.clip(rng.normal(0.7, 0.02, n), 0, 1)
    return rng.binomial(IMAGES, luck) / IMAGES, rng.binomial(IMAGES, luck) / IMAGES


def lopsided(rng: np.random.Generator, n: int) -> Pairs:
    """The same mean, but the variant now and then does much worse: differences are skewed."""
    luck = rng.normal(0.7, 0.02, n)
    return luck + 0.01 * (1 - rng.exponential(size=n)), luck + 0.01 * rng.normal(size=n)


NOISES: dict[str, Callable[[np.random.Generator, int], Pairs]] = {
    "normal": _shared(lambda rng, n: rng.normal(size=n)),
    "skewed alike": _shared(lambda rng, n: 1 - rng.exponential(size=n)),
    "heavy tails": _shared(lambda rng, n: rng.standard_t(3, size=n) / 3**0.5),
    "coarse": coarse,
    "lopsided": lopsided,
}


@dataclass(frozen=True)
class Calibration:
    """Shares of the draws, 0 to 1."""

    noise: str
    seeds: int
    false_positives: float  # sign-flip p <= 0.05
    covered_t: float
    covered_bca: float


def calibration(noise: str, seeds: int, draws: int, rng: np.random.Generator) -> Calibration:
    hits = np.zeros(3)
    for _ in range(draws):
        found = paired_difference(*NOISES[noise](rng, seeds))
        inside = [low <= 0 <= high for low, high in (found.interval, found.bootstrap_interval)]
        hits += [found.p_value <= LEVEL, *inside]
    return Calibration(noise, seeds, *(float(share) for share in hits / draws))


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = common.parser(NAME, "False positives and coverage of paired differences without an effect.")
    parser.add_argument("--draws", type=common.count, default=2000, help="comparisons a line (default 2000)")
    parser.add_argument("--seeds", type=common.count, nargs="+", default=[5, 6, 8, 12], help="pairs (5 6 8 12)")
    options = parser.parse_args(arguments)
    facts: dict[str, Any] = common.machine(Config.model_validate({"method": "none", "threads": 1}))
    common.header(NAME, arguments, facts)
    error = 100 * (LEVEL * (1 - LEVEL) / options.draws) ** 0.5
    print(f"{options.draws:,} draws a line, seed {RNG_SEED}; standard error of a share near 5 %: {error:.2f} points")
    print(f"{'noise':14}{'seeds':>6}{'p <= 0.05':>12}{'t holds 0':>12}{'BCa holds 0':>14}")
    found = []
    for noise in NOISES:
        for seeds in options.seeds:
            one = calibration(noise, seeds, options.draws, np.random.default_rng(RNG_SEED))
            shares = f"{one.false_positives:12.1%}{one.covered_t:12.1%}{one.covered_bca:14.1%}"
            print(f"{noise:14}{seeds:6}{shares}", flush=True)
            found.append(one)
    if options.json:
        common.footer(NAME, facts, options.seeds, {"draws": options.draws, "lines": [asdict(one) for one in found]})


if __name__ == "__main__":
    main()
