"""The metrics of a run's network, computed again from what is on disk and compared with what the run recorded.

What is evaluated and exported must be the network that was trained. On the same data a difference that rounding does
not explain says that it is not, and is an error:

* on one machine, CPU and version of torch the same operations run again: losses agree but for the order of sums, 1e-5
  of their size, and a metric may differ by one example whose two best answers are equal to the last bit;
* elsewhere, and on GPUs, which choose kernels by the memory that is free, products may be rounded to TF32's 11 bits
  (2^-11 = 5e-4): losses agree to 2e-3 of their size, metrics but for near ties, 0.5 % of the examples or two of them.
"""

import math
import shlex
import warnings
from pathlib import Path
from typing import Any

import torch

from mergenet.config import Config
from mergenet.config.loading import load_config
from mergenet.errors import CheckpointError, ConfigError, DataError
from mergenet.export.target import Target, load_target, without_weights
from mergenet.learner.learner import Learner, set_up
from mergenet.models.sharing import kept_shared
from mergenet.records.provenance import elsewhere
from mergenet.records.run_record import (
    BEST_EPOCH,
    BEST_FILE,
    CONFIG_FILE,
    EPOCH,
    EPOCHS_FILE,
    FINISHED,
    PROVENANCE_FILE,
    RUNNING,
    STATUS,
    RunRecord,
    is_loss,
    read_run,
)
from mergenet.tasks import Task


def evaluate_run(folder: Path, split: str) -> dict[str, float]:
    """Metrics (means over examples) of the target at its best epoch, on "val" or "test".

    They equal the recorded ones on the same machine: same batches, same order, same code.
    Raises CheckpointError if the folder holds no such run, and if they differ by more than rounding. Warns if the data
    or the user's modules have changed since.
    """
    assert split in ("val", "test"), split
    record = _read(folder)
    config = load_config(str(folder / CONFIG_FILE))
    return measure(record, config, load_target(folder), split)[1]


def _read(folder: Path) -> RunRecord:
    """`read_run`, with the way out where the epochs are damaged."""
    try:
        return read_run(folder)
    except CheckpointError as error:
        if not str(error).startswith(str(folder / EPOCHS_FILE)):
            raise
        again = shlex.join(["mergenet", "train", str(folder / CONFIG_FILE), "--out", str(folder)])
        raise CheckpointError(f"{error}; `{again}` makes it again") from None


def check_recorded(folder: Path, target: Target) -> Task | None:
    """Measures the network that is to be exported where the run is over; its task, with the data, if they are here.

    Raises CheckpointError as `evaluate_run`. Warns where the data are not here.
    """
    if not (folder / PROVENANCE_FILE).is_file():
        return None
    record = _read(folder)
    if record.result[STATUS] == RUNNING or record.result[BEST_EPOCH] is None:
        return None
    config = load_config(str(folder / CONFIG_FILE))
    try:
        config = on_this_machine(config)
        return measure(record, config, target, "test" if record.result[STATUS] == FINISHED else "val")[0]
    except (ConfigError, DataError) as error:
        warnings.warn(
            f"the network of {folder} is exported without being measured again, its data cannot be had: {error}",
            stacklevel=3,
        )
        return None


def on_this_machine(config: Config) -> Config:
    """The same on the CPU where the run's device is not here."""
    try:
        set_up(config)
    except ConfigError:
        return config.model_copy(update={"device": "cpu"})
    return config


def measure(record: RunRecord, config: Config, target: Target, split: str) -> tuple[Task, dict[str, float]]:
    """The target's task, and its metrics on a split, which are those that the run recorded.

    The network itself is measured, and is on the CPU again then: another one that is built from its state may compute
    with what no state dict holds.
    """
    device = set_up(config)
    # the run's starting weights may be gone, and are not needed
    model = without_weights(config.target.model, record.folder)
    with kept_shared(target.network):
        own = config.target.model_copy(update={"model": model})
        learner = Learner("target", own, config, device, network=target.network)
        values = learner.evaluate(split)
        if learner.layout is not None:
            learner.layout.remove()
        placed: Any = target.network.to("cpu")  # torch's stubs do not know the memory format
        placed.to(memory_format=torch.contiguous_format)
    if record.provenance.get("data_hashes", {}).get("target") != learner.task.data_hash:
        warnings.warn(f"the data differ from those that {record.folder} was trained on", stacklevel=3)
    else:
        same = device.type == "cpu" and not elsewhere(record.provenance, config.device)
        compare(record, split, values, learner.task.size(split), same)
    return learner.task, values


def compare(record: RunRecord, split: str, values: dict[str, float], size: int, same: bool) -> None:
    """Raises CheckpointError if a value is not the recorded one. same: on the machine that recorded it."""
    known = recorded(record, split)
    for name, value in values.items():
        column = f"target_{split}_{name}"
        before = known.get(column)
        if before is None or value == before or (math.isnan(value) and math.isnan(before)):
            continue
        if is_loss(name):
            allowed = (1e-5 if same else 2e-3) * max(1.0, abs(before))
        else:
            allowed = 1 / size if same else max(0.005, 2 / size)
        if not abs(value - before) <= allowed * (1 + 1e-9):  # written so that NaN fails
            raise CheckpointError(
                f"{record.folder / BEST_FILE} gives {column} {value:.6g}, where the run recorded {before:.6g} on the "
                f"same data (rounding explains {allowed:.2g}): it is not the network that was trained; if its code "
                "was changed since, bring it back; if it computes with tensors that are not in its state_dict, "
                "make them buffers (register_buffer) and train again"
            )


def recorded(record: RunRecord, split: str) -> dict[str, Any]:
    """The values of the best epoch; none of a run that may be writing them just now, or that has not come so far."""
    if record.result[STATUS] == RUNNING:
        return {}
    if split == "test":
        return record.result
    return next((row for row in record.epochs if row[EPOCH] == record.result[BEST_EPOCH]), {})
