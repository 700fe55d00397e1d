"""Stage 9: the ``.ticket`` file, a safetensors container; ``docs/format.md`` describes it field by field."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slth.activations import Activation
from slth.activations import parse as parse_activation
from slth.activations.own import Description, named, recall, storable
from slth.constructions import LAYOUTS, Layout
from slth.constructions.direct import Direct
from slth.container import Format, peek, require, sha256_text
from slth.errors import ArgumentError, TicketError
from slth.mask import Mask
from slth.network.accounts import Account
from slth.network.deepen import LARGEST_EXTRA_DEPTH, deepened
from slth.network.graph import Graph, Node, Sign
from slth.network.operators import WEIGHT_OPERATORS, Own
from slth.network.pooling_layers import FIXED, POOLING, pooled
from slth.network.selection import EVERYTHING, Selection
from slth.plan import LARGEST_SEED
from slth.probes import FEWEST_PROBES, N_OUTPUTS, N_PROBES
from slth.source.initialised import NAMES, from_json
from slth.source.law import Distribution
from slth.source.philox import GENERATOR
from slth.source.spec import LARGEST_WIDTH, SourceLayer, SourceSpec
from slth.ticket import ERROR_EDGES, LayerFacts, Ticket

LARGEST_LAYER = 1 << 31
"""Weights and biases of one layer of the target (chosen: more than any layer that was ever trained)."""


def to_bytes(ticket: Ticket) -> bytes:
    """The file's content: the same ticket gives the same bytes.

    Raises
    ------
    ArgumentError
        If it has an activation of the user's own that is not registered.
    """
    return TICKETS.to_bytes(ticket)


def save(ticket: Ticket, path: Path) -> int:
    """Write a ticket atomically; returns the file's size in bytes.

    Raises
    ------
    ArgumentError
        As :func:`to_bytes`.
    OutputError
        If the file cannot be written; nothing is left behind.
    """
    return TICKETS.save(ticket, Path(path))


def load(path: str | Path) -> Ticket:
    """Read a ticket that may come from anybody; no code in it can run.

    Raises
    ------
    TicketError
        If the file is missing, truncated, altered, of an unknown version, or its fields do not fit together.
    """
    return TICKETS.load(path)


def selection_in(path: str | Path) -> Selection:
    """Which parameters of the target a file says were to be ticketed; a damaged file is refused when it is loaded."""
    try:
        return Selection.from_json(peek(path)["selection"])
    except (KeyError, TypeError, ValueError):
        return EVERYTHING


def is_plain_file(path: str | Path) -> bool:
    """Whether a file says that it has no target: see :func:`slth.plain_layers.is_plain`."""
    return peek(path).get("construction") == Direct.name


def from_bytes(content: bytes) -> Ticket:
    """The ticket in a file's content, every field checked.

    Raises
    ------
    TicketError
        As :func:`load`.
    """
    return TICKETS.from_bytes(content)


def _own(ticket: Ticket) -> list[Description]:
    """Descriptions of the users' own activations in a ticket, by name: as they were read, or else as registered."""
    read = {stored.name: stored for stored in ticket.own_activations}
    used = {layer.activation.name: layer.activation for layer in ticket.spec.layers if not layer.activation.proved}
    used |= {node.attributes["name"]: named(node.attributes["name"]) for node in ticket.graph if node.op == Own.name}
    return [read.get(name) or storable(used[name]) for name in sorted(used)]


def _fields(ticket: Ticket) -> dict[str, Any]:
    some: dict[str, Any] = {"extra_depth": ticket.extra_depth} if ticket.extra_depth else {}
    some |= {} if ticket.pooling == FIXED else {"pooling": ticket.pooling}
    some |= {"accounts": [account.to_json() for account in ticket.accounts]} if ticket.accounts else {}
    some |= {"selection": ticket.selection.to_json()} if ticket.selection else {}
    own = _own(ticket)
    return (some | {"own_activations": [each.to_json() for each in own]} if own else some) | {
        "generator_version": ticket.generator_version,
        "construction": ticket.construction,
        "objective": ticket.objective,
        "base_set_size": ticket.base_set_size,
        "tolerance": ticket.tolerance,
        "domain": None if ticket.domain is None else list(ticket.domain),
        "target_digest": ticket.target_digest,
        "target_dtype": ticket.target_dtype,
        "graph": ticket.graph.to_json(),
        "source": ticket.spec.to_json(),
        "layers": [_facts_json(facts) for facts in ticket.facts],
    }


