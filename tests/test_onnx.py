"""ONNX files as targets: every operation against the cases of ONNX itself, networks against ONNX Runtime."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import pkgutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import nn

import slth
from slth.errors import ArgumentError, SlthError, TargetError, UnsupportedError
from slth.network.onnx_file import read_onnx
from zoo import convnet, mlp, shake

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from slth.network import onnx_graph  # noqa: E402
from slth.network.onnx_constants import as_array, as_tensor  # noqa: E402
from slth.network.onnx_operators import FUNCTIONS  # noqa: E402
from slth.network.onnx_operators.arithmetic import DTYPES  # noqa: E402

onnxruntime.set_default_logger_severity(4)

OURS = {"Linear"}
"""Operations that no file has: what others become when it is read."""
SLOW = {"averagepool", "lppool", "maxpool", "attention", "image_decoder"}
"""Cases that take seconds to make: of pooling, compared with ONNX Runtime below, and of what is not covered."""
REFUSED = {
    "BatchNormalization": ("training_mode",),
    "Dropout": ("training",),
    "LSTM": ("peepholes",),
    "Resize": ("tf_crop_and_resize",),
    "ScatterND": ("reduction",),
}
"""By operation, what the message says of forms that are refused."""
OF_CONSTANTS = ("ConstantOfShape", "Range", "NonZero")
"""Operations of which nothing may depend on a network's input."""
FIRST_OUTPUT = ("LayerNormalization",)
"""Operations whose other outputs no network uses."""
WITHOUT_CASES = ("AveragePool", "LpPool", "MaxPool", "GlobalLpPool")
NONE_TO_COMPARE = ("_empty_set", "_empty_set_bool")
"""Endings: extremes of no entries, which torch does not have."""


def _cases() -> dict[str, list[Any]]:
    """ONNX's own cases with one operation that is covered, by that."""
    from onnx.backend.test.case import node

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for entry in pkgutil.iter_modules(node.__path__):
            if entry.name not in SLOW:
                importlib.import_module(f"{node.__name__}.{entry.name}")
    found: dict[str, list[Any]] = {}
    for case in node._NodeTestCases:
        ops = [(each.domain, each.op_type) for each in case.model.graph.node]
        entries = [*case.model.graph.input, *case.model.graph.output]
        plain = all(entry.type.tensor_type.elem_type in DTYPES.keys() - {TensorProto.BFLOAT16} for entry in entries)
        if len(ops) == 1 and ops[0][0] == "" and ops[0][1] in FUNCTIONS and plain:
            found.setdefault(ops[0][1], []).append(case)
    return found


@pytest.fixture(scope="module")
def cases() -> dict[str, list[Any]]:
    """All of them."""
    return _cases()


