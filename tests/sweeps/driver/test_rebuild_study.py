"""What trials have drawn, from their folders alone."""

from pathlib import Path
from typing import Any

import pytest

from mergenet.config import Config
from mergenet.config.loading import dump_yaml
from mergenet.errors import ConfigError
from sweeps.driver.rebuild_study import lost_trials
from sweeps.space.space import Labels, Space
from sweeps.trials.jobs import Jobs, trial_name
from sweeps.trials.record import write_trial
from tests.sweeps.base import CONV, HEAD, space_of
from tests.sweeps.spaces import METHODS, RANGES, RANK
from tests.sweeps.studies import branching_study

PAIRS = {"transfer.pairs": {"choice": [[CONV], [HEAD], [CONV, HEAD]]}, RANK: {"int": [2, 8]}}


def begun(folder: Path, space: Space, index: int, labels: Labels, config: bool) -> Path:
    """A trial in its first epoch, or one that failed before it began."""
    job = Jobs(folder, space, None).trial(index, labels)
    run = Path(job["folder"])
    run.mkdir(parents=True)
    if config:
        (run / "config.yaml").write_text(dump_yaml(Config.model_validate(job["config"])))
    else:
        write_trial(job, "failed", "no data")
    return run


@pytest.mark.parametrize("config", [True, False])
@pytest.mark.parametrize("search", [METHODS, RANGES, PAIRS])
def test_what_was_drawn_is_found_in_whatever_a_trial_has_left(
    tmp_path: Path, search: dict[str, Any], config: bool
) -> None:
    study = branching_study(search, "random", num_trials=6)
    drawn = {index: study.draw(index).params for index in range(6)}
    for index, labels in drawn.items():
        begun(tmp_path, study.space, index, labels, config)
    assert lost_trials(tmp_path, study.space, known={0, 3}) == {index: drawn[index] for index in (1, 2, 4, 5)}


@pytest.mark.parametrize("config", [True, False])
def test_what_this_sweep_cannot_have_drawn_is_refused(tmp_path: Path, config: bool) -> None:
    run = begun(tmp_path, space_of({RANK: {"int": [2, 60]}}), 0, {RANK: 40}, config)
    with pytest.raises(ConfigError, match=rf"^{run} must be a trial of this sweep, and its values are not of the"):
        lost_trials(tmp_path, space_of({RANK: {"int": [2, 8]}}), known=())


def test_folders_that_are_no_first_seed_are_passed_over(tmp_path: Path) -> None:
    for name in ("baseline", "confirm-best-1", f"{trial_name(0)}-seed-2", "trial-x", trial_name(1)):
        (tmp_path / "trials" / name).mkdir(parents=True)
    assert lost_trials(tmp_path, space_of(RANGES), known=()) == {}