def _facts_json(facts: LayerFacts) -> dict[str, Any]:
    return {
        "name": facts.name,
        "input_sign": facts.input_sign.value,
        "weights": facts.n_weights,
        "missed": facts.missed,
        "max_weight_error": facts.max_weight_error,
        "mean_weight_error": facts.mean_weight_error,
        "error_histogram": list(facts.error_histogram),
        "survivors_digest": facts.survivors_digest,
    }


def _ticket(header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Ticket:
    own = tuple(Description.from_json(each) for each in header.get("own_activations", ()))
    for stored in own:
        recall(stored)
    target_graph, extra_depth = Graph.from_json(header["graph"]), header.get("extra_depth", 0)
    pooling = header.get("pooling", FIXED)
    require(header["construction"] in LAYOUTS, "construction", repr(header["construction"]), "a known name")
    graph = _pooled(target_graph, pooling, LAYOUTS[header["construction"]])
    graph = _deepened(graph, extra_depth, LAYOUTS[header["construction"]])
    spec = _spec(header["source"], graph, LAYOUTS[header["construction"]])
    facts = tuple(_facts(entry) for entry in header["layers"])
    nodes = graph.weighted
    require(len(facts) == len(nodes), "layers", f"{len(facts)} layers", f"{len(nodes)}, as in the graph")
    for node, entry in zip(nodes, facts, strict=True):
        require(node.name == entry.name, "layers", f"layer {entry.name!r}", f"{node.name!r}, as in the graph")
        n_weights = math.prod(node.attributes["weight_shape"])
        n_weights += node.attributes["weight_shape"][0] if node.attributes["bias"] else 0
        require(n_weights <= LARGEST_LAYER, "layers", f"{n_weights} weights", f"at most {LARGEST_LAYER} in a layer")
        require(entry.n_weights == n_weights, "layers", f"{entry.n_weights} weights", f"{n_weights}, as in the graph")
        require(0 <= entry.missed <= n_weights, "layers", f"{entry.missed} missed", f"0 to {n_weights}")
    masks = tuple(_mask(header["construction"], source, index, tensors) for index, source in enumerate(spec.layers))
    for mask, entry in zip(masks, facts, strict=True):
        require(mask.serves(entry.input_sign), f"layer {entry.name!r}", entry.input_sign.value, "its mask's sign")
    LAYOUTS[header["construction"]].check_masks(graph, spec.layers, masks)
    probes = tensors["probe_outputs"]
    expected = (N_PROBES, min(N_OUTPUTS, math.prod(graph.output_shape)))
    fits = probes.dtype == np.float32 and probes.ndim == 2 and probes.shape[1] == expected[1]
    fits = fits and FEWEST_PROBES <= probes.shape[0] <= N_PROBES
    require(fits, "probe_outputs", f"{probes.dtype} {probes.shape}", f"float32 {expected}")
    tolerance, domain, size = header["tolerance"], header["domain"], header["base_set_size"]
    fits = tolerance is None or (_is_number(tolerance) and tolerance > 0)
    require(fits, "tolerance", repr(tolerance), "null or a number above 0")
    fits = domain is None or (len(domain) == 2 and all(map(_is_number, domain)) and domain[0] <= domain[1])
    require(fits, "domain", repr(domain), "null or a lower and an upper bound")
    largest = LAYOUTS[header["construction"]].largest_size
    fits = type(size) is int and 1 <= size <= largest
    require(fits, "base_set_size", repr(size), f"1 to {largest}")
    known = header["objective"] in LAYOUTS[header["construction"]].objectives
    require(known, "objective", repr(header["objective"]), "a known name")
    require(header["target_dtype"] in ("float32", "float64"), "target_dtype", repr(header["target_dtype"]), "a float")
    return Ticket(
        graph=target_graph,
        spec=spec,
        masks=masks,
        facts=facts,
        construction=header["construction"],
        objective=header["objective"],
        base_set_size=size,
        tolerance=tolerance,
        target_digest=sha256_text(header["target_digest"]),
        target_dtype=header["target_dtype"],
        generator_version=str(header["generator_version"]),
        probe_outputs=probes,
        domain=None if domain is None else (domain[0], domain[1]),
        extra_depth=extra_depth,
        pooling=pooling,
        kept=_kept(target_graph, tensors),
        accounts=tuple(map(Account.from_json, header.get("accounts", ()))),
        selection=Selection.from_json(header.get("selection", EVERYTHING.to_json())),
        own_activations=own,
    )


def _kept(graph: Graph, tensors: dict[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    """The tensors that are kept as they are, each as its node says."""
    nodes = [node for node in graph if node.op == "kept"]
    kept = {}
    for index, node in enumerate(nodes):
        tensor = torch.from_numpy(tensors[f"kept.{index}"].copy())
        got = f"{tensor.dtype} {tuple(tensor.shape)}".removeprefix("torch.")
        fits = got == f"{node.attributes['dtype']} {node.attributes['shape']}"
        require(fits, f"kept tensor {index}", got, f"{node.attributes['dtype']} {node.attributes['shape']}")
        require(not bool(torch.isnan(tensor).any()), node.name, "nan", "numbers")
        kept[node.name] = tensor
    return kept


def _is_number(value: Any) -> bool:
    """Whether it is a finite float, or a whole number that stands for one."""
    return type(value) in (int, float) and math.isfinite(value)


def _pooled(graph: Graph, pooling: Any, construction: Layout) -> Graph:
    """The graph without average pooling where the construction has weights in its place."""
    ways = POOLING if "pooling" in construction.settings else (FIXED,)
    fits = isinstance(pooling, str) and pooling in ways
    require(fits, "pooling", repr(pooling), f"{' or '.join(ways)} with the construction {construction.name!r}")
    return pooled(graph, pooling)


def _deepened(graph: Graph, extra_depth: Any, construction: Layout) -> Graph:
    """The graph whose layers the source hides; deeper than the target's where the construction allows it."""
    largest = LARGEST_EXTRA_DEPTH if "extra_depth" in construction.settings else 0
    fits = type(extra_depth) is int and 0 <= extra_depth <= largest
    require(fits, "extra_depth", repr(extra_depth), f"0 to {largest} with the construction {construction.name!r}")
    return deepened(graph, extra_depth)


def _spec(value: dict[str, Any], graph: Graph, construction: Layout) -> SourceSpec:
    seed = value["seed"]
    require(type(seed) is int and 0 <= seed <= LARGEST_SEED, "seed", repr(seed), "a whole number of 64 bits")
    require(value["generator"] == GENERATOR, "generator", repr(value["generator"]), GENERATOR)
    require(value["distribution"] in NAMES, "distribution", repr(value["distribution"]), "a known name")
    known = value["initialisation"] in construction.initialisations
    require(known, "initialisation", repr(value["initialisation"]), " or ".join(construction.initialisations))
    nodes = graph.weighted
    require(len(value["layers"]) == len(nodes), "source", f"{len(value['layers'])} layers", str(len(nodes)))
    layers = tuple(
        _source_layer(construction, seed, index, node, {"law": {}, "expand_scale": 1.0, **entry}, value)
        for index, (node, entry) in enumerate(zip(nodes, value["layers"], strict=True))
    )
    return SourceSpec(seed, value["initialisation"], construction.connect(graph, layers))


def _source_layer(
    construction: Layout, seed: int, index: int, node: Node, entry: dict[str, Any], spec: dict[str, Any]
) -> SourceLayer:
    width, scale = entry["block_width"], float(entry["scale"])
    where = f"source layer {index}"
    fits = type(width) is int and 1 <= width <= LARGEST_WIDTH
    require(
        fits and not (width % 2 and construction.even_width), where, repr(width), f"a block width up to {LARGEST_WIDTH}"
    )
    require(bool(np.isfinite(scale)) and float(np.float32(scale)) == scale > 0, where, repr(scale), "a float32 scale")
    law = _law(where, {"name": spec["distribution"], **entry["law"]})
    if law.by_shape:
        require(construction.any_law, where, law.name, f"the law of the construction {construction.name!r}")
        require(math.frexp(scale)[0] == 0.5, where, repr(scale), f"a power of 2, with the law {law.name!r}")
    outputs, inputs_per_group, *kernel = node.attributes["weight_shape"]
    kind = construction.layout(entry.get("order", ""))
    return kind(
        seed=seed,
        index=index,
        inputs_per_group=inputs_per_group,
        outputs=outputs,
        groups=WEIGHT_OPERATORS[node.op].groups(node.attributes),
        kernel=tuple(kernel),
        bias=bool(node.attributes["bias"]),
        block_width=width,
        scale=scale,
        initialisation=spec["initialisation"],
        law=law,
        activation=_activation(spec["activation"], construction),
        expand_scale=_power_of_two(where, entry["expand_scale"]),
        **_own_fields(where, kind, entry),
    )


def _own_fields(where: str, kind: type[SourceLayer], entry: dict[str, Any]) -> dict[str, Any]:
    try:
        return kind.own_fields(entry)
    except ArgumentError as error:
        raise TicketError(where, error.got, error.need) from error


def _activation(text: Any, construction: Layout) -> Activation:
    require(isinstance(text, str), "activation", repr(text), "the text form of an activation")
    activation = parse_activation(text)
    known = construction.any_activation or activation.name == "relu"
    require(known, "activation", text, f"relu with the construction {construction.name!r}")
    return activation


def _power_of_two(where: str, value: Any) -> float:
    fits = isinstance(value, float) and 2.0**-126 <= value <= 1.0 and math.frexp(value)[0] == 0.5
    require(fits, where, repr(value), "a power of 2 up to 1")
    return float(value)


def _law(where: str, stored: dict[str, Any]) -> Distribution:
    try:
        return from_json(stored)
    except ArgumentError as error:
        raise TicketError(where, error.got, error.need) from error


def _facts(entry: dict[str, Any]) -> LayerFacts:
    histogram = tuple(int(count) for count in entry["error_histogram"])
    require(len(histogram) == len(ERROR_EDGES) + 1, "error_histogram", str(len(histogram)), str(len(ERROR_EDGES) + 1))
    fits = min(histogram) >= 0 and sum(histogram) == entry["weights"]
    require(fits, "error_histogram", f"{sum(histogram)} weights", f"the layer's {entry['weights']!r}")
    for key in ("max_weight_error", "mean_weight_error"):
        require(0 <= entry[key] < math.inf, key, repr(entry[key]), "a number from 0")
    return LayerFacts(
        name=str(entry["name"]),
        input_sign=Sign(entry["input_sign"]),
        n_weights=int(entry["weights"]),
        missed=int(entry["missed"]),
        max_weight_error=float(entry["max_weight_error"]),
        mean_weight_error=float(entry["mean_weight_error"]),
        error_histogram=histogram,
        survivors_digest=sha256_text(entry["survivors_digest"]),
    )


def _mask(construction: str, source: SourceLayer, index: int, tensors: dict[str, NDArray[Any]]) -> Mask:
    start = f"layers.{index}."
    own = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
    try:
        return LAYOUTS[construction].mask_layout(source).read(source, own)
    except TicketError as error:
        raise TicketError(f"mask of layer {index}", error.got, error.need, error.remedy) from error


TICKETS = Format("slth-ticket", 1, _fields, Ticket.tensors, _ticket)
