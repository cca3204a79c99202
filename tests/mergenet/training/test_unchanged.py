"""A run whose code or data were edited since is neither shown nor gone on with."""

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mergenet.cli.main import cli
from mergenet.config import Config, user_code
from mergenet.data import load_data
from mergenet.errors import CheckpointError
from mergenet.export.evaluate import evaluate_run
from mergenet.records.inputs import code_hashes
from mergenet.records.mixed import mixed_inputs
from mergenet.records.run_record import read_run
from mergenet.records.sealed import read_record, write_record
from mergenet.training.run import train_run
from mergenet.training.trainer import Trainer
from mergenet.transfer.source import record_source

MODULE = """
import importlib
import torch
from torch import nn
from mergenet import Architecture, Split, image_data
from editedhelp import SEED

importlib.import_module("edited" + "wide")

def build(config, spec):
    importlib.import_module("edited" + "late")
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU(), nn.Linear(4, spec.num_outputs))

net = Architecture(build)

def load(config):
    generator = torch.Generator().manual_seed(int(open("seed.txt").read()))
    def split(count):
        images = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
        return Split(images, torch.randint(0, 2, (count,), generator=generator))
    return image_data(split(32), split(16), split(16), ("a", "b"))
"""
NETWORK = {"data": {"name": "edited:load", "image_size": 8}, "batch_size": 16, "augment": False}
FORGET = ("edited", "editedhelp", "editedwide", "editedlate")


def config_of(**changes: Any) -> Config:
    values = {"epochs": 2, "threads": 1, "device": "cpu", "method": "none", "name": "edited"}
    return Config.model_validate(values | {"target": {**NETWORK, "model": {"name": "edited:net"}}} | changes)


