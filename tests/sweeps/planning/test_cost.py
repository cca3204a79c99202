"""What `mergenet sweep plan` says: epochs, hours, disk, memory and what the seeds can show."""

import dataclasses
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from analysis.statistics.power import smallest_gain, smallest_p
from mergenet.config import Config
from mergenet.errors import ConfigError
from mergenet.training.run import data_of, train_run
from mergenet.training.trainer import Trainer
from sweeps.cli.commands import sweep as command
from sweeps.config.loading import dump_sweep, parse_sweep
from sweeps.planning.checks import counted_data, plan_sweep
from sweeps.planning.cost import estimate, facts, space_size, statistics
from sweeps.planning.epochs import forecast, halving_epochs, quantile, trained
from sweeps.planning.probe import probe
from sweeps.report.plan_text import plan_lines, statistics_lines
from sweeps.schedulers.early_stopping import TrialEpoch, asha
from sweeps.schedulers.rungs import rungs
from tests.sweeps.base import CONV, MEASURED, base_config, space_of, sweep_config, write_base

SEARCH = {
    "transfer.t_cycle": {"choice": [2, 4]},
    "transfer.adapter.rank": {"int": [2, 12], "step": 2},
    "transfer.adapter.gate": {"float": [0.1, 0.5]},
}

TARGET = {"target": CONV["target"]}


def found(
    tmp_path: Path,
    pair_sd: float | None = None,
    findings: list[dict[str, Any]] | None = None,
    search: dict[str, Any] = SEARCH,
    **changes: Any,
) -> dict[str, Any]:
    write_base(tmp_path)
    fixed = {"num_trials": 4, "confirm_seeds": 6, "slots": 1, "scheduler": "none"}
    plan = plan_sweep(sweep_config(search, base=str(tmp_path / "base.yaml"), **(fixed | changes)))
    return estimate(plan, dataclasses.replace(MEASURED, findings=findings), tmp_path / "not/there", pair_sd)


def test_epochs_without_early_stopping_are_all() -> None:
    epochs = forecast(sweep_config(SEARCH, num_trials=4, scheduler="none"), 10, recorded=True)
    assert (epochs.source, epochs.baseline, epochs.search, epochs.confirmation) == (10, 10, 40, 120)
    assert epochs.expected == epochs.full == 180
    controls = sweep_config(SEARCH, num_trials=4, scheduler="none", confirm_controls=["noise", "none"])
    assert forecast(controls, 10, recorded=True).confirmation == 240
    assert forecast(sweep_config(SEARCH, grace_epochs=10), 10, recorded=False).search == 200
    assert forecast(sweep_config(SEARCH, budget_epochs=30), 10, recorded=False).search == 30


def test_early_stopping_tends_to_its_share_and_lets_the_first_trials_go_on() -> None:
    """In the long run 2/3 end at the only rung, after 2 epochs, a third trains 6: 3.3 on average."""
    assert halving_epochs(3000, 6, 2, 3, racing=False)[0] / 3000 == pytest.approx(2 / 3 * 2 + 1 / 3 * 6, rel=0.02)
    assert halving_epochs(3000, 6, 2, 3, racing=False)[1] / 3000 == pytest.approx(1 / 3, rel=0.02)
    assert halving_epochs(1, 6, 2, 3, racing=False) == (6, 1)
    assert halving_epochs(4, 6, 2, 3, racing=False)[0] / 4 > 4.2
    values = sorted([0.3, 0.1, 0.9, 0.5])
    assert quantile(values, 2 / 3) == pytest.approx(np.percentile(values, 100 * 2 / 3))


@pytest.mark.parametrize(
    ("trials", "epochs", "grace", "factor"), [(12, 60, 15, 3), (60, 9, 2, 3), (60, 4, 1, 3), (60, 3, 1, 2)]
)
def test_each_trial_is_expected_to_train_as_far_as_the_scheduler_lets_it(
    trials: int, epochs: int, grace: int, factor: int
) -> None:
    sweep, draw = sweep_config(SEARCH, scheduler="asha", reduction_factor=factor), random.Random(0)
    compared, curves = rungs(grace, factor, epochs), dict[int, dict[int, float]]()
    seen: list[list[float]] = [[] for _ in compared]
    for number in range(trials):
        value, epoch, stopped = draw.random(), 0, False
        curves[number] = {}
        while epoch < epochs and not stopped:
            epoch += 1
            curves[number][epoch] = value
            stopped = epoch < epochs and asha(TrialEpoch(sweep, curves, grace, epochs, number, epoch))
        assert trained(value, compared, seen, epochs, factor) == (epoch, stopped)