def _array(value: Any) -> np.ndarray[Any, Any]:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def _run(model: Any, inputs: list[Any]) -> list[torch.Tensor]:
    """Outputs of a model of which only the first input is none of the file's."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    if model.graph.node[0].op_type in FIRST_OUTPUT:
        del whole.graph.output[1:]
    constants = [*zip(model.graph.input, inputs, strict=False)]
    if model.graph.node[0].op_type in OF_CONSTANTS:
        whole.graph.input.insert(0, helper.make_tensor_value_info("unused", TensorProto.FLOAT, [1]))
    else:
        constants = constants[1:]
    for entry, array in constants:
        whole.graph.initializer.append(numpy_helper.from_array(array, entry.name))
    with torch.no_grad():
        result = onnx_graph.build(whole)(as_tensor(inputs[0]))
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("op", sorted(FUNCTIONS.keys() - OURS))
def test_every_operation_gives_what_onnx_says(op: str, cases: dict[str, list[Any]]) -> None:
    """And what is not covered is refused, by name."""
    agreed = 0
    for case in cases.get(op, []):
        name = case.name.removeprefix("test_")
        for inputs, outputs in case.data_sets:
            if not inputs or name.endswith(NONE_TO_COMPARE):
                continue
            try:
                results = _run(case.model, [*map(_array, inputs)])
            except UnsupportedError as error:
                assert any(word in str(error) for word in REFUSED.get(op, ())), f"{name}: {error}"
                continue
            for result, wanted in zip(results, outputs, strict=op not in FIRST_OUTPUT):
                expected = _array(wanted)
                assert tuple(result.shape) == expected.shape, name
                assert as_array(result).dtype == expected.dtype, name
                rtol, atol = max(case.rtol, 1e-4), max(case.atol, 1e-5)
                np.testing.assert_allclose(as_array(result), expected, rtol=rtol, atol=atol, err_msg=name)
            agreed += 1
    assert agreed or op in WITHOUT_CASES


class Transformer(nn.Module):
    """Patches, a class token, attention over shapes that are asked for, a residual, layer norm; input (3, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.zeros(1, 1, 8))
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the token."""
        n = x.shape[0]
        x = torch.cat([self.token.expand(n, -1, -1), self.patch(x).flatten(2).transpose(1, 2)], 1)
        q, k, v = self.qkv(self.norm(x)).reshape(n, x.shape[1], 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        attention = (q @ k.transpose(-2, -1) * 0.5).softmax(-1)
        x = x + self.out((attention @ v).transpose(1, 2).reshape(n, -1, 8))
        return self.head(nn.functional.gelu(x[:, 0]))


class Residual(nn.Module):
    """Normalisation between, beside and behind convolutions, gates by pooled channels; input (3, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.Hardswish())
        self.depth, self.gate = nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 4, 1)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.stem(x)
        y = nn.functional.relu6(self.norm(x + self.depth(x)))
        y = y * torch.sigmoid(self.gate(nn.functional.adaptive_avg_pool2d(y, 1)))
        return self.head(nn.functional.silu(y.mean((2, 3))))


class Memory(nn.Module):
    """A recurrent layer in both directions; input (5, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.head = nn.LSTM(3, 4, batch_first=True, bidirectional=True), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From the last step."""
        return self.head(self.memory(x)[0][:, -1])


NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "mlp": (mlp((4, 6, 2)), (4,)),
    "conv": (convnet(), (4, 6, 6)),
    "transformer": (shake(Transformer(), 0), (3, 8, 8)),
    "residual": (shake(Residual(), 0), (3, 8, 8)),
    "lstm": (shake(Memory(), 0), (5, 3)),
    "encoder": (
        shake(nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), 1, None, False), 0),
        (3, 8),
    ),
}
EXPORTERS: dict[str, dict[str, Any]] = {
    "script": {"dynamo": False, "input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}, "opset_version": 17},
    "one input": {"dynamo": False, "input_names": ["x"], "opset_version": 14},
    "dynamo": {"dynamo": True, "dynamic_shapes": ({0: torch.export.Dim("n")},), "external_data": False},
}
SLOWLY = {("transformer", "dynamo"), ("residual", "dynamo")}
"""The newer exporter takes seconds, and is not asked for more."""
EVERYWHERE = {(name, how) for name in NETWORKS for how in ("script", "one input")}
EXPORTED = sorted((EVERYWHERE - {("conv", "script"), ("encoder", "script")}) | SLOWLY)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """A network's file, by one of torch's exporters."""
    folder = tmp_path_factory.mktemp("exported")

    def file(name: str, how: str) -> Path:
        path = folder / f"{name} {how}.onnx"
        if path.exists():
            return path
        model, shape = NETWORKS[name]
        x = torch.zeros(1 if how == "one input" else 2, *shape)
        logging.disable(logging.WARNING)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(model.eval(), (x,), path, verbose=False, **EXPORTERS[how])
        logging.disable(logging.NOTSET)
        return path

    return file


def examples(n: int, *shape: int) -> torch.Tensor:
    """Inputs, always the same."""
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "how"), EXPORTED)
def test_exported_networks_come_back(name: str, how: str, files: Callable[[str, str], Path]) -> None:
    """On any batch, also of those that are for one input; traced with a batch of any size, and found."""
    model, shape = NETWORKS[name]
    network, example = read_onnx(files(name, how))
    assert example.shape == (2, *shape) and not network.training
    with torch.no_grad():
        for n in (1, 2, 5):
            torch.testing.assert_close(network(examples(n, *shape)), model(examples(n, *shape)), rtol=1e-4, atol=1e-5)
        dynamic = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("n")},)).module()
        x = examples(7, *shape)
        torch.testing.assert_close(dynamic(x), model(x), rtol=1e-4, atol=1e-5)
    ticket = slth.find_ticket(network, example, base_set_size=8, initialisation="looks-linear")
    assert ticket.graph.output_shape == tuple(model(x).shape[1:])


