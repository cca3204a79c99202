"""BLIP's encoders, from `transformers`, with one of two heads: answers to questions about images, and retrieval.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", ICML 2022: a vision transformer, and a BERT that looks
at its output by cross-attention. The paper of MergeNet uses X-VLM, which no maintained library has; BLIP is the closest
to it. [ours]: a question is answered by choosing one of the known answers; BLIP itself writes it with a decoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from mergenet.config import ModelConfig
from mergenet.config.rules import shown
from mergenet.config.spec import CLASSES, EMBEDDING, IMAGE_TEXT, Spec
from mergenet.data.json_fields import read_json
from mergenet.errors import ConfigError, DataError, needs_package
from mergenet.models.architecture import Architecture
from mergenet.models.pretrained import difference, read_weights

# transformers' own default for BLIP's vision part is 1e-10: it is always loaded there, never trained from scratch
INIT_STD = 0.02
PARTS = {  # of transformers' checkpoints -> of these networks
    "vision_model.": "vision.",
    "text_encoder.": "text.",
    "vision_proj.": "vision_proj.",
    "text_proj.": "text_proj.",
}


@dataclass(frozen=True)
class Blip:
    """Sizes of both encoders; vocabulary, length of texts and size of images are the specification's."""

    width: int = 768  # hidden_size
    inner: int = 3072  # intermediate_size
    heads: int = 12  # num_attention_heads
    vision_layers: int = 12
    text_layers: int = 12
    patch: int = 16  # pixels

    def __call__(self, config: ModelConfig, spec: Spec) -> nn.Module:
        """The network, from the folder `config.weights` if it is one.

        Raises ConfigError for images that are not whole patches, and as `folder_weights`.
        """
        if spec.image_size % self.patch:
            raise ConfigError(
                f"data.image_size must be a multiple of the {self.patch} pixels of {config.name}'s patches, "
                f"got {spec.image_size}"
            )
        model: nn.Module = (Retrieval if spec.outputs == EMBEDDING else Answering)(self, spec)
        if config.weights is not None and (folder := Path(config.weights)).is_dir():
            model.load_state_dict(folder_weights(folder, self, model.state_dict(), config.name))
        return model

    @property
    def vision_sizes(self) -> dict[str, Any]:
        """As in transformers' BlipVisionConfig."""
        return self._sizes | {"num_hidden_layers": self.vision_layers, "patch_size": self.patch, "layer_norm_eps": 1e-5}

    @property
    def text_sizes(self) -> dict[str, Any]:
        """As in transformers' BlipTextConfig."""
        return self._sizes | {"num_hidden_layers": self.text_layers, "layer_norm_eps": 1e-12}

    @property
    def _sizes(self) -> dict[str, Any]:
        names = {"hidden_size": self.width, "intermediate_size": self.inner, "num_attention_heads": self.heads}
        return names | {"hidden_act": "gelu"}

    def vision(self, spec: Spec) -> nn.Module:
        """BlipVisionModel."""
        blip = _transformers()
        config = blip.BlipVisionConfig(**self.vision_sizes, image_size=spec.image_size, initializer_range=INIT_STD)
        model: nn.Module = blip.BlipVisionModel(config)
        return model

    def text(self, spec: Spec, sees_images: bool) -> nn.Module:
        """BlipTextModel. sees_images: with layers of cross-attention, which transformers calls a decoder."""
        blip = _transformers()
        config = blip.BlipTextConfig(
            **self.text_sizes,
            vocab_size=spec.vocab_size,
            max_position_embeddings=spec.max_length,
            encoder_hidden_size=self.width,
            is_decoder=sees_images,
            initializer_range=INIT_STD,
            bos_token_id=None,  # of the decoder that writes texts
            eos_token_id=None,
            sep_token_id=None,
        )
        model: nn.Module = blip.BlipTextModel(config, add_pooling_layer=False)
        return model


def image_text_network(blip: Blip) -> Architecture:
    return Architecture(blip, IMAGE_TEXT, (CLASSES, EMBEDDING), reads_folders=True)


blip = image_text_network(Blip())  # blip-base: 224 M parameters
blip_small = image_text_network(  # the small presets'
    Blip(width=64, inner=256, heads=4, vision_layers=2, text_layers=2, patch=8)
)


