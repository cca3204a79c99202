"""Studies as a driver opens them that has just started, and as somebody else does afterwards."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage

from sweeps.study.study import SweepStudy
from sweeps.trials.files import STUDY_FILE
from tests.sweeps.base import space_of, sweep_config
from tests.sweeps.spaces import CHOICES, RANGES, SEARCH

METRIC, SIZE, STEP = "target_val_top1", "adapter_parameters", "step_seconds"
BOTH: dict[str, Any] = {"minimize": [SIZE, STEP], "constraints": {SIZE: {"max": 500}, METRIC: {"min": 0.1}}}
OPEN = set[SweepStudy]()


def of_driver(study: SweepStudy) -> SweepStudy:
    """The study, of a driver that has ended once another one or somebody else opens it here: all is written by then."""
    OPEN.add(study)
    return study


def drivers_end() -> None:
    while OPEN:
        with suppress(Exception):
            OPEN.pop().flush()


def opened(folder: Path, **changes: Any) -> SweepStudy:
    """As a driver opens it that has just started."""
    drivers_end()
    folder.mkdir(exist_ok=True)
    return of_driver(SweepStudy(sweep_config(SEARCH, **changes), space_of(SEARCH), "max", folder))


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    """As somebody else reads it afterwards."""
    return outsider(folder).trials


def branching_study(search: dict[str, Any], sampler: str, **changes: Any) -> SweepStudy:
    """In memory."""
    return SweepStudy(sweep_config(search, sampler=sampler, **changes), space_of(search), "max", InMemoryStorage())


def study_of_several(place: Path | BaseStorage, **changes: Any) -> SweepStudy:
    """With further objectives and constraints."""
    search = CHOICES if changes.get("sampler") == "grid" else RANGES
    drivers_end()
    sweep = sweep_config(search, **(BOTH | {"num_trials": 16} | changes))
    return of_driver(SweepStudy(sweep, space_of(search), "max", place))


def outsider(folder: Path) -> optuna.Study:
    """As somebody else opens it afterwards."""
    drivers_end()
    return optuna.load_study(study_name="tiny", storage=f"sqlite:///{folder / STUDY_FILE}")


def measured(size: float, step: float = 0.5) -> dict[str, float | None]:
    return {SIZE: size, STEP: step}
