"""The leading left singular subspace of a weight that learns, followed from transfer to transfer. [ours]

A source's factor is A = B^T W. With B from the *starting* weight A is a random projection of whatever is learned later:
R / m of it. Here B spans the R leading left singular vectors of the weight as it is now:

    Z = (W W^T)^k B_last           orthogonal iteration, k = STEPS, started from the last basis
    Q = qr(Z)                      an orthonormal basis of what Z spans
    B = Q polar(Q^T B_last)        of all its bases the nearest to the last one (orthogonal Procrustes)

so that an adapter's inputs move as continuously as the weight does, and no SVD of a weight runs in the loop. The first
basis is that of `signed_svd`, whose signs are fixed.
"""

import torch
from torch import Tensor

STEPS = 2  # orthogonal iterations a transfer


def signed_svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """U (m x R), S (R), V^T (R x n) of the R largest singular values, float64 on the CPU.

    Signs are fixed so that the entry of largest magnitude of each column of U is positive.
    """
    left, scales, right = torch.linalg.svd(matrix.detach().double().cpu(), full_matrices=False)
    left, scales, right = left[:, :rank], scales[:rank], right[:rank]
    peaks = left.gather(0, left.abs().argmax(dim=0, keepdim=True))
    signs = torch.where(peaks < 0, -1.0, 1.0).to(left)
    return left * signs, scales, right * signs.T


def leading_basis(matrix: Tensor, rank: int) -> Tensor:
    """The R leading left singular vectors, fp32 (m x R) on the matrix's device."""
    left, _, _ = signed_svd(matrix, rank)
    return left.to(device=matrix.device, dtype=torch.float32).contiguous()


@torch.no_grad()
def follow(basis: Tensor, matrix: Tensor, steps: int = STEPS) -> Tensor:
    """The basis (m x R) of the leading subspace of `matrix` (m x n, fp32), started from and aligned to `basis`.

    Columns are scaled to norm 1 between the iterations, which changes no span. A matrix of zeros, or of numbers that
    are not finite, leaves the basis.
    """
    spanning = basis
    for _ in range(steps):
        spanning = matrix @ (matrix.T @ spanning)
        norms = spanning.norm(dim=0)
        if not bool(((norms > 0) & norms.isfinite()).all()):
            return basis
        spanning, _ = torch.linalg.qr(spanning / norms)
    return (spanning @ polar(spanning.T @ basis)).contiguous()


def polar(matrix: Tensor) -> Tensor:
    """The orthogonal matrix nearest to a square one, U V^T of its SVD; R x R, in float64 on the CPU."""
    left, _, right = torch.linalg.svd(matrix.double().cpu())
    return (left @ right).to(matrix)


def share(factor: Tensor, matrix: Tensor) -> Tensor:
    """|B^T W|^2 / |W|^2, a scalar from 0 to 1: how much of W a factor shows, for an orthonormal B. 1 if W is 0."""
    whole = matrix.square().sum()
    return torch.where(whole > 0, factor.square().sum() / whole.clamp_min(1e-30), 1.0)


@torch.no_grad()
def whitened(factor: Tensor) -> Tensor:
    """(A A^T)^(-1/2) A, (R x n): orthonormal rows that span what those of A do.

    Turning A by an orthogonal R x R matrix turns the result alike, so that X A^T A is the same for every basis of a
    subspace. Directions of less than 1e-6 of the largest singular value become 0. With more rows than columns it is
    computed as A (A^T A)^(-1/2), which is the same. The smaller of the two square matrices, whose eigenvalues are
    squares, and they are computed in float64; the eigenvalues on the CPU. Of numbers that are not finite all is nan.
    """
    wide, tall = factor.double(), factor.shape[0] > factor.shape[1]
    squares = (wide.T @ wide if tall else wide @ wide.T).cpu()
    if not bool(squares.isfinite().all()):
        return torch.full_like(factor, torch.nan)
    values, vectors = torch.linalg.eigh(squares)
    floor = 1e-12 * values.amax().clamp_min(1e-30)
    inverse = torch.where(values > floor, values.clamp_min(floor).rsqrt(), 0.0)
    root = (vectors * inverse @ vectors.T).to(factor)
    return factor @ root if tall else root @ factor
