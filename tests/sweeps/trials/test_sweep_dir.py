"""A second `mergenet sweep run`: a finished sweep is shown again, anything else in the folder is safe."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mergenet.errors import ConfigError
from mergenet.records.provenance import config_hash
from sweeps.cli.commands import sweep as command
from sweeps.config import SweepConfig
from sweeps.config.base import load_base
from sweeps.config.loading import dump_sweep, load_sweep
from sweeps.report.status import read_status
from sweeps.trials.sweep_dir import check_folder, clear, load_resumable, locked, shown_path, take_lock
from tests.sweeps.base import sweep_config, write_base

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
    (folder / "sweep.json").write_text(json.dumps({"status": status, "base_hash": config_hash(load_base(sweep))}))
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
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
    assert "which holds another sweep" in run("--set", "confirm_controls=[noise]").output
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
    state = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps(state | {"num_trials": {"asked": sweep.num_trials, "held": 2}}))
    assert run().exit_code == 0
    assert "which holds another sweep" in run("--set", "num_trials=3").output


def test_another_sweep_or_another_base_is_refused_with_the_way_out(sweep: SweepConfig, tmp_path: Path) -> None:
    write_sweep(sweep)
    message = (
        "which holds another sweep; choose another folder (--dir), or delete it with overwrite=True (--overwrite)\n"
    )
    done = run("--set", "num_trials=3")
    assert done.exit_code == 2
    assert done.stderr.endswith(message)
    base = write_base(tmp_path)
    base.write_text(base.read_text().replace("epochs: 2", "epochs: 3"))
    assert run().stderr.endswith(message)


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

    monkeypatch.setattr("sweeps.driver.run._guarded", instead)
    write_sweep(sweep)
    assert run("--overwrite").exit_code == 0
    assert found == [[".lock", "base.yaml", "sweep.json", "sweep.yaml"]], "nothing of the old one"


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
    assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
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
