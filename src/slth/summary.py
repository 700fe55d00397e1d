"""The facts of a ticket as people and programs read them: one place for the table, the page and ``--json``."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth.copies import is_copied, widened
from slth.mask import Mask
from slth.mask.slots import slots_per_group
from slth.network.accounts import FOLDED, KEPT, TICKETED, UNUSED, Account, counted, ticketed_share
from slth.network.chain import broken_at
from slth.network.graph import Sign
from slth.network.operators import OPERATORS
from slth.network.operators.activation import Elementwise
from slth.network.pooling_layers import places
from slth.source.balanced import BRANCHES, BalancedSource
from slth.source.candidates import OutputSource
from slth.source.copies import CopySource
from slth.source.kernels import KernelSource
from slth.source.plain import PlainSource
from slth.source.signed import ShiftedSource, SplitSource, TapSource
from slth.source.spec import BlockSource, SourceLayer
from slth.ticket import LayerFacts, Ticket

UNIVARIATE_FIRST = "univariate-first"
"""Order of two source layers of which the second has the target's kernel."""

SIGNED_ORDERS = {
    TapSource.order: "kernels of one tap first",
    SplitSource.order: "kernels first, of relu(x) and relu(-x)",
    ShiftedSource.order: "kernels first, of x + s",
}
"""Orders that layers have whose input may have either sign, in words."""


@dataclass(frozen=True)
class LayerSummary:
    """One row of the closing table.

    ``base_set_size`` is the mean number of usable elements of the layer's base sets as drawn, ``base_set_range`` the
    smallest and the largest; ``order`` says which of the two source layers has the target's kernel. ``copies`` and
    ``constants`` are what the layer makes: copies of every output, and constant channels besides. ``drawn_scales`` are
    what the law's numbers are multiplied by to be the source's weights, in the expanding and in the combining layer;
    ``factors`` what these are multiplied by where the source is evaluated. ``depth`` counts source layers; ``shift`` is
    what is added to every input before them.
    """

    name: str
    order: str
    input_sign: str
    weights: int
    base_set_size: float
    base_set_range: tuple[int, int]
    source_weights: int
    kept_weights: int
    density: float
    missed: int
    max_weight_error: float
    mean_weight_error: float
    copies: int = 1
    constants: int = 0
    depth: int = 2
    shift: float = 0.0
    drawn_scales: tuple[float, float] = (1.0, 1.0)
    factors: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class ParameterSummary:
    """What became of the target's parameters, in numbers.

    ``share`` is the fraction that is ticketed or folded of ``total``, those on which the output depends; ``unused`` are
    the others. ``constants`` counts the numbers of tensors that the file keeps as they are, trained or not.
    """

    share: float
    total: int
    ticketed: int
    folded: int
    kept: int
    unused: int
    constants: int
    accounts: tuple[Account, ...]

    @property
    def percent(self) -> str:
        """The share, never rounded up to all of them."""
        return "100 %" if self.share == 1.0 else f"{math.floor(1000 * self.share) / 10:.1f} %"

    @property
    def line(self) -> str:
        """The share and what it is made of, in words."""
        parts = f"{self.ticketed:,} ticketed, {self.folded:,} folded, {self.kept:,} kept"
        unused = f" ({self.unused:,} more have no part in the output)" if self.unused else ""
        return f"{self.percent} of {self.total:,} parameters ticketed or folded: {parts}{unused}"


