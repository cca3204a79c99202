"""Runs that stand beside each other and do not come from the same code or the same data."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from mergenet.errors import CheckpointError
from mergenet.records.inputs import CODE, DATA, MOST, short
from mergenet.records.run_record import CONFIG_FILE, PROVENANCE_FILE, read_mapping, read_provenance

Runs = dict[str, list[str]]  # hash -> names of run folders


def mixed_inputs(folders: Iterable[Path]) -> list[str]:
    """A line for each of the user's modules, and each data set, that changed between the runs in the folders.

    Data are compared between runs whose configuration asks for the same. A run whose record cannot be read, or that
    has no hashes, is left out.
    """
    code: dict[str, Runs] = defaultdict(lambda: defaultdict(list))
    data: dict[str, dict[Path, str]] = defaultdict(dict)
    for folder in folders:
        try:
            origin = read_provenance(folder) if (folder / PROVENANCE_FILE).is_file() else {}
        except CheckpointError:
            continue
        for module, sha256 in (origin.get(CODE) or {}).items():
            code[module][sha256].append(folder.name)
        for role, sha256 in (origin.get(DATA) or {}).items():
            data[role][folder] = sha256
    lines = [_line(f"the code of {module}", runs) for module, runs in sorted(code.items()) if len(runs) > 1]
    for role, hashes in sorted(data.items()):
        if len(set(hashes.values())) > 1:
            alike = _alike(role, hashes)
            lines += [_line(f"{role}'s data", runs) for runs in alike if len(runs) > 1]
    return lines


def _alike(role: str, hashes: dict[Path, str]) -> list[Runs]:
    """Runs by hash, for each data set that a configuration asks for."""
    asked: dict[str, Runs] = defaultdict(lambda: defaultdict(list))
    for folder, sha256 in hashes.items():
        try:
            network = read_mapping(folder / CONFIG_FILE).get(role, {})
        except CheckpointError:
            continue
        asked[repr((network.get("task"), network.get("data")))][sha256].append(folder.name)
    return list(asked.values())


def _line(what: str, runs: Runs) -> str:
    found = [f"{short(sha256)} in {_names(names)}" for sha256, names in runs.items()]
    return f"{what} changed between runs, so they cannot be compared: {', '.join(found)}"


def _names(names: list[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return f"{' '.join(sorted(names)[:MOST])}{more}"
