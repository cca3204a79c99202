"""Settings that do nothing are told of, and what is told does do nothing."""

import math
import warnings
from pathlib import Path
from typing import Any

import pytest

from mergenet.config import Config, choices
from mergenet.config.choices import DATA_FILES, SHIPPED_DATA, unread_settings
from mergenet.config.loading import load_config
from mergenet.config.preset_names import presets
from mergenet.config.sections import NetworkConfig
from mergenet.errors import ConfigError
from mergenet.learner.optim import learning_rate
from mergenet.tasks import build_task
from mergenet.training.run import train_run
from mergenet.training.without_effect import without_effect
from sweeps.planning.checks import plan_sweep
from tests.mergenet.runs import config_of
from tests.sweeps.base import sweep_config, write_base

HERE = {  # sets that need no download -> their task
    "digits": "image_classification",
    "emoji_names": "text_classification",
    "facts": "question_answering",
    "openmoji_names": "image_text_retrieval",
}
GROUPS = {
    "image_classification": choices.SHIPPED_IMAGES,
    "text_classification": choices.SHIPPED_TEXTS,
    "question_answering": choices.SHIPPED_QUESTIONS,
    "visual_question_answering": choices.SHIPPED_IMAGE_QUESTIONS,
    "image_text_retrieval": choices.SHIPPED_CAPTIONS,
}
OTHER = {"root": "/nowhere", "tokenizer": "/nowhere", "image_size": 16, "max_length": 96}


def data_hash(task: str, **data: Any) -> str:
    network = NetworkConfig.model_validate({"task": task, "data": {"image_size": 8, "max_length": 64} | data})
    return build_task(network).data_hash


@pytest.mark.parametrize("name", HERE)
def test_what_is_not_read_changes_nothing(name: str) -> None:
    unread = {setting: OTHER[setting] for setting in unread_settings(name)}
    assert "root" in unread
    assert data_hash(HERE[name], name=name, **unread) == data_hash(HERE[name], name=name)


def test_every_set_of_ours_is_known() -> None:
    """Each either reads no folder, and is said to, or asks for one."""
    for name in SHIPPED_DATA.keys() - DATA_FILES.keys():
        assert "root" not in unread_settings(name)
        with pytest.raises(ConfigError, match=r"data\.root must name "):
            data_hash(next(task for task, group in GROUPS.items() if name in group), name=name)
    for name, other in DATA_FILES.items():
        assert any(name in group and other in group for group in GROUPS.values())


def lines(*settings: str, preset: str = "digits") -> list[str]:
    return list(without_effect(load_config(preset, settings)))


@pytest.mark.parametrize("preset", presets())
def test_presets_have_no_such_setting(preset: str) -> None:
    assert lines(preset=preset) == []


def test_a_folder_for_a_set_that_reads_none_is_told() -> None:
    line = "data.root does nothing for data.name digits, got '/cats'; for files of your own set"
    assert lines("target.data.root=/cats", "source.data.root=/cats") == [
        f"source.{line} source.data.name=folder",
        f"target.{line} target.data.name=folder",
    ]
    assert lines("target.data.tokenizer=minilm") == [
        "target.data.tokenizer does nothing for data.name digits, got 'minilm'"
    ]
    assert lines("target.data.root=/cats", "target.data.name=folder") == []
    assert lines("target.data.root=/cats", "target.data.name=mine:cats") == []
    assert lines("target.data.root=/cats", "target.task=mine:task") == []
    assert lines("source.data.root=/cats", "method=none") == []


@pytest.mark.parametrize("method", ["mergenet", "none"])
def test_settings_of_other_methods_are_told(method: str) -> None:
    names = "distillation.weight, distillation.temperature"
    told = lines(f"method={method}", "distillation.temperature=3", "distillation.weight=5")
    assert [line.partition(", only for kd, ")[0] for line in told] == [f"{names} do nothing for method {method}"]
    assert lines("method=kd", "distillation.temperature=3") == []


@pytest.mark.parametrize(("warmup", "told"), [(1.9, False), (2, True), (200, True)])
def test_a_warm_up_to_the_end_is_told(warmup: float, told: bool) -> None:
    config = load_config("digits", ["epochs=2", f"target.optimizer.warmup_epochs={warmup}", "method=none"])
    optimizer = config.target.optimizer
    highest = max(learning_rate(optimizer, step, 20, 10) for step in range(20)) / optimizer.lr
    share = f"{highest:.0%}"
    assert list(without_effect(config)) == (
        [
            f"target.optimizer.warmup_epochs is {warmup:g} of 2 epochs: the learning rate rises to the end, to {share} "
            "of lr, and its schedule never begins; lower it"
        ]
        if told
        else []
    )
    assert math.isclose(highest, min(1, 2 / warmup))


def test_a_source_that_does_not_train_has_no_warm_up() -> None:
    long = "source.optimizer.warmup_epochs=200"
    assert len(lines(long)) == 1
    assert lines(long, "source.kind=frozen") == lines(long, "method=none") == []


@pytest.mark.usefixtures("tiny")
def test_a_run_tells_once(tmp_path: Path) -> None:
    config = Config.model_validate(config_of("baseline").model_dump() | {"distillation": {"alpha": 2}})
    running = train_run(config, tmp_path / "run")
    with pytest.warns(UserWarning, match=r"distillation\.alpha does nothing for method none"):
        next(running)
    running.close()
    with warnings.catch_warnings(record=True, action="always") as caught:
        list(train_run(config, tmp_path / "run"))
    assert not [one for one in caught if "does nothing" in str(one.message)]


def test_a_sweep_tells_of_its_base_but_not_of_what_it_searches(tmp_path: Path) -> None:
    base = str(write_base(tmp_path))
    cycles = {"transfer.t_cycle": {"choice": [2, 4]}}
    settings = {"distillation.temperature": 3, "target.data.tokenizer": "minilm"}
    sweep = sweep_config(cycles, base=base, set=settings)
    told = plan_sweep(sweep).warnings
    assert [line.split()[0] for line in told if "nothing for" in line] == [
        "distillation.temperature",
        "target.data.tokenizer",
    ]
    assert not [line for line in plan_sweep(sweep, begun=True).warnings if "nothing for" in line]
    methods = {"method": {"choice": ["mergenet", "kd"]}} | cycles
    told = plan_sweep(sweep_config(methods, base=base, set={"distillation.temperature": 3})).warnings
    assert not [line for line in told if "nothing for" in line]
