"""Sweep files: every bad value is one line with path, rule, value and way out."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergenet.config.yaml12 import load_yaml
from mergenet.errors import ConfigError
from sweeps.config.loading import dump_sweep, load_sweep, parse_sweep, sweeps
from tests.sweeps.config.sweep_files import BAD, GATE, values


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


@pytest.mark.parametrize(("changes", "message"), BAD)
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


def test_a_configuration_is_told_from_a_sweep(tmp_path: Path) -> None:
    ways = "`mergenet train digits` trains it, `mergenet sweep init my-sweep.yaml --base digits` writes a sweep of it"
    with pytest.raises(ConfigError) as caught:
        load_sweep("digits")
    assert str(caught.value) == f"the name must be that of a sweep, got 'digits', which is a configuration; {ways}"
    assert load_sweep("cross-structure").base  # a name of both
    path = tmp_path / "a.yaml"
    path.write_text("name: x\nseed: 1\nepochs: 3\n")
    with pytest.raises(ConfigError) as caught:
        load_sweep(str(path), ["num_trials=4"])
    assert str(caught.value) == f"{path} must be a sweep, got a configuration; {ways.replace('digits', str(path))}"
    path.write_text("name: x\nbase: digits\nepochs: 3\n")  # a sweep with a mistake
    with pytest.raises(ConfigError, match="epochs must be a key of a sweep, got a setting of its trials"):
        load_sweep(str(path))
    path.write_text("name: x\n")
    with pytest.raises(ConfigError, match="base must be given"):
        load_sweep(str(path))


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


def test_pairs_may_be_written_as_tables_show_them() -> None:
    """They are the same space, so a study goes on whichever way they are written."""
    words = {"transfer.pairs": {"choice": ["fc>fc", "fc<>fc (every 8)", ["fc>fc", "conv1>fc"]]}}
    plain_pair = {"source": "fc", "target": "fc"}
    plain = [
        [plain_pair],
        [plain_pair | {"direction": "both", "every": 8}],
        [plain_pair, plain_pair | {"source": "conv1"}],
    ]
    read = parse_sweep(values(search=words), "s.yaml")
    assert read == parse_sweep(values(search={"transfer.pairs": {"choice": plain}}), "s.yaml")
    layers = [{"layers": {"source": "a*", "target": "b*", "direction": "both"}}, {"layers": "a*<>b*"}]
    one, other = (parse_sweep(values(search={"transfer.pairs": entry}), "s.yaml") for entry in layers)
    assert one == other


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"choice": ["fc>fc", "fc>"]}, "search.transfer.pairs must be read as SOURCE>TARGET, "),
        ({"choice": ["fc>fc", ["fc>fc"]]}, "search.transfer.pairs must list each value once, got a list of 2"),
        ({"layers": "a>b + c>d"}, "search.transfer.pairs.layers must be one pair of patterns, got 'a>b + c>d'"),
    ],
)
def test_words_that_are_no_pairs_are_one_line(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_sweep(values(search={"transfer.pairs": entry}), "s.yaml")
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("(in s.yaml)")


@pytest.mark.parametrize("text", ["wandb.api_key canary", "wandb.api_key:canary", "wandb.api_key=canary"])
def test_no_message_about_set_shows_a_secret(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_sweep("quickstart", [text])
    assert "canary" not in str(caught.value)
