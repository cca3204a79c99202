"""Maps between spaces that two layers do not share: against closed forms in float64, and what they leave untouched."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from mergenet.config.loading import load_config
from mergenet.errors import ConfigError
from mergenet.layers.matrices import Columns, to_matrix
from mergenet.models import MODELS, image_classifier
from mergenet.training.trainer import Trainer
from mergenet.transfer.alignment import (
    GRID,
    RIDGE,
    Estimated,
    activations,
    estimate,
    grid_of,
    on_one_grid,
    patches_of,
)
from mergenet.transfer.source import record_source
from tests.tiny import copies, equal, same, snapshot, tiny_config

pytestmark = pytest.mark.usefixtures("tiny")

COLUMNS: list[Columns] = ["inputs", "outputs"]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ridge(x: Tensor, y: Tensor) -> Tensor:
    """(C_xx + c I)^-1 C_xy, in float64."""
    x, y = x.double(), y.double()
    x, y = x - x.mean(0), y - y.mean(0)
    covariance = x.T @ x / len(x)
    level = RIDGE * covariance.diagonal().mean()
    return torch.linalg.inv(covariance + level * torch.eye(x.shape[1])) @ (x.T @ y / len(x))


# ---------------------------------------------------------------- the estimate


@pytest.mark.parametrize("columns", COLUMNS)
def test_the_map_is_the_closed_form(columns: Columns) -> None:
    source, target = normal(300, 7) + 3, normal(300, 5, seed=1) - 2
    target = target + source @ normal(7, 5, seed=2)
    found, _ = estimate(source, target, columns)
    expected = ridge(target, source).T if columns == "inputs" else ridge(source, target)
    assert found.shape == (7, 5)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-4)


def test_of_inputs_a_row_keeps_its_values_on_the_examples() -> None:
    """x_s = x_t M: the function w.x_s is u.x_t for u = M w, up to the ridge."""
    relation, target = normal(9, 6, seed=3), normal(400, 9)
    found, r2 = estimate(target @ relation + 5, target, "inputs")
    torch.testing.assert_close(found, relation.T, atol=0.1, rtol=0.05)
    rows = normal(4, 6, seed=4)
    values, kept = (target @ relation) @ rows.T, target @ (rows @ found).T
    assert (values - kept).norm() < 0.05 * values.norm()
    assert r2 > 0.99


def test_of_outputs_a_direction_goes_where_the_targets_outputs_go() -> None:
    """y_t = y_s M: along v of y_s, y_t goes along v M."""
    relation, source = normal(6, 9, seed=3), normal(400, 6)
    found, r2 = estimate(source, source @ relation - 1, "outputs")
    torch.testing.assert_close(found, relation, atol=0.1, rtol=0.05)
    assert r2 > 0.99


@pytest.mark.parametrize("columns", COLUMNS)
def test_r_squared_is_near_1_for_a_linear_relation_and_not_above_0_for_none(columns: Columns) -> None:
    source = normal(300, 8)
    _, related = estimate(source, source @ normal(8, 8, seed=1), columns)
    _, unrelated = estimate(source, normal(300, 8, seed=2), columns)
    _, noisy = estimate(source, source + normal(300, 8, seed=3), columns)
    assert related > 0.98
    assert -0.5 < unrelated < 0.05
    assert noisy == pytest.approx(0.5, abs=0.12)


def test_r_squared_is_of_examples_that_the_map_was_not_fitted_to() -> None:
    """More coefficients than examples: those that were fitted to would be met exactly."""
    _, r2 = estimate(normal(60, 50), normal(60, 50, seed=1), "outputs")
    assert r2 < 0
    assert estimate(normal(3, 2), normal(3, 2), "inputs")[1] != estimate(normal(3, 2), normal(3, 2), "inputs")[1], "nan"


def test_what_never_moves_is_mapped_to_nothing() -> None:
    found, _ = estimate(torch.ones(50, 3), normal(50, 4), "outputs")
    assert found.abs().max() < 1e-3


# ---------------------------------------------------------------- activations


@pytest.mark.parametrize(
    "more", [{}, {"stride": 2}, {"padding": 1}, {"stride": (2, 1), "padding": (2, 0), "dilation": 2}]
)
@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect"])
@pytest.mark.parametrize("kernel", [1, 3, (2, 3)])
def test_a_convolution_is_its_matrix_on_patches(kernel: Any, mode: str, more: dict[str, Any]) -> None:
    layer = nn.Conv2d(3, 4, kernel, padding_mode=mode, bias=False, **more)
    images = normal(2, 3, 9, 8)
    patches = patches_of(images, layer)
    given = layer(images)
    assert patches.shape[2:] == given.shape[2:]
    rebuilt = torch.einsum("op,nphw->nohw", to_matrix(layer.weight, "inputs"), patches)
    torch.testing.assert_close(rebuilt, given, atol=1e-5, rtol=1e-4)


def test_padding_by_name_is_known_too() -> None:
    layer = nn.Conv2d(3, 4, 3, padding="same", bias=False)
    images = normal(2, 3, 6, 5)
    rebuilt = torch.einsum("op,nphw->nohw", to_matrix(layer.weight, "inputs"), patches_of(images, layer))
    torch.testing.assert_close(rebuilt, conv2d(images, layer.weight, padding="same"), atol=1e-5, rtol=1e-4)


def test_grids_of_other_layers() -> None:
    rows, sequence, linear = normal(5, 6), normal(5, 7, 6), nn.Linear(6, 6)
    assert torch.equal(grid_of(rows, linear, "inputs")[:, :, 0, 0], rows)
    grid = grid_of(sequence, linear, "outputs")
    assert grid.shape == (5, 6, 7, 1)
    assert torch.equal(grid[2, :, 3, 0], sequence[2, 3])


def test_two_grids_are_averaged_onto_the_coarser_and_stay_row_by_row_the_same_examples() -> None:
    small, large = normal(3, 5, 2, 2), normal(3, 7, 8, 8)
    first, second = on_one_grid(small, large)
    assert torch.equal(first, small.permute(0, 2, 3, 1).reshape(12, 5))
    torch.testing.assert_close(second[4 + 2 * 0 + 1], large[1, :, :4, 4:].mean((1, 2)))
    one, other = on_one_grid(large, large)
    assert one.shape == other.shape == (3 * GRID * GRID, 7)
    sequence, image = on_one_grid(normal(3, 5, 6, 1), large)
    assert len(sequence) == len(image) == 3 * GRID
    pooled, flat = on_one_grid(normal(3, 2, 1, 1), large)
    torch.testing.assert_close(flat, large.mean((2, 3)))
    assert len(pooled) == 3


def test_a_network_is_looked_at_in_evaluation_mode_and_left_as_it_was() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    before, images = copies(network.state_dict()), normal(6, 4)
    seen = activations(network, network[3], (images,), "inputs")
    again = activations(network, network[3], (images,), "inputs")
    assert torch.equal(seen, again), "no dropout"
    assert network.training
    assert same(network.state_dict(), before), "nor new statistics"
    assert not network[3]._forward_hooks
    network.eval()
    activations(network, network[3], (images,), "outputs")
    assert not network.training
    with pytest.raises(RuntimeError):
        activations(network.train(), network[3], (normal(6, 5),), "inputs")
    assert network.training
    assert not network[3]._forward_hooks


def test_a_layer_that_is_not_called_is_refused() -> None:
    """torch's attention takes the weight of its last layer, and never calls that."""
    network = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    with pytest.raises(ConfigError) as caught:
        activations(network, network.self_attn.out_proj, (normal(6, 3, 8),), "outputs")
    start = "transfer.align must be none for self_attn.out_proj, got 'outputs'; its network does not call it"
    assert str(caught.value).startswith(start)
    assert network.training