def test_racing_is_expected_to_train_less_than_halving_and_never_stops_the_first() -> None:
    for trials in (1, 4, 40, 400):
        asha, racing = (halving_epochs(trials, 52, 2, 3, racing=racing) for racing in (False, True))
        assert racing[0] <= asha[0]
        assert racing[1] <= asha[1]
    assert halving_epochs(1, 52, 2, 3, racing=True) == (52, 1)
    assert halving_epochs(2, 6, 2, 3, racing=True) == halving_epochs(2, 6, 2, 3, racing=False), "one may be ahead"


def test_space() -> None:
    assert space_size(space_of(SEARCH)) == {"combinations": 2 * 6, "continuous": 1, "conditional": 0}


def test_what_the_networks_learn_from_is_told_as_train_tells_it(tmp_path: Path) -> None:
    facts = found(tmp_path, set={"target.data.train_fraction": 0.1})
    lines = list(plan_lines(facts))
    target = "target: digits, 10 classes: train 130 images, val 229, test 270"
    assert target in lines and target.replace("target", "source").replace("130", "260") in lines
    assert not any("trials draw" in line for line in lines)
    config = plan_sweep(sweep_config(SEARCH, base=str(tmp_path / "base.yaml"), set={"target.data.train_fraction": 0.1}))
    assert facts["data"] == data_of(Trainer(config.space.config({})))
    drawn = SEARCH | {"target.data.train_fraction": {"choice": [0.1, 0.2]}}
    assert "  so the base; trials draw target.data.train_fraction" in plan_lines(found(tmp_path, search=drawn))
    own = found(tmp_path, set={"source.kind": "self", "transfer.pairs": [{"source": "features.3.conv.2", **TARGET}]})
    assert own["data"].keys() == {"target"}


def test_a_base_without_data_of_its_own_is_no_mistake_where_all_trials_have_others() -> None:
    config = base_config().model_dump(mode="json")
    config["source"]["data"] = {"name": "cifar10"}
    assert list(counted_data(Config.model_validate(config))) == ["target"]


def test_hours_follow_from_the_steps(tmp_path: Path) -> None:
    """2 epochs a run; a trial's epoch takes 10 * 0.15 + 2 s, one without transfer 3 s, the source's 10 * 0.2 + 3 s."""
    time = found(tmp_path)["time"]
    job = 1.0 + 0.3
    source, baseline = 2 * 5 + 1, 2 * 3 + job
    search, confirm = 4 * (2 * 3.5 + job), 6 * (2 * 3.5 + 2 * 3 + 2 * job)
    assert time["trial_hours"] * 3600 == pytest.approx(source + baseline + search + confirm, abs=0.2)
    assert time["hours"] * 3600 == pytest.approx(15 + source + baseline + search + confirm, abs=0.2)
    assert time["gpu_hours"] == 0
    assert found(tmp_path, slots=2)["time"]["hours"] < time["hours"]
    assert found(tmp_path, executor="per_trial")["time"]["hours"] > time["hours"]


def test_controls_cost_what_the_best_costs(tmp_path: Path) -> None:
    """6 seeds with 2 controls: 12 runs more, of 2 epochs of 3.5 s with transfer."""
    without, controls = found(tmp_path), found(tmp_path, confirm_controls=["shuffled", "noise"])
    assert (without["confirmations"], controls["confirmations"]) == (12, 24)
    assert controls["epochs"]["full"] - without["epochs"]["full"] == 12 * 2
    seconds = 12 * (2 * 3.5 + 1.0 + 0.3)
    for key in ("hours", "trial_hours"):
        assert 3600 * (controls["time"][key] - without["time"][key]) == pytest.approx(seconds, abs=0.8)
    assert controls["disk"]["checkpoints"] == without["disk"]["checkpoints"], "what has ended keeps none"
    assert controls["disk"]["best_networks"] - without["disk"]["best_networks"] == 12 * 400
    lines = list(plan_lines(controls))
    assert "trials: 4 of the search, 1 without transfer, 24 to confirm the best" in lines
    assert "  12 of these are controls (shuffled, noise); they train if the best has method mergenet" in lines
    assert not any("controls" in line for line in plan_lines(without))


def test_a_budget_caps_the_hours(tmp_path: Path) -> None:
    time = found(tmp_path, budget_hours=0.001)["time"]
    assert time["budget_ends_search"]
    assert time["hours"] < found(tmp_path)["time"]["hours"]


