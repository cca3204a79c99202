"""The subspace that follows a weight, and rows made orthonormal: against SVDs in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergenet.transfer.subspace import follow, leading_basis, polar, share, signed_svd, whitened

seeds = st.integers(0, 2**31)
RANK = 4


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rotation(size: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(normal(size, size, seed=seed))[0]


def learning(step: int, rows: int = 24, columns: int = 40) -> Tensor:
    """A random weight that learns a matrix of rank 4, which comes to outweigh it after some 50 steps."""
    learned = normal(rows, RANK, seed=1) @ normal(RANK, columns, seed=2) / 4
    return normal(rows, columns, seed=3) * 0.1 + learned * step / 50


def shown(basis: Tensor, matrix: Tensor) -> float:
    return share(basis.T @ matrix, matrix).item()


def best(matrix: Tensor, rank: int = RANK) -> float:
    """The share that the best basis of that rank shows."""
    squares = torch.linalg.svdvals(matrix.double()).square()
    return (squares[:rank].sum() / squares.sum()).item()


def assert_orthonormal(basis: Tensor) -> None:
    torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]), atol=1e-5, rtol=0)


def test_a_weight_that_learns_is_shown_as_the_best_basis_would() -> None:
    start = basis = leading_basis(learning(0), RANK)
    for step in range(1, 101):
        basis = follow(basis, learning(step))
        assert_orthonormal(basis)
        assert shown(basis, learning(step)) >= 0.97 * best(learning(step)), step
    assert shown(basis, learning(100)) > 0.97
    assert shown(start, learning(100)) < 0.5, "what the basis of the start shows of it"


def test_a_small_change_of_the_weight_moves_the_basis_by_little() -> None:
    """By far less than one of its columns' length, once the weight has directions that lead."""
    basis = leading_basis(learning(60), RANK)
    for step in range(61, 100):
        moved = follow(basis, learning(step))
        assert (moved - basis).norm() < 0.05
        basis = moved
    still = follow(basis, learning(99))
    torch.testing.assert_close(still, basis, atol=1e-3, rtol=0)


def test_the_same_weight_moves_a_converged_basis_by_rounding_only() -> None:
    matrix = learning(100)
    basis = leading_basis(matrix, RANK)
    torch.testing.assert_close(follow(basis, matrix), basis, atol=1e-5, rtol=0)


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_of_all_bases_of_its_span_it_is_the_nearest_to_the_last(seed: int) -> None:
    last = rotation(9, seed)[:, :RANK].contiguous()
    basis = follow(last, normal(9, 14, seed=seed + 1))
    assert_orthonormal(basis)
    for other in range(20):
        turned = basis @ rotation(RANK, seed + other)
        assert (basis - last).norm() <= (turned - last).norm() + 1e-5
    across = basis.T @ last  # orthogonal Procrustes: symmetric, and no eigenvalue below 0
    torch.testing.assert_close(across, across.T, atol=1e-5, rtol=0)
    assert torch.linalg.eigvalsh(across).min() > -1e-5


def test_more_iterations_come_nearer_to_the_leading_subspace() -> None:
    matrix, start = normal(20, 30), rotation(20, 5)[:, :RANK].contiguous()
    shares = [shown(follow(start, matrix, steps), matrix) for steps in (1, 2, 8, 200)]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(best(matrix), rel=1e-3)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_weights_scale_does_not_matter(scale: float) -> None:
    basis = leading_basis(learning(20), RANK)
    torch.testing.assert_close(follow(basis, learning(30) * scale), follow(basis, learning(30)), atol=1e-4, rtol=0)


def test_a_matrix_of_zeros_leaves_the_basis() -> None:
    basis = leading_basis(normal(6, 8), RANK)
    assert torch.equal(follow(basis, torch.zeros(6, 8)), basis)


def test_a_matrix_of_fewer_directions_than_the_basis_has_leaves_it_orthonormal() -> None:
    flat = normal(6, 2, seed=1) @ normal(2, 8, seed=2)
    basis = follow(leading_basis(normal(6, 8), RANK), flat)
    assert_orthonormal(basis)
    assert shown(basis, flat) == pytest.approx(1)


def test_the_last_basis_is_not_written_to() -> None:
    basis = leading_basis(normal(6, 8), RANK)
    before = basis.clone()
    follow(basis, normal(6, 8, seed=1))
    assert torch.equal(basis, before)


# ---------------------------------------------------------------- the first basis


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_signs_are_fixed_so_that_the_largest_entry_of_each_column_is_positive(seed: int) -> None:
    matrix = normal(7, 5, seed=seed)
    left, scales, right = signed_svd(matrix, 3)
    assert left.dtype == scales.dtype == right.dtype == torch.float64
    assert (left.gather(0, left.abs().argmax(dim=0, keepdim=True)) > 0).all()
    torch.testing.assert_close(left * scales, matrix.double() @ right.T)  # U S = W V: signs of both sides agree
    # of -W it is U that stays, and V that turns
    torch.testing.assert_close(signed_svd(-matrix, 3)[0], left)
    torch.testing.assert_close(signed_svd(-matrix, 3)[2], -right)


