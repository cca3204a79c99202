"""A sweep whose code or data were edited since it began is neither shown as finished nor gone on with."""

import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mergenet.config.loading import dump_yaml, parse_config
from mergenet.data import load_data
from mergenet.errors import CheckpointError
from mergenet.records.run_record import FINISHED, write_record
from mergenet.records.sealed import read_record
from sweeps.config import SweepConfig
from sweeps.config.base import load_base
from sweeps.config.loading import parse_sweep
from sweeps.driver.metadata import begin, note_inputs, write_status
from sweeps.driver.retry import goes_on, retry_failed
from sweeps.driver.run import resume_sweep
from sweeps.driver.start import finished, go_on, resumable_plan
from sweeps.execution.seeds import outcome_of
from sweeps.execution.worker import do_job
from sweeps.planning.checks import plan_sweep
from sweeps.planning.inputs import check_sweep_unchanged
from sweeps.planning.plan import Plan
from sweeps.report.summary import summarize
from sweeps.study.study import SweepStudy
from sweeps.trials.jobs import Jobs
from sweeps.trials.messages import STOP, Job
from sweeps.trials.record import write_trial
from sweeps.trials.sweep_dir import load_resumable
from tests.sweeps.base import base_values

MODULE = """
from sweptcode_data import load
from mergenet.models import MODELS
net = MODELS["mobilenetv2_small"]
"""
OTHER = "from mergenet.models import MODELS\nnet = MODELS['mobilenetv2_small']\n"
DATA = """
from mergenet.data.images.digits import load_digits
load = load_digits
"""
MODULES = ("sweptcode", "sweptcode_data", "sweptcode_other")