def test_disk(tmp_path: Path) -> None:
    """10 runs with transfer, 7 without; a checkpoint has the best network inside; 10 points of 64 bytes."""
    disk = found(tmp_path)["disk"]
    trial, none = 1000 + 400 + 100, 1000 + 400
    assert disk["checkpoints"] == 2 * trial, "of the one that trains"
    assert found(tmp_path, slots=3)["disk"]["checkpoints"] == 3 * 2 * trial
    assert disk["best_networks"] == 17 * 400
    assert disk["adapters"] == 10 * 30
    assert disk["recording"] == 10 * 64
    assert disk["free"] > 0
    kept = {keep: found(tmp_path, keep_checkpoints=keep)["disk"] for keep in ("none", "last", "all")}
    assert kept["all"]["checkpoints"] == 2 * (10 * trial + 7 * none)
    assert kept["last"]["checkpoints"] == 10 * trial + 7 * none + trial
    assert kept["none"] | {"best_networks": 17 * 400, "free": disk["free"]} == disk


def test_several_seeds_a_trial(tmp_path: Path) -> None:
    """At most 3 trainings of each of 4 trials, and 3 without transfer; 6 seeds confirm."""
    one, three = found(tmp_path), found(tmp_path, seeds_per_trial=3)
    assert three["epochs"]["full"] - one["epochs"]["full"] == 2 * (4 + 1) * 2
    assert three["epochs"]["trainings"] == 12
    assert three["disk"]["best_networks"] == (18 + 9) * 400
    assert three["time"]["trial_hours"] > one["time"]["trial_hours"]
    text = "\n".join(plan_lines(three))
    assert "  3 seeds of each trial that reaches its last epoch, and without transfer: about 12 trainings of" in text
    assert "the search compares means over 3 seeds, 0.58 times as noisy as one seed" in text
    assert "seeds of each trial" not in "\n".join(plan_lines(one))


def test_what_seeds_can_show(tmp_path: Path) -> None:
    six = found(tmp_path, pair_sd=2.0)["statistics"]
    assert (six["smallest_p"], six["can_show"]) == (2 / 64, True)
    assert six["gain_points"] == pytest.approx(2 * six["gain_in_sd"], abs=0.01)
    text = "\n".join(plan_lines(found(tmp_path, confirm_seeds=5)))
    assert "5 pairs; the smallest two-sided sign-flip p is 2/2^5 = 0.062, cannot be below 5 %" in text
    assert "warning: they can show nothing at that level; raise confirm_seeds to 6 or more" in text
    assert "so no gain can be shown" in "\n".join(plan_lines(found(tmp_path, confirm_seeds=0)))


@pytest.mark.parametrize("points", [0.0, -1.0, math.nan, math.inf])
def test_a_deviation_that_cannot_be_is_refused_before_anything_is_timed(tmp_path: Path, points: float) -> None:
    with pytest.raises(ConfigError, match=r"^pair_sd must be a finite number of points above 0, got "):
        facts(sweep_config(SEARCH), tmp_path, points)


def test_objectives_and_constraints(tmp_path: Path) -> None:
    lines = list(plan_lines(found(tmp_path)))
    assert "objective: highest target_val_top1" in lines
    assert not any("constraint" in line for line in lines)
    more = {"minimize": ["adapter_parameters"], "constraints": {"adapter_parameters": {"max": 140_000}}}
    lines = list(plan_lines(found(tmp_path, **more)))
    assert "objectives: highest target_val_top1, lowest adapter_parameters" in lines
    assert "  early stopping looks at target_val_top1 alone" in lines
    assert "constraints: adapter_parameters <= 140000" in lines
    assert "  adapters of this space have 138,416 to 148,776 parameters" in lines


def test_the_worst_finding(tmp_path: Path) -> None:
    worst = {"rule": "stiff", "links": ["pair0/to_target"], "line": "the adapter gets 5 updates; set more"}
    facts = found(tmp_path, findings=[worst, {"rule": "no_space", "links": [], "line": "none"}])
    assert facts["diagnosis"] == worst | {"findings": 2}
    lines = list(plan_lines(facts))
    assert lines[lines.index("diagnosis: the adapter gets 5 updates; set more") + 1] == (
        "  the worst of 2, of the base configuration; see `mergenet diagnose`"
    )
    lines = list(plan_lines(found(tmp_path, findings=[])))
    assert "diagnosis: nothing stands in the way" in lines
    assert not any("the worst of" in line for line in lines)
    assert found(tmp_path)["diagnosis"] is None  # a base that transfers nothing
    assert not any(line.startswith("diagnosis") for line in plan_lines(found(tmp_path)))


