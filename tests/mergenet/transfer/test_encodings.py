import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mergenet.config import AdapterConfig
from mergenet.errors import ConfigError
from mergenet.layers.matrices import Layer, to_matrix, to_weight
from mergenet.transfer.encodings import Encoding, FactorizedView, Projected, Whole, encode, factorize, is_factorized

seeds = st.integers(0, 2**31)


def linear(seed: int = 0, m: int = 7, n: int = 12) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(n, m)


def conv(seed: int = 0) -> nn.Conv2d:
    torch.manual_seed(seed)
    return nn.Conv2d(5, 6, 3, padding=1)


def channels_last(seed: int = 0) -> nn.Conv2d:
    return conv(seed).to(memory_format=torch.channels_last)


def projected(layer: Layer) -> Encoding:
    return Projected(layer, 2)


def factorized(layer: Layer) -> Encoding:
    factorize(layer, 2)
    return FactorizedView(layer)


MAKE_LAYER = [linear, conv, channels_last]
ENCODINGS = [projected, factorized, Whole]
any_layer = pytest.mark.parametrize("make", MAKE_LAYER)
any_encoding = pytest.mark.parametrize("encoding_of", ENCODINGS)


@any_layer
@any_encoding
def test_writing_what_was_read_changes_nothing(make: Callable[[], Layer], encoding_of: Callable) -> None:
    layer = make()
    encoding = encoding_of(layer)
    before = layer.weight.detach().clone()
    encoding.write_(encoding.read())
    assert torch.equal(layer.weight, before)


@any_layer
@any_encoding
def test_a_written_factor_is_read_back(make: Callable[[], Layer], encoding_of: Callable) -> None:
    encoding = encoding_of(make())
    factor = torch.randn(encoding.factor_shape)
    encoding.write_(factor)
    torch.testing.assert_close(encoding.read(), factor, rtol=1e-5, atol=1e-6)


@any_layer
@any_encoding
def test_writes_keep_the_parameter_and_its_memory_layout(make: Callable[[], Layer], encoding_of: Callable) -> None:
    layer = make()
    encoding = encoding_of(layer)
    parameters = list(layer.parameters())
    places = [(p.data_ptr(), p.stride()) for p in parameters]
    encoding.write_(torch.randn(encoding.factor_shape))
    assert all(now is then for now, then in zip(layer.parameters(), parameters, strict=True))
    assert [(p.data_ptr(), p.stride()) for p in layer.parameters()] == places
    assert any(encoding.weight_parameter is p for p in parameters)


@any_encoding
def test_what_is_read_is_a_copy_without_graph(encoding_of: Callable) -> None:
    layer = linear()
    encoding = encoding_of(layer)
    before = layer.weight.detach().clone()
    factor = encoding.read()
    factor.zero_()
    assert not factor.requires_grad
    assert torch.equal(layer.weight, before)


@any_encoding
def test_factors_are_fp32_also_of_half_precision_weights(encoding_of: Callable) -> None:
    layer = linear().to(torch.bfloat16)
    encoding = encoding_of(layer)
    encoding.write_(encoding.read())
    layer(torch.randn(3, 12, dtype=torch.bfloat16)).sum().backward()
    assert encoding.read().dtype == encoding.grad().dtype == torch.float32


@any_layer
@any_encoding
def test_gradient_is_that_of_the_factor(make: Callable[[], Layer], encoding_of: Callable) -> None:
    """Against autograd through weight = B A + R with A a leaf."""
    layer = make()
    encoding = encoding_of(layer)
    assert encoding.grad() is None
    x = torch.randn(4, 12) if isinstance(layer, nn.Linear) else torch.randn(4, 5, 6, 6)
    layer(x).square().sum().backward()

    factor = encoding.read().requires_grad_()
    left = left_factor(layer, encoding)
    rest = (to_matrix(layer.weight) - left @ factor).detach()
    weight = to_weight(left @ factor + rest, layer.weight.shape)
    torch.func.functional_call(plain(layer), {"weight": weight}, (x,)).square().sum().backward()
    torch.testing.assert_close(encoding.grad(), factor.grad, rtol=1e-4, atol=1e-4)


def left_factor(layer: Layer, encoding: Encoding) -> Tensor:
    if isinstance(encoding, Projected):
        return encoding.basis
    if isinstance(encoding, FactorizedView):
        return layer.get_parameter("parametrizations.weight.original0").detach()
    return torch.eye(encoding.factor_shape[0])


