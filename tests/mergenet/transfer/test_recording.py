"""A recorded source: the replay is bitwise the live source, and no other recording is taken for it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from mergenet.data import load_data
from mergenet.errors import CheckpointError, ConfigError, DataError, TrainingDiverged
from mergenet.records.checkpoint import load_tensors, save_tensors
from mergenet.records.sealed import read_record
from mergenet.training.trainer import Trainer
from mergenet.transfer.recording import Recording
from mergenet.transfer.source import record_source
from tests.mergenet.runs import WORDS, texts
from tests.records import edit_record
from tests.tiny import equal, set_up, snapshot, tiny_config, tiny_mlp, without_times

pytestmark = pytest.mark.usefixtures("tiny")

SMALL = {"name": "digits", "image_size": 8, "val_fraction": 0.05}
ROOM = 9000 / 2**30  # GiB; 14 steps of layers 3 and 5 take 17472 bytes
LAYERS = {"tiny_mlp": ["1", "3", "5"], "tiny_cnn": ["0", "3", "9"]}


def record(folder: Path, changes: dict[str, Any] | None = None, every: int = 1) -> Path:
    config = tiny_config(changes)
    list(record_source(config, folder, LAYERS[config.source.model.name], every))
    return folder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One recording of every step for each kind of source network."""
    folder = tmp_path_factory.mktemp("recordings")
    with set_up():
        return {name: record(folder / name, {"source.model.name": name}) for name in LAYERS}


@pytest.fixture
def recording(recordings: dict[str, Path], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(recordings["tiny_mlp"], tmp_path / "recording"))


def replayed(changes: dict[str, Any], recording: Path, weights: Path | None = None) -> Trainer:
    if weights is not None:
        changes = {**changes, "source.model.weights": str(weights)}
    return Trainer(tiny_config({**changes, "source.kind": "recorded", "source.recording": str(recording)}))


@pytest.mark.parametrize("source", LAYERS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"transfer.adapter.rank": 2, "transfer.t_cycle": 3},
        {"transfer.adapter.kind": "full_matrix"},
        {"transfer.adapter.source_basis": "start"},
        {"transfer.adapter": {"kind": "linear", "rank": 3}, "transfer.t_cycle": 9},  # longer than an epoch
        {"transfer.t_cycle": 1, "transfer.adapter.learned_gate": True, "transfer.update.horizon": "cycle"},
        {"transfer.control": "shuffled", "transfer.update.rule": "gradient"},
        {"transfer.pairs": [{"source": "3", "target": "3"}, {"source": "3", "target": "9", "every": 4}]},
        {"target.model.name": "tiny_mlp", "target.batch_size": 16, "transfer.pairs": [{"source": "3", "target": "5"}]},
    ],
)
def test_a_replay_is_bitwise_the_live_source(recordings: dict[str, Path], source: str, changes: dict[str, Any]) -> None:
    changes = {**changes, "source.model.name": source}
    live, replay = Trainer(tiny_config(changes)), replayed(changes, recordings[source])
    rows = [[without_times(result.metrics) for result in trainer.epochs()] for trainer in (live, replay)]
    assert rows[0] == rows[1], "the source's own metrics too"
    assert "source_val_top1" in rows[1][0]
    states = [snapshot(trainer.state_dict()) for trainer in (live, replay)]
    assert equal(states[0]["learners"]["target"], states[1]["learners"]["target"])
    assert equal(states[0]["transfer"], states[1]["transfer"])
    assert replay.learners == [replay.target]
    assert live.test() == replay.test()


def test_a_sparse_recording_serves_multiples_of_its_interval(tmp_path: Path) -> None:
    sparse = record(tmp_path / "sparse", every=2)
    tensors, _ = load_tensors(sparse / "epoch-0002.safetensors")
    assert sorted(tensors) == sorted(f"{step}/{layer}" for step in (8, 10, 12) for layer in LAYERS["tiny_mlp"])
    for t_cycle in (2, 4):
        live, replay = (
            Trainer(tiny_config({"transfer.t_cycle": t_cycle})),
            replayed({"transfer.t_cycle": t_cycle}, sparse),
        )
        rows = [[without_times(r.metrics) for r in trainer.epochs()] for trainer in (live, replay)]
        assert rows[0] == rows[1]
    with pytest.raises(ConfigError) as caught:
        replayed({"transfer.t_cycle": 3}, sparse)
    assert str(caught.value) == (
        "transfer.pairs.0.every must be a multiple of the recording's interval (2 steps), got 3; "
        "record again with every=3 (--every), or set source.record_every: 2, which shows weights that are some steps "
        "old"
    )


