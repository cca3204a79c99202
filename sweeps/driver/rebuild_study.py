"""Rebuilds what the trials of a sweep have drawn from their folders, for a study that was lost."""

import re
from collections.abc import Container, Mapping
from pathlib import Path

from analysis.names import TRIALS_FOLDER
from analysis.trial_file import trial_of
from mergenet.config.loading import load_config
from mergenet.errors import ConfigError, UserError
from mergenet.records.run_record import CONFIG_FILE
from sweeps.space.space import Labels, Space, label_of

NAME = re.compile(r"trial-(\d{3,})")


def lost_trials(folder: Path, space: Space, known: Container[int]) -> dict[int, Labels]:
    """Labels by index, of the trials in a sweep folder that the study lacks.

    Raises ConfigError for a trial that this sweep cannot have drawn.
    """
    names = {path: NAME.fullmatch(path.name) for path in sorted((folder / TRIALS_FOLDER).glob("trial-*"))}
    runs = {int(name[1]): path for path, name in names.items() if name is not None}
    found = {index: labels_of(path, space) for index, path in runs.items() if index not in known}
    return {index: labels for index, labels in found.items() if labels is not None}


def labels_of(run: Path, space: Space) -> Labels | None:
    """From the configuration, or from trial.json if the trial failed before it began; None if there is neither."""
    if (run / CONFIG_FILE).is_file():
        labels = space.locate(load_config(str(run / CONFIG_FILE)))
    elif (trial := trial_of(run)) is not None:
        labels = located(trial["params"], space)
    else:
        return None
    if labels is None:
        raise ConfigError(f"{run} must be a trial of this sweep, and its values are not of the search; move it away")
    return labels


def labels_in(params: Mapping[str, object]) -> Labels:
    """The labels of values by path, as trial.json has them."""
    return {path: label_of(value) for path, value in params.items()}


def located(params: dict[str, object], space: Space) -> Labels | None:
    try:
        return space.locate(space.config(labels_in(params)))
    except (KeyError, ValueError, UserError):
        return None
