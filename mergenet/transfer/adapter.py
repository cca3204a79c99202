"""The adapter M: from the target's factor A_s and the source's factor A_l to a new factor for the target.

LPKA [release, on the factors as the paper says]: the tokens of the target's factor attend to those of the source's in
multi-head cross-attention. Tokens are rows or columns, which makes four pairings
<target tokens>_<source tokens>:

    attend(X, Y) = LayerNorm(X + out(softmax(q(X) k(Y)^T / sqrt(head width)) v(Y)))
    LPKA(A_s, A_l) = mean over pairings of attend(rows or columns of A_s, rows or columns of A_l)
    KTL(A_s, A_l) = LayerNorm(X + down(gelu(up(X)))),  X = LPKA(A_s, A_l), tokens: rows
    answer = KTL_depth(... KTL_1(A_s, A_l) ..., A_l)
    A_s' = A_s + gate * (answer - A_s)

`kind: linear` [ours] attends without softmax, MLP and LayerNorm, through maps that start as the identity:

    attend(X, Y) = out(q(X) k(Y)^T v(Y)),  Y: the source's rows made orthonormal
    KTL(A_s, A_l) = mean over pairings of attend(rows or columns of A_s, rows or columns of A_l)

so that the first answer is A_s S^T S: the target's rows, projected onto what the source's rows span. It needs rows of
both factors to be vectors of one space (alignment.py).

Shapes: target M x N (M row tokens of width N, N column tokens of width M), source P x Q. With
`kind: full_matrix` [release] the same stack runs on whole matrices; with `rms_match: false` and gate 1 it is
the released block.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from mergenet.config import AdapterConfig
from mergenet.transfer.subspace import whitened

LAYER_NORM_EPS = 1e-12  # [release]
ALL_PAIRINGS = ("row_row", "row_column", "column_row", "column_column")  # [release]
LPKA_WIDTH = 32  # [ours] inner width of an attention: rank-r factors must not cost what whole matrices cost
LPKA_MLP_RATIO = 1 / 16  # [ours]
LPKA_MIN_HIDDEN = 8  # [ours]
LINEAR_WIDTH = 8  # [ours] rank of what a near-identity map adds to the identity
LINEAR_PAIRINGS = ("row_row",)  # [ours] columns of the two factors have no space in common
FULL_MATRIX_MIN_WIDTH = 128  # [release] read off the shapes of the reference vectors
FULL_MATRIX_MLP_RATIO = 2.0  # [release]


def attention_width(config: AdapterConfig, query_dim: int, key_dim: int) -> int:
    """Inner width of an attention over all heads, a multiple of `heads`.

    `width` rounded up; without it 32 for lpka [ours], for full_matrix the mean of the token widths, at least
    128, rounded down [release].
    """
    if config.width is None and config.kind == "full_matrix":
        width = max(FULL_MATRIX_MIN_WIDTH, (query_dim + key_dim) // 2)
        return max(width // config.heads, 1) * config.heads
    width = LPKA_WIDTH if config.width is None else config.width
    return -(-width // config.heads) * config.heads


def hidden_width(config: AdapterConfig, dim: int) -> int:
    """Hidden width of the output MLP for outer width `dim`: mlp_ratio * dim, for lpka at least 8."""
    lpka = config.kind == "lpka"
    default = LPKA_MLP_RATIO if lpka else FULL_MATRIX_MLP_RATIO
    ratio = default if config.mlp_ratio is None else config.mlp_ratio
    return max(LPKA_MIN_HIDDEN if lpka else 1, round(ratio * dim))


def pairings_of(config: AdapterConfig) -> tuple[str, ...]:
    """<target tokens>_<source tokens>, of each attention of a KTL."""
    if config.pairings is not None:
        return config.pairings
    return LINEAR_PAIRINGS if config.kind == "linear" else ALL_PAIRINGS


class CrossAttention(nn.Module):
    """Multi-head attention, residual and LayerNorm. [release]

    T target tokens (T x D) attend to S source tokens (S x C); returns (T x D).
    """

    def __init__(self, query_dim: int, key_dim: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(query_dim, width)
        self.key = nn.Linear(key_dim, width)
        self.value = nn.Linear(key_dim, width)
        self.out = nn.Linear(width, query_dim)
        self.norm = nn.LayerNorm(query_dim, eps=LAYER_NORM_EPS)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        q = self._split(self.query(target))  # (1, heads, T, width / heads)
        k, v = self._split(self.key(source)), self._split(self.value(source))  # (1, heads, S, width / heads)
        mixed = F.scaled_dot_product_attention(q, k, v)
        merged = mixed.squeeze(0).transpose(0, 1).flatten(1)  # (T, width)
        return self.norm(target + self.out(merged))

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(1, (self.heads, -1)).transpose(0, 1).unsqueeze(0)

    @torch.no_grad()
    def init_unit_variance(self) -> None:
        """Unit variance for logits, values and answers, given independent tokens of RMS 1. [ours]

        Weights N(0, 1 / fan-in), biases 0. torch's own init gives logits of variance 1/9 and shrinks the values' path
        by 3, so that attention starts uniform and hardly anything of the source comes through.
        """
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
            nn.init.zeros_(linear.bias)

    @torch.no_grad()
    def init_identity(self) -> None:
        """The source's tokens pass unchanged: values and answers start as the identity, biases 0. [ours]

        Takes token widths that agree and an inner width of at least as much.
        """
        for linear in (self.value, self.out):
            nn.init.eye_(linear.weight)
            nn.init.zeros_(linear.bias)


class NearIdentity(nn.Module):
    """x -> E x + U V x / sqrt(out * width), E the identity, cut or padded with zeros where widths differ. [ours]

    V is N(0, 1 / in), U starts at 0. An optimizer step that moves each entry of U by the learning rate changes the map
    by at most about that much of the identity, whatever the widths.
    """

    def __init__(self, in_width: int, out_width: int, width: int) -> None:
        super().__init__()
        self.out_width, self.scale = out_width, (out_width * width) ** -0.5
        self.down = nn.Linear(in_width, width, bias=False)
        self.up = nn.Linear(width, out_width, bias=False)
        with torch.no_grad():
            nn.init.normal_(self.down.weight, std=in_width**-0.5)
            nn.init.zeros_(self.up.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """(T, in) -> (T, out)."""
        same = F.pad(tokens, (0, self.out_width - tokens.shape[1]))  # a negative padding cuts
        return same + self.up(self.down(tokens)) * self.scale


class LinearAttention(nn.Module):
    """Attention without softmax: T target tokens (T x D) attend to S source tokens (S x C); returns (T x D). [ours]"""

    def __init__(self, query_dim: int, key_dim: int, width: int) -> None:
        super().__init__()
        inner = min(query_dim, key_dim)
        self.query = NearIdentity(query_dim, inner, width)
        self.key = NearIdentity(key_dim, inner, width)
        self.value = NearIdentity(key_dim, inner, width)
        self.out = NearIdentity(inner, query_dim, width)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        return self.out((self.query(target) @ self.key(source).T) @ self.value(source))


class OutputMLP(nn.Module):
    """x -> LayerNorm(x + dropout(down(gelu(up(x))))), tanh-GELU, spectral norm on both matrices. [release]"""

    def __init__(self, dim: int, hidden: int, dropout: float, normalize: bool) -> None:
        super().__init__()
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        if normalize:
            spectral_norm(self.up)
            spectral_norm(self.down)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.dropout(self.down(F.gelu(self.up(x), approximate="tanh"))))


class KnowledgeTransferLayer(nn.Module):
    """KTL: the mean of the selected pairings' attentions, then, but for `linear`, the output MLP. [release]"""

    def __init__(self, target_shape: tuple[int, int], source_shape: tuple[int, int], config: AdapterConfig) -> None:
        super().__init__()
        self.pairings = pairings_of(config)
        for pairing in self.pairings:
            asking, asked = pairing.split("_")
            query_dim, key_dim = _token_width(target_shape, asking), _token_width(source_shape, asked)
            self.add_module(pairing, ATTENTIONS[config.kind](query_dim, key_dim, config))
        dim = target_shape[1]
        self.output: nn.Module = nn.Identity()
        if config.kind != "linear":
            self.output = OutputMLP(dim, hidden_width(config, dim), config.dropout, config.spectral_norm)

    def attend(self, target: Tensor, source: Tensor) -> Tensor:
        answers = []
        for pairing in self.pairings:
            asking, asked = pairing.split("_")
            answer = self.get_submodule(pairing)(_tokens(target, asking), _tokens(source, asked))
            answers.append(_tokens(answer, asking))
        return torch.stack(answers).mean(dim=0)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        return self.output(self.attend(target, source))


