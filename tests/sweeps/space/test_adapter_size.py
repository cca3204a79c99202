"""The parameters of adapters from shapes alone are those of the adapters that a run builds."""

from typing import Any

import pytest

from mergenet.errors import ConfigError
from mergenet.training.trainer import Trainer
from sweeps.space.adapter_size import adapter_parameters, adapter_sizes, check_size
from sweeps.space.layer_choices import with_limits
from tests.sweeps.base import CONV, HEAD, base_config, base_values, space_of

RANK = "transfer.adapter.rank"
FIRST = {"source": "conv1", "target": "features.0.0"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"adapter": {"kind": "full_matrix"}},
        {"adapter": {"rank": 3, "encoding": "factorized", "learned_gate": True}},
        {"pairs": [CONV | {"direction": "both"}, HEAD], "control": "none"},
        {"pairs": [FIRST | {"direction": "both"}, HEAD], "adapter": {"kind": "linear"}},
        {"pairs": [CONV], "align": "outputs", "adapter": {"kind": "linear", "width": 3, "depth": 1}},
        {"pairs": [CONV | {"align": "inputs", "direction": "both"}, HEAD | {"align": "none"}]},
        {"pairs": [FIRST], "adapter": {"kind": "full_matrix", "start": "identity"}},
    ],
)
def test_they_are_those_of_the_real_run(changes: dict[str, Any]) -> None:
    config = base_config(transfer=base_values()["transfer"] | changes)
    assert adapter_parameters(config) == Trainer(config).transfer.num_parameters > 0


def test_other_methods_have_none() -> None:
    assert adapter_parameters(base_config(method="none")) == 0


def test_sizes_of_a_space_keep_to_ranks_that_fit() -> None:
    space = with_limits(space_of({"transfer.pairs": {"choice": [[CONV], [HEAD]]}, RANK: {"int": [2, 500]}}))
    sizes = adapter_sizes(space)
    assert sizes is not None
    assert sizes[0] == adapter_parameters(space.config({"transfer.pairs": label(HEAD), RANK: 2}))
    check_size(space, {"adapter_parameters": {"min": None, "max": sizes[0]}})
    check_size(space, {"adapter_parameters": {"min": sizes[-1], "max": None}})
    with pytest.raises(ConfigError, match=rf"adapter_parameters >= {sizes[-1] + 1} must be possible in the search"):
        check_size(space, {"adapter_parameters": {"min": sizes[-1] + 1, "max": None}})


def test_a_window_between_the_ends_of_a_range_is_possible() -> None:
    space = with_limits(space_of({RANK: {"int": [2, 16], "step": 5}}))  # 2, 7 and 12
    fewest, middle, most = (adapter_parameters(space.config({RANK: rank})) for rank in (2, 7, 12))
    assert adapter_sizes(space) == [fewest, most]
    check_size(space, {"adapter_parameters": {"min": middle - 1, "max": middle + 1}})
    none_between = rf" >= {middle + 1} and adapter_parameters <= {middle + 2} must be possible .* none between that"
    with pytest.raises(ConfigError, match=none_between):
        check_size(space, {"adapter_parameters": {"min": middle + 1, "max": middle + 2}})


def test_a_space_with_too_many_choices_is_not_counted() -> None:
    many = {f"transfer.adapter.{name}": {"int": [1, 9]} for name in ("rank", "depth", "heads", "width")}
    many |= {"transfer.adapter.mlp_ratio": {"float": [0.1, 2]}, "transfer.adapter.gate": {"float": [0.1, 0.2]}}
    many |= {"transfer.control": {"choice": ["real", "shuffled", "noise", "none"]}}
    many |= {"transfer.adapter.learned_gate": {"choice": [True, False]}}
    many |= {
        "transfer.adapter.kind": {"choice": ["lpka", "full_matrix"]},
        "transfer.adapter.dropout": {"float": [0, 0.5]},
    }
    assert adapter_sizes(space_of(many)) is None


def label(pair: dict[str, str]) -> str:
    return f"{pair['source']}>{pair['target']}"
