"""What the source network is: layer shapes, scales, seed and generator. Its weights are a function of this."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from slth.activations import Activation
from slth.activations.registry import relu
from slth.source.distributions import UNIFORM, Uniform, draw, draw_at
from slth.source.law import Distribution
from slth.source.philox import GENERATOR, stream_key

ENOUGH_ELEMENTS = 34
"""Base sets use at most so many elements, or as many as were asked for if those are more (chosen).

At 34 the error of one weight is about 2^-34 of the scale, far below a float32's rounding. A block that happens to be
richer would not lower the layer's largest error, which the poorest block makes, and its time would double with every
two elements more.
"""

LARGEST_WIDTH = 1 << 40
"""Neurons of a block, or of a source that counts them by itself, that a ticket's file can hold."""

_EXPAND_WEIGHT, _EXPAND_BIAS, _COMBINE_WEIGHT = range(3)
RELU, PLAIN = relu(), Uniform()


@dataclass(frozen=True)
class SourceLayer(ABC):
    """The two source layers that stand for one target layer: the expanding one and the combining one.

    Within each group the intermediate neurons are laid out block after block, ``block_width`` neurons each; what a
    block is for is the subclass's. The network itself knows no blocks: every intermediate neuron has a weight from
    every input channel of its group and to every output. With the looks-linear initialisation neuron 2p + 1 mirrors
    neuron 2p: its incoming and outgoing weights and its bias have the opposite sign.

    Attributes
    ----------
    seed : int
        Of the whole network, 64 bits.
    index : int
        Number of the target layer, from 0; part of the key.
    inputs_per_group, outputs, groups : int
        Channels of the target layer.
    kernel : tuple of int
        Kernel sizes; empty for a Linear layer.
    bias : bool
        Whether the intermediate layer has biases, and a block for them.
    block_width : int
        Intermediate neurons a block.
    scale : float
        What the combining weights are multiplied by, a float32; a power of 2 where the law has a scale of its own
        (``law.by_shape``), so that it rounds nothing.
    initialisation : str
        ``"uniform"``: independent weights (Burkholz 2022, Assumption 2.1), or ``"looks-linear"`` (Assumption 2.2).
    law : Distribution
        Of all weights and biases, the combining ones before they are multiplied by the scale.
    activation : Activation
        Between the two layers.
    expand_scale : float
        What the weights and biases of the expanding layer are multiplied by, a power of 2: below 1 where the activation
        is a line only near 0 (Burkholz 2022, Theorem 2.5: sigma).
    """

    seed: int
    index: int
    inputs_per_group: int
    outputs: int
    groups: int
    kernel: tuple[int, ...]
    bias: bool
    block_width: int
    scale: float
    initialisation: str
    law: Distribution = PLAIN
    activation: Activation = RELU
    expand_scale: float = 1.0

    order: ClassVar[str] = ""
    """Where a construction has several layouts, which this is: which of the two layers has the target's kernel, or in
    which order weights are drawn. Empty: the combining layer has it, and its weights are drawn output by output."""
    depth: ClassVar[int] = 2
    """Layers of the source that this stands for."""
    kernel_first: ClassVar[bool] = False
    """Whether the expanding layer is the one with the target's kernel, and the combining one maps single positions."""

    @property
    def taps(self) -> int:
        """Entries of one kernel; 1 for a Linear layer."""
        return math.prod(self.kernel)

    @property
    def expand_taps(self) -> int:
        """Entries of one kernel of the expanding layer: 1, unless it is the one with the target's kernel."""
        return self.taps if self.kernel_first else 1

    @property
    def combine_taps(self) -> int:
        """Entries of one kernel of the combining layer."""
        return 1 if self.kernel_first else self.taps

    @property
    def reads_per_group(self) -> int:
        """Channels of a group that the expanding layer reads: the target's, unless they are split in two before it."""
        return self.inputs_per_group

    @property
    def incoming_per_neuron(self) -> int:
        """Weights that an intermediate neuron has in the expanding layer, its bias apart."""
        return self.reads_per_group * self.expand_taps

    @property
    @abstractmethod
    def blocks_per_group(self) -> int:
        """Blocks of intermediate neurons that one group has."""

    @property
    def outputs_per_group(self) -> int:
        """Output channels of a group."""
        return self.outputs // self.groups

    @property
    def neurons_per_group(self) -> int:
        """Intermediate neurons that one group's outputs read."""
        return self.blocks_per_group * self.block_width

    @property
    def combine_rows(self) -> int:
        """Rows of the combining layer."""
        return self.outputs

    @property
    def drawn_scales(self) -> tuple[float, float]:
        """What the law's numbers are multiplied by as weights of the expanding (and its biases) and combining layer.

        Float32 values; 1 unless the law goes by a layer's shape.
        """
        expand = self.law.layer_scale(self.incoming_per_neuron, self.n_neurons * self.expand_taps)
        fan_in, fan_out = self.neurons_per_group * self.combine_taps, self.combine_rows * self.combine_taps
        return expand, self.law.layer_scale(fan_in, fan_out)

    @property
    def whole_scales(self) -> tuple[float, float]:
        """The same times the layer's factors: what the law's numbers are multiplied by in all."""
        expand, combine = self.drawn_scales
        return expand * self.expand_scale, combine * self.scale

    @property
    def n_neurons(self) -> int:
        """Width of the intermediate layer."""
        return self.groups * self.neurons_per_group

    @property
    def n_weights(self) -> int:
        """All weights and biases of the two source layers."""
        expand = self.n_neurons * (self.incoming_per_neuron + int(self.bias))
        return expand + self.outputs * self.neurons_per_group * self.combine_taps

    @property
    def mirrored(self) -> bool:
        """Whether neurons come in mirrored pairs."""
        return self.initialisation == "looks-linear"

    def _element(self, neuron: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32] | np.float32]:
        """Row of the drawn tensor that a neuron takes, and the sign with which it takes it."""
        if not self.mirrored:
            return neuron, np.float32(1)
        return neuron // 2, (1 - 2 * (neuron % 2)).astype(np.float32)

    def expand_at(self, neuron: NDArray[np.int64], channel: NDArray[np.int64]) -> NDArray[np.float32]:
        """Weights of single neurons from single channels of their group; channel -1 asks for the neuron's bias.

        Where the expanding layer has the kernel, entries of it (channel by channel, tap by tap) stand for channels.
        """
        row, sign = self._element(neuron)
        weight, bias = channel >= 0, channel < 0
        sign = sign * np.float32(self.expand_scale)
        if weight.all():
            return self._drawn_at(_EXPAND_WEIGHT, row * self.incoming_per_neuron + channel) * sign
        result = np.empty(neuron.shape, dtype=np.float32)
        result[weight] = self._drawn_at(_EXPAND_WEIGHT, row[weight] * self.incoming_per_neuron + channel[weight])
        result[bias] = self._drawn_at(_EXPAND_BIAS, row[bias])
        return result * sign

    def combine_at(
        self, output: NDArray[np.int64], neuron: NDArray[np.int64], tap: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Weights of single outputs from single neurons, counted from the first of the output's group, at a tap."""
        row, sign = self._element(neuron)
        drawn = self._drawn_at(_COMBINE_WEIGHT, (output * self._drawn_per_group + row) * self.combine_taps + tap)
        drawn *= np.float32(self.scale)
        return drawn * sign

    def _drawn_at(self, tensor: int, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scattered elements of a drawn tensor, in the index's shape."""
        drawn = draw_at(self.law, self._key(tensor), index.ravel().astype(np.uint64)).reshape(index.shape)
        return self._scaled(drawn, tensor)

    def _drawn(self, tensor: int, start: int, count: int) -> NDArray[np.float32]:
        """Elements ``start`` to ``start + count`` of a drawn tensor."""
        return self._scaled(draw(self.law, self._key(tensor), start, count), tensor)

    def _scaled(self, drawn: NDArray[np.float32], tensor: int) -> NDArray[np.float32]:
        """The law's numbers as weights of a tensor, in place: the source before any factor."""
        if self.law.by_shape:
            drawn *= np.float32(self.drawn_scales[tensor == _COMBINE_WEIGHT])
        return drawn

    def expand_weight(self) -> NDArray[np.float32]:
        """The whole first weight matrix, (n_neurons, incoming_per_neuron); tickets prune most of it."""
        return self.expand_rows(0, self.n_neurons)

    def expand_bias(self) -> NDArray[np.float32]:
        """The intermediate layer's biases, (n_neurons,)."""
        return self.expand_biases(0, self.n_neurons)

    def expand_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """First weights of the neurons ``start`` to ``stop``, (neurons, incoming_per_neuron)."""
        return self._rows(_EXPAND_WEIGHT, start, stop, self.incoming_per_neuron)

    def expand_biases(self, start: int, stop: int) -> NDArray[np.float32]:
        """Biases of the neurons ``start`` to ``stop``, (neurons,)."""
        return self._rows(_EXPAND_BIAS, start, stop, 1)[:, 0]

    def _rows(self, tensor: int, start: int, stop: int, width: int) -> NDArray[np.float32]:
        row, sign = self._element(np.arange(start, stop, dtype=np.int64))
        first, last = int(row[0]), int(row[-1]) + 1
        drawn = self._drawn(tensor, first * width, (last - first) * width).reshape(-1, width)
        drawn *= np.float32(self.expand_scale)
        return drawn[row - first] * np.reshape(sign, (-1, 1)) if self.mirrored else drawn

    def combine_weight(self, start: int, stop: int) -> NDArray[np.float32]:
        """Second weight tensor of the outputs ``start`` to ``stop``, (outputs, neurons_per_group, taps)."""
        width = self._drawn_per_group * self.combine_taps
        drawn = self._drawn(_COMBINE_WEIGHT, start * width, (stop - start) * width)
        drawn *= np.float32(self.scale)
        drawn = drawn.reshape(stop - start, self._drawn_per_group, self.combine_taps)
        if not self.mirrored:
            return drawn
        return np.stack([drawn, -drawn], axis=2).reshape(stop - start, self.neurons_per_group, self.combine_taps)

    @property
    def _drawn_per_group(self) -> int:
        """Neurons of a group that are drawn; of a mirrored pair one is."""
        return self.neurons_per_group // 2 if self.mirrored else self.neurons_per_group

    def _key(self, tensor: int) -> tuple[int, int]:
        return stream_key(self.seed, self.index, tensor)

    def own_json(self) -> dict[str, Any]:
        """What a layout has to tell besides, as plain JSON values."""
        return {}

    @classmethod
    def own_fields(cls, stored: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that :meth:`own_json` told.

        Raises
        ------
        ArgumentError
            If they are missing or out of their range.
        """
        return {}


@dataclass(frozen=True)
class BlockSource(SourceLayer):
    """A block for every input channel, then, if the target has a bias, the bias block.

    Neurons of an input block may keep their weight from that channel alone, those of the bias block their bias alone.
    """

    @property
    def input_blocks(self) -> int:
        """Blocks of a group that read inputs: one for each weight that its neurons may keep."""
        return self.incoming_per_neuron

    @property
    def blocks_per_group(self) -> int:
        """Those, and one more for the bias."""
        return self.input_blocks + int(self.bias)

    @property
    def largest_base_set(self) -> int:
        """Usable elements of a block that a base set takes at most, in the neurons' order."""
        return max(self.block_width // 2, ENOUGH_ELEMENTS)

    @property
    def channels(self) -> NDArray[np.int64]:
        """The channel of its group that each neuron may keep, or -1 for its bias, (n_neurons,)."""
        block = (np.arange(self.n_neurons, dtype=np.int64) % self.neurons_per_group) // self.block_width
        return np.where(block < self.input_blocks, block, -1)

    @property
    def usable(self) -> NDArray[np.bool_] | None:
        """Which neurons may be in a base set, (n_neurons,); None for those whose weight has a sign that is needed."""
        return None

    def univariate_weights(self) -> NDArray[np.float32]:
        """The one weight (or bias) that each intermediate neuron may keep, (n_neurons,).

        Neuron t of input block j keeps its weight from channel j; a neuron of the bias block keeps its bias.
        """
        return self.expand_at(np.arange(self.n_neurons, dtype=np.int64), self.channels)


@dataclass(frozen=True)
class PoolSource(SourceLayer):
    """A block, called pool, for every weight of the target: neurons that may serve that weight alone.

    In each group the pools follow the order of the target's tensors: those of the weights, output by output, channel by
    channel, tap by tap, then one for the bias of each output.
    """

    @property
    def blocks_per_group(self) -> int:
        """Weights and biases of a group."""
        return self.outputs_per_group * (self.inputs_per_group * self.taps + int(self.bias))


@dataclass(frozen=True)
class WholeSource(SourceLayer):
    """One block: any neuron may serve any weight of its group."""

    @property
    def blocks_per_group(self) -> int:
        """1."""
        return 1


@dataclass(frozen=True)
class SourceSpec:
    """The source network: one :class:`SourceLayer` a target layer."""

    seed: int
    initialisation: str
    layers: tuple[SourceLayer, ...]
    generator: str = GENERATOR

    @property
    def distribution(self) -> str:
        """Name of the laws, whose parameters may differ from layer to layer."""
        return self.layers[0].law.name if self.layers else UNIFORM

    @property
    def activation(self) -> str:
        """Text form of the activation between the two source layers of every target layer."""
        return self.layers[0].activation.text if self.layers else RELU.text

    @property
    def n_weights(self) -> int:
        """All weights and biases of the source network."""
        return sum(layer.n_weights for layer in self.layers)

    @property
    def depth(self) -> int:
        """Layers of the source network."""
        return sum(layer.depth for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the layers' shapes follow from the graph."""
        return {
            "seed": self.seed,
            "generator": self.generator,
            "distribution": self.distribution,
            "initialisation": self.initialisation,
            "activation": self.activation,
            "layers": [_layer_json(layer) for layer in self.layers],
        }


def _layer_json(layer: SourceLayer) -> dict[str, Any]:
    shape: dict[str, Any] = {"block_width": layer.block_width, "scale": layer.scale}
    if layer.law.parameters:
        shape["law"] = layer.law.parameters
    if layer.expand_scale != 1.0:
        shape["expand_scale"] = layer.expand_scale
    if layer.order:
        shape["order"] = layer.order
    return shape | layer.own_json()
