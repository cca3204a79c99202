"""BERT and DistilBERT encoders of `transformers` under a new head: classes of a text, or a span in it."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mergenet.config import ModelConfig
from mergenet.config.spec import CLASSES, SPAN, TEXT, Spec
from mergenet.data.text.minilm import MINILM, minilm_folder
from mergenet.errors import ConfigError, needs_package, one_line
from mergenet.models.architecture import Architecture

INIT_STD = 0.02  # of new linear layers, as in BERT
DROPOUT = 0.1  # in the heads
# Plain attention. The fused kernels of "sdpa" have no deterministic backward pass on GPUs.
ATTENTION = "eager"


@dataclass(frozen=True)
class Encoder:
    """A family and its sizes; sizes that are not given are those of the base model (12 or 6 layers of width 768).

    sizes: arguments of <family>Config. options: arguments of <family>Model.
    """

    family: str  # "Bert" or "DistilBert", as transformers' classes are called
    sizes: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def model_type(self) -> str:
        return self.family.lower()

    def __call__(self, config: ModelConfig, spec: Spec) -> nn.Module:
        """The encoder, from the folder `config.weights` if it is one, under the head that the specification asks for.

        The head is always new: a checkpoint of the encoder has none for this task. Without a folder the
        vocabulary is spec.vocab_size and the position table has spec.max_length rows; with one, sizes and
        weights are the folder's, and both must be at least that large.
        Raises ConfigError for a folder that lacks something, is damaged, or holds another network.
        """
        from_folder = config.weights is not None and Path(config.weights).is_dir()
        backbone = self._read(config, spec) if from_folder else self._new(spec)
        head = SpanPredictor if spec.outputs == SPAN else SequenceClassifier
        return head(backbone, spec.num_outputs)

    def _new(self, spec: Spec) -> nn.Module:
        config_class, model_class = self._classes()
        config = config_class(
            vocab_size=spec.vocab_size,
            max_position_embeddings=spec.max_length,
            attn_implementation=ATTENTION,
            **self.sizes,
        )
        model: nn.Module = model_class(config, **self.options)
        return model

    def _read(self, config: ModelConfig, spec: Spec) -> nn.Module:
        folder = Path(str(config.weights))
        if self.sizes:
            raise ConfigError(
                f"model.weights must be a safetensors file for {config.name}, whose sizes are fixed, got folder "
                f"{str(folder)!r}; {self.model_type} takes its sizes from the folder"
            )
        check_folder(folder, self.model_type, spec)
        _, model_class = self._classes()
        try:
            with _quiet():
                model, loading = model_class.from_pretrained(
                    str(folder),
                    local_files_only=True,
                    use_safetensors=True,
                    dtype=torch.float32,
                    attn_implementation=ATTENTION,
                    output_loading_info=True,
                    **self.options,
                )
        except Exception as error:  # a damaged or foreign folder can make the library raise anything
            line = one_line(error)
            raise ConfigError(f"model.weights must be a folder of {self.family}, got {str(folder)!r}: {line}") from None
        if missing := sorted(loading["missing_keys"]):
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise ConfigError(
                f"model.weights must hold all weights of the encoder, {str(folder)!r} lacks "
                f"{', '.join(missing[:3])}{more}"
            )
        network: nn.Module = model
        return network

    def _classes(self) -> tuple[Any, Any]:
        with needs_package("transformers", "text"):
            import transformers
        return getattr(transformers, f"{self.family}Config"), getattr(transformers, f"{self.family}Model")


def text_network(encoder: Encoder, packaged: Mapping[str, Callable[[], Path]] | None = None) -> Architecture:
    """For classes of a text and for a span in it; a folder gives the sizes where the encoder fixes none."""
    sized = not encoder.sizes
    return Architecture(
        encoder, TEXT, (CLASSES, SPAN), reads_folders=True, sized_by_folder=sized, packaged=packaged or {}
    )


BERT = {"add_pooling_layer": False}  # the pooler belongs to BERT's own next-sentence head

bert = text_network(Encoder("Bert", options=BERT), {MINILM: minilm_folder})
distilbert = text_network(Encoder("DistilBert"))

# for the presets that need no download: they train in a minute on one CPU core
bert_small = text_network(
    Encoder(
        "Bert",
        {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128},
        BERT,
    )
)
distilbert_small = text_network(Encoder("DistilBert", {"dim": 96, "n_layers": 3, "n_heads": 4, "hidden_dim": 192}))


class SequenceClassifier(nn.Module):
    """(tokens, mask), each int64 (N, L), -> logits (N, num_outputs).

    The state of the first token, [CLS], through a linear layer, ReLU, dropout and a linear layer, as in
    transformers' DistilBertForSequenceClassification. Layers: backbone.*, pre_classifier, classifier.
    """

    def __init__(self, backbone: nn.Module, num_outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        width = _width(backbone)
        self.pre_classifier = _linear(width, width)
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = _linear(width, num_outputs)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        first = _states(self.backbone, tokens, mask)[:, 0]
        return self.classifier(self.dropout(torch.relu(self.pre_classifier(first))))


class SpanPredictor(nn.Module):
    """(tokens, mask), each int64 (N, L), -> start and end logits (N, L, 2).

    Every token's state through dropout and one linear layer, as in transformers' DistilBertForQuestionAnswering.
    Padding gets logits too: the task must leave them out. Layers: backbone.*, qa_outputs.
    """

    def __init__(self, backbone: nn.Module, num_outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(DROPOUT)
        self.qa_outputs = _linear(_width(backbone), num_outputs)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.qa_outputs(self.dropout(_states(self.backbone, tokens, mask)))


def check_folder(folder: Path, model_type: str, spec: Spec) -> None:
    """Raises ConfigError unless config.json is there, of that family, and large enough for the specification."""
    file = folder / "config.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"model.weights must be a folder as save_pretrained writes it, {str(folder)!r} lacks config.json"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.weights must hold a readable config.json, got {str(file)!r}: {error}") from None
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind != model_type:
        raise ConfigError(f"model.weights must hold a network of model_type {model_type}, {str(file)!r} says {kind!r}")
    for key, least, reason in (
        ("vocab_size", spec.vocab_size, "the data's vocabulary; set data.tokenizer to the folder"),
        ("max_position_embeddings", spec.max_length, "data.max_length; make that smaller"),
    ):
        value = values.get(key)
        if not isinstance(value, int) or value < least:
            raise ConfigError(f"model.weights must have {key} >= {least}, {reason}; {str(file)!r} says {value!r}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar and its report of surplus weights (heads that are not used)."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _states(backbone: nn.Module, tokens: Tensor, mask: Tensor) -> Tensor:
    """float (N, L, width). BERT gets no segment ids: as for DistilBERT, only [SEP] separates question and text."""
    states: Tensor = backbone(input_ids=tokens, attention_mask=mask).last_hidden_state
    return states


def _width(backbone: nn.Module) -> int:
    config: Any = backbone.config
    return int(config.hidden_size)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=INIT_STD)
    nn.init.zeros_(layer.bias)
    return layer
