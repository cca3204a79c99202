"""A Gaussian process with noise known per observation, and the expected improvement of its posterior.

    k(x, x') = s (1 + sqrt(5) r + 5/3 r^2) exp(-sqrt(5) r),   r^2 = sum_g d_g(x, x') / l_g^2         (Matern 5/2)

d_g is the squared distance in the columns of group g (one value of a configuration), which share a length scale l_g.

Of a trial that was stopped, a part u of the observation is not trained but estimated. What that is off by is not noise:
configurations that start alike are off alike, so that many of them would not average it out. It is a function of x as
well, of the same shape, and what two trials share of it is that of the one that got farther:

    cov(y_i, y_j) = k(x_i, x_j) (1 + c^2 min(u_i^2, u_j^2)) + [i = j] (noise + variance_i)                  [ours]

The logarithms of l_g, of the scale s, of the noise that all observations have and of the drift c are fitted to the
maximum of their posterior: normal priors, in which most values matter little, keep the fit sane with few observations
(as in arXiv 2402.02229). [ours] Optuna's own process has one noise for all.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import erfcx, ndtr

Array = NDArray[np.float64]

ROOT5 = math.sqrt(5.0)
JITTER = 1e-6
LENGTH, LENGTH_SD = 0.5, 1.0  # of l_g / sqrt(groups), and of its logarithm
SCALE_SD = 1.0  # of the logarithm of s, around 0: observations are standardised
NOISE, NOISE_SD = 0.01, 1.5  # variance
DRIFT, DRIFT_SD = 0.1, 1.0
BOUNDS = (-4.0, 4.0)  # of the logarithms
NOISE_BOUNDS = (np.log(1e-5), 1.0)
MAX_STEPS = 60  # of L-BFGS


@dataclass(frozen=True)
class GaussianProcess:
    """x: (N, D) inputs; groups: (D,) the group of each column; inverse: (G,) 1 / l_g^2; scale: s; drift: c.

    lower: (N, N) Cholesky factor of the covariance of the observations; weights: (N,) its solution for them.
    """

    x: Array
    groups: NDArray[np.int64]
    inverse: Array
    scale: float
    noise: float
    drift: float
    lower: Array
    weights: Array

    @classmethod
    def fitted(
        cls, x: Array, y: Array, variance: Array, untrained: Array, groups: NDArray[np.int64]
    ) -> "GaussianProcess":
        """x: (N, D); y: (N,) standardised; variance: (N,) of each observation, beyond the noise that all have.

        untrained: (N,) u, the part of y that is an estimate.
        """
        count = int(groups.max()) + 1
        logs = _most_likely(_distances(x, groups), y, variance, _both(untrained), count)
        inverse, (scale, noise, drift) = np.exp(-2 * logs[:count]), np.exp(logs[count:]).tolist()
        return cls(x, groups, inverse, scale, noise, drift, np.empty(0), np.empty(0)).given(x, y, variance, untrained)

    def given(self, x: Array, y: Array, variance: Array, untrained: Array) -> "GaussianProcess":
        """The same hyper-parameters, other observations."""
        covariance = self.covariance(x, x) * (1 + self.drift**2 * _both(untrained))
        covariance[np.diag_indices(len(x))] += self.noise + JITTER + variance
        lower = cholesky(covariance, lower=True)
        weights = cho_solve((lower, True), y)
        return replace(self, x=x, lower=lower, weights=weights)

    def covariance(self, a: Array, b: Array) -> Array:
        width = np.sqrt(self.inverse[self.groups])
        a, b = a * width, b * width
        r2 = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0.0)
        return np.asarray(self.scale * _matern(r2, np.sqrt(r2)))

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the function at x, (M, D), without noise."""
        covariance = self.covariance(x, self.x)
        explained = solve_triangular(self.lower, covariance.T, lower=True, check_finite=False)
        return covariance @ self.weights, np.sqrt(np.maximum(self.scale - (explained**2).sum(0), 1e-10))


