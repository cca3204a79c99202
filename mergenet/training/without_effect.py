"""Settings that were set and do nothing, or not what they seem to: lines for who begins a run or a sweep. [ours]

They are no errors: a base or a preset may hold what one of its methods or data sets does not read.
"""

from collections.abc import Iterator

from mergenet.config.choices import DATA_FILES, PUBLISHED, unread_settings
from mergenet.config.rules import shown
from mergenet.config.schema import Config
from mergenet.config.sections import NetworkConfig


def without_effect(config: Config) -> dict[str, str]:
    """Line -> the setting that decides whether it holds, such as `method`."""
    own = config.method != "none" and config.source.kind not in ("self", "recorded")
    networks = {"source": config.source, "target": config.target} if own else {"target": config.target}
    found = dict.fromkeys(_distillation(config), "method")
    for role, network in networks.items():
        found |= dict.fromkeys(_data(role, network), f"{role}.data.name")
        if role == "target" or config.source.kind == "live":
            found |= dict.fromkeys(_warmup(role, network, config.epochs), "epochs")
    return found


def _data(role: str, network: NetworkConfig) -> Iterator[str]:
    """Of a task of the user's that reads a data set of ours it is not known what it reads."""
    name, default = network.data.name, type(network.data)()
    for setting in () if ":" in network.task else unread_settings(name):
        if (value := getattr(network.data, setting)) != getattr(default, setting):
            way_out = f"; for files of your own set {role}.data.name={DATA_FILES[name]}" if setting == "root" else ""
            yield f"{role}.data.{setting} does nothing for data.name {name}, got {shown(value)}{way_out}"


def _distillation(config: Config) -> Iterator[str]:
    names = [f"distillation.{name}" for name, value in config.distillation if value is not None]
    if names and config.method not in PUBLISHED:
        verb = "does" if len(names) == 1 else "do"
        yield f"{', '.join(names)} {verb} nothing for method {config.method}, only for {', '.join(PUBLISHED)}"


def _warmup(role: str, network: NetworkConfig, epochs: int) -> Iterator[str]:
    if (warmup := network.optimizer.warmup_epochs) >= epochs:
        yield (
            f"{role}.optimizer.warmup_epochs is {warmup:g} of {epochs} epochs: the learning rate rises to the end, to "
            f"{epochs / warmup:.0%} of lr, and its schedule never begins; lower it"
        )