def forget() -> None:
    for name in MODULES:
        sys.modules.pop(name, None)
    load_data.cache_clear()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in zip(MODULES, (MODULE, DATA, OTHER), strict=True):
        (tmp_path / f"{name}.py").write_text(text)
    values = base_values()
    values["target"] = values["target"] | {"model": {"name": "sweptcode:net"}}
    (tmp_path / "base.yaml").write_text(dump_yaml(parse_config(values, "the test's base")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    forget()
    yield tmp_path
    forget()


def sweep() -> SweepConfig:
    names = ["sweptcode:net", "sweptcode_other:net"]
    search = {"target.model.name": {"choice": names}, "transfer.t_cycle": {"choice": [2, 4]}}
    fixed = {"name": "tiny", "base": "base.yaml", "search": search, "confirm_seeds": 1, "num_trials": 2}
    return parse_sweep(fixed, "the test's sweep")


def begun(project: Path) -> Path:
    folder = project / "sweep"
    folder.mkdir()
    begin(plan_sweep(sweep()), folder, None)
    forget()
    return folder


def end(folder: Path) -> None:
    """As if it had finished, though without a trial."""
    plan = plan_sweep(sweep())
    write_status(folder, plan, FINISHED)
    write_record(folder / "summary.json", summarize(plan, folder, {}, None))


@pytest.mark.parametrize("module", MODULES)
def test_a_sweep_of_other_code_is_refused(project: Path, module: str) -> None:
    folder = begun(project)
    (project / f"{module}.py").write_text((project / f"{module}.py").read_text() + "# other\n")
    changed = rf"code of {module} \w{{12}} \(was \w{{12}}\)"
    said = rf"sweep was begun with other code or data \(sweep\.json\): {changed}; .* .--overwrite"
    with pytest.raises(CheckpointError, match=said):
        go_on(folder, Console(file=StringIO()))
    assert finished(sweep(), folder) is None
    end(folder)
    forget()
    with pytest.raises(CheckpointError, match=said):
        finished(sweep(), folder)


def test_a_sweep_of_other_data_is_refused(project: Path) -> None:
    folder = begun(project)
    end(folder)
    assert (finished(sweep(), folder) or {})["name"] == "tiny"
    state = read_record(folder / "sweep.json")
    assert state["inputs"]["data_hashes"].keys() == {"source", "target"}
    state["inputs"]["data_hashes"]["source"] = "a" * 64
    write_record(folder / "sweep.json", state)
    with pytest.raises(CheckpointError, match=rf"source's data \w{{12}} \(was {'a' * 12}\)"):
        finished(sweep(), folder)
    del state["inputs"]  # as an older sweep
    write_record(folder / "sweep.json", state)
    assert (finished(sweep(), folder) or {})["name"] == "tiny"


def failed_in(folder: Path, plan: Plan) -> tuple[SweepStudy, Jobs, Job]:
    """The study, and trial 0, which has trained an epoch and has failed."""
    study, jobs = SweepStudy(plan.sweep, plan.space, plan.sweep.mode, folder), Jobs(folder, plan.space, None)
    job = jobs.trial(0, study.draw(0).params)
    assert do_job(job, lambda *_: STOP)["state"] == "pruned"
    write_trial(job, "failed", "a bug")
    return study, jobs, job


def test_what_failed_trains_again_with_code_that_was_fixed_and_from_nothing(project: Path) -> None:
    folder = begun(project)
    plan = plan_sweep(sweep())
    _, _, job = failed_in(folder, plan)
    assert goes_on(Path(job["folder"]))
    for name in ("sweptcode", "sweptcode_other"):
        (project / f"{name}.py").write_text((project / f"{name}.py").read_text() + "# mended\n")
    forget()
    check_sweep_unchanged(folder, load_base(load_resumable(folder)), sweep().search, fixed=True)
    assert not goes_on(Path(job["folder"]))
    assert retry_failed(plan, folder) == ["trial-000"]
    assert not Path(job["folder"]).exists()
    note_inputs(folder, plan)
    check_sweep_unchanged(folder, load_base(load_resumable(folder)), sweep().search)


class Killed(BaseException):
    """The driver."""


@pytest.mark.parametrize("reset", [False, True])
def test_a_retry_with_mended_code_that_is_killed_can_be_gone_on_with(
    project: Path, monkeypatch: pytest.MonkeyPatch, reset: bool
) -> None:
    """reset: whether what failed had been reset. Without a retry, too: the sweep is one of the mended code."""
    folder = begun(project)
    plan = plan_sweep(sweep())
    study, jobs, job = failed_in(folder, plan)
    study.reconcile(lambda drawn: outcome_of(jobs, jobs.trial(drawn.index, drawn.params), plan.sweep))
    (project / "sweptcode.py").write_text(MODULE + "# mended\n")
    forget()

    def dies(*found: Any) -> None:
        assert not reset or retry_failed(*found) == ["trial-000"]
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("sweeps.driver.retry.retry_failed", dies)
        with pytest.raises(Killed):
            resume_sweep(resumable_plan(folder, retry=True), folder, Console(file=StringIO()), retry=True)
    assert retry_failed(resumable_plan(folder), folder) == ([] if reset else ["trial-000"])
    assert not Path(job["folder"]).exists(), "it trains from nothing"


def test_trials_of_other_code_do_not_warm_a_sweep(project: Path) -> None:
    folder = begun(project)
    plan = plan_sweep(sweep())
    study, jobs = SweepStudy(plan.sweep, plan.space, plan.sweep.mode, folder), Jobs(folder, plan.space, None)
    assert do_job(jobs.trial(0, study.draw(0).params), lambda *_: STOP)["state"] == "pruned"
    later = sweep().model_copy(update={"warm_start": (str(folder),)})
    assert len(plan_sweep(later).warm.trials) == 1
    for name in ("sweptcode", "sweptcode_other"):
        (project / f"{name}.py").write_text((project / f"{name}.py").read_text() + "# other\n")
    forget()
    warm = plan_sweep(later).warm
    assert (warm.trials, warm.left_out) == ((), {str(folder): {"trained with other code of your modules": 1}})
