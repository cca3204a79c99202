"""A second `mergenet sweep run`: a finished sweep is shown again, anything else in the folder is safe."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from analysis.report.page import MARKDOWN_FILE, REPORT_FILE
from mergenet.errors import ConfigError
from mergenet.records.provenance import config_hash
from mergenet.records.sealed import read_record, write_record
from sweeps.cli.commands import sweep as command
from sweeps.config import SweepConfig
from sweeps.config.base import load_base
from sweeps.config.loading import dump_sweep, load_sweep
from sweeps.driver.metadata import begin
from sweeps.execution.scratch import SCRATCH
from sweeps.planning.plan import Plan
from sweeps.report.status import read_status
from sweeps.study.storage import NAME_FILE
from sweeps.study.warm_start import WARM_FILE, WarmStart
from sweeps.trials.files import JOURNAL_FILE, STUDY_FILE
from sweeps.trials.recorded_source import SourcePlan
from sweeps.trials.sweep_dir import (
    FIRST,
    LOCK_FILE,
    OWN,
    check_deletable,
    check_folder,
    clear,
    holds_sweep,
    is_rest,
    is_used,
    load_resumable,
    locked,
    only,
    shown_path,
    take_lock,
)
from tests.sweeps.base import space_of, sweep_config, write_base

SUMMARY = {
    "metric": "target_val_top1",
    "trials": [],
    "baseline": None,
    "best": None,
    "confirmation": None,
    "seconds": {"search": 61.0},
}


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepConfig:
    monkeypatch.chdir(tmp_path)
    write_base(tmp_path)
    sweep = sweep_config({"transfer.t_cycle": {"choice": [2, 4]}})
    Path("tiny.yaml").write_text(dump_sweep(sweep))
    return load_sweep("tiny.yaml")


def write_sweep(sweep: SweepConfig, status: str = "finished") -> Path:
    folder = Path("sweep-results/tiny")
    (folder / "trials/trial-000").mkdir(parents=True)
    (folder / "trials/trial-000/trial.json").write_text("{}")
    (folder / "sweep.yaml").write_text(dump_sweep(sweep))
    write_base(folder)
    write_record(folder / "sweep.json", {"status": status, "base_hash": config_hash(load_base(sweep))})
    write_record(folder / "summary.json", SUMMARY)
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["run", "tiny.yaml", *arguments])


def test_a_finished_sweep_is_shown_again(sweep: SweepConfig) -> None:
    write_sweep(sweep)
    done = run()
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("sweep tiny is finished in sweep-results/tiny; this is its summary\n")
    assert done.stdout.endswith("took 1 min 1 s; all records are in sweep-results/tiny\n")


def test_a_finished_sweep_of_an_earlier_version_is_shown_again(sweep: SweepConfig) -> None:
    """Its file lacks fields that came later."""
    file = write_sweep(sweep) / "sweep.yaml"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith("confirm_controls:")))
    assert file.read_text() != "".join(lines)
    assert run().exit_code == 0
    assert "which holds this sweep with other settings: " in run("--set", "confirm_controls=[noise]").output
    file.write_text("name: {")
    assert "which holds another sweep" in run().output


def test_a_sweep_that_names_no_metric_is_found_by_that_of_its_task(sweep: SweepConfig) -> None:
    write_sweep(sweep)
    written = Path("tiny.yaml").read_text()
    Path("tiny.yaml").write_text(written.replace("metric: target_val_top1\n", ""))
    assert run().stdout.startswith("sweep tiny is finished in sweep-results/tiny; this is its summary\n")


def test_a_sweep_whose_space_holds_fewer_trainings_than_it_asks_for_is_found(sweep: SweepConfig) -> None:
    """Its file in the folder has the number that there are."""
    folder = write_sweep(sweep.model_copy(update={"num_trials": 2}))
    state = read_record(folder / "sweep.json")
    write_record(folder / "sweep.json", state | {"num_trials": {"asked": sweep.num_trials, "held": 2}})
    assert run().exit_code == 0
    assert "which holds this sweep with other settings: num_trials (2, now 3); " in run("--set", "num_trials=3").output


def test_a_start_says_at_once_what_takes_its_time(sweep: SweepConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where the folder cannot be used, and not where a running Ray is joined."""
    monkeypatch.setattr("sweeps.driver.start.begin", lambda *_: None)
    line = "checking the sweep; Ray starts meanwhile ...\n"
    assert (run().output, run("--address", "auto").output) == (line, "")
    folder = write_sweep(sweep)
    assert run("--overwrite").output == line
    assert run("--set", "seed=1").stdout == ""
    (folder / "sweep.json").unlink()
    assert run("--overwrite").stdout == ""


