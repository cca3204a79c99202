"""Runs of two networks of one architecture that were begun when all their layers were taken to share their inputs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mergenet.config import Config
from mergenet.errors import CheckpointError
from mergenet.layers import spaces
from mergenet.records.run_record import read_run
from mergenet.training.run import train_run
from mergenet.transfer.pairs import resolve_pairs
from mergenet.transfer.source import record_source
from tests.mergenet.runs import assert_same_run
from tests.tiny import tiny_config

pytestmark = [pytest.mark.usefixtures("tiny"), pytest.mark.filterwarnings("ignore:the adapter pair")]


@contextmanager
def as_then() -> Iterator[None]:
    """Both networks are given the same weights when their layers are looked at."""
    with pytest.MonkeyPatch.context() as patch:
        look = spaces.sight
        patch.setattr(spaces, "sight", lambda key, spec, _: look(key, spec, "target"))
        yield


def config(pairs: Any, **more: Any) -> Config:
    alike = {"source.model.name": "tiny_plain_cnn", "target.model.name": "tiny_plain_cnn", "epochs": 3}
    return tiny_config(alike | {"transfer.pairs": pairs, "transfer.adapter.rank": 2} | more)


def begin(config: Config, folder: Path) -> None:
    run = train_run(config, folder)
    next(run)
    run.close()


WRITTEN = [{"source": "2", "target": "2"}, {"source": "6", "target": "6", "every": 4}]


@pytest.mark.parametrize("pairs", [WRITTEN, "auto", [{"source": "[26]", "target": "[26]"}]])
@pytest.mark.parametrize("recorded", [False, True])
def test_such_a_run_goes_on_as_it_was_begun(tmp_path: Path, pairs: Any, recorded: bool) -> None:
    run = config(pairs)
    if recorded:
        for _ in record_source(run, tmp_path / "source", ["2", "6"], every=2):
            pass
        run = config(pairs, **{"source.kind": "recorded", "source.recording": str(tmp_path / "source")})
    with as_then():
        list(train_run(run, tmp_path / "whole"))
        begin(run, tmp_path / "stopped")
    list(train_run(run, tmp_path / "stopped"))
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")
    begun = read_run(tmp_path / "stopped").provenance["pairs"]
    assert {pair["align"] for pair in begun} == {"inputs"}
    assert [pair.model_dump(mode="json") for pair in resolve_pairs(run).transfer.written_pairs] != begun


@pytest.mark.parametrize(("align", "layer"), [("inputs", "2"), ("outputs", "6")])
def test_one_whose_alignment_is_its_own_choice_is_refused(tmp_path: Path, align: str, layer: str) -> None:
    run = config([{"source": layer, "target": layer, "align": align}])
    with as_then():
        begin(run, tmp_path)
    with pytest.raises(CheckpointError, match=r"^the checkpoint must be of layers that meet as these do, got one of "):
        list(train_run(run, tmp_path))


@pytest.mark.parametrize("align", ["auto", "inputs", "outputs"])
def test_a_run_of_today_goes_on(tmp_path: Path, align: str) -> None:
    run = config([{"source": "2", "target": "2"}], **{"transfer.align": align})
    list(train_run(run, tmp_path / "whole"))
    begin(run, tmp_path / "stopped")
    list(train_run(run, tmp_path / "stopped"))
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")
