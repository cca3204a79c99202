"""The cases of benchmarks.gains: a preset, recipes tuned alike, and everything that transfer is compared with.

A case's recipes were chosen by `python -m benchmarks.gains CASE --tune` on development seeds (docs/log.md has grids and
figures), before the seeds of the reported results were used.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.paired_runs import RECIPE, WITHOUT
from mergenet.config import Config
from mergenet.config.loading import load_config
from mergenet.layers.matrices import Columns, find_layer, to_matrix, to_weight
from mergenet.models import build_model
from mergenet.records.provenance import config_hash
from mergenet.tasks import build_task
from mergenet.training.trainer import Trainer
from mergenet.transfer.subspace import signed_svd

REAL = "real"
NONE = "none"
ALIKE = "none_alike"  # no transfer under the recipe that was tuned for transfer
BEFORE = (  # the adapter of version 0.1.0
    *("transfer.align=none", "transfer.adapter.kind=lpka", "transfer.adapter.source_basis=start"),
    *("transfer.adapter.rank=8", "transfer.adapter.depth=2", "transfer.adapter.gate=0.1", "transfer.t_cycle=8"),
)
TEACHING = {"target.optimizer.lr": (0.02, 0.05), "distillation.weight": (0.5, 1, 2, 4)}
CONTROLS = {"shuffled": "shuffled", "noise": "noise", "control_none": "none"}
PLAIN = ("plain_subspace", "plain_layer")
PLAIN_RANK = 16  # the adapter's


@dataclass(frozen=True)
class Case:
    """overrides: of all variants. recipes: variant (none, or real for all that transfers) -> tuned settings by path.

    teacher: settings of the finished source, written as those of a target that trains by itself; it is the source of
    frozen cases, and the teacher and the plain source of all. few: those with which it saw no more than the target.
    ready: the source's weights are the preset's own, which nobody here trained; it has no teacher and no poor variant.
    before: further settings of the variant of that name, where its rank is too large for the layers.
    shared: the side whose space the two layers share, which the plain ways start from.
    methods: of distillation. grid: what was tuned for none and real, path -> values; teaching: for the methods, beside
    none's decay.
    """

    name: str
    question: str
    preset: str
    overrides: tuple[str, ...]
    teacher: tuple[str, ...]
    few: tuple[str, ...]
    grid: Mapping[str, Sequence[Any]]
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    frozen: bool = True
    ready: bool = False
    methods: tuple[str, ...] = ("kd", "dist")
    teaching: Mapping[str, Sequence[Any]] = field(default_factory=lambda: TEACHING)
    plain: bool = True
    shared: Columns = "inputs"
    before: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def variants(self) -> tuple[str, ...]:
        poor = () if self.ready else ("poor",)
        basis = () if self.frozen else ("start_basis",)
        plain = PLAIN if self.plain else ()
        return (NONE, ALIKE, REAL, *CONTROLS, *poor, *basis, "before", *self.extra, *self.methods, *plain)

    def with_recipe(self, variant: str, point: Mapping[str, Any]) -> "Case":
        """For tuning: the same case with other settings, under a new name."""
        label = ",".join(f"{path.rpartition('.')[2]}={value}" for path, value in point.items())
        return replace(self, name=f"{self.name}[{label}]", recipes={**self.recipes, variant: dict(point)})

    def with_settings(self, settings: Sequence[str]) -> "Case":
        if not settings:
            return self
        return replace(self, name=f"{self.name}[{','.join(settings)}]", overrides=(*self.overrides, *settings))

    def plain_config(self) -> Config:
        return load_config(self.preset, [*RECIPE, *self.overrides, *WITHOUT])

    def config(self, variant: str, seed: int, folder: Path) -> Config:
        """folder: where teachers are kept. Trains the teacher of this seed if the variant needs one."""
        by_transfers_recipe = variant not in (NONE, *self.methods, *PLAIN)
        recipe = {**self.recipes.get(REAL if by_transfers_recipe else NONE, {}), **self.recipes.get(variant, {})}
        tuned = [f"{path}={json.dumps(value)}" for path, value in recipe.items()]
        shared = [*RECIPE, *self.overrides, *tuned, *split(seed, "target")]
        if variant in (NONE, ALIKE):
            return load_config(self.preset, [*shared, *WITHOUT])
        if variant in PLAIN:
            started = [*shared, *WITHOUT]
            config, names = load_config(self.preset, started), self.pair(seed)
            taught = self.given(names[0], folder) if self.ready else self.taught(seed, folder)
            weights = plain_start(variant, names, self.shared, config, taught, folder)
            return load_config(self.preset, [*started, f"target.model.weights={weights}"])
        source = [*split(seed, "source"), f"source.seed={seed + 1000}"]
        if self.ready:
            pass  # the preset says where its weights are
        elif self.frozen or variant in self.methods:
            source += ["source.kind=frozen", f"source.model.weights={self.taught(seed, folder, variant == 'poor')}"]
        elif variant == "poor":
            source += [setting.replace("target.", "source.", 1) for setting in self.few]
        own = {
            **{name: (f"transfer.control={control}",) for name, control in CONTROLS.items()},
            **{method: (f"method={method}", "transfer={}") for method in self.methods},
            **{
                REAL: (),
                "poor": (),
                "start_basis": ("transfer.adapter.source_basis=start",),
                "before": (*BEFORE, *self.before),
            },
            **self.extra,
        }[variant]
        return load_config(self.preset, [*shared, *source, *own])

    def key(self, variant: str, seed: int, folder: Path) -> str:
        """Of a run, in the file of results: a variant of one exact configuration, wherever its teacher's file lies."""
        config = self.config(variant, seed, folder)
        sides = {}
        for side in ("source", "target"):
            network = getattr(config, side)
            if network.model.weights is not None:
                named = network.model.model_copy(update={"weights": Path(network.model.weights).name})
                sides[side] = network.model_copy(update={"model": named})
        return f"{self.name}/{variant}/{seed}/{config_hash(config.model_copy(update=sides))}"

    def pair(self, seed: int) -> tuple[str, str]:
        config = load_config(self.preset, [*RECIPE, *self.overrides, f"seed={seed}"])
        (pair,) = config.transfer.written_pairs
        return pair.source, pair.target

    def taught(self, seed: int, folder: Path, few: bool = False) -> Path:
        """Weights of the finished source: trained once per seed, by itself, at its best validation epoch."""
        settings = [*RECIPE, *WITHOUT, *self.teacher, *(self.few if few else ()), *split(seed, "target")]
        config = load_config(self.preset, [*settings, f"seed={seed + 1000}"])
        path = folder / "teachers" / f"{config_hash(config)}.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            trainer = Trainer(config)
            for _ in trainer.epochs():
                pass
            save(path, trainer.bests["target"].network)
        return path

    def given(self, layer: str, folder: Path) -> Path:
        """The weight of a layer of a source whose weights are the preset's own."""
        source = load_config(self.preset, [*RECIPE, *self.overrides]).source
        path = folder / "teachers" / f"{source.model.weights}-{layer}.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            weight = find_layer(build_model(source.model, build_task(source).spec), layer).weight
            save(path, {f"{layer}.weight": weight})
        return path


