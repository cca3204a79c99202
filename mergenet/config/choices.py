"""Settings whose values are names: one table for each setting, with what the rules need to know about each name.

Models, data sets and tasks have their code beside the name, as "module:object"; the dicts of the objects, such as
`mergenet.models.MODELS`, are made from these tables (`mergenet.config.registry.shipped`). The code behind all other
names is elsewhere, in dicts with the same keys: transfer/encodings.py, transfer/adapter.py, training/distillation.py.
Schema, help and messages come from the tables, and `tests/test_choices.py` checks that tables and dicts agree.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import CoreSchema, PydanticKnownError, core_schema


class OneOf:
    """Annotates a field whose value is a name in one of the tables, as the tables are when the value is checked.

    Its errors and its JSON Schema are those of a Literal, which would fix the names when it is defined.
    """

    def __init__(self, *tables: Iterable[str]) -> None:
        self.tables = tables

    @property
    def names(self) -> list[str]:
        return [name for table in self.tables for name in table]

    def check(self, value: Any) -> str:
        if isinstance(value, str) and value in self.names:
            return value
        *first, last = map(repr, self.names)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(first)} or {last}"})

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        del source, handler
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        del schema, handler
        return {"enum": self.names, "type": "string"}


@dataclass(frozen=True)
class Facts:
    words: str = ""  # what it is, for the help; empty where the name says it


def in_words(table: Mapping[str, Facts]) -> str:
    """`NAME: words; NAME: words`, for the names that have a description."""
    return "; ".join(f"{name}: {facts.words}" for name, facts in table.items() if facts.words)


@dataclass(frozen=True)
class KindFacts(Facts):
    """shows_whole, writes_whole: this kind of adapter takes the source's, the target's whole matrix, not a factor."""

    shows_whole: bool = False
    writes_whole: bool = False


KINDS = {
    "lpka": KindFacts("attention between low-rank factors"),
    "full_matrix": KindFacts("between whole weight matrices", shows_whole=True, writes_whole=True),
    "linear": KindFacts(
        "attention without softmax whose maps start as the identity, for layers that share a space", writes_whole=True
    ),
}


@dataclass(frozen=True)
class EncodingFacts(Facts):
    """trains_factors: the layer is made a product of factors; else its weight stays a full matrix of its own."""

    trains_factors: bool = False


ENCODINGS = {
    "projected": EncodingFacts("W stays full, A = B^T W moves"),
    "factorized": EncodingFacts("the layer is B A from the start", trains_factors=True),
}

SHIPPED_MODELS = {
    "resnet18": "mergenet.models.resnet:resnet18",
    "resnet34": "mergenet.models.resnet:resnet34",
    "resnet50": "mergenet.models.resnet:resnet50",
    "resnet_small": "mergenet.models.resnet:resnet_small",
    "mobilenetv2": "mergenet.models.mobilenet:mobilenetv2",
    "mobilenetv2_small": "mergenet.models.mobilenet:mobilenetv2_small",
    "mlp": "mergenet.models.mlp:mlp",
    "mlp_small": "mergenet.models.mlp:mlp_small",
    "efficientnet_lite0": "mergenet.models.efficientnet:efficientnet_lite0",
    "bert": "mergenet.models.transformer:bert",
    "distilbert": "mergenet.models.transformer:distilbert",
    "bert_small": "mergenet.models.transformer:bert_small",
    "distilbert_small": "mergenet.models.transformer:distilbert_small",
    "blip": "mergenet.models.vision_language:blip",
    "blip_small": "mergenet.models.vision_language:blip_small",
}

# Data sets, by what is learned from them. Each group is made a dict where its sets are loaded.

SHIPPED_IMAGES = {
    "openmoji": "mergenet.data.images.openmoji:load_openmoji",
    "digits": "mergenet.data.images.digits:load_digits",
    "mnist5k": "mergenet.data.images.digits:load_mnist5k",
    "cifar10": "mergenet.data.images.cifar:load_cifar10",
    "cifar100": "mergenet.data.images.cifar:load_cifar100",
    "folder": "mergenet.data.images.folders:load_folder",
}

SHIPPED_TEXTS = {
    "emoji_names": "mergenet.data.text.labelled:load_emoji_names",
    "imdb": "mergenet.data.text.labelled:load_imdb",
    "text_folder": "mergenet.data.text.labelled:load_text_folder",
}

SHIPPED_QUESTIONS = {
    "facts": "mergenet.data.text.facts:load_facts",
    "squad2": "mergenet.data.text.squad:load_squad",
    "squad1": "mergenet.data.text.squad:load_squad",
}

SHIPPED_IMAGE_QUESTIONS = {
    "easy_vqa": "mergenet.data.image_text.easy_vqa:load_easy_vqa",
    "vqa2": "mergenet.data.image_text.vqa:load_vqa2",
}

SHIPPED_CAPTIONS = {
    "openmoji_names": "mergenet.data.image_text.captions:load_openmoji_names",
    "coco": "mergenet.data.image_text.captions:load_coco",
}

SHIPPED_DATA = SHIPPED_IMAGES | SHIPPED_TEXTS | SHIPPED_QUESTIONS | SHIPPED_IMAGE_QUESTIONS | SHIPPED_CAPTIONS

# A set that ships with pip and so reads no data.root -> the set of the same task that is read from files
DATA_FILES = {
    "openmoji": "folder",
    "digits": "folder",
    "mnist5k": "folder",
    "emoji_names": "text_folder",
    "facts": "squad2",
    "easy_vqa": "vqa2",
    "openmoji_names": "coco",
}


def unread_settings(data_name: str) -> tuple[str, ...]:
    """The settings of `data` that a set of ours does not read. One of the user's own may read all."""
    root = ("root",) if data_name in DATA_FILES else ()
    if data_name in SHIPPED_IMAGES:
        return (*root, "max_length", "tokenizer")
    if data_name in SHIPPED_TEXTS | SHIPPED_QUESTIONS:
        return (*root, "image_size")
    return root


