"""`keep_checkpoints` and `sweep prune`: runs that have ended are tidied, those that may go on are not."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mergenet.config.loading import dump_yaml
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


def recorded(folder: Path, status: str = "finished") -> Path:
    """With a recording that looks like one."""
    (folder / "source").mkdir()
    (folder / "source" / "recording.json").write_text("{}")
    (folder / "source" / "epoch-0001.safetensors").write_bytes(bytes(2**20))
    write_record(folder / "sweep.json", {"status": status})
    return folder / "source"


def prune(folder: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(sweep_group, ["prune", str(folder), "--recordings", *options])
    return done.exit_code, done.output


def test_recordings_go_by_command_once_the_sweep_has_finished(folder: Path) -> None:
    source = recorded(folder)
    assert CliRunner().invoke(sweep_group, ["prune", str(folder)]).exit_code == 0
    assert source.exists(), "not without being asked"
    code, text = prune(folder)
    assert code == 0 and text.endswith(" in 0 runs, 1.0 MiB in 1 recordings\n"), text
    assert not source.exists()
    assert prune(folder) == (0, "freed 0.0 MiB in 0 runs, 0.0 MiB in 0 recordings\n")


@pytest.mark.parametrize("status", ["stopped", "running", "paused", "failed"])
def test_a_sweep_that_may_go_on_keeps_its_recording(folder: Path, status: str) -> None:
    source, before = recorded(folder, status), sizes(folder)
    code, text = prune(folder)
    assert code == 2 and f"got status {status}; `mergenet sweep resume" in text, text
    assert source.exists()
    assert sizes(folder) == before


@pytest.mark.parametrize(("file", "status_file"), [("base.yaml", "sweep.json"), ("config.yaml", "result.json")])
def test_what_an_unfinished_neighbour_replays_stays(
    folder: Path, file: str, status_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = recorded(folder)
    other = folder.parent / "other"
    other.mkdir()
    config = config_of("open cycle")
    replay = config.source.model_copy(update={"kind": "recorded", "recording": "sweep/source"})
    (other / file).write_text(dump_yaml(config.model_copy(update={"source": replay})))
    result = {"status": "stopped", "error": None, "epochs_done": 1, "best_epoch": 1, "metric": "target_val_top1"}
    write_record(other / status_file, result)
    monkeypatch.chdir(folder.parent)  # a relative path is one from where commands run
    code, text = prune(folder)
    assert code == 2 and "other', which has not finished, replays one; finish or delete that first" in text, text
    assert source.exists()
    write_record(other / status_file, result | {"status": "finished"})
    assert prune(folder)[0] == 0
    assert not source.exists()


def test_a_recording_that_a_driver_works_with_stays(folder: Path) -> None:
    source = recorded(folder)
    with locked(folder):
        assert prune(folder)[0] == 2
    assert source.exists()