@dataclass(frozen=True)
class TicketSummary:
    """A ticket in numbers; ``ticket_bytes`` and ``seconds`` are None where they are not known.

    ``distribution`` is the law of the source's weights; ``output_factor`` the product of all factors where one factor
    on the output would do in their place, else None. ``pooling`` says what became of average pooling, in words, and of
    which; it is empty where that is the same operation in both networks.
    """

    construction: str
    initialisation: str
    distribution: str
    output_factor: float | None
    objective: str
    base_set_size: int
    tolerance: float | None
    seed: int
    domain: tuple[float, float] | None
    target_digest: str
    extra_depth: int
    source_depth: int
    target_weights: int
    source_weights: int
    kept_weights: int
    density: float
    missed: int
    max_weight_error: float
    seconds: float | None
    ticket_bytes: int | None
    layers: tuple[LayerSummary, ...]
    pooling: dict[str, tuple[str, ...]]
    parameters: ParameterSummary

    @property
    def candidates(self) -> int:
        """Neurons of which one stands for a hidden neuron; 0 but for sources of depth three."""
        return next((int(layer.base_set_size) for layer in self.layers if layer.order == OutputSource.order), 0)

    @property
    def learnt(self) -> bool:
        """Whether it is a mask over a random network of its own shape, found by training scores."""
        return all(layer.order == PlainSource.order for layer in self.layers)

    @property
    def copied(self) -> bool:
        """Whether layers read copies of one another's outputs."""
        return any(layer.order == CopySource.order for layer in self.layers)

    @property
    def rerouted(self) -> tuple[str, ...]:
        """Layers in another order than others of the same ticket: those whose input may have either sign."""
        if not any(layer.order == KernelSource.order for layer in self.layers):
            return ()
        return tuple(layer.name for layer in self.layers if layer.order == UNIVARIATE_FIRST)

    @property
    def signed(self) -> dict[str, tuple[LayerSummary, ...]]:
        """By what they have in place of the construction's own order, layers whose input may have either sign."""
        return {
            words: layers
            for order, words in SIGNED_ORDERS.items()
            if (layers := tuple(layer for layer in self.layers if layer.order == order))
        }

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def summarise(ticket: Ticket, ticket_bytes: int | None = None) -> TicketSummary:
    """Count what a ticket holds."""
    layers = tuple(_layer(source, mask, facts) for source, mask, facts in ticket.layers)
    if is_copied(ticket.spec.layers):
        layouts = widened(ticket.hidden_graph, ticket.spec.layers).layouts
        layers = tuple(
            replace(layer, copies=layout.copies_out, constants=layout.constants_out)
            for layer, layout in zip(layers, layouts, strict=True)
        )
    return TicketSummary(
        construction=ticket.construction,
        initialisation=ticket.spec.initialisation,
        distribution=ticket.spec.layers[0].law.label,
        output_factor=output_factor(ticket),
        objective=ticket.objective,
        base_set_size=ticket.base_set_size,
        tolerance=ticket.tolerance,
        seed=ticket.spec.seed,
        domain=ticket.domain,
        target_digest=ticket.target_digest,
        extra_depth=ticket.extra_depth,
        source_depth=ticket.spec.depth,
        target_weights=ticket.n_target_weights,
        source_weights=ticket.spec.n_weights,
        kept_weights=ticket.n_kept,
        density=ticket.n_kept / ticket.spec.n_weights,
        missed=ticket.missed,
        max_weight_error=ticket.max_weight_error,
        seconds=ticket.seconds,
        ticket_bytes=ticket_bytes,
        layers=layers,
        pooling=places(ticket.graph, ticket.pooling),
        parameters=parameter_summary(ticket),
    )


def parameter_summary(ticket: Ticket) -> ParameterSummary:
    """Count what became of the target's parameters."""
    totals = counted(ticket.parameters)
    return ParameterSummary(
        share=ticketed_share(ticket.parameters),
        total=sum(n for state, n in totals.items() if state != UNUSED),
        **{state: totals[state] for state in (TICKETED, FOLDED, KEPT, UNUSED)},
        constants=sum(tensor.numel() for tensor in ticket.kept.values()),
        accounts=ticket.parameters,
    )


def _layer(source: SourceLayer, mask: Mask, facts: LayerFacts) -> LayerSummary:
    sizes = base_set_sizes(source, facts.input_sign)
    return LayerSummary(
        name=facts.name,
        order=UNIVARIATE_FIRST if isinstance(source, BalancedSource) else source.order or UNIVARIATE_FIRST,
        input_sign=facts.input_sign.value,
        weights=facts.n_weights,
        base_set_size=float(sizes.mean()),
        base_set_range=(int(sizes.min()), int(sizes.max())),
        source_weights=source.n_weights,
        kept_weights=mask.n_kept,
        density=mask.n_kept / source.n_weights,
        missed=facts.missed,
        max_weight_error=facts.max_weight_error,
        mean_weight_error=facts.mean_weight_error,
        depth=source.depth,
        shift=source.shift if isinstance(source, ShiftedSource) else 0.0,
        drawn_scales=source.drawn_scales,
        factors=(source.expand_scale, source.scale),
    )


