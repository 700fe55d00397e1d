"""A network as a folder: architecture in ``config.json``, weights in ``model.safetensors``; no ticket is needed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from slth.errors import ExportError, SlthError
from slth.network.graph import Graph, Node
from slth.network.module import Network
from slth.network.operators import WEIGHT_OPERATORS
from slth.runtime import TwoBranches

DTYPES = {"float32": torch.float32, "float64": torch.float64}
FORMAT, VERSION = "slth-network", 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def folder_contents(network: Network, about: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a folder by their names; the description comes last.

    Parameters
    ----------
    network : Network
        Of the folded form.
    about : mapping
        What else the description says, ``dtype`` at least.
    """
    from safetensors.torch import save

    state = network.state_dict()
    unique: dict[int, str] = {}
    for key, value in state.items():
        unique.setdefault(value.data_ptr() if value.numel() else -len(unique) - 1, key)
    tensors = {key: state[key].detach().contiguous() for key in unique.values()}
    weights = save(tensors, metadata={"format": "pt"})
    graph = network._graph
    config = {
        "format": FORMAT,
        "format_version": VERSION,
        **about,
        "input_shape": list(graph.input_shape),
        "graph": graph.to_json(),
        "layers": {node.name: _kind(network, node) for node in graph.weighted},
        "weights_digest": hashlib.sha256(weights).hexdigest(),
    }
    return {WEIGHTS: weights, CONFIG: json.dumps(config, indent=1, sort_keys=True).encode()}


def _kind(network: Network, node: Node) -> dict[str, bool]:
    """What a weight layer is made of, which the graph does not say."""
    layer = network.get_submodule(network._paths[node.name])
    two = any(isinstance(module, TwoBranches) for module in layer.modules())
    return {"two_branches": two, "bias": any(name.endswith("bias") for name, _ in layer.named_parameters())}


def from_pretrained(folder: str | Path) -> torch.nn.Module:
    """The network in a folder that :func:`export` wrote, in evaluation mode; no ticket and no pickle is needed.

    Raises
    ------
    ExportError
        If a file is missing or damaged, or they do not belong together.
    """
    folder = Path(folder)
    contents = {}
    for name in (CONFIG, WEIGHTS):
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as error:
            got = f"no file that can be read ({error.strerror})"
            raise ExportError(str(folder / name), got, "a folder written by slth export") from error
    need = "the file as slth export wrote it"
    try:
        config = json.loads(contents[CONFIG])
        if not isinstance(config, dict) or config.get("format") != FORMAT or config.get("format_version") != VERSION:
            raise ValueError(f"no {FORMAT} of version {VERSION}")
    except (ValueError, RecursionError) as error:
        raise ExportError(str(folder / CONFIG), f"a file that is none of slth's ({error})", need) from error
    if hashlib.sha256(contents[WEIGHTS]).hexdigest() != config.get("weights_digest"):
        raise ExportError(str(folder / WEIGHTS), f"other bytes than {CONFIG} says", need, "exporting again")
    try:
        return rebuilt(str(folder), config, contents[WEIGHTS])
    except SlthError as error:
        if isinstance(error, ExportError):
            raise
        raise ExportError(f"{folder}, {error.where}", error.got, error.need) from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(str(folder), f"parts that do not fit together ({reason})", need, "exporting again") from error


def rebuilt(where: str, config: Mapping[str, Any], weights: bytes) -> Network:
    """The network from its description and its tensors."""
    from safetensors.torch import load

    graph, layers, dtype = Graph.from_json(config["graph"]), config["layers"], DTYPES[config["dtype"]]
    state = load(weights)
    n_entries = sum(tensor.numel() for tensor in state.values())
    claimed = [math.prod(node.attributes["weight_shape"]) for node in graph.weighted]
    claimed += [math.prod(node.attributes["shape"]) for node in graph if node.op == "kept"]
    if sum(claimed) > n_entries:
        raise ExportError(where, f"{n_entries:,} numbers for layers of {sum(claimed):,}", "numbers for all layers")

    def build(node: Node) -> torch.nn.Module:
        own = layers[node.name]

        def plain(bias: bool) -> torch.nn.Module:
            return WEIGHT_OPERATORS[node.op].module({**node.attributes, "bias": bias}).to(dtype)

        return TwoBranches(plain(own["bias"]), plain(False)) if own["two_branches"] else plain(own["bias"])

    kept = {node.name: _empty(node) for node in graph if node.op == "kept"}
    network = Network(graph, build, kept, dtype).eval()
    own = network.state_dict()
    there = {own[key].data_ptr() for key in state if key in own}
    missing = {key for key, tensor in own.items() if tensor.numel() and tensor.data_ptr() not in there}
    odd = sorted((missing - state.keys()) | (state.keys() - own.keys()))
    if odd:
        raise ExportError(where, f"tensors of another network ({odd[0]!r})", "those of the graph")
    network.load_state_dict(state, strict=False)
    return network


def _empty(node: Node) -> torch.Tensor:
    return torch.empty(node.attributes["shape"], dtype=getattr(torch, node.attributes["dtype"]))
