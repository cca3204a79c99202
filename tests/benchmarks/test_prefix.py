"""A trial forked where its first transfer is due ends as the same trial trained alone."""

import copy
from typing import Any

import pytest
import torch

from benchmarks import prefix
from mergenet.training.trainer import Trainer
from tests.tiny import tiny_config

pytestmark = pytest.mark.usefixtures("tiny")
START = {"epochs": 4, "transfer.start_step": 14}  # of 7 steps an epoch


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"transfer.adapter.encoding": "factorized"},
        {"transfer.pairs": [{"source": "3", "target": "9", "direction": "both"}]},
        {"source.kind": "self", "transfer.pairs": [{"source": "0", "target": "3"}], "transfer.adapter.rank": 2},
    ],
)
def test_a_fork_is_bitwise_the_trial_alone(changes: dict[str, Any]) -> None:
    donor = Trainer(tiny_config({**START, **changes, "transfer.adapter.gate": 0.3}))
    for _ in range(2):
        donor._epoch()
    state = copy.deepcopy(donor.state_dict())
    config = tiny_config({**START, **changes, "transfer.adapter.gate": 0.1, "transfer.t_cycle": 3})
    alone, forked = Trainer(config), Trainer(config)
    rows, _ = prefix.trained(alone)
    prefix.fork(forked, state)
    rest, _ = prefix.trained(forked)
    assert rest == rows[2:]
    assert rest[-1]["num_transfers"] > 0
    for name, weight in alone.target.network.state_dict().items():
        assert torch.equal(weight, forked.target.network.state_dict()[name]), name


def test_after_the_first_transfer_it_would_not_be() -> None:
    donor = Trainer(tiny_config({**START, "transfer.adapter.gate": 0.3}))
    for _ in range(3):
        donor._epoch()
    config = tiny_config({**START, "transfer.adapter.gate": 0.1})
    alone, forked = Trainer(config), Trainer(config)
    rows, _ = prefix.trained(alone)
    prefix.fork(forked, donor.state_dict())
    assert prefix.trained(forked)[0] != rows[3:]
