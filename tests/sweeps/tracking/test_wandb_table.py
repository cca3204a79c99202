"""The table of a sweep from W&B alone, by the real client: what it says, also of runs that are not whole."""

import math
from pathlib import Path
from typing import Any

import pytest
import wandb
from click.testing import CliRunner

from analysis import load_trials, load_wandb, paired_gain
from analysis.cli import analyze
from analysis.wandb_runs import online
from analysis.wandb_runs.folder import epochs as epochs_of
from analysis.wandb_runs.folder import params, state_of
from analysis.wandb_runs.tracked import TrackedRun
from mergenet.errors import UserError
from mergenet.records.sealed import write_record
from sweeps.tracking.wandb_file import run_files
from sweeps.tracking.wandb_mirror import Mirror
from sweeps.tracking.wandb_run import open_run
from sweeps.tracking.wandb_sync import sync_sweep
from tests.records import edit_record
from tests.sweeps.wandb_base import KEY, SUMMARY, begin, end, epochs, play, record, sweep_folder
from tests.sweeps.wandb_sweep import mirror_sweep, record_sweep, same_but_places
from tests.wandb_server import WandbServer

pytestmark = pytest.mark.slow  # W&B's real client and a server of our own

PLACE = "wandb:stand-in/mergenet/tiny"


@pytest.fixture
def folder(server: WandbServer, tmp_path: Path) -> Path:
    """A sweep that W&B has, too."""
    sweep, path = sweep_folder(tmp_path, "online")
    record_sweep(path)
    mirror = Mirror(sweep, path, print)
    mirror.summarize(SUMMARY)
    mirror_sweep(mirror)
    assert len(server.runs) == 9
    return path


def queries(server: WandbServer, name: str) -> int:
    return sum(f"query {name}".encode() in body for body in server.bodies)


@pytest.mark.parametrize("per_seed", [False, True])
def test_it_is_that_of_the_folder(folder: Path, per_seed: bool) -> None:
    found = load_wandb(PLACE, per_seed)
    same_but_places(found, load_trials(folder, per_seed))
    assert found.attrs["mixed"] == []
    assert found["folder"][0].endswith("/stand-in/mergenet/runs/tiny-baseline")
    gain = paired_gain(found, "confirm_none", "confirm_best", "target_val_top1", by="role")
    assert (gain.num_seeds, round(gain.mean, 9)) == (2, 0.15)


def test_it_is_that_of_the_files_that_the_client_wrote(folder: Path) -> None:
    """Of one mode as of the other: below the sweep's folder, or in its folder wandb/."""
    for place in (folder, folder / "wandb"):
        same_but_places(load_wandb(str(place)), load_trials(folder))


def test_one_query_in_pages_and_whole_histories(
    server: WandbServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "PAGE", 4)
    sweep, _ = sweep_folder(tmp_path, "online")
    record(folder, "trial-009", 1500)
    mirror = Mirror(sweep, folder, print)
    play(mirror, "trial-009", *begin(), *epochs(1, 1500), end())
    mirror.close()
    server.bodies.clear()
    found = load_wandb(PLACE).set_index("trial")
    assert queries(server, "Runs(") == 3, "ten runs"
    assert queries(server, "SampledHistoryPage") == 0
    assert (found["epochs_done"]["trial-009"], len(found)) == (1500, 9)
    assert found["step_seconds"]["trial-009"] == 0.0


@pytest.mark.usefixtures("folder")
def test_runs_that_are_not_as_the_sweep_left_them_are_told(server: WandbServer) -> None:
    runs = server.runs
    runs["tiny-trial-000"].exit_code = None
    runs["tiny-confirm-best-1"].exit_code, runs["tiny-confirm-best-1"].died = None, True
    runs["tiny-baseline"].about["displayName"] = "my\x1bfavourite"
    del runs["tiny-confirm-best-2"].history[1]
    mine = wandb.init(project="mergenet", group="tiny", name="by hand", settings=wandb.Settings(silent=True))
    mine.finish()
    done = CliRunner().invoke(analyze, ["table", PLACE], catch_exceptions=False)
    assert done.exit_code == 0
    for line in (
        "still running, or their files have no end; the rows show how far they are: trial-000",
        "crashed, W&B hears nothing of them any more; the rows show how far they came: confirm-best-1",
        "renamed on W&B; the table has the names of the sweep: baseline is called 'my\\x1bfavourite'",
        "without all their epochs; `mergenet sweep sync` of the sweep folder adds them: confirm-best-2 1",
        "left out, because the sweep did not write them or they are copies: by hand (finished)",
    ):
        assert line in done.output
    assert KEY not in done.output
    states = load_wandb(PLACE).set_index("trial")["state"]
    assert dict(states[["trial-000", "trial-001", "trial-002", "confirm-best-1", "confirm-none-1"]]) == {
        "trial-000": "running",
        "trial-001": "pruned",
        "trial-002": "failed",
        "confirm-best-1": "crashed",
        "confirm-none-1": "complete",
    }


