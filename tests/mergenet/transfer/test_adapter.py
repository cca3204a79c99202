import os
from pathlib import Path

import numpy as np
import pytest
import torch
from beartype import beartype
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float, jaxtyped
from safetensors import safe_open
from torch import Tensor, nn

from mergenet.config import AdapterConfig
from mergenet.transfer.adapter import (
    Adapter,
    CrossAttention,
    KnowledgeTransferLayer,
    NearIdentity,
    attention_width,
    hidden_width,
    rms,
)

# Answers and gradients of the authors' released block; MERGENET_REFERENCE may name a folder with more.
VECTORS = [Path(__file__).parents[2] / "data" / "full_matrix_case0.safetensors"]
if "MERGENET_REFERENCE" in os.environ:
    VECTORS += sorted(Path(os.environ["MERGENET_REFERENCE"]).glob("case*.safetensors"))

PAIRINGS = ("row_row", "row_column", "column_row", "column_column")
TARGET, SOURCE = (6, 10), (4, 14)


def adapter(**values: object) -> Adapter:
    """A small adapter in evaluation mode, always the same one."""
    torch.manual_seed(0)
    return Adapter(TARGET, SOURCE, AdapterConfig(**{"heads": 2, "width": 8, **values})).eval()


def factors(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(TARGET, generator=generator) * 0.03, torch.randn(SOURCE, generator=generator) * 0.2


def relative_error(got: Tensor, wanted: Tensor) -> float:
    return ((got - wanted).norm() / wanted.norm()).detach().item()


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_full_matrix_reproduces_the_released_block(path: Path) -> None:
    with safe_open(path, "pt") as file:
        heads, depth = (int(file.metadata()[name]) for name in ("heads", "depth"))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    target, source, answer, learned = (tensors.pop(n) for n in ("target", "source", "answer", "learned"))
    wanted = {name[5:]: tensors.pop(name) for name in list(tensors) if name.startswith("grad.")}
    config = AdapterConfig(kind="full_matrix", heads=heads, depth=depth, spectral_norm=False, rms_match=False, gate=1.0)
    block = Adapter(tuple(target.shape), tuple(source.shape), config).eval()
    block.stack.load_state_dict(tensors)  # strict: same names, same shapes

    got = block(target, source)
    assert relative_error(got, answer) < 1e-5
    parameters = dict(block.stack.named_parameters())
    gradients = torch.autograd.grad(got, [parameters[name] for name in wanted], got.detach() - learned)
    for name, gradient in zip(wanted, gradients, strict=True):
        assert relative_error(gradient, wanted[name]) < 1e-4, name


def test_lpka_is_the_written_formula() -> None:
    """One KTL, every head by itself, in float64 numpy."""
    block = adapter(depth=1, spectral_norm=False, rms_match=False)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.5)
    target, source = factors()
    a, s = target.double().numpy(), source.double().numpy()
    w = {name: p.detach().double().numpy() for name, p in block.stack[0].named_parameters()}

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-12)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def attend(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        q, k, v = linear(f"{name}.query", x), linear(f"{name}.key", y), linear(f"{name}.value", y)
        heads = []
        for h in (slice(0, 4), slice(4, 8)):
            e = np.exp(q[:, h] @ k[:, h].T / np.sqrt(4))
            heads.append(e / e.sum(1, keepdims=True) @ v[:, h])
        return norm(f"{name}.norm", x + linear(f"{name}.out", np.concatenate(heads, 1)))

    mean = (
        attend("row_row", a, s)
        + attend("row_column", a, s.T)
        + attend("column_row", a.T, s).T
        + attend("column_column", a.T, s.T).T
    ) / 4
    up = linear("output.up", mean)
    gelu = 0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
    wanted = norm("output.norm", mean + linear("output.down", gelu))
    assert relative_error(block.answer(target, source).double(), torch.from_numpy(wanted)) < 1e-5


def test_every_layer_asks_the_same_source() -> None:
    block = adapter(depth=3, rms_match=False)
    target, source = factors()
    x = target
    for layer in block.stack:
        x = layer(x, source)
    assert torch.equal(block.answer(target, source), x)


@given(
    target=st.tuples(st.integers(1, 7), st.integers(1, 9)),
    source=st.tuples(st.integers(1, 7), st.integers(1, 9)),
    kind=st.sampled_from(["lpka", "full_matrix", "linear"]),
    pairings=st.sets(st.sampled_from(PAIRINGS), min_size=1),
)
@settings(max_examples=25, deadline=None)
def test_answers_have_the_shape_of_the_target(
    target: tuple[int, int], source: tuple[int, int], kind: str, pairings: set[str]
) -> None:
    @jaxtyped(typechecker=beartype)
    def checked(a: Float[Tensor, "M N"], s: Float[Tensor, "P Q"]) -> Float[Tensor, "M N"]:
        return Adapter(a.shape, s.shape, config)(a, s)

    config = AdapterConfig(kind=kind, pairings=tuple(sorted(pairings)), width=8)
    assert torch.isfinite(checked(torch.randn(target), torch.randn(source))).all()


def test_heads_split_the_width() -> None:
    attention = CrossAttention(10, 14, width=8, heads=2)
    assert isinstance(attention(torch.randn(6, 10), torch.randn(4, 14)), Float[Tensor, "6 10"])
    assert isinstance(attention._split(torch.randn(6, 8)), Float[Tensor, "1 2 6 4"])


@pytest.mark.parametrize("gate", [0.1, 0.7, 1.0])
@pytest.mark.parametrize("rms_match", [True, False])
def test_gate_mixes_the_answer_in(gate: float, rms_match: bool) -> None:
    block = adapter(gate=gate, rms_match=rms_match)
    target, source = factors()
    answer, mixed = block.answer(target, source), block(target, source)
    torch.testing.assert_close(mixed, target + gate * (answer - target))
    assert torch.equal(mixed, answer) == (gate == 1.0)


def test_a_vanishing_gate_is_the_identity() -> None:
    target, source = factors()
    assert torch.equal(adapter(gate=1e-30)(target, source), target)
    errors = [relative_error(adapter(gate=gate)(target, source), target) for gate in (1e-1, 1e-2, 1e-3)]
    assert errors[0] / errors[1] == pytest.approx(10, rel=1e-3)
    assert errors[1] / errors[2] == pytest.approx(10, rel=1e-2)


def test_a_learned_gate_starts_at_the_configured_value_and_has_a_gradient() -> None:
    block = adapter(gate=0.1, learned_gate=True)
    assert block.gate.item() == pytest.approx(0.1)
    target, source = factors()
    torch.testing.assert_close(block(target, source), adapter(gate=0.1)(target, source))
    block(target, source).square().sum().backward()
    assert block.gate_logit.grad.abs() > 0
    assert "gate_logit" not in dict(adapter().named_parameters())


def test_a_learned_gate_of_one_stays_finite() -> None:
    assert adapter(gate=1.0, learned_gate=True).gate.item() == pytest.approx(0.999)


@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), source_scale=st.floats(1e-3, 1e3))
@settings(max_examples=25, deadline=None)
def test_rms_matching_follows_the_targets_scale_and_ignores_the_sources(
    seed: int, scale: float, source_scale: float
) -> None:
    block = adapter(gate=0.3)
    nn.init.constant_(block.stack[-1].output.norm.weight, 3.0)  # as it may become: RMS 1 no more by itself
    target, source = factors(seed)
    answer = block.answer(target, source)
    assert rms(answer).item() == pytest.approx(float(rms(target)), rel=1e-5)
    assert relative_error(block.answer(scale * target, source_scale * source), scale * answer) < 1e-4
    assert relative_error(block(scale * target, source_scale * source), scale * block(target, source)) < 1e-4


