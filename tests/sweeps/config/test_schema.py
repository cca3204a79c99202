"""Sweep files: every bad value is one line with path, rule, value and way out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergenet.config.yaml12 import load_yaml
from mergenet.errors import ConfigError
from sweeps.config.loading import dump_sweep, load_sweep, parse_sweep, sweeps

GATE = {"transfer.adapter.gate": {"float": [0.02, 0.5], "log": True}}


def values(**changes: Any) -> dict[str, Any]:
    return {"name": "s", "base": "digits", "search": GATE} | changes


@pytest.mark.parametrize("name", sweeps())
def test_shipped_sweeps_load(name: str) -> None:
    assert load_sweep(name).name == name


def test_quickstart_is_a_sweep_of_at_least_12_trials() -> None:
    sweep = load_sweep("quickstart")
    assert sweep.num_trials >= 12
    assert sweep.confirm_seeds >= 6  # fewer can show nothing at the 5 % level
    assert sweep.confirm_controls == ("shuffled", "noise")


def test_without_seeds_to_confirm_with_there_are_no_controls() -> None:
    sweep = load_sweep("quickstart", ["confirm_seeds=0"])
    assert sweep.confirm_controls and sweep.num_confirmations == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_trials": 0}, "num_trials must be >= 1, got 0"),
        ({"num_trials": "many"}, "num_trials must be a whole number, got 'many'"),
        ({"slots": 0}, "slots must be >= 1, got 0"),
        ({"epochs": 3}, "epochs must be a key of a sweep, got a setting of its trials; write it under set"),
        (
            {"sampler": "tpee"},
            "sampler must be one of auto, cmaes, gp, grid, nsga2, qmc, random, top_k, tpe, got 'tpee'; "
            "did you mean tpe?",
        ),
        ({"num_trails": 3}, "did you mean num_trials"),
        ({"mode": "min"}, "mode must be one of "),  # the metric says it
        ({"metric": "target_test_top1"}, "metric must be a validation metric (target_val_...), got 'target_test_top1'"),
        ({"name": "a/b"}, "name must be letters, digits, dots, dashes and underscores"),
        ({"wandb": {"api_key": "abc"}}, "wandb.api_key must not be in a sweep file"),
        ({"wandb": {"project": "a" * 129}}, "wandb.project must have at most 128 characters, got 'aaa"),
        ({"wandb": {"mode": "on"}}, "wandb.mode must be one of disabled, offline, online, got 'on'"),
        (
            {"minimize": ["adapter_params"]},
            "minimize.0 must be one of adapter_parameters, step_seconds, target_val_loss, got 'adapter_params'; did",
        ),
        ({"minimize": ["step_seconds"] * 2}, "minimize must list each objective once, and not the metric, got ['step"),
        (
            {"metric": "target_val_loss", "minimize": ["target_val_loss"]},
            "minimize must list each objective once, and not the metric, got ['target_val_loss']",
        ),
        (
            {"constraints": {"step_second": {"max": 1}}},
            "the name of a constraint must be one of adapter_parameters, step_seconds, target_val_METRIC, "
            "target_val_loss, got 'step_second'; did you mean step_seconds?",
        ),
        ({"constraints": {"step_seconds": {}}}, "constraints.step_seconds must have min, max or both, got 'neither'"),
        ({"constraints": {"step_seconds": 3}}, "constraints.step_seconds must be a mapping of settings, got 3"),
        ({"constraints": {"step_seconds": {"most": 3}}}, "constraints.step_seconds.most must be one of max, min, got"),
        (
            {"constraints": {"step_seconds": {"min": 2, "max": 1}}},
            "constraints.step_seconds must have min <= max, got [2.0, 1.0]",
        ),
        ({"confirm_controls": ["real"]}, "confirm_controls.0 must be one of noise, none, shuffled, got 'real'"),
        ({"confirm_controls": ["noise"] * 2}, "confirm_controls must list each control once, got ['noise', 'noise']"),
        ({"search": {}}, "search must have at least 1 item"),
        ({"search": {"a": {"choice": []}}}, "search.a.choice must have at least 1 item"),
        ({"search": {"a": {"int": [4, 2]}}}, "search.a must have low < high, got [4, 2]"),
        ({"search": {"a": {"int": [0, 2], "log": True}}}, "search.a must have low > 0 with log: true, got 0"),
        ({"search": {"a": {"float": [0, 1], "step": 2}}}, "search.a must be an int without log to have a step"),
        ({"search": {"a": {}}}, "search.a must be exactly one of choice, int, float and layers, got 0"),
        (
            {"search": {"a": {"choice": [1], "int": [1, 2]}}},
            "search.a must be exactly one of choice, int, float and layers, got 2",
        ),
        ({"search": {"a": {"choice": [1, 2, 1]}}}, "search.a must list each value once, got [1, 2, 1]"),
        ({"search": {"a": {"int": [1.5, 2]}}}, "search.a.int.0 must be a whole number, got 1.5"),
        ({"search": {"a": {"chioce": [1]}}}, "did you mean choice?"),
        ({"search": {"a": 3}}, "search.a must be a mapping of settings, got 3"),
    ],
)
def test_bad_values_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_sweep(values(**changes), "s.yaml")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert "abc" not in str(caught.value)  # what stands under a secret's key is not shown


def test_missing_name_is_said() -> None:
    with pytest.raises(ConfigError, match=r"^name must be given, got nothing \(in s.yaml\)$"):
        parse_sweep({"base": "digits", "search": GATE}, "s.yaml")


def test_overrides_reach_into_set_and_search() -> None:
    overrides = ["num_trials=3", "set.transfer.t_cycle=2", "search.seed={choice: [1, 2]}", "wandb.mode=offline"]
    sweep = load_sweep("quickstart", overrides)
    assert (sweep.num_trials, sweep.wandb.mode) == (3, "offline")
    assert sweep.overrides["transfer.t_cycle"] == 2
    assert sweep.search["seed"].choice == (1, 2)


def test_an_override_by_a_mapping_changes_what_it_names() -> None:
    before = load_sweep("quickstart")
    after = load_sweep("quickstart", ["search={seed: {choice: [1, 2]}}", "set={epochs: 3}", "wandb={mode: offline}"])
    assert after.search == before.search | {"seed": after.search["seed"]}
    assert after.overrides == before.overrides | {"epochs": 3}
    assert load_sweep("quickstart", ["set.epochs=3", "set={}"]).overrides == {}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("grace_epochs=autoo", "grace_epochs must be auto or a whole number >= 1, got 'autoo'"),
        ("grace_epochs=0", "grace_epochs must be auto or a whole number >= 1, got 0"),
        ("search=[a]", "search must be a mapping, got ['a']"),
        ("set=[1]", "set must be a mapping, got [1]"),
    ],
)
def test_bad_overrides_of_values_are_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_sweep("quickstart", [override])
    assert str(caught.value) == f"{message} (in sweep quickstart)"


@pytest.mark.parametrize("override", ["num_trials", "name.x=3"])
def test_bad_overrides(override: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load_sweep("quickstart", [override])


@pytest.mark.parametrize("text", ["epochs=3", "transfer.t_cycle=4"])
def test_a_setting_of_the_trials_goes_under_set(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"must be a key of a sweep, .*; write --set set\.{text}$"):
        load_sweep("quickstart", [text])
    assert load_sweep("quickstart", [f"set.{text}"])


def test_unknown_sweep_and_missing_file() -> None:
    with pytest.raises(ConfigError, match=r"the sweep must be one of .*quickstart.* did you mean quickstart"):
        load_sweep("quikstart")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml must be a readable file, got: No such file"):
        load_sweep("nowhere.yaml")


@given(
    st.integers(1, 50),
    st.sampled_from(["tpe", "random", "top_k"]),
    st.lists(st.integers(0, 9) | st.text("ab", max_size=2), min_size=1, unique=True),
)
def test_dump_reads_back(num_trials: int, sampler: str, choice: list[Any]) -> None:
    search = GATE | {"transfer.t_cycle": {"choice": choice}, "epochs": {"int": [1, 9], "step": 2}}
    more = {"minimize": ["step_seconds"], "constraints": {"adapter_parameters": {"max": 100_000}}}
    more |= {"confirm_controls": ["none", "noise"]}
    sweep = parse_sweep(values(num_trials=num_trials, sampler=sampler, search=search, **more), "s.yaml")
    assert parse_sweep(load_yaml(dump_sweep(sweep), "dump"), "dump") == sweep


@pytest.mark.parametrize("text", ["wandb.api_key canary", "wandb.api_key:canary", "wandb.api_key=canary"])
def test_no_message_about_set_shows_a_secret(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_sweep("quickstart", [text])
    assert "canary" not in str(caught.value)