def test_an_interrupted_run_is_one_that_goes_on(server: WandbServer, tmp_path: Path) -> None:
    sweep, folder = sweep_folder(tmp_path, "online")
    record(folder, "trial-000", 2, state="running")
    result = {"status": "stopped", "error": None, "epochs_done": 2, "best_epoch": 2, "metric": "target_val_top1"}
    write_record(folder / "trials/trial-000/result.json", result)
    mirror = Mirror(sweep, folder, print)
    play(mirror, "trial-000", *begin(), *epochs(1, 2))
    mirror.close()
    assert server.runs["tiny-trial-000"].state == "preempted"
    same_but_places(load_wandb(PLACE), load_trials(folder))
    assert list(load_wandb(PLACE)["state"]) == ["stopped"]


def test_seeds_and_constraints_are_those_of_the_folder(server: WandbServer, tmp_path: Path) -> None:
    """A trial of two seeds, whose mean breaks a constraint, and one whose second seed crashed."""
    bounds = {"target_val_loss": {"max": 0.4}}
    _, folder = sweep_folder(tmp_path, "disabled", constraints=bounds, seeds_per_trial=2)
    for number, last in ((0, 2), (1, 3)):
        name = f"trial-00{number}"
        record(folder, name, last)
        record(folder, f"{name}-seed-2", last, role="replicate", seed=1)
        trial = folder / "trials" / name / "trial.json"
        edit_record(trial, {"seeds": [0, 1]})
    sync_sweep(folder, "online", None, print)
    found = load_wandb(PLACE)
    same_but_places(found, load_trials(folder))
    assert list(found["breaks"].notna()) == [True, False]
    assert list(found["seeds"]) == [2, 2]
    server.runs["tiny-trial-001-seed-2"].exit_code, server.runs["tiny-trial-001-seed-2"].died = None, True
    again = load_wandb(PLACE)
    assert list(again["state"]) == ["complete", "running"]
    assert [line for line in again.attrs["mixed"] if line.startswith("crashed") and "trial-001-seed-2" in line]


def test_files_of_runs_that_were_resumed_killed_or_torn(offline: Path) -> None:
    sweep, folder = sweep_folder(offline, "offline")
    for job, last in (("trial-000", 4), ("trial-001", 3000)):
        record(folder, job, last)
    first = Mirror(sweep, folder, print)
    play(first, "trial-000", *begin(), *epochs(1, 2))
    play(first, "trial-001", *begin(), *epochs(1, 3000), end())
    first.close()
    again = Mirror(sweep, folder, print)
    play(again, "trial-000", *begin(), *epochs(1, 2), *epochs(3, 4), end())
    again.close()
    wandb.teardown()
    same_but_places(load_wandb(str(folder)), load_trials(folder))
    (torn,) = run_files(folder, "tiny-trial-001")
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    found = load_wandb(str(folder)).set_index("trial")
    assert dict(found["state"]) == {"trial-000": "complete", "trial-001": "running"}
    assert 500 < found["epochs_done"]["trial-001"] < 2900
    assert [line for line in found.attrs["mixed"] if "no end" in line and line.endswith("trial-001")]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "wandb:no/such",
            "wandb:no/such must be wandb:ENTITY/PROJECT/GROUP, or wandb:DIR with a folder of .wandb files",
        ),
        ("wandb:stand-in/other/tiny", "wandb:stand-in/other/tiny must be in a project that you can read"),
        ("wandb:stand-in/mergenet/tny", "wandb:stand-in/mergenet/tny must be a group with runs, got none"),
        ("wandb:EMPTY", "must hold files *run-*/run-*.wandb with a run, got 0 such files"),
    ],
)
def test_what_is_not_there_is_one_line(folder: Path, place: str, message: str) -> None:
    empty = folder / "empty"
    empty.mkdir()
    done = CliRunner().invoke(analyze, ["table", place.replace("EMPTY", str(empty))])
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith(message) or message in str(done.exception)
    assert "\n" not in str(done.exception)


