import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor, nn

from mergenet.errors import ConfigError
from mergenet.layers import LayerError, LayerInfo, find_layer, list_layers, matrix_shape, to_matrix, to_weight
from mergenet.reencode import factorize

conv_shapes = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3))
linear_shapes = st.tuples(st.integers(1, 6), st.integers(1, 6))


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 16, (1, 3))),
        nn.Flatten(),
        nn.LazyLinear(4),
        nn.Linear(4, 5),
    )


def test_list_layers_gives_the_suitable_ones_in_module_order(model: nn.Module) -> None:
    assert list_layers(model)[0] == LayerInfo("0", "conv", (8, 3, 3, 3), (24, 9), 216)
    assert [layer.name for layer in list_layers(model)] == ["0", "2.2", "5"]
    assert list_layers(model)[-1] == LayerInfo("5", "linear", (5, 4), (5, 4), 20)


def test_every_listed_layer_is_found_and_has_the_matrix_that_is_promised(model: nn.Module) -> None:
    for info in list_layers(model):
        weight = find_layer(model, info.name).weight
        assert tuple(weight.shape) == info.shape
        assert tuple(to_matrix(weight).shape) == info.matrix


def test_layers_are_still_listed_and_found_after_factorize(model: nn.Module) -> None:
    before = list_layers(model)
    factorize(find_layer(model, "0"), 2)
    factorize(find_layer(model, "5"), 2)
    assert list_layers(model) == before
    assert find_layer(model, "5") is model[5]


def test_a_misspelt_name_lists_the_nearest_ones() -> None:
    model = nn.ModuleDict({"features": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "head": nn.Linear(2, 2)})
    with pytest.raises(LayerError) as error:
        find_layer(model, "feature.1", "transfer.pairs.0.target")
    assert str(error.value) == (
        "transfer.pairs.0.target must be one of features.0, features.1, head, got 'feature.1'; "
        "did you mean features.1 or features.0?"
    )
    assert isinstance(error.value, ConfigError)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("1", "is a BatchNorm2d"),
        ("2", "is a Sequential"),
        ("2.0", "is a depthwise convolution (8 groups): its weight is not one matrix"),
        ("2.1", "is a grouped convolution (2 groups): its weight is not one matrix"),
        ("4", "has no weight before the first forward pass"),
    ],
)
def test_an_unsuitable_layer_is_refused_with_the_reason(model: nn.Module, name: str, reason: str) -> None:
    with pytest.raises(LayerError) as error:
        find_layer(model, name, "transfer.pairs.0.source")
    assert str(error.value) == (
        f"transfer.pairs.0.source must be a Linear or an ungrouped Conv2d layer, got {name!r}, which {reason}"
    )


@given(shape=conv_shapes | linear_shapes)
@settings(max_examples=50, deadline=None)
def test_matrix_and_weight_are_inverse(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape)
    matrix = to_matrix(weight)
    assert tuple(matrix.shape) == matrix_shape(shape)
    assert torch.equal(to_weight(matrix, shape), weight)


def test_rows_are_output_channel_and_kernel_row() -> None:
    weight = torch.randn(4, 5, 2, 3)
    matrix = to_matrix(weight)
    assert isinstance(matrix, Float[Tensor, "8 15"])
    assert matrix[2 * 2 + 1, 4 * 3 + 2] == weight[2, 4, 1, 2]


def test_a_1x1_convolution_is_its_linear_matrix() -> None:
    weight = torch.randn(4, 5, 1, 1)
    assert torch.equal(to_matrix(weight), weight.flatten(1))
