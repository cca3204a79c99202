"""The mirror with the real W&B client against files and a stand-in of its server."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import wandb
from click.testing import CliRunner

from analysis import load_trials, load_wandb
from analysis.comparison.variants import variant_hash
from analysis.wandb_runs.framing import rows
from analysis.wandb_runs.offline import read_offline
from mergenet.errors import ConfigError, UserError
from mergenet.records.atomic import write_text
from mergenet.records.command import shareable
from mergenet.records.run_record import write_epochs
from mergenet.records.sealed import read_record, write_record
from sweeps.cli.commands import sweep as sweep_group
from sweeps.driver.steps import forget_run
from sweeps.tracking import wandb_mirror, wandb_run
from sweeps.tracking.wandb_file import is_closed, known_epochs, run_files
from sweeps.tracking.wandb_mirror import Mirror
from sweeps.tracking.wandb_run import check_key, open_run
from sweeps.tracking.wandb_sync import sync_sweep
from tests.sweeps.base import CONV, base_config, sweep_config
from tests.sweeps.wandb_base import (
    BEST,
    KEY,
    SEARCH,
    SUMMARY,
    begin,
    client_environment,
    end,
    epochs,
    play,
    record,
    sweep_folder,
)
from tests.sweeps.wandb_sweep import same_but_places
from tests.wandb_server import Run, WandbServer

pytestmark = pytest.mark.slow  # W&B's real client and a server of our own

NOTHING: dict[str, Any] = {"params": {}}
WAY_OUT = "`mergenet sweep sync"


def wandb_sync(folder: Path) -> None:
    runs = [str(path.parent) for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]
    done = subprocess.run([sys.executable, "-m", "wandb", "sync", *runs], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_online_run_has_rows_config_group_and_outcome(server: WandbServer, tmp_path: Path) -> None:
    sweep, folder = sweep_folder(tmp_path, "online")
    said: list[str] = []
    mirror = Mirror(sweep, folder, said.append)
    for job, role, state in (
        ("trial-000", "trial", "complete"),
        ("trial-001", "trial", "pruned"),
        ("confirm-none-1", "confirm_none", "failed"),
        ("baseline", "baseline", "paused"),
    ):
        record(folder, job, 2)
        play(mirror, job, *begin(), *epochs(1, 2), end(state, "broke" if state == "failed" else None), role=role)
    mirror.close()
    assert said == []
    run = server.runs["tiny-trial-000"]
    assert (run.epochs, run.exit_code, run.preempting) == ([1, 2], 0, False)
    assert (run.about["groupName"], run.about["jobType"]) == ("tiny", "trial")
    config = {key: run.setting(key) for key in run.config if key != "_wandb"}
    assert config == {
        "transfer_pairs": "layer3.0.conv2>features.5.conv.2",
        "transfer_t_cycle": 4,
        "trial_id": "trial-000",
        "role": "trial",
        "number": 3,
        "seed": 0,
        "method": "mergenet",
        "metric": "target_val_top1",
        "searched": "transfer.pairs, transfer.t_cycle",
        "summary_run": "tiny-summary",
        "variant": f"mergenet t_cycle=2 #{variant_hash(base_config())}",
        "config_hash": "0123456789ab",
    }
    assert run.summary["state"] == "complete"
    assert (run.summary["target_test_top1"], run.summary["objective"], run.summary["best_epoch"]) == (0.75, 0.2, 2)
    assert run.summary["target_val_top1"] == {"max": 0.2, "last": 0.2}
    assert run.summary["target_val_loss"] == {"min": 0.5, "last": 0.5}
    assert '"epoch"' in json.dumps(run.setting("_wandb")["m"])  # the axis of every metric
    pruned, failed, paused = (server.runs[f"tiny-{job}"] for job in ("trial-001", "confirm-none-1", "baseline"))
    assert (pruned.exit_code, pruned.summary["state"]) == (0, "pruned")
    assert (failed.exit_code, failed.summary["state"], failed.summary["error"]) == (1, "failed", "broke")
    assert failed.about["jobType"] == "confirm"
    assert (paused.exit_code, paused.preempting, paused.summary["state"]) == (1, True, "interrupted")
    assert [one.about["tags"] for one in (run, pruned, failed)] == [["complete"], ["pruned"], ["confirm", "failed"]]


def test_one_variant_is_all_but_the_seed(server: WandbServer, tmp_path: Path) -> None:
    """By whatever way it came to W&B: while it ran, and from the records."""
    sweep, folder = sweep_folder(tmp_path, "online")
    mirror = Mirror(sweep, folder, print)
    transfer = {"t_cycle": 2, "pairs": [CONV], "adapter": {"rank": 4}}  # of the base
    jobs: list[tuple[str, str, dict[str, Any]]] = [
        ("trial-000", "trial", {"seed": 0}),
        ("confirm-best-1", "confirm_best", {"seed": 7}),
        ("confirm-noise-1", "confirm_noise", {"seed": 7, "transfer": transfer | {"control": "noise"}}),
        ("baseline", "baseline", {"method": "none"}),
        ("confirm-none-1", "confirm_none", {"method": "none", "seed": 7, "transfer": transfer | {"t_cycle": 4}}),
    ]
    for job, role, changes in jobs:
        record(folder, job, 1, role=role, **changes)
        play(mirror, job, *begin(**changes), *epochs(1, 1), end(), role=role)
    mirror.close()
    found = {job: server.runs[f"tiny-{job}"].setting("variant") for job, _, _ in jobs}
    assert found["trial-000"] == found["confirm-best-1"]
    assert found["baseline"] == found["confirm-none-1"], "what no transfer does not read is no difference"
    assert found["baseline"].startswith("none #")
    assert len(set(found.values())) == 3
    assert "control=noise" in found["confirm-noise-1"]
    assert server.runs["tiny-confirm-noise-1"].about["tags"] == ["confirm", "ablation", "complete"]
    wandb.teardown()
    sync_sweep(folder, "online", "another", print)
    assert found == {job: server.runs[f"tiny-{job}"].setting("variant") for job, _, _ in jobs}


def test_runs_group_by_a_setting_that_they_did_not_draw(server: WandbServer, tmp_path: Path) -> None:
    search = SEARCH | {"transfer.adapter.rank": {"choice": [4, 8]}, "transfer.adapter.init": {"choice": [None]}}
    sweep, folder = sweep_folder(tmp_path, "online", search=search)
    record(folder, "baseline", 1, role="baseline", method="none")
    write_record(folder / "trials/baseline/trial.json", read_record(folder / "trials/baseline/trial.json") | NOTHING)
    mirror = Mirror(sweep, folder, print)
    queued, started = begin(method="none")
    play(mirror, "baseline", queued | NOTHING, started, *epochs(1, 1), end(), role="baseline")
    mirror.close()
    for _ in range(2):
        run = server.runs["tiny-baseline"]
        assert (run.setting("transfer_t_cycle"), run.setting("transfer_adapter_rank")) == (2, 4)
        assert (run.setting("searched"), "transfer_adapter_init" in run.config) == ("", False)
        same_but_places(load_wandb("stand-in/mergenet/tiny"), load_trials(folder))
        wandb.teardown()
        sync_sweep(folder, "online", None, print)


def test_notes_say_what_made_the_run_and_hide_what_is_secret(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "hush-hush-123")
    sweep, folder = sweep_folder(tmp_path, "online")
    words = ["mergenet", "sweep", "run", f"{tmp_path}/my sweep.yaml", "--set", "api_key=1", "--copy-to"]
    command = shareable([*words, "s3://me:pw@host/hush-hush-123"])  # HOME is the folder
    write_record(folder / "sweep.json", {"status": "running", "command": command})
    record(folder, "trial-000", 1)
    mirror = Mirror(sweep, folder, print)
    play(mirror, "trial-000", *begin(), *epochs(1, 1))
    wait_until(lambda: "notes" in server.runs.get("tiny-trial-000", Run("", "")).about)
    begun = server.runs["tiny-trial-000"].about["notes"]
    play(mirror, "trial-000", end())
    mirror.close()
    url = f"{server.url}/stand-in/mergenet/runs/tiny-summary"
    first = f"Of the sweep tiny; its table, its best and its artifacts: run [tiny-summary]({url})."
    made = "Made by `mergenet sweep run ~/'my sweep.yaml' --set api_key=*** --copy-to s3://***@host/***`."
    assert begun == f"{first}\n\n{made}"
    code = f"Code: mergenet 9.8, torch 7.6, commit {'f' * 12} with uncommitted edits."
    assert server.runs["tiny-trial-000"].about["notes"] == f"{begun}\n\n{code}\n\nData: target {'ab' * 6}."


def test_a_users_tags_and_notes_stay(server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment, and from W&B's pages before the run goes on."""
    monkeypatch.setenv("WANDB_TAGS", "mine,too")
    sweep, folder = sweep_folder(tmp_path, "online")
    for job in ("trial-000", "trial-001"):
        record(folder, job, 2, state="running")
    first = Mirror(sweep, folder, print)
    for job in ("trial-000", "trial-001"):
        play(first, job, *begin(), *epochs(1, 2))
    first.close()
    run, other = server.runs["tiny-trial-000"], server.runs["tiny-trial-001"]
    assert run.about["tags"] == ["mine", "too", "interrupted"]
    run.about |= {"tags": ["mine", "interrupted", "look at this"], "notes": "my own words"}
    for job in ("trial-000", "trial-001"):
        record(folder, job, 2)
    wandb.teardown()
    monkeypatch.delenv("WANDB_TAGS")  # which a client that resumes would put in the place of the run's
    again = Mirror(sweep, folder, print)
    for job in ("trial-000", "trial-001"):
        play(again, job, *begin(), *epochs(1, 2), end())
    again.close()
    assert run.about["notes"] == "my own words"
    assert {"look at this", "mine", "complete"} <= set(run.about["tags"])
    assert "interrupted" not in run.about["tags"]
    assert "Code: mergenet 9.8" in other.about["notes"]


