"""A sweep folder's sweep.yaml as plain values, and what of it was edited since the sweep last began or went on.

The same of a folder of `mergenet sweep confirm`, which holds the confirmation of a sweep.
"""

import shlex
from pathlib import Path
from typing import Any

from analysis.names import ABLATION_FILE, STATE_FILE, SWEEP_FILE
from mergenet.config.yaml12 import dump_yaml_values, load_yaml
from mergenet.errors import CheckpointError, UserError
from mergenet.records.sealed import read_record

SETTINGS = "settings"  # in sweep.json: sweep.yaml as it was then
SEEDS_KEY = "seeds_per_trial"
# Keys that stay as the sweep began: what earlier trials mean depends on them, or base.yaml and the study hold what
# they say. With the sampler top_k these, too, which decide which trials are short.
FIXED = (SEEDS_KEY, "constraints", "base", "set", "warm_start")
OF_TOP_K = ("num_trials", "sampler", "top_k")


def read_sweep_file(folder: Path) -> dict[str, Any]:
    """sweep.yaml; empty if there is none. Raises UserError if it is damaged."""
    path = folder / SWEEP_FILE
    if not path.is_file():
        return {}
    values = load_yaml(path.read_text(encoding="utf-8", errors="replace"), str(path))
    if not isinstance(values, dict):
        raise UserError(f"{path} must be a sweep file, a mapping; the file is damaged")
    return values


def read_confirmation(folder: Path) -> dict[str, Any]:
    """ablation.yaml of a folder of `mergenet sweep confirm`; empty of any other folder, or if it is damaged."""
    try:
        values = load_yaml((folder / ABLATION_FILE).read_text(encoding="utf-8"), ABLATION_FILE)
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) and values.get("top") is not None else {}


def edited_settings(folder: Path) -> list[str]:
    """A line that names the keys of sweep.yaml that were edited since the sweep last began or was resumed; or none."""
    edits = edits_of(folder)
    if not edits:
        return []
    since = f"{folder / SWEEP_FILE} was edited since the sweep last began or was resumed"
    refused = list(refused_edits(folder))
    goes_on = "goes on by it" if not refused else f"goes on once {', '.join(refused)} is put back"
    return [f"{since}: {', '.join(edits.values())}; `mergenet sweep resume {shlex.quote(str(folder))}` {goes_on}"]


def edits_of(folder: Path) -> dict[str, str]:
    """The edits alone, such as "num_trials (4 became 8)", by key.

    A sweep of an earlier version did not write down what it began with, and then there are none.
    """
    now, then = read_sweep_file(folder), _settings(folder)
    if not now or then is None:
        return {}
    names = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
    return {name: f"{name} ({_edit(then.get(name), now[name]) if name in now else 'taken out'})" for name in names}


def refused_edits(folder: Path) -> dict[str, str]:
    """Those of them with which a sweep cannot go on."""
    short = "top_k" in (values.get("sampler") for values in (read_sweep_file(folder), _settings(folder) or {}))
    fixed = (*FIXED, *OF_TOP_K) if short else FIXED
    return {name: edit for name, edit in edits_of(folder).items() if name in fixed}


def _settings(folder: Path) -> dict[str, Any] | None:
    """None if sweep.json has none, or is damaged."""
    try:
        found = read_record(folder / STATE_FILE).get(SETTINGS)
    except CheckpointError:
        return None
    return found if isinstance(found, dict) else None


def _edit(then: Any, now: Any) -> str:
    if any(isinstance(value, dict | list) for value in (then, now)):
        return "edited"
    return " became ".join(dump_yaml_values([value]).strip().removeprefix("- ") for value in (then, now))