# ---------------------------------------------------------------- runs


def two_layers(width: int) -> Any:
    """Linear layers 1 and 2 without anything between them."""

    def build(outputs: int, _stem: str) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(192, width), nn.Linear(width, outputs))

    return image_classifier(build)


@pytest.fixture
def linear_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "wide", two_layers(14))
    monkeypatch.setitem(MODELS, "narrow", two_layers(9))


def build(changes: dict[str, Any] | None = None) -> Trainer:
    networks = {"source.model.name": "wide", "target.model.name": "narrow", "target.augment": False}
    pair = {"transfer.pairs": [{"source": "2", "target": "2", "align": "inputs"}], "transfer.adapter.rank": 4}
    return Trainer(tiny_config({**networks, **pair, **(changes or {})}))


def images_of(trainer: Trainer) -> Tensor:
    """All training images: fewer than are looked at."""
    task = trainer.target.task
    return task.batch("train", torch.arange(task.size("train")), torch.device("cpu"))["images"]


@pytest.mark.usefixtures("linear_networks")
@pytest.mark.parametrize("layer", ["1", "2"])
def test_what_a_run_estimates_between_linear_networks_is_the_closed_form(layer: str) -> None:
    """Hidden units of the source are linear in those of the target, in `inputs` of layer 2 and `outputs` of layer 1."""
    columns = "inputs" if layer == "2" else "outputs"
    trainer = build({"transfer.pairs": [{"source": layer, "target": layer, "align": columns}]})
    (link,) = trainer.transfer.links
    source, target = trainer.learners[1].network, trainer.learners[0].network
    relation = normal(14, 9)
    with torch.no_grad():
        source.get_parameter("1.weight").copy_(relation @ target.get_parameter("1.weight"))
        hidden = [network[1](network[0](images_of(trainer))) for network in (source, target)]
    expected = ridge(hidden[1], hidden[0]).T if columns == "inputs" else ridge(hidden[0], hidden[1])
    shown = link.giver.shown(0)
    estimated = link.giver.estimated
    assert estimated is not None
    torch.testing.assert_close(estimated.found.double(), expected, atol=1e-4, rtol=1e-3)
    assert estimated.r2 > 0.9
    basis = link.giver.state_dict()["encoding"]["basis"]
    matrix = to_matrix(source.get_parameter(f"{layer}.weight").detach(), columns)
    torch.testing.assert_close(shown, basis.T @ matrix @ estimated.found, atol=1e-4, rtol=1e-3)
    assert shown.shape == link.giver.shape == (4, 9)
    assert link.giver.metrics()["align_r2"] == estimated.r2


