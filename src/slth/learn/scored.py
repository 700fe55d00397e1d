"""A random network whose layers hold scores: what is trained in place of weights, and the ticket that comes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from slth import __version__
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.learn.scores import BernoulliScores, Chooser, TopScores
from slth.mask import PlainMask
from slth.mask.plain import METHODS
from slth.network.graph import Node, Sign
from slth.network.module import Network
from slth.network.operators import WEIGHT_OPERATORS
from slth.network.target import Target
from slth.plain_layers import own_network
from slth.probes import target_probe_outputs
from slth.realise import survivors_digest
from slth.source.distributions import Grid
from slth.source.initialised import KaimingNormal, KaimingUniform
from slth.source.law import Distribution
from slth.source.plain import PlainSource
from slth.source.spec import SourceSpec
from slth.ticket import ERROR_EDGES, LayerFacts, Ticket

WEIGHTS = ("signed-constant", "kaiming-normal", "kaiming-uniform")
"""Laws of the source: signs times the standard deviation of Kaiming's normal law, or Kaiming's laws themselves."""
BINARY, LATENT = Grid(2), KaimingNormal()
"""Signs, and the law whose signs they are: both take the sign from the highest bit of the same word."""


def draw_source(target: Target, seed: int, weights: str, density: float) -> SourceSpec:
    """A random network of a target's architecture, from the seed alone; the target's weights have no part in it.

    Signed constants are +-sqrt(2 / (density * fan_in)) (Ramanujan et al. 2020, section 4.5: the variance of what
    is left is Kaiming's); the other laws are Kaiming's (He et al. 2015). ``weights`` is one of :data:`WEIGHTS`.
    """
    laws: dict[str, Distribution] = dict(zip(WEIGHTS, (BINARY, LATENT, KaimingUniform()), strict=True))
    layers = []
    for index, node in enumerate(target.graph.weighted):
        outputs, inputs_per_group, *kernel = node.attributes["weight_shape"]
        source = PlainSource(
            seed=seed,
            index=index,
            inputs_per_group=inputs_per_group,
            outputs=outputs,
            groups=WEIGHT_OPERATORS[node.op].groups(node.attributes),
            kernel=tuple(kernel),
            bias=bool(node.attributes["bias"]),
            block_width=1,
            scale=1.0,
            initialisation="uniform",
            law=laws[weights],
        )
        constant = float(np.float32(math.sqrt(2.0 / (density * source.fan_in))))
        layers.append(replace(source, scale=constant) if weights == WEIGHTS[0] else source)
    return SourceSpec(seed, "uniform", tuple(layers))


class ScoredLayer(torch.nn.Module):
    """One layer of the source with a score for each of its numbers.

    Parameters
    ----------
    node : Node
        The layer's place in the network.
    source : PlainSource
    chooser : Chooser
    latent : PlainSource or None
        Where the weights are signs times a constant of the kept ones: the weights whose signs they are.
    generator : torch.Generator
        Of the first scores.
    """

    numbers: torch.Tensor
    magnitudes: torch.Tensor | None

    def __init__(
        self,
        node: Node,
        source: PlainSource,
        chooser: Chooser,
        latent: PlainSource | None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.node, self.chooser, self.n_weight = node, chooser, source.outputs * source.fan_in
        self.register_buffer("numbers", torch.from_numpy(source.numbers()), persistent=False)
        magnitudes = None if latent is None else torch.from_numpy(latent.numbers()).abs()
        self.register_buffer("magnitudes", magnitudes, persistent=False)
        first = torch.rand(source.n_weights, generator=generator) / math.sqrt(source.fan_in)
        if isinstance(chooser, BernoulliScores):
            # As likely kept as not.
            first = torch.zeros(source.n_weights)
        self.scores = torch.nn.Parameter(first)
        self.settled: torch.Tensor | None = None

    def train(self, mode: bool = True) -> ScoredLayer:
        """Masks of single steps in training, the one that a ticket has in evaluation."""
        super().train(mode)
        self.settled = None if mode else self._masked(self.chooser.final(self.scores).to(self.numbers.dtype))
        return self

    def alpha(self, mask: torch.Tensor) -> torch.Tensor | None:
        """The mean size of the latent weights that are kept, (), where the weights are signs times that.

        Diffenderfer and Kailkhura 2021, equation 2.
        """
        if self.magnitudes is None:
            return None
        mask = mask.detach().to(self.magnitudes.dtype)
        return (self.magnitudes * mask).sum() / mask.sum().clamp(min=1)

    def _masked(self, mask: torch.Tensor) -> torch.Tensor:
        alpha = self.alpha(mask)
        return self.numbers * mask if alpha is None else self.numbers * mask * alpha

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The masked layer on a batch."""
        numbers = None if self.training else self.settled
        if numbers is None:
            numbers = self._masked(self.chooser.step(self.scores))
        attributes = self.node.attributes
        weight = numbers[: self.n_weight].reshape(attributes["weight_shape"])
        bias = numbers[self.n_weight :] if attributes["bias"] else None
        return WEIGHT_OPERATORS[self.node.op].apply(attributes, x, weight, bias)


class ScoredNetwork:
    """A source with a score for each weight, as one module, and the ticket that the scores stand for.

    Parameters
    ----------
    target : Target
        Whose architecture it has.
    spec : SourceSpec
        By :func:`draw_source`.
    method : str
        One of :data:`slth.mask.plain.METHODS`.
    density : float or None
        Kept fraction of every layer's numbers; None with ``"bernoulli"``: what is likelier kept than not.
    seed : int
        Of the first scores.

    Raises
    ------
    ArgumentError
        For an unknown method, one that needs a density, or multi-prize on weights that are no signs.
    """

    def __init__(self, target: Target, spec: SourceSpec, method: str, density: float | None, seed: int) -> None:
        check_method(method, WEIGHTS[0] if spec.layers[0].law == BINARY else spec.layers[0].law.label, density)
        self.target, self.spec, self.method = target, spec, method
        generator = torch.Generator().manual_seed(seed)
        sources = dict(zip((node.name for node in target.graph.weighted), spec.layers, strict=True))

        def build(node: Node) -> torch.nn.Module:
            source = sources[node.name]
            assert isinstance(source, PlainSource)
            chooser = _chooser(method, source.n_weights, density, generator)
            latent = replace(source, law=LATENT, scale=1.0) if method == "multi-prize" else None
            source = replace(source, scale=1.0) if method == "multi-prize" else source
            return ScoredLayer(node, source, chooser, latent, generator)

        self.module = Network(target.graph, build, target.kept, torch.float32)

    @property
    def layers(self) -> Sequence[ScoredLayer]:
        """The layers in the graph's order."""
        found = {layer.node.name: layer for layer in self.module.modules() if isinstance(layer, ScoredLayer)}
        return [found[node.name] for node in self.target.graph.weighted]

    def ticket(self) -> Ticket:
        """The ticket of the scores as they are."""
        masks, sources, facts = [], [], []
        for layer, source, node in zip(self.layers, self.spec.layers, self.target.graph.weighted, strict=True):
            kept = layer.chooser.final(layer.scores)
            alpha = layer.alpha(kept)
            source = source if alpha is None else replace(source, scale=float(alpha))
            mask = PlainMask.build(kept.cpu().numpy())
            masks.append(mask)
            sources.append(source)
            facts.append(_facts(node, source, mask))
        ticket = Ticket(
            graph=self.target.graph,
            spec=SourceSpec(self.spec.seed, self.spec.initialisation, tuple(sources)),
            masks=tuple(masks),
            facts=tuple(facts),
            construction="direct",
            objective=self.method,
            base_set_size=1,
            tolerance=None,
            target_digest="",
            target_dtype="float32",
            generator_version=__version__,
            probe_outputs=np.zeros((0, 0), np.float32),
            kept=self.target.kept,
        )
        network = own_network(ticket)
        outputs = target_probe_outputs(network, self.spec.seed, Domain.parse(None))
        return replace(ticket, target_digest=network.digest(), probe_outputs=outputs)


def check_method(method: str, weights: str, density: float | None) -> None:
    """Refuse what does not go together.

    Raises
    ------
    ArgumentError
        For an unknown method or law, a density out of range, or multi-prize with weights that are no signs.
    """
    if method not in METHODS:
        raise ArgumentError("method", repr(method), " or ".join(METHODS), f"--method {METHODS[0]}")
    if weights not in WEIGHTS:
        raise ArgumentError("weights", repr(weights), " or ".join(WEIGHTS), f"--weights {WEIGHTS[0]}")
    if density is None and method != "bernoulli":
        raise ArgumentError("density", "none", f"the kept fraction, with {method}", "--density 0.5")
    if density is not None and not 0.0 < density <= 1.0:
        raise ArgumentError("density", f"{density:g}", "the kept fraction, above 0 and up to 1", "--density 0.5")
    if method == "multi-prize" and weights != WEIGHTS[0]:
        raise ArgumentError("weights", weights, "signs, with multi-prize", f"--weights {WEIGHTS[0]}")


def _chooser(method: str, n: int, density: float | None, generator: torch.Generator) -> Chooser:
    if method == "bernoulli":
        return BernoulliScores(None if density is None else max(1, round(density * n)))
    assert density is not None
    return TopScores.build(n, density, generator)


def _facts(node: Node, source: Any, mask: PlainMask) -> LayerFacts:
    """Every weight of the network is the source's own: there are no errors."""
    return LayerFacts(
        name=node.name,
        input_sign=Sign.SIGNED,
        n_weights=source.n_weights,
        missed=0,
        max_weight_error=0.0,
        mean_weight_error=0.0,
        error_histogram=(source.n_weights, *[0] * len(ERROR_EDGES)),
        survivors_digest=survivors_digest(source, mask),
    )
