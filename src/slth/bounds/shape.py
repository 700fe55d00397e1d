"""A target network as the theorems see it: widths and norms, plain numbers without the network itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slth.activations import Activation
from slth.activations.registry import identity, relu
from slth.bounds.exact import count
from slth.errors import ArgumentError

LARGEST_WORK = 1e10
"""Spectral norms that take more operations are replaced by cheaper bounds (chosen: some seconds a layer)."""

RELU = relu()
LINEAR = replace(identity(), name="linear")
"""Of a layer with no activation behind it."""

Norm = Literal["1", "2", "inf"]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One target layer x -> φ(W x + b), dense or convolutional, by numbers that bound it.

    Attributes
    ----------
    inputs, outputs : int
        n_{i-1} and n_i: neurons, or channels of a convolution.
    taps : int
        Entries of a kernel for one pair of channels (d_i² of a square kernel); 1 for a dense layer.
    groups : int
        Of a grouped convolution.
    positions : int
        Places where a convolution's output lies; 1 for a dense layer.
    spectral : float
        ‖W‖_2 as an operator.
    largest : float
        ‖W‖_max.
    row_sum, column_sum : float
        ‖W‖_{∞→∞} and ‖W‖_{1→1}: largest sum of magnitudes that belong to one output, or to one input. The first is a
        convolution's largest 1-norm of an output channel's kernel.
    entry_sum : float
        ‖W‖_1, the sum of all magnitudes.
    row_nonzeros, nonzeros : int
        Most nonzero weights of one output (the s of sparse theorems), and of all.
    biases : int
        Nonzero biases.
    largest_bias : float
    activation : Activation
        φ.
    """

    inputs: int
    outputs: int
    spectral: float
    largest: float
    row_sum: float
    column_sum: float
    entry_sum: float
    row_nonzeros: int
    nonzeros: int
    taps: int = 1
    groups: int = 1
    positions: int = 1
    biases: int = 0
    largest_bias: float = 0.0
    activation: Activation = RELU

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "taps", "groups", "positions"):
            count(f"Layer.{name}", getattr(self, name))
        for name in ("row_nonzeros", "nonzeros", "biases"):
            count(f"Layer.{name}", getattr(self, name), least=0)
        if self.inputs % self.groups or self.outputs % self.groups:
            raise ArgumentError(
                "Layer.groups", f"{self.groups} for {self.inputs} inputs and {self.outputs} outputs", "a common divisor"
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "float" and not (math.isfinite(value) and value >= 0):
                raise ArgumentError(f"Layer.{field.name}", str(value), "a finite number, at least 0")

    @property
    def fan_in(self) -> int:
        """Weights of one output."""
        return self.inputs // self.groups * self.taps

    @property
    def weights(self) -> int:
        """All weights, zero or not, without biases."""
        return self.fan_in * self.outputs

    @classmethod
    def bounded(
        cls,
        inputs: int,
        outputs: int,
        *,
        spectral: float = 1.0,
        largest: float = 1.0,
        taps: int = 1,
        biases: int = 0,
        largest_bias: float = 1.0,
        activation: Activation = RELU,
    ) -> Layer:
        """A layer of which only norms are known; the other norms are the largest that those allow.

        A row of a matrix has 2-norm at most ‖W‖_2, so a 1-norm of at most √n ‖W‖_2 and of at most n ‖W‖_max.
        """
        fan_in, fan_out = count("inputs", inputs) * count("taps", taps), count("outputs", outputs) * taps
        row_sum = min(fan_in * largest, math.sqrt(fan_in) * spectral)
        return cls(
            inputs=inputs,
            outputs=outputs,
            taps=taps,
            spectral=spectral,
            largest=largest,
            row_sum=row_sum,
            column_sum=min(fan_out * largest, math.sqrt(fan_out) * spectral),
            entry_sum=outputs * row_sum,
            row_nonzeros=fan_in,
            nonzeros=fan_in * outputs,
            biases=biases,
            largest_bias=largest_bias if biases else 0.0,
            activation=activation,
        )

    @classmethod
    def of_matrix(
        cls,
        weight: NDArray[np.floating],
        bias: NDArray[np.floating] | None = None,
        *,
        groups: int = 1,
        positions: int = 1,
        activation: Activation = RELU,
    ) -> Layer:
        """The numbers of a stored layer.

        Parameters
        ----------
        weight : array, (outputs, inputs) or (outputs, inputs / groups, kernel axes ...)
        bias : array, (outputs,), optional
        groups, positions, activation
            As in the class.

        Returns
        -------
        Layer
            Its ``spectral`` is an upper bound for convolutions, and for matrices beyond ``LARGEST_WORK``.
        """
        if weight.ndim < 2 or weight.size == 0 or not np.isfinite(weight).all():
            raise ArgumentError("weight", f"an array of shape {weight.shape}", "two axes or more, finite numbers")
        if weight.shape[0] % count("groups", groups):
            raise ArgumentError("groups", str(groups), f"a divisor of the {weight.shape[0]} outputs")
        magnitude = np.abs(weight.astype(np.float64)).reshape(weight.shape[0], weight.shape[1], -1)
        offsets = np.zeros(1) if bias is None else np.abs(np.asarray(bias, dtype=np.float64))
        grouped = magnitude.reshape(groups, -1, *magnitude.shape[1:])
        row_sum, column_sum = float(magnitude.sum((1, 2)).max()), float(grouped.sum((1, 3)).max())
        return cls(
            inputs=weight.shape[1] * groups,
            outputs=weight.shape[0],
            taps=magnitude.shape[2],
            groups=groups,
            positions=positions,
            spectral=min(math.sqrt(row_sum * column_sum), _spectral(weight, groups)),
            largest=float(magnitude.max()),
            row_sum=row_sum,
            column_sum=column_sum,
            entry_sum=float(magnitude.sum()),
            row_nonzeros=int(np.count_nonzero(magnitude, axis=(1, 2)).max()),
            nonzeros=int(np.count_nonzero(magnitude)),
            biases=int(np.count_nonzero(offsets)),
            largest_bias=float(offsets.max(initial=0.0)),
            activation=activation,
        )


def _spectral(weight: NDArray[np.floating], groups: int) -> float:
    """Upper bound on the operator's spectral norm: the matrix's own, or a convolution's on images of any size.

    Zero padding and strides leave a part of the convolution on an infinite grid, whose norm is the largest of ‖K(ω)‖_2
    with K(ω) the kernel's Fourier series. Each u* K(ω) v is a trigonometric polynomial of degree (k - 1) / 2 along an
    axis of k taps, so that among N points a turn one is at least cos(π (k - 1) / (2N)) times its maximum (M. Riesz).
    """
    kernel, outputs = weight.shape[2:], weight.shape[0] // groups
    points = [1 if taps == 1 else 2 * taps for taps in kernel]
    blocks: NDArray[np.inexact] = weight.astype(np.float64).reshape(groups, outputs, weight.shape[1], *kernel)
    if groups * math.prod(points) * min(blocks.shape[1:3]) ** 3 > LARGEST_WORK:
        return float(np.sqrt((blocks.reshape(*blocks.shape[:3], -1) ** 2).sum((1, 2))).max(axis=0).sum())
    if kernel:
        blocks = np.fft.fftn(blocks, s=points, axes=range(3, 3 + len(kernel)))
    matrices = np.moveaxis(blocks.reshape(*blocks.shape[:3], -1), 3, 1)
    adjoint = np.conj(np.swapaxes(matrices, 2, 3))
    gram = matrices @ adjoint if outputs <= weight.shape[1] else adjoint @ matrices
    largest = max(0.0, float(np.linalg.eigvalsh(gram)[..., -1].max()))
    return math.sqrt(largest) / math.prod(
        math.cos(math.pi * (taps - 1) / (2 * n)) for taps, n in zip(kernel, points, strict=True)
    )


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A target network: its layers in order, and how large its inputs are.

    Operations without weights between the layers (pooling without overlap, reshaping) are taken as non-expansive.

    Attributes
    ----------
    layers : tuple of Layer
    input_2norm, input_max, input_1norm : float
        sup over the domain of ‖x‖_2, ‖x‖_∞ and ‖x‖_1.
    input_nonnegative : bool
        Whether every input is at least 0.
    activation_max : float, optional
        F_max, largest |activation| from the input to the last layer's input; propagated from the norms if not given.
    activation_1norms : tuple of float, optional
        sup ‖x^(l)‖_1 for l from 0 to the last layer's input; propagated if not given.
    """

    layers: tuple[Layer, ...]
    input_2norm: float = 1.0
    input_max: float = 1.0
    input_1norm: float = 1.0
    input_nonnegative: bool = False
    activation_max: float | None = None
    activation_1norms: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.layers:
            raise ArgumentError("Shape.layers", "no layer", "one or more")
        given = self.activation_1norms or ()
        values = (self.input_2norm, self.input_max, self.input_1norm, self.activation_max or 0.0, *given)
        if not all(math.isfinite(value) and value >= 0 for value in values):
            raise ArgumentError("Shape", f"norms {values}", "finite numbers, at least 0")
        if self.activation_1norms is not None and len(given) != self.depth:
            raise ArgumentError(
                "Shape.activation_1norms", f"{len(given)} numbers", f"{self.depth}, one a layer's input"
            )

    @classmethod
    def uniform(cls, width: int, depth: int, *, spectral: float = 1.0, largest: float = 1.0) -> Shape:
        """ReLU layers of one width under one bound, with activations of at most 1: the papers' example."""
        layer = Layer.bounded(width, width, spectral=spectral, largest=largest)
        return cls(layers=(layer,) * depth, activation_max=1.0)

    @classmethod
    def of_widths(cls, widths: Sequence[int], *, spectral: float = 1.0, largest: float = 1.0) -> Shape:
        """A ReLU network with a linear last layer and every norm at its bound."""
        if len(widths) < 2:
            raise ArgumentError("widths", str(list(widths)), "two or more")
        last = len(widths) - 2
        return cls(
            layers=tuple(
                Layer.bounded(*pair, spectral=spectral, largest=largest, activation=LINEAR if i == last else RELU)
                for i, pair in enumerate(itertools.pairwise(widths))
            )
        )

    @property
    def depth(self) -> int:
        """l or L."""
        return len(self.layers)

    @property
    def widths(self) -> tuple[int, ...]:
        """n_0 ... n_l."""
        return (self.layers[0].inputs, *(layer.outputs for layer in self.layers))

    @property
    def weights(self) -> int:
        """N*: all weights, zero or not, without biases."""
        return sum(layer.weights for layer in self.layers)

    @property
    def widest(self) -> int:
        """n_max over layers 0 to l; a convolution counts its fan-in."""
        return max(max(self.widths), *(layer.fan_in for layer in self.layers))

    def activation_bounds(self, norm: Norm) -> tuple[float, ...]:
        """X_0 ... X_{l-1}: sup of the norm of every layer's input.

        X_l <= T (‖W‖ X_{l-1} + ‖b‖) + ‖φ(0)‖, and no more than saturated activations can give; in the 1-norm the
        numbers given as ``activation_1norms`` come first.
        """
        if norm == "1" and self.activation_1norms is not None:
            return self.activation_1norms
        power = {"1": 1.0, "2": 0.5, "inf": 0.0}[norm]
        bounds = [{"1": self.input_1norm, "2": self.input_2norm, "inf": self.input_max}[norm]]
        for layer in self.layers[:-1]:
            matrix = {"1": layer.column_sum, "2": layer.spectral, "inf": layer.row_sum}[norm]
            bias = (layer.biases * layer.positions) ** power * layer.largest_bias if layer.biases else 0.0
            neurons = (layer.outputs * layer.positions) ** power
            φ = layer.activation
            open_ended = φ.lipschitz * (matrix * bounds[-1] + bias) + neurons * abs(φ.d)
            bounds.append(min(open_ended, φ.saturation * neurons))
        return tuple(bounds)

    @property
    def largest_activation(self) -> float:
        """F_max: given, or the least that the three norms prove."""
        if self.activation_max is not None:
            return self.activation_max
        per_layer = zip(*(self.activation_bounds(norm) for norm in ("1", "2", "inf")), strict=True)
        return float(max(min(bounds) for bounds in per_layer))

    def divided(self, factors: Iterable[float], input_factor: float = 1.0) -> Shape:
        """The network with W_i divided by its factor and inputs by theirs, biases to match.

        For positively homogeneous activations its output is the network's, divided by all factors together; so an
        error eps of the network is an error eps / product of the divided one. Activations are divided by the factors
        up to them.
        """
        layers, passed, scales = [], input_factor, [input_factor]
        for layer, factor in zip(self.layers, factors, strict=True):
            passed *= factor
            scales.append(passed)
            names = ("spectral", "largest", "row_sum", "column_sum", "entry_sum")
            scaled = {name: getattr(layer, name) / factor for name in names}
            layers.append(replace(layer, **scaled, largest_bias=layer.largest_bias / passed))
        given = self.activation_1norms
        return replace(
            self,
            layers=tuple(layers),
            input_2norm=self.input_2norm / input_factor,
            input_max=self.input_max / input_factor,
            input_1norm=self.input_1norm / input_factor,
            activation_max=None if self.activation_max is None else self.activation_max / min(scales[:-1]),
            activation_1norms=None
            if given is None
            else tuple(value / scale for value, scale in zip(given, scales, strict=False)),
        )