def test_layers_keep_their_names(files: Callable[[str, str], Path]) -> None:
    layers = {"patch", "norm", "qkv", "out", "head"}
    for how in EXPORTERS:
        network, _ = read_onnx(files("transformer", how))
        names = set(network.state_dict())
        assert {f"{layer}.bias" for layer in layers - {"norm"}} | {"patch.weight", "token"} <= names
        assert network.qkv.weight.shape == (24, 8) and network.head.weight.shape == (3, 8)


def model_of(
    nodes: list[Any], shape: list[Any], constants: dict[str, Any], version: int = 18, output: str = "y", **options: Any
) -> Any:
    """A model of one float input x and one output."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", options.pop("kind", TensorProto.FLOAT), shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=9, **options)


def saved(model: Any, folder: Path) -> Path:
    """A model's file."""
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def runtime(model: Any, x: torch.Tensor) -> torch.Tensor:
    """What ONNX Runtime makes of it."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


@st.composite
def windows(draw: st.DrawFn) -> tuple[Any, torch.Tensor]:
    """A convolution or pooling with any padding, in one or two dimensions."""
    n, op = (
        draw(st.integers(1, 2)),
        draw(st.sampled_from(["Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"])),
    )
    kernel = [draw(st.sampled_from([3, 2, 4, 1])) for _ in range(n)]
    own: dict[str, Any] = {"kernel_shape": kernel, "strides": [draw(st.integers(1, 3)) for _ in range(n)]}
    # ONNX Runtime makes less of a transposed convolution than its input times its strides where kernels are smaller.
    small = op == "ConvTranspose" and any(size < step for size, step in zip(kernel, own["strides"], strict=True))
    kind = "NOTSET" if small else draw(st.sampled_from([*["NOTSET"] * 5, "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if kind == "NOTSET":
        own["pads"] = [draw(st.integers(0, size - 1)) for size in kernel * 2]
    else:
        own["auto_pad"] = kind
    # Of the padding that it finds itself, it only knows that of convolutions with a dilation.
    if op == "Conv" or (op in ("MaxPool", "ConvTranspose") and kind == "NOTSET"):
        own["dilations"] = [draw(st.integers(1, 2)) for _ in range(n)]
    if op in ("MaxPool", "AveragePool") and kind == "NOTSET":
        own["ceil_mode"] = draw(st.integers(0, 1))
    if op == "AveragePool":
        own["count_include_pad"] = draw(st.integers(0, 1))
    if op == "LpPool":
        own["p"] = draw(st.integers(1, 3))
    if op == "ConvTranspose" and kind == "NOTSET":
        own["output_padding"] = [draw(st.integers(0, step - 1)) for step in own["strides"]]
    x = examples(2, 4, *(draw(st.integers(5, 8)) for _ in range(n)))
    constants, names = {}, ["x"]
    if op.startswith("Conv"):
        own["group"] = draw(st.sampled_from([1, 2]))
        rows = (6, 4 // own["group"]) if op == "Conv" else (4, 6 // own["group"])
        constants = {"w": examples(*rows, *kernel).numpy(), "b": examples(6).numpy()}
        names += ["w", "b"] if draw(st.booleans()) else ["w"]
    constants = {name: constants[name] for name in names[1:]}
    return model_of([helper.make_node(op, names, ["y"], **own)], [2, 4, *x.shape[2:]], constants), x


@settings(max_examples=60)
@given(windows())
def test_windows_are_those_of_onnx_runtime(case: tuple[Any, torch.Tensor]) -> None:
    model, x = case
    try:
        expected = runtime(model, x)
    except Exception:
        reject()  # A window larger than what is left of the input.
    with torch.no_grad():
        torch.testing.assert_close(onnx_graph.build(model)(x), expected, rtol=1e-4, atol=1e-5)


@given(st.sampled_from(["nearest", "linear", "cubic"]), st.data())
def test_resizing_is_that_of_onnx_runtime(mode: str, data: st.DataObject) -> None:
    how = data.draw(st.sampled_from(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]))
    nearest = data.draw(st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]))
    # With whole factors the nearest entry is the same whatever a scale was rounded to.
    kinds = ((2, 4, 8, 12), (5, 10, 15)) if mode == "nearest" else (range(2, 10),) * 2
    sizes = [data.draw(st.sampled_from(kind)) for kind in kinds]
    own = {"mode": mode, "coordinate_transformation_mode": how, "nearest_mode": nearest}
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **own)
    x = examples(2, 3, 4, 5)
    model = model_of([node], [2, 3, 4, 5], {"sizes": np.array([2, 3, *sizes])})
    torch.testing.assert_close(onnx_graph.build(model)(x), runtime(model, x), rtol=1e-4, atol=1e-4)


def chain() -> list[Any]:
    """Reshape to what Shape, Gather, Unsqueeze, Concat, Slice, Mul and Cast make of the input's shape."""
    make = helper.make_node
    return [
        make("Shape", ["x"], ["shape"]),
        make("Gather", ["shape", "zero"], ["batch"]),
        make("Unsqueeze", ["batch", "first"], ["batch1"]),
        make("Slice", ["shape", "one1", "three1"], ["rest"]),
        make("ReduceProd", ["rest"], ["entries"], keepdims=0),
        make("Cast", ["entries"], ["real"], to=TensorProto.FLOAT),
        make("Sqrt", ["real"], ["root"]),
        make("Div", ["entries", "two"], ["half"]),
        make("Unsqueeze", ["half", "first"], ["half1"]),
        make("Concat", ["batch1", "two1", "half1"], ["wanted"], axis=0),
        make("Reshape", ["x", "wanted"], ["pairs"]),
        make("Equal", ["wanted", "minus"], ["unknown"]),
        make("ConstantOfShape", ["three1"], ["ones"], value=numpy_helper.from_array(np.array([1], np.int64))),
        make("Where", ["unknown", "ones", "wanted"], ["full"]),
        make("Expand", ["row", "full"], ["rows"]),
        make("Add", ["pairs", "rows"], ["sum"]),
        make("Div", ["sum", "root"], ["y"]),
    ]


