"""`mergenet sweep init` writes files that can be planned, of the base's own networks."""

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mergenet.cli.main import cli
from mergenet.config.loading import load_config
from mergenet.config.yaml12 import dump_yaml_values, load_yaml
from sweeps.config.loading import load_sweep
from sweeps.config.schema import SweepConfig
from sweeps.planning.checks import plan_sweep
from sweeps.planning.plan import Plan
from sweeps.space.layer_choices import network_layers
from sweeps.space.space import PAIRS, RANK
from tests.sweeps.base import base_values

NETWORK = """
from torch import nn
from mergenet import Architecture

def make(config, spec):
    layers = [nn.Flatten(), nn.Linear(768, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 12)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(12, spec.num_outputs))

own = Architecture(make)
"""


def init(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["sweep", "init", *arguments])


def planned(file: str) -> Plan:
    return plan_sweep(load_sweep(file))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("base", ["shared-inputs", "self", "cross-structure"])
def test_what_is_written_of_a_preset_can_be_planned(base: str) -> None:
    result = init("my.yaml", "--base", base)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "next: mergenet sweep plan my.yaml"
    plan, config = planned("my.yaml"), load_config(base)
    assert plan.sweep.name == "my"
    first = plan.space.first_point()
    assert first is not None, "the base itself is tried, its pairs too"
    text = Path("my.yaml").read_text()
    for layer in network_layers(config.target.model_dump_json(include={"task", "model", "data"})).values():
        assert re.search(rf"^#     {re.escape(layer.name)} .* rank up to {layer.largest_rank}$", text, re.MULTILINE)
    assert (PAIRS in plan.space.entries) == (base != "shared-inputs")  # whose networks have two layers each
    assert plan.space.entries[RANK].bounds[1] <= max(plan.space.limits.values())


def own_base(**transfer: Any) -> None:
    Path("mine.py").write_text(NETWORK)
    values = base_values()
    values["target"] = values["target"] | {"model": {"name": "mine:own"}}
    values["transfer"] = {"t_cycle": 2, **transfer}
    Path("sub").mkdir(exist_ok=True)
    Path("sub/bars.yaml").write_text(dump_yaml_values(values))


def test_a_network_of_the_users_own_in_another_folder_than_the_sweep() -> None:
    own_base(pairs=[{"source": "layer3.0.conv2", "target": "5"}], adapter={"rank": 8})
    Path("searches").mkdir()
    result = init("searches/a b.yaml", "--base", "sub/bars.yaml")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("mergenet sweep plan 'searches/a b.yaml'\n")
    plan = planned("searches/a b.yaml")
    assert plan.sweep.name == "a-b"
    assert load_yaml(Path("searches/a b.yaml").read_text(), "it")["base"] == "../sub/bars.yaml"
    targets = {pairs[0]["target"] for pairs in plan.space.options(PAIRS).values()}
    assert targets <= {"3", "5"} and "5" in targets  # names that YAML takes for numbers


def test_a_base_without_pairs_or_of_another_method_gets_them() -> None:
    own_base()
    values = load_yaml(Path("sub/bars.yaml").read_text(), "it")
    Path("bars.yaml").write_text(dump_yaml_values(values | {"method": "none"}))
    assert init("my.yaml", "--base", "bars.yaml").exit_code == 0
    sweep = load_sweep("my.yaml")
    assert sweep.overrides == {"transfer.pairs": "auto", "method": "mergenet"}
    assert planned("my.yaml").space.base["method"] == "mergenet"