def test_updates_of_the_smallest_and_largest_cycle(tmp_path: Path) -> None:
    """20 steps: 10 an epoch, 2 epochs."""
    cycles = {"transfer.t_cycle": {"choice": [8, 2, 4]}}
    facts = found(tmp_path, search=cycles)
    two = {"t_cycle": 2, "fewest": 10, "most": 10}
    assert facts["updates"] == [two, {"t_cycle": 8, "fewest": 3, "most": 3}]
    assert "updates: an adapter gets 10 with t_cycle 2, 3 with t_cycle 8" in list(plan_lines(facts))
    own = [{"source": "layer3.0.conv2", "target": "features.5.conv.2"}]
    own.append({"source": "fc", "target": "classifier.1", "every": 8})
    changes = {"transfer.pairs": own, "transfer.stop_fraction": 0.5}
    gates = {"transfer.adapter.gate": {"float": [0.1, 0.5]}}
    facts = found(tmp_path, search=gates, set=changes)
    assert facts["updates"] == [{"t_cycle": 2, "fewest": 2, "most": 5}]
    assert "updates: an adapter gets 2 to 5 with t_cycle 2" in list(plan_lines(facts))


@pytest.mark.parametrize("pairs", [3, 6, 12])
def test_the_smallest_gain_is_found_four_times_in_five(pairs: int) -> None:
    gain = smallest_gain(pairs)
    assert gain is not None
    draws = np.random.default_rng(0).normal(gain, 1, (40_000, pairs))
    test = stats.ttest_1samp(draws, 0, axis=1)
    assert np.mean((test.pvalue < 0.05) & (test.statistic > 0)) == pytest.approx(0.8, abs=0.01)
    assert smallest_p(pairs) == 2 / 2**pairs


@pytest.mark.parametrize(("seeds", "least"), [(6, "2/2^6 = 0.031"), (20, "0.0002 (of 9,999 drawn sign patterns)")])
def test_the_plan_says_what_the_test_can_reach(seeds: int, least: str) -> None:
    found = statistics(seeds, None)
    assert found["smallest_p"] == smallest_p(seeds)
    first = next(statistics_lines(found))
    assert first == f"seeds: {seeds} pairs; the smallest two-sided sign-flip p is {least}, can be below 5 %"


def test_no_gain_is_found_with_one_seed() -> None:
    assert smallest_gain(1) is None


def test_a_probe_of_the_real_networks_measures_what_a_run_writes(tmp_path: Path) -> None:
    """The sizes are those of the files that the run then writes, but for headers."""
    config = base_config(epochs=1)
    measured = probe(config.model_dump(mode="json"), ["layer3.0.conv2"])
    assert min(measured.target, measured.source, measured.transfer, measured.setup) > 0
    assert measured.memory_bytes > 10**8
    assert measured.findings is not None
    assert [finding["rule"] for finding in measured.findings] == ["stiff", "no_space", "no_more_data"]
    list(train_run(config, tmp_path / "run"))
    written = (tmp_path / "run/checkpoints/epoch-000001/tensors.safetensors").stat().st_size
    parts = measured.target_bytes + measured.source_bytes + measured.adapter_bytes + measured.network_bytes
    assert written == pytest.approx(parts, rel=0.1)
    assert (tmp_path / "run/best.safetensors").stat().st_size == pytest.approx(measured.network_bytes, rel=0.2)
    adapter = (tmp_path / "run/adapter.safetensors").stat().st_size
    assert adapter == pytest.approx(measured.trained_adapter_bytes, rel=0.05)


def test_the_command_creates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_base(tmp_path)
    (tmp_path / "tiny.yaml").write_text(dump_sweep(sweep_config(SEARCH)))
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(command, ["plan", "tiny.yaml", "--json", "--max-concurrent", "1"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert (facts["trials"], facts["memory"]["workers"], facts["time"]["device"]) == (20, 1, "cpu")
    assert (facts["diagnosis"]["rule"], facts["diagnosis"]["findings"]) == ("stiff", 3)
    assert [row["t_cycle"] for row in facts["updates"]] == [2, 4]
    assert sorted(tmp_path.rglob("*")) == before
    bad = CliRunner().invoke(command, ["plan", "tiny.yaml", "--set", "budget_hours=0"])
    assert (bad.exit_code, bad.stdout) == (2, "")
    assert bad.stderr.startswith("error: budget_hours must be > 0, got 0")


def test_bad_workers_are_one_line() -> None:
    with pytest.raises(ValueError, match="workers_per_trial") as caught:
        parse_sweep({"name": "a", "base": "b", "search": SEARCH, "workers_per_trial": "two"}, "s.yaml")
    assert len(str(caught.value).splitlines()) == 1
