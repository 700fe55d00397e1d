"""Stage 7: the ticket: source specification, mask and layer map."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slth.mask.base import Mask
from slth.network.accounts import Account, of_layers, ticketed_share
from slth.network.deepen import deepen, deepened
from slth.network.graph import Graph, Sign
from slth.network.pooling_layers import FIXED, pool, pooled
from slth.network.selection import EVERYTHING, Selection
from slth.network.target import Target
from slth.source.spec import SourceLayer, SourceSpec

if TYPE_CHECKING:
    import torch

    from slth.activations.own import Description
    from slth.export import Exported


@dataclass(frozen=True)
class LayerFacts:
    """What the search found for one layer; everything here can be recomputed from ticket and target.

    Attributes
    ----------
    name : str
        The target layer's.
    input_sign : Sign
        Sign of the layer's input for which the subset sums were solved.
    n_weights, missed : int
        Weights and biases of the target layer, and how many of them are farther off than the tolerance.
    max_weight_error, mean_weight_error : float
        Of |weight - realised weight|, the worse of the two signs of the input where both occur.
    error_histogram : tuple of int
        Weights by the decade quarter of their error, from 1e-12 (and less) to 1e1; see :data:`ERROR_EDGES`.
    survivors_digest : str
        SHA-256 of the surviving source weights as float32: the univariate ones in order, then the combining ones.
    """

    name: str
    input_sign: Sign
    n_weights: int
    missed: int
    max_weight_error: float
    mean_weight_error: float
    error_histogram: tuple[int, ...]
    survivors_digest: str


ERROR_EDGES = tuple(10.0 ** (k / 4) for k in range(-48, 5))
"""Inner edges of :attr:`LayerFacts.error_histogram`, two open bins at the ends."""


@dataclass(frozen=True)
class LayerRound:
    """What one round asked of a layer.

    Attributes
    ----------
    name : str
        The target layer's.
    base_set_size : int
        Expected number of usable elements of a base set.
    tolerance : float or None
        Error up to which a weight took the fewest elements, or for which the source was made wide enough.
    share : float
        Part of the certified error that comes from the layer, about.
    changed : bool
        Whether anything of it is other than in the round before.
    """

    name: str
    base_set_size: int
    tolerance: float | None
    share: float
    changed: bool


@dataclass(frozen=True)
class Round:
    """One plan that was tried for an error asked of the output.

    Attributes
    ----------
    kind : str
        ``"planned"``, ``"wider"`` or ``"sparser"``.
    certified_error : float
        Proved upper bound on the output error over the domain.
    holds : bool
        Whether that is within what was asked for.
    kept_weights, source_weights : int
        Of the source, and how many of them survive.
    chosen : bool
        Whether the ticket is this round's.
    layers : tuple of LayerRound
    """

    kind: str
    certified_error: float
    holds: bool
    kept_weights: int
    source_weights: int
    chosen: bool
    layers: tuple[LayerRound, ...]


@dataclass(frozen=True, eq=False)
class Ticket:
    """A strong lottery ticket: a random network by its specification, and the mask under which it is the target.

    Two tickets are equal if all that a file holds of them is.

    Attributes
    ----------
    graph : Graph
        The target's architecture.
    spec : SourceSpec
        The source network.
    masks : tuple of Mask
        One for each weight layer, in the order of :attr:`hidden_graph`.
    facts : tuple of LayerFacts
        What the search found, layer by layer.
    construction, objective : str
        By which it was made.
    base_set_size : int
        Expected number of usable elements of a base set.
    tolerance : float or None
        Largest allowed weight error that was asked for.
    target_digest : str
        SHA-256 of the target that it was made for.
    target_dtype : str
        ``"float32"`` or ``"float64"``: the precision of its folded weights.
    generator_version : str
        Version of the program that made it.
    probe_outputs : float32 array, (probes, outputs)
        The target's first outputs on seeded inputs, for a picture without the target.
    domain : tuple of float or None
        Smallest lower and largest upper bound of the domain that the search was told; None for all reals.
    extra_depth : int
        Identity layers that the source has besides, see :mod:`slth.network.deepen`.
    pooling : {"fixed", "convolution"}
        Whether average pooling is the same in the source or weights in it, see :mod:`slth.network.pooling_layers`.
    kept : mapping of str to tensor
        Tensors of the target that are kept as they are, by their nodes.
    accounts : tuple of Account
        What became of every parameter of the module that the target was read from; empty where it was read from none.
    selection : Selection
        Which parameters were to be ticketed; others are kept.
    own_activations : tuple of Description
        What the file from which it was read says of users' own activations; empty where it was not read from one.
    seconds : float or None
        How long the search took; not part of the file.
    rounds : tuple of Round
        What was tried for an error asked of the output; not part of the file.
    """

    graph: Graph
    spec: SourceSpec
    masks: tuple[Mask, ...]
    facts: tuple[LayerFacts, ...]
    construction: str
    objective: str
    base_set_size: int
    tolerance: float | None
    target_digest: str
    target_dtype: str
    generator_version: str
    probe_outputs: NDArray[np.float32]
    domain: tuple[float, float] | None = None
    extra_depth: int = 0
    pooling: str = FIXED
    kept: Mapping[str, torch.Tensor] = field(default_factory=dict)
    accounts: tuple[Account, ...] = ()
    selection: Selection = EVERYTHING
    own_activations: tuple[Description, ...] = field(default=(), compare=False)
    seconds: float | None = field(default=None, compare=False)
    rounds: tuple[Round, ...] = field(default=(), compare=False)

    @property
    def hidden_graph(self) -> Graph:
        """The architecture that the source hides, from which the module is built: the target's, with changes if any."""
        return deepened(pooled(self.graph, self.pooling), self.extra_depth)

    def hidden(self, target: Target) -> Target:
        """The network that the source hides: the target, or one that computes the same."""
        return deepen(pool(target, self.pooling), self.extra_depth)

    @property
    def layers(self) -> list[tuple[SourceLayer, Mask, LayerFacts]]:
        """Source layer, mask and facts together, in the order of :attr:`hidden_graph`."""
        return list(zip(self.spec.layers, self.masks, self.facts, strict=True))

    @property
    def parameters(self) -> tuple[Account, ...]:
        """What became of every parameter, or, where a file does not say it, of every tensor."""
        return self.accounts or of_layers(self.graph, self.kept)

    @property
    def ticketed_share(self) -> float:
        """The fraction of the parameters that are ticketed, or folded into those that are; of those that are used."""
        return ticketed_share(self.parameters)

    @property
    def n_weights(self) -> int:
        """Weights and biases of the network that the source hides."""
        return sum(facts.n_weights for facts in self.facts)

    @property
    def n_target_weights(self) -> int:
        """Weights and biases of the target alone."""
        layers = [node.attributes for node in self.graph.weighted]
        return sum(math.prod(own["weight_shape"]) + own["weight_shape"][0] * own["bias"] for own in layers)

    @property
    def n_kept(self) -> int:
        """Surviving weights and biases of the source."""
        return sum(mask.n_kept for mask in self.masks)

    @property
    def missed(self) -> int:
        """Weights that are farther off than the tolerance."""
        return sum(facts.missed for facts in self.facts)

    @property
    def max_weight_error(self) -> float:
        """Largest |weight - realised weight| of all layers."""
        return max(facts.max_weight_error for facts in self.facts)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The arrays that a file holds, by name."""
        tensors: dict[str, NDArray[Any]] = {"probe_outputs": np.ascontiguousarray(self.probe_outputs)}
        for index, mask in enumerate(self.masks):
            tensors |= {f"layers.{index}.{name}": tensor for name, tensor in mask.tensors().items()}
        names = [node.name for node in self.graph if node.name in self.kept]
        return tensors | {
            f"kept.{index}": np.ascontiguousarray(self.kept[name].detach().numpy()).reshape(self.kept[name].shape)
            for index, name in enumerate(names)
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ticket):
            return NotImplemented
        plain = [
            entry.name
            for entry in fields(self)
            if entry.compare and entry.name not in ("masks", "probe_outputs", "kept")
        ]
        if any(getattr(self, name) != getattr(other, name) for name in plain):
            return False
        ours, theirs = self.tensors(), other.tensors()
        return ours.keys() == theirs.keys() and all(
            tensor.dtype == theirs[name].dtype and np.array_equal(tensor, theirs[name]) for name, tensor in ours.items()
        )

    def __hash__(self) -> int:
        return hash((self.target_digest, self.construction, self.spec.seed, self.facts))

    def save(self, path: str | Path) -> int:
        """Write the ticket to a file, atomically; returns its size in bytes. See :func:`slth.artifact.save`."""
        from slth.artifact import save

        return save(self, Path(path))

    def module(self, form: str = "folded", **options: Any) -> torch.nn.Module:
        """The ticket as a torch module: ``"masked"``, ``"sparse"`` or ``"folded"``. See :func:`slth.runtime.module`."""
        from slth.runtime import module

        return module(self, form, **options)

    def export(self, path: str | Path, form: str = "folded", dtype: str | None = None) -> Exported:
        """Write the ticket as a network for other programs: ``.pt2``, ``.onnx`` or a folder. See :mod:`slth.export`."""
        from slth.export import export

        return export(self, path, form, dtype)