def test_the_first_basis_shows_the_best_share() -> None:
    matrix = normal(12, 9)
    basis = leading_basis(matrix, RANK)
    assert_orthonormal(basis)
    assert basis.dtype == torch.float32
    assert basis.is_contiguous()
    assert shown(basis, matrix) == pytest.approx(best(matrix), rel=1e-5)


def test_a_share_is_that_of_the_squares_and_1_of_nothing() -> None:
    assert shown(torch.eye(2)[:, :1], torch.tensor([[3.0, 0.0], [0.0, 4.0]])) == pytest.approx(9 / 25)
    assert shown(torch.eye(2)[:, :1], torch.zeros(2, 2)) == 1


# ---------------------------------------------------------------- polar and whitened


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_polar_is_the_nearest_orthogonal_matrix(seed: int) -> None:
    matrix = normal(3, 3, seed=seed)
    found = polar(matrix)
    torch.testing.assert_close(found.T @ found, torch.eye(3), atol=1e-5, rtol=0)
    stretch = found.T @ matrix  # matrix = found * stretch, with a stretch that turns nothing
    torch.testing.assert_close(stretch, stretch.T, atol=1e-4, rtol=1e-4)
    assert all((matrix - found).norm() <= (matrix - rotation(3, seed + k)).norm() + 1e-5 for k in range(20))
    torch.testing.assert_close(polar(found), found, atol=1e-5, rtol=0)


@given(seed=seeds, rows=st.integers(1, 6), more=st.integers(0, 5), scale=st.floats(1e-3, 1e3))
@settings(max_examples=50, deadline=None)
def test_whitened_rows_are_orthonormal_and_span_the_same(seed: int, rows: int, more: int, scale: float) -> None:
    factor = normal(rows, rows + 4 + more, seed=seed) * scale
    found = whitened(factor)
    torch.testing.assert_close(found @ found.T, torch.eye(rows), atol=1e-4, rtol=0)
    torch.testing.assert_close(factor @ found.T @ found, factor, atol=1e-4 * scale, rtol=1e-4)


@given(seed=seeds, rows=st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_whitening_turns_with_the_basis_so_that_the_projector_is_that_of_the_subspace(seed: int, rows: int) -> None:
    factor, turn, x = normal(rows, 12, seed=seed), rotation(rows, seed + 1), normal(3, 12, seed=seed + 2)
    found, turned = whitened(factor), whitened(turn @ factor)
    torch.testing.assert_close(turned, turn @ found, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(x @ turned.T @ turned, x @ found.T @ found, atol=1e-4, rtol=1e-4)
    wide = factor.double()
    projector = wide.T @ torch.linalg.inv(wide @ wide.T) @ wide
    torch.testing.assert_close((x @ found.T @ found).double(), x.double() @ projector, atol=1e-4, rtol=1e-4)


@given(seed=seeds, rank=st.integers(0, 4))
@settings(max_examples=50, deadline=None)
def test_directions_that_a_factor_lacks_become_zero_and_are_not_blown_up(seed: int, rank: int) -> None:
    """Six rows of rank 0 to 4; rounding leaves some 1e-7 in the rest, of which nothing may be made."""
    factor = normal(6, rank, seed=seed) @ normal(rank, 10, seed=seed + 1)
    found = whitened(factor)
    projector = found.T @ found
    torch.testing.assert_close(projector @ projector, projector, atol=1e-4, rtol=0)
    assert projector.trace().item() == pytest.approx(rank, abs=1e-3)
    torch.testing.assert_close(factor @ projector, factor, atol=1e-4, rtol=1e-4)


def test_more_rows_than_columns_span_everything() -> None:
    found = whitened(normal(20, 6))
    torch.testing.assert_close(found.T @ found, torch.eye(6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rows", [4, 9, 40])
def test_whitening_is_the_inverse_root_whichever_side_is_longer(rows: int) -> None:
    factor = normal(rows, 9).double()
    left, _, right = torch.linalg.svd(factor, full_matrices=False)
    torch.testing.assert_close(whitened(factor), left @ right, atol=1e-9, rtol=0)


def test_whitening_a_tall_matrix_costs_what_its_columns_do() -> None:
    assert whitened(torch.ones(200_000, 2)).shape == (200_000, 2), "a square of its rows would take 300 GB"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_stays_none_and_stops_nothing_here(value: float) -> None:
    matrix = normal(12, 20)
    matrix[3, 4] = value
    assert whitened(matrix).isnan().all()
    basis = leading_basis(normal(12, 20), 3)
    assert torch.equal(follow(basis, matrix), basis)


def test_whitening_draws_no_gradient_and_no_number() -> None:
    factor, state = normal(3, 5).requires_grad_(), torch.get_rng_state()
    assert not whitened(factor).requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert not math.isnan(whitened(torch.zeros(3, 5)).sum().item())
