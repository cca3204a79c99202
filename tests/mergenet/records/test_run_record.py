"""Run folders: what is written is read back, damage is named, and provenance says enough but not too much."""

import getpass
import json
import os
import platform
import re
import shutil
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenet.config import Config
from mergenet.config.loading import dump_yaml
from mergenet.errors import CheckpointError
from mergenet.records import run_record as record
from mergenet.records.atomic import write_bytes
from mergenet.records.provenance import git_state
from mergenet.records.sealed import read_record
from tests.records import edit_record

CONFIG = Config(method="none", device="cpu")
ROWS = [{"epoch": 1, "step": 10, "target_val_top1": 0.1}, {"epoch": 2, "step": 20, "target_val_top1": 0.25}]
RESULT = {"status": "finished", "error": None, "epochs_done": 2, "best_epoch": 2, "metric": "target_val_top1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    record.write_text(tmp_path / record.CONFIG_FILE, dump_yaml(CONFIG))
    record.write_record(tmp_path / record.PROVENANCE_FILE, record.provenance(CONFIG, {"target": "ab"}))
    record.write_epochs(tmp_path, ROWS)
    record.write_record(tmp_path / record.RESULT_FILE, RESULT)
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_run_folder_comes_back(folder: Path) -> None:
    run = record.read_run(folder)
    assert run.folder == folder
    assert Config.model_validate(run.config) == CONFIG
    assert run.provenance["data_hashes"] == {"target": "ab"}
    assert run.epochs == ROWS
    assert run.result == RESULT
    assert len(names(folder)) == 4, "no temporary files are left"


def test_a_run_that_has_not_reported_is_running(folder: Path) -> None:
    (folder / record.EPOCHS_FILE).unlink()
    (folder / record.RESULT_FILE).unlink()
    run = record.read_run(folder)
    assert run.epochs == []
    assert (run.result["status"], run.result["epochs_done"], run.result["best_epoch"]) == ("running", 0, None)


def test_a_result_from_before_the_metric_was_named_is_of_image_classification(folder: Path) -> None:
    record.write_record(folder / record.RESULT_FILE, {k: v for k, v in RESULT.items() if k != "metric"})
    assert record.read_result(folder) == RESULT


@pytest.mark.parametrize(
    ("column", "metric", "what", "tested"),
    [
        ("target_val_i2t_r1", True, "i2t_r1", "target_test_i2t_r1"),
        ("source_val_f1_best", True, "f1_best", "source_test_f1_best"),
        ("target_val_loss", False, "loss", "target_test_loss"),
        ("target_train_loss", False, "target_train_loss", "target_train_loss"),
        ("target_lr", False, "target_lr", "target_lr"),
    ],
)
def test_columns_say_what_they_measure(column: str, metric: bool, what: str, tested: str) -> None:
    assert (record.is_metric(column), record.measured(column), record.test_column(column)) == (metric, what, tested)
    assert record.is_loss(column) == column.endswith("loss")


@pytest.mark.parametrize("name", [record.CONFIG_FILE, record.PROVENANCE_FILE])
def test_another_folder_is_no_run(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=rf"must be a run folder, but has no {name}; `mergenet train`"):
        record.read_run(folder)


@pytest.mark.parametrize("name", [record.CONFIG_FILE, record.PROVENANCE_FILE, record.RESULT_FILE])
@pytest.mark.parametrize("content", [b"", b"[1, 2]", b'{"a": ', b"\x80\x04\x95", b"a: !!python/object:x.Y {}"])
def test_a_damaged_file_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name} must hold one mapping, got b") as caught:
        record.read_run(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "status must be running, finished, stopped or failed, got nothing"),
        ({"status": ["x"]}, r"status must be running, finished, stopped or failed, got \['x'\]"),
        ({"status": "stopped", "error": 3}, "error must be text or null, got 3"),
        ({"status": "stopped", "error": None}, "epochs_done must be a whole number, got nothing"),
        (RESULT | {"epochs_done": True}, "epochs_done must be a whole number, got True"),
        (RESULT | {"best_epoch": "2"}, "best_epoch must be a whole number or null, got '2'"),
        (RESULT | {"metric": "top1"}, r"metric must be a column target_val_\.\.\., got 'top1'"),
    ],
)
def test_a_result_that_lacks_a_key_is_damaged(folder: Path, change: dict[str, Any], message: str) -> None:
    record.write_record(folder / record.RESULT_FILE, change)
    for read in (record.read_run, record.read_result):
        with pytest.raises(
            CheckpointError, match=rf"result\.json: {message}; the file is damaged, remove it"
        ) as caught:
            read(folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config_hash": 3}, "config_hash must be text or null, got 3"),
        ({"data_hashes": ["a"]}, r"data_hashes must be hashes by name, got \['a'\]"),
        ({"code_hashes": {"mine": None}}, r"code_hashes\.mine must be hashes by name, got None"),
        ({"versions": {"torch": 2}}, r"versions\.torch must be versions by package, got 2"),
        ({"git_dirty": "yes"}, "git_dirty must be true, false or null, got 'yes'"),
        ({"threads": "two"}, "threads must be a whole number or null, got 'two'"),
        ({"pairs": {}}, r"pairs must be layer pairs, got \{\}"),
        ({"seeds": {"run": 0.5}}, r"seeds\.run must be whole numbers by network, got 0\.5"),
        ({"resumed": [{"epochs_done": 0}]}, r"resumed\.0\.epochs_done must be resumptions, each a mapping, got 0"),
    ],
)
def test_a_provenance_of_other_types_is_damaged(folder: Path, change: dict[str, Any], message: str) -> None:
    edit_record(folder / record.PROVENANCE_FILE, change)
    for read in (record.read_run, record.read_provenance):
        with pytest.raises(
            CheckpointError, match=rf"provenance\.json: {message}; the file is damaged, restore"
        ) as caught:
            read(folder)
        assert "\n" not in str(caught.value)


