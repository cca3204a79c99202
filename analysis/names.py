"""Names of files, roles and states of a sweep's runs, and the order of trials: for writing and reading records."""

from typing import Any

from mergenet.records.run_record import is_loss

POINTS = 100.0  # metrics are fractions; 1 point = 0.01
SWEEP_FILE = "sweep.yaml"
BASE_FILE = "base.yaml"
ABLATION_FILE = "ablation.yaml"  # in the folder of an ablation, or of a confirmation, in the place of sweep.yaml
STATE_FILE = "sweep.json"
RECORDS = (SWEEP_FILE, BASE_FILE, ABLATION_FILE, STATE_FILE, "summary.json")  # in a sweep's folder
UNKNOWN = f"unknown, {STATE_FILE} is damaged"  # in place of its status
TRIALS_FOLDER = "trials"

# roles of a sweep's jobs; RUN: a run folder of no sweep; REPLICATE: another seed of a trial or of the baseline;
# ADAPTER: the best again with one seed after another, each starting from the adapter of the one before
SOURCE, TRIAL, BASELINE, RUN = "source", "trial", "baseline", "run"
REPLICATE, ADAPTER = "replicate", "adapter"
CONFIRM_BEST, CONFIRM_NONE = "confirm_best", "confirm_none"
# the best with a transfer.control other than real: role -> control. Control none still has an adapter, which is shown
# the target's own factor; confirm_none has no transfer at all
CONTROL_PATH = "transfer.control"
CONTROL_OF = {"confirm_shuffled": "shuffled", "confirm_noise": "noise", "confirm_control_none": "none"}
CONFIRM_ADAPTER = "confirm_adapter"  # the best, started with the adapter of the last of role ADAPTER
ADAPTER_PATH = "transfer.adapter.init"
CONFIRM_ROLES = (CONFIRM_BEST, CONFIRM_NONE, CONFIRM_ADAPTER, *CONTROL_OF)
ROLES = (TRIAL, RUN, REPLICATE, BASELINE, ADAPTER, *CONFIRM_ROLES)  # in the order that tables show them

# states; a run's own result.json calls the first "finished"
COMPLETE, PRUNED, FAILED, RUNNING = "complete", "pruned", "failed", "running"


def mode_of(metric: str) -> str:
    """Direction of a metric: "max", or "min" for a loss."""
    return "min" if is_loss(metric) else "max"


def best_first(value: float, mode: str, parameters: float, number: int) -> tuple[float, float, int]:
    """Sort key, best first: by validation; of equals fewer adapter parameters, then the earlier trial.

    value: of the metric; mode: its direction, "max" or "min". number: the order in which trials were drawn.
    """
    return -value if mode == "max" else value, parameters, number


def portable_config(config: dict[str, Any]) -> dict[str, Any]:
    """The same training without the recording: a recorded source becomes the live one that it replays.

    Bit for bit, unless `source.record_every` or `record_dtype` say otherwise.
    """
    source = config.get("source") or {}
    if source.get("kind") != "recorded":
        return config
    return {**config, "source": {**source, "kind": "live", "recording": None}}
