"""Folders of runs and sweeps as drivers and workers leave them, written without training."""

import json
from pathlib import Path
from typing import Any

from analysis.names import BASELINE, CONFIRM_BEST, TRIAL
from analysis.trial_file import write_trial_file
from mergenet.config import Config
from mergenet.config.loading import dump_yaml, parse_config
from mergenet.records.sealed import write_record
from sweeps.config.loading import dump_sweep
from sweeps.planning.checks import plan_sweep
from sweeps.planning.plan import Plan
from sweeps.space.space import Labels
from sweeps.trials.jobs import Jobs
from tests.sweeps.base import base_config, sweep_config, write_base

VAL, TEST = "target_val_top1", "target_test_top1"
CYCLES = {"transfer.t_cycle": {"choice": [2, 4]}}


def write_run(folder: Path, name: str, values: list[float], state: str | None) -> None:
    run = folder / "trials" / name
    run.mkdir(parents=True)
    rows = [{"epoch": i, "step": i, VAL: value} for i, value in enumerate(values, start=1)]
    (run / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if state == "complete":
        result = {"status": "finished", "error": None, "epochs_done": len(values), "best_epoch": len(values)}
        write_record(run / "result.json", result)
    if state is not None:
        role = next((role for role in (TRIAL, BASELINE) if name.startswith(role)), CONFIRM_BEST)
        about = {"trial_id": name, "role": role, "params": {}, "number": 0, "seed": 0, "state": state}
        write_trial_file(run, about)


def write_begun_sweep(folder: Path, status: str, **changes: Any) -> Path:
    """2 epochs a run, 4 trials: one complete, one pruned, one in its first epoch, one waiting; 100 s for 5 epochs."""
    write_base(folder)
    sweep = sweep_config(CYCLES, num_trials=4, confirm_seeds=1, scheduler="none", **changes)
    (folder / "sweep.yaml").write_text(dump_sweep(sweep))
    state = {"status": status, "error": None, "seconds": {"ray": 10.0, "search": 100.0}, "source": {"recorded": False}}
    write_record(folder / "sweep.json", state)
    write_run(folder, "baseline", [0.4, 0.5], "complete")
    write_run(folder, "trial-000", [0.5, 0.55], "complete")
    write_run(folder, "trial-001", [0.45], "pruned")
    write_run(folder, "trial-002", [], None)
    return folder


def write_job(job: dict[str, Any], state: str, val: float = 0.5, test: float = 0.5) -> None:
    """A run folder as a job of one epoch leaves it."""
    run, config = Path(job["folder"]), Config.model_validate(job["config"])
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(dump_yaml(config))
    (run / "provenance.json").write_text("{}")
    (run / "epochs.jsonl").write_text(json.dumps({"epoch": 1, "step": 1, VAL: val}) + "\n")
    done = {"status": "finished" if state == "complete" else "failed", "error": None, "epochs_done": 1}
    write_record(run / "result.json", done | {"best_epoch": 1, "metric": VAL, VAL: val, TEST: test})
    about = {"trial_id": job["id"], "state": state, "seed": config.seed, "error": None}
    write_record(run / "trial.json", about | {key: job[key] for key in ("role", "params", "number")})


def best_of(plan: Plan, folder: Path, **values: Any) -> tuple[Jobs, dict[str, Any]]:
    """The jobs of a sweep whose best trial is there; values: of its configuration."""
    jobs = Jobs(folder, plan.space, "the/recording")
    job = jobs.trial(0, plan.space.locate(plan.space.config({})) or {})
    write_job(job | {"config": job["config"] | values}, "complete")
    return jobs, {"trial_id": job["id"], "params": job["params"]}


def planned(tmp_path: Path, search: dict[str, Any], base: dict[str, Any] | None = None, **changes: Any) -> Plan:
    path = tmp_path / "base.yaml"
    path.write_text(dump_yaml(base_config(**base or {})))
    return plan_sweep(sweep_config(search, base=str(path), **changes))


def write_trial(
    folder: Path, plan: Plan, number: int, params: Labels, values: list[float | None], state: str = "complete"
) -> None:
    """A trial's records, its source replayed from the sweep's recording."""
    job = Jobs(folder, plan.space, str(folder / "source") if plan.source.record else None).trial(number, params)
    run = Path(job["folder"])
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(dump_yaml(parse_config(job["config"], "test")))
    (run / "provenance.json").write_text("{}")
    write_rows(run, values, state)
    trial = {"role": "trial", "number": number, "state": state, "trial_id": job["id"], "seed": 0}
    write_record(run / "trial.json", trial | {"params": job["params"]})


def write_rows(run: Path, values: list[float | None], state: str, parameters: int = 1000) -> None:
    rows = [{"epoch": i, VAL: value, "adapter_parameters": parameters} for i, value in enumerate(values, start=1)]
    (run / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = {"error": None, "epochs_done": len(rows), "best_epoch": None, "metric": VAL}
    write_record(run / "result.json", done | {"status": "finished" if state == "complete" else "stopped"})


def write_sweep(folder: Path, plan: Plan, trials: list[tuple[Any, ...]]) -> Path:
    """A sweep folder as `run_sweep` writes it, without best.yaml. trials: params, values, and perhaps a state."""
    folder.mkdir()
    (folder / "base.yaml").write_text(dump_yaml(parse_config(plan.space.base, "test")))
    (folder / "sweep.yaml").write_text(dump_sweep(plan.sweep))
    write_record(folder / "sweep.json", {"status": "finished"})
    for number, trial in enumerate(trials):
        write_trial(folder, plan, number, *trial)
    return folder
