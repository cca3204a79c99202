"""Files of a sweep that are JSON and hold anything: each command has an answer, or one line that names the file."""

import contextlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from analysis.sweep_file import SETTINGS, read_sweep_file
from analysis.tables.load import load_trials
from analysis.tables.overview import footer, ordered, selected, show
from mergenet.cli.main import cli
from mergenet.config.yaml12 import dump_yaml_values
from mergenet.errors import CheckpointError, ConfigError, UserError
from mergenet.records.sealed import KEY, read_record, write_record
from sweeps.config.loading import dump_sweep
from sweeps.planning.plan import Plan
from sweeps.report.status import read_status, status_lines
from sweeps.report.summary import print_summary, summarize
from sweeps.study.warm_start import PriorTrial, WarmStart, load_warm_start, write_warm_start
from sweeps.tracking.wandb_summary import numbers, trials_html
from sweeps.tracking.wandb_sync import whole
from sweeps.trials.files import read_summary
from sweeps.trials.recorded_source import SourcePlan
from sweeps.trials.results import read_trials
from tests.analysis.folders import make_run
from tests.sweeps.base import space_of, sweep_config, write_base

CYCLE = "transfer.t_cycle"
SEARCH = {CYCLE: {"choice": [2, 4]}}
PLAN = Plan(sweep_config(SEARCH, num_trials=2, confirm_seeds=1), space_of(SEARCH), SourcePlan(), "", 2)
RUN = "trials/trial-000"
FILES = ("sweep.json", "summary.json", "warm_start.json", f"{RUN}/trial.json", f"{RUN}/result.json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweeps") / "finished"
    folder.mkdir()
    write_base(folder)
    (folder / "sweep.yaml").write_text(dump_sweep(PLAN.sweep))
    state = {"status": "finished", "error": None, "seconds": {"search": 3.5}, "source": {"recorded": False}}
    write_record(folder / "sweep.json", state | {SETTINGS: read_sweep_file(folder)})
    runs = [("baseline", "baseline", 0, 0), ("trial-000", "trial", 0, 0), ("trial-001", "trial", 1, 0)]
    runs += [("confirm-best-1", "confirm_best", 1, 1), ("confirm-none-1", "confirm_none", 1, 1)]
    for name, role, number, seed in runs:
        trial = {"role": role, "number": number, "state": "complete", "params": {CYCLE: 4}, "error": None}
        make_run(folder / "trials" / name, (0.5, 0.6), 0.55, trial, {"seed": seed})
    prior = PriorTrial("earlier", "trial-000", {CYCLE: 2}, {1: 0.5, 2: 0.75}, True, {"adapter_parameters": 3.0})
    write_warm_start(folder, WarmStart((prior,), {"earlier": {"repeated": 1}}))
    write_record(folder / "summary.json", summarize(PLAN, folder, {"search": 3.5}, None))
    return folder


def table(folder: Path) -> None:
    trials = ordered(load_trials(folder))
    show(selected(trials), rich_output=False)
    footer(trials)


def summary(folder: Path) -> None:
    if found := read_summary(folder):
        print_summary(folder, found, Console(file=io.StringIO()))
        numbers(found)
        trials_html(found["trials"])


COMMANDS: dict[str, Callable[[Path], Any]] = {
    "table": table,
    "status": lambda folder: json.dumps([read_status(folder), *status_lines(read_status(folder))]),
    "summary": summary,
    "sync": lambda folder: whole(sorted((folder / "trials").iterdir())),
    "resume": load_warm_start,
    "results": lambda folder: [read_trials(folder, PLAN.sweep, role) for role in ("trial", "baseline")],
}


# of the files of the sweep itself
READERS = {"sweep.json": ["status"], "summary.json": ["summary"], "warm_start.json": ["resume"]}


def answers(folder: Path, commands: Iterable[str] = COMMANDS) -> dict[str, str]:
    """What a command raised, of user errors alone."""
    raised = {}
    for name in commands:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try:
                COMMANDS[name](folder)
            except UserError as error:
                raised[name] = str(error)
    return raised


def test_as_it_was_written_nothing_is_wrong(finished: Path) -> None:
    assert answers(finished) == {}
    assert read_status(finished)["damaged"] == {}


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys that lead to each value of a JSON file."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def changed(values: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a path; ... in place of one takes it out."""
    copy = json.loads(json.dumps(values))
    *parents, last = path
    node = copy
    for key in parents:
        node = node[key]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return copy


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("other", [None, "x", ...])
def test_any_value_in_place_of_any_other(finished: Path, tmp_path: Path, file: str, other: Any) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "sweep"))
    values = read_record(folder / file)
    for path in places(values):
        write_record(folder / file, changed(values, path, other))
        for message in answers(folder, COMMANDS if file.startswith("trials/") else READERS[file]).values():
            assert Path(file).name in message, (path, other)
            assert "\n" not in message


