"""What is evaluated and exported is the network that was trained: its metrics are those that the run recorded."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mergenet.config.spec import Spec
from mergenet.errors import CheckpointError
from mergenet.export.evaluate import compare, evaluate_run
from mergenet.export.formats import FORMATS, export_run
from mergenet.models import MODELS, Architecture
from mergenet.records.checkpoint import load_tensors, save_tensors
from mergenet.records.run_record import BEST_FILE, PROVENANCE_FILE, RESULT_FILE, RunRecord, read_run
from mergenet.training.run import train_run
from tests.mergenet.runs import config_of, finish
from tests.records import edit_record
from tests.tiny import PIXELS, set_up, tiny_config


class Hidden(nn.Module):
    """Mixes its input by a random tensor that no state dict has; `draws`: at each pass instead."""

    def __init__(self, spec: Spec, draws: bool) -> None:
        super().__init__()
        self.draws, self.fc = draws, nn.Linear(PIXELS, spec.num_outputs)
        self.mix = torch.randn(PIXELS)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(images.flatten(1) * (1 + 0.3 * torch.randn(PIXELS) if self.draws else self.mix))


@pytest.fixture(autouse=True)
def networks() -> Iterator[None]:
    with set_up():
        MODELS["hidden"] = Architecture(lambda _, spec: Hidden(spec, draws=False))
        MODELS["drawing"] = Architecture(lambda _, spec: Hidden(spec, draws=True))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with set_up():
        return finish(config_of("open cycle", epochs=2), tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def folder(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "run")


WRONG = r"best\.safetensors gives target_{split}_\w+ .*, where the run recorded .*: it is not the network that was"


def change(folder: Path, file: str, **values: object) -> None:
    path = folder / file
    edit_record(path, values)


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_metrics_are_the_recorded_ones(folder: Path, split: str) -> None:
    record = read_run(folder)
    known = record.result if split == "test" else record.epochs[record.result["best_epoch"] - 1]
    assert evaluate_run(folder, split) == {k: known[f"target_{split}_{k}"] for k in ("loss", "top1", "top5")}


def test_other_weights_than_the_trained_ones_are_an_error(folder: Path) -> None:
    state, metadata = load_tensors(folder / BEST_FILE)
    state["9.weight"] += 0.1 * torch.randn(state["9.weight"].shape, generator=torch.Generator().manual_seed(0))
    save_tensors(folder / BEST_FILE, state, metadata)
    for split in ("val", "test"):
        with pytest.raises(CheckpointError, match=WRONG.format(split=split)):
            evaluate_run(folder, split)
    before = sorted(folder.iterdir())
    for format in FORMATS:
        with pytest.raises(CheckpointError, match=WRONG.format(split="test")):
            export_run(folder, format)
    assert sorted(folder.iterdir()) == before
    assert export_run(folder, "safetensors", measure=False)


def test_a_run_that_stopped_is_compared_at_its_best_epoch(tmp_path: Path) -> None:
    epochs = train_run(config_of("baseline"), tmp_path)
    next(epochs)
    epochs.close()
    assert evaluate_run(tmp_path, "val")["loss"] == read_run(tmp_path).epochs[0]["target_val_loss"]
    state, metadata = load_tensors(tmp_path / BEST_FILE)
    save_tensors(tmp_path / BEST_FILE, state | {"9.bias": state["9.bias"] + torch.randn(10)}, metadata)
    with pytest.raises(CheckpointError, match=WRONG.format(split="val")):
        export_run(tmp_path, "safetensors")


def test_other_data_are_said_and_not_compared(folder: Path) -> None:
    origin = json.loads((folder / PROVENANCE_FILE).read_text())
    change(folder, PROVENANCE_FILE, data_hashes=origin["data_hashes"] | {"target": "0"})
    change(folder, RESULT_FILE, target_test_top1=0.0)
    with pytest.warns(UserWarning, match="the data differ from those that .* was trained on"):
        evaluate_run(folder, "test")
    with pytest.warns(UserWarning, match="the data differ from those"):
        export_run(folder, "safetensors")


def test_an_export_without_the_data_says_that_it_was_not_measured(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for number, name in enumerate(("cat", "dog")):
            place = tmp_path / "images" / split / name
            place.mkdir(parents=True)
            for i in range(20):
                Image.new("RGB", (8, 8), (100 * number, 10 * i, 0)).save(place / f"{i}.png")
    data = {"name": "folder", "root": str(tmp_path / "images"), "image_size": 8}
    run = finish(tiny_config({"method": "none", "epochs": 1, "target.data": data}), tmp_path / "run")
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace(data["root"], str(tmp_path / "gone")))
    with pytest.warns(UserWarning, match="exported without being measured again, its data cannot be had: "):
        assert export_run(run, "safetensors")


def test_a_network_that_computes_with_more_than_its_state_is_an_error(tmp_path: Path) -> None:
    run = finish(tiny_config({"method": "none", "target.model.name": "hidden"}), tmp_path / "run")
    for check in (lambda: evaluate_run(run, "test"), lambda: export_run(run, "torch-export")):
        with pytest.raises(CheckpointError, match=r"make them buffers \(register_buffer\) and train again"):
            check()


def test_a_network_that_draws_in_evaluation_mode_is_evaluated_alike(tmp_path: Path) -> None:
    run = finish(tiny_config({"method": "none", "target.model.name": "drawing"}), tmp_path / "run")
    assert evaluate_run(run, "test")["loss"] == read_run(run).result["target_test_loss"]


def recorded(loss: float, top1: float) -> RunRecord:
    result = {"status": "finished", "best_epoch": 1, "target_test_loss": loss, "target_test_top1": top1}
    return RunRecord(Path("run"), {}, {}, [], result)


@pytest.mark.parametrize(
    ("loss", "top1", "same", "fits"),
    [
        (0.5, 0.5, True, True),
        (0.5 + 9e-6, 0.51, True, True),  # one example of 100
        (0.5 + 2e-5, 0.5, True, False),
        (0.5, 0.52, True, False),
        (0.501, 0.52, False, True),
        (0.503, 0.5, False, False),
        (0.5, 0.53, False, False),
        (float("nan"), 0.5, False, False),
    ],
)
def test_how_much_rounding_explains(loss: float, top1: float, same: bool, fits: bool) -> None:
    values = {"loss": loss, "top1": top1}
    if fits:
        compare(recorded(0.5, 0.5), "test", values, 100, same)
    else:
        with pytest.raises(CheckpointError, match=r"run/best\.safetensors gives target_test_"):
            compare(recorded(0.5, 0.5), "test", values, 100, same)


def test_a_loss_that_was_not_a_number_may_be_none_again() -> None:
    compare(recorded(float("nan"), 0.5), "test", {"loss": float("nan"), "top1": 0.5}, 100, True)


def test_what_may_be_written_just_now_is_not_compared() -> None:
    record = recorded(0.5, 0.5)
    record.result["status"] = "running"
    compare(record, "test", {"loss": 9.0}, 100, True)
