"""The target network: weights in order and the graph around them, checked and with a digest of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from slth.errors import TargetError
from slth.network.accounts import Account
from slth.network.graph import Graph, Node, Sign
from slth.network.intervals import value_signs
from slth.network.operators import OPERATORS, WeightOperator
from slth.network.selection import EVERYTHING, Selection

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class WeightLayer:
    """One affine layer of the target.

    Attributes
    ----------
    node : Node
        Its place in the graph.
    weight : tensor, (outputs, inputs per group, *kernel)
        As stored by the target.
    bias : tensor, (outputs,), or None
        As stored by the target.
    summed : tensor of the weight's shape, or None
        Where weights were added up from the target's, the sums of absolute values: what rounding goes by.
    """

    node: Node
    weight: torch.Tensor
    bias: torch.Tensor | None
    summed: torch.Tensor | None = None

    @property
    def name(self) -> str:
        """The layer's path in the target's own module tree."""
        return self.node.name

    @property
    def n_weights(self) -> int:
        """Weights and biases together."""
        return self.weight.numel() + (0 if self.bias is None else self.bias.numel())

    def weight_array(self) -> NDArray[np.float64]:
        """The weight in float64, (outputs, inputs per group, taps); taps is 1 for a Linear layer."""
        weight = self.weight.detach().to(torch.float64).numpy()
        return np.ascontiguousarray(weight.reshape(weight.shape[0], weight.shape[1], -1))

    def bias_array(self) -> NDArray[np.float64] | None:
        """The bias in float64, (outputs,), or None."""
        return None if self.bias is None else self.bias.detach().to(torch.float64).numpy()


@dataclass(frozen=True, eq=False)
class Target:
    """A trained network: ``layers`` in order of evaluation and the ``graph`` around them.

    ``kept`` are the tensors of nodes that are kept as they are, by their names; ``accounts`` say what became of every
    parameter of the module that it was read from, and ``selection`` which of them were to be ticketed. Two targets are
    the same network if their :meth:`digest` is the same; ``==`` only asks whether they are one object.
    """

    graph: Graph
    layers: tuple[WeightLayer, ...]
    kept: Mapping[str, torch.Tensor] = field(default_factory=dict)
    accounts: tuple[Account, ...] = ()
    selection: Selection = EVERYTHING

    @classmethod
    def build(
        cls,
        graph: Graph,
        weights: Mapping[str, tuple[torch.Tensor, torch.Tensor | None]],
        kept: Mapping[str, torch.Tensor] | None = None,
        accounts: Sequence[Account] = (),
        selection: Selection = EVERYTHING,
    ) -> Target:
        """Join a graph with its weights, and with the tensors that are kept as they are.

        Raises
        ------
        TargetError
            If there is no weight layer, or a weight is not a finite real number.
        """
        layers = tuple(
            WeightLayer(node, *(None if part is None else _plain(part) for part in weights[node.name]))  # type: ignore[arg-type]
            for node in graph.weighted
        )
        if not layers:
            raise TargetError("target", "a network without a weight layer", "a parameter on which the output depends")
        for layer in layers:
            for part, tensor in (("weight", layer.weight), ("bias", layer.bias)):
                if tensor is not None:
                    check_numbers(f"layer {layer.name!r}, {part}", tensor)
        tensors = {name: _plain(tensor) for name, tensor in (kept or {}).items()}
        return cls(graph, layers, tensors, tuple(accounts), selection)

    def __iter__(self) -> Iterator[WeightLayer]:
        return iter(self.layers)

    @property
    def n_weights(self) -> int:
        """Weights and biases of all layers."""
        return sum(layer.n_weights for layer in self.layers)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first weight; half precisions count as float32, in which tickets are evaluated."""
        dtype = self.layers[0].weight.dtype
        return torch.float64 if dtype == torch.float64 else torch.float32

    def input_signs(self, domain_sign: Sign) -> dict[str, Sign]:
        """Sign of each weight layer's input, given the sign of the network's input."""
        found: dict[str, Sign] = {}
        signs = value_signs(self.graph, self.kept, domain_sign)
        for node in self.graph:
            operator = OPERATORS[node.op]
            if isinstance(operator, WeightOperator):
                own = operator.core_sign(node.attributes, [signs[source] for source in node.sources])
                found[node.weights] = found.get(node.weights, own) | own
        return found

    def digest(self) -> str:
        """SHA-256 of architecture and weights (as float64), whatever the layers are called."""
        sha = hashlib.sha256(json.dumps(self.graph.structure(), sort_keys=True).encode())
        for layer in self.layers:
            sha.update(layer.weight_array().tobytes())
            bias = layer.bias_array()
            sha.update(b"" if bias is None else bias.tobytes())
        for node in self.graph:
            if node.name in self.kept:
                sha.update(self.kept[node.name].to(torch.float64).contiguous().numpy().tobytes())
        return sha.hexdigest()


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu") if tensor.device.type != "meta" else tensor


def check_numbers(where: str, tensor: torch.Tensor) -> None:
    """Refuse what no ticket can realise.

    Raises
    ------
    TargetError
        If a tensor is empty, or holds anything but finite real numbers.
    """
    if tensor.device.type == "meta":
        raise TargetError(where, "a tensor on the meta device", "numbers", "loading the weights first")
    if tensor.dtype not in FLOATS:
        raise TargetError(where, f"{tensor.dtype} numbers", "float16, bfloat16, float32 or float64")
    if tensor.numel() == 0:
        raise TargetError(where, f"an empty tensor of shape {tuple(tensor.shape)}", "at least one weight")
    bad = torch.nonzero(~torch.isfinite(tensor))
    if len(bad):
        index = tuple(int(i) for i in bad[0])
        raise TargetError(
            where,
            f"{tensor[index].item()} at index {index} ({len(bad)} such values)",
            "finite weights",
            "training again with a smaller learning rate, or another checkpoint",
        )