def test_factors_of_zeros_stay_finite() -> None:
    target, source = factors()
    block = adapter()
    assert torch.isfinite(block(target, torch.zeros(SOURCE))).all()
    assert block(torch.zeros(TARGET), source).abs().max().item() < 1e-9


@pytest.mark.parametrize("pairings", [("row_row",), ("column_row", "row_column"), PAIRINGS])
def test_only_selected_pairings_are_built_and_averaged(pairings: tuple[str, ...]) -> None:
    layer: KnowledgeTransferLayer = adapter(depth=1, pairings=pairings).stack[0]
    assert [name for name, child in layer.named_children() if isinstance(child, CrossAttention)] == list(pairings)
    target, source = factors()
    rows, columns = {"row": target, "column": target.T}, {"row": source, "column": source.T}
    answers = []
    for pairing in pairings:
        asking, asked = pairing.split("_")
        answer = getattr(layer, pairing)(rows[asking], columns[asked])
        answers.append(answer if asking == "row" else answer.T)
    torch.testing.assert_close(layer.attend(target, source), sum(answers) / len(answers))


def test_autocast_leaves_the_adapter_in_fp32() -> None:
    block = adapter(gate=0.5)
    target, source = factors()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, answer = block(target, source), block.answer(target, source)
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.bfloat16  # autocast was on
    assert mixed.dtype == answer.dtype == torch.float32
    assert torch.equal(mixed, block(target, source))
    assert torch.equal(answer, block.answer(target, source))
    assert block(target.bfloat16(), source.bfloat16()).dtype == torch.float32


