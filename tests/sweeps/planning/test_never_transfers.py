"""A plan names what is drawn in vain: values with which a pair never transfers."""

from pathlib import Path
from typing import Any

import pytest

from mergenet.errors import ConfigError
from mergenet.learner.learner import steps_per_epoch
from mergenet.transfer.phase import stop_step, transfer_steps
from sweeps.planning.checks import plan_sweep
from sweeps.planning.cost import estimate
from sweeps.planning.never_transfers import check_transfers, thinned
from sweeps.report.plan_text import plan_lines
from tests.sweeps.base import CONV, HEAD, MEASURED, base_config, space_of, sweep_config, write_base

START = "transfer.start_step"
STEPS = 8  # of 2 epochs of 260 images in batches of 64
BEYOND = "lie beyond transfer.stop_fraction (1) of a run's 8 steps"


def warnings(search: dict[str, Any], **transfer: Any) -> list[str]:
    own = {"t_cycle": 2, "pairs": [CONV], "adapter": {"rank": 4}} | transfer
    return check_transfers(space_of(search, transfer=own))


def test_the_run_that_these_tests_are_about() -> None:
    config = base_config()
    assert steps_per_epoch(config) * config.epochs == STEPS


def test_nothing_is_said_where_every_value_transfers() -> None:
    cycles = {"transfer.t_cycle": {"choice": [2, 4, 1000]}}
    assert warnings(cycles) == []  # from step 0 on: once
    assert warnings({"transfer.adapter.gate": {"float": [0.1, 0.5]}}) == []
    assert warnings({START: {"int": [0, 1]}}, start_step=100) == []


def test_choices_that_never_transfer_are_named() -> None:
    (line,) = warnings({START: {"choice": [0, 4, 8, 100]}})
    assert line == (
        f"warning: a pair never transfers with {START} 8, 100: its steps, every 2 from {START} (8) on, {BEYOND}"
    )
    (line,) = warnings({"transfer.t_cycle": {"choice": [2, 4, 8, 16]}}, start_step=1)
    assert line.startswith("warning: a pair never transfers with transfer.t_cycle 8, 16: its steps, every 8 from ")
    (line,) = warnings({"transfer.stop_fraction": {"choice": [0.1, 0.5, 1.0]}}, start_step=4)
    assert "with transfer.stop_fraction 0.1, 0.5: its steps, every 2 from transfer.start_step (4) on, lie" in line
    (line,) = warnings({"transfer.pairs.0.every": {"choice": [2, 50]}}, start_step=1)
    assert "with transfer.pairs.0.every 50: its steps, every 50 from" in line


def test_ranges_and_combinations() -> None:
    (line,) = warnings({START: {"int": [0, 100]}})
    assert f"with {START} from 7 to 100: its steps, every 2 from {START} (7) on" in line
    both = {"transfer.t_cycle": {"choice": [2, 4]}, START: {"choice": [0, 5]}}
    (line,) = warnings(both)
    assert line.startswith("warning: a pair never transfers in 1 of 4 combinations, as transfer.t_cycle=4, transfer.st")
    named, rest = warnings({"transfer.t_cycle": {"choice": [2, 4]}, START: {"choice": [0, 5, 9]}})
    assert f"with {START} 9: " in named and "in 1 of 6 combinations" in rest
    (line,) = warnings({"transfer.stop_fraction": {"float": [0.0, 1.0]}})
    assert "with transfer.stop_fraction from 0.0 to 0.0625: its steps" in line


def test_one_of_several_pairs_and_shorter_runs() -> None:
    slow = [CONV, HEAD | {"every": 8}]
    (line,) = warnings({"transfer.pairs": {"choice": [[CONV], slow]}}, start_step=1)
    assert "with transfer.pairs " in line and "every 8 from transfer.start_step (1) on" in line
    (line,) = warnings({"target.batch_size": {"choice": [64, 512]}}, start_step=4)
    assert "with target.batch_size 512: " in line and "of a run's 2 steps" in line


def test_only_branches_with_transfer_count() -> None:
    search = {"method": {"choice": ["mergenet", "none"]}, START: {"choice": [0, 50], "when": {"method": ["mergenet"]}}}
    (line,) = warnings(search)
    assert f"with {START} 50: " in line
    assert warnings({**search, START: {"choice": [0, 2], "when": {"method": ["mergenet"]}}}) == []
    unused = {"transfer.t_cycle": {"choice": [2, 4]}, START: {"choice": [0, 50], "when": {"transfer.t_cycle": [4]}}}
    (line,) = warnings(unused)
    assert f"with {START} 50: " in line


@pytest.mark.parametrize(
    ("search", "start", "where"),
    [
        ({START: {"choice": [8, 100]}}, 0, f"search.{START}"),
        ({START: {"int": [8, 10**9]}}, 0, f"search.{START}"),
        ({"transfer.adapter.gate": {"choice": [0.1, 0.2]}}, 8, START),
    ],
)
def test_a_search_without_any_transfer_is_refused_before_anything_is_made(
    search: dict[str, Any], start: int, where: str, tmp_path: Path
) -> None:
    base = str(write_base(tmp_path))
    sweep = sweep_config(search, base=base, set={START: start})
    with pytest.raises(ConfigError) as caught:
        plan_sweep(sweep)
    assert str(caught.value) == (
        f"{where} must leave steps to transfer at, got none with any value of the search: its steps, every 2 from "
        f"{START} (8) on, {BEYOND}; lower it, or raise transfer.stop_fraction or epochs"
    )
    begun = plan_sweep(sweep, begun=True)  # one of an earlier version goes on
    assert len(begun.warnings) == 1


def test_plan_and_run_show_it(tmp_path: Path) -> None:
    plan = plan_sweep(sweep_config({START: {"choice": [0, 100]}}, base=str(write_base(tmp_path))))
    (line,) = plan.warnings
    assert line in plan_lines(estimate(plan, MEASURED, tmp_path))


def test_it_is_what_decides_in_training() -> None:
    for start in range(0, 12):
        for every in (1, 2, 3, 5, 9):
            for fraction in (0.0, 0.4, 1.0):
                config = base_config().transfer.model_copy(update={"start_step": start, "stop_fraction": fraction})
                due = [step for step in range(stop_step(config, STEPS)) if step % every == 0 and step >= start]
                assert transfer_steps(config, every, STEPS) == due


def test_thinned() -> None:
    assert thinned(range(10), 10) == list(range(10))
    assert thinned(range(101), 3) == [0, 50, 100]
    assert thinned([1, 2, 3], 1) == [1, 3]


def test_a_space_of_very_many_combinations_is_looked_at_in_parts() -> None:
    """A million steps, ranges and choices: evenly spaced values, the ends among them."""
    wide = {START: {"int": [0, 10**6]}, "transfer.stop_fraction": {"float": [0.0, 1.0]}}
    more = {"transfer.t_cycle": {"int": [1, 400]}, "target.batch_size": {"choice": [16, 32, 64]}}
    lines = warnings(wide | more | {"target.data.split_seed": {"choice": list(range(10))}})
    assert any(f"with {START} from " in line and " to 1000000: " in line for line in lines)
