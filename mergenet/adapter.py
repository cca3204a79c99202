"""The adapter M: from the target's factor A_s and the source's factor A_l to a new factor for the target.

LPKA [release, on the factors as the paper says]: the tokens of the target's factor ask those of the
source's in multi-head cross-attention. Tokens are rows or columns, which makes four pairings
<target tokens>_<source tokens>:

    attend(X, Y) = LayerNorm(X + out(softmax(q(X) k(Y)^T / sqrt(head width)) v(Y)))
    LPKA(A_s, A_l) = mean over pairings of attend(rows or columns of A_s, rows or columns of A_l)
    KTL(A_s, A_l) = LayerNorm(X + down(gelu(up(X)))),  X = LPKA(A_s, A_l), tokens: rows
    answer = KTL_depth(... KTL_1(A_s, A_l) ..., A_l)
    A_s' = A_s + gate * (answer - A_s)

Shapes: target M x N (M row tokens of width N, N column tokens of width M), source P x Q. With
`kind: full_matrix` [release] the same stack runs on whole matrices; with `rms_match: false` and gate 1 it is
the released block.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from mergenet.config import AdapterConfig

LAYER_NORM_EPS = 1e-12  # [release]
LPKA_WIDTH = 32  # [ours] inner width of an attention: rank-r factors must not cost what whole matrices cost
LPKA_MLP_RATIO = 1 / 16  # [ours]
LPKA_MIN_HIDDEN = 8  # [ours]
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


class CrossAttention(nn.Module):
    """Multi-head attention, residual and LayerNorm. [release]

    T target tokens (T x D) ask S source tokens (S x C); gives (T x D).
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

        Weights N(0, 1 / fan-in), biases 0. torch's own init gives logits of variance 1/9 and shrinks the
        values' path by 3, so that attention starts uniform and what the source says nearly drowns.
        """
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
            nn.init.zeros_(linear.bias)


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
    """KTL: LPKA (the mean of the selected pairings), then the output MLP. [release]"""

    def __init__(self, target_shape: tuple[int, int], source_shape: tuple[int, int], config: AdapterConfig) -> None:
        super().__init__()
        self.pairings = config.pairings
        for pairing in self.pairings:
            asking, asked = pairing.split("_")
            query_dim, key_dim = _token_width(target_shape, asking), _token_width(source_shape, asked)
            width = attention_width(config, query_dim, key_dim)
            attention = CrossAttention(query_dim, key_dim, width, config.heads)
            if config.kind == "lpka":
                attention.init_unit_variance()
            self.add_module(pairing, attention)
        dim = target_shape[1]
        self.output = OutputMLP(dim, hidden_width(config, dim), config.dropout, config.spectral_norm)

    def lpka(self, target: Tensor, source: Tensor) -> Tensor:
        answers = []
        for pairing in self.pairings:
            asking, asked = pairing.split("_")
            answer = self.get_submodule(pairing)(_tokens(target, asking), _tokens(source, asked))
            answers.append(_tokens(answer, asking))
        return torch.stack(answers).mean(dim=0)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        return self.output(self.lpka(target, source))


class Adapter(nn.Module):
    """The stack of KTLs with RMS matching and gate; fp32 whatever autocast says.

    target_shape (M, N), source_shape (P, Q): shapes of the two factors.
    """

    def __init__(self, target_shape: tuple[int, int], source_shape: tuple[int, int], config: AdapterConfig) -> None:
        super().__init__()
        self.rms_match = config.rms_match
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
            if not self.rms_match:
                return self._run(target, source)
            scale = rms(target)
            answer = self._run(target / scale, source / rms(source))
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