SHIPPED_TASKS = {
    "image_classification": "mergenet.tasks.image_classification:ImageClassification",
    "text_classification": "mergenet.tasks.text_classification:TextClassification",
    "question_answering": "mergenet.tasks.question_answering:QuestionAnswering",
    "visual_question_answering": "mergenet.tasks.visual_question_answering:VisualQuestionAnswering",
    "image_text_retrieval": "mergenet.tasks.image_text_retrieval:ImageTextRetrieval",
}

# The settings of each distillation method, with the values of its published CIFAR-100 recipe: mdistiller's and
# RepDistiller's for kd, rkd, pkt, spkd and dkd (warm-up: 20 of 240 epochs), the authors' code for logit_std, nkd, dist.
PUBLISHED: dict[str, dict[str, float]] = {
    "kd": {"weight": 0.9, "ce_weight": 0.1, "warmup_fraction": 0, "temperature": 4},
    "logit_std": {"weight": 9, "ce_weight": 0.1, "warmup_fraction": 0, "temperature": 2},
    "dkd": {"weight": 1, "ce_weight": 1, "warmup_fraction": 1 / 12, "temperature": 4, "alpha": 1, "beta": 8},
    "nkd": {"weight": 1, "ce_weight": 1, "warmup_fraction": 0, "temperature": 1, "gamma": 1.5},
    "dist": {"weight": 1, "ce_weight": 1, "warmup_fraction": 0, "temperature": 1, "beta": 1, "gamma": 1},
    "rkd": {"weight": 1, "ce_weight": 1, "warmup_fraction": 0, "distance_weight": 25, "angle_weight": 50},
    "pkt": {"weight": 30000, "ce_weight": 1, "warmup_fraction": 0},
    "spkd": {"weight": 3000, "ce_weight": 1, "warmup_fraction": 0},
}
FEATURE_METHODS = ("rkd", "pkt", "spkd")  # compare penultimate features; the others compare class logits

_UNUSED = {"mergenet": ("distillation.",), "none": ("transfer.", "distillation.", "source.")}


def unused_settings(method: str) -> tuple[str, ...]:
    """What the paths of settings begin with that a method does not read."""
    return _UNUSED.get(method, ("transfer.",))


def described(name: str) -> str:
    """`4 (kd, dkd), 2 (logit_std)`: the values of a setting, and the methods that use it."""
    methods: dict[float, list[str]] = {}
    for method, settings in PUBLISHED.items():
        if name in settings:
            methods.setdefault(settings[name], []).append(method)
    return ", ".join(f"{round(value, 4):g} ({', '.join(names)})" for value, names in methods.items())