def test_spectral_norm_bounds_both_matrices() -> None:
    output = adapter(dropout=0.0).stack[0].output
    for linear in (output.up, output.down):
        assert torch.linalg.matrix_norm(linear.weight, 2).item() == pytest.approx(1.0, rel=0.05)
    names = dict(adapter(spectral_norm=False).named_parameters())
    assert "stack.0.output.up.weight" in names


def test_dropout_acts_in_training_only() -> None:
    block = adapter(dropout=0.5)
    target, source = factors()
    assert torch.equal(block.answer(target, source), block.answer(target, source))
    block.train()
    assert not torch.equal(block.answer(target, source), block.answer(target, source))


@pytest.mark.parametrize("learned_gate", [True, False])
def test_state_dict_restores_the_adapter_bitwise(learned_gate: bool) -> None:
    block, other = adapter(learned_gate=learned_gate), adapter(learned_gate=learned_gate, gate=0.4)
    target, source = factors()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert not torch.equal(other(target, source), block(target, source))
    other.load_state_dict(block.state_dict())
    assert torch.equal(other(target, source), block(target, source))


def test_every_parameter_receives_a_gradient() -> None:
    block = adapter(depth=2, learned_gate=True).train()
    target, source = factors()
    answer = block(target, source)
    answer.backward(torch.randn(TARGET))
    without = [name for name, p in block.named_parameters() if p.grad is None or not p.grad.any()]
    # a bias on the keys moves all logits of a query alike, which softmax ignores
    assert [name for name in without if not name.endswith("key.bias")] == []


def test_lpka_starts_with_logits_of_unit_variance_and_listens_to_its_source() -> None:
    torch.manual_seed(0)
    attention = CrossAttention(300, 400, width=32, heads=4)
    attention.init_unit_variance()
    q, k = attention.query(torch.randn(200, 300)), attention.key(torch.randn(200, 400))
    logits = torch.einsum("the,she->hts", q.unflatten(1, (4, 8)), k.unflatten(1, (4, 8))) / 8**0.5
    assert logits.std().item() == pytest.approx(1.0, abs=0.15)

    target, source, noise = torch.randn(8, 200), torch.randn(16, 300), torch.randn(16, 300)
    block = Adapter((8, 200), (16, 300), AdapterConfig()).eval()
    assert relative_error(block.answer(target, noise), block.answer(target, source)) > 0.05


def test_widths_follow_the_configuration() -> None:
    assert attention_width(AdapterConfig(), 960, 1536) == 32
    assert attention_width(AdapterConfig(width=30, heads=4), 960, 1536) == 32
    assert attention_width(AdapterConfig(heads=5), 960, 1536) == 35
    full = AdapterConfig(kind="full_matrix", heads=8)
    assert [attention_width(full, q, k) for q, k in [(10, 5), (160, 100), (160, 128)]] == [128, 128, 144]
    assert hidden_width(AdapterConfig(), 960) == 60
    assert hidden_width(AdapterConfig(), 10) == 8
    assert hidden_width(AdapterConfig(mlp_ratio=0.5), 100) == 50
    assert hidden_width(full, 96) == 192


@pytest.mark.parametrize("rank", [8, 16])
def test_the_default_adapter_is_at_most_half_of_a_mobilenetv2(rank: int) -> None:
    """From a (512, 512, 3, 3) of ResNet50 to a (160, 960, 1, 1) of MobileNetV2 (CIFAR, 100 classes)."""
    block = Adapter((rank, 960), (3 * rank, 1536), AdapterConfig(rank=rank))
    assert sum(p.numel() for p in block.parameters()) <= 2_351_972 // 2


def test_the_source_is_heard_from_the_start() -> None:
    """Trap 2: torch's own initialisation makes attention uniform; ours lets the answer depend on the source."""
    torch.manual_seed(0)
    heard = Adapter((8, 96), (24, 160), AdapterConfig()).eval()
    target, source, noise = torch.randn(8, 96), torch.randn(24, 160), torch.randn(24, 160)

    def dependence() -> float:
        with torch.no_grad():
            answer = heard.answer(target, source)
            return ((answer - heard.answer(target, noise)).norm() / answer.norm()).item()

    ours = dependence()
    for module in heard.modules():
        if isinstance(module, CrossAttention):
            for linear in (module.query, module.key, module.value, module.out):
                linear.reset_parameters()
    assert ours > 0.05
    assert ours > 3 * dependence()