def shown(trainer: Trainer, step: int, layer: str = "3") -> Tensor:
    assert trainer.source is not None and trainer.source.weight is not None
    return trainer.source.weight(layer, step)


def test_record_every_shows_each_weight_until_the_next_whatever_the_recordings_interval(
    recordings: dict[str, Path], tmp_path: Path
) -> None:
    changes = {"source.record_every": 4}
    whole, sparse = recordings["tiny_mlp"], record(tmp_path / "sparse", changes, every=4)
    assert sum(path.stat().st_size for path in sparse.iterdir()) < sum(p.stat().st_size for p in whole.iterdir()) / 2
    trainers = [replayed({**changes, "transfer.t_cycle": 3}, folder) for folder in (whole, sparse)]
    exact = replayed({"transfer.t_cycle": 3}, whole)
    for trainer in trainers:
        assert torch.equal(shown(trainer, 8), shown(exact, 8))
        assert torch.equal(shown(trainer, 11), shown(exact, 8))
        assert not torch.equal(shown(trainer, 11), shown(exact, 11))
    rows = [[without_times(r.metrics) for r in trainer.epochs()] for trainer in trainers]
    assert rows[0] == rows[1]
    with pytest.raises(ConfigError, match=r"source.record_every must be a multiple of the recording's interval \(4 st"):
        replayed({"source.record_every": 6}, sparse)


def test_bf16_halves_a_recording_and_is_shown_alike_from_one_in_fp32(
    recordings: dict[str, Path], tmp_path: Path
) -> None:
    changes = {"source.record_dtype": "bf16"}
    whole, half = recordings["tiny_mlp"], record(tmp_path / "half", changes)
    sizes = [(folder / "epoch-0001.safetensors").stat().st_size for folder in (whole, half)]
    assert 0.5 < sizes[1] / sizes[0] < 0.6
    trainers = [replayed(changes, folder) for folder in (whole, half)]
    assert torch.equal(shown(trainers[0], 5), shown(trainers[1], 5))
    assert shown(trainers[1], 5).dtype == torch.float32
    rows = [[without_times(r.metrics) for r in trainer.epochs()] for trainer in trainers]
    assert rows[0] == rows[1]
    with pytest.raises(ConfigError, match=r"source.record_dtype must be bf16 with the recording in"):
        replayed({}, half)
    record(half)
    replayed({}, half)  # recorded again in its place


@pytest.mark.parametrize(
    ("changes", "every", "text"),
    [
        ({}, 1, "raise it, show each weight for 2 steps (source.record_every: 2), or halve them"),
        (
            {"source.record_dtype": "bf16", "source.max_gib": 4e-6},
            1,
            "or show each weight for 3 steps (source.record_ev",
        ),
        ({}, 2, None),
        ({"source.record_dtype": "bf16"}, 1, None),
        ({"source.max_gib": 1e-8}, 1, "got 1e-08; raise it, or halve them (source.record_dtype: bf16)"),
        ({"source.max_gib": None}, 1, None),
    ],
)
def test_a_recording_that_is_too_large_is_refused_with_the_ways_out(
    tmp_path: Path, changes: dict[str, Any], every: int, text: str | None
) -> None:
    """14 steps of layers "3" and "5" of the small network."""
    config = tiny_config({"source.model.name": "tiny_mlp", "source.max_gib": ROOM, **changes})
    recording = record_source(config, tmp_path / "recording", ["3", "5"], every)
    if text is None:
        assert len(list(recording)) == config.epochs
        return
    with pytest.raises(ConfigError, match=re.escape(text)) as caught:
        next(recording)
    assert str(caught.value).startswith("source.max_gib must hold the recording, ")
    assert not (tmp_path / "recording").exists()


