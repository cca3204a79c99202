"""The recipe of a run: every setting that its results depend on, by dotted path, and what differs between recipes.

Left out is what the run's method does not read (of no transfer all about source and transfer), what changes the last
bits only (threads, device), and where things lie (a folder may be moved: provenance.json has the hashes of the data).
Seeds are written out: a network's own is the run's where it has none.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.names import portable_config
from analysis.tables.formatting import setting
from analysis.tables.load import canonical
from mergenet.config import Config
from mergenet.config.choices import unused_settings
from mergenet.config.json_schema import suggestions
from mergenet.config.loading import field_table, parse_config
from mergenet.errors import UserError
from mergenet.records.inputs import CODE, DATA, WEIGHTS, changes
from mergenet.records.run_record import CONFIG_FILE, read_mapping, read_provenance

Recipe = Mapping[str, Any]

PAIR_KEY = ("seed", "target.seed", "target.data.split_seed")  # runs that agree in these are a pair
SEEDS = (*PAIR_KEY, "source.seed", "source.data.split_seed")  # may vary within a side
APART = ("name", "device", "threads", "source.recording", "source.max_gib", "source.data.root", "target.data.root")
# what is learned, and from what: never compared unless it is named
TASK = ("target.task", "target.data.")


def read_recipe(run: Path) -> dict[str, Any]:
    """The recipe of a run folder. Raises UserError if its configuration cannot be read."""
    file = run / CONFIG_FILE
    return recipe(parse_config(read_mapping(file), str(file)))


def recipe(config: Config) -> dict[str, Any]:
    values = dict(flat(portable_config(config.model_dump(mode="json"))))
    for seed in ("source.seed", "target.seed"):
        values[seed] = config.seed if values[seed] is None else values[seed]
    unused = unused_settings(config.method)
    if config.source.kind == "self":  # the source is the target
        unused = (*unused, *(path for path in values if path.startswith("source.") and path != "source.kind"))
    return {path: value for path, value in values.items() if path not in APART and not path.startswith(unused)}


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting with its dotted path; a list, such as that of the pairs, is one value."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def varying(recipes: Sequence[Recipe], leave_out: Iterable[str] = SEEDS) -> list[str]:
    """The settings in which recipes differ, in their order, of those that at least two of them have.

    Methods that distil have settings of their own under the same names, which are not counted beside the method.
    """
    paths = dict.fromkeys(path for recipe in recipes for path in recipe if path not in set(leave_out))
    found = [path for path in paths if len({canonical(r[path]) for r in recipes if path in r}) > 1]
    return [path for path in found if "method" not in found or not path.startswith("distillation.")]


def other_inputs(first: Path, second: Path, compared: Iterable[str]) -> list[str]:
    """What else two runs depend on, by the hashes of their provenance, and differ in: data, code, starting weights.

    compared: settings whose own data or weights are expected to differ.
    """
    kinds = {
        "source's": ("source.",),
        "target's": ("target.data", "target.task", "target.model"),
        "adapter's": ("transfer.adapter.init",),
    }
    expected = {word for path in compared for word, starts in kinds.items() if path.startswith(starts)}
    found = changes(read_provenance(first), read_provenance(second), (DATA, CODE, WEIGHTS))
    return [change for change in found if change.partition(" ")[0] not in expected]


def check_settings(names: Iterable[str]) -> list[str]:
    """The names, which must be full paths of settings that can be compared. Raises UserError for another."""
    known = {field.path for field in field_table()}
    for name in names:
        if name not in known:
            near = [path for path in suggestions([], name) if path in known]
            hint = f"did you mean {' or '.join(near)}?" if near else "`mergenet train --help` lists them"
            raise UserError(f"by (--by) must be a setting of a training, got {name!r}; {hint}")
        if name in (*PAIR_KEY, *APART):
            rule = "runs pair by it" if name in PAIR_KEY else "no result depends on it but for its last bits"
            raise UserError(f"by (--by) must be a setting to compare, got {name!r}: {rule}")
    return list(names)


def in_words(path: str, values: Iterable[Any], most: int = 4) -> str:
    """`transfer.t_cycle (4, 8)`"""
    texts = list(dict.fromkeys(map(setting, values)))
    more = f", ... ({len(texts)} values)" if len(texts) > most else ""
    return f"{path} ({', '.join(texts[:most])}{more})"
