"""The Gaussian process against textbook formulas, scikit-learn's and numerical integration."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from sweeps.samplers import gaussian_process
from sweeps.samplers.gaussian_process import JITTER, GaussianProcess, log_expected_improvement

GROUPS = np.array([0, 1, 1])


def observed(count: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.random((count, 3))
    y = np.sin(5 * x[:, 0])
    return x, (y - y.mean()) / y.std(), generator.uniform(0.0, 0.5, count)


def test_the_posterior_is_scikit_learns() -> None:
    x, y, variance = observed()
    mine = GaussianProcess.fitted(x, y, variance, 0 * y, GROUPS)
    kernel = ConstantKernel(mine.scale) * Matern(1 / np.sqrt(mine.inverse[GROUPS]), nu=2.5)
    theirs = GaussianProcessRegressor(kernel, alpha=mine.noise + JITTER + variance, optimizer=None).fit(x, y)
    at = np.random.default_rng(1).random((50, 3))
    for one, other in zip(mine(at), theirs.predict(at, return_std=True), strict=True):
        assert one == pytest.approx(other, abs=1e-8)


def test_what_is_estimated_alike_is_off_alike() -> None:
    """The posterior by the textbook, for a function and its drift, two processes whose sum is observed."""
    x, y, variance = observed()
    untrained = np.repeat([0.0, 0.5, 2.0], 4)
    model = GaussianProcess.fitted(x, y, variance, untrained, GROUPS)
    model = replace(model, drift=0.8).given(x, y, variance, untrained)
    at = np.random.default_rng(1).random((50, 3))
    kernel = ConstantKernel(model.scale) * Matern(1 / np.sqrt(model.inverse[GROUPS]), nu=2.5)
    off = [[0.8**2 * min(one, other) ** 2 for other in untrained] for one in untrained]
    known = kernel(x) + kernel(x) * np.array(off) + np.diag(model.noise + JITTER + variance)
    gain = kernel(at, x) @ np.linalg.inv(known)
    mean, sd = model(at)
    assert mean == pytest.approx(gain @ y, abs=1e-8)
    assert sd**2 == pytest.approx(model.scale - (gain * kernel(at, x)).sum(1), abs=1e-8)


def test_many_that_start_well_do_not_outvote_those_that_ended_well() -> None:
    """Twenty were stopped early, better at 1 than at 0; of six that ended it is the other way round."""
    generator = np.random.default_rng(0)
    x = np.zeros((26, 3))
    x[:, 0] = np.tile([0.0, 1.0], 13)
    x[:, 1:] = generator.random((26, 2))
    stopped = np.arange(26) < 20
    y = np.where(stopped, 1.0, -1.0) * np.where(x[:, 0] == 1.0, 0.5, -0.5) + 0.05 * generator.standard_normal(26)
    at = np.array([[0.0, 0.5, 0.5], [1.0, 0.5, 0.5]])
    estimated = GaussianProcess.fitted(x, y, 0 * y, np.where(stopped, 5.0, 0.0), GROUPS)(at)[0]
    assert estimated[0] > estimated[1] + 0.3
    as_if_trained = GaussianProcess.fitted(x, y, 0 * y, 0 * y, GROUPS)(at)[0]
    assert as_if_trained[0] < as_if_trained[1]


def test_the_gradient_is_that_of_the_likelihood() -> None:
    x, y, variance = observed()
    distances = gaussian_process._distances(x, GROUPS)
    both = gaussian_process._both(np.repeat([0.0, 0.5, 2.0], 4))

    def cost(logs: np.ndarray, which: int) -> Any:
        return gaussian_process._negative_log_likelihood(logs, distances, y, variance, both)[which]

    for logs in (np.zeros(5), np.array([-0.5, 0.7, 0.3, -2.0, -1.0])):
        numeric = [(cost(logs + h, 0) - cost(logs - h, 0)) / 2e-5 for h in 1e-5 * np.eye(5)]
        assert cost(logs, 1) == pytest.approx(numeric, rel=1e-4, abs=1e-5)


def test_a_value_that_matters_gets_the_shorter_length_scale() -> None:
    x, y, variance = observed(40)
    fitted = GaussianProcess.fitted(x, y, 0 * variance, 0 * y, GROUPS)
    assert fitted.inverse[0] > 4 * fitted.inverse[1]


def test_an_uncertain_observation_pulls_less() -> None:
    x, y, _ = observed()
    loud = np.where(np.arange(len(y)) == 3, 4.0, 0.0)
    y = np.where(np.arange(len(y)) == 3, 3.0, y)
    fitted = GaussianProcess.fitted(x, y, 0 * loud, 0 * y, GROUPS)
    at = x[3:4]
    assert fitted.given(x, y, loud, 0 * y)(at)[0][0] < fitted(at)[0][0] - 0.5
    assert fitted.given(x, y, loud, 0 * y)(at)[1][0] > fitted(at)[1][0]


@pytest.mark.parametrize("mean", [3.0, 0.5, -0.9, -1.1, -4.0])
def test_expected_improvement_is_the_integral(mean: float) -> None:
    sd, best = 0.7, 0.2
    integral = quad(lambda f: (f - best) * norm.pdf(f, mean, sd), best, best + 20, epsabs=0, limit=200)[0]
    found = log_expected_improvement(np.array([mean]), np.array([sd]), best)[0]
    assert found == pytest.approx(np.log(integral), rel=1e-5)


def test_expected_improvement_tells_draws_apart_far_below_the_best() -> None:
    worth = log_expected_improvement(-np.array([30.0, 900.0, 1100.0, 1e5]), np.ones(4), 0.0)
    assert np.isfinite(worth).all()
    assert (np.diff(worth) < 0).all()