@pytest.mark.parametrize("kind", ["self", "frozen"])
def test_nothing_is_recorded_of_a_source_that_takes_no_steps(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"source.max_gib must be absent for kind {kind}, got 1.0"):
        tiny_config({"source.kind": kind, "source.max_gib": 1})


def test_a_replay_of_embeddings_is_bitwise_the_live_source_and_so_is_a_resumed_run(tmp_path: Path) -> None:
    """In 11 steps an epoch and a transfer every 13, of words that the two networks number differently."""
    changes: dict[str, Any] = {"epochs": 3, "transfer.t_cycle": 13, "transfer.adapter": {"kind": "linear", "rank": 4}}
    config = texts(changes)
    for _ in record_source(config, tmp_path, [WORDS], 13):
        pass
    live = Trainer(config)
    replay = Trainer(texts({**changes, "source.kind": "recorded", "source.recording": str(tmp_path)}))
    rows = [[without_times(result.metrics) for result in trainer.epochs()] for trainer in (live, replay)]
    assert rows[0] == rows[1]
    assert rows[0][-1]["num_transfers"] > 1
    states = [snapshot(trainer.state_dict()) for trainer in (live, replay)]
    assert equal(states[0]["transfer"], states[1]["transfer"])
    stopped, resumed = Trainer(config), Trainer(config)
    next(stopped.epochs())
    resumed.load_state_dict(snapshot(stopped.state_dict()))
    list(resumed.epochs())
    assert equal(snapshot(resumed.state_dict()), states[0])


def test_an_interval_longer_than_an_epoch(tmp_path: Path) -> None:
    changes = {"epochs": 4, "transfer.t_cycle": 10}
    sparse = record(tmp_path / "sparse", changes, every=10)
    names = [f"epoch-000{epoch}.safetensors" for epoch in (1, 2, 3)]
    assert sorted(p.name for p in sparse.iterdir()) == [*names, "recording.json"], "steps 0, 10, 20 of 28"
    assert all(load_tensors(sparse / name)[0] for name in names)
    rows = [
        [without_times(r.metrics) for r in t.epochs()]
        for t in (Trainer(tiny_config(changes)), replayed(changes, sparse))
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"source.seed": 1},
        {"source.optimizer.lr": 0.06},
        {"source.optimizer.weight_decay": 0.0},
        {"source.batch_size": 15},
        {"source.augment": False},
        {"source.label_smoothing": 0.1},
        {"source.data.split_seed": 1},
        {"source.data.train_fraction": 0.1},
        {"source.model.name": "tiny_cnn", "transfer.pairs": [{"source": "3", "target": "9"}]},
        {"epochs": 3},
        {"target.data.train_fraction": 0.2},  # more steps
        {"amp": "bf16"},
        {"threads": 2},
    ],
)
def test_a_recording_of_another_source_is_refused(recording: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=r"source.recording must come from the same source settings, starting weights, seed, number"
    ) as e:
        replayed(changes, recording)
    assert "\n" not in str(e.value)
    assert str(recording) in str(e.value)


def test_equally_many_steps_in_other_epochs_are_another_recipe(recording: Path) -> None:
    """The source's warm-up and what it reports are counted in epochs."""
    changes = {"epochs": 1, "target.batch_size": 8, "target.data": {**SMALL, "train_fraction": 0.079}}
    assert Trainer(tiny_config(changes)).total_steps == 14
    with pytest.raises(ConfigError, match=r"source.recording must come from the same source settings"):
        replayed(changes, recording)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"target.seed": 5},
        {"target.optimizer.lr": 0.01},
        {"target.model.name": "tiny_plain_cnn", "transfer.pairs": [{"source": "1", "target": "6"}]},
        {"transfer.update.lr": 0.1},
        {"seed": 7, "source.seed": 0, "target.seed": 1},
    ],
)
def test_what_the_source_does_not_depend_on_may_differ(recording: Path, changes: dict[str, Any]) -> None:
    live, replay = Trainer(tiny_config(changes)), replayed(changes, recording)
    rows = [without_times(next(trainer.epochs()).metrics) for trainer in (live, replay)]
    assert rows[0] == rows[1]


