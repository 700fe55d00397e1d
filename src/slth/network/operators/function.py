"""Operations without weights of their own that are kept as they are: sums, products, softmax, attention and the like.

A function is a torch operation of a fixed list and its arguments as plain data, in which ``{"source": i}`` stands for
the i-th value that the node reads, ``{"batch": k}`` for k times the size of the batch, and ``{"dtype": name}`` for a
number type (``"float"`` for that in which the network runs); ``{"number": "inf"}`` and ``"-inf"`` are infinite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from slth.network.graph import TRIAL_BATCHES, Attribute, Layout, Sign, trial_batches
from slth.network.operators.base import Operator
from slth.network.operators.signs import SIGNS

_ARITHMETIC = """
add sub rsub mul div true_divide floor_divide remainder fmod neg abs pow square sqrt rsqrt reciprocal exp exp2 expm1
log log2 log10 log1p sin cos tan asin acos atan atan2 sinh cosh asinh acosh atanh erf erfc sign sgn floor ceil round
trunc frac clamp clamp_min clamp_max clip maximum minimum max min lerp addcmul addcdiv hypot logaddexp
"""
_ACTIVATIONS = """
relu relu6 leaky_relu tanh sigmoid gelu silu mish elu selu celu softplus softsign hardtanh hardsigmoid hardswish
hardshrink softshrink tanhshrink threshold log_sigmoid logsigmoid glu prelu softmax log_softmax logit special_expit
_softmax _log_softmax rrelu logsumexp
"""
_LOGIC = """
eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not where masked_fill
isnan isinf isfinite any all
"""
_REDUCTIONS = """
sum mean amax amin argmax argmin prod std var var_mean std_mean norm linalg_vector_norm cumsum cumprod count_nonzero
"""
_SHAPES = """
view reshape _unsafe_view flatten unflatten squeeze unsqueeze transpose permute t numpy_T movedim moveaxis swapaxes
expand expand_as repeat tile broadcast_to cat concat stack hstack vstack split split_with_sizes chunk unbind
tensor_split slice select narrow index_select index gather take_along_dim flip roll rot90 unfold im2col pad
constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d diagonal diag_embed tril triu
pixel_shuffle pixel_unshuffle channel_shuffle view_as reshape_as repeat_interleave as_strided adjoint mT mH meshgrid
type_as to _to_copy clone contiguous topk sort
"""
_SCATTERS = """
copy fill select_scatter slice_scatter diagonal_scatter index_put scatter scatter_add masked_scatter index_fill
index_copy index_add
"""
_PRODUCTS = """
matmul mm bmm baddbmm addmm addbmm dot mv linear bilinear einsum outer scaled_dot_product_attention conv1d conv2d
conv3d conv_transpose1d conv_transpose2d conv_transpose3d cosine_similarity cdist embedding tensordot kron
linalg_matmul
"""
_NORMALISATIONS = """
layer_norm native_layer_norm group_norm native_group_norm instance_norm rms_norm batch_norm local_response_norm
normalize
"""
_POOLS = """
max_pool1d max_pool2d max_pool3d max_pool2d_with_indices avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
"""
_SAMPLING = """
upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d
upsample_trilinear3d _upsample_nearest_exact1d _upsample_nearest_exact2d grid_sampler grid_sampler_2d
affine_grid_generator
"""
_CREATION = """
arange zeros ones full zeros_like ones_like full_like new_zeros new_ones new_full empty_like scalar_tensor eye
linspace one_hot new_tensor
"""
_FOURIER = """
fft_fft fft_ifft fft_rfft fft_irfft fft_rfft2 fft_irfft2 fft_fft2 fft_ifft2 view_as_real view_as_complex real imag
complex stft istft
"""
FUNCTIONS = frozenset(
    " ".join(
        (
            *(_ARITHMETIC, _ACTIVATIONS, _LOGIC, _REDUCTIONS, _SHAPES, _SCATTERS, _PRODUCTS, _NORMALISATIONS, _POOLS),
            *(_SAMPLING, _CREATION, _FOURIER),
        )
    ).split()
)
"""Names of the torch operations that a node may be: functions of their arguments, without randomness."""

_DTYPES = {
    name: getattr(torch, name) for name in ("float16", "bfloat16", "float32", "float64", "int64", "int32", "bool")
}
_DTYPES |= {name: getattr(torch, name) for name in ("int8", "int16", "uint8", "complex64", "complex128")}


class Function(Operator):
    """A call of a torch operation. Attributes: ``function``, ``arguments`` by name, ``output`` (number of the output,
    where it gives several, else -1) and ``batch`` (source, axis and divisor that tell the batch's size, or empty).
    """

    name = "function"
    kinds = {"function": str, "arguments": dict, "output": int, "batch": tuple}

    def check(self, attributes: dict[str, Any]) -> dict[str, Attribute]:
        """Attributes read from a file; no function beyond :data:`FUNCTIONS` is ever called."""
        if set(attributes) != set(self.kinds):
            raise ValueError(f"{self.name}: attributes {sorted(attributes)} instead of {sorted(self.kinds)}")
        function, output, batch = attributes["function"], attributes["output"], attributes["batch"]
        if not isinstance(function, str) or function not in FUNCTIONS:
            raise ValueError(f"{self.name}: {function!r} is not a function that is known")
        if type(output) is not int or not isinstance(attributes["arguments"], dict):
            raise ValueError(f"{self.name}: arguments and output of {function}")
        if (
            not isinstance(batch, list | tuple)
            or len(batch) not in (0, 3)
            or any(type(entry) is not int for entry in batch)
        ):
            raise ValueError(f"{self.name}: {batch!r} does not tell a batch's size")
        arguments = {str(key): _frozen(value) for key, value in attributes["arguments"].items()}
        return {"function": function, "arguments": arguments, "output": output, "batch": tuple(batch)}

    def layout(self, attributes: Mapping[str, Any], sources: Sequence[Layout]) -> Layout:
        """Shape of the output, found on tensors without storage with batches of two sizes."""
        wholes = []
        module = FunctionModule(attributes)
        batches = trial_batches(sources)
        for batch in batches:
            values = [torch.empty(source.whole(batch), device="meta") for source in sources]
            wholes.append(_try(module, values, attributes, sources))
        if len(wholes[0]) != len(wholes[1]):
            raise ValueError(f"{attributes['function']}: axes that go by the batch's size")
        if batches[0] == batches[1]:
            return Layout.of(wholes[0], batches[0])
        return Layout.of(tuple(_size(first, second) for first, second in zip(*wholes, strict=True)))

    def signs(self, attributes: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
        """By the function's own rule; unknown without one."""
        rule = SIGNS.get(attributes["function"])
        return Sign.SIGNED if rule is None else rule(attributes["arguments"], signs)

    def module(self, attributes: Mapping[str, Any]) -> torch.nn.Module:
        """A module that reads the node's sources."""
        return FunctionModule(attributes)


class FunctionModule(torch.nn.Module):
    """One call; in training mode or not, it is the same."""

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        super().__init__()
        self.function = getattr(torch.ops.aten, attributes["function"])
        self.arguments, self.output, self.batch = attributes["arguments"], attributes["output"], attributes["batch"]
        # Follows .to(dtype), so that what is created has the network's number type.
        self.register_buffer("number", torch.empty(0), persistent=False)

    def extra_repr(self) -> str:
        """The function's name."""
        return str(self.function)

    def forward(self, *sources: torch.Tensor) -> torch.Tensor:
        """Its output on a batch."""
        batch = 0
        if self.batch:
            source, axis, divisor = self.batch
            batch = sources[source].shape[axis] // divisor
        kwargs = {key: self._value(value, sources, batch) for key, value in self.arguments.items()}
        result = self.function(**kwargs)
        output: torch.Tensor = result if self.output < 0 else result[self.output]
        return output

    def _value(self, value: Any, sources: Sequence[torch.Tensor], batch: int) -> Any:
        if isinstance(value, Mapping):
            ((kind, content),) = value.items()
            if kind == "source":
                return sources[content]
            if kind == "batch":
                return content * batch
            if kind == "number":
                return float(content)
            assert isinstance(self.number, torch.Tensor)
            return self.number.dtype if content == "float" else _DTYPES[content]
        if isinstance(value, tuple):
            return [self._value(entry, sources, batch) for entry in value]
        return value


class Kept(Operator):
    """A tensor of the target that is kept as it is."""

    name = "kept"
    kinds = {"shape": tuple, "dtype": str}

    def layout(self, attributes: Mapping[str, Any], sources: Sequence[Layout]) -> Layout:
        """Its own."""
        if sources or any(size < 1 for size in attributes["shape"]) or attributes["dtype"] not in _DTYPES:
            raise ValueError(f"a kept tensor {attributes} of {len(sources)} values")
        return Layout(attributes["shape"], batched=False)

    def signs(self, attributes: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
        """Nothing is known of it."""
        return Sign.SIGNED

    def module(self, attributes: Mapping[str, Any]) -> torch.nn.Module:
        """A module that holds it, to be filled."""
        return KeptTensor(torch.zeros(attributes["shape"], dtype=_DTYPES[attributes["dtype"]]))


class KeptTensor(torch.nn.Module):
    """A constant."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self) -> torch.Tensor:
        """The constant."""
        assert isinstance(self.value, torch.Tensor)
        return self.value


def batch_rule(sources: Sequence[Layout]) -> tuple[int, ...]:
    """Source, axis and divisor that tell a batch's size; empty if none does."""
    for number, source in enumerate(sources):
        if source.batched:
            return (number, 0, 1)
        for axis, size in enumerate(source.shape):
            if size < 0:
                return (number, axis, -size)
    return ()


def _try(
    module: FunctionModule, values: list[torch.Tensor], attributes: Mapping[str, Any], sources: Sequence[Layout]
) -> tuple[int, ...]:
    """Shape of the output; whole numbers where the function wants indices."""
    try:
        return tuple(module(*values).shape)
    except (RuntimeError, TypeError, IndexError, NotImplementedError) as error:
        for kind in (torch.int64, torch.bool, torch.complex64):
            try:
                return tuple(module(*_as(values, kind, attributes)).shape)
            except (RuntimeError, TypeError, IndexError, NotImplementedError):
                continue
        shapes = [source.shape for source in sources]
        raise ValueError(f"{attributes['function']} of {shapes}: {str(error).splitlines()[0]}") from error


def _as(values: list[torch.Tensor], kind: torch.dtype, attributes: Mapping[str, Any]) -> list[torch.Tensor]:
    """All but the first value as numbers of another kind; of one value that one."""
    if attributes["function"] in ("where", "embedding") or len(values) == 1:
        first = 1 if attributes["function"] == "where" else len(values)
        return [value.to(kind) if number < first else value for number, value in enumerate(values)]
    return [value.to(kind) if number else value for number, value in enumerate(values)]


def _size(first: int, second: int) -> int:
    """-k for k times the batch's size, from the sizes for both trial batches."""
    if first == second:
        return first
    shares = [size / batch for size, batch in zip((first, second), TRIAL_BATCHES, strict=True)]
    if shares[0] != shares[1] or shares[0] != int(shares[0]):
        raise ValueError(f"a size that is {first} and {second} for batches of {TRIAL_BATCHES}")
    return -int(shares[0])


def _frozen(value: Any) -> Any:
    """Arguments as they are kept: tuples for lists, tags with what belongs to them."""
    if isinstance(value, Mapping):
        if len(value) != 1:
            raise ValueError(f"{value!r} is no argument")
        ((kind, content),) = value.items()
        known = type(content) is int and content >= 0
        known = (content == "float" or content in _DTYPES) if kind == "dtype" else known
        known = content in ("inf", "-inf") if kind == "number" else known
        if kind not in ("source", "batch", "dtype", "number") or not known:
            raise ValueError(f"{value!r} is no argument")
        return {kind: content}
    if isinstance(value, list | tuple):
        return tuple(_frozen(entry) for entry in value)
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError(f"{value!r} is no argument")
