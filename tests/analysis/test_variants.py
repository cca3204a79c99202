"""Variants: what makes two runs repeats of one recipe, and what does not."""

import pytest

from analysis import variant
from analysis.comparison.variants import variant_hash
from mergenet.config import Config
from mergenet.config.loading import load_config

VARIED = ("method", "transfer.t_cycle", "target.optimizer.lr", "source.optimizer.lr")


def config(*changes: str) -> Config:
    return load_config("openmoji", changes)


@pytest.mark.parametrize(
    "changes",
    [
        ["seed=4", "target.seed=5", "target.data.split_seed=6", "source.seed=7"],
        ["name=other", "threads=2", "device=cpu"],
        ["source.kind=recorded", "source.recording=/somewhere/source"],
        ["transfer.adapter.gate=0.1", "distillation.weight=3"],
    ],
    ids=["seeds", "names", "a recording", "what the method does not read"],
)
def test_one_variant(changes: list[str]) -> None:
    assert variant(config(*changes), VARIED) == variant(config(), VARIED)


@pytest.mark.parametrize(
    "change", ["transfer.t_cycle=3", "method=none", "target.optimizer.lr=0.02", "transfer.control=noise", "epochs=3"]
)
def test_another_variant(change: str) -> None:
    assert variant_hash(config(change)) != variant_hash(config())


def test_the_name_shows_what_varies_and_the_method_reads() -> None:
    name, _, digits = variant(config("target.optimizer.lr=0.02"), VARIED).partition(" #")
    assert name == f"mergenet t_cycle=8 target.optimizer.lr=0.02 source.optimizer.lr={config().source.optimizer.lr:g}"
    assert len(digits) == 8
    assert variant(config("method=none"), VARIED).startswith("none lr=")
    assert " control=shuffled #" in variant(config("transfer.control=shuffled"))


def test_no_transfer_is_one_variant_whatever_the_transfer_would_be() -> None:
    assert variant_hash(config("method=none", "transfer.t_cycle=3")) == variant_hash(config("method=none"))


def test_an_adapter_to_start_with_is_known_by_its_run() -> None:
    first, moved, other = (
        config(f"transfer.adapter.init={place}") for place in ("/a/trials/adapter-3", "/b/adapter-3", "/b/adapter-4")
    )
    assert variant(first) == variant(moved)
    assert variant(first).startswith("mergenet init=adapter-3 #")
    assert variant_hash(other) != variant_hash(first)
