"""What selection yields by chance: exact where a formula is known, and on runs that are made up; and the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks import chance, selection
from benchmarks.chance import Curves
from mergenet.config.loading import dump_yaml
from mergenet.training.trainer import train
from tests.tiny import set_up, tiny_config

DRAWS = 20_000
SD = 0.01  # of a run's accuracy, one point


def normal_runs(epochs: int = 1) -> Curves:
    """3,000 runs that are alike: mean 0.5, standard deviation one point in each epoch, nothing to choose by."""
    rng = np.random.default_rng(1)
    return Curves(rng.normal(0.5, SD, (3000, epochs)), rng.normal(0.5, SD, (3000, epochs)))


@pytest.mark.parametrize(
    ("n", "expected"),
    [(1, 0.0), (2, np.pi**-0.5), (3, 1.5 * np.pi**-0.5), (20, 1.867475), (1000, 3.241436)],
)
def test_the_expected_maximum_of_normals(n: int, expected: float) -> None:
    assert chance.expected_maximum(n) == pytest.approx(expected, abs=1e-6)


def test_quantiles_of_the_lead_over_one_more() -> None:
    assert chance.lead_quantile(1, 0.975) == pytest.approx(2**0.5 * stats.norm.ppf(0.975)), "a difference of two"
    for n in (1, 20):
        assert chance.lead_quantile(n, 1 - chance.share_ahead(n)) == pytest.approx(0, abs=1e-9)
    normals = np.random.default_rng(2).standard_normal((DRAWS, 21))
    lead = normals[:, :20].max(axis=1) - normals[:, 20]
    for q in (0.025, 0.5, 0.975):
        assert chance.lead_quantile(20, q) == pytest.approx(np.quantile(lead, q), abs=0.05)


def test_the_epoch_that_is_taken() -> None:
    curves = Curves(val=np.array([[1, 3, 3, 2], [4, 3, 2, 1]]) / 10, test=np.array([[5, 6, 9, 7], [2, 3, 4, 1]]) / 10)
    assert curves.last.tolist() == [0.7, 0.1]
    assert curves.by_validation.tolist() == [0.6, 0.2], "of equals the first, as the trainer"
    assert curves.by_test.tolist() == [0.9, 0.4]


def test_the_best_of_many_runs_leads_as_the_formula_says() -> None:
    values = 0.5 + SD * stats.norm.ppf((np.arange(3000) + 0.5) / 3000)
    found = chance.best_of(values, values, 20, DRAWS, np.random.default_rng(0))
    assert found.mean == pytest.approx(chance.expected_maximum(20), abs=0.05), "a point is a standard deviation here"
    assert found.low == pytest.approx(chance.lead_quantile(20, 0.025), abs=0.1)
    assert found.high == pytest.approx(chance.lead_quantile(20, 0.975), abs=0.1)
    assert found.ahead[0] == pytest.approx(20 / 21, abs=0.01)
    assert found.ahead[0] > found.ahead[1] > found.ahead[2]


def test_choosing_epochs_on_the_test_set_adds_to_choosing_runs() -> None:
    found = list(chance.protocols(normal_runs(epochs=5), 20, DRAWS, seed=0).values())
    worst, one_run, nothing = found[1], found[4], found[5]
    assert worst.mean == pytest.approx(chance.expected_maximum(100), abs=0.1), "20 runs of 5 independent epochs"
    assert one_run.mean == pytest.approx(chance.expected_maximum(5), abs=0.05)
    assert nothing.mean == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("seeds", [3, 6])
def test_paired_seeds_find_what_is_not_there_in_5_percent(seeds: int) -> None:
    found = chance.paired(normal_runs().by_validation, seeds, DRAWS, np.random.default_rng(0))
    assert found.leads.mean == pytest.approx(0, abs=0.03)
    assert found.shows_gain == pytest.approx(0.025, abs=0.005)
    assert found.shows_harm == pytest.approx(0.025, abs=0.005)


def test_equal_runs_lead_by_nothing() -> None:
    curves = Curves(np.full((4, 2), 0.1), np.full((4, 2), 0.7))
    for lead in chance.protocols(curves, 20, 100, seed=0).values():
        assert (lead.mean, lead.low, lead.high, lead.ahead) == (0, 0, 0, (0, 0, 0))
    [found] = chance.honest(curves, [3], 100, seed=0)
    assert (found.shows_gain, found.shows_harm, found.half_width) == (0, 0, 0)


def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, Any]:
    """What the command prints, and its figures."""
    selection.main(["--seeds=3", "--epochs=2", "--jobs=1", "--json", f"--out={tmp_path / 'runs.jsonl'}", *words])
    printed = capsys.readouterr()
    return printed.out + printed.err, json.loads(printed.out.splitlines()[-1])["figures"]


def test_the_command_trains_once_and_reads_the_test_split_after_every_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = tmp_path / "setting.yaml"
    preset.write_text(dump_yaml(tiny_config()))
    monkeypatch.setattr(selection, "PRESET", str(preset))
    monkeypatch.setattr(selection, "DRAWS", 100)
    with set_up():
        out, figures = run(tmp_path, capsys)
        assert "3 runs to train, 0 found" in out
        assert "expected lead 1.867" in out
        assert [row["seed"] for row in figures["runs"]] == [400, 401, 402]
        lines = (tmp_path / "runs.jsonl").read_text().splitlines()
        (tmp_path / "runs.jsonl").write_text("\n".join(lines[:2]) + "\n" + lines[2][:30])
        out, again = run(tmp_path, capsys)
        assert "1 runs to train, 2 found" in out
        for figure in ("theory", "spread", "protocols", "paired"):
            assert again[figure] == figures[figure]
        config = selection.setting_of(selection.parse(["--epochs=2"])).config(selection.CURVES, 401)
        metric = "target_val_top1"
        assert figures["runs"][1]["val"] == [result.metrics[metric] for result in train(config)], (
            "reading changes nothing"
        )
        assert len(figures["runs"][1]["test"]) == 2


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--seeds=1", "--seeds must be at least 2, got 1"),
        ("--set=epochs=0", "epochs must be >= 1, got 0"),
    ],
)
def test_a_bad_value_is_one_line(word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        selection.main([word])
    assert caught.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(message)