# ---------------------------------------------------------------- kind linear


def linear(target: tuple[int, int] = TARGET, source: tuple[int, int] = (4, 10), **values: object) -> Adapter:
    """An adapter between rows of one space, in training mode: it has no dropout."""
    torch.manual_seed(0)
    return Adapter(target, source, AdapterConfig(**{"kind": "linear", "width": 3, **values}))


def in_one_space(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(TARGET, generator=generator) * 0.03, torch.randn(4, 10, generator=generator) * 0.2


def projected(target: Tensor, source: Tensor) -> Tensor:
    """A P with P the projector on the source's rows, float64."""
    s = source.double()
    return target.double() @ s.T @ torch.linalg.inv(s @ s.T) @ s


def double_rms(x: Tensor) -> Tensor:
    return x.double().square().mean().sqrt()


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("rms_match", [True, False])
@given(seed=st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_linear_starts_as_the_projection_on_the_sources_rows_at_any_depth(
    depth: int, rms_match: bool, seed: int
) -> None:
    block = linear(depth=depth, gate=0.3, rms_match=rms_match)
    target, source = in_one_space(seed)
    answer = projected(target, source)
    if rms_match:
        answer = answer * double_rms(target) / double_rms(answer)
    assert relative_error(block.answer(target, source).double(), answer) < 1e-5
    assert relative_error(block(target, source).double(), target.double().lerp(answer, 0.3)) < 1e-5


def test_linear_depends_on_the_span_of_the_source_alone() -> None:
    block = linear(depth=2)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    target, source = in_one_space()
    turned = torch.linalg.qr(torch.randn(4, 4))[0] @ source * 7
    assert relative_error(block(target, turned), block(target, source)) < 1e-4
    assert relative_error(block.answer(target, torch.randn(4, 10)), block.answer(target, source)) > 0.1


def test_linear_leaves_a_target_whose_rows_the_source_spans() -> None:
    _, source = in_one_space()
    inside = torch.randn(6, 4) @ source
    assert relative_error(linear(depth=3, gate=1.0)(inside, source), inside) < 1e-5


@pytest.mark.parametrize("shape", [(4, 10), (10, 10), (25, 10)])
def test_linear_leaves_the_target_at_the_start_where_no_source_is_shown(shape: tuple[int, int]) -> None:
    """Control none: the target's own factor, of which a tall one has more rows than directions."""
    target = torch.randn(shape)
    assert relative_error(linear(shape, shape, gate=1.0)(target, target), target) < 1e-5


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("shapes", [((6, 10), (4, 10)), ((6, 10), (4, 14)), ((6, 10), (12, 3)), ((3, 2), (1, 9))])
def test_every_pairing_starts_as_attention_through_identities(
    pairing: str, shapes: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    """Where tokens differ in width both are cut to the narrower, and the answer is padded with zeros."""
    target, source = torch.randn(shapes[0]), torch.randn(shapes[1])
    block = linear(*shapes, depth=1, pairings=(pairing,), rms_match=False, gate=1.0)
    asking, asked = pairing.split("_")
    left, _, right = torch.linalg.svd(source.double(), full_matrices=False)
    x, y = target.double(), left @ right  # polar: the rows made orthonormal
    x, y = x if asking == "row" else x.T, y if asked == "row" else y.T
    width = min(x.shape[1], y.shape[1])
    wanted = torch.zeros_like(x)
    wanted[:, :width] = x[:, :width] @ y[:, :width].T @ y[:, :width]
    wanted = wanted if asking == "row" else wanted.T
    assert (block(target, source).double() - wanted).abs().max() < 1e-4


def test_linear_averages_its_pairings() -> None:
    target, source = in_one_space()
    answers = [linear(depth=1, pairings=(pairing,), rms_match=False, gate=1.0)(target, source) for pairing in PAIRINGS]
    mean = linear(depth=1, pairings=PAIRINGS, rms_match=False, gate=1.0)(target, source)
    torch.testing.assert_close(mean, sum(answers) / 4)


def test_a_gradient_reaches_every_parameter_of_linear() -> None:
    """V, which U = 0 hides at the start, from the second step on."""
    block = linear(depth=2, learned_gate=True, pairings=PAIRINGS)
    target, source = in_one_space()
    optimizer = torch.optim.AdamW(block.parameters(), lr=1e-2)
    for names in ("up", "down"):
        optimizer.zero_grad()
        block(target, source).backward(torch.randn(TARGET))
        gradients = {name: p.grad for name, p in block.named_parameters()}
        assert [n for n, g in gradients.items() if g is None or (f".{names}." in n and not g.any())] == []
        optimizer.step()
    assert block.gate_logit.grad.abs() > 0


@pytest.mark.parametrize(("into", "out"), [(500, 500), (500, 60), (60, 500), (20, 20)])
@pytest.mark.parametrize("width", [1, 8])
def test_an_optimizer_step_moves_a_near_identity_map_by_about_the_rate(into: int, out: int, width: int) -> None:
    """|E' - E| of the spectral norm, whatever the widths: the first step of Adam moves each entry of U by its rate."""
    torch.manual_seed(0)
    layer, rate = NearIdentity(into, out, width), 1e-2
    optimizer = torch.optim.Adam(layer.parameters(), lr=rate)
    before = layer(torch.eye(into))
    assert torch.equal(before, torch.eye(into, out))
    layer(torch.randn(1, into)).sum().backward()
    optimizer.step()
    moved = torch.linalg.matrix_norm((layer(torch.eye(into)) - before).detach(), 2).item()
    assert 0.4 * rate < moved < 2 * rate


def test_the_width_of_linear_is_the_rank_of_what_its_maps_add() -> None:
    default = Adapter(TARGET, (4, 10), AdapterConfig(kind="linear", depth=1))
    names = {
        f"stack.0.row_row.{name}.{half}.weight" for name in ("query", "key", "value", "out") for half in ("up", "down")
    }
    assert {name for name, _ in default.named_parameters()} == names
    assert sum(p.numel() for p in default.parameters()) == 4 * 8 * (10 + 10)
    assert sum(p.numel() for p in linear(depth=3).parameters()) == 3 * 4 * 3 * (10 + 10)
    layer = NearIdentity(9, 12, 2)
    with torch.no_grad():
        layer.up.weight.normal_()
    added = layer(torch.eye(9)) - torch.eye(9, 12)
    assert torch.linalg.matrix_rank(added).item() == 2


def test_linear_takes_whole_matrices_and_rows_of_any_number() -> None:
    block = linear((40, 10), (2, 10))
    target, source = torch.randn(40, 10), torch.randn(2, 10)
    answer = block.answer(target, source)
    assert isinstance(answer, Float[Tensor, "40 10"])
    assert torch.linalg.matrix_rank(answer).item() == 2, "what the source's two rows span"


# ---------------------------------------------------------------- start: identity


def test_from_the_identity_an_attention_passes_the_sources_tokens_unchanged() -> None:
    """Weights of the softmax sum to 1: for a source whose rows are all alike, the row itself, added and normalised."""
    block = Adapter(TARGET, (4, 10), AdapterConfig(start="identity", heads=3, width=4, depth=1, pairings=("row_row",)))
    attention = block.stack[0].row_row
    assert attention.value.out_features == 12, "the token's width, rounded up to the heads"
    row = torch.randn(1, 10)
    target = torch.randn(TARGET)
    wanted = nn.functional.layer_norm(target + row, (10,), eps=1e-12)
    torch.testing.assert_close(attention(target, row.expand(4, 10)), wanted, atol=1e-5, rtol=1e-4)
    random = Adapter(TARGET, (4, 10), AdapterConfig(heads=3, width=4, depth=1, pairings=("row_row",)))
    assert (random.stack[0].row_row(target, row.expand(4, 10)) - wanted).abs().max() > 0.1


def test_where_tokens_differ_in_width_identity_starts_as_random_does() -> None:
    torch.manual_seed(0)
    identity = Adapter(TARGET, SOURCE, AdapterConfig(start="identity"))
    torch.manual_seed(0)
    random = Adapter(TARGET, SOURCE, AdapterConfig())
    assert all(torch.equal(a, b) for a, b in zip(identity.parameters(), random.parameters(), strict=True))


def test_identity_is_for_full_matrix_too_and_leaves_the_rest_random() -> None:
    block = Adapter((6, 10), (6, 10), AdapterConfig(kind="full_matrix", start="identity", depth=1))
    for pairing in ("row_row", "column_column"):
        attention = getattr(block.stack[0], pairing)
        width = attention.out.out_features
        torch.testing.assert_close(attention.out.weight @ attention.value.weight, torch.eye(width))
        assert (attention.query.weight - torch.eye(*attention.query.weight.shape)).abs().max() > 0.01