def test_every_key_is_there_set_or_as_a_comment_that_may_be_used() -> None:
    assert init("my.yaml", "--base", "digits").exit_code == 0
    text = Path("my.yaml").read_text()
    used = re.sub(r"^# ([a-z_]+: \S+|[a-z_]+: \[\])  +\S.*$", r"\1", text, flags=re.MULTILINE)
    values = load_yaml(used, "it")
    keys = {field.alias or name for name, field in SweepConfig.model_fields.items()}
    assert keys - set(values) == {"wandb"}
    Path("all.yaml").write_text(used)
    defaults = {name: field.default for name, field in SweepConfig.model_fields.items()}
    sweep = load_sweep("all.yaml")
    assert sweep.model_copy(update={"name": "my"}) == load_sweep("my.yaml").model_copy(update={"name": "my"})
    assert sweep.reduction_factor == defaults["reduction_factor"]


def test_nothing_is_overwritten_and_nothing_is_written_of_a_bad_base() -> None:
    Path("my.yaml").write_text("mine")
    refused = init("my.yaml", "--base", "digits")
    assert (refused.exit_code, Path("my.yaml").read_text()) == (2, "mine")
    assert (
        refused.stderr
        == "error: my.yaml must be a new file, got one that is there; choose another name, or delete it first\n"
    )
    for arguments, message in (
        (("my", "--base", "digits"), "must end in .yaml, got 'my'"),
        (("new.yaml", "--base", "digit"), "did you mean digits?"),
        (("new.yaml", "--base", "nowhere.yaml"), "nowhere.yaml must be an existing file"),
        (("nowhere/new.yaml", "--base", "digits"), "nowhere must be a folder to write in, got none; make it first"),
    ):
        result = init(*arguments)
        assert result.exit_code == 2 and message in result.stderr, result.output
        assert len(result.stderr.splitlines()) == 1
    assert not Path("new.yaml").exists()


DEEP = """
from torch import nn
from torch.nn.utils import parametrizations
from mergenet import Architecture

def make(computed):
    def build(config, spec):
        sizes = [768, 24, 22, 20, 18, 16, 14, 12, spec.num_outputs]
        layers = [nn.Flatten()]
        for number, (wide, narrow) in enumerate(zip(sizes, sizes[1:])):
            layer = nn.Linear(wide, narrow)
            layers += [parametrizations.weight_norm(layer) if number in computed else layer, nn.ReLU()]
        return nn.Sequential(*layers[:-1])
    return Architecture(build)

plain, some, most = make(()), make((2, 3, 4)), make(range(1, 7))
"""


@pytest.mark.parametrize(
    ("network", "computed"), [("some", {"5", "7", "9"}), ("most", {"3", "5", "7", "9", "11", "13"})]
)
def test_a_source_layer_with_a_computed_weight_is_not_proposed_to_receive(network: str, computed: set[str]) -> None:
    Path("deep.py").write_text(DEEP)
    values = base_values()
    values["source"] = values["source"] | {"model": {"name": f"deep:{network}"}}
    values["target"] = values["target"] | {"model": {"name": "deep:plain"}}
    for direction in ("both", "to_source", "to_target"):
        pair = {"source": "1", "target": "1", "direction": direction}
        values["transfer"] = {"t_cycle": 2, "align": "none", "pairs": [pair], "adapter": {"rank": 2}}
        Path("base.yaml").write_text(dump_yaml_values(values))
        result = init(f"{direction}.yaml", "--base", "base.yaml")
        assert result.exit_code == 0, result.output
        entry = planned(f"{direction}.yaml").space.entries.get(PAIRS)
        pairs = [] if entry is None else [one for choice in entry.listed for one in choice]
        assert all(one.get("direction", "to_target") == direction for one in pairs)
        sources = {one["source"] for one in pairs}
        assert bool(sources & computed) == (direction == "to_target"), sources
    values["transfer"]["pairs"] = [pair | {"source": "5", "direction": "both"}]
    Path("base.yaml").write_text(dump_yaml_values(values))
    result = init("bad.yaml", "--base", "base.yaml")
    assert (result.exit_code, Path("bad.yaml").exists()) == (2, False)
    assert result.stderr.startswith("error: transfer.pairs.0.source must be a layer whose weight is trained itself")
