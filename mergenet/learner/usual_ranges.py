"""Settings far outside what networks usually train with: the first to be blamed for a training that diverged. [ours]

The bounds are generous: above them stable training is the exception, below them another cause is as likely.
"""

from collections.abc import Iterator

from mergenet.config.choices import PUBLISHED
from mergenet.config.schema import Config

MAX_LR = {"sgd": 1.0, "adamw": 0.02}
MAX_DECAY = {"sgd": 0.05, "adamw": 1.0}
MAX_MOMENTUM = 0.99
MAX_ADAPTER_LR = 0.05
MAX_OF_PUBLISHED = 10.0  # distillation.weight, in published weights of its method
MIN_TEMPERATURE = 0.05


def out_of_range(config: Config) -> list[str]:
    """What to do about each such setting: its path, its value and where its range ends; the worst first."""
    found = [
        (value / most, f"lower {path} ({value:g}, usual is up to {most:g})") for path, value, most in _high(config)
    ]
    found += [
        (least / value, f"raise {path} ({value:g}, usual is from {least:g})") for path, value, least in _low(config)
    ]
    return [text for excess, text in sorted(found, reverse=True) if excess > 1]


def cure(config: Config, otherwise: str) -> str:
    """What to change after a training that diverged. otherwise: if every setting is within its usual range."""
    return " and ".join(out_of_range(config)) or otherwise


def _high(config: Config) -> Iterator[tuple[str, float, float]]:
    """Path, value and upper bound of each setting that has one and that this run uses."""
    trained = ("target", "source") if config.method != "none" and config.source.kind == "live" else ("target",)
    for role in trained:
        optimizer = getattr(config, role).optimizer
        yield f"{role}.optimizer.lr", optimizer.lr, MAX_LR[optimizer.name]
        yield f"{role}.optimizer.weight_decay", optimizer.weight_decay, MAX_DECAY[optimizer.name]
        if optimizer.name == "sgd":
            yield f"{role}.optimizer.momentum", optimizer.momentum, MAX_MOMENTUM
    if config.method == "mergenet":
        yield "transfer.update.lr", config.transfer.update.lr, MAX_ADAPTER_LR
    if config.method in PUBLISHED:
        settings = config.distillation.resolved(config.method)
        yield "distillation.weight", settings["weight"], MAX_OF_PUBLISHED * PUBLISHED[config.method]["weight"]


def _low(config: Config) -> Iterator[tuple[str, float, float]]:
    """As `_high`, with the lower bound."""
    if config.method in PUBLISHED and "temperature" in PUBLISHED[config.method]:
        yield "distillation.temperature", config.distillation.resolved(config.method)["temperature"], MIN_TEMPERATURE