def _both(untrained: Array) -> Array:
    """(N, N) min(u_i^2, u_j^2)."""
    squares = untrained**2
    return np.asarray(np.minimum(squares[:, None], squares[None]))


def _matern(r2: Array, r: Array) -> Array:
    return np.asarray((1 + ROOT5 * r + 5 / 3 * r2) * np.exp(-ROOT5 * r))


def _distances(x: Array, groups: NDArray[np.int64]) -> Array:
    """Squared distances by group, (N * N, G)."""
    squares = (x[:, None, :] - x[None, :, :]) ** 2
    found = [squares[:, :, groups == group].sum(2).ravel() for group in range(int(groups.max()) + 1)]
    return np.stack(found, axis=1)


def _most_likely(distances: Array, y: Array, variance: Array, untrained: Array, count: int) -> Array:
    """The logarithms of l_1 ... l_G, s, the noise and c at the maximum of their posterior. untrained: as of _both."""
    mean = np.array([np.log(LENGTH * np.sqrt(count))] * count + [0.0, np.log(NOISE), np.log(DRIFT)])
    sd = np.array([LENGTH_SD] * count + [SCALE_SD, NOISE_SD, DRIFT_SD])
    bounds = [BOUNDS] * (count + 1) + [NOISE_BOUNDS, BOUNDS]

    def cost(logs: Array) -> tuple[float, Array]:
        value, gradient = _negative_log_likelihood(logs, distances, y, variance, untrained)
        return value + float(0.5 * (((logs - mean) / sd) ** 2).sum()), gradient + (logs - mean) / sd**2

    found = minimize(cost, mean, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": MAX_STEPS})
    return np.asarray(found.x)


def _negative_log_likelihood(
    logs: Array, distances: Array, y: Array, variance: Array, untrained: Array
) -> tuple[float, Array]:
    """Up to a constant, and its gradient."""
    n, count = len(y), len(logs) - 3
    inverse, (scale, noise, drift) = np.exp(-2 * logs[:count]), np.exp(logs[count:])
    r2 = (distances @ inverse).reshape(n, n)
    r = np.sqrt(r2)
    plain, off = _matern(r2, r), drift**2 * untrained
    shape = plain * (1 + off)
    covariance = scale * shape
    covariance[np.diag_indices(n)] += noise + JITTER + variance
    lower = cholesky(covariance, lower=True, check_finite=False)
    weights = cho_solve((lower, True), y, check_finite=False)
    half = 0.5 * (cho_solve((lower, True), np.eye(n), check_finite=False) - np.outer(weights, weights))
    slope = half * (1 + off) * scale * (-5 / 6) * (1 + ROOT5 * r) * np.exp(-ROOT5 * r)  # by r^2
    gradient = np.empty(count + 3)
    gradient[:count] = -2 * inverse * (slope.ravel() @ distances)
    gradient[count] = (half * shape).sum() * scale
    gradient[count + 1] = np.trace(half) * noise
    gradient[count + 2] = (half * plain * off).sum() * scale * 2
    return float(0.5 * y @ weights + np.log(np.diag(lower)).sum()), gradient


def log_expected_improvement(mean: Array, sd: Array, best: float) -> Array:
    """log E[max(f - best, 0)] for normal f, exact far below the best too (arXiv 2310.20708)."""
    z = (mean - best) / sd
    near = np.maximum(z, -1.0)
    plain = np.log(np.exp(-(near**2) / 2) / np.sqrt(2 * np.pi) + near * ndtr(near))
    far = np.minimum(z, -1.0)
    tail = np.maximum(1 + np.sqrt(np.pi / 2) * far * erfcx(-far / np.sqrt(2)), np.finfo(float).tiny)
    tail = np.where(far < -1e3, 1 / far**2, tail)  # the difference cancels there
    return np.asarray(np.where(z > -1, plain, -(far**2) / 2 - 0.5 * np.log(2 * np.pi) + np.log(tail)) + np.log(sd))