WAY_OUT = "choose another folder (--dir), or delete it with overwrite=True (--overwrite)\n"


def test_another_sweep_or_another_base_is_refused_with_the_way_out(sweep: SweepConfig, tmp_path: Path) -> None:
    write_sweep(sweep)
    message = f"which holds another sweep; {WAY_OUT}"
    done = run("--set", "name=other", "--dir", "sweep-results/tiny")
    assert done.exit_code == 2
    assert done.stderr.endswith(message)
    base = write_base(tmp_path)
    base.write_text(base.read_text().replace("epochs: 2", "epochs: 3"))
    assert run().stderr.endswith(message)


def test_a_finished_sweep_with_other_settings_is_refused_with_what_differs(sweep: SweepConfig) -> None:
    """What can go on is told how; fewer trials or another search cannot."""
    then = sweep.num_trials
    write_sweep(sweep)
    holds = "which holds this sweep with other settings: "
    go_on = "in sweep-results/tiny/sweep.yaml and `mergenet sweep resume sweep-results/tiny`, or " + WAY_OUT
    more = run("--set", f"num_trials={then + 3}")
    assert more.exit_code == 2
    assert more.stderr.endswith(f"{holds}num_trials ({then}, now {then + 3}); to go on with it change it {go_on}")
    two = run("--set", f"num_trials={then + 3}", "--set", "confirm_controls=[noise]").stderr
    assert two.endswith(
        f'{holds}num_trials ({then}, now {then + 3}), confirm_controls ([], now ["noise"]); '
        f"to go on with it change them {go_on}"
    )
    fewer = run("--set", f"num_trials={then - 1}").stderr
    assert fewer.endswith(f"{holds}num_trials ({then}, now {then - 1}); {WAY_OUT}")
    limit = run("--set", "budget_epochs=3").stderr
    assert limit.endswith(f"{holds}budget_epochs (null, now 3); {WAY_OUT}")
    other = run("--set", f"num_trials={then + 3}", "--set", "search.transfer.t_cycle={choice: [2, 3]}").stderr
    assert other.endswith(f"{holds}search.transfer.t_cycle, num_trials ({then}, now {then + 3}); {WAY_OUT}")


def test_a_finished_sweep_that_lost_its_summary_is_not_called_another(sweep: SweepConfig) -> None:
    write_sweep(sweep)
    Path("sweep-results/tiny/summary.json").unlink()
    done = run()
    assert done.exit_code == 2
    assert "which holds a finished sweep without a readable summary.json; `mergenet sweep resume " in done.stderr


def test_an_unfinished_sweep_is_refused_with_the_way_out(sweep: SweepConfig) -> None:
    write_sweep(sweep, "interrupted")
    done = run()
    assert done.exit_code == 2
    assert "which holds a sweep that has not finished (status: interrupted); go on with it by" in done.stderr
    assert "`mergenet sweep resume sweep-results/tiny`" in done.stderr


def test_a_sweep_whose_state_is_damaged_can_be_gone_on_with_and_is_not_deleted(sweep: SweepConfig) -> None:
    folder = write_sweep(sweep)
    (folder / "sweep.json").write_text('{"sta')
    refused = run().stderr
    assert "has not finished (status: unknown, sweep.json is damaged); go on with it by `mergenet s" in refused
    assert "--overwrite" not in refused
    assert load_resumable(folder).name == sweep.name
    assert read_status(folder)["status"] == "unknown, sweep.json is damaged"
    assert run("--overwrite").exit_code == 2
    assert (folder / "sweep.yaml").exists()


@pytest.mark.usefixtures("sweep")
def test_overwrite_deletes_nothing_but_a_sweep() -> None:
    other = Path("thesis")
    other.mkdir()
    (other / "sweep.yaml").write_text("mine")
    done = run("--dir", "thesis", "--overwrite")
    assert done.exit_code == 2
    assert "error: overwrite=True (--overwrite) must meet a sweep folder, with sweep.yaml, sweep.json" in done.stderr
    assert "got 'thesis'; choose another folder (--dir)" in done.stderr
    with pytest.raises(ConfigError, match=r"must be new or empty, got 'thesis'; choose another folder \(--dir\)$"):
        check_folder(other)
    with pytest.raises(ConfigError, match="--overwrite"):
        clear(other)
    assert (other / "sweep.yaml").read_text() == "mine"


def test_overwrite_checks_the_new_sweep_before_it_deletes_the_old(sweep: SweepConfig) -> None:
    folder = write_sweep(sweep)
    assert run("--overwrite", "--set", "set.epochs=0").exit_code == 2
    assert (folder / "summary.json").exists()


