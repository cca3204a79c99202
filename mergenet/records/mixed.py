"""Runs that stand beside each other and do not come from the same code or the same data."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

from mergenet.errors import CheckpointError
from mergenet.records.inputs import CODE, DATA, MOST, short
from mergenet.records.run_record import CONFIG_FILE, PROVENANCE_FILE, read_mapping, read_provenance

Runs = dict[str, list[str]]  # hash -> names of run folders


class Inputs(TypedDict):
    """Of one run: hashes of its code by module, of its data by role, and of what its configuration asks for by role."""

    code: dict[str, str]
    data: dict[str, str]
    asked: dict[str, str]


def inputs_of(provenance: Mapping[str, Any], config: Mapping[str, Any]) -> Inputs:
    """From what provenance.json and config.yaml hold."""
    data = provenance.get(DATA) or {}
    return {"code": provenance.get(CODE) or {}, "data": data, "asked": {role: _asked(config, role) for role in data}}


def mixed_inputs(folders: Iterable[Path], known: Mapping[Path, Inputs] | None = None) -> list[str]:
    """A line for each of the user's modules, and each data set, that changed between the runs in the folders.

    Data are compared between runs whose configuration asks for the same. A run whose record cannot be read, or that
    has no hashes, is left out. known: what was read already, of some of the folders.
    """
    known = known or {}
    code: dict[str, Runs] = defaultdict(lambda: defaultdict(list))
    data: dict[str, dict[Path, str]] = defaultdict(dict)
    for folder in folders:
        try:
            found = known[folder] if folder in known else inputs_of(_provenance(folder), {})
        except CheckpointError:
            continue
        for module, sha256 in found["code"].items():
            code[module][sha256].append(folder.name)
        for role, sha256 in found["data"].items():
            data[role][folder] = sha256
    lines = [_line(f"the code of {module}", runs) for module, runs in sorted(code.items()) if len(runs) > 1]
    for role, hashes in sorted(data.items()):
        if len(set(hashes.values())) > 1:
            alike = _alike(role, hashes, known)
            lines += [_line(f"{role}'s data", runs) for runs in alike if len(runs) > 1]
    return lines


def _provenance(folder: Path) -> dict[str, Any]:
    return read_provenance(folder) if (folder / PROVENANCE_FILE).is_file() else {}


def _alike(role: str, hashes: dict[Path, str], known: Mapping[Path, Inputs]) -> list[Runs]:
    """Runs by hash, for each data set that a configuration asks for."""
    asked: dict[str, Runs] = defaultdict(lambda: defaultdict(list))
    for folder, sha256 in hashes.items():
        try:
            what = known[folder]["asked"][role] if folder in known else _asked(read_mapping(folder / CONFIG_FILE), role)
        except CheckpointError:
            continue
        asked[what][sha256].append(folder.name)
    return list(asked.values())


def _asked(config: Mapping[str, Any], role: str) -> str:
    """A hash of the task and the data that a configuration names for a network."""
    network = config.get(role)
    what = (network.get("task"), network.get("data")) if isinstance(network, dict) else None
    return hashlib.sha256(repr(what).encode(errors="surrogatepass")).hexdigest()


def _line(what: str, runs: Runs) -> str:
    found = [f"{short(sha256)} in {_names(names)}" for sha256, names in runs.items()]
    return f"{what} changed between runs, so they cannot be compared: {', '.join(found)}"


def _names(names: list[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return f"{' '.join(sorted(names)[:MOST])}{more}"
