"""LCBench's learning curves from a surrogate: seven hyper-parameters of a small network, 52 epochs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

EPOCHS = 52
ACCURACY = 1  # column of the output: validation accuracy in per cent
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
        rng, columns = np.random.default_rng(0), []
        for entry in SEARCH.values():
            low, high = entry.get("int") or entry["float"]
            even = rng.uniform(0.0, 1.0, count)
            drawn = low * (high / low) ** even if entry.get("log") else low + (high - low) * even
            columns.append(np.round(drawn) if "int" in entry else drawn)
        parts = np.array_split(np.column_stack(columns), max(1, count // 1000))
        return np.concatenate([self.accuracies(part, np.full(len(part), EPOCHS)) for part in parts])


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
