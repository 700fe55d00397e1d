"""ONNX files with several inputs: refused with a remedy, and the remedy works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slth.errors import UnsupportedError
from slth.network.inputs import as_target
from slth.network.onnx_file import read_onnx
from slth.runtime import evaluate

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def _two_inputs(path: Path, values: dict[str, np.ndarray]) -> Path:
    """y = W x + shift with the shift as a second input; ``values`` are made initializers."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "shift")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["u"]), helper.make_node("Add", ["u", "shift"], ["y"])]
    weights = [numpy_helper.from_array(array, name) for name, array in values.items()]
    graph = helper.make_graph(
        nodes, "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])], weights
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return path


def test_a_second_input_is_refused_by_its_name_and_is_a_constant_once_it_has_a_value(tmp_path: Path) -> None:
    w = np.arange(9, dtype=np.float32).reshape(3, 3)
    with pytest.raises(UnsupportedError, match=r"2 inputs \(x, shift\).*'shift'.*graph.initializer"):
        read_onnx(_two_inputs(tmp_path / "two.onnx", {"w": w}))
    shift = np.array([[1.0, -2.0, 3.0]], dtype=np.float32)
    target = as_target(*read_onnx(_two_inputs(tmp_path / "one.onnx", {"w": w, "shift": shift})))
    _, example = read_onnx(tmp_path / "one.onnx")
    x = example + 1.0
    np.testing.assert_allclose(evaluate(target, x).numpy(), x.numpy() @ w + shift, rtol=1e-6)
