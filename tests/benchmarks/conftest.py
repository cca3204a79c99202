"""A surrogate of four numbers, for what searches."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.surrogate import SEARCH


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Accuracy = 0.5 a epoch + 30 momentum, whatever else."""
    path = tmp_path_factory.mktemp("lcbench")
    weights = np.zeros((8, 6), np.float32)
    weights[0, 1], weights[1 + list(SEARCH).index("momentum"), 1] = 0.5, 30.0
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x_cont", "w"], ["y"])],
        "linear",
        [
            helper.make_tensor_value_info("x_cat", TensorProto.INT32, ["n", 1]),
            helper.make_tensor_value_info("x_cont", TensorProto.FLOAT, ["n", 8]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path / "model.onnx")
    (path / "encoding.json").write_text(json.dumps({"OpenML_task_id": {"7": 3}}))
    return path
