"""The training configuration that a sweep varies. Messages name the keys of the sweep file."""

from mergenet.config import Config
from mergenet.config.loading import parse_config, read_values, set_by_path
from mergenet.config.messages import printable
from mergenet.errors import ConfigError
from sweeps.config.schema import SweepConfig


def load_base(sweep: SweepConfig) -> Config:
    """`base` with the changes of `set`. Raises ConfigError."""
    try:
        values, origin = read_values(sweep.base)
    except ConfigError as error:
        raise ConfigError(_about_base(str(error), sweep.base)) from None
    for path, value in sweep.overrides.items():
        try:
            set_by_path(values, path, value)
        except ConfigError as error:
            raise ConfigError(f"set.{error}") from None
    try:
        config = parse_config(values, origin)
    except ConfigError as error:
        lines = [_about_set(line, list(sweep.overrides), origin) for line in str(error).splitlines()]
        raise ConfigError("\n".join(lines)) from None
    if config.method == "none":
        where = "set.method" if "method" in sweep.overrides else "method of the base"
        raise ConfigError(f"{where} must be mergenet, got 'none'; the sweep runs the no-transfer baseline itself")
    return config


def _about_base(message: str, base: str) -> str:
    """`nowhere.yaml must be a file; ...` -> `base must be a file, got 'nowhere.yaml'; ...`."""
    for name in ("the preset must ", f"{printable(base)} must "):
        if message.startswith(name):
            rule, semicolon, way_out = message.removeprefix(name).partition("; ")
            got = f" (in {printable(base)})" if ", got" in rule else f", got {printable(base)!r}"
            return f"base must {rule}{got}{semicolon}{way_out}"
    return f"base: {message}"  # errors in its YAML; the message names file and line


def _about_set(line: str, paths: list[str], origin: str) -> str:
    """A problem with a value from `set` starts with "set."; any other is one of the base itself."""
    name = line.partition(" ")[0]
    if any(name == path or name.startswith(f"{path}.") for path in paths):
        return f"set.{line.removesuffix(f' (in {origin})')}"
    return line
