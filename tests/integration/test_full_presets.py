"""The full presets from the commands of their comments to a finished run, on a few samples in the published formats.

Overridden: one epoch, batches of 2 (there are few samples), the CPU without mixed precision, and BLIP's width and image
size: a run of BLIP base takes 13 GiB and minutes on a CPU. BERT and DistilBERT are as narrow as their checkpoints say.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mergenet.config.loading import load_config
from mergenet.config.preset_names import presets
from mergenet.records.sealed import read_record
from tests.downloads import fetch, serve
from tests.samples import BLIP, write_bert, write_blip, write_distilbert, write_resnet50

FULL = [name for name in presets() if name.endswith("-full")]
TEXTS = {"bert-base-uncased": write_bert, "distilbert-base-uncased": write_distilbert}
CHECKPOINTS: dict[str, dict[str, Callable[[Path], None]]] = {
    "cross-task-full": TEXTS,
    "frozen-source-full": {"resnet50-11ad3fa6.pth": write_resnet50},
    "frozen-text-full": TEXTS,
    "retrieval-full": {"blip-itm-base-coco": write_blip},
    "vqa-full": {"blip-itm-base-coco": write_blip},
}
NARROW = """
from mergenet.models import Architecture
from mergenet.models.vision_language import Blip

blip = Architecture(Blip(**%r), "image_text", ("classes", "embedding"), reads_folders=True)
"""
COMMAND = [sys.executable, "-m", "mergenet.cli"]
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def call(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=root,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=1000,
    )


def narrow(name: str) -> list[str]:
    """Overrides of the network; its checkpoint is for 384 pixels, as the published one."""
    if load_config(name).target.model.name != "blip":
        return []
    return ["--set=target.model.name=narrow:blip", "--set=target.data.image_size=96"]


def short(name: str) -> list[str]:
    roles = ["target"] if load_config(name).source.kind == "self" else ["source", "target"]
    settings = ["epochs=1", "device=cpu", "amp=off", *(f"{role}.batch_size=2" for role in roles)]
    return [f"--set={setting}" for setting in settings]


@pytest.fixture
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder with what the preset's comment downloads. It goes afterwards: the runs take 100 MB and more."""
    server, folder = tmp_path / "server", tmp_path / "root"
    serve(request.param, server)
    for name, write in CHECKPOINTS.get(request.param, {}).items():
        pytest.importorskip("transformers")
        write(server / name)
    folder.mkdir()
    fetch(request.param, server, folder)
    (folder / "narrow.py").write_text(NARROW % BLIP)
    yield folder
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(("name", "root"), [(name, name) for name in FULL], indirect=["root"])
def test_a_full_preset_trains_to_its_end(name: str, root: Path) -> None:
    done = call(root, "layers", name, *narrow(name))
    assert done.returncode == 0, done.stderr
    transfer = load_config(name).transfer
    named = {layer for pair in transfer.written_pairs for layer in (pair.source, pair.target)}
    assert named <= set(done.stdout.split())

    done = call(root, "train", name, "--out=run", *narrow(name), *short(name))
    assert done.returncode == 0, done.stderr
    result = read_record(root / "run/result.json")
    assert (result["status"], result["best_epoch"], result["error"]) == ("finished", 1, None)
    [row] = map(json.loads, (root / "run/epochs.jsonl").read_text().splitlines())
    directions = sum(1 + (pair.direction == "both") for pair in transfer.written_pairs)
    assert row["num_transfers"] >= directions, "every pair transferred in every direction"
    assert row["adapter_loss"] == pytest.approx(row["adapter_loss"]), "and the adapters learned"


@pytest.mark.parametrize("name", FULL)
def test_without_the_files_one_line_says_where_and_how(name: str, tmp_path: Path) -> None:
    done = call(tmp_path, "train", name)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    data = load_config(name).target.data
    assert line.startswith("error: ")
    assert f"{data.root!r}" in line
    assert "curl -fL" in line
    assert not done.stdout and not any(tmp_path.iterdir())