def split(seed: int, side: str) -> list[str]:
    """One split of the data for source and target: neither learns from what the other is tested on."""
    return [f"seed={seed}", f"{side}.data.split_seed={seed}"]


def plain_start(
    variant: str, pair: tuple[str, str], shared: Columns, config: Config, teacher: Path, folder: Path
) -> Path:
    """Starting weights of the target with the source's knowledge in them, without any transfer.

    Of the source's weight, written with the shared space as its columns, as many leading right singular vectors as the
    layer has rows, of classifiers no more than PLAIN_RANK, whose rows outnumber the classes; plain_layer: these
    themselves, the other rows 0; plain_subspace: the layer's own starting weight, projected onto their span. Both at
    the norm that the layer had.
    """
    path = folder / "teachers" / f"{variant}-{teacher.stem}-{config_hash(config)}.safetensors"
    if not path.exists():
        network = Trainer(config).target.network  # as it starts
        source = read(teacher)[f"{pair[0]}.weight"]
        layer = find_layer(network, pair[1])
        weight, embedding = layer.weight, isinstance(layer, nn.Embedding)
        matrix = to_matrix(weight.detach(), shared, embedding)
        rank = min(matrix.shape) if shared == "inputs" else min(*matrix.shape, PLAIN_RANK)
        rows = signed_svd(to_matrix(source, shared, embedding), rank)[2].float()
        found = matrix @ rows.T @ rows
        if variant == "plain_layer":
            found = torch.zeros_like(matrix)
            found[: len(rows)] = rows[: len(matrix)]
        found = found * (matrix.norm() / found.norm())
        with torch.no_grad():
            weight.copy_(to_weight(found, weight.shape, shared, embedding))
        save(path, network.state_dict())
    return path


