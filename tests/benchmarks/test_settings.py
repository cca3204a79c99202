"""Paired runs of any setting: what is compared, with which baseline, and that nothing is trained twice."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.statistics.paired_tests import holm
from benchmarks import no_harm, settings
from benchmarks.paired import compare_all, families
from mergenet.config.loading import dump_yaml
from tests.tiny import set_up, tiny_config


@pytest.fixture(autouse=True)
def _tiny() -> Iterator[None]:
    with set_up():
        yield


def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], *words: str) -> tuple[str, Any]:
    """What the benchmark prints, and its figures."""
    preset = tmp_path / "setting.yaml"
    preset.write_text(dump_yaml(tiny_config({"epochs": 1} | changes)))
    where = ["--seeds=2", "--jobs=1", "--json", f"--out={tmp_path / 'runs.jsonl'}"]
    settings.main([str(preset), *where, *words])
    printed = capsys.readouterr()
    return printed.out + printed.err, json.loads(printed.out.splitlines()[-1])["figures"]


def test_variants_share_seeds_and_a_second_call_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figures = run(tmp_path, capsys, {}, "--variants=mergenet,control_none,kd", "--first-seed=5")
    assert "8 runs to train, 0 found" in out
    assert [(row["variant"], row["seed"]) for row in figures["runs"]] == [
        (name, seed) for seed in (5, 6) for name in ("none", "mergenet", "control_none", "kd")
    ]
    runs = {(row["variant"], row["seed"]): row for row in figures["runs"]}
    tests = {c["variant"]: c for c in figures["comparisons"] if (c["baseline"], c["split"]) == ("none", "test")}
    assert tests.keys() == {"mergenet", "control_none", "kd"}
    mean = sum(runs["kd", seed]["test"] - runs["none", seed]["test"] for seed in (5, 6)) / 2
    assert tests["kd"]["mean"] == pytest.approx(100 * mean)
    others = [c["baseline"] for c in figures["comparisons"] if (c["variant"], c["split"]) == ("mergenet", "val")]
    assert others == ["none", "control_none", "kd"]
    assert "target: top1 in %, validation / test" in out
    again, same = run(tmp_path, capsys, {}, "--variants=mergenet,control_none,kd", "--first-seed=5")
    assert "0 runs to train, 8 found" in again
    assert same == figures


def test_an_interrupted_benchmark_trains_only_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, figures = run(tmp_path, capsys, {})
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    (tmp_path / "runs.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40])
    out, again = run(tmp_path, capsys, {})
    assert "1 runs to train, 3 found" in out
    assert "skipped a line that is not a result" in out
    assert [row["weights"] for row in again["runs"]] == [row["weights"] for row in figures["runs"]]


def test_a_source_that_receives_is_compared_with_itself_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [{"source": "3", "target": "9", "direction": "both"}]
    out, figures = run(tmp_path, capsys, {"transfer.pairs": pairs}, "--variants=mergenet,kd")
    assert "source: top1 in %, validation / test" in out
    runs = {(row["variant"], row["seed"]): row for row in figures["runs"]}
    assert runs["none", 0]["source_test"] is not None
    assert "source_test" not in runs["kd", 0]
    found = [(c["variant"], c["baseline"]) for c in figures["comparisons"] if c["split"] == "source_test"]
    assert found == [("mergenet", "none")]


def test_a_method_that_cannot_be_used_is_named_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"name": "digits", "image_size": 8, "train_fraction": 0.085, "val_fraction": 0.1}
    out, figures = run(tmp_path, capsys, {"source.data": other}, "--variants=mergenet,kd", "--seeds=1")
    assert "kd does not apply: source.data.val_fraction must equal target.data.val_fraction (0.05)" in out
    assert list(figures["does_not_apply"]) == ["kd"]
    assert {row["variant"] for row in figures["runs"]} == {"none", "mergenet"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["digits", "--variants=kdd"], "--variants must be one of control_none, .*, got 'kdd'; did you mean kd"),
        (["digist"], "the preset must be one of .*digits"),
        (["digits", "--set=transfer.pairs=[]"], "transfer.pairs must name at least one pair"),
    ],
)
def test_a_bad_value_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        settings.main(words)
    assert caught.value.code == 2
    assert re.match(message, capsys.readouterr().err)


def test_a_replayed_source_gives_what_a_live_one_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = tmp_path / "setting.yaml"
    preset.write_text(dump_yaml(tiny_config({"epochs": 1})))
    monkeypatch.setattr(no_harm, "PRESET", str(preset))
    words = ["--variants=real,live,none", "--seeds=1", "--jobs=1", "--json", f"--out={tmp_path / 'runs.jsonl'}"]
    no_harm.main(words)
    out = capsys.readouterr().out
    assert "replayed source against live source: weights bitwise equal" in out
    row = json.loads((tmp_path / "runs.jsonl").read_text().splitlines()[0])
    assert (row["variant"], row["seed"], row["key"].split("/")[0]) == ("baseline", 0, "baseline")
    pairs = [(c["variant"], c["baseline"]) for c in json.loads(out.splitlines()[-1])["figures"]["comparisons"]]
    assert pairs == [(v, "baseline") for v in ("real", "live", "none")] * 2 + [("real", "none")] * 2


def test_holm_corrects_within_a_table() -> None:
    gains = {"none": 0.0, "a": 0.01, "b": 0.02, "mixed": 0.0}
    rows = [
        {"variant": name, "seed": seed, "val": 0.5 + gain * (seed + 1), "test": 0.5 + 0.01 * (-1) ** seed * (seed % 3)}
        for name, gain in gains.items()
        for seed in range(6)
    ]
    found = compare_all(rows, families(list(gains), "a", ["b"]))
    assert [(c["variant"], c["baseline"], c["split"]) for c in found] == [
        *((name, "none", split) for split in ("val", "test") for name in ("a", "b", "mixed")),
        ("a", "b", "val"),
        ("a", "b", "test"),
    ]
    assert [c["p_value"] for c in found[:3]] == [2 / 64, 2 / 64, 1.0]
    assert [c["p_holm"] for c in found[:3]] == holm(np.array([2 / 64, 2 / 64, 1.0])).tolist() == [6 / 64, 6 / 64, 1.0]
    assert found[6]["p_holm"] == found[6]["p_value"], "one comparison needs no correction"
