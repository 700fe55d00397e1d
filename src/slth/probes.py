"""A few seeded inputs on which target and ticket are compared in a picture."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from slth.domain import Domain
from slth.errors import TargetError
from slth.network.graph import Graph, Node
from slth.network.target import Target
from slth.runtime import joined, target_module
from slth.source.distributions import uniform
from slth.source.philox import stream_key, words
from slth.threads import fitting_threads

N_PROBES = 64
FEWEST_PROBES = 4
LARGEST_PROBE_COST = 2_000_000_000
"""Multiplications of all probes together, about (chosen: a second or two)."""
N_OUTPUTS = 16
_PROBE_LAYER = 0xFFFFFFFF
"""Layer number of the probes' stream, which no weight layer has."""


def n_probes(graph: Graph) -> int:
    """Inputs that are tried: fewer of networks in which each takes long."""
    cost = sum(_multiplications(node) for node in graph.weighted_uses)
    return max(FEWEST_PROBES, min(N_PROBES, LARGEST_PROBE_COST // max(1, cost)))


def _multiplications(node: Node) -> int:
    """Of one layer on one input, about."""
    shape: tuple[int, ...] = node.attributes["weight_shape"]
    return math.prod(shape) * max(1, math.prod(map(abs, node.shape)) // shape[0])


def probe_inputs(graph: Graph, seed: int, lower: float, upper: float, n: int = N_PROBES) -> torch.Tensor:
    """Seeded inputs, (n, *shape): uniform between two numbers in float64, or whole numbers where inputs are."""
    shape = graph.input_shape
    drawn = uniform(words(stream_key(seed, _PROBE_LAYER, 0), 0, n * math.prod(shape))).astype(np.float64)
    if graph.classes:
        whole = np.minimum((drawn + 1) / 2 * graph.classes, graph.classes - 1).astype(np.int64)
        return torch.from_numpy(whole).reshape(n, *shape)
    middle, half = (lower + upper) / 2, (upper - lower) / 2
    return torch.from_numpy(middle + half * drawn).reshape(n, *shape)


def probe_range(domain: tuple[float, float] | None) -> tuple[float, float]:
    """Range of the probes: the domain's, or [-1, 1] for all reals."""
    return domain or (-1.0, 1.0)


def target_probe_outputs(target: Target, seed: int, domain: Domain, n: int | None = None) -> NDArray[np.float32]:
    """The target's first outputs on the probes, (probes, outputs), in float64 rounded to float32.

    One thread, so that the same sums are added in the same order whatever the machine is told to use.

    Raises
    ------
    TargetError
        If an output is beyond float32, or none at all because a layer's values were beyond float64.
    """
    box = None
    if domain.lower is not None and domain.upper is not None:
        box = (float(domain.lower.min()), float(domain.upper.max()))
    n = n_probes(target.graph) if n is None else n
    inputs = probe_inputs(target.graph, seed, *probe_range(box), n)
    with fitting_threads(0), torch.no_grad():
        outputs = joined(target_module(target, torch.float64))(inputs).to(torch.float32)
        if not outputs.isfinite().all():
            if target.graph.is_chain:
                raise _beyond(target, inputs, probe_range(box))
            # A logarithm, say, of inputs that the network is not for: the picture shows nothing there.
            outputs = outputs.nan_to_num(0.0, 0.0, 0.0)
    return np.asarray(outputs.reshape(n, -1)[:, :N_OUTPUTS].numpy())


def _beyond(target: Target, inputs: torch.Tensor, between: tuple[float, float]) -> TargetError:
    """Which layer's values are the first that are no numbers of float32."""
    weights = {layer.name: float(layer.weight.abs().max()) for layer in target}
    where, largest = "", 0.0
    for name, values in target_module(target, torch.float64).steps(inputs):
        if name in weights:
            where, largest = name, weights[name]
        if not values.to(torch.float32).isfinite().all():
            break
    return TargetError(
        f"layer {where!r}",
        f"values beyond float32 on inputs from {between[0]:g} to {between[1]:g}, from weights up to {largest:.4g}",
        "a network whose values are numbers",
        "a smaller domain, or another checkpoint",
    )