def forget() -> None:
    """As a new process does."""
    for name in FORGET:
        sys.modules.pop(name, None)
    user_code._came_with.clear()
    load_data.cache_clear()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "edited.py").write_text(MODULE)
    (tmp_path / "editedhelp.py").write_text("SEED = 0\n")
    (tmp_path / "editedwide.py").write_text("")
    (tmp_path / "editedlate.py").write_text("")
    (tmp_path / "seed.txt").write_text("0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    forget()
    yield tmp_path
    forget()


def begun(folder: Path, epochs: int) -> None:
    """A run of two epochs that is stopped after so many."""
    running = train_run(config_of(), folder)
    for _ in range(epochs):
        next(running)
    list(running) if epochs == 2 else running.close()
    forget()


EDITS = {
    "the module": ("edited.py", MODULE + "\n# other\n", r"code of edited \w{12} \(was \w{12}\)"),
    "what it imports": ("editedhelp.py", "SEED = 1\n", r"code of editedhelp \w{12} \(was \w{12}\)"),
    "by a computed name": ("editedwide.py", "WIDTH = 1\n", r"code of editedwide \w{12} \(was \w{12}\)"),
    "when the network is made": ("editedlate.py", "KIND = 1\n", r"code of editedlate \w{12} \(was \w{12}\)"),
    "the data": ("seed.txt", "1", r"target's data \w{12} \(was \w{12}\)"),
}


@pytest.mark.parametrize("epochs", [1, 2], ids=["unfinished", "finished"])
@pytest.mark.parametrize(("name", "text", "said"), EDITS.values(), ids=EDITS)
def test_a_run_of_other_code_or_data_is_refused_until_they_are_back(
    project: Path, name: str, text: str, said: str, epochs: int
) -> None:
    folder = project / "run"
    begun(folder, epochs)
    before = (project / name).read_text()
    (project / name).write_text(text)
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(
        CheckpointError, match=rf"other code or data \(provenance\.json\): {said}; go back .* .--overwrite"
    ):
        list(train_run(config_of(), folder))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == kept
    forget()
    (project / name).write_text(before)
    assert len(list(train_run(config_of(), folder))) == 2


def test_overwrite_trains_anew(project: Path) -> None:
    folder = project / "run"
    begun(folder, 2)
    (folder / "target.onnx").write_bytes(b"of the old network")
    (project / "seed.txt").write_text("1")
    was = read_run(folder)
    assert [result.epoch for result in train_run(config_of(), folder, overwrite=True)] == [1, 2]
    now = read_run(folder)
    assert now.provenance["data_hashes"] != was.provenance["data_hashes"]
    assert not (folder / "target.onnx").exists()
    assert "resumed" not in now.provenance


def test_overwrite_deletes_no_other_folder(project: Path) -> None:
    folder = project / "run"
    begun(folder, 2)
    (folder / "mine").mkdir()
    with pytest.raises(CheckpointError, match=r"\(--overwrite\) must meet a run folder, got the folder mine"):
        list(train_run(config_of(), folder, overwrite=True))
    assert read_run(folder).epochs


def test_a_record_without_hashes_is_accepted(project: Path) -> None:
    folder = project / "run"
    begun(folder, 2)
    origin = read_record(folder / "provenance.json")
    for key in ("code_hashes", "code_git_commit", "code_git_dirty"):
        del origin[key]
    write_record(folder / "provenance.json", origin)
    (project / "edited.py").write_text(MODULE + "\n# other\n")
    assert len(list(train_run(config_of(), folder))) == 2


def test_data_that_are_gone_leave_the_record_readable(project: Path) -> None:
    folder = project / "run"
    begun(folder, 2)
    (project / "seed.txt").unlink()
    with pytest.warns(UserWarning, match="whether the data of .* have changed since is unknown: data.name"):
        assert len(list(train_run(config_of(), folder))) == 2


def test_the_command_says_it_in_one_line(project: Path) -> None:
    (project / "edited.yaml").write_text(json.dumps(config_of().model_dump(mode="json")))
    command = ["train", "edited.yaml", "--out", "run"]
    assert CliRunner().invoke(cli, command).exit_code == 0
    forget()
    (project / "edited.py").write_text(MODULE + "\n# other\n")
    refused = CliRunner().invoke(cli, command)
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
    assert refused.output.startswith("error: run was begun with other code or data (provenance.json): code of edited ")
    forget()
    with pytest.warns(UserWarning, match="run was trained with other code: code of edited"):
        evaluate_run(Path("run"), "test")
    again = CliRunner().invoke(cli, [*command, "--overwrite"])
    assert (again.exit_code, "epoch 2/2" in again.output) == (0, True)


def test_the_commit_of_the_users_checkout_is_recorded(project: Path) -> None:
    def git(*arguments: str) -> str:
        options = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        done = subprocess.run(["git", *options, *arguments], cwd=project, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    git("add", *(f"{name}.py" for name in FORGET))
    git("commit", "-qm", "one")
    begun(project / "a", 2)
    found = read_run(project / "a").provenance
    assert (found["code_git_commit"], found["code_git_dirty"]) == (git("rev-parse", "HEAD"), False)
    (project / "editedhelp.py").write_text("SEED = 1\n")
    begun(project / "b", 2)
    assert read_run(project / "b").provenance["code_git_dirty"] is True


def test_runs_of_other_code_or_data_beside_each_other_are_told(project: Path) -> None:
    begun(project / "a", 2)
    shutil.copytree(project / "a", project / "b")
    assert mixed_inputs([project / "a", project / "b"]) == []
    (project / "editedhelp.py").write_text("SEED = 1\n")
    (project / "seed.txt").write_text("1")
    begun(project / "c", 2)
    code, data = mixed_inputs([project / name for name in "abc"])
    assert code.startswith("the code of editedhelp changed between runs, so they cannot be compared: ")
    assert code.split(": ", 1)[1].count(" in ") == 2
    assert " in a b, " in code
    assert code.endswith(" in c")
    assert data.startswith("target's data changed between runs")
    other = config_of(target={**NETWORK, "model": {"name": "edited:net"}, "data": NETWORK["data"] | {"split_seed": 1}})
    list(train_run(other, project / "d"))
    assert len(mixed_inputs([project / "c", project / "d"])) == 0, "data that were asked for otherwise may differ"


def test_a_recording_of_other_code_is_told(project: Path) -> None:
    source = NETWORK | {"model": {"name": "edited:net"}, "kind": "live"}
    transfer = {"pairs": [{"source": "1", "target": "1"}], "t_cycle": 2, "adapter": {"rank": 2}}
    live = config_of(method="mergenet", source=source, transfer=transfer)
    list(record_source(live, project / "recording", ["1"], 2))
    replayed = config_of(
        method="mergenet", source=source | {"kind": "recorded", "recording": "recording"}, transfer=transfer
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Trainer(replayed)
    assert not [str(one.message) for one in caught if "other code" in str(one.message)]
    (project / "editedhelp.py").write_text("SEED = 1\n")
    forget()
    with pytest.warns(UserWarning, match=r"^recording was trained with other code: code of editedhelp \w{12} \(was "):
        Trainer(replayed)


def test_a_recording_goes_on_though_this_process_knows_fewer_modules(project: Path) -> None:
    """What was imported by a computed name before, for another network, does not count as the source's here."""
    source = NETWORK | {"model": {"name": "edited:net"}, "kind": "live"}
    transfer = {"pairs": [{"source": "1", "target": "1"}], "t_cycle": 2, "adapter": {"rank": 2}}
    config = config_of(method="mergenet", source=source, transfer=transfer)
    folder = project / "recording"
    recording = record_source(config, folder, ["1"], 2)
    next(recording)
    recording.close()
    assert "editedlate" in code_hashes(config)
    user_code._came_with.clear()
    assert "editedlate" not in code_hashes(config)
    assert len(list(record_source(config, folder, ["1"], 2))) == 2
    info = json.loads((folder / "recording.json").read_text())
    list(record_source(config, folder, ["1"], 2))
    assert json.loads((folder / "recording.json").read_text()) == info  # only read