def plain(layer: Layer) -> Layer:
    layer = copy.deepcopy(layer)
    if is_factorized(layer):
        parametrize.remove_parametrizations(layer, "weight")
    return layer


@given(seed=seeds, m=st.integers(1, 9), n=st.integers(1, 9), data=st.data())
@settings(max_examples=40, deadline=None)
def test_projected_writes_any_factor_and_leaves_the_rest(seed: int, m: int, n: int, data: st.DataObject) -> None:
    layer = linear(seed, m, n)
    encoding = Projected(layer, data.draw(st.integers(1, min(m, n))))
    basis, factor = encoding.basis.double(), torch.randn(encoding.factor_shape)
    rest = layer.weight.detach().double() - basis @ encoding.read().double()
    encoding.write_(factor)
    torch.testing.assert_close(layer.weight.detach().double(), basis @ factor.double() + rest, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(basis.T @ rest, torch.zeros_like(basis.T @ rest), rtol=0, atol=2e-6)


@given(seed=seeds, rank=st.integers(1, 7))
@settings(max_examples=30, deadline=None)
def test_basis_is_orthonormal_sign_fixed_and_spans_the_best_part(seed: int, rank: int) -> None:
    layer = linear(seed)
    basis = Projected(layer, rank).basis
    assert isinstance(basis, Float[Tensor, f"7 {rank}"])
    torch.testing.assert_close(basis.T @ basis, torch.eye(rank), rtol=0, atol=1e-6)
    assert (basis.gather(0, basis.abs().argmax(0, keepdim=True)) > 0).all()
    lost = layer.weight - basis @ (basis.T @ layer.weight)
    tail = torch.linalg.svdvals(layer.weight.detach())[rank:].norm()
    torch.testing.assert_close(lost.norm(), tail, rtol=1e-4, atol=1e-5)


@any_layer
def test_equal_weights_give_bitwise_equal_bases_and_factors(make: Callable[[], Layer]) -> None:
    layer, again = make(), make()
    first, second = Projected(layer, 2), Projected(again, 2)
    assert torch.equal(first.basis, second.basis)
    assert torch.equal(first.read(), second.read())


def test_memory_layout_does_not_change_a_bit() -> None:
    layer = conv()
    encoding = Projected(layer, 2)
    recorded = layer.weight.detach().clone(memory_format=torch.channels_last)
    assert torch.equal(encoding.read_from(recorded), encoding.read())


@pytest.mark.parametrize("offset", [1, 2, 3, 8])
def test_alignment_in_memory_does_not_change_a_bit(offset: int) -> None:
    """As tensors that are mapped from a file lie at any address."""
    layer = linear(0, 64, 96)
    encoding = Projected(layer, 5)
    recorded = torch.empty(offset + layer.weight.numel())[offset:].view(64, 96).copy_(layer.weight.detach())
    assert torch.equal(encoding.read_from(recorded), encoding.read())


def test_the_opposite_weight_has_the_same_basis_and_the_opposite_factor() -> None:
    layer, opposite = linear(), linear()
    with torch.no_grad():
        opposite.weight.neg_()
    torch.testing.assert_close(Projected(layer, 3).basis, Projected(opposite, 3).basis)
    torch.testing.assert_close(Projected(layer, 3).read(), -Projected(opposite, 3).read())


@any_encoding
def test_no_decomposition_after_construction(encoding_of: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = conv()
    encoding = encoding_of(layer)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decomposition in the loop")

    for name in ("svd", "svdvals", "qr", "eigh"):
        monkeypatch.setattr(torch.linalg, name, refuse)
    for _ in range(20):
        encoding.write_(encoding.read() + torch.randn(encoding.factor_shape))
        layer(torch.randn(1, 5, 4, 4)).sum().backward()
        assert encoding.grad() is not None


def test_the_basis_stays_while_the_weight_trains() -> None:
    layer = linear()
    encoding = Projected(layer, 3)
    basis = encoding.basis.clone()
    with torch.no_grad():
        layer.weight.copy_(torch.randn_like(layer.weight))
    assert torch.equal(encoding.basis, basis)
    torch.testing.assert_close(encoding.read(), basis.T @ layer.weight.detach())


def test_another_layer_of_the_same_start_reads_alike_through_the_checkpoint() -> None:
    encoding, other = Projected(linear(0), 3), Projected(linear(1), 3)
    weight = torch.randn(7, 12)
    assert not torch.equal(other.read_from(weight), encoding.read_from(weight))
    other.load_state_dict(encoding.state_dict())
    assert torch.equal(other.read_from(weight), encoding.read_from(weight))
    assert other.basis.data_ptr() != encoding.basis.data_ptr()


@any_layer
def test_a_recorded_weight_reads_as_the_live_one(make: Callable[[], Layer]) -> None:
    for encoding_of in (projected, Whole):
        live = encoding_of(make())
        replayed = encoding_of(make())
        with torch.no_grad():
            live.weight_parameter.normal_()
        assert torch.equal(replayed.read_from(live.weight_parameter.detach()), live.read())


def test_a_factorized_layer_has_no_factor_of_another_weight() -> None:
    with pytest.raises(AssertionError, match="no factor of another weight"):
        factorized(linear()).read_from(torch.randn(7, 12))


@given(seed=seeds, m=st.integers(1, 9), n=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_factorize_at_full_rank_keeps_the_weight(seed: int, m: int, n: int) -> None:
    layer = linear(seed, m, n)
    before = layer.weight.detach().clone()
    factorize(layer, min(m, n))
    torch.testing.assert_close(layer.weight.detach(), before, rtol=1e-5, atol=1e-6)


@any_layer
def test_factorize_keeps_the_best_part_in_balanced_factors(make: Callable[[], Layer]) -> None:
    layer = make()
    matrix = to_matrix(layer.weight.detach()).double()
    factorize(layer, 2)
    left, right = (p.detach().double() for p in layer.parametrizations["weight"].parameters())
    rows = left.shape[1]
    torch.testing.assert_close(
        (matrix - left @ right).norm(), torch.linalg.svdvals(matrix)[rows:].norm(), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(left.T @ left, right @ right.T, rtol=1e-5, atol=1e-6)
    assert (left.gather(0, left.abs().argmax(0, keepdim=True)) > 0).all()


def test_factorize_trains_the_two_factors_and_exports_a_plain_layer() -> None:
    layer = conv()
    factorize(layer, 1)
    factorize(layer, 1)
    assert len(layer.parametrizations["weight"]) == 1
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        "bias": (6,),
        "parametrizations.weight.original0": (18, 3),
        "parametrizations.weight.original1": (3, 15),
    }
    weight = layer.weight.detach().clone()
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Conv2d
    assert [name for name, _ in layer.named_parameters()] == ["bias", "weight"]
    assert torch.equal(layer.weight, weight)


@any_layer
def test_encode_follows_the_configuration(make: Callable[[], Layer]) -> None:
    whole = encode(make(), "target", AdapterConfig(kind="full_matrix"))
    assert isinstance(whole, Whole)
    assert whole.factor_shape == tuple(to_matrix(make().weight).shape)
    layer = make()
    low_rank = encode(layer, "target", AdapterConfig(rank=2))
    assert isinstance(low_rank, Projected)
    factorize(layer, 2)
    factors = encode(layer, "target", AdapterConfig(rank=2, encoding="factorized"))
    assert isinstance(factors, FactorizedView)
    kernel_rows = 1 if isinstance(layer, nn.Linear) else 3
    assert factors.factor_shape == low_rank.factor_shape == (2 * kernel_rows, whole.factor_shape[1])


def test_a_view_needs_a_factorized_layer() -> None:
    with pytest.raises(AssertionError, match="call factorize"):
        encode(linear(), "target", AdapterConfig(encoding="factorized"))


def test_a_rank_above_the_limit_names_path_limit_and_value() -> None:
    with pytest.raises(ConfigError) as error:
        encode(linear(), "transfer.pairs.0.target", AdapterConfig(rank=8))
    assert str(error.value) == (
        "transfer.adapter.rank must be from 1 to 7 for transfer.pairs.0.target (matrix 7 x 12), got 8; "
        "set another rank or name another layer"
    )
    with pytest.raises(ConfigError) as error:
        factorize(conv(), 6, "transfer.pairs.0.source")
    assert "from 1 to 5 for transfer.pairs.0.source (matrix 18 x 15, 3 kernel rows), got 6" in str(error.value)
    Projected(linear(), 7)
    Projected(conv(), 5)


@pytest.mark.parametrize("kind", ["lpka", "linear"])
def test_the_vector_of_padding_is_never_written(kind: str) -> None:
    layer = nn.Embedding(9, 6, padding_idx=2)
    receiver = encode(layer, "layer", AdapterConfig(kind=kind, rank=3))
    before = layer.weight.detach().clone()
    receiver.write_(receiver.read() + 1)
    assert not before[2].any()
    assert not layer.weight[2].any()
    assert (layer.weight != before).any(dim=1).sum() == 8, "all others are"