def starting_weights(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    save_file(tiny_mlp(10, "").state_dict(), path)
    return path


def test_starting_weights_count_by_their_content(tmp_path: Path) -> None:
    one, two = (starting_weights(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2))
    same = Path(shutil.copy(one, tmp_path / "copy.safetensors"))
    folder = record(tmp_path / "recording", {"source.model.weights": str(one)})
    live, replay = Trainer(tiny_config({"source.model.weights": str(one)})), replayed({}, folder, weights=same)
    rows = [without_times(next(trainer.epochs()).metrics) for trainer in (live, replay)]
    assert rows[0] == rows[1]
    for weights in (two, None):
        with pytest.raises(ConfigError, match="the same source settings, starting weights, seed"):
            replayed({}, folder, weights=weights)
    starting_weights(one, 3)
    with pytest.raises(ConfigError, match="the same source settings, starting weights, seed"):
        replayed({}, folder, weights=one)
    one.unlink()
    with pytest.raises(ConfigError, match=r"^source\.model\.weights must be a file .*, which is not there$"):
        replayed({}, folder, weights=one)


def paint(root: Path, seed: int) -> dict[str, Any]:
    """A data set of 20 images in two classes; the same seed paints the same images."""
    rng = np.random.default_rng(seed)
    for name in ("cat", "dog"):
        (root / "train" / name).mkdir(parents=True, exist_ok=True)
        for i in range(10):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "train" / name / f"{i}.png")
    load_data.cache_clear()
    return {"name": "folder", "root": str(root), "image_size": 8}


def test_a_recording_made_with_other_data_is_refused(tmp_path: Path) -> None:
    ours = paint(tmp_path / "images", 0)
    changes = {"source.data": ours, "target.data": ours, "epochs": 1, "transfer.adapter.rank": 2}
    folder = record(tmp_path / "recording", changes)
    paint(tmp_path / "images", 0)
    assert list(replayed(changes, folder).epochs())
    paint(tmp_path / "images", 1)
    with pytest.raises(ConfigError) as caught:
        replayed(changes, folder)
    pattern = (
        r"source\.recording must come from the same data as this run's, got '.*', made with \w{12} where this run "
    )
    assert re.fullmatch(pattern + r"has \w{12}; record again with these data", str(caught.value))
    elsewhere = {**changes, "target.data": paint(tmp_path / "others", 1)}
    (tmp_path / "images").rename(tmp_path / "moved")
    assert list(replayed(elsewhere, folder).epochs()), "which space the pair shares is known without the source's data"
    info = read_record(folder / "recording.json")
    del info["described"]  # as earlier versions wrote them
    (folder / "recording.json").write_text(json.dumps(info))
    with pytest.raises(DataError) as missing:
        replayed(elsewhere, folder)
    assert re.fullmatch(
        r"source\.data\.root must hold .*; a recorded source needs its data to find the space of a pair alone: "
        r"set transfer\.align: none, or bring them back",
        str(missing.value),
    )
    replay = replayed(elsewhere | {"transfer.align": "none"}, folder)
    assert list(replay.epochs()), "a replay does not need the source's data where the target does not"
    assert replay.source is not None
    assert replay.source.data_hash != replay.target.task.data_hash
    load_data.cache_clear()


def test_a_layer_that_was_not_recorded(recording: Path) -> None:
    with pytest.raises(ConfigError, match=r"transfer.pairs.0.source must be one of 1, 3, 5, got '4'.*in the recording"):
        replayed({"transfer.pairs": [{"source": "4", "target": "9"}]}, recording)