def test_a_lost_job_and_a_resumed_sweep_keep_one_run_and_each_epoch_once(server: WandbServer, tmp_path: Path) -> None:
    sweep, folder = sweep_folder(tmp_path, "online")
    first = Mirror(sweep, folder, print)
    lost = {"event": "lost", "reason": "gone", "attempts": 1}
    play(first, "trial-000", *begin(), *epochs(1, 2), lost, begin()[1], *epochs(3, 3))
    first.close()  # the driver was interrupted
    again = Mirror(sweep, folder, print)
    play(again, "trial-000", *begin(), *epochs(1, 4), *epochs(5, 6), end())
    again.close()
    run = server.runs["tiny-trial-000"]
    assert (run.epochs, run.exit_code) == ([1, 2, 3, 4, 5, 6], 0)  # 4 was recorded, but never mirrored
    assert run.summary["state"] == "complete"


def curve(folder: Path, job: str, values: Sequence[float]) -> list[dict[str, Any]]:
    """The rows of a run that has so many epochs by now, in its record and as events."""
    found = [
        {"epoch": epoch, "step": 10 * epoch, "target_val_loss": 1 - value, "target_val_top1": value}
        for epoch, value in enumerate(values, start=1)
    ]
    write_epochs(folder / "trials" / job, found)
    return [{"event": "row", "row": row} for row in found]


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_the_best_of_a_resumed_run_is_that_of_all_its_epochs(mode: str, server: WandbServer, tmp_path: Path) -> None:
    """Its client has logged the later ones alone. What an earlier version left so is mended by sync."""
    sweep, folder = sweep_folder(tmp_path, mode)
    values = [0.25, 0.75, 0.5, math.nan, 0.625]
    for count in (2, 5):
        record(folder, "trial-000", count, state="complete" if count == 5 else "running")
        mirror = Mirror(sweep, folder, print)
        play(mirror, "trial-000", *begin(), *curve(folder, "trial-000", values[:count]))
        if count == 5:
            play(mirror, "trial-000", end())
        mirror.close()
        wandb.teardown()
    if mode == "offline":
        wandb_sync(folder)
    run = server.runs["tiny-trial-000"]
    best = {"target_val_top1": {"max": 0.75, "last": 0.625}, "target_val_loss": {"min": 0.25, "last": 0.375}}
    assert run.summary.items() >= best.items()
    if mode == "online":
        run.summary["target_val_top1"] = {"max": 0.625, "last": 0.625}
        sync_sweep(folder, mode, None, print)
        assert run.summary.items() >= best.items()


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_what_an_earlier_ending_said_is_gone(mode: str, server: WandbServer, tmp_path: Path) -> None:
    """A trial that failed after it was interrupted, one that a retry completed, and the summary of both."""
    sweep, folder = sweep_folder(tmp_path, mode)
    done = BEST | {"trial_id": "trial-001", "params": {"method": "kd"}}
    later = SUMMARY | {"trials": [done], "best": done, "confirmation": None}
    for summary, states in ((SUMMARY, ("running", "failed")), (later, ("failed", "complete"))):
        mirror = Mirror(sweep, folder, print)
        for number, state in enumerate(states):
            job = f"trial-00{number}"
            record(folder, job, 2, state=state)
            error = "out of memory" if state == "failed" else None
            play(mirror, job, *begin(), *epochs(1, 2), *([] if state == "running" else [end(state, error)]))
        mirror.summarize(summary)
        mirror.close()
        wandb.teardown()
        for run in server.runs.values():
            run.summary["mine"] = 1
    found = {run.id: run.summary for run in read_offline(folder)}
    if mode == "online":
        assert {name: run.summary for name, run in server.runs.items() if run.summary["mine"] != 1} == {}
        found = {name: run.summary for name, run in server.runs.items()}
    about = {"state", "error", "objective", "best_epoch", "target_test_top1"}
    assert {key: found["tiny-trial-000"].get(key) for key in about & found["tiny-trial-000"].keys()} == {
        "state": "failed",
        "error": "out of memory",
    }
    assert about - found["tiny-trial-001"].keys() == {"error"}
    told = {key for key in found["tiny-summary"] if key.startswith(("trials_", "best_", "gain_"))}
    assert told == {"trials_complete", "best_trial", "best_value", "best_method"}


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_run_that_trains_anew_after_it_was_deleted_has_the_new_curve(
    mode: str, server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a confirmation does if another trial is the best by now: not the epochs of the old one."""
    monkeypatch.setenv("WANDB_RESUME", "must")  # left behind by others
    sweep, folder = sweep_folder(tmp_path, mode)
    said: list[str] = []
    for start in (1, 5):
        if start > 1:
            forget_run(folder / "trials/trial-000")
        record(folder, "trial-000", 3)
        told = [epoch["row"] | {"target_val_top1": start / 10} for epoch in epochs(1, 3)]
        mirror = Mirror(sweep, folder, said.append)
        play(mirror, "trial-000", *begin(), *({"event": "row", "row": row} for row in told), end())
        mirror.close()
        wandb.teardown()
    assert said == []
    files = [row for path in run_files(folder, "tiny-trial-000") for row in rows(path)]
    assert [(row["epoch"], row["target_val_top1"]) for row in files] == [(1, 0.5), (2, 0.5), (3, 0.5)]
    if mode == "offline":
        monkeypatch.delenv("WANDB_RESUME")
        wandb_sync(folder)
    run = server.runs["tiny-trial-000"]
    shown = {row["epoch"]: row["target_val_top1"] for _, row in sorted(run.history.items())}
    assert shown == dict.fromkeys((1, 2, 3), 0.5), "by the last row of an epoch, as everywhere"
    assert sync_sweep(folder, mode, None, said.append) == 0, "nothing is lacking"


def test_a_run_of_another_sweep_with_the_same_name_is_left_alone(server: WandbServer, tmp_path: Path) -> None:
    said: list[str] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        sweep, folder = sweep_folder(tmp_path / name, "online")
        record(folder, "trial-000", 2)
        mirror = Mirror(sweep, folder, said.append)
        play(mirror, "trial-000", *begin(), *epochs(1, 2), end())
        mirror.close()
    assert server.runs["tiny-trial-000"].epochs == [1, 2]
    assert len(said) == 2
    assert said[0].startswith("wandb: no run for trial-000 (W&B has a run tiny-trial-000 that this sweep folder did")
    wandb.teardown()  # sync is another process
    with pytest.raises(UserError, match="give the sweep another name"):
        sync_sweep(tmp_path / "two/sweep", "online", None, print)


@pytest.mark.parametrize("drawn", [4, 8])
def test_a_sweep_that_came_back_from_a_copy_goes_on_with_its_runs(
    server: WandbServer, tmp_path: Path, drawn: int
) -> None:
    """The files of a run that trained are not in the copy. drawn: for it, in the study of the copy."""
    said: list[str] = []
    for name, study, last, cycle in (("lost", "one", 3, 4), ("copied", "one", 5, drawn), ("other", "two", 2, 4)):
        (tmp_path / name).mkdir()
        sweep, folder = sweep_folder(tmp_path / name, "online")
        write_record(
            folder / "sweep.json", {"status": "running", "name": sweep.name, "study_id": study, "copy": "file:///copy"}
        )
        transfer = {"t_cycle": cycle, "pairs": [CONV], "adapter": {"rank": 4}}
        record(folder, "trial-000", last, state="complete" if last == 5 else "running", transfer=transfer)
        mirror = Mirror(sweep, folder, said.append)
        told = [end()] if last == 5 else []
        play(mirror, "trial-000", *begin(transfer=transfer), *epochs(1, last), *told)
        mirror.close()
        wandb.teardown()
    run = server.runs["tiny-trial-000"]
    assert (run.summary["state"], run.setting("sweep_id")) == ("complete", "one")
    assert [row["epoch"] for row in run.history.values()][-2:] == [4, 5]
    if drawn == 4:
        assert run.epochs == [1, 2, 3, 4, 5], "each once"
        same_but_places(load_wandb("stand-in/mergenet/tiny"), load_trials(tmp_path / "copied/sweep"))
    assert f"t_cycle={drawn}" in run.setting("variant")
    assert len(said) == 2 and said[0].startswith("wandb: no run for trial-000 (W&B has a run tiny-trial-000 that")
    wandb.teardown()
    assert sync_sweep(tmp_path / "copied/sweep", "online", None, print) == 0, "nothing is lacking"


def test_sync_goes_on_after_names_that_are_taken(server: WandbServer, tmp_path: Path) -> None:
    for name, jobs in (("one", ("trial-000", "trial-001")), ("two", ("trial-000", "trial-001", "trial-002"))):
        (tmp_path / name).mkdir()
        _, folder = sweep_folder(tmp_path / name, "disabled")
        for job in jobs:
            record(folder, job, 2)
        done = CliRunner().invoke(sweep_group, ["sync", str(folder)])
        wandb.teardown()
    assert done.exit_code == 2
    first, *lines = done.output.splitlines()
    assert first == "1 runs are whole online, 2 epochs were added to 1 of them"
    assert [line[:39] for line in lines] == [f"error: W&B has a run tiny-trial-00{place} that"[:39] for place in (0, 1)]
    assert server.runs["tiny-trial-002"].epochs == [1, 2]


@pytest.mark.usefixtures("hasty")
def test_an_outage_is_said_once_and_sync_completes_what_it_cost(server: WandbServer, tmp_path: Path) -> None:
    sweep, folder = sweep_folder(tmp_path, "online")
    said: list[str] = []
    mirror = Mirror(sweep, folder, said.append)
    for job in ("trial-000", "trial-001", "trial-002", "trial-003"):
        record(folder, job, 3)
    play(mirror, "trial-000", *begin(), *epochs(1, 1))
    wait_until(lambda: "tiny-trial-000" in server.runs)
    server.down = True
    play(mirror, "trial-000", *epochs(2, 3), end())
    play(mirror, "trial-001", *begin(), *epochs(1, 3), end())
    play(mirror, "trial-002", *begin(), *epochs(1, 3), end())
    wait_until(lambda: len(list(folder.glob("wandb/offline-run-*"))) == 2)
    server.down = False
    play(mirror, "trial-003", *begin(), *epochs(1, 3), end())
    mirror.close()
    assert len(said) == 2
    assert said[0].startswith("wandb: trial-000 cannot be mirrored online (TimeoutError: ")
    assert said[1].startswith("wandb: 3 runs lack something")
    assert all(WAY_OUT in line for line in said)
    assert server.runs["tiny-trial-003"].epochs == [1, 2, 3]  # W&B is back, and so is the mirror
    assert "tiny-trial-002" not in server.runs
    sync_sweep(folder, "online", None, said.append)
    assert said[2].startswith("4 runs are whole online, ")
    for job in range(4):
        run = server.runs[f"tiny-trial-00{job}"]
        assert (run.epochs, run.exit_code) == ([1, 2, 3], 0)
    assert sync_sweep(folder, "online", None, said.append) == 0


def test_a_dead_client_is_replaced(offline: Path) -> None:
    sweep, folder = sweep_folder(offline, "offline")
    said: list[str] = []
    mirror = Mirror(sweep, folder, said.append)
    for job in ("trial-000", "trial-001"):
        record(folder, job, 4)
        play(mirror, job, *begin(), *epochs(1, 2))
    wait_until(lambda: all(len(job.rows) == 2 for job in mirror.jobs.values()) and len(mirror.jobs) == 2)
    for process in children("wandb-core"):
        os.kill(process, signal.SIGKILL)
    for job in ("trial-000", "trial-001"):
        play(mirror, job, *epochs(3, 4), end())
    mirror.close()
    assert len(said) == 1
    assert said[0].startswith("wandb: its process died (")
    for job in ("trial-000", "trial-001"):
        logged = [row["epoch"] for path in run_files(folder, f"tiny-{job}") for row in rows(path)]
        assert sorted(logged) == [1, 2, 3, 4]


def test_what_a_file_lacks_is_said(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_mirror, "FLUSH_SECONDS", 1)
    sweep, folder = sweep_folder(offline, "offline")
    said: list[str] = []
    mirror = Mirror(sweep, folder, said.append)
    record(folder, "trial-000", 5)  # of which two never came
    play(mirror, "trial-000", *begin(), *epochs(1, 3), end())
    mirror.close()
    assert said == [f"wandb: 1 runs lack something (trial-000 2 epochs); {said[0].partition('; ')[2]}"]
    assert f"`mergenet sweep sync {folder}` " in said[0]
    spaced = Mirror(sweep, Path("my sweeps"), print)._way_out()
    assert spaced == "`mergenet sweep sync 'my sweeps'` completes W&B from the records"
    assert sync_sweep(folder, "offline", None, said.append) == 2
    wandb.teardown()
    assert known_epochs(folder, "tiny-trial-000") == {1, 2, 3, 4, 5}
    assert sync_sweep(folder, "offline", None, said.append) == 0


def test_how_often_the_clients_folder_is_looked_at_does_not_grow_with_the_runs(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of a sweep, and by `sweep sync`: it holds a folder for each run, so that all would be quadratic."""
    sweep, folder = sweep_folder(offline, "offline")
    mirror = Mirror(sweep, folder, print)
    record(folder, "trial-000", 2)
    play(mirror, "trial-000", *begin(), *epochs(1, 2), end())
    mirror.close()
    wandb.teardown()
    (first,) = run_files(folder, "tiny-trial-000")
    looks = list[str]()
    for look in ("listdir", "scandir"):
        real = getattr(os, look)
        monkeypatch.setattr(os, look, lambda place=".", real=real: looks.append(str(place)) or real(place))
    found = []
    for runs in (range(1, 2), range(2, 8)):
        for number in runs:
            name = f"tiny-trial-{number:03d}"
            record(folder, name.removeprefix("tiny-"), 2)
            copy = folder / f"wandb/offline-run-20260101_00000{number}-{name}"
            shutil.copytree(first.parent, copy)
            (copy / first.name).rename(copy / f"run-{name}.wandb")
        said: list[str] = []
        for way in (Mirror(sweep, folder, said.append).close, lambda: sync_sweep(folder, "offline", None, print)):
            looks.clear()
            way()
            found.append(sum(place.endswith("/wandb") for place in looks))
        assert said == []
    assert found == [1, 1, 1, 1]
    looks.clear()
    open_run(sweep, folder, "trial-100", "trial", {}, "offline").run.finish()
    assert sum(place.endswith("/wandb") for place in looks) <= 2


def test_an_end_that_a_file_lacks_is_said(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a driver that was killed after a trial had ended, and before W&B was told."""
    monkeypatch.setattr(wandb_mirror, "FLUSH_SECONDS", 1)
    sweep, folder = sweep_folder(offline, "offline")
    for job in ("trial-000", "trial-001"):
        mirror = Mirror(sweep, folder, print)
        record(folder, job, 3, state="running")
        play(mirror, job, *begin(), *epochs(1, 3), *([end()] if job == "trial-001" else []))
        if job == "trial-001":
            mirror.close()
            record(folder, job, 3)
    wait_until(lambda: len(known_epochs(folder, "tiny-trial-000")) == 3)
    said: list[str] = []
    Mirror(sweep, folder, said.append).close()
    assert said == [], "it may be gone on with"
    record(folder, "trial-000", 3)
    Mirror(sweep, folder, said.append).close()
    assert said == [f"wandb: 1 runs lack something (trial-000 its end); {said[0].partition('; ')[2]}"]


def test_a_torn_file_is_read_up_to_the_tear(offline: Path) -> None:
    sweep, folder = sweep_folder(offline, "offline")
    mirror = Mirror(sweep, folder, print)
    play(mirror, "trial-000", *begin(), *epochs(1, 2000), end())  # several blocks of 32 KiB
    mirror.close()
    wandb.teardown()
    (path,) = run_files(folder, "tiny-trial-000")
    whole = path.read_bytes()
    assert len(whole) > 3 * 32 * 1024
    assert [row["epoch"] for row in rows(path)] == list(range(1, 2001))
    path.write_bytes(whole[: len(whole) // 2])
    assert known_epochs(folder, "tiny-trial-000") == set(range(1, len(rows(path)) + 1))
    assert 500 < len(rows(path)) < 1500
    path.write_bytes(b"no such file")
    assert rows(path) == []


KILLED = """
import sys, time
from pathlib import Path
from tests.sweeps.wandb_base import *
sweep, folder = sweep_folder(Path(sys.argv[1]), sys.argv[2])
mirror = Mirror(sweep, folder, print)
play(mirror, "trial-000", *begin(), *epochs(1, 3))
while len(mirror.jobs.get("trial-000").rows if "trial-000" in mirror.jobs else ()) < 3: time.sleep(0.05)
print("logged", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_after_a_kill_each_epoch_is_there_once(
    mode: str, server: WandbServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL to the driver and its client; the next driver replays; then `wandb sync` of the files."""
    environment = os.environ | client_environment(tmp_path, server.url) | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", KILLED, str(tmp_path), mode]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "logged\n"
        for process in [*children("wandb-core", driver.pid), driver.pid]:
            os.kill(process, signal.SIGKILL)
    sweep, folder = sweep_folder(tmp_path, mode)
    record(folder, "trial-000", 5)
    said: list[str] = []
    mirror = Mirror(sweep, folder, said.append)
    play(mirror, "trial-000", *begin(), *epochs(1, 3), *epochs(4, 5), end())
    mirror.close()
    if mode == "offline":
        wandb.teardown()
        wandb_sync(folder)
    run = server.runs["tiny-trial-000"]
    assert (run.epochs, run.exit_code) == ([1, 2, 3, 4, 5], 0)
    assert sync_sweep(folder, "online", None, said.append) == 0
    assert said == ["1 runs are whole online, 0 epochs were added to 0 of them"]
    assert capfd.readouterr().err == ""


def test_a_run_that_was_killed_before_its_end_is_closed_by_sync(server: WandbServer, tmp_path: Path) -> None:
    """All its epochs are there, only how it ended is not."""
    environment = os.environ | client_environment(tmp_path, server.url) | {"PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), "offline"], env=environment, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "logged\n"
        for process in [*children("wandb-core", driver.pid), driver.pid]:
            os.kill(process, signal.SIGKILL)
    folder = tmp_path / "sweep"
    record(folder, "trial-000", 3)
    assert not is_closed(folder, "tiny-trial-000")
    sync_sweep(folder, "offline", None, print)
    wandb.teardown()
    assert is_closed(folder, "tiny-trial-000")
    files = run_files(folder, "tiny-trial-000")
    sync_sweep(folder, "offline", None, print)
    assert run_files(folder, "tiny-trial-000") == files, "nothing is left to do"
    wandb_sync(folder)
    run = server.runs["tiny-trial-000"]
    assert (run.epochs, run.exit_code) == ([1, 2, 3], 0)


def test_sync_fills_w_and_b_from_the_records_alone(server: WandbServer, tmp_path: Path) -> None:
    """Of a sweep that ran without W&B; artifacts are refused, and none is asked for."""
    server.refuse_artifacts = True
    _, folder = sweep_folder(tmp_path, "disabled")
    record(folder, "trial-000", 3)
    record(folder, "trial-001", 2, state="running")  # the driver was killed
    record(folder, "confirm-best-1", 1, state="failed", role="confirm_best")
    write_record(folder / "summary.json", SUMMARY)
    done = CliRunner().invoke(sweep_group, ["sync", str(folder), "--project", "other"])
    assert (done.exit_code, done.output) == (0, "3 runs are whole online, 6 epochs were added to 3 of them\n")
    states = {name: (run.epochs, run.summary["state"], run.exit_code) for name, run in server.runs.items()}
    assert states == {
        "tiny-trial-000": ([1, 2, 3], "complete", 0),
        "tiny-trial-001": ([1, 2], "interrupted", 1),
        "tiny-confirm-best-1": ([1], "failed", 1),
        "tiny-summary": ([None], "complete", 0),
    }
    summary = server.runs["tiny-summary"]
    assert (summary.project, summary.about["jobType"], summary.setting("role")) == ("other", "summary", "summary")
    numbers = {key: summary.summary[key] for key in ("best_trial", "baseline_value", "gain_target_test_top1_mean")}
    assert numbers == {"best_trial": "trial-000", "baseline_value": 0.1, "gain_target_test_top1_mean": 0.05}
    (table,) = [body.decode() for name, body in server.files.items() if name.endswith(".html")]
    assert "<tr><td>trial-001</td><td>failed</td><td>0</td><td></td><td></td><td>&lt;b&gt;</td></tr>" in table
    assert server.artifacts == []
    assert all(path.with_suffix(".wandb.synced").exists() for path in folder.glob("wandb/run-*/*.wandb"))


def test_the_end_of_a_sweep_is_mirrored(server: WandbServer, tmp_path: Path) -> None:
    sweep, folder = sweep_folder(tmp_path, "online")
    mirror = Mirror(sweep, folder, print)
    mirror.summarize(SUMMARY)
    mirror.close()
    run = server.runs["tiny-summary"]
    assert (run.summary["trials_complete"], run.summary["trials_failed"], run.exit_code) == (1, 1, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "must be a sweep folder, with sweep.yaml, sweep.json"),
        (["--mode", "offline", "--project", "p"], "--project must go with --mode online, got offline"),
        (["--project", "no spaces"], "project"),
    ],
)
def test_sync_refuses_what_it_cannot_do(offline: Path, arguments: list[str], message: str) -> None:
    folder = offline if not arguments else sweep_folder(offline, "offline")[1]
    done = CliRunner().invoke(sweep_group, ["sync", str(folder), *arguments])
    assert done.exit_code == 2
    assert message in done.output


@pytest.mark.usefixtures("hasty")
def test_sync_says_that_w_and_b_is_down(server: WandbServer, tmp_path: Path) -> None:
    _, folder = sweep_folder(tmp_path, "offline")
    record(folder, "trial-000", 3)
    server.down = True
    done = CliRunner().invoke(sweep_group, ["sync", str(folder)])
    assert done.exit_code == 1
    assert done.output.startswith("error: W&B did not take the run trial-000 (OSError: ")


def test_a_sweep_that_would_have_to_ask_for_a_key_is_refused(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, _ = sweep_folder(offline, "online")
    check_key(sweep)
    monkeypatch.delenv("WANDB_API_KEY")
    wandb.teardown()
    with pytest.raises(ConfigError, match="must find a key in WANDB_API_KEY or"):
        check_key(sweep)


def test_trouble_is_said_once_and_stops_nothing(offline: Path) -> None:
    sweep, folder = sweep_folder(offline, "offline")
    said: list[str] = []
    mirror = Mirror(sweep, folder, said.append)
    for job in ("bad/id", "worse:id"):  # the client refuses these ids
        play(mirror, job, *begin(), *epochs(1, 2), end())
    mirror.close()
    assert len(said) == 2
    assert said[0].startswith("wandb: no run for bad/id (")
    assert said[1].startswith("wandb: 2 runs lack something (bad/id no run, worse:id no run); ")


def test_a_hanging_client_holds_nothing_up(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release, returned = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        release.wait(100)
        returned.set()

    monkeypatch.setattr(wandb_mirror, "CLOSE_SECONDS", 1)
    monkeypatch.setattr(wandb_mirror, "open_run", hang)
    sweep, folder = sweep_folder(offline, "offline")
    said: list[str] = []
    mirror = Mirror(sweep, folder, said.append)
    play(mirror, "trial-000", *begin(), *epochs(1, 2), end())
    mirror.close()
    assert not returned.is_set(), "neither the events nor the end waited for the client"
    assert said[0].startswith("wandb: not done after 1 s; ")
    release.set()


def test_disabled_mirror_writes_nothing(tmp_path: Path) -> None:
    mirror = Mirror(sweep_config(SEARCH), tmp_path, print)
    play(mirror, "trial-000", *begin(), *epochs(1, 2), end())
    mirror.close()
    assert list(tmp_path.iterdir()) == []


def test_no_key_is_written_anywhere(
    server: WandbServer, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Online and offline, with an outage in between; the client's own folders are searched, too."""
    monkeypatch.setattr(wandb_run, "INIT_SECONDS", 2)
    sweep, folder = sweep_folder(tmp_path, "online")
    mirror = Mirror(sweep, folder, print)
    play(mirror, "trial-000", *begin(), *epochs(1, 2), end())
    wait_until(lambda: "trial-000" in mirror.unchecked)
    server.down = True
    play(mirror, "trial-001", *begin(), *epochs(1, 2), end())
    mirror.close()
    wandb.teardown()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    captured = capfd.readouterr()
    assert KEY not in captured.out + captured.err
    assert not [body for body in server.bodies if KEY.encode() in body]


def wait_until(done: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def children(name: str, parent: int | None = None) -> list[int]:
    """Processes of that name that a process started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat, line = (path / "stat").read_text(), (path / "cmdline").read_bytes()
        except OSError:  # gone meanwhile
            continue
        if int(stat.rpartition(")")[2].split()[1]) == (parent or os.getpid()) and name.encode() in line:
            found.append(int(path.name))
    return found


@pytest.mark.parametrize(
    "left",
    [
        {"WANDB_SWEEP_ID": "other", "WANDB_SWEEP_PARAM_PATH": "agent.yaml"},
        {"WANDB_LAUNCH": "true"},
        {"WANDB_RUN_ID": "x", "WANDB_PROJECT": "x", "WANDB_RUN_GROUP": "x", "WANDB_JOB_TYPE": "x", "WANDB_NAME": "x"},
        {"WANDB_MODE": "disabled", "WANDB_DISABLED": "true", "WANDB_RESUME": "must", "WANDB_DIR": "/nowhere"},
    ],
    ids=lambda left: next(iter(left)),
)
def test_what_was_left_in_the_environment_does_not_rename_a_run(
    offline: Path, monkeypatch: pytest.MonkeyPatch, left: dict[str, str]
) -> None:
    monkeypatch.chdir(offline)
    write_text(offline / "agent.yaml", "b: {value: 3}\n")
    sweep, folder = sweep_folder(offline, "offline")
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    run = open_run(sweep, folder, "trial-000", "trial", {"a": 1}, "offline").run
    run.finish()
    about = (run.id, run.project, run.group, run.job_type, run.name, dict(run.config))
    assert about == ("tiny-trial-000", "mergenet", "tiny", "trial", "trial-000", {"a": 1})
    assert Path(run.dir).is_relative_to(folder)
