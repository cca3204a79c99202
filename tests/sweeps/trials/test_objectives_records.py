"""Several objectives and a constraint from real runs on disk to study, summary and analysis, without Ray."""

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from rich.console import Console

from analysis.best import best_trial
from analysis.names import TRIAL
from mergenet.records.atomic import write_text
from sweeps.config import SweepConfig
from sweeps.config.loading import dump_sweep
from sweeps.driver.rebuild_study import lost_trials
from sweeps.driver.run import no_best
from sweeps.execution.seeds import outcome_of
from sweeps.execution.worker import do_job
from sweeps.planning.plan import Plan
from sweeps.report.live import View
from sweeps.report.status import read_status
from sweeps.report.summary import print_summary, summarize
from sweeps.space.space import Space
from sweeps.study.study import SweepStudy
from sweeps.tracking.wandb_summary import numbers, trials_html
from sweeps.trials.jobs import Jobs
from sweeps.trials.messages import GO_ON
from sweeps.trials.recorded_source import SourcePlan
from sweeps.trials.results import read_trials
from tests.records import edit_record
from tests.sweeps.base import CONV, space_of, sweep_config

SIZE, DEPTH = "adapter_parameters", "transfer.adapter.depth"
SEARCH = {DEPTH: {"choice": [1, 2, 3]}}
LARGEST = 150_000  # three layers have more