CHAIN = {
    **{name: np.array(value) for name, value in {"zero": 0, "two": 2}.items()},
    **{name: np.array([n]) for name, n in {"first": 0, "one1": 1, "three1": 3, "two1": 2, "minus": -1}.items()},
    "row": np.arange(6, dtype=np.float32),
}


def test_what_is_computed_from_shapes_is_no_data() -> None:
    """With a symbolic batch too: nothing of the chain is left in the program but sizes."""
    model = model_of(chain(), ["n", 3, 4], CHAIN)
    network = onnx_graph.build(model).eval()
    x = examples(5, 3, 4)
    torch.testing.assert_close(network(x), runtime(model, x))
    program = torch.export.export(network, (x,), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.testing.assert_close(program.module()(examples(9, 3, 4)), runtime(model, examples(9, 3, 4)))
    ops = {node.target for node in program.graph.nodes if node.op == "call_function"}
    tensors = {op.name().split(".")[0] for op in ops if hasattr(op, "_schema") and "sym" not in op.name()}
    assert tensors == {"aten::reshape", "aten::expand", "aten::add", "aten::div"}


def test_additions_and_products_with_constants_are_linear_layers() -> None:
    weight, bias = examples(4, 3).numpy(), examples(3).numpy()
    make = helper.make_node
    forms = {
        "MatMul and Add": [make("MatMul", ["x", "w"], ["p"]), make("Add", ["b", "p"], ["y"])],
        "Gemm": [make("Gemm", ["x", "w", "b"], ["y"], alpha=0.5, beta=2.0)],
        "Gemm of rows": [make("Transpose", ["w"], ["v"]), make("Gemm", ["x", "v", "b"], ["y"], transB=1)],
        "Identity": [make("Identity", ["w"], ["v"]), make("MatMul", ["x", "v"], ["p"]), make("Add", ["p", "b"], ["y"])],
    }
    for name, nodes in forms.items():
        model = model_of(nodes, ["n", 4], {"w": weight, "b": bias})
        network = onnx_graph.build(model)
        assert len(network.steps) == 1 and len(list(network.parameters())) == 2, name
        torch.testing.assert_close(network(examples(2, 4)), runtime(model, examples(2, 4)))


class Gated(nn.Module):
    """Something between two layers; input (4,)."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.function, self.last = nn.Linear(4, 6), function, nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Two numbers."""
        return self.last(self.function(self.first(x)))


def cubic(x: torch.Tensor) -> torch.Tensor:
    """GELU's approximation, as some write it."""
    return 0.5 * x * (1.0 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


SEVERAL: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "silu": (nn.functional.silu, "Swish"),
    "hard swish": (lambda x: x * nn.functional.relu6(x + 3) / 6, "HardSwish"),
    "hard swish by a gate": (lambda x: nn.functional.hardsigmoid(x) * x, "HardSwish"),
    "mish": (nn.functional.mish, "Mish"),
    "gelu": (nn.functional.gelu, "Gelu"),
    "gelu by tanh": (lambda x: nn.functional.gelu(x, approximate="tanh"), "Gelu"),
    "gelu by hand": (cubic, "Gelu"),
    "layer norm": (shake(nn.LayerNorm(6), 1), "LayerNormalization"),
    "another slope": (lambda x: x * torch.sigmoid(1.702 * x), ""),
    "another gate": (lambda x: x * torch.sigmoid(x.flip(-1)), ""),
    "another factor": (lambda x: 0.6 * x * (1 + torch.erf(x / 2**0.5)), ""),
    "another edge": (lambda x: x * torch.clamp(x + 3, 0, 5) / 6, ""),
    "another power": (lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x * x))), ""),
    "another mean": (lambda x: (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-5).sqrt(), ""),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_what_exporters_take_apart_is_put_together(name: str, tmp_path: Path) -> None:
    function, op = SEVERAL[name]
    model, x = shake(Gated(function), 0), examples(20, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), tmp_path / "net.onnx", dynamo=False, opset_version=14)
    network, _ = read_onnx(tmp_path / "net.onnx")
    torch.testing.assert_close(network(x), model(x), rtol=1e-5, atol=1e-6)
    ops = [type(network.get_submodule(step.path)).__name__ for step in network.steps]
    assert ops == ["Linear", op, "Linear"] if op else not {made for _, made in SEVERAL.values() if made} & set(ops)


