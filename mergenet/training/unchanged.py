"""Whether code, data and starting weights are still those that recorded numbers come from."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from mergenet.config import Config
from mergenet.errors import UserError
from mergenet.records.inputs import CODE, DATA, WEIGHTS, Hashes, check_unchanged, code_hashes
from mergenet.records.provenance import weights_hashes
from mergenet.records.run_record import PROVENANCE_FILE, read_provenance
from mergenet.tasks import build_task


def data_hashes(config: Config) -> dict[str, str]:
    """Role -> SHA-256 of its data as they are now; loads them. Not of a source that is recorded: it needs none."""
    found = {"target": build_task(config.target).data_hash}
    if config.method != "none" and config.source.kind != "recorded":
        own = config.source.kind != "self"
        found["source"] = build_task(config.source).data_hash if own else found["target"]
    return found


def check_finished(config: Config, folder: Path) -> None:
    """`check_inputs` of a finished run."""
    if (folder / PROVENANCE_FILE).is_file():
        first = read_provenance(folder)
        code = code_hashes(config, known=first.get(CODE) or ())
        check_inputs(folder / PROVENANCE_FILE, first, config, code)


def check_inputs(record: Path, first: Hashes, config: Config, code: Mapping[str, str]) -> None:
    """Raises CheckpointError if training would give other numbers now; warns of what cannot be read any more.

    first: what the numbers in a folder come from; record: the file that has it. code: hashes of the user's modules
    now. The data are loaded.
    """
    check_unchanged(record, first, {CODE: code})
    looks: dict[str, Callable[[], dict[str, str]]] = {
        DATA: lambda: data_hashes(config),
        WEIGHTS: lambda: weights_hashes(config),
    }
    for kind, look in looks.items():
        if not first.get(kind):
            continue
        try:
            now = look()
        except UserError as error:
            what = kind.partition("_")[0]
            warnings.warn(f"whether the {what} of {record.parent} have changed since is unknown: {error}", stacklevel=2)
        else:
            check_unchanged(record, first, {kind: now})