def sweep_of(**changes: Any) -> SweepConfig:
    fixed: dict[str, Any] = {"minimize": [SIZE], "constraints": {SIZE: {"max": LARGEST}}, "sampler": "grid"}
    return sweep_config(SEARCH, num_trials=3, confirm_seeds=0, **(fixed | changes))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three trials that trained to their end before the driver could tell the study: it was killed."""
    folder, space = tmp_path_factory.mktemp("sweep"), space_of(SEARCH, epochs=1)
    study, jobs = SweepStudy(sweep_of(), space, "max", folder), Jobs(folder, space, None)
    for index in range(3):
        drawn = study.draw(index)
        assert do_job(jobs.trial(index, drawn.params), lambda *_: GO_ON)["state"] == "complete"
    return folder


def plan_of(sweep: SweepConfig, space: Space) -> Plan:
    return Plan(sweep, space, SourcePlan(), "", sweep.num_trials)


def test_a_resumed_study_tells_what_the_records_hold(trained: Path) -> None:
    sweep, space = sweep_of(), space_of(SEARCH, epochs=1)
    study, jobs = SweepStudy(sweep, space, "max", trained), Jobs(trained, space, None)
    study.reconcile(lambda drawn: outcome_of(jobs, jobs.trial(drawn.index, drawn.params), sweep))
    trials = {trial.user_attrs["trial_id"]: trial for trial in study.study.trials}
    summary = summarize(plan_of(sweep, space), trained, {"search": 1.0}, None)
    for told in summary["trials"]:
        trial = trials[told["trial_id"]]
        assert trial.state == TrialState.COMPLETE
        assert trial.values == [told["value"], told["measured"][SIZE]]
        too_large = told["params"][DEPTH] == 3
        assert (max(trial.constraints.values()) > 0) == bool(told["broken"]) == too_large
    assert {p["trial_id"] for p in summary["front"]} == {t.user_attrs["trial_id"] for t in study.study.best_trials}
    assert summary["infeasible"] == {"complete": 3, "infeasible": 1, "rules": {f"{SIZE} <= {LARGEST}": 1}}


def test_a_study_that_was_deleted_is_made_again_from_the_records(trained: Path, tmp_path: Path) -> None:
    sweep, space = sweep_of(), space_of(SEARCH, epochs=1)
    jobs = Jobs(trained, space, None)
    whole = {trial.user_attrs["trial_id"]: trial for trial in SweepStudy(sweep, space, "max", trained).study.trials}
    study = SweepStudy(sweep, space, "max", tmp_path)
    study.restore(lost_trials(trained, space, known=()))
    study.reconcile(lambda drawn: outcome_of(jobs, jobs.trial(drawn.index, drawn.params), sweep))
    for trial in study.study.trials:
        other = whole[trial.user_attrs["trial_id"]]
        assert (trial.state, trial.values, trial.params) == (other.state, other.values, other.params)
    assert len(study.study.trials) == len(whole) == 3


def test_what_a_reader_is_told(trained: Path) -> None:
    write_text(trained / "sweep.yaml", dump_sweep(sweep_of()))
    summary = summarize(plan_of(sweep_of(), space_of(SEARCH, epochs=1)), trained, {"search": 1.0}, None)
    out = io.StringIO()
    print_summary(trained, summary, Console(file=out, width=160))
    lines = out.getvalue().splitlines()
    assert f"1 of 3 complete trials break a constraint ({SIZE} <= {LARGEST}: 1)" in lines
    at = lines.index("Pareto front: none of these is beaten by another trial in all objectives")
    assert lines[at + 1].split() == ["trial", "val", "top1", "adapter", "parameters"]
    smallest = min(int(trial["measured"][SIZE]) for trial in summary["trials"])
    assert any(line.split()[-1] == str(smallest) for line in lines[at + 2 : at + 4]), "the smallest is not beaten"
    assert summary["best"]["trial_id"] == summary["front"][0]["trial_id"] == best_trial(trained)["trial"]
    told = numbers(summary | {"metric": "target_val_top1"})
    assert (told["trials_infeasible"], told[f"best_{SIZE}"]) == (1, summary["best"]["measured"][SIZE])
    assert told["front"].startswith(summary["best"]["trial_id"])
    assert f"<th>{SIZE}</th>" in trials_html(summary["trials"])
    luck = "  the best of 3 trials was selected for its luck as well: its lead over no transfer is not a gain"
    assert luck in lines
    alone = io.StringIO()
    print_summary(trained, summary | {"trials": [summary["best"]]}, Console(file=alone, width=160))
    assert "the best of" not in alone.getvalue()  # of one nothing was chosen


def test_code_that_changed_between_trials_is_told(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "sweep"))
    for name, sha256 in (("trial-000", "a" * 64), ("trial-001", "b" * 64)):
        path = folder / "trials" / name / "provenance.json"
        edit_record(path, {"code_hashes": {"bars": sha256}})
    summary = summarize(plan_of(sweep_of(), space_of(SEARCH, epochs=1)), folder, {"search": 1.0}, None)
    out = io.StringIO()
    print_summary(folder, summary, Console(file=out, width=160))
    first, second = (f"{letter * 12} in trial-00{number}" for number, letter in enumerate("ab"))
    line = f"the code of bars changed between runs, so they cannot be compared: {first}, {second}"
    assert line in out.getvalue().splitlines()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_best_trial_that_is_the_base_is_called_so(trained: Path, depth: int) -> None:
    transfer = {"t_cycle": 2, "pairs": [CONV], "adapter": {"rank": 4, "depth": depth}}
    sweep, space = sweep_of(constraints={}), space_of(SEARCH, epochs=1, transfer=transfer)
    summary = summarize(plan_of(sweep, space), trained, {"search": 1.0}, None)
    assert summary["best_is_base"] == (summary["best"]["params"] == {DEPTH: depth})
    out = io.StringIO()
    print_summary(trained, summary, Console(file=out, width=160))
    words = "these are the base's own values: no other trial that trained to its end is better by val top1"
    assert (words in out.getvalue()) == summary["best_is_base"]


def test_the_leader_keeps_the_constraints(trained: Path) -> None:
    """Live and in `mergenet sweep status`."""
    sweep = sweep_of(constraints={SIZE: {"max": 1}})
    write_text(trained / "sweep.yaml", dump_sweep(sweep))
    write_text(trained / "sweep.json", '{"status": "stopped"}')
    write_text(trained / "base.yaml", (trained / "trials/trial-000/config.yaml").read_text())
    assert read_status(trained)["best"] is None
    write_text(trained / "sweep.yaml", dump_sweep(sweep_of(constraints={})))
    assert read_status(trained)["best"] is not None
    view = View(Console(file=io.StringIO()), sweep, 3)
    row = {"epoch": 1, "step": 4, "target_val_top1": 0.5, SIZE: 7.0}
    view.remember({"trial-000": ("complete", [row])})
    assert view._best_so_far() == "best so far: none yet"
    view.remember({"trial-001": ("complete", [row | {SIZE: 1.0}])})
    assert "trial-001" in view._best_so_far()


def test_no_trial_that_keeps_them(trained: Path) -> None:
    sweep = sweep_of(minimize=[], constraints={"target_val_loss": {"max": 1e-6}})
    summary = summarize(plan_of(sweep, space_of(SEARCH, epochs=1)), trained, {}, None)
    assert (summary["best"], summary["front"]) == (None, None)
    assert no_best(summary, trained).startswith(
        "3 of 3 complete trials break a constraint (target_val_loss <= 1e-06: 3), so none is the best; all records are"
    )
    assert len(read_trials(trained, sweep, TRIAL)) == 3
