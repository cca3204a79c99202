"""A table is the same, bit for bit, whether its runs are read with care, at once, in two processes or remembered."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from analysis import load_trials
from analysis.tables import formatting, overview
from mergenet.errors import UserError
from mergenet.records import many_runs, run_record, shared_reading
from tests.analysis.folders import make_run
from tests.records import edit_record


@pytest.fixture(autouse=True)
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every folder is worth a file and a second process."""
    for name, value in {"FEWEST": 1, "SETTLED": 0.01, "WORTH": 0.0}.items():
        monkeypatch.setattr(many_runs, name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/mergenet"


@contextmanager
def with_care() -> Iterator[None]:
    """As before there was another way: line by line, and by PyYAML alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_record, "quick_rows", lambda _: None)
        patch.setattr(run_record, "quick_columns", lambda *_: None)
        patch.setattr(run_record, "text_hash", lambda *_: None)
        patch.setattr(run_record, "quick_yaml", yaml.safe_load)
        yield


def seen(folder: Path, **options: Any) -> Any:
    """All of a table: values with their types, columns, what was left out and why, and what is printed."""
    try:
        table = load_trials(folder, **options)
    except UserError as error:
        return str(error)
    cells = {name: [repr(value) for value in table[name].array] for name in table.columns}
    shown = overview.ordered(table)
    text = formatting.cells(overview.selected(shown)), overview.footer(shown)
    return cells, list(map(str, table.dtypes)), table.attrs, text


def every_way(folder: Path) -> Any:
    """What is seen in each of the ways, which must be one thing."""
    time.sleep(0.05)
    told = []
    for per_seed in (True, False):
        with with_care():
            told.append(seen(folder, per_seed=per_seed, cache=False))
        assert [seen(folder, per_seed=per_seed, cache=cache) for cache in (False, True, True)] == [told[-1]] * 3
    for forks in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {"FORKED": 1, "STARTED": 1, "BLOCK": 1, "_may_fork": lambda forks=forks: forks}.items():
                patch.setattr(shared_reading, name, value)
            patch.setattr(shared_reading, "_free_cores", lambda: 2)
            assert seen(folder, cache=False) == told[-1]
    return told[-1]


def change_json(path: Path, **changes: Any) -> None:
    edit_record(path, changes)


def damage(sweep: Path) -> None:
    trials = sweep / "trials"
    (trials / "t0/epochs.jsonl").write_text("nonsense\n{}\n")
    (trials / "t1/trial.json").write_text('{"trial_id": "t1", "ro')
    (trials / "t2/config.yaml").write_text("a: [1\n")
    (trials / "t3/provenance.json").unlink()
    (trials / "t4").mkdir()
    change_json(trials / "b0/trial.json", role="king")
    change_json(trials / "n0/result.json", epochs_done=7)
    (trials / "n1/trial.json").unlink()
    (trials / "n2/result.json").write_bytes(b"\x80\x04")


def tear_and_diverge(sweep: Path) -> None:
    path = sweep / "trials/t2/epochs.jsonl"
    path.write_text(path.read_text()[:-20])
    change_json(sweep / "trials/t2/result.json", status="running", epochs_done=1, best_epoch=None)
    rows = [
        {"epoch": 1, "step": 4, "target_val_top1": float("nan"), "seconds_target": float("inf")},
        {"epoch": 2, "step": 8, "seconds_target": None, "seconds_adapter": None},
        {"epoch": 3},
    ]
    (sweep / "trials/t3/epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def several_seeds(sweep: Path) -> None:
    for number, name in ((2, "t1-seed-2"), (3, "t1-seed-3")):
        trial = {"role": "replicate", "number": 1, "state": "complete", "params": {"transfer.adapter.rank": 8}}
        make_run(sweep / "trials" / name, (0.5, 0.6, 0.1 * number), 0.6, trial, {"seed": number})
    change_json(sweep / "trials/t1/trial.json", seeds=[0, 2, 3])


def other_data(sweep: Path) -> None:
    for name, sha256 in (("t0", "a" * 64), ("t1", "b" * 64), ("t2", "b" * 64)):
        hashes = {"data_hashes": {"target": sha256}, "code_hashes": {"my.module": sha256}}
        change_json(sweep / f"trials/{name}/provenance.json", **hashes)


def with_constraints(sweep: Path) -> None:
    (sweep / "sweep.yaml").write_text("constraints:\n  adapter_parameters: {max: 500}\n")


def failed_at_once(sweep: Path) -> None:
    for name in ("config.yaml", "provenance.json", "epochs.jsonl", "result.json"):
        (sweep / "trials/t3" / name).unlink()


CHANGES = [damage, tear_and_diverge, several_seeds, other_data, with_constraints, failed_at_once]


@pytest.mark.parametrize("change", [lambda _: None, *CHANGES], ids=["whole", *(change.__name__ for change in CHANGES)])
def test_the_table_of_a_sweep_is_one_in_every_way(sweep: Path, change: Callable[[Path], None]) -> None:
    whole = every_way(sweep)
    change(sweep)
    assert (every_way(sweep) == whole) is (change.__name__ == "<lambda>")


def test_so_is_that_of_plain_runs_under_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "runs"
    make_run(runs / "a", settings={"transfer.t_cycle": 4, "seed": 7, "name": "a"})
    make_run(runs / "b", settings={"transfer.t_cycle": 16, "seed": 8})
    make_run(runs / "c", settings={"target.data.name": "digits"}, metric="em")
    (runs / "c/config.yaml").write_text((runs / "c/config.yaml").read_text() + "day: 2024-01-01\nodd: {1: x}\n")
    every_way(runs)
    every_way(runs / "a")
    (tmp_path / "trials").symlink_to(runs)
    assert "must hold a trial.json" in every_way(tmp_path), "under the name of a sweep's trials they are none"
    monkeypatch.chdir(tmp_path)
    assert "runs/a" in every_way(Path("runs"))[0]["folder"][0]
    (runs / "a").rename(runs / "z")
    assert every_way(runs)[0]["trial"] == ["'b'", "'c'", "'z'"]


def test_a_row_that_was_remembered_follows_its_files(sweep: Path, remembered: Path) -> None:
    every_way(sweep)
    assert any(remembered.iterdir())
    path = sweep / "trials/t1/result.json"
    before = path.stat()
    edit_record(path, {"target_test_top1": 0.99})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    table: pd.DataFrame = load_trials(sweep)
    assert table.set_index("trial").loc["t1", "target_test_top1"] == 0.99
    every_way(sweep)