@pytest.mark.usefixtures("server")
def test_a_group_without_runs_of_a_sweep() -> None:
    wandb.init(project="mergenet", group="tiny", settings=wandb.Settings(silent=True)).finish()
    with pytest.raises(UserError, match="must hold the runs of one sweep, got 1 runs of other origin"):
        load_wandb(PLACE)


def test_files_of_two_sweeps_are_refused(offline: Path) -> None:
    for name in ("tiny", "other"):
        sweep, folder = sweep_folder(offline, "offline", name=name)
        mirror = Mirror(sweep, folder, print)
        play(mirror, "trial-000", *begin(), *epochs(1, 1), end())
        mirror.close()
    wandb.teardown()
    with pytest.raises(UserError, match="must hold the runs of one sweep, got runs of other, tiny; name the folder"):
        load_wandb(str(folder))


def test_a_server_that_is_down_and_a_missing_key(
    server: WandbServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.down = True
    with pytest.raises(UserError, match=r"could not be read from W&B: OSError: http://127.* HTTP 503"):
        load_wandb(PLACE)
    server.down = False
    monkeypatch.delenv("WANDB_API_KEY")
    wandb.teardown()
    with pytest.raises(UserError, match=r"must be read with a key, got none; `wandb login` or WANDB_API_KEY gives one"):
        load_wandb(PLACE)
    assert len(load_wandb(str(folder))) == 8, "files need none"


@pytest.mark.usefixtures("server")
def test_a_copy_of_a_run_and_a_name_that_is_a_path_are_left_out(tmp_path: Path) -> None:
    sweep, folder = sweep_folder(tmp_path, "online")
    record(folder, "trial-000", 2)
    mirror = Mirror(sweep, folder, print)
    play(mirror, "trial-000", *begin(), *epochs(1, 2), end())
    mirror.close()
    for job, trial in (("copy", "trial-000"), ("sly", "../../sly")):
        other = open_run(sweep, folder, job, "trial", {"trial_id": trial, "role": "trial", "number": 0}, "online")
        other.run.finish()
    found = load_wandb(PLACE)
    same_but_places(found, load_trials(folder))
    assert found.attrs["mixed"][-1].endswith(": copy (finished), sly (finished)")


@pytest.mark.usefixtures("server")
def test_numbers_that_are_not_finite_come_back(tmp_path: Path) -> None:
    sweep, folder = sweep_folder(tmp_path, "online")
    mirror = Mirror(sweep, folder, print)
    row = {"epoch": 1, "step": 10, "target_val_top1": 0.5, "target_val_loss": math.nan, "target_train_loss": math.inf}
    record(folder, "trial-000", 1)
    play(mirror, "trial-000", *begin(), {"event": "row", "row": row}, end())
    mirror.close()
    (run,) = online.read_online("stand-in", "mergenet", "tiny")
    (found,) = epochs_of(run)
    assert math.isnan(found["target_val_loss"])
    assert found["target_train_loss"] == math.inf
    assert math.isnan(load_wandb(PLACE)["target_val_loss"][0])


def tracked(state: str, summary: dict[str, Any], **config: Any) -> TrackedRun:
    return TrackedRun("tiny-a", "a", state, "", "tiny", config, summary)


@pytest.mark.parametrize(
    ("on_wandb", "said", "state"),
    [
        ("finished", "complete", "complete"),
        ("failed", "failed", "failed"),
        ("failed", None, "failed"),
        ("crashed", "complete", "crashed"),
        ("running", "interrupted", "running"),
        ("crashed", "interrupted", "stopped"),
        ("killed", None, "killed"),
    ],
)
def test_whom_to_believe_about_a_state(on_wandb: str, said: str | None, state: str) -> None:
    assert state_of(tracked(on_wandb, {} if said is None else {"state": said})) == state


def test_settings_of_runs_that_do_not_say_which_were_searched() -> None:
    """As earlier versions wrote them."""
    old = {"trial_id": "trial-000", "role": "trial", "seed": 0, "transfer_t_cycle": 4, "_wandb": {}}
    assert params(old) == {"transfer_t_cycle": 4}
    new = old | {"searched": "transfer.t_cycle, transfer.pairs", "transfer_pairs": "a>b + c<>d", "mine": 1}
    pairs = [{"source": "a", "target": "b"}, {"source": "c", "target": "d", "direction": "both"}]
    assert params(new) == {"transfer.t_cycle": 4, "transfer.pairs": pairs}