class Answering(nn.Module):
    """(images, tokens, mask) -> logits (N, num_outputs): which of the known answers.

    The text encoder attends to itself, in both directions, and to the image's patches; the state of its first token,
    [CLS], goes through one linear layer. Layers: vision.encoder.layers.*, text.encoder.layer.*, head.
    """

    def __init__(self, blip: Blip, spec: Spec) -> None:
        super().__init__()
        self.vision = blip.vision(spec)
        self.text = blip.text(spec, sees_images=True)
        self.head = _linear(blip.width, spec.num_outputs)

    def forward(self, images: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        seen = self.vision(pixel_values=images).last_hidden_state
        states = self.text(input_ids=tokens, attention_mask=mask, encoder_hidden_states=seen).last_hidden_state
        return self.head(states[:, 0])


class Retrieval(nn.Module):
    """(images, tokens, mask) -> (image embeddings, text embeddings), each (N, num_outputs) of L2 norm 1.

    Neither encoder sees what the other does: [CLS] of each through a linear layer, as BLIP's contrastive loss has it.
    Layers: vision.encoder.layers.*, text.encoder.layer.*, vision_proj, text_proj.
    """

    def __init__(self, blip: Blip, spec: Spec) -> None:
        super().__init__()
        self.vision = blip.vision(spec)
        self.text = blip.text(spec, sees_images=False)
        self.vision_proj = _linear(blip.width, spec.num_outputs)
        self.text_proj = _linear(blip.width, spec.num_outputs)

    def forward(self, images: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.vision(pixel_values=images).last_hidden_state[:, 0]
        read = self.text(input_ids=tokens, attention_mask=mask).last_hidden_state[:, 0]
        return normalize(self.vision_proj(seen), dim=-1), normalize(self.text_proj(read), dim=-1)


def folder_weights(folder: Path, blip: Blip, start: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The network's weights, those of the encoders from a checkpoint of BLIP as save_pretrained writes it.

    start: the network's weights so far: the answers' head keeps them, as no checkpoint has it. The checkpoint's
    vocabulary and positions of texts are cut to the network's, the positions of patches are interpolated to its
    image size (bicubic, as BLIP does): so shapes depend on the specification alone, wherever weights come from.
    What a checkpoint has beside this (a decoder, cross-attention that retrieval does not use) is left out.
    Raises ConfigError if the folder lacks something, is damaged, or holds a network of other sizes.
    """
    check_sizes(folder / "config.json", blip, name)
    given = {
        ours + key.removeprefix(theirs): value
        for key, value in read_weights(folder / "model.safetensors").items()
        for theirs, ours in PARTS.items()
        if key.startswith(theirs)
    }
    given = {key: _cut(key, value, start[key]) for key, value in given.items() if key in start}
    given |= {key: value for key, value in start.items() if key.startswith("head.")}
    if different := difference(dict(start), given):
        raise ConfigError(f"model.weights must hold {name}, {str(folder)!r} does not: {different}")
    return given


def check_sizes(file: Path, blip: Blip, name: str) -> None:
    """Raises ConfigError unless config.json describes a BLIP of these sizes; the weights do not show how many heads."""
    try:
        values = read_json(file)
    except DataError as error:
        raise ConfigError(
            f"model.weights must be a folder as save_pretrained writes it, with config.json: {error}"
        ) from None
    if not isinstance(values, dict) or values.get("model_type") != "blip":
        kind = values.get("model_type") if isinstance(values, dict) else values
        raise ConfigError(f"model.weights must hold a network of model_type blip, {str(file)!r} says {shown(kind)}")
    theirs = _transformers()
    for part, defaults, sizes in (
        ("vision_config", theirs.BlipVisionConfig, blip.vision_sizes),
        ("text_config", theirs.BlipTextConfig, blip.text_sizes),
    ):
        stored = values.get(part)
        full = defaults().to_dict() | (stored if isinstance(stored, dict) else {})
        for key, size in sizes.items():
            if full[key] != size:
                raise ConfigError(
                    f"model.weights must hold {name}, with {part}.{key} {size}, {str(file)!r} says {shown(full[key])}"
                )


def _cut(key: str, value: Tensor, like: Tensor) -> Tensor:
    """A table of the checkpoint, as large as the network's; what cannot be made to fit passes unchanged."""
    if value.ndim != like.ndim or value.shape[-1] != like.shape[-1]:
        return value
    if key in ("text.embeddings.word_embeddings.weight", "text.embeddings.position_embeddings.weight"):
        return value[: len(like)]
    if key == "vision.embeddings.position_embedding" and value.shape != like.shape:
        return _resized(value, like.shape[1])
    return value


def _resized(positions: Tensor, count: int) -> Tensor:
    """(1, 1 + G^2, width) -> (1, count, width): first that of [CLS], then those of a square of patches, row by row."""
    old, new = (round((n - 1) ** 0.5) for n in (positions.shape[1], count))
    if old < 1 or 1 + old**2 != positions.shape[1]:
        return positions
    grid = positions[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = interpolate(grid, (new, new), mode="bicubic", align_corners=False)
    return torch.cat((positions[:, :1], grid.flatten(2).transpose(1, 2)), dim=1)


def _transformers() -> Any:
    with needs_package("transformers", "text"):
        import transformers
    return transformers


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=INIT_STD)
    nn.init.zeros_(layer.bias)
    return layer
