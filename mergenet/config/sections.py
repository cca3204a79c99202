"""The sections of a training configuration: frozen pydantic models, unknown keys refused.

Every field carries its unit or meaning as its description; `mergenet train --help` prints them.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, field_validator

from mergenet.config.choices import (
    ENCODINGS,
    KINDS,
    PUBLISHED,
    SHIPPED_DATA,
    SHIPPED_MODELS,
    SHIPPED_TASKS,
    OneOf,
    described,
    in_words,
)
from mergenet.config.home import at_home
from mergenet.config.pair_labels import pairs_of

Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what every random generator in use takes


# longer ones are refused by the system, in an error of its own
PathText = Annotated[
    str,
    Field(max_length=4000, pattern=r"^(/|[^\x00/])[^\x00/]{0,254}(/[^\x00/]{0,255})*$"),
    BeforeValidator(at_home),
]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class DataConfig(Strict):
    name: str = Field(
        "openmoji",
        description="data set, of the task that learns it, or module:object of your own: " + ", ".join(SHIPPED_DATA),
    )
    root: PathText | None = Field(None, description="folder of the data set; data that ships with pip needs none")
    image_size: Annotated[int, Field(ge=1, le=1024)] = Field(32, description="side of the square images, pixels")
    train_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the training split that is used (0.1 in the paper's 10 % setting)"
    )
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.15, description="share held out of the training data for validation, where the data set names none"
    )
    split_seed: Seed = Field(0, description="seed of the train / validation / test split")
    max_length: Annotated[int, Field(ge=4, le=8192)] = Field(32, description="tokens of a text; longer ones are cut")
    tokenizer: PathText | None = Field(
        None,
        description="tokenizer.json of texts, a folder that holds it, or minilm; default: the words of the training "
        "texts",
    )


class ModelConfig(Strict):
    name: str = Field(
        "mobilenetv2_small",
        description="architecture, torchvision/NAME for any of torchvision's classifiers, or module:object of your "
        f"own: {', '.join(SHIPPED_MODELS)}",
    )
    stem: Literal["cifar", "imagenet"] = Field(
        "cifar",
        description="first layers of resnet* and mobilenetv2*: cifar keeps 32 x 32 images large, imagenet is "
        "torchvision's own",
    )
    weights: PathText | None = Field(
        None,
        description="starting weights, not random: a .safetensors, .pth or .pt file, a folder as save_pretrained "
        "writes it (bert, distilbert, blip), imagenet (efficientnet_lite0) or minilm (bert); nothing is downloaded",
    )


class OptimizerConfig(Strict):
    name: Literal["sgd", "adamw"] = Field("sgd", description="optimizer of this network")
    lr: Annotated[float, Field(gt=0)] = Field(0.1, description="learning rate at the schedule's peak")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="SGD momentum")
    nesterov: bool = Field(False, description="Nesterov's momentum (sgd only)")
    weight_decay: Annotated[float, Field(ge=0)] = Field(5e-4, description="weight decay, all parameters")
    schedule: Literal["constant", "cosine", "multistep"] = Field("cosine", description="schedule of the learning rate")
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(0.0, description="linear warm-up, epochs")
    milestones: tuple[Fraction, ...] = Field(
        (0.3, 0.6, 0.8),
        description="multistep: where the rate drops, fractions of training (60/120/160 of 200)",
    )
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(0.2, description="multistep: factor at each milestone")
    clip_norm: Annotated[float, Field(gt=0)] | None = Field(None, description="gradient clipping, L2 norm")


class NetworkConfig(Strict):
    """One of the two networks, with a task, data, batch stream, loss and optimizer of its own."""

    task: str = Field(
        "image_classification",
        description="what the network learns, or module:object of your own: " + ", ".join(SHIPPED_TASKS),
    )
    model: ModelConfig = Field(default_factory=ModelConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    batch_size: Positive = Field(64, description="examples per optimizer step, over all workers")
    augment: bool = Field(
        True, description="random crop of training images, and horizontal flip unless a text describes them"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="label smoothing of the loss")
    seed: Seed | None = Field(None, description="seed of this network's streams; default: the run's seed")


class SourceConfig(NetworkConfig):
    model: ModelConfig = Field(default_factory=lambda: ModelConfig(name="resnet_small"))
    kind: Literal["live", "frozen", "self", "recorded"] = Field(
        "live",
        description="live: trains beside the target; frozen: never trains; self: the target's own layers; "
        "recorded: replays the weights of a source that was trained once",
    )
    recording: PathText | None = Field(None, description="recorded: folder written by `mergenet record`")
    max_gib: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="a recording that would take more GiB (2^30 bytes) is refused before it begins; null: no limit",
    )
    record_every: Positive | None = Field(
        None,
        description="recorded: steps between the weights that are shown, each until the next; a smaller recording, no "
        "longer what a live source gives; default: every transfer shows the weight of its step",
    )
    record_dtype: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="recorded: bf16 shows weights rounded to 8 bits of mantissa, in half the space; fp32 is exact",
    )

    @property
    def exact(self) -> bool:
        """Whether a recording shows, bit for bit, what a live source would."""
        return self.record_every is None and self.record_dtype == "fp32"


Align = Literal["auto", "inputs", "outputs", "none"]


class PairConfig(Strict):
    """A transfer pair: one source layer, one target layer, an adapter of its own in each direction."""

    source: str = Field(
        description="layer of the source network, as `mergenet layers` names it, or a pattern such as layer4.*, "
        "which turns this pair into several"
    )
    target: str = Field(description="layer of the target network, or a pattern")
    direction: Literal["to_target", "to_source", "both"] = Field("to_target", description="which way knowledge goes")
    every: Positive | None = Field(
        None, description="this pair's own cycle in optimizer steps, a multiple of t_cycle; default: t_cycle"
    )
    align: Align | None = Field(None, description="this pair's own alignment; default: transfer.align")


class AdapterConfig(Strict):
    kind: Annotated[str, OneOf(KINDS)] = Field("lpka", description=in_words(KINDS))
    encoding: Annotated[str, OneOf(ENCODINGS)] = Field("projected", description=in_words(ENCODINGS))
    source_basis: Literal["current", "start"] = Field(
        "current",
        description="projected: what a source that learns is shown in: the leading directions of its weight as it is "
        "now, or those of its starting weight, of what it learned a random part",
    )
    rank: Positive = Field(
        8, description="rank r of the re-encoding (per kernel row for convolutions that are not aligned)"
    )
    depth: Positive = Field(2, description="number of stacked knowledge transfer layers")
    heads: Positive = Field(4, description="attention heads (not linear)")
    width: Positive | None = Field(
        None,
        description="inner width of an attention, all heads; default: 32 for lpka, by shape for full_matrix. linear: "
        "rank of what each of its maps adds to the identity; default: 8",
    )
    mlp_ratio: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="hidden over outer width of the output MLP; default: 1/16 for lpka, 2 for full_matrix",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.2, description="dropout in the output MLP (not linear)")
    spectral_norm: bool = Field(True, description="spectral normalisation of the output MLP's two matrices")
    pairings: (
        Annotated[tuple[Literal["row_row", "row_column", "column_row", "column_column"], ...], Field(min_length=1)]
        | None
    ) = Field(
        None,
        description="attentions to average: <target tokens>_<source tokens>; default: all four, linear: row_row",
    )
    start: Literal["random", "identity"] = Field(
        "random",
        description="lpka, full_matrix: the source's tokens pass through random maps at first, or unchanged where "
        "tokens are equally wide; linear starts as the identity anyway",
    )
    init: PathText | None = Field(
        None,
        description="run folder, or its adapter.safetensors: adapters of the same shapes start from the trained ones",
    )
    gate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="share of the adapter's answer that is taken; 1 is the paper's replacement"
    )
    learned_gate: bool = Field(False, description="train the gate, from `gate` on")
    rms_match: bool = Field(True, description="normalise the inputs' RMS, give the answer the target's RMS")


class UpdateConfig(Strict):
    """How the adapter learns."""

    rule: Literal["delta", "gradient"] = Field(
        "delta",
        description="delta: pull the answer to where the target went; gradient: the target's own loss",
    )
    horizon: Literal["step", "cycle"] = Field(
        "step", description="delta: look at the target after one step, or at the end of the cycle"
    )
    normalize: bool = Field(
        False, description="delta: divide by the sum of the receiver's learning rates over the steps looked at"
    )
    lr: Annotated[float, Field(gt=0)] = Field(1e-3, description="AdamW learning rate of the adapter")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-2, description="AdamW decay, not on norms and biases")
    clip_norm: Annotated[float, Field(gt=0)] = Field(50.0, description="gradient clipping, L2 norm")
    warmup_fraction: Fraction = Field(0.1, description="share of training at constant rate, cosine after it")


Pairs = Annotated[
    Annotated[tuple[PairConfig, ...], Tag("list")] | Annotated[Literal["auto"], Tag("word")],
    Discriminator(lambda value: "word" if isinstance(value, str) else "list"),
]
PairLabel = Annotated[str, Field(pattern="[<>]")]  # as pair_labels.py reads it


class TransferConfig(Strict):
    t_cycle: Positive = Field(8, description="transfer every t_cycle optimizer steps")
    align: Align = Field(
        "auto",
        description="the space in which the two layers of a pair meet: that of their inputs or of their outputs, as it "
        "is where both see or give the same, else by a map estimated from activations; none: rows as they come; auto: "
        "the space that both share as it is, else none",
    )
    pairs: Pairs = Field(
        (),
        description="transfer pairs, also as tables have them (fc>head + conv1<>conv2), or auto: one pair, chosen by "
        "depth and size; only mergenet needs them",
    )
    adapter: AdapterConfig = Field(default_factory=AdapterConfig)
    update: UpdateConfig = Field(default_factory=UpdateConfig)
    control: Literal["real", "shuffled", "noise", "none"] = Field(
        "real",
        description="what the adapter is shown: the source's factor, its entries shuffled, noise of the same "
        "RMS, or no source at all (the target's own factor)",
    )
    optimizer_state: Literal["keep", "reset", "scale"] = Field(
        "keep", description="the receiver's momentum after a transfer: kept, zeroed, or times (1 - gate)"
    )
    start_step: Annotated[int, Field(ge=0)] = Field(0, description="first optimizer step that may transfer")
    stop_fraction: Fraction = Field(1.0, description="share of training after which no transfer happens")
    recalibrate_batches: Annotated[int, Field(ge=0)] = Field(
        0, description="training batches to re-estimate BatchNorm statistics with, after the last transfer"
    )

    @field_validator(
        "pairs", mode="before", json_schema_input_type=tuple[PairConfig | PairLabel, ...] | PairLabel | Literal["auto"]
    )
    @classmethod
    def _read_labels(cls, value: Any) -> Any:
        read = pairs_of(value)
        return tuple(read) if isinstance(read, list) else read

    @property
    def written_pairs(self) -> tuple[PairConfig, ...]:
        """The pairs, where `mergenet.transfer.pairs.resolve_pairs` or the user has written them out."""
        assert self.pairs != "auto", "resolve_pairs comes first"
        return self.pairs


NonNegative = Annotated[float, Field(ge=0)]


class DistillationConfig(Strict):
    """For the distillation methods, in which the target learns from the source's outputs. null: the published value."""

    weight: NonNegative | None = Field(None, description=f"weight of the method's loss; null: {described('weight')}")
    ce_weight: NonNegative | None = Field(
        None, description=f"weight of the task's own loss; null: {described('ce_weight')}"
    )
    warmup_fraction: Fraction | None = Field(
        None,
        description="share of training over which `weight` rises linearly from 0; "
        f"null: {described('warmup_fraction')}",
    )
    temperature: Annotated[float, Field(gt=0)] | None = Field(
        None, description=f"temperature by which logits are divided; null: {described('temperature')}"
    )
    alpha: NonNegative | None = Field(
        None, description=f"dkd: weight of the target class's part; null: {described('alpha')}"
    )
    beta: NonNegative | None = Field(
        None,
        description=f"dkd: weight of the other classes' part; dist: of relations in rows; null: {described('beta')}",
    )
    gamma: NonNegative | None = Field(
        None,
        description="nkd: weight of the other classes' part; dist: of relations in columns; "
        f"null: {described('gamma')}",
    )
    distance_weight: NonNegative | None = Field(
        None, description=f"rkd: weight of distances between two examples; null: {described('distance_weight')}"
    )
    angle_weight: NonNegative | None = Field(
        None, description=f"rkd: weight of angles between three examples; null: {described('angle_weight')}"
    )

    def resolved(self, method: str) -> dict[str, float]:
        """The method's settings, with published values where null."""
        given = {name: value for name, value in self if value is not None}
        return {name: given.get(name, value) for name, value in PUBLISHED[method].items()}
