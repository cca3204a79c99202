"""Runs of several kinds, and what it is for two of them to be the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from mergenet.config import Config
from mergenet.records.checkpoint import load_latest, load_tensors
from mergenet.records.run_record import read_run
from mergenet.training.run import train_run
from tests.tiny import equal, tiny_config, without_times

VARIANTS: dict[str, dict[str, Any]] = {
    # 7 steps an epoch: with t_cycle 4 a transfer is open at the end of each epoch but the fourth
    "open cycle": {"transfer.update.horizon": "cycle", "transfer.t_cycle": 4},
    "noise": {
        "transfer.control": "noise",
        "transfer.adapter": {"rank": 4, "learned_gate": True, "dropout": 0.4, "spectral_norm": True},
        "transfer.update": {"horizon": "cycle", "normalize": True},
        "transfer.t_cycle": 4,
    },
    "factorized": {
        "transfer.adapter.encoding": "factorized",
        "transfer.pairs": [{"source": "3", "target": "9", "direction": "both"}],
        "transfer.optimizer_state": "scale",
    },
    # a transfer every 9 steps is longer than an epoch: one epoch of the four has none
    "linear": {
        "target.model.name": "tiny_mlp",
        "transfer.pairs": [{"source": "1", "target": "1"}],
        "transfer.adapter": {"kind": "linear", "rank": 4},
        "transfer.t_cycle": 9,
    },
    "estimated maps": {
        "transfer.align": "outputs",
        "transfer.pairs": [{"source": "3", "target": "3", "direction": "both"}],
        "transfer.adapter": {"kind": "linear", "rank": 2},
    },
    "fp16": {"amp": "fp16", "target.optimizer.name": "adamw", "target.optimizer.lr": 0.01},
    "baseline": {"method": "none"},
    "distilled": {"method": "kd", "source.model.name": "tiny_cnn", "distillation.warmup_fraction": 0.6},
}


def config_of(name: str, epochs: int = 4) -> Config:
    return tiny_config({"epochs": epochs, **VARIANTS[name]})


WORDS = "backbone.embeddings.word_embeddings"


def texts(changes: dict[str, Any] | None = None) -> Config:
    """A DistilBERT of names of emoji -> a BERT of a part of them, which knows fewer words; their embeddings meet."""
    pytest.importorskip("tokenizers")
    pytest.importorskip("transformers")
    data = {"name": "emoji_names", "max_length": 12}
    values: dict[str, Any] = {"transfer.pairs": [{"source": WORDS, "target": WORDS}], "transfer.t_cycle": 2}
    for side, name, share in (("source", "distilbert_small", 1.0), ("target", "bert_small", 0.3)):
        values |= {
            f"{side}.task": "text_classification",
            f"{side}.model.name": name,
            f"{side}.data": data | {"train_fraction": share},
        }
    return tiny_config(values | (changes or {}))


def finish(config: Config, folder: Path) -> Path:
    list(train_run(config, folder))
    return folder


def assert_same_run(a: Path, b: Path) -> None:
    """Everything but times and provenance is bitwise the same."""
    one, other = read_run(a), read_run(b)
    assert [without_times(row) for row in one.epochs] == [without_times(row) for row in other.epochs]
    assert one.result == other.result
    assert equal(load_tensors(a / "best.safetensors"), load_tensors(b / "best.safetensors"))
    assert (a / "config.yaml").read_bytes() == (b / "config.yaml").read_bytes()
    assert equal(load_latest(a / "checkpoints"), load_latest(b / "checkpoints"))
    assert max(p.name for p in (a / "checkpoints").iterdir()) == max(p.name for p in (b / "checkpoints").iterdir())


DAMAGE = ("emptied", "cut", "removed", "altered")


def spoil(run: Path, damage: str) -> None:
    """What may happen to epochs.jsonl, of two rows at least, without a line of it being broken."""
    path = run / "epochs.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    if damage == "removed":
        path.unlink()
        return
    altered = json.dumps({**json.loads(lines[0]), "target_val_top1": 0.999}) + "\n"
    path.write_text({"emptied": "", "cut": "".join(lines[:-1]), "altered": "".join([altered, *lines[1:]])}[damage])
