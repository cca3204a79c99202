"""`mergenet sweep ablate` and `confirm`: what they refuse, in one line each, and a dry run."""

import json

import pytest
from click.testing import CliRunner

from analysis.report.next_steps import CONFIRM_SLOTS, MOST_SEEDS
from mergenet.cli.main import cli
from sweeps.ablation.folder import write_new
from sweeps.ablation.schema import AblationConfig
from sweeps.cli.ablate_command import confirm_command
from tests.sweeps.ablation.ablations import ablation_of, planned
from tests.sweeps.base import write_base
from tests.sweeps.folders import planned as planned_sweep
from tests.sweeps.folders import write_sweep


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_base(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli, ["sweep", *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "the preset must be one of"),
        (("base.yaml", "--seeds", "1"), "seeds must be a whole number from 2 to 100, got 1; an ablation pairs seeds"),
        (("base.yaml", "--values", "rank"), "--values must be PATH=VALUE,VALUE, got 'rank'"),
        (("base.yaml", "--values", "transfer.rnk=1"), "factors (--factors): transfer.rnk"),
        (("base.yaml", "--factors", "seed"), "factors (--factors) must not hold seed, which all variants share"),
        (("base.yaml", "--interaction", "transfer.t_cycle"), "--interaction must be two paths, PATH,PATH, got"),
        (("base.yaml", "--values", "transfer.t_cycle=2"), "must have a variant beside its centre, got none"),
        (("base.yaml", "--set", "transfer.t_cycle=0"), "transfer.t_cycle"),
        (("base.yaml", "--components", "--reuse", "base"), "reuse (--reuse) must name folders of sweeps or ablations"),
    ],
)
def test_bad_input_is_one_line_and_creates_nothing(run, tmp_path, arguments, message):
    done = run("ablate", *arguments)
    assert done.exit_code == 2
    assert message in done.output and len(done.output.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["base.yaml"]


def test_confirm_needs_a_sweep(run):
    done = run("confirm", ".")
    assert done.exit_code == 2
    assert "must be a sweep folder, with sweep.yaml, sweep.json and base.yaml" in done.output


def test_confirm_takes_the_best_or_trials_by_name(run, tmp_path):
    plan = planned_sweep(tmp_path, {"transfer.t_cycle": {"choice": [2, 4]}}, num_trials=2)
    trials = [({"transfer.t_cycle": 2}, [0.5, 0.6]), ({"transfer.t_cycle": 4}, [0.5], "pruned")]
    write_sweep(tmp_path / "sweep", plan, trials)
    done = run("confirm", "sweep", "--trial", "trial-001", "--dry-run")
    assert done.exit_code == 0, done.output
    assert done.stderr == "trying a few steps of each of 2 variants ...\n"
    assert done.stdout.splitlines()[1:3] == [
        "variants: 1 beside no transfer, 8 seeds each (1 to 8), paired by seed",
        "  trial-001: t_cycle=4",
    ]
    assert "seeds: 8 pairs find a difference" in done.output
    done = run("confirm", "sweep", "--trial", "trial-001", "--top", "2")
    assert (done.exit_code, "--top must not be given beside --trial, got 2" in done.output) == (2, True)
    done = CliRunner().invoke(cli, ["analyze", "best", "sweep", "--confirm", "1", "--trial", "trial-001"])
    assert done.exit_code == 2
    assert "got --trial too; mergenet sweep confirm DIR --trial NAME, which takes trials by name" in done.output


def test_a_begun_ablation_keeps_what_it_varies(run, tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    write_new(planned(ablation_of(values={"transfer.t_cycle": [4]}, seeds=3)), folder)
    done = run("ablate", "a", "--values", "transfer.t_cycle=8")
    assert done.exit_code == 2
    assert "--values must not be given for an ablation that has begun, got it for 'a'; only --seeds," in done.output
    done = run("ablate", "a", "--seeds", "2")
    assert (done.exit_code, "seeds must be at least 3, which the ablation in 'a' has" in done.output) == (2, True)
    done = run("ablate", "base.yaml", "--values", "transfer.t_cycle=16", "--dir", "a")
    assert (done.exit_code, "which holds another ablation" in done.output) == (2, True)
    done = run("status", "a")
    assert done.output.splitlines()[0] == "ablation tiny-ablation in a: killed (no driver)"
    assert json.loads(run("status", "a", "--json").output)["runs"] == 6


def test_a_dry_run_tries_each_variant_and_creates_nothing(run, tmp_path):
    values = ("--values", "transfer.t_cycle=4", "--values", "transfer.adapter.rank=9999")
    done = run("ablate", "base.yaml", *values, "--no-components", "--seeds", "6", "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)  # a program that asks for JSON is told nothing beside it
    assert [one["label"] for one in found["variants"]] == ["centre", "t_cycle 4"]
    (left_out,) = found["left_out"]
    assert left_out["label"] == "rank 9999" and left_out["reason"].startswith("transfer.adapter.rank must be")
    assert found["runs"] == {"all": 12, "reused": 0, "train": 12}
    assert found["hours"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["base.yaml"]


def test_the_steps_of_a_report_know_the_limits_of_confirm():
    """analysis imports nothing of sweeps, so it has them written down."""
    (slots,) = [option.default for option in confirm_command.params if option.name == "slots"]
    assert slots == CONFIRM_SLOTS
    assert AblationConfig.model_json_schema()["properties"]["seeds"]["maximum"] == MOST_SEEDS
