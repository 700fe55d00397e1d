"""What a construction has to say: its source's shape, and the mask under which the source is the target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.constructions.layout import Layout
from slth.constructions.transfer import transferred
from slth.mask import Mask
from slth.network.graph import Sign
from slth.network.operators import WEIGHT_OPERATORS
from slth.network.target import Target, WeightLayer
from slth.plan import NO_SETTINGS, Goal, LayerPlan, Plan, Size, Wishes
from slth.source.spec import SourceLayer


@dataclass(frozen=True)
class Found:
    """What a construction found for one layer.

    Attributes
    ----------
    mask : Mask
    errors : float64 array, (weights and biases,)
        |weight - realised weight|, the worse of the two signs of the input where both occur, in any order.
    """

    mask: Mask
    errors: NDArray[np.float64]


@dataclass(frozen=True)
class Work:
    """How to search, as opposed to what for.

    Attributes
    ----------
    threads : int or None
        None: all cores.
    report : callable
        Told the number of the layer's problems that are solved and the number of all.
    """

    threads: int | None
    report: Callable[[int, int], None]


class Construction(Layout, ABC):
    """A published way to find a target layer inside random source layers; its name is one on the command line too.

    Attributes
    ----------
    default_size : int
        Of the base sets.
    keeps_tolerance : bool
        Whether every weight is within the tolerance that its source is made for, but for a probability of delta.
    """

    default_size: int
    keeps_tolerance: bool = False

    def hidden(self, target: Target, settings: Mapping[str, Any]) -> Target:
        """The network that the source hides: the target, or one that computes the same."""
        return target

    @abstractmethod
    def check(self, target: Target, wishes: Wishes, size: int) -> None:
        """Refuse wishes that no draw can fulfil.

        Raises
        ------
        ArgumentError
            With what could be wished instead.
        """

    @abstractmethod
    def size(self, layer: WeightLayer, sign: Sign, wishes: Wishes, goal: Goal) -> Size:
        """Block width, scale and law of a layer's source; nothing random is seen."""

    def level(self, target: Target, goals: Sequence[Goal]) -> list[Goal]:
        """The goals as a plan takes them, where layers must have base sets of one size."""
        return list(goals)

    def foresee(self, layer: WeightLayer, wishes: Wishes, size: int) -> tuple[float, float] | None:
        """Mean error of a weight with base sets of a size, and the error that hardly any is expected to exceed.

        None if that is not known.
        """
        return None

    def element_cost(self, layer: WeightLayer, sign: Sign, settings: Mapping[str, Any] = NO_SETTINGS) -> int:
        """Source weights of a layer for each usable element of its base sets: those of two neurons a block."""
        wide, narrow = (self._shaped(layer, sign, settings, block_width=width) for width in (4, 2))
        return wide.n_weights - narrow.n_weights

    def cost(self, layer: WeightLayer, sign: Sign, wishes: Wishes, size: int) -> int:
        """Source weights of a layer with base sets of a size."""
        return size * self.element_cost(layer, sign, wishes.settings)

    def order(self, layer: WeightLayer, sign: Sign, settings: Mapping[str, Any]) -> str:
        """The order for a layer of whose input so much is known."""
        return self.source_type.order

    def source_layer(self, plan: Plan, layer_plan: LayerPlan, layer: WeightLayer, seed: int, index: int) -> SourceLayer:
        """Shape and law of the source layers for one target layer; knows the target's shape and nothing more."""
        return self._shaped(
            layer,
            layer_plan.input_sign,
            plan.settings,
            seed=seed,
            index=index,
            block_width=layer_plan.block_width,
            scale=layer_plan.scale,
            initialisation=plan.initialisation,
            law=layer_plan.law,
            activation=layer_plan.activation,
            expand_scale=layer_plan.expand_scale,
            **layer_plan.own,
        )

    def _shaped(self, layer: WeightLayer, sign: Sign, settings: Mapping[str, Any], **own: Any) -> SourceLayer:
        """Source layers for a target layer's shape."""
        outputs, inputs_per_group, *kernel = layer.weight.shape
        shape: dict[str, Any] = {"seed": 0, "index": 0, "scale": 1.0, "initialisation": "uniform"}
        shape |= {"inputs_per_group": inputs_per_group, "outputs": outputs, "kernel": tuple(kernel)}
        shape |= {"groups": WEIGHT_OPERATORS[layer.node.op].groups(layer.node.attributes)}
        whole = {**shape, "bias": layer.bias is not None, **own}
        return self._kind(layer, sign, settings, own)(**whole)

    def _kind(
        self, layer: WeightLayer, sign: Sign, settings: Mapping[str, Any], own: Mapping[str, Any]
    ) -> type[SourceLayer]:
        """Type of a layer's source, of which ``own`` are the fields besides its shape."""
        return self.layout(self.order(layer, sign, settings))

    def sizes(self, target: Target, signs: Mapping[str, Sign], wishes: Wishes, goals: Sequence[Goal]) -> list[Size]:
        """Block width, scale and law of every layer's source."""
        return [self.size(layer, signs[layer.name], wishes, goal) for layer, goal in zip(target, goals, strict=True)]

    def transfer(self, target: Target, signs: Mapping[str, Sign], wishes: Wishes, sizes: Sequence[Size]) -> list[Size]:
        """The sizes with powers of 2 as factors, for a law that goes by a layer's shape."""
        sources = self.connect(
            target.graph,
            tuple(
                self._shaped(
                    layer,
                    signs[layer.name],
                    wishes.settings,
                    index=index,
                    block_width=size.block_width,
                    initialisation=wishes.initialisation,
                    law=size.law,
                    **size.own,
                )
                for index, (layer, size) in enumerate(zip(target, sizes, strict=True))
            ),
        )
        return [
            transferred(size, source.drawn_scales, wishes.activation)
            for size, source in zip(sizes, sources, strict=True)
        ]

    def find_layers(
        self,
        target: Target,
        sources: Sequence[SourceLayer],
        plan: Plan,
        work: Callable[[WeightLayer], Work],
        known: Sequence[Mask | None],
    ) -> Iterator[Found | None]:
        """The masks, from the first layer to the last; None for a layer whose known mask stands.

        ``known`` holds the masks that were found in the same source layers, with the same plan for each of them, beside
        other layers perhaps.
        """
        for layer_plan, layer, source, mask in zip(plan.layers, target, sources, known, strict=True):
            yield None if mask is not None else self.find(source, layer, plan, layer_plan, work(layer))

    @abstractmethod
    def find(self, source: SourceLayer, layer: WeightLayer, plan: Plan, layer_plan: LayerPlan, work: Work) -> Found:
        """The mask for one layer."""
