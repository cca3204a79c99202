"""The metrics of a run's network, computed again from what is on disk."""

import warnings
from pathlib import Path

from mergenet.config.loading import load_config
from mergenet.export.formats import load_target, without_weights
from mergenet.learner.learner import Learner, set_up
from mergenet.records.run_record import CONFIG_FILE, read_run


def evaluate_run(folder: Path, split: str) -> dict[str, float]:
    """Metrics (means over examples) of the target at its best epoch, on "val" or "test".

    They equal the recorded ones on the same machine: same batches, same order, same code.
    Raises CheckpointError if the folder holds no such run. Warns if the data or the user's modules have changed since.
    """
    assert split in ("val", "test"), split
    record = read_run(folder)
    config = load_config(str(folder / CONFIG_FILE))
    device = set_up(config)
    weights = load_target(folder).network.state_dict()
    # the run's starting weights may be gone, and are not needed
    model = without_weights(config.target.model, folder)
    learner = Learner("target", config.target.model_copy(update={"model": model}), config, device)
    learner.network.load_state_dict(weights)
    if record.provenance.get("data_hashes", {}).get("target") != learner.task.data_hash:
        warnings.warn(f"the data differ from those that {folder} was trained on", stacklevel=2)
    return learner.evaluate(split)