def test_statistics_that_are_computed() -> None:
    """Batch normalisation as some exporters write layer normalisation, with whatever gradients."""
    make = helper.make_node
    nodes = [
        make("ReduceMean", ["x"], ["m"], axes=[0, 2], keepdims=0),
        make("Abs", ["m"], ["v"]),
        make("BatchNormalization", ["x", "ones", "zeros", "m", "v"], ["y"], epsilon=0.1),
    ]
    constants = {"ones": np.ones(3, np.float32), "zeros": np.zeros(3, np.float32)}
    model, x = model_of(nodes, ["n", 3, 5], constants, 17), examples(4, 3, 5)
    network = onnx_graph.build(model)
    torch.testing.assert_close(network(x.clone().requires_grad_()), runtime(model, x), rtol=1e-4, atol=1e-5)
    network(x).sum().backward()


def test_statistics_that_equal_a_weight_are_no_parameters() -> None:
    nodes = [helper.make_node("BatchNormalization", ["x", "ones", "zeros", "zeros", "ones"], ["y"])]
    constants = {"ones": np.ones(3, np.float32), "zeros": np.zeros(3, np.float32)}
    network = onnx_graph.build(model_of(nodes, ["n", 3, 5], constants, 17))
    assert len(list(network.parameters())) == 2 and len(list(network.buffers())) == 2