def output_factor(ticket: Ticket) -> float | None:
    """The product of all factors of the source's layers, where one factor on the output would do in their place.

    Theory 0.5: where the network is a chain, all activations are positively homogeneous and the source has no biases
    but in its first layer, where they are multiplied as weights are. None elsewhere, and where the product is no
    float64 number.
    """
    sources, graph = ticket.spec.layers, ticket.hidden_graph
    if broken_at(graph) is not None or any(node.op == "function" for node in graph):
        return None
    operators = [(OPERATORS[node.op], node.attributes) for node in graph]
    phis = [operator.activation(own) for operator, own in operators if isinstance(operator, Elementwise)]
    phis += [source.activation for source in sources if source.expand_scale != 1.0]
    if not all(phi.homogeneous for phi in phis) or any(source.bias and source.depth == 2 for source in sources[1:]):
        return None
    factors = [source.scale * source.expand_scale for source in sources]
    return math.prod(factors) if abs(sum(map(math.log2, factors))) < 1000 else None


def base_set_sizes(source: SourceLayer, sign: Sign) -> NDArray[np.int64]:
    """Usable elements of every base set of a layer: by block and, where it matters, sign of the input.

    Where the activation has one slope, one base set serves both signs, and all of its block is usable. With kernels
    first there is one of every weight and bias. With the looks-linear initialisation every mirrored pair is one usable
    element, and so is every copy of an input. Where neurons serve one weight each, the number of neurons that the
    source has for each; of the output layer of depth three, the number of candidates; of a
    source in the network's own shape 1.
    """
    if isinstance(source, KernelSource):
        branch, ranges = source.branch(sign.branches), source.ranges(1 << 22)
        return np.concatenate([source.base_sets(*outputs, branch)[1].sum(axis=2).ravel() for outputs in ranges])
    if isinstance(source, CopySource):
        return np.full(source.inputs_per_group, source.block_width, np.int64)
    if isinstance(source, OutputSource | PlainSource):
        return np.array([source.block_width])
    if not isinstance(source, BlockSource):
        return np.array([source.neurons_per_group // slots_per_group(source)])
    n_blocks = source.groups * source.blocks_per_group
    if source.mirrored:
        return np.full(n_blocks, source.block_width // 2, dtype=np.int64)
    if isinstance(source, BalancedSource):
        return _balanced_sizes(source)
    univariate = source.univariate_weights().reshape(source.groups, source.blocks_per_group, source.block_width)
    inputs = univariate[:, : source.input_blocks]
    if source.activation.one_sum:
        counts = [np.full(inputs.shape[:2], source.block_width).ravel()]
    else:
        counts = [np.count_nonzero(np.sign(inputs) == branch, axis=2).ravel() for branch in sign.branches]
    if source.bias:
        active = univariate[:, -1] > 0 if source.activation.m_minus == 0.0 else univariate[:, -1] != 0
        counts.append(np.count_nonzero(active, axis=1))
    usable: NDArray[np.int64] = np.minimum(np.concatenate(counts), source.largest_base_set).astype(np.int64)
    return usable


def _balanced_sizes(source: BalancedSource) -> NDArray[np.int64]:
    """Elements of every base set, counted by the neurons that it has."""
    neuron = np.flatnonzero(source.usable)
    channel, sign = source.channels[neuron], np.sign(source.univariate_weights()[neuron]).astype(np.int64)
    place = (neuron // source.neurons_per_group) * source.blocks_per_group
    place += np.where(channel < 0, source.input_blocks, channel)
    counts = np.zeros((source.groups * source.blocks_per_group, 3), np.int64)
    np.add.at(counts, (place, sign + 1), 1)
    by_block = counts.reshape(source.groups, source.blocks_per_group, 3)
    inputs = [by_block[:, : source.input_blocks, branch + 1].ravel() for branch in BRANCHES[source.input_sign]]
    return np.concatenate([*inputs, *([by_block[:, -1, 2]] if source.bias else [])])
