"""A run that has ended and lost rows of its record is left out by every command, named, and made again by resume."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from analysis.cli import analyze
from analysis.names import COMPLETE
from analysis.tables.load import load_trials
from analysis.trial_file import begun_runs
from mergenet.errors import CheckpointError
from mergenet.records.checkpoint import load_latest
from sweeps.ablation.best_of import best_trials
from sweeps.config.loading import dump_sweep
from sweeps.driver.repair import repair_runs
from sweeps.execution.worker import do_job
from sweeps.report.status import read_status, status_lines
from sweeps.study.warm_start import read_folder
from sweeps.tracking.wandb_sync import whole
from sweeps.trials.jobs import Jobs
from sweeps.trials.messages import GO_ON
from sweeps.trials.results import read_trials
from tests.mergenet.runs import DAMAGE, spoil
from tests.sweeps.base import space_of, sweep_config, write_base

CYCLE = "transfer.t_cycle"
SEARCH = {CYCLE: {"choice": [2, 4]}}
SWEEP, SPACE = sweep_config(SEARCH, num_trials=2), space_of(SEARCH)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two complete trials."""
    folder = tmp_path_factory.mktemp("sweeps") / "trained"
    folder.mkdir()
    write_base(folder)
    (folder / "sweep.yaml").write_text(dump_sweep(SWEEP))
    (folder / "sweep.json").write_text('{"status": "stopped"}')
    jobs = Jobs(folder, SPACE, None)
    for number, cycle in enumerate((2, 4)):
        assert do_job(jobs.trial(number, {CYCLE: cycle}), lambda *_: GO_ON)["state"] == "complete"
    return folder


@pytest.fixture
def sweep(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "sweep"))


def answers(folder: Path) -> dict[str, Any]:
    """What the commands say of a sweep."""
    status = read_status(folder)
    return {
        "table": list(load_trials(folder)["trial"]),
        "best": CliRunner().invoke(analyze, ["best", str(folder)]).stdout.splitlines()[0],
        "status": (status["trials"], status["best"], list(status["damaged"])),
        "sync": [run.name for run in whole(sorted((folder / "trials").iterdir()))[0]],
        "warm start": [known if isinstance(known, str) else known.name for known in read_folder(folder, SPACE, SWEEP)],
    }


@pytest.mark.parametrize("damage", [*DAMAGE, "no result"])
def test_it_is_named_left_out_alike_and_made_again(sweep: Path, damage: str) -> None:
    before = answers(sweep)
    best = before["status"][1]["trial"]
    run, (other,) = sweep / "trials" / best, [name for name in before["table"] if name != best]
    files = {name: (run / name).read_bytes() for name in ("epochs.jsonl", "result.json")}
    if damage == "no result":
        (run / "result.json").unlink()
    else:
        spoil(run, damage)
    found = answers(sweep)
    assert found["table"] == found["sync"] == [other]
    assert found["best"].startswith(f"# best trial: {other}, ")
    assert found["status"][0] == {"complete": 1, "damaged": 1}
    assert (found["status"][1]["trial"], found["status"][2]) == (other, [best])
    assert sorted(found["warm start"]) == sorted(["not readable", other])
    (problem,) = load_trials(sweep).attrs["problems"]
    lines = "\n".join(status_lines(read_status(sweep)))
    for text in (problem, lines):
        assert f"{run}/" in text
    assert f"next: mergenet sweep resume {sweep} (makes again what is damaged, or says what to do)" in lines
    with pytest.raises(CheckpointError, match=str(run)):
        read_trials(sweep, SWEEP, "trial")

    assert repair_runs(sweep) == [best]
    if damage == "no result":  # it reads the test split again
        number = int(best.removeprefix("trial-"))
        do_job(Jobs(sweep, SPACE, None).trial(number, {CYCLE: (2, 4)[number]}), lambda *_: GO_ON)
    assert {name: (run / name).read_bytes() for name in files} == files
    assert answers(sweep) == before
    assert repair_runs(sweep) == []


def test_a_lost_trial_json_has_one_answer_and_is_made_again(sweep: Path) -> None:
    before = answers(sweep)
    best = before["status"][1]["trial"]
    run, (other,) = sweep / "trials" / best, [name for name in before["table"] if name != best]
    content = (run / "trial.json").read_bytes()
    (run / "trial.json").unlink()
    found = answers(sweep)
    assert found["table"] == [other]
    assert found["best"].startswith(f"# best trial: {other}, ")
    assert found["status"] == ({"complete": 1, "damaged": 1}, {**found["status"][1], "trial": other}, [best])
    assert sorted(found["warm start"]) == sorted(["not readable", other])
    reason = (
        f"{run} must hold a trial.json, as in every trial of a sweep after its first epoch; `mergenet sweep resume` "
        "makes it again"
    )
    assert load_trials(sweep).attrs["problems"] == [f"skipped a run: {reason}"]
    assert read_status(sweep)["damaged"] == {best: reason}
    assert whole(begun_runs(sweep)) == ([sweep / "trials" / other], [reason])
    with pytest.raises(CheckpointError, match=r"must hold a trial\.json"):
        best_trials(sweep, 1)

    assert repair_runs(sweep) == []
    number = int(best.removeprefix("trial-"))
    assert (
        do_job(Jobs(sweep, SPACE, None).trial(number, {CYCLE: (2, 4)[number]}), lambda *_: GO_ON)["state"] == COMPLETE
    )
    assert (run / "trial.json").read_bytes() == content
    assert answers(sweep) == before


def test_a_run_in_its_first_epoch_has_none_yet(sweep: Path) -> None:
    run = sweep / "trials/trial-001"
    for name in ("trial.json", "result.json"):
        (run / name).unlink()
    (run / "epochs.jsonl").write_bytes(b"")
    assert [one.name for one in begun_runs(sweep)] == ["trial-000"]
    assert read_status(sweep)["damaged"] == {}


@pytest.mark.parametrize("name", ["result.json", "provenance.json"])
def test_what_cannot_be_made_again_is_said(sweep: Path, name: str) -> None:
    path = sweep / "trials/trial-000" / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {"more": 1}))
    way_out = rf"sha256 says; .* take that key out; move {path.parent} away, and it trains again$"
    with pytest.raises(CheckpointError, match=way_out):
        repair_runs(sweep)


def test_without_its_checkpoints_resume_says_what_to_do(sweep: Path) -> None:
    run = sweep / "trials/trial-000"
    shutil.rmtree(run / "checkpoints")
    assert load_latest(run / "checkpoints") is None
    assert repair_runs(sweep) == [], "they are not needed"
    spoil(run, "cut")
    with pytest.raises(CheckpointError, match=rf"got 1; it is damaged; move {run} away, and it trains again$"):
        repair_runs(sweep)