def test_a_rank_above_the_recorded_layers(recording: Path) -> None:
    with pytest.raises(ConfigError, match=r"rank must be from 1 to 8 for transfer.pairs.0.target"):
        replayed({"transfer.adapter.rank": 9}, recording)
    with pytest.raises(ConfigError, match=r"rank must be from 1 to 12 for transfer.pairs.0.source"):
        replayed(
            {
                "transfer.adapter.rank": 13,
                "target.model.name": "tiny_mlp",
                "transfer.pairs": [{"source": "3", "target": "1"}],
            },
            recording,
        )


@pytest.mark.parametrize("content", [None, "", "{", "[1]", "{}", '{"format": 1}', "null", '"text"', "\x00"])
def test_a_folder_that_is_no_finished_recording(recording: Path, content: str | None) -> None:
    info = recording / "recording.json"
    info.unlink()
    if content is not None:
        info.write_text(content)
    with pytest.raises(CheckpointError) as caught:
        replayed({}, recording)
    message = str(caught.value)
    assert message.startswith(f"source.recording must be a finished recording, got '{recording}'")
    assert message.endswith("write one with `mergenet record`")
    assert "\n" not in message


def test_a_recording_of_another_format(recording: Path) -> None:
    path = recording / "recording.json"
    edit_record(path, {"format": 99})
    with pytest.raises(CheckpointError, match=r"recording.json must have format 1, got 99; write one with"):
        replayed({}, recording)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": "fc"}, "layers must be names of layers, got 'fc'"),
        ({"every": 0}, "every must be a whole number from 1, got 0"),
        ({"steps_per_epoch": 7.0}, r"steps_per_epoch must be a whole number from 1, got 7\.0"),
        ({"epochs": [{"source_val_top1": "high"}]}, r"epochs\.0\.source_val_top1 must be metrics by epoch, got 'high'"),
        ({"data_hash": None}, "data_hash must be text, got None"),
        ({"code_hashes": {"mine": 3}}, r"code_hashes\.mine must be hashes by name, got 3"),
    ],
)
def test_a_recording_of_other_types(recording: Path, change: dict[str, Any], message: str) -> None:
    edit_record(recording / "recording.json", change)
    with pytest.raises(
        CheckpointError, match=rf"recording\.json: {message}; the file is damaged, write one with"
    ) as caught:
        replayed({}, recording)
    assert "\n" not in str(caught.value)


def test_a_recording_whose_numbers_were_changed_is_seen_and_made_again(recording: Path) -> None:
    path = recording / "recording.json"
    whole, values = path.read_bytes(), json.loads(path.read_bytes())
    path.write_text(json.dumps(values | {"epochs": [row | {"source_val_top1": 0.99} for row in values["epochs"]]}))
    with pytest.raises(CheckpointError, match=r"recording\.json must have the SHA-256 that its key sha256 says"):
        replayed({}, recording)
    record(recording)
    assert json.loads(path.read_bytes()).keys() == json.loads(whole).keys()
    assert without_times(read_record(path)["epochs"][-1]) == without_times(values["epochs"][-1])
    replayed({}, recording)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def replace(path: Path) -> None:
    path.write_bytes(b"PK something else")


def without_a_step(path: Path) -> None:
    tensors, _ = load_tensors(path)
    save_tensors(path, {name: x for name, x in tensors.items() if not name.startswith("10/")}, {})


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [cut, flip, replace, without_a_step, Path.unlink])
def test_a_damaged_epoch_stops_the_run_in_one_line(recording: Path, damage: Any) -> None:
    trainer = replayed({}, recording)
    damage(recording / "epoch-0002.safetensors")
    epochs = trainer.epochs()
    next(epochs)
    with pytest.raises(
        CheckpointError, match=r"^source.recording must hold 3 at step (8|10), got .*; record again$"
    ) as e:
        next(epochs)
    assert "\n" not in str(e.value)