def test_what_an_earlier_version_did_not_write_may_lack(folder: Path) -> None:
    (folder / record.PROVENANCE_FILE).write_text("{}")
    assert record.read_run(folder).provenance == {}


def test_a_diverged_loss_comes_back(tmp_path: Path) -> None:
    record.append_epoch(tmp_path, {"epoch": 1, "loss": float("inf"), "dependence": float("nan")})
    [row] = record.read_epochs(tmp_path)
    assert row["loss"] == float("inf")
    assert row["dependence"] != row["dependence"]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_row_torn_anywhere_is_dropped_and_the_next_is_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    for row in ROWS:
        record.append_epoch(folder, row)
    path = folder / record.EPOCHS_FILE
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 2))])  # tears off more than the newline
    kept = ROWS[:1] if path.stat().st_size >= first - 1 else []
    assert record.read_epochs(folder) == kept
    record.append_epoch(folder, ROWS[1])
    assert record.read_epochs(folder) == [*kept, ROWS[1]]


def test_a_damaged_row_in_the_middle_is_an_error(folder: Path) -> None:
    (folder / record.EPOCHS_FILE).write_text('{"epoch": 1}\n[2]\n{"epoch": 3}\n')
    with pytest.raises(CheckpointError, match=r"epochs\.jsonl line 2 must be a JSON object, got b'\[2\]'"):
        record.read_run(folder)


@pytest.mark.parametrize("rows", [ROWS[:1], [], [*ROWS, ROWS[1]]])
def test_a_finished_run_has_as_many_epochs_as_its_result_says_in_older_records_too(
    folder: Path, rows: list[dict[str, Any]]
) -> None:
    record.write_epochs(folder, rows)
    message = rf"epochs\.jsonl must hold 2 epochs by result\.json, got {len(rows)}; it is damaged"
    with pytest.raises(CheckpointError, match=message):
        record.read_epochs(folder)


def test_a_killed_run_may_have_one_row_more_and_older_ones_one_less(folder: Path) -> None:
    counted = {"epochs_done": 1, "epochs_sha256": record.epochs_hash(ROWS[:1])}
    record.write_record(folder / record.RESULT_FILE, RESULT | counted | {"status": "running"})
    assert record.read_epochs(folder) == ROWS
    record.write_epochs(folder, [{**ROWS[0], "seconds_target": 3.5}])
    assert record.read_epochs(folder)[0]["step"] == 10, "times do not count"
    record.write_record(folder / record.RESULT_FILE, RESULT | {"status": "stopped"})
    assert len(record.read_epochs(folder)) == 1


def test_a_row_nested_without_end_is_an_error(folder: Path) -> None:
    (folder / record.EPOCHS_FILE).write_text("[" * 100_000 + "\n" + '{"epoch": 2}\n')
    with pytest.raises(CheckpointError, match=r"epochs\.jsonl line 1 must be a JSON object"):
        record.read_run(folder)


def test_a_row_without_an_epoch_is_an_error(folder: Path) -> None:
    (folder / record.EPOCHS_FILE).write_text('{"epoch": 1}\n{"epoch": "2"}\n')
    with pytest.raises(CheckpointError, match=r"epochs\.jsonl line 2 must hold an epoch, got b'\{.*'; it is damaged"):
        record.read_run(folder)


def test_an_unwritable_place_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no/result\.json could not be written: No such file or directory"):
        record.write_record(tmp_path / "no" / "result.json", {})
    (tmp_path / "result.json").mkdir()
    with pytest.raises(CheckpointError, match=r"result\.json could not be written: Is a directory"):
        write_bytes(tmp_path / "result.json", b"x")
    assert names(tmp_path) == {"result.json"}, "the temporary file is gone"
    with pytest.raises(CheckpointError, match=r"epochs\.jsonl could not be written"):
        record.append_epoch(tmp_path / "no", {})
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file/a\.json could not be written: Not a directory"):
        record.write_record(tmp_path / "file" / "a.json", {})