def test_overwrite_empties_the_folder_before_the_new_sweep_starts(
    sweep: SweepConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[list[str]] = []

    def instead(_plan: object, folder: Path, *_: object) -> None:
        found.append(sorted(path.name for path in folder.iterdir()))

    monkeypatch.setattr("sweeps.driver.run._train", instead)
    write_sweep(sweep)
    assert run("--overwrite").exit_code == 0
    assert found == [[".lock", "base.yaml", "sweep.json", "sweep.yaml"]], "nothing of the old one"


class Killed(BaseException):
    """Nobody catches it: what follows is not done, as after SIGKILL."""


def die_before(monkeypatch: pytest.MonkeyPatch, operation: int) -> None:
    left = [operation]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return function(*args, **kwargs)

        return call

    for name in ("replace", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


def test_a_kill_while_a_sweep_begins_leaves_a_folder_to_begin_or_resume_in(
    sweep: SweepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = space_of({"transfer.t_cycle": {"choice": [2, 4]}})
    warm = WarmStart(left_out={"earlier": {"repeated": 1}})
    plan, ends = Plan(sweep, space, SourcePlan(), "", 2, warm), []
    for operation in range(20):
        folder = tmp_path / f"killed-{operation}"
        with monkeypatch.context() as patch, suppress(Killed), locked(folder):
            die_before(patch, operation)
            begin(plan, folder, None)
            break
        ends.append(holds_sweep(folder))
        if holds_sweep(folder):
            assert (folder / "warm_start.json").exists(), "else it would be resumed without"
            continue
        check_folder(folder)
        check_deletable(folder)
        for reads in (load_resumable, read_status):
            with pytest.raises(ConfigError, match="must be a sweep folder"):
                reads(folder)
        clear(folder)
        assert not is_used(folder)
    assert ends == [False] * 5


def test_a_kill_of_overwrite_leaves_a_folder_that_overwrite_accepts_and_nothing_else(
    sweep: SweepConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = 0
    for operation in range(30):
        folder = write_sweep(sweep)
        (folder / "notes.txt").touch()
        with locked(folder), monkeypatch.context() as patch, suppress(Killed):
            die_before(patch, operation)
            clear(folder)
            break
        if operation:
            assert is_rest(folder), sorted(path.name for path in folder.iterdir())
            if only(FIRST, folder):
                check_folder(folder)  # nothing in it would be lost
            else:
                with pytest.raises(ConfigError, match=r"what a kill left of a sweep .*; delete it with overwrite=True"):
                    check_folder(folder)
            with pytest.raises(ConfigError, match=r"what a kill left of a sweep .*: `mergenet sweep run` with overwri"):
                load_resumable(folder)
            killed += 1
        clear(folder)
        assert [path.name for path in folder.iterdir()] == [".lock"]
        (folder / ".lock").unlink()
        folder.rmdir()
    assert killed > 5


def test_every_name_in_a_sweep_folder_is_known_as_our_own(tmp_path: Path) -> None:
    names = (WARM_FILE, STUDY_FILE, JOURNAL_FILE, NAME_FILE, "study.db-journal", f"{SCRATCH}x", ".sweep.1-2.tmp.json")
    for name in (*names, LOCK_FILE, REPORT_FILE, MARKDOWN_FILE):
        (tmp_path / name).touch()
    assert only(OWN, tmp_path)
    (tmp_path / "thesis.tex").touch()
    assert not is_rest(tmp_path)


def test_clear_empties_a_sweep_folder_and_follows_no_link(sweep: SweepConfig) -> None:
    folder = write_sweep(sweep)
    Path("kept").mkdir()
    Path("kept/file").write_text("")
    (folder / "link").symlink_to(Path("kept").absolute())
    clear(folder)
    assert list(folder.iterdir()) == []
    assert Path("kept/file").exists()
    clear(folder)  # empty
    clear(Path("new"))


@pytest.mark.parametrize("url", ["s3://key:secret@bucket/folder", "file:///proc/nowhere", "nope"])
def test_a_copy_that_is_refused_leaves_no_folder(sweep: SweepConfig, url: str) -> None:
    result = run("--copy-to", url)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert not Path(f"sweep-results/{sweep.name}").exists()


def test_a_lock_that_went_with_its_folder_is_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with locked(folder):
        file = (folder / ".lock").open("rb")
    assert not folder.exists()
    with file:
        assert not take_lock(file)
    with locked(folder):
        (folder / "something").touch()
    assert folder.exists()


@pytest.mark.usefixtures("sweep")
def test_paths_are_shown_as_a_user_writes_them(tmp_path: Path) -> None:
    assert shown_path(tmp_path / "a/b") == Path("a/b")
    assert shown_path(tmp_path.parent / "c") == tmp_path.parent / "c"
