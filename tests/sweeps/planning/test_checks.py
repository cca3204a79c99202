"""What a sweep refuses before anything is created, and how it says so: in the words of the sweep file."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from mergenet import tasks
from mergenet.config import NetworkConfig
from mergenet.errors import ConfigError, DataError
from mergenet.layers import candidates
from mergenet.training.trainer import Trainer
from mergenet.transfer.source import record_source
from sweeps.cli.commands import sweep as command
from sweeps.config import SweepConfig
from sweeps.config.base import load_base
from sweeps.config.loading import dump_sweep
from sweeps.planning.checks import plan_sweep
from sweeps.space import layer_choices
from tests.sweeps.base import CONV, sweep_config, write_base

CYCLES = {"transfer.t_cycle": {"choice": [2, 4]}}


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(write_base(tmp_path))


def refused(sweep: SweepConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        plan_sweep(sweep)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transfer.t_cycel": 4}, "set.transfer.t_cycel must be a known setting, got an unknown name; did you mean"),
        ({"transfer.t_cycle": 0}, "set.transfer.t_cycle must be >= 1, got 0; to train without transfer set method"),
        ({"transfer.adapter": {"rank": 0}}, "set.transfer.adapter.rank must be >= 1, got 0"),
        ({"transfer.pairs.7.source": "fc"}, "set.transfer.pairs.7 must be an item from 0 to 1 (the next)"),
        ({"method": "none"}, "set.method must be mergenet, got 'none'; the sweep runs the no-transfer baseline itself"),
    ],
)
def test_a_bad_set_entry_is_named_as_such(base: str, changes: dict[str, Any], message: str) -> None:
    text = refused(sweep_config(CYCLES, base=base, set=changes))
    assert text.startswith(message)
    assert "--set" not in text


def test_a_bad_base_is_named_as_such(base: str) -> None:
    assert refused(sweep_config(CYCLES, base="openmoij")).startswith("base must be one of ")
    message = "base must be an existing file, got 'nowhere.yaml'; presets are "
    assert refused(sweep_config(CYCLES, base="nowhere.yaml")).startswith(message)
    text = Path(base).read_text()
    Path(base).write_text(text.replace("t_cycle: 2", "t_cycle: 0"))
    assert refused(sweep_config(CYCLES, base=base)).endswith(f"(in {base})")
    Path(base).write_text(text.replace("method: mergenet", "method: none"))
    assert refused(sweep_config(CYCLES, base=base)).startswith("method of the base must be mergenet, got 'none'")


def test_set_changes_the_base(base: str) -> None:
    config = load_base(sweep_config(CYCLES, base=base, set={"epochs": 5, "transfer.pairs.0.every": 8}))
    assert (config.epochs, config.transfer.pairs[0].every, config.transfer.pairs[0].source) == (5, 8, CONV["source"])


@pytest.mark.parametrize("metric", ["target_val_acc", "target_val_top5"])
def test_only_the_metric_that_selects_the_best_epoch(base: str, metric: str) -> None:
    text = refused(sweep_config(CYCLES, base=base, metric=metric))
    assert text.startswith("metric must be target_val_top1, by which each run selects its best epoch, got 'target_val_")
    assert text.endswith("; write metric: target_val_top1 or leave it out")
    assert plan_sweep(sweep_config(CYCLES, base=base, metric="target_val_top1"))


def test_the_metric_is_that_of_the_targets_task(base: str) -> None:
    sweep = plan_sweep(sweep_config(CYCLES, base=base, metric=None)).sweep
    assert (sweep.metric, sweep.mode) == ("target_val_top1", "max")
    assert "metric: target_val_top1\n" in dump_sweep(sweep)


@pytest.mark.parametrize("sampler", ["grid", "random", "gp"])
def test_a_begun_sweep_gets_no_more_trials_than_its_space_holds(base: str, sampler: str) -> None:
    """Nor fewer than it has: one of an earlier version may have drawn configurations twice."""
    sweep = sweep_config(CYCLES, base=base, sampler=sampler, num_trials=7)
    plan = plan_sweep(sweep, begun=True)
    assert plan.sweep.num_trials == plan_sweep(sweep).sweep.num_trials == 2
    assert plan.shortage == "num_trials: 2 in place of 7, because the search space holds no more"
    for name in ("trial-000", "trial-004", "trial-008-seed-1", "baseline"):
        (Path(base).parent / "trials" / name).mkdir(parents=True)
    assert plan_sweep(sweep, begun=True).sweep.num_trials == 5
    assert plan_sweep(sweep_config(CYCLES, base=base, sampler=sampler, num_trials=1), begun=True).shortage is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize(
    ("epochs", "changes", "told"),
    [
        (21, {}, True),
        (20, {}, False),  # two of twenty are a tenth
        (60, {"grace_epochs": 2}, False),
        (60, {"grace_epochs": "auto"}, False),
        (60, {"scheduler": "none"}, False),
    ],
)
def test_a_short_grace_period_that_nobody_has_set_is_told(
    base: str, epochs: int, changes: dict[str, Any], told: bool
) -> None:
    sweep = sweep_config(CYCLES, base=base, set={"epochs": epochs}, **changes)
    lines = [line for line in plan_sweep(sweep).warnings if "grace_epochs" in line]
    assert len(lines) == told
    assert not told or "is 2 of 21 epochs, because it is not set" in lines[0]
    assert not told or "grace_epochs: 5 is what" in lines[0]
    assert not [line for line in plan_sweep(sweep, begun=True).warnings if "grace_epochs" in line]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sampler": "nsga2"}, True),
        ({"sampler": "nsga2", "scheduler": "median", "grace_epochs": "auto"}, True),
        ({"sampler": "nsga2", "scheduler": "none"}, False),
        ({"sampler": "nsga2", "grace_epochs": 21}, False),
        ({"sampler": "tpe"}, False),
    ],
)
def test_generations_that_early_stopping_leaves_empty_are_told(base: str, changes: dict[str, Any], told: bool) -> None:
    sweep = sweep_config(CYCLES, base=base, set={"epochs": 21}, **changes)
    lines = [line for line in plan_sweep(sweep).warnings if line.startswith("sampler nsga2 counts")]
    assert len(lines) == told
    assert not told or f"scheduler {sweep.scheduler} stops most before" in lines[0]
    assert not [line for line in plan_sweep(sweep, begun=True).warnings if "nsga2" in line]


def test_a_device_that_is_not_there(base: str) -> None:
    assert refused(sweep_config(CYCLES, base=base, set={"device": "cuda"})).startswith("device must be available here")


def test_a_recording_that_is_none_is_refused_before_the_folder_is_made(base: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    changes = {"source.kind": "recorded", "source.recording": str(empty)}
    sweep = sweep_config(CYCLES, base=base, set=changes)
    assert refused(sweep).startswith("source.recording must be a finished recording, got ")
    (tmp_path / "s.yaml").write_text(dump_sweep(sweep))
    done = CliRunner().invoke(command, ["run", str(tmp_path / "s.yaml"), "--dir", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: source.recording must be a finished recording")
    assert not (tmp_path / "out").exists()


def test_a_recording_must_serve_every_value_of_the_search(base: str, tmp_path: Path) -> None:
    for _ in record_source(load_base(sweep_config(CYCLES, base=base)), tmp_path / "source", [CONV["source"]], every=2):
        pass
    changes = {"source.kind": "recorded", "source.recording": str(tmp_path / "source")}
    assert plan_sweep(sweep_config(CYCLES, base=base, set=changes)).source.reason == "is recorded already"
    text = refused(sweep_config({"transfer.t_cycle": {"choice": [2, 3]}}, base=base, set=changes))
    assert "must be a multiple of the recording's interval (2 steps), got 3" in text
    assert text.endswith("(with transfer.t_cycle=3)")


def test_the_data_of_a_recorded_source_are_not_needed(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweep_config(CYCLES, base=base)
    source = load_base(sweep).source
    list(record_source(load_base(sweep), tmp_path / "source", [CONV["source"]], every=2))
    build = tasks._build

    def without_source(config: NetworkConfig) -> tasks.Task:
        if config.model == source.model:
            raise DataError("the source's data are gone")
        return build(config)

    monkeypatch.setattr(tasks, "_build", without_source)
    recorded = {"source.kind": "recorded", "source.recording": str(tmp_path / "source")}
    candidates._candidates.cache_clear()
    layer_choices.network_layers.cache_clear()
    for align in ("auto", "none"):
        plan = plan_sweep(sweep_config(CYCLES, base=base, set=recorded | {"transfer.align": align}))
        assert plan.source.reason == "is recorded already" and list(plan.data) == ["target"]
        Trainer(plan.space.config({}))
    with pytest.raises(DataError, match="are gone"):
        Trainer(load_base(sweep))


def test_a_recording_that_would_be_too_large_is_refused_in_the_plan(base: str) -> None:
    text = refused(sweep_config(CYCLES, base=base, set={"source.max_gib": 1e-3}))
    assert re.fullmatch(
        r"source.max_gib must hold the recording, 0.\d+ GiB \(weights every 2 of \d+ steps\), got 0.001; raise it, "
        r"show each weight for \d+ steps \(source.record_every: \d+\), or halve them \(source.record_dtype: bf16\)",
        text,
    ), text
    longer = int(text.partition("source.record_every: ")[2].partition(")")[0])
    fits = {"source.max_gib": 1e-3, "source.record_every": longer}
    assert plan_sweep(sweep_config(CYCLES, base=base, set=fits)).source.every == longer
    assert refused(sweep_config(CYCLES, base=base, set=fits | {"source.record_every": longer - 2}))


@pytest.mark.parametrize("kind", ["lpka", "full_matrix"])
def test_networks_are_checked_whatever_the_adapter_and_named_by_role(base: str, kind: str) -> None:
    changes: dict[str, Any] = {"transfer.adapter.kind": kind}
    text = refused(sweep_config(CYCLES, base=base, set=changes | {"source.model.name": "resnet_smal"}))
    assert text.startswith("source.model.name must be one of ")
    text = refused(sweep_config(CYCLES, base=base, set=changes | {"target.data.name": "digit"}))
    assert text.startswith("target.data.name must be one of ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "qmc"}, "sampler qmc must draw numbers from ranges only, got a choice at search.transfer.t_cycle"),
        ({"sampler": "cmaes", "minimize": ["step_seconds"]}, "sampler cmaes must have one objective, got minimize: ['"),
        (
            {"constraints": {"target_val_top5": {"min": 0.5}}},
            "the name of a constraint must be one of adapter_parameters, step_seconds, target_val_loss, "
            "target_val_top1, got 'target_val_top5'; did you mean target_val_top1",
        ),
        (
            {"constraints": {"adapter_parameters": {"max": 1000}}},
            "constraints: adapter_parameters <= 1000 must be possible in the search space, whose adapters have "
            "140488 to 140488; change the bound or the space",
        ),
        (
            {"constraints": {"target_val_top1": {"min": 40}}},
            "constraints.target_val_top1.min must be a fraction from 0 to 1, got 40; 40 % is 0.4",
        ),
        ({"constraints": {"step_seconds": {"max": -1}}}, "constraints.step_seconds.max must be 0 or more, got -1"),
        ({"storage": "postgresql"}, "MERGENET_STUDY_URL must be set to a postgresql URL with storage postgresql, got"),
    ],
)
def test_samplers_and_storages_are_checked_in_a_plan(
    base: str, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.delenv("MERGENET_STUDY_URL", raising=False)
    assert refused(sweep_config(CYCLES, base=base, **changes)).startswith(message)


@pytest.mark.parametrize("name", ["mergenet", "sweeps", "analysis"])
def test_a_module_of_our_name_in_the_current_folder_is_refused(
    base: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of that name that is no package is none: Python passes it over."""
    here = tmp_path / "here"
    (here / name).mkdir(parents=True)
    monkeypatch.chdir(here)
    assert plan_sweep(sweep_config(CYCLES, base=base))
    (here / name / "__init__.py").touch()
    assert refused(sweep_config(CYCLES, base=base)).endswith(f"got {name}/; rename it, or start from another folder")
    (here / name / "__init__.py").unlink()
    (here / f"{name}.py").touch()
    text = refused(sweep_config(CYCLES, base=base))
    assert text.startswith(f"the current folder must hold no module named {name}, which Ray's workers would import")