def test_a_value_that_is_not_json_leaves_the_old_file(tmp_path: Path) -> None:
    record.write_record(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        record.write_record(tmp_path / "a.json", {"a": {1, 2}})
    assert read_record(tmp_path / "a.json") == {"a": 1}


CHANGES: list[dict[str, Any]] = [
    {"seed": 1},
    {"epochs": 11},
    {"threads": 1},
    {"target": {"optimizer": {"lr": 0.2}}},
    {"source": {"seed": 3}},
    {"transfer": {"adapter": {"gate": 0.2}}},
    {"target": {"data": {"split_seed": 4}}},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_the_hash_tells_configurations_apart(change: dict[str, Any]) -> None:
    other = Config.model_validate({"method": "none", "device": "cpu"} | change)
    assert record.config_hash(other) != record.config_hash(CONFIG)


def test_the_hash_is_twelve_hex_digits_whatever_the_name() -> None:
    assert re.fullmatch("[0-9a-f]{12}", record.config_hash(CONFIG))
    assert record.config_hash(CONFIG.model_copy(update={"name": "other"})) == record.config_hash(CONFIG)


def test_the_hash_tells_what_was_recorded_apart_not_where_it_lies() -> None:
    configs = [
        Config.model_validate({"transfer": {"pairs": "auto"}, "source": source | {"kind": "recorded"}})
        for source in ({"recording": "here"}, {"recording": "there"}, {"recording": "here", "seed": 4})
    ]
    here, there, other = map(record.config_hash, configs)
    assert here == there != other


def test_the_hash_survives_a_round_trip_through_yaml(folder: Path) -> None:
    again = Config.model_validate(record.read_run(folder).config)
    assert record.config_hash(again) == record.read_run(folder).provenance["config_hash"]


def test_provenance_says_where_a_result_came_from() -> None:
    config = Config.model_validate({"method": "none", "device": "cpu", "seed": 5, "source": {"seed": 7}})
    facts = record.provenance(config, {"target": "ab"})
    assert facts["seeds"] == {"run": 5, "source": 7, "source_split": 0, "target": 5, "target_split": 0}
    assert facts["versions"]["python"] == platform.python_version()
    assert facts["versions"]["torch"].startswith("2.")
    assert facts["cpu"]
    assert (facts["device"], facts["gpu"], facts["threads"]) == ("cpu", None, config.threads)
    age = datetime.now(UTC) - datetime.fromisoformat(facts["started"])
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert json.loads(json.dumps(facts)) == facts


def test_provenance_of_a_resumed_run_is_the_first_with_the_others_behind_it() -> None:
    first, now = (record.provenance(CONFIG, {"target": "ab"}) for _ in range(2))
    now = now | {"cpu": "Z80", "started": "later"}
    once = record.resumed(first, now, 3)
    twice = record.resumed(once, first, 5)
    assert first.items() <= twice.items()
    assert [(e["epochs_done"], e["cpu"], e["started"]) for e in twice["resumed"]] == [
        (3, "Z80", "later"), (5, first["cpu"], first["started"]),
    ]  # fmt: skip
    assert twice["resumed"][0].keys() >= {"versions", "device", "gpu", "git_commit", "data_hashes"}
    assert "resumed" not in first


def test_the_bits_depend_on_torch_and_device() -> None:
    first = record.provenance(CONFIG, {})
    assert record.differences(first, first | {"started": "later", "threads": 7}) == []
    other = {"versions": {"torch": "1.0"}, "device": "cuda", "cpu": "Z80", "gpu": "H100"}
    assert record.differences(first, first | other) == [
        f"torch 1.0 (was {first['versions']['torch']})", f"CPU Z80 (was {first['cpu']})",
        "device cuda (was cpu)", "GPU H100 (was None)",
    ]  # fmt: skip
    assert len(record.differences({}, first)) == 3, "a file of an unknown shape is no error"


def test_provenance_names_no_person_no_host_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret-0123456789")
    text = json.dumps(record.provenance(CONFIG, {}))
    assert "secret-0123456789" not in text
    assert str(Path.home()) not in text
    for name in (socket.gethostname(), getpass.getuser()):
        assert not re.search(rf"\b{re.escape(name)}\b", text)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    git(tmp_path, "init", "-q")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "mergenet"\n')
    (tmp_path / "mergenet").mkdir()
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_the_commit_of_a_checkout(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a git hook
    commit = git(checkout, "rev-parse", "HEAD")
    assert git_state(checkout / "mergenet") == (commit, False)
    (checkout / "untracked").write_text("")
    assert git_state(checkout / "mergenet") == (commit, False)
    (checkout / "pyproject.toml").write_text('[project]\nname = "mergenet"\nversion = "1"\n')
    assert git_state(checkout / "mergenet") == (commit, True)


@pytest.mark.parametrize("content", [None, "", "[project", '[project]\nname = "other"\n'])
def test_the_commit_of_another_project_is_not_ours(checkout: Path, content: str | None) -> None:
    """As when the package is installed into a virtual environment inside someone's checkout."""
    path = checkout / "pyproject.toml"
    path.unlink() if content is None else path.write_text(content)
    assert git_state(checkout / "mergenet") == (None, None)


def test_no_checkout_no_commit(tmp_path: Path) -> None:
    assert git_state(tmp_path) == (None, None)
