"""The variant of a run: all that its results depend on but the seeds, as a hash and in words.

Runs of one variant are one recipe (`analysis/comparison/recipes.py`) with several seeds, whatever their names, folders
and roles: no transfer beside a search and on fresh seeds is one variant, and so is the best trial on fresh seeds.
"""

import hashlib
import json
from collections.abc import Iterable

from analysis.comparison.recipes import SEEDS, recipe
from analysis.names import ADAPTER_PATH, CONTROL_PATH
from analysis.tables.formatting import headers, setting
from analysis.tables.load import canonical
from mergenet.config import Config
from mergenet.records.provenance import adapter_file

DIGITS = 8


def variant(config: Config, varied: Iterable[str] = ()) -> str:
    """The name and the hash of a variant, such as `mergenet t_cycle=4 gate=0.3 #1f2e3d4c`.

    varied: dotted paths of the settings that the name shows, where the method reads them. A control of the transfer and
    an adapter to start with are always shown.
    """
    values = portable(config)
    shown = [path for path in dict.fromkeys(varied) if path in values and path != "method"]
    usual = {CONTROL_PATH: "real", ADAPTER_PATH: None}
    shown += [path for path, value in usual.items() if values.get(path, value) != value and path not in shown]
    words = [f"{name}={setting(values[path])}" for name, path in zip(headers(shown, shown), shown, strict=True)]
    return " ".join([config.method, *words, f"#{variant_hash(config)}"])


def variant_hash(config: Config) -> str:
    """First 8 hex digits of the SHA-256 of the recipe without its seeds, as canonical JSON; 8 and 8.0 are equal."""
    values = {path: canonical(value) for path, value in portable(config).items() if path not in SEEDS}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:DIGITS]


def portable(config: Config) -> dict[str, object]:
    """The recipe; an adapter to start with by the name of its run, because a folder may be moved."""
    values = recipe(config)
    if values.get(ADAPTER_PATH) is not None:
        values[ADAPTER_PATH] = adapter_file(values[ADAPTER_PATH]).parent.name
    return values
