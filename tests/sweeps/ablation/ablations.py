"""Ablations around the tests' base: a centre, its variants, and folders as a driver and its workers leave them."""

import json
from pathlib import Path
from typing import Any

from analysis.trial_file import write_trial_file
from mergenet.config.loading import dump_yaml, parse_config
from mergenet.records.run_record import epochs_hash
from mergenet.records.sealed import write_record
from sweeps.ablation.centre import Centre, placed
from sweeps.ablation.folder import write_new
from sweeps.ablation.plan import AblationPlan, plan_ablation
from sweeps.ablation.schema import AblationConfig, parse_ablation
from sweeps.ablation.variants import build_variants
from sweeps.trials.messages import Job
from sweeps.trials.record import trial_values
from tests.sweeps.base import base_config

VAL, TEST = "target_val_top1", "target_test_top1"


def centre_of(**changes: Any) -> Centre:
    """The tests' base, changed by its top-level keys; its seed is 1 and that of its source 0."""
    return Centre(placed(base_config(**changes), 1), "tiny-ablation")


def ablation_of(**changes: Any) -> AblationConfig:
    return parse_ablation({"name": "tiny-ablation", "components": not changes.get("values"), **changes}, "the test")


def planned(ablation: AblationConfig, **changes: Any) -> AblationPlan:
    """A plan in which no variant was tried out. changes: of the base."""
    variants, left_out = build_variants(centre_of(**changes).config, ablation)
    return plan_ablation(ablation, variants, left_out)


def begun(folder: Path, plan: AblationPlan) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_new(plan, folder)
    return folder


def write_finished(job: Job, value: float, state: str = "complete", provenance: dict[str, Any] | None = None) -> None:
    """A run of one epoch as its worker leaves it; value: on both splits."""
    run = Path(job["folder"])
    run.mkdir(parents=True)
    row = {"epoch": 1, "step": 4, VAL: value, "seconds_target": 0.01, "adapter_parameters": 10}
    (run / "config.yaml").write_text(dump_yaml(parse_config(job["config"], "test")))
    write_record(run / "provenance.json", provenance or {})
    (run / "epochs.jsonl").write_text(json.dumps(row) + "\n")
    done = {"error": None, "epochs_done": 1, "epochs_sha256": epochs_hash([row]), "best_epoch": 1, "metric": VAL}
    status = "finished" if state == "complete" else "failed"
    write_record(run / "result.json", done | {"status": status, VAL: value, TEST: value})
    error = None if state == "complete" else "it diverged"
    write_trial_file(run, trial_values(job, state, error))
