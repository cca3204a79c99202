"""Sweeps of MergeNet's settings: Ray Train trains, Ray Tune and Optuna search.

    from sweeps import Sweep
    result = Sweep.load("quickstart", num_trials=4).run("results/quick")

Public names are imported on first use, so that `import sweeps` loads neither torch nor Ray.
"""

from typing import TYPE_CHECKING

from mergenet.lazy import attach

if TYPE_CHECKING:
    from sweeps.ablation.api import Ablation
    from sweeps.ablation.results.result import AblationResult
    from sweeps.config import SweepConfig
    from sweeps.driver.api import Sweep
    from sweeps.driver.result import BestTrial, SweepResult
    from sweeps.trials.errors import SlotDied, SweepFailed, SweepPaused, SweepStopped

__distribution__ = "mergenet"

_HOMES = {
    "Ablation": "sweeps.ablation.api",
    "AblationResult": "sweeps.ablation.results.result",
    "BestTrial": "sweeps.driver.result",
    "SlotDied": "sweeps.trials.errors",
    "Sweep": "sweeps.driver.api",
    "SweepConfig": "sweeps.config",
    "SweepFailed": "sweeps.trials.errors",
    "SweepPaused": "sweeps.trials.errors",
    "SweepResult": "sweeps.driver.result",
    "SweepStopped": "sweeps.trials.errors",
}

__all__ = [
    "Ablation",
    "AblationResult",
    "BestTrial",
    "SlotDied",
    "Sweep",
    "SweepConfig",
    "SweepFailed",
    "SweepPaused",
    "SweepResult",
    "SweepStopped",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
