"""The trials that are written for the benchmark are those of a sweep; what is reached follows from the times."""

import json
from pathlib import Path

import pytest

from analysis import load_trials
from benchmarks.analysis_load import Took, figures_of, main, report
from benchmarks.many_trials import add_trials, begin_sweep
from mergenet.config.loading import parse_config
from mergenet.records.run_record import EPOCHS_HASH, config_hash, epochs_hash, read_run
from sweeps.report.status import read_status


def test_written_trials_are_read_as_those_of_a_sweep(tmp_path: Path) -> None:
    model = begin_sweep(tmp_path / "sweep", 3, epochs=7, seed=0)
    add_trials(tmp_path / "sweep", model, range(3))
    table = load_trials(tmp_path / "sweep")
    assert table.attrs["problems"] == []
    assert table["epochs_done"].tolist() == [7, 7, 7]
    assert table["transfer.adapter.gate"].nunique() == 3
    assert read_status(tmp_path / "sweep")["trials"] == {"complete": 3}
    for run in (tmp_path / "sweep/trials").iterdir():
        record = read_run(run)
        config = parse_config(record.config, str(run))
        row = table.set_index("trial").loc[run.name]
        assert record.provenance["config_hash"] == config_hash(config)
        assert record.result[EPOCHS_HASH] == epochs_hash(record.epochs)
        assert (config.target.optimizer.lr, config.epochs) == (row["target.optimizer.lr"], 7)
        assert config.transfer.t_cycle == row["transfer.t_cycle"]


def test_what_is_reached_follows_from_the_times(capsys: pytest.CaptureFixture[str]) -> None:
    def took(seconds: float) -> Took:
        return Took(seconds, seconds, 100.0, f"{seconds}\n")

    table = {"first": took(10), "before": took(250), "again": took(1), "grown": took(2.5)}
    figures = figures_of({"table": table, "status": {"first": took(1), "before": took(9)}}, 10_000)
    assert figures["ratios"]["table"]["first"]["seconds"] == 25
    assert figures["seconds_per_1000_new"] == 1.5
    report(figures)
    shown = capsys.readouterr().out
    assert "analyze table, 10000 trials: at least 20 x as fast: first 25.0 x (CPU 25.0 x), again 250.0 x" in shown
    assert "sweep status, 1000 trials: at least 10 x as fast: first 9.0 x (CPU 9.0 x), NOT REACHED" in shown
    assert "at most 1 s for 1,000 new trials at the second look: 1.50 (CPU 1.50), NOT REACHED" in shown


@pytest.mark.slow
def test_the_command_measures_a_small_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--trials", "5", "--epochs", "4", "--ray", "--json"])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["figures"]["looks"].keys() == {"table", "status", "ray"}
    assert told["figures"]["ratios"]["ray"]["first"]["seconds"] > 0