def test_several_outputs_are_a_tuple(tmp_path: Path) -> None:
    make = helper.make_node
    nodes = [make("Reshape", ["x", "flat"], ["z"]), make("MatMul", ["z", "w"], ["y"])]
    model = model_of(nodes, [1, 2, 2], {"w": examples(4, 3).numpy(), "flat": np.array([1, 4])})
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    network, example = read_onnx(saved(model, tmp_path))
    y, z = network(examples(5, 2, 2))
    assert example.shape == (2, 2, 2) and y.shape == (5, 3) and torch.equal(z, examples(5, 2, 2).reshape(5, 4))


def test_one_weight_used_twice_stays_one() -> None:
    make = helper.make_node
    nodes = [make("MatMul", ["x", "w"], ["h"]), make("Relu", ["h"], ["r"]), make("MatMul", ["r", "w"], ["y"])]
    network = onnx_graph.build(model_of(nodes, ["n", 4], {"w": examples(4, 4).numpy()}))
    assert len(list(network.parameters())) == 1 and len(network.state_dict()) == 1


def test_branches_on_what_is_known_are_taken() -> None:
    """By shapes while the network runs, by constants when it is read; by data they are refused."""
    make, value = helper.make_node, helper.make_tensor_value_info
    branches = {
        f"{name}_branch": helper.make_graph(
            [make(op, ["x", "c"], [name])], name, [], [value(name, TensorProto.FLOAT, None)]
        )
        for name, op in (("then", "Mul"), ("else", "Add"))
    }
    c = np.array([2.0, 3.0], np.float32)
    if_ = make("If", ["condition"], ["y"], **branches)
    by_rank = [make("Shape", ["x"], ["s"]), make("Size", ["s"], ["r"]), make("Equal", ["r", "two"], ["condition"]), if_]
    x = examples(3, 2)
    for condition, nodes in ((True, by_rank), (True, [if_]), (False, [if_])):
        constants = {"c": c, "two": np.array(2)} | ({"condition": np.array(condition)} if nodes == [if_] else {})
        result = onnx_graph.build(model_of(nodes, ["n", 2], constants))(x)
        torch.testing.assert_close(result, x * torch.tensor(c) if condition else x + torch.tensor(c))
    by_data = [make("ReduceMax", ["x"], ["m"], keepdims=0), make("Greater", ["m", "zero"], ["condition"]), if_]
    network = onnx_graph.build(model_of(by_data, ["n", 2], {"c": c, "zero": np.array(0, np.float32)}))
    with pytest.raises(UnsupportedError, match="condition"):
        network(x)


def test_a_file_for_one_input_whose_inputs_mix_stays_for_one(tmp_path: Path) -> None:
    """A reshape that moves the first axis: there is no saying what it would do with several."""
    make = helper.make_node
    nodes = [make("Transpose", ["x"], ["t"], perm=[1, 0, 2]), make("Reshape", ["t", "s"], ["y"])]
    model = model_of(nodes, [1, 3, 4], {"s": np.array([3, 4])})
    network, example = read_onnx(saved(model, tmp_path))
    assert len(example) == 1
    torch.testing.assert_close(network(examples(1, 3, 4)), runtime(model, examples(1, 3, 4)))