@pytest.mark.usefixtures("linear_networks")
def test_a_map_is_made_anew_once_an_epoch() -> None:
    trainer = build({"epochs": 3, "transfer.t_cycle": 2})
    (link,) = trainer.transfer.links
    estimated = link.giver.estimated
    assert estimated is not None
    seen = []
    for step in range(21):
        trainer._step(step)
        seen.append((estimated.epoch, estimated.found))
    assert [epoch for epoch, _ in seen] == [0] * 8 + [1] * 6 + [2] * 7, "at the first transfer of each, steps 0, 8, 14"
    changes = [i for i in range(1, 21) if not torch.equal(seen[i][1], seen[i - 1][1])]
    assert changes == [8, 14]


def small(outputs: int, _stem: str) -> nn.Module:
    """A strided 3 x 3, a 1 x 1: layers 0, 2, 5."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(6, 9, 1, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(9, outputs),
    )


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("direction", ["to_target", "to_source"])
def test_convolutions_of_unequal_kernels_and_strides_meet(
    monkeypatch: pytest.MonkeyPatch, columns: str, direction: str
) -> None:
    monkeypatch.setitem(MODELS, "small", image_classifier(small))
    pair = {"source": "3", "target": "2", "align": columns, "direction": direction}
    changes = {"source.model.name": "tiny_cnn", "target.model.name": "small", "transfer.pairs": [pair]}
    trainer = Trainer(tiny_config({**changes, "transfer.adapter": {"kind": "linear", "rank": 3}}))
    (link,) = trainer.transfer.links
    width = {"inputs": (54, 6), "outputs": (8, 9)}[columns]
    shape = width if direction == "to_target" else width[::-1]
    assert link.giver.shown(0).shape == (3, shape[1])
    assert link.giver.estimated is not None
    assert link.giver.estimated.found.shape == shape
    assert list(trainer.epochs())[-1].metrics["align_r2"] > -1


def test_estimating_leaves_modes_statistics_streams_and_gradients() -> None:
    changes = {"source.model.name": "tiny_cnn", "transfer.align": "inputs"}
    trainer = Trainer(tiny_config({**changes, "transfer.pairs": [{"source": "3", "target": "9"}]}))
    for learner in trainer.learners:
        learner.backward()
    (link,) = trainer.transfer.links
    networks = [learner.network for learner in trainer.learners]

    def everything() -> Any:
        return {
            "states": [copies(network.state_dict()) for network in networks],
            "gradients": [[p.grad.clone() for p in network.parameters() if p.grad is not None] for network in networks],
            "modes": [[module.training for module in network.modules()] for network in networks],
            "streams": [snapshot(learner.state_dict())["augmenting"] for learner in trainer.learners],
            "global": torch.get_rng_state(),
        }

    before = everything()
    assert isinstance(link.giver.estimated, Estimated)
    link.giver.estimated.matrix(0)
    assert equal(everything(), before)
    assert not link.giver.estimated.found.requires_grad


def test_estimating_draws_no_number_that_the_target_would_draw() -> None:
    """A run whose maps are estimated but never asked for trains the target as the baseline does."""
    idle, baseline = (
        Trainer(tiny_config({"transfer.align": "inputs", "transfer.adapter.gate": 1e-30})),
        Trainer(tiny_config({"method": "none"})),
    )
    for trainer in (idle, baseline):
        list(trainer.epochs())
    assert idle.transfer.links[0].num_transfers == 7
    for name, value in baseline.target.network.state_dict().items():
        torch.testing.assert_close(idle.target.network.state_dict()[name], value, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("t_cycle", [2, 9])
def test_a_resumed_run_is_bitwise_one_that_was_not_stopped(t_cycle: int) -> None:
    changes = {"epochs": 3, "transfer.align": "outputs", "transfer.t_cycle": t_cycle}
    whole, stopped, resumed = (Trainer(tiny_config(changes)) for _ in range(3))
    list(whole.epochs())
    epochs = stopped.epochs()
    next(epochs)
    next(epochs)
    resumed.load_state_dict(snapshot(stopped.state_dict()))
    list(resumed.epochs())
    assert equal(snapshot(resumed.state_dict()), snapshot(whole.state_dict()))


# ---------------------------------------------------------------- refused


def test_a_recorded_source_has_no_activations(tmp_path: Any) -> None:
    for _ in record_source(tiny_config(), tmp_path, ["3"], 2):
        pass
    changes = {"source.kind": "recorded", "source.recording": str(tmp_path), "transfer.align": "inputs"}
    with pytest.raises(ConfigError) as caught:
        Trainer(tiny_config(changes))
    message = str(caught.value)
    assert message.startswith("transfer.pairs.0.align must be none where ")
    assert "the source is recorded, got 'inputs'; " in message
    assert message.endswith("use source.kind: live or frozen")


def test_two_networks_may_have_seen_different_images() -> None:
    """More of the same data set, or another split: both can be shown what the target trains on."""
    data = {"name": "digits", "image_size": 8, "train_fraction": 0.3, "val_fraction": 0.1, "split_seed": 1}
    changes = {"source.data": data, "source.model.name": "tiny_cnn", "transfer.align": "outputs"}
    (link,) = Trainer(tiny_config(changes)).transfer.links
    assert link.giver.estimated is not None


def test_two_networks_must_be_able_to_read_the_same() -> None:
    data = {"name": "digits", "image_size": 9, "train_fraction": 0.085, "val_fraction": 0.05}
    changes = {"source.data": data, "source.model.name": "tiny_cnn", "transfer.align": "outputs"}
    with pytest.raises(ConfigError) as caught:
        Trainer(tiny_config(changes))
    message = str(caught.value)
    assert message.startswith("transfer.pairs.0.align must be none where ")
    assert "the two networks read different things, got 'outputs'; " in message


@pytest.mark.parametrize("columns", COLUMNS)
def test_trained_factors_have_one_layout(columns: str) -> None:
    with pytest.raises(ValueError, match=r"transfer\.align must be auto or none for the factorized encoding, got"):
        tiny_config({"transfer.align": columns, "transfer.adapter.encoding": "factorized"})


def test_layers_that_share_the_space_as_it_is_need_no_map() -> None:
    pair = [{"source": "1", "target": "1", "align": "inputs"}]
    (link,) = Trainer(tiny_config({"target.model.name": "tiny_mlp", "transfer.pairs": pair})).transfer.links
    assert link.giver.estimated is None
    assert "align_r2" not in link.giver.metrics()
    other = [{"source": "1", "target": "1", "align": "outputs"}]
    (link,) = Trainer(tiny_config({"target.model.name": "tiny_mlp", "transfer.pairs": other})).transfer.links
    assert link.giver.estimated is not None


def test_no_map_between_words_is_estimated() -> None:
    pair = "{source: backbone.encoder.layer.0.output.dense, target: backbone.embeddings.word_embeddings, align: inputs}"
    settings = ["source.kind=self", "source.model.weights=null", f"transfer.pairs=[{pair}]", "device=cpu"]
    with pytest.raises(ConfigError) as caught:
        Trainer(load_config("frozen-text", settings))
    assert str(caught.value) == (
        "transfer.pairs.0.align must be outputs or none for an Embedding whose inputs the other layer does not share, "
        "got 'inputs'; a map between words is not estimated"
    )
