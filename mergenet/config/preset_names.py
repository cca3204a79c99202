"""The configurations that ship with the package, by name."""

from pathlib import Path

PRESETS = Path(__file__).parent / "presets"


def presets() -> list[str]:
    """Names of the configurations that ship with the package."""
    return sorted(file.stem for file in PRESETS.glob("*.yaml"))