REFUSALS: dict[str, tuple[Any, str]] = {
    "a loop": (helper.make_node("Loop", ["", "c", "x"], ["y"]), "node.*Loop.*torch.export"),
    "another domain": (helper.make_node("Attention", ["x"], ["y"], domain="com.microsoft"), "com.microsoft.Attention"),
    "too large": (helper.make_node("Expand", ["x", "large"], ["y"]), "at most"),
    "sizes from data": (helper.make_node("NonZero", ["x"], ["y"]), "NonZero.*depends on the network's"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_not_covered_is_refused(name: str, tmp_path: Path) -> None:
    node, words = REFUSALS[name]
    path = saved(model_of([node], ["n", 4], {"large": np.array([2**20, 2**20]), "c": np.array(True)}), tmp_path)
    with pytest.raises(SlthError, match=words) as refused:
        slth.find_ticket(*read_onnx(path))
    assert "\n" not in str(refused.value)


def test_files_that_are_no_networks_are_refused(tmp_path: Path) -> None:
    good = model_of([helper.make_node("Relu", ["x"], ["y"])], ["n", 4], {})
    path = saved(good, tmp_path)
    with pytest.raises(TargetError, match="no such file"):
        read_onnx(tmp_path / "none.onnx")
    for content in (b"", b"text", good.SerializeToString()[:-9], b"\x80\x04\x95", bytes(100)):
        path.write_bytes(content)
        with pytest.raises(TargetError, match=r"net\.onnx"):
            read_onnx(path)


@given(st.data())
def test_no_damage_ends_in_anything_but_one_line(data: st.DataObject) -> None:
    """Bytes changed anywhere: read as a network, or refused."""
    content = bytearray(model_of(chain(), ["n", 3, 4], CHAIN).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        path.write_bytes(content)
        with contextlib.suppress(SlthError):
            network, example = read_onnx(path)
            assert isinstance(network, nn.Module) and isinstance(example, torch.Tensor)


def test_shapes_that_the_file_leaves_open(tmp_path: Path) -> None:
    relu = [helper.make_node("Relu", ["x"], ["y"])]
    path = saved(model_of(relu, ["n", "c", "h"], {}), tmp_path)
    with pytest.raises(ArgumentError, match="--input-shape"):
        read_onnx(path)
    assert read_onnx(path, (3, 5))[1].shape == (2, 3, 5)
    path = saved(model_of(relu, ["n", 4, "h"], {}), tmp_path)
    with pytest.raises(ArgumentError, match=r"--input-shape: got 3,5.*\(4, \?\)"):
        read_onnx(path, (3, 5))
    whole = model_of([helper.make_node("Gather", ["table", "x"], ["y"])], ["n", 3], {"table": examples(5, 2).numpy()})
    whole.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    network, example = read_onnx(saved(whole, tmp_path))
    assert example.dtype == torch.int64 and network(example).shape == (2, 3, 2)


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    model = model_of([helper.make_node("Add", ["x", "z"], ["y"])], ["n", 4], {})
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 4]))
    with pytest.raises(UnsupportedError, match=r"2 inputs \(x, z\)"):
        read_onnx(saved(model, tmp_path))


def test_numbers_beside_the_file_come_from_its_folder_alone(tmp_path: Path) -> None:
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], ["n", 40], {"w": examples(40, 30).numpy()})
    inside = tmp_path / "inside"
    inside.mkdir()
    onnx.save(model, inside / "net.onnx", save_as_external_data=True, location="numbers", size_threshold=0)
    network, _ = read_onnx(inside / "net.onnx")
    torch.testing.assert_close(network(examples(2, 40)), examples(2, 40) @ examples(40, 30))
    (inside / "numbers").rename(tmp_path / "numbers")
    with pytest.raises(TargetError, match="same folder"):
        read_onnx(inside / "net.onnx")
    stray = onnx.load(inside / "net.onnx", load_external_data=False)
    stray.graph.initializer[0].external_data[0].value = "../numbers"
    (inside / "net.onnx").write_bytes(stray.SerializeToString())
    with pytest.raises(TargetError, match=r"'\.\./numbers'.*same folder"):
        read_onnx(inside / "net.onnx")
    (inside / "numbers").symlink_to(tmp_path / "numbers")
    stray.graph.initializer[0].external_data[0].value = "numbers"
    (inside / "net.onnx").write_bytes(stray.SerializeToString())
    with pytest.raises(TargetError, match="same folder"):
        read_onnx(inside / "net.onnx")


def test_without_the_extra_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(model_of([helper.make_node("Relu", ["x"], ["y"])], ["n", 4], {}), tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ArgumentError, match=r'pip install "slth\[onnx\]"'):
        read_onnx(path)