def save(path: Path, state: Mapping[str, Tensor]) -> None:
    temporary = path.with_suffix(".tmp")
    save_file({name: value.detach().contiguous().clone() for name, value in state.items()}, temporary)
    temporary.rename(path)


def read(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


RECIPES = {
    "target.optimizer.lr": (0.05, 0.1),
    "target.optimizer.weight_decay": (5e-4, 2e-2, 5e-2, 0.1),
    "target.label_smoothing": (0, 0.1),
}
WIDE = (
    *("target.model.name=mlp", "target.batch_size=64", "target.data.train_fraction=1", "target.label_smoothing=0"),
    *("target.optimizer.lr=0.05", "target.optimizer.weight_decay=0.0005"),
)
DIGITS = ("target.data.name=digits", "target.data.image_size=8", "source.data.name=digits", "source.data.image_size=8")


def recipe(lr: float, weight_decay: float, label_smoothing: float = 0) -> dict[str, float]:
    return dict(zip(RECIPES, (lr, weight_decay, label_smoothing), strict=True))


def taught(lr: float, weight: float) -> dict[str, float]:
    return dict(zip(TEACHING, (lr, weight), strict=True))


OPENMOJI = (
    *("target.data.train_fraction=0.3", "epochs=16", "transfer.t_cycle=4", "transfer.adapter.gate=0.3"),
    "transfer.adapter.kind=linear",
)
OPENMOJI_TEACHER = ("target.model.name=resnet_small", "target.data.train_fraction=1", "epochs=12")
OPENMOJI_FEW = ("target.data.train_fraction=0.3", "epochs=16")
OPENMOJI_GRID = {"target.optimizer.lr": (0.05, 0.1), "target.optimizer.weight_decay": (5e-4, 5e-3, 2e-2)}
OPENMOJI_RECIPES = {
    NONE: {"target.optimizer.lr": 0.1, "target.optimizer.weight_decay": 5e-3},
    REAL: {"target.optimizer.lr": 0.1, "target.optimizer.weight_decay": 5e-4},
    "kd": taught(0.1, 1),
    "dist": taught(0.1, 4),
}
OPENMOJI_TEACHING = {"target.optimizer.lr": (0.05, 0.1), "distillation.weight": (1, 2, 4)}
WORDS = "backbone.embeddings.word_embeddings"
SOFTMAX = {  # the paper's adapter in the shared space, with the basis as it is now
    "lpka": ("transfer.adapter.kind=lpka",),
    "lpka_identity": ("transfer.adapter.kind=lpka", "transfer.adapter.start=identity"),
}

CASES = {
    case.name: case
    for case in (
        Case(
            "mnist",
            "a finished wide network and a narrow one that has 101 images: first layers, the same pixels",
            "shared-inputs",
            (),
            (*WIDE, "epochs=25"),
            ("target.data.train_fraction=0.028", "target.batch_size=16", "epochs=60"),
            RECIPES,
            {
                "none": recipe(0.1, 0.05, 0.1),
                REAL: recipe(0.1, 0.05, 0.1),
                "kd": taught(0.02, 2),
                "dist": taught(0.05, 2),
            },
        ),
        Case(
            "mnist-live",
            "the same with a source that trains beside the target",
            "shared-inputs",
            (),
            (*WIDE, "epochs=25"),
            ("target.data.train_fraction=0.028",),
            RECIPES,
            {
                "none": recipe(0.1, 0.05, 0.1),
                REAL: recipe(0.1, 0.02),
                "kd": taught(0.02, 2),
                "dist": taught(0.05, 2),
            },
            frozen=False,
            extra=SOFTMAX,
        ),
        Case(
            "digits",
            "scikit-learn's digits, 52 images of 8 x 8",
            "shared-inputs",
            (*DIGITS, "target.data.train_fraction=0.04"),
            (*DIGITS[:2], *WIDE, "epochs=25"),
            ("target.data.train_fraction=0.04", "target.batch_size=16", "epochs=60"),
            RECIPES,
            {
                "none": recipe(0.1, 0.05),
                REAL: recipe(0.1, 0.05, 0.1),
                "kd": taught(0.02, 2),
                "dist": taught(0.05, 2),
            },
        ),
        Case(
            "other-classes",
            "the source has learned the digits 0 to 4, the target has 50 images of 5 to 9: nothing to distil",
            "shared-inputs",
            ("source.data.name=benchmarks.gain_data:low_digits", "target.data.name=benchmarks.gain_data:high_digits"),
            ("target.data.name=benchmarks.gain_data:low_digits", *WIDE, "epochs=25"),
            ("target.data.train_fraction=0.028", "target.batch_size=16", "epochs=60"),
            RECIPES,
            {"none": recipe(0.1, 0.1, 0.1), REAL: recipe(0.1, 0.1)},
            methods=(),
        ),
        Case(
            "openmoji",
            "a finished ResNet and a MobileNetV2 with 30 % of the emoji: first layers, classifiers, middle layers",
            "openmoji",
            (*OPENMOJI, "transfer.pairs=[{source: conv1, target: features.0.0}]"),
            OPENMOJI_TEACHER,
            OPENMOJI_FEW,
            OPENMOJI_GRID,
            OPENMOJI_RECIPES,
            teaching=OPENMOJI_TEACHING,
            before=("transfer.adapter.rank=3",),  # of 3 channels a kernel row
            extra={
                name: (f"transfer.pairs=[{{{pair}}}]", f"transfer.adapter.rank={rank}", f"transfer.control={control}")
                for label, pair, rank in (
                    ("classifiers", "source: fc, target: classifier.1", 16),
                    ("middle", "source: layer3.0.conv2, target: features.5.conv.2, align: inputs", 32),
                    ("middle_outputs", "source: layer3.0.conv2, target: features.5.conv.2, align: outputs", 16),
                )
                for name, control in ((label, "real"), (f"{label}_shuffled", "shuffled"))
            },
        ),
        Case(
            "classifiers",
            "the same two networks, classifiers over the same 70 classes",
            "openmoji",
            (*OPENMOJI, "transfer.pairs=[{source: fc, target: classifier.1}]", "transfer.adapter.rank=16"),
            OPENMOJI_TEACHER,
            OPENMOJI_FEW,
            OPENMOJI_GRID,
            OPENMOJI_RECIPES,  # transfer's as tuned on the first layers
            teaching=OPENMOJI_TEACHING,
            shared="outputs",
        ),
        Case(
            "text",
            "MiniLM and a small BERT with 15 % of the emoji names, one vocabulary: embeddings of words",
            "frozen-text",
            (
                *("target.data.train_fraction=0.15", "epochs=20", "target.batch_size=16", "transfer.t_cycle=2"),
                *(f"{side}.data.tokenizer=minilm" for side in ("source", "target")),
                *("transfer.adapter.kind=linear", "transfer.adapter.rank=64", "transfer.adapter.gate=0.3"),
                f"transfer.pairs=[{{source: {WORDS}, target: {WORDS}}}]",
            ),
            (),
            (),
            {"target.optimizer.lr": (1e-3, 2e-3, 4e-3), "target.optimizer.weight_decay": (1e-2, 0.1)},
            {
                "none": {"target.optimizer.lr": 2e-3, "target.optimizer.weight_decay": 1e-2},
                REAL: {"target.optimizer.lr": 2e-3, "target.optimizer.weight_decay": 1e-2},
                "rkd": taught(1e-3, 1),
                "pkt": taught(2e-3, 1),
            },
            ready=True,
            methods=("rkd", "pkt"),
            teaching={"target.optimizer.lr": (1e-3, 2e-3), "distillation.weight": (1, 4)},
        ),
    )
}
