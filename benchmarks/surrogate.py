"""LCBench's learning curves from a surrogate: seven hyper-parameters of a small network, 52 epochs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from scipy.optimize import differential_evolution

EPOCHS = 52
ACCURACY = 1  # column of the output: validation accuracy in per cent
RANDOM = 20_000  # configurations
POPULATION, GENERATIONS = 256, 300  # of the search for the best
# in the model's order
SEARCH: dict[str, dict[str, Any]] = {
    "batch_size": {"int": [16, 512], "log": True},
    "learning_rate": {"float": [1e-4, 0.1], "log": True},
    "momentum": {"float": [0.1, 0.99]},
    "weight_decay": {"float": [1e-5, 0.1]},
    "num_layers": {"int": [1, 5]},
    "max_units": {"int": [64, 1024], "log": True},
    "max_dropout": {"float": [0.0, 1.0]},
}


class Surrogate:
    """One task's curves. folder: holds model.onnx and encoding.json."""

    epochs = EPOCHS

    def __init__(self, folder: Path, task: str) -> None:
        codes = json.loads((folder / "encoding.json").read_text(encoding="utf-8"))["OpenML_task_id"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options)
        self.task = codes[task]

    def accuracies(self, values: NDArray[np.float64], epochs: NDArray[np.int64]) -> NDArray[np.float64]:
        """One a row of hyper-parameters and epoch, in one call."""
        rows = np.column_stack([epochs, values]).astype(np.float32)
        task = np.full((len(rows), 1), self.task, np.int32)
        return np.asarray(self.session.run(None, {"x_cat": task, "x_cont": rows})[0][:, ACCURACY], np.float64)

    def curve(self, values: Mapping[str, Any]) -> "Curve":
        return Curve(self, np.array([values[name] for name in SEARCH], np.float64))

    def random_accuracies(self, count: int) -> NDArray[np.float64]:
        """Of random configurations, after the last epoch."""
        return self.at_the_end(random_points(count))

    def top(self) -> float:
        """The best accuracy after the last epoch that is found from the best of random configurations on."""
        random = random_points(RANDOM)
        found = differential_evolution(
            lambda points: -self.at_the_end(points),
            [(0.0, 1.0)] * len(SEARCH),
            init=random[:, np.argsort(-self.at_the_end(random))[:POPULATION]].T,
            strategy="rand1bin",
            maxiter=GENERATIONS,
            tol=0.0,
            vectorized=True,
            updating="deferred",
            polish=False,  # whole numbers have no slopes
            rng=0,
        )
        return -float(found.fun)

    def at_the_end(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Accuracies after the last epoch. points: (7, N), each value as a share of its range."""
        columns = []
        for entry, share in zip(SEARCH.values(), points, strict=True):
            low, high = entry.get("int") or entry["float"]
            drawn = low * (high / low) ** share if entry.get("log") else low + (high - low) * share
            columns.append(np.round(drawn) if "int" in entry else drawn)
        parts = np.array_split(np.column_stack(columns), max(1, points.shape[1] // 1000))
        return np.concatenate([self.accuracies(part, np.full(len(part), EPOCHS)) for part in parts])


def random_points(count: int) -> NDArray[np.float64]:
    return np.random.default_rng(0).uniform(0.0, 1.0, (len(SEARCH), count))


class Curve:
    """Accuracy by epoch, asked of the model in batches as far as the trial trains."""

    def __init__(self, surrogate: Surrogate, values: NDArray[np.float64]) -> None:
        self.surrogate, self.values, self.known = surrogate, values, list[float]()

    def __call__(self, epoch: int) -> float:
        while len(self.known) < epoch:
            first = len(self.known) + 1
            epochs = np.arange(first, min(EPOCHS, max(4, 4 * (first - 1))) + 1)
            self.known += self.surrogate.accuracies(np.tile(self.values, (len(epochs), 1)), epochs).tolist()
        return self.known[epoch - 1]

    @property
    def best(self) -> float:
        """Of a trial that has trained to its end."""
        return max(self.known)

    seen = best  # the surrogate has no noise
