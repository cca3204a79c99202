"""`keep_checkpoints` and `sweep prune`: runs that have ended are tidied, those that may go on are not."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mergenet.records.kept import size_of
from mergenet.records.run_record import read_run
from mergenet.records.sealed import write_record
from sweeps.cli.commands import sweep as sweep_group
from sweeps.config.loading import dump_sweep
from sweeps.driver.kept import Keeper
from sweeps.trials.sweep_dir import locked
from tests.mergenet.runs import config_of, finish
from tests.sweeps.base import sweep_config, write_base

pytestmark = pytest.mark.usefixtures("tiny")
STATES = {"trial-000": "complete", "trial-001": "pruned", "trial-002": "failed", "trial-003": "running"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sweep folder with the same run in every state."""
    (tmp_path / "sweep").mkdir()
    folder = tmp_path / "sweep"
    write_base(folder)
    (folder / "sweep.yaml").write_text(dump_sweep(sweep_config({"transfer.t_cycle": {"choice": [2, 4]}})))
    write_record(folder / "sweep.json", {"status": "stopped"})
    run = finish(config_of("open cycle"), tmp_path / "run")
    for number, (name, state) in enumerate(STATES.items()):
        shutil.copytree(run, folder / "trials" / name)
        trial: dict[str, Any] = {"trial_id": name, "role": "trial", "params": {}, "seed": 0, "number": number}
        write_record(folder / "trials" / name / "trial.json", trial | {"state": state, "error": None})
    return folder


def sizes(folder: Path) -> dict[str, int]:
    return {name: size_of(folder / "trials" / name / "checkpoints") for name in STATES}


def test_prune_tidies_what_has_ended_and_says_how_much(folder: Path) -> None:
    before, records = sizes(folder), [read_run(folder / "trials" / name) for name in STATES]
    done = CliRunner().invoke(sweep_group, ["prune", str(folder)])
    assert done.exit_code == 0 and done.output.startswith("freed ") and done.output.endswith(" in 2 runs\n"), (
        done.output
    )
    after = sizes(folder)
    assert all(after[name] < before[name] / 10 for name in ("trial-000", "trial-001"))
    assert all(after[name] == before[name] for name in ("trial-002", "trial-003")), "they may train on"
    assert [read_run(folder / "trials" / name) for name in STATES] == records
    assert CliRunner().invoke(sweep_group, ["prune", str(folder)]).output == "freed 0.0 MiB in 0 runs\n"


def test_a_run_is_tidied_as_it_ends(folder: Path) -> None:
    before = sizes(folder)
    for name, state in STATES.items():
        head: Any = {"event": "ended", "job": name, "role": "trial", "time": 0.0, "state": state, "error": None}
        Keeper(folder, "all")(head)
        assert sizes(folder)[name] == before[name]
        Keeper(folder, "best")(head)
        assert (sizes(folder)[name] < before[name]) == (state in ("complete", "pruned"))


def test_prune_refuses_what_is_no_sweep_or_at_work(folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(sweep_group, ["prune", str(tmp_path / "nowhere")])
    assert done.exit_code == 2 and "must be a sweep folder" in done.output
    with locked(folder):
        done = CliRunner().invoke(sweep_group, ["prune", str(folder)])
    assert done.exit_code == 2 and "is in use by" in done.output
