"""What an ablation is around: a configuration from a file, or the best of a sweep, and what that sweep tells of it."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.names import SWEEP_FILE
from mergenet.config import Config
from mergenet.config.json_schema import node_at, resolve
from mergenet.config.loading import load_config, set_by_path
from mergenet.config.yaml12 import load_yaml
from mergenet.errors import ConfigError
from mergenet.records.run_record import is_metric
from sweeps.config.loading import load_sweep
from sweeps.planning.plan import first_fresh_seed
from sweeps.space.conditions import countable
from sweeps.space.entry import Entry
from sweeps.space.space import SHARED, value_at
from sweeps.trials.files import BEST_FILE, read_summary
from sweeps.trials.jobs import with_seed
from sweeps.trials.recorded_source import pin_source
from sweeps.trials.sweep_dir import BASE_FILE, holds_sweep, how_to_begin, resume_command, status_of


@dataclass(frozen=True)
class Centre:
    """config: its seed is the first after those that chose it: of a file after its own, which in what a command wrote
    is the last of them. That of its source stays what it was, and its pairs are written out. name: of the ablation.
    search: the sweep's entries. sweep: the folder that it comes from.
    """

    config: Config
    name: str
    search: dict[str, Entry] = field(default_factory=dict)
    sweep: Path | None = None

    def pair_sd(self, metric: str) -> float | None:
        """Standard deviation of a pair's difference in the sweep's confirmation, in points; None without any."""
        compared = None if self.sweep is None else read_summary(self.sweep).get("confirmation")
        if compared is None or metric not in compared or not is_metric(metric) or len(compared["seeds"]) < 2:
            return None
        best, none = (compared[metric].get(side, []) for side in ("best", "none"))
        differences = [mine - theirs for mine, theirs in zip(best, none, strict=True)]
        return 100 * statistics.stdev(differences) if len(differences) > 1 else None


def mirror_of(centre: Centre, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The mirror on W&B: what is given, else as that of the sweep, whose best network is not uploaded again."""
    own = {} if centre.sweep is None else load_sweep(str(centre.sweep / SWEEP_FILE)).wandb.model_dump(mode="json")
    return {key: value for key, value in own.items() if key != "log_model"} | dict(given or {})


def load_centre(what: str, overrides: Sequence[str] = ()) -> Centre:
    """what: a sweep folder, for its best trial; a YAML file or a preset. overrides: `a.b=c`, as for a training.

    Raises ConfigError.
    """
    folder = Path(what)
    if folder.is_dir():
        if not holds_sweep(folder):
            raise ConfigError(
                f"{what} must be a sweep folder, a YAML file or a preset to have a centre; {how_to_begin(folder)}"
            )
        if not (folder / BEST_FILE).is_file():
            raise ConfigError(
                f"{what} must be a sweep with a best trial, got none yet (status: {status_of(folder)}); "
                f"`{resume_command(folder)}` goes on with it"
            )
        return _of_sweep(folder, folder / BEST_FILE, overrides)
    if folder.name == BEST_FILE and holds_sweep(folder.parent):
        return _of_sweep(folder.parent, folder, overrides)
    config = load_config(what, overrides)
    first = first_fresh_seed(config.model_dump(mode="json"))
    return Centre(placed(config, first), f"{config.name}-ablation"[:100])


def _of_sweep(folder: Path, best: Path, overrides: Sequence[str]) -> Centre:
    sweep = load_sweep(str(folder / SWEEP_FILE))
    base = load_config(str(folder / BASE_FILE)).model_dump(mode="json")
    first = first_fresh_seed(base, sweep.seeds_per_trial)  # that of its confirmation, whose runs can be reused
    config = load_config(str(best), overrides)
    return Centre(placed(config, first), f"{sweep.name}-ablation"[:100], dict(sweep.search), folder.absolute())


def placed(config: Config, seed: int) -> Config:
    """The configuration with this seed for all but its source, and with its pairs and their layers written out."""
    from mergenet.transfer.pairs import write_pairs  # torch

    written = write_pairs(config)
    return Config.model_validate(with_seed(pin_source(written.model_dump(mode="json")), seed))


def factors(
    centre: Centre, names: Sequence[str], given: Mapping[str, Sequence[Any]], defaults: bool
) -> dict[str, tuple[Any, ...]]:
    """Path -> its values. names: of those whose values are to be found. given: those that are named with values.

    defaults: also what the sweep searched, as far as its values can be listed. Raises ConfigError.
    """
    listed = [path for path, entry in centre.search.items() if entry.layers is None] if defaults else []
    paths = dict.fromkeys([*names, *given, *listed])
    for path in paths:
        check_factor(path)
    return {path: tuple(given[path]) if path in given else default_values(centre, path) for path in paths}


def check_factor(path: str) -> None:
    """Raises ConfigError for a path that the schema lacks, or that all runs must share."""
    if path in SHARED:
        raise ConfigError(
            f"factors (--factors) must not hold {path}, which all variants share; change the centre with --set"
        )
    try:
        set_by_path({}, path, None)
    except ConfigError as error:
        raise ConfigError(f"factors (--factors): {error}") from None


def default_values(centre: Centre, path: str) -> tuple[Any, ...]:
    """Values of a factor for which none are given: those that the sweep could draw, else neighbours of the centre's.

    A range is its ends and its middle, of a logarithmic one the geometric; a number of the centre is halved and
    doubled; of names all others are tried. Raises ConfigError where none of that is possible.
    """
    if path in centre.search and centre.search[path].layers is None:
        return entry_values(centre.search[path])
    own, node = value_at(centre.config.model_dump(mode="json"), path), resolve(node_at(path.split(".")) or {})
    if isinstance(own, bool):
        return (not own,)
    if "enum" in node:
        return tuple(value for value in node["enum"] if value != own)
    if isinstance(own, int) and own > 0:
        return tuple(dict.fromkeys([max(1, own // 2), own * 2]))
    if isinstance(own, float) and own > 0:
        return own / 2, own * 2
    raise ConfigError(
        f"{path} must get its values, got a factor that is {'null' if own is None else repr(own)[:60]} at the centre; "
        f"add values={{{path!r}: [...]}} (--values {path}=A,B)"
    )


def entry_values(entry: Entry) -> tuple[Any, ...]:
    if entry.bounds is None:
        return entry.listed
    whole = countable(entry)
    low, high = (whole[0], whole[-1]) if whole else entry.bounds
    middle = (low * high) ** 0.5 if entry.log else (low + high) / 2
    if whole:
        step = entry.step or 1
        return tuple(dict.fromkeys([low, low + round((middle - low) / step) * step, high]))
    return low, float(f"{middle:.4g}"), high


def parse_values(text: str) -> tuple[str, list[Any]]:
    """`a.b=1,4,16` -> (a.b, [1, 4, 16]); each value is read as YAML, a list in brackets. Raises ConfigError."""
    path, equals, rest = text.partition("=")
    if not equals or not path.strip() or not rest.strip():
        raise ConfigError(f"--values must be PATH=VALUE,VALUE, got {text[:60]!r}; for example transfer.t_cycle=1,4,16")
    values = load_yaml(f"[{rest}]", f"--values {path.strip()}")
    assert isinstance(values, list)
    return path.strip(), values