def softmax_attention(query_dim: int, key_dim: int, config: AdapterConfig) -> nn.Module:
    width = attention_width(config, query_dim, key_dim)
    identity = config.start == "identity" and query_dim == key_dim
    if identity:
        width = max(width, -(-query_dim // config.heads) * config.heads)
    softmax = CrossAttention(query_dim, key_dim, width, config.heads)
    if config.kind == "lpka":
        softmax.init_unit_variance()
    if identity:
        softmax.init_identity()
    return softmax


def linear_attention(query_dim: int, key_dim: int, config: AdapterConfig) -> nn.Module:
    return LinearAttention(query_dim, key_dim, LINEAR_WIDTH if config.width is None else config.width)


# Builds one pairing's attention from the widths of the target's and of the source's tokens. The names are
# those of config/choices.py.
ATTENTIONS: dict[str, Callable[[int, int, AdapterConfig], nn.Module]] = {
    "lpka": softmax_attention,
    "full_matrix": softmax_attention,
    "linear": linear_attention,
}


class Adapter(nn.Module):
    """The stack of KTLs with RMS matching and gate; fp32 whatever autocast says.

    target_shape (M, N), source_shape (P, Q): shapes of the two factors.
    """

    def __init__(self, target_shape: tuple[int, int], source_shape: tuple[int, int], config: AdapterConfig) -> None:
        super().__init__()
        self.rms_match, self.linear = config.rms_match, config.kind == "linear"
        self.stack = nn.ModuleList(
            KnowledgeTransferLayer(target_shape, source_shape, config) for _ in range(config.depth)
        )
        self.gate_logit: nn.Parameter | None = None
        self.register_buffer("fixed_gate", None if config.learned_gate else torch.tensor(config.gate))
        if config.learned_gate:
            self.gate_logit = nn.Parameter(torch.logit(torch.tensor(min(config.gate, 0.999))))

    @property
    def gate(self) -> Tensor:
        """Share of the answer that is taken, a scalar in (0, 1]."""
        if self.gate_logit is not None:
            return torch.sigmoid(self.gate_logit)
        return self.get_buffer("fixed_gate")

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """A' = A + gate * (answer - A): (M, N), (P, Q) -> (M, N); gate 1 gives the answer exactly."""
        return torch.lerp(target.float(), self.answer(target, source), self.gate)

    def answer(self, target: Tensor, source: Tensor) -> Tensor:
        """The stack's output, (M, N); with `rms_match` for inputs of RMS 1, at the target's RMS. [ours]"""
        with torch.autocast(target.device.type, enabled=False):
            target, source = target.float(), source.float()
            if self.linear:
                source = whitened(source)
            if not self.rms_match:
                return self._run(target, source)
            scale = rms(target)
            answer = self._run(target / scale, source if self.linear else source / rms(source))
            return answer * (scale / rms(answer))

    def _run(self, target: Tensor, source: Tensor) -> Tensor:
        for layer in self.stack:
            target = layer(target, source)
        return target


def rms(x: Tensor) -> Tensor:
    """Root mean square over all entries, a scalar; bounded below so that one can divide by it."""
    return x.square().mean().clamp_min(1e-24).sqrt()


def _token_width(shape: tuple[int, int], tokens: str) -> int:
    return shape[1] if tokens == "row" else shape[0]


def _tokens(matrix: Tensor, tokens: str) -> Tensor:
    """Rows or columns of a matrix as tokens; applied twice it gives the matrix back."""
    return matrix if tokens == "row" else matrix.T
