"""BLIP under its two heads: what it looks at, export, checkpoints of transformers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mergenet.config import ModelConfig
from mergenet.config.spec import CLASSES, EMBEDDING, IMAGE_TEXT, Spec
from mergenet.errors import ConfigError
from mergenet.layers.matrices import list_layers
from mergenet.models import MODELS, build_model
from mergenet.models.vision_language import INIT_STD, Blip

SPECS = {
    outputs: Spec(IMAGE_TEXT, outputs, num, image_size=16, vocab_size=40, max_length=8)
    for outputs, num in ((CLASSES, 5), (EMBEDDING, 12))
}
PARAMETRIZE = pytest.mark.parametrize("outputs", [CLASSES, EMBEDDING])


def network(outputs: str, seed: int = 0, **config: Any) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(ModelConfig(name="blip_small", **config), SPECS[outputs]).eval()


def all_outputs(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else outputs


def test_answers() -> None:
    spec = SPECS[CLASSES]
    logits = network(CLASSES)(*spec.example(3))
    assert logits.shape == (3, 5) and logits.dtype == torch.float32


def test_embeddings_have_norm_1() -> None:
    images, texts = network(EMBEDDING)(*SPECS[EMBEDDING].example(3))
    for value in (images, texts):
        assert value.shape == (3, 12)
        torch.testing.assert_close(value.norm(dim=1), torch.ones(3))


@PARAMETRIZE
def test_padding_is_not_read(outputs: str) -> None:
    model, (images, tokens, mask) = network(outputs), SPECS[outputs].example(6)
    other = torch.where(mask == 1, tokens, (tokens + 7) % 40)
    assert not other.equal(tokens)
    for a, b in zip(all_outputs(model(images, tokens, mask)), all_outputs(model(images, other, mask)), strict=True):
        torch.testing.assert_close(a, b)


def test_an_answer_depends_on_every_word_and_on_the_image() -> None:
    """The last word too: the text encoder reads in both directions, unlike the decoder that transformers calls it."""
    model, (images, tokens, _) = network(CLASSES).double(), SPECS[CLASSES].example(1)
    mask = torch.ones_like(tokens)
    start = model(images.double(), tokens, mask)
    for place in range(8):
        changed = tokens.clone()
        changed[0, place] = (changed[0, place] + 1) % 40
        assert (model(images.double(), changed, mask) - start).abs().max() > 1e-8, place
    assert (model(images.double().flip(3), tokens, mask) - start).abs().max() > 1e-8


def test_embeddings_of_an_image_do_not_depend_on_the_text() -> None:
    model, (images, tokens, mask) = network(EMBEDDING), SPECS[EMBEDDING].example(3)
    a, b = model(images, tokens, mask), model(images, tokens.flip(0), mask.flip(0))
    assert a[0].equal(b[0])
    torch.testing.assert_close(a[1], b[1].flip(0))


@PARAMETRIZE
def test_every_parameter_learns(outputs: str) -> None:
    """What no loss reaches would stop distributed training, and be exported for nothing."""
    model, inputs = network(outputs), SPECS[outputs].example(4)
    torch.manual_seed(1)
    sum((value * torch.randn_like(value)).sum() for value in all_outputs(model(*inputs))).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@PARAMETRIZE
def test_initialised_by_the_global_generator(outputs: str) -> None:
    a, b, c = (network(outputs, seed).state_dict() for seed in (0, 0, 1))
    assert all(a[name].equal(b[name]) for name in a)
    assert not a["vision.encoder.layers.0.mlp.fc1.weight"].equal(c["vision.encoder.layers.0.mlp.fc1.weight"])
    for name, value in a.items():
        if name.endswith(("dense.weight", "fc1.weight", "qkv.weight", "_proj.weight", "head.weight")):
            assert value.std().item() == pytest.approx(INIT_STD, rel=0.1), name


def test_layers_of_both_parts_can_take_part_in_a_transfer() -> None:
    shapes = {layer.name: layer.matrix for layer in list_layers(network(CLASSES))}
    assert shapes["vision.encoder.layers.1.mlp.fc1"] == shapes["text.encoder.layer.1.intermediate.dense"] == (256, 64)
    assert shapes["vision.encoder.layers.0.self_attn.qkv"] == (192, 64)
    assert shapes["text.encoder.layer.1.crossattention.self.key"] == (64, 64)
    assert shapes["head"] == (5, 64)
    retrieval = {layer.name for layer in list_layers(network(EMBEDDING))}
    assert {"vision_proj", "text_proj"} < retrieval and not [name for name in retrieval if "crossattention" in name]


@PARAMETRIZE
def test_exports_with_any_batch_size(outputs: str) -> None:
    model, spec = network(outputs), SPECS[outputs]
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        program = torch.export.export(model, spec.example(2), dynamic_shapes=({0: batch},) * 3)
        for count in (1, 5):
            inputs = spec.example(count)
            for a, b in zip(all_outputs(model(*inputs)), all_outputs(program.module()(*inputs)), strict=True):
                torch.testing.assert_close(a, b)


def test_image_must_be_whole_patches() -> None:
    spec = Spec(IMAGE_TEXT, CLASSES, 5, image_size=20, vocab_size=40, max_length=8)
    with pytest.raises(
        ConfigError, match=r"data.image_size must be a multiple of the 8 pixels of blip_small's .* got 20"
    ):
        build_model(ModelConfig(name="blip_small"), spec)


def test_base_sizes() -> None:
    blip = MODELS["blip"].build
    assert isinstance(blip, Blip)
    with torch.device("meta"):
        model = blip(ModelConfig(name="blip"), Spec(IMAGE_TEXT, CLASSES, 3129, 384, 30522, 40))
    count = sum(parameter.numel() for parameter in model.parameters())
    # 85.8 M in ViT-B/16 at 384 pixels, 137.3 M in BERT-base with cross-attention, but for 472 positions, and the head
    assert count == pytest.approx(225.6e6, rel=0.01)


# ---- folders that save_pretrained writes


def save(folder: Path, change: Callable[[Any], None] = lambda _: None, image_size: int = 16) -> Any:
    """A checkpoint of transformers' own retrieval network, of blip_small's sizes, larger tables than are needed."""
    network(CLASSES)  # torchvision is ready for transformers
    import transformers

    sizes = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision = sizes | {"patch_size": 8, "image_size": image_size, "initializer_range": 0.02}
    text = sizes | {"vocab_size": 50, "max_position_embeddings": 20, "bos_token_id": 1, "sep_token_id": 3}
    config = transformers.BlipConfig(vision_config=vision, text_config=text, image_text_hidden_size=12)
    change(config)
    torch.manual_seed(5)
    theirs = transformers.BlipForImageTextRetrieval(config).eval()
    theirs.save_pretrained(folder)
    return theirs


def test_retrieval_equals_that_of_transformers(tmp_path: Path) -> None:
    theirs, spec = save(tmp_path), SPECS[EMBEDDING]
    images, tokens, mask = spec.example(4)
    ours = network(EMBEDDING, weights=str(tmp_path))(images, tokens, mask)
    with torch.no_grad():
        expected = theirs(tokens, images, use_itm_head=False, attention_mask=mask)[0]
    torch.testing.assert_close(ours[0] @ ours[1].T, expected)


def test_answers_take_the_encoders_of_transformers(tmp_path: Path) -> None:
    theirs, spec = save(tmp_path), SPECS[CLASSES]
    images, tokens, mask = spec.example(4)
    model = network(CLASSES, weights=str(tmp_path))
    with torch.no_grad():
        seen = theirs.vision_model(images).last_hidden_state
        first = theirs.text_encoder(tokens, mask, encoder_hidden_states=seen).last_hidden_state[:, 0]
        torch.testing.assert_close(model(images, tokens, mask), model.get_submodule("head")(first))
    random = network(CLASSES)
    assert model.state_dict()["head.weight"].equal(random.state_dict()["head.weight"])


def test_folder_gives_the_shapes_of_a_network_without_it(tmp_path: Path) -> None:
    """So that an exported or resumed run, which no longer has the folder, builds the same network."""
    save(tmp_path, image_size=48)
    given, plain = network(CLASSES, weights=str(tmp_path)).state_dict(), network(CLASSES).state_dict()
    assert {name: v.shape for name, v in given.items()} == {name: v.shape for name, v in plain.items()}


def test_positions_of_patches_are_interpolated(tmp_path: Path) -> None:
    """As transformers does it in each forward pass of a larger image."""
    theirs = save(tmp_path, image_size=48)
    images = SPECS[CLASSES].example(2)[0]
    vision = network(CLASSES, weights=str(tmp_path)).get_submodule("vision")
    with torch.no_grad():
        expected = theirs.vision_model(images, interpolate_pos_encoding=True).last_hidden_state
        torch.testing.assert_close(vision(images).last_hidden_state, expected)


def other_heads(config: Any) -> None:
    config.text_config.num_attention_heads = 2  # shapes stay


def wider(config: Any) -> None:
    config.vision_config.intermediate_size = 128


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_heads, r"with text_config.num_attention_heads 4, '.*config.json' says 2$"),
        (wider, r"with vision_config.intermediate_size 256, '.*config.json' says 128$"),
    ],
)
def test_folder_of_other_sizes(tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
    save(tmp_path, change)
    with pytest.raises(ConfigError, match=message):
        network(CLASSES, weights=str(tmp_path))


def damage(folder: Path, kind: str) -> None:
    config, weights = folder / "config.json", folder / "model.safetensors"
    if kind == "no config":
        config.unlink()
    elif kind == "config is no JSON":
        config.write_text("{")
    elif kind == "config is a list":
        config.write_text("[1]")
    elif kind == "other network":
        config.write_text(json.dumps({"model_type": "bert"}))
    elif kind == "no weights":
        weights.unlink()
    elif kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "no config",
            r"model.weights must be a folder as save_pretrained writes it, with config.json: .*cannot be read",
        ),
        ("config is no JSON", r"model.weights must be a folder .* must be JSON"),
        ("config is a list", r"model_type blip, '.*' says \[1\]"),
        ("other network", r"model_type blip, '.*' says 'bert'"),
        ("no weights", r"model.weights must be a file of type .*model.safetensors'"),
        ("truncated", r"model.weights must be readable weights"),
    ],
)
def test_damaged_folder(tmp_path: Path, kind: str, message: str) -> None:
    save(tmp_path)
    damage(tmp_path, kind)
    with pytest.raises(ConfigError, match=message) as caught:
        network(CLASSES, weights=str(tmp_path))
    assert "\n" not in str(caught.value)


def test_folder_with_a_smaller_vocabulary(tmp_path: Path) -> None:
    def small(config: Any) -> None:
        config.text_config.vocab_size = 30

    save(tmp_path, small)
    with pytest.raises(ConfigError, match=r"word_embeddings.weight is \(30, 64\), the network has \(40, 64\)"):
        network(CLASSES, weights=str(tmp_path))