@pytest.mark.parametrize("file", [*FILES, f"{RUN}/provenance.json"])
def test_a_number_that_became_another_one_is_seen_by_every_command(finished: Path, tmp_path: Path, file: str) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "sweep"))
    text, before = (folder / file).read_text(), read_status(folder)
    numbers = list(re.finditer(r"(?<=[ \[-])\d[\d.]*(?=[,\n])", text))
    assert numbers or file == f"{RUN}/provenance.json"
    for number in numbers:
        (folder / file).write_text(f"{text[: number.start()]}1{number[0]}{text[number.end() :]}")
        assert_seen(folder, file)
    (folder / file).write_text(text.replace("{\n", '{\n  "more": 1,\n', 1))
    assert_seen(folder, file)
    values = json.loads((folder / file).read_text())
    del values[KEY]  # as the message says
    (folder / file).write_text(json.dumps(values))
    assert read_status(folder) == before
    assert answers(folder) == {}


def assert_seen(folder: Path, file: str) -> None:
    name, damaged = Path(file).name, read_status(folder)["damaged"]
    if file == "warm_start.json":
        with pytest.raises(CheckpointError, match=r"warm_start\.json must have the SHA-256"):
            load_warm_start(folder)
        return
    (reason,) = damaged.values()
    assert reason.startswith(f"{folder / file} must have the SHA-256 that its key sha256 says")
    if name == "sweep.json":
        assert (list(damaged), read_status(folder)["status"]) == ([name], "unknown, sweep.json is damaged")
    elif name == "summary.json":
        assert (list(damaged), read_summary(folder)) == ([name], {})
    else:
        table = load_trials(folder)
        assert list(damaged) == ["trial-000"] and "trial-000" not in list(table["trial"])
        assert table.attrs["problems"] == [f"skipped a run: {reason}"]
        assert whole(sorted((folder / "trials").iterdir()))[1] == [reason]
        assert "trial-000" not in str(read_status(folder)["best"])


@pytest.mark.parametrize("file", [*FILES, "trials/trial-000/epochs.jsonl"])
@pytest.mark.parametrize("content", ["[" * 100_000, "3", "null", "[]", "{}", ""])
def test_any_content(finished: Path, tmp_path: Path, file: str, content: str) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "sweep"))
    (folder / file).write_text(content)
    for message in answers(folder).values():
        assert "\n" not in message
        assert str(folder / file) in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_val_top1": "high"}, "target_val_top1 must be a number or null, got 'high'"),
        ({"step": -1}, "step must"),
    ],
)
def test_a_row_of_other_types_is_named(finished: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "sweep"))
    path = folder / "trials/trial-000/epochs.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{json.dumps(json.loads(first) | change)}\n{second}\n")
    (problem,) = load_trials(folder).attrs["problems"]
    assert f"{path} line 1: {message}" in problem
    assert read_status(folder)["damaged"] == {"trial-000": problem.removeprefix("skipped a run: ")}


@pytest.mark.parametrize(("metric", "got"), [("metric: target_val_top5\n", "target_val_top5"), ("", "nothing")])
def test_a_sweep_file_whose_metric_was_changed_says_what_was_trained(
    finished: Path, tmp_path: Path, metric: str, got: str
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "sweep"))
    file = folder / "sweep.yaml"
    text = file.read_text()
    file.write_text(text.replace("metric: target_val_top1\n", metric))
    assert file.read_text() != text
    with pytest.raises(ConfigError) as refused:
        read_status(folder)
    message = f"{file}: metric must be target_val_top1, as in the runs, got {got}; put it back"
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds_per_trial": 2}, "seeds_per_trial (1 became 2); `mergenet sweep resume "),
        ({"slots": 4}, "slots (2 became 4); `mergenet sweep resume "),
        ({"sampler": "tpe", "budget_hours": 1.5}, "budget_hours (null became 1.5), sampler (auto became tpe); "),
        ({"constraints": {"adapter_parameters": {"max": 1}}, "num_trials": 3}, "constraints (edited), num_trials (2 "),
    ],
)
def test_a_sweep_file_that_was_edited_after_its_sweep_ran_is_told(
    finished: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    """Its values decide which trials count and which is the best, so that an answer may change by them."""
    folder = Path(shutil.copytree(finished, tmp_path / "sweep"))
    file = folder / "sweep.yaml"
    assert not read_status(folder)["edited"] and not load_trials(folder).attrs["mixed"]
    file.write_text(dump_yaml_values(read_sweep_file(folder) | changes))
    (line,) = read_status(folder)["edited"]
    assert line.startswith(f"{file} was edited since the sweep last began or was resumed: {said}")
    assert line in status_lines(read_status(folder))
    assert line in footer(load_trials(folder))
    assert line in CliRunner().invoke(cli, ["analyze", "best", str(folder)]).stderr