def test_an_unfinished_recording_is_no_recording(tmp_path: Path) -> None:
    folder = tmp_path / "recording"
    writing = record_source(tiny_config(), folder, ["3"], 1)
    next(writing)
    writing.close()
    assert (folder / "epoch-0001.safetensors").exists()
    with pytest.raises(CheckpointError, match="must be a finished recording"):
        Recording.open(folder)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_recording_that_was_stopped_goes_on(tmp_path: Path, epochs: int) -> None:
    """Epochs that were whole are not trained again, and the result is bitwise the same."""
    folder = tmp_path / "recording"
    writing = record_source(tiny_config(), folder, LAYERS["tiny_mlp"], 1)
    for _ in range(epochs):
        next(writing)
    writing.close()
    (folder / "epoch-0001.safetensors").touch()
    kept = (folder / "epoch-0001.safetensors").stat().st_mtime_ns
    results = list(record_source(tiny_config(), folder, LAYERS["tiny_mlp"], 1))
    assert [result.epoch for result in results] == list(range(1, tiny_config().epochs + 1))
    assert (folder / "epoch-0001.safetensors").stat().st_mtime_ns == kept
    assert files(folder) == files(record(tmp_path / "whole"))
    assert list(record_source(tiny_config(), folder, LAYERS["tiny_mlp"], 1)) == results, "a whole one is only read"


def test_what_another_configuration_left_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "recording"
    writing = record_source(tiny_config({"source.optimizer.lr": 0.01}), folder, LAYERS["tiny_mlp"], 1)
    next(writing)
    writing.close()
    list(record_source(tiny_config(), folder, LAYERS["tiny_mlp"], 1))
    assert files(folder) == files(record(tmp_path / "whole"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_second_recording_into_the_folder_ends_the_first(recording: Path) -> None:
    """Or else a killed second recording leaves a mixture that looks whole."""
    writing = record_source(tiny_config({"source.optimizer.lr": 0.01}), recording, ["3"], 1)
    next(writing)
    writing.close()
    with pytest.raises(CheckpointError, match="must be a finished recording"):
        Recording.open(recording)


@pytest.mark.parametrize(
    ("changes", "layers", "every", "message"),
    [
        ({"source.kind": "frozen"}, ["3"], 1, "a recording needs source.kind live"),
        ({}, [], 1, "at least one layer"),
        ({}, ["3"], 0, "an interval of at least 1 step"),
        ({}, ["2"], 1, "which is a ReLU"),
        ({}, ["layer"], 1, "must be one of 1, 3, 5, got 'layer'"),
        ({"source.model.name": "tini_mlp"}, ["3"], 1, "did you mean tiny_mlp"),
    ],
)
def test_what_cannot_be_recorded_writes_nothing(
    tmp_path: Path, changes: dict[str, Any], layers: list[str], every: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        list(record_source(tiny_config(changes), tmp_path / "recording", layers, every))
    assert not (tmp_path / "recording").exists()


def test_a_place_that_cannot_be_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not be made: Not a directory; choose another") as caught:
        record(tmp_path / "file" / "recording")
    assert "\n" not in str(caught.value)


def test_a_source_that_diverges_is_not_recorded(tmp_path: Path) -> None:
    config = tiny_config({"source.optimizer.lr": 1e30})
    with pytest.raises(TrainingDiverged, match="source loss became"):
        list(record_source(config, tmp_path / "recording", ["3"], 1))
    assert not (tmp_path / "recording" / "recording.json").exists()


def test_a_recording_is_itself_reproducible(recordings: dict[str, Path], tmp_path: Path) -> None:
    again = record(tmp_path / "again")
    first = recordings["tiny_mlp"]
    assert sorted(p.name for p in again.iterdir()) == sorted(p.name for p in first.iterdir())
    for path in again.iterdir():
        assert path.read_bytes() == (first / path.name).read_bytes(), path.name


def test_a_recording_says_what_its_source_learns_from_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="mergenet")
    config = tiny_config()
    assert config.source.data.train_fraction == 0.085
    list(record_source(config, tmp_path / "a", ["3"], 2))
    line = "source: digits, 10 classes: train 123 images, val 76, test 270"
    assert caplog.messages == [line]
    list(record_source(config, tmp_path / "a", ["3"], 2))  # is complete: nothing trains
    assert caplog.messages == [line]
    stopped = record_source(config, tmp_path / "b", ["3"], 2)
    next(stopped)
    stopped.close()
    list(record_source(config, tmp_path / "b", ["3"], 2))
    assert caplog.messages == [line] * 3
