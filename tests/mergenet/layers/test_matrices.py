import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor, nn

from mergenet.cli.layers_table import survey
from mergenet.errors import ConfigError
from mergenet.layers.matrices import (
    Columns,
    LayerError,
    LayerInfo,
    find_layer,
    layer_flops,
    list_layers,
    matrix_shape,
    rows_per_rank,
    to_matrix,
    to_weight,
)
from mergenet.transfer.encodings import View, check_rank, factorize
from tests.tiny import tiny_config

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


@given(shape=conv_shapes | linear_shapes)
@settings(max_examples=50, deadline=None)
def test_the_largest_rank_is_the_largest_that_a_re_encoding_takes(shape: tuple[int, ...]) -> None:
    if len(shape) == 2:
        layer: nn.Module = nn.Linear(shape[1], shape[0])
    else:
        layer = nn.Conv2d(shape[1], shape[0], (shape[2], shape[3]))
    [info] = list_layers(nn.Sequential(layer))
    for rank in range(1, info.largest_rank + 1):
        check_rank(View(layer), rank, "layer")
    with pytest.raises(ConfigError):
        check_rank(View(layer), info.largest_rank + 1, "layer")


def test_flops_are_those_of_the_formula() -> None:
    """2 * out * in of a linear layer; 2 * out * in * kernel * positions of a convolution; none where not called."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(4 * 25, 7))
    model.unused = nn.Linear(2, 2)
    total, by_layer = layer_flops(model, lambda: model[2](model[1](model[0](torch.randn(2, 3, 5, 5)))))
    assert by_layer == {}  # the network itself was not called, so its layers have no names
    total, by_layer = layer_flops(nn.Sequential(model), lambda: None)
    assert (total, by_layer) == (0, {})
    plain = model[:3]
    total, by_layer = layer_flops(plain, lambda: plain(torch.randn(2, 3, 5, 5)))
    assert by_layer == {"0": 2 * 2 * 4 * 3 * 9 * 25, "2": 2 * 2 * 7 * 100}
    assert total == sum(by_layer.values())


@pytest.mark.usefixtures("tiny")
def test_a_survey_holds_every_candidate_and_its_shares() -> None:
    network = tiny_config().target
    found = survey(network)
    assert [layer["name"] for layer in found["layers"]] == ["0", "3", "9"]
    assert sum(layer["compute"] for layer in found["layers"]) == pytest.approx(1)
    first = found["layers"][0]
    assert first["compute"] * found["flops"] == 2 * 6 * 27 * 16
    assert first["share"] * found["parameters"] == 6 * 27
    assert (first["largest_rank"], first["weight"], first["matrix"]) == (3, [6, 3, 3, 3], [18, 9])


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
        "did you mean features.1 or features.0? (layers of ModuleDict; target.model.name chooses the network)"
    )
    with pytest.raises(LayerError, match=r"^layer must be one of .* \(layers of ModuleDict\)$"):
        find_layer(model, "feature.1", "layer")
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
        f"transfer.pairs.0.source must be a Linear, an Embedding or an ungrouped Conv2d layer, got {name!r}, "
        f"which {reason}"
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


# ---------------------------------------------------------------- the table of matrices

COLUMNS: list[Columns] = ["kernel_rows", "inputs", "outputs"]
TABLE = {  # as matrices.py has it: (rows, columns) by what a column stands for
    "linear": ((6, 5), {"kernel_rows": (6, 5), "inputs": (6, 5), "outputs": (5, 6)}),
    "conv": ((6, 5, 2, 3), {"kernel_rows": (12, 15), "inputs": (6, 30), "outputs": (30, 6)}),
    "embedding": ((6, 5), {"kernel_rows": (5, 6), "inputs": (5, 6), "outputs": (6, 5)}),
}


def made(kind: str) -> nn.Module:
    return {"linear": nn.Linear(5, 6), "conv": nn.Conv2d(5, 6, (2, 3)), "embedding": nn.Embedding(6, 5)}[kind]


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("kind", TABLE)
def test_a_weight_as_a_matrix_has_the_shape_of_the_table_and_comes_back(kind: str, columns: Columns) -> None:
    shape, matrices = TABLE[kind]
    layer, embedding = made(kind), kind == "embedding"
    weight = layer.weight.detach()
    matrix = to_matrix(weight, columns, embedding)
    assert tuple(weight.shape) == shape
    assert tuple(matrix.shape) == matrix_shape(shape, columns, embedding) == matrices[columns]
    assert torch.equal(to_weight(matrix, shape, columns, embedding), weight)
    [info] = list_layers(nn.Sequential(layer))
    assert (info.kind, info.matrix, info.matrix_in(columns)) == (kind, matrices["kernel_rows"], matrices[columns])


@pytest.mark.parametrize("kind", TABLE)
def test_columns_are_coordinates_of_what_the_layer_receives_or_gives(kind: str) -> None:
    """W x of one input (a patch, a word), and of its transpose the same."""
    layer = made(kind)
    x = torch.randn(layer.weight.shape[1:].numel()) if kind != "embedding" else torch.eye(6)[4]
    given = {
        "linear": lambda: nn.functional.linear(x, layer.weight),
        "conv": lambda: nn.functional.conv2d(x.view(1, 5, 2, 3), layer.weight).flatten(),
        "embedding": lambda: layer(torch.tensor(4)),
    }[kind]()
    for columns, product in (
        ("inputs", to_matrix(layer.weight, "inputs", kind == "embedding") @ x),
        ("outputs", x @ to_matrix(layer.weight, "outputs", kind == "embedding")),
    ):
        torch.testing.assert_close(product, given, msg=columns)


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("kind", TABLE)
def test_the_largest_rank_in_these_columns_is_the_largest_that_is_taken(kind: str, columns: Columns) -> None:
    layer = made(kind)
    [info] = list_layers(nn.Sequential(layer))
    largest = info.largest_rank_in(columns)
    assert largest == {"linear": 5, "conv": 6, "embedding": 5}[kind]
    per_rank = 2 if kind == "conv" and columns == "kernel_rows" else 1
    assert (
        check_rank(View(layer, columns), largest, "layer")
        == largest * per_rank
        == rows_per_rank(info.shape, columns) * largest
    )
    with pytest.raises(ConfigError, match=rf"rank must be from 1 to {largest} for layer \(matrix "):
        check_rank(View(layer, columns), largest + 1, "layer")


def test_the_first_convolution_allows_more_ranks_in_patches_than_per_kernel_row() -> None:
    [info] = list_layers(nn.Sequential(nn.Conv2d(3, 16, 3)))
    assert (info.largest_rank, info.largest_rank_in("inputs"), info.largest_rank_in("outputs")) == (3, 16, 16)


def test_embeddings_take_part_but_sparse_ones_do_not() -> None:
    model = nn.Sequential(nn.Embedding(7, 4), nn.Embedding(7, 4, sparse=True), nn.EmbeddingBag(7, 4))
    assert list_layers(model) == [LayerInfo("0", "embedding", (7, 4), (4, 7), 28)]
    for name, reason in (("1", "has sparse gradients"), ("2", "is a EmbeddingBag")):
        with pytest.raises(LayerError) as error:
            find_layer(model, name, "transfer.pairs.0.target")
        assert str(error.value) == (
            "transfer.pairs.0.target must be a Linear, an Embedding or an ungrouped Conv2d layer, "
            f"got {name!r}, which {reason}"
        )


def test_an_embedding_is_not_factorized() -> None:
    with pytest.raises(ConfigError) as error:
        factorize(nn.Embedding(7, 4), 2, "transfer.pairs.0.source")
    assert str(error.value) == (
        "transfer.adapter.encoding must be projected where an Embedding takes part, got 'factorized' and "
        "transfer.pairs.0.source; it looks rows up, and has no product to factorize"
    )
