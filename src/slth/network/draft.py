"""A network while it is being read: nodes and weights so far, and what became of every parameter."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from slth.errors import UnsupportedError
from slth.network.accounts import FOLDED, KEPT, SHARED, TICKETED, UNUSED, Account
from slth.network.calls import Call, Reference
from slth.network.graph import INPUT, Graph, Layout, Node
from slth.network.guesses import guessed
from slth.network.operators import FUNCTIONS, OPERATORS
from slth.network.operators.function import batch_rule
from slth.network.selection import Selection

_DROPPED = frozenset({"layout", "device", "pin_memory", "memory_format", "non_blocking", "copy"})
"""Arguments that say where numbers lie, not what they are."""


@dataclass(frozen=True)
class Value:
    """A node, as an argument."""

    node: str


@dataclass(frozen=True)
class Traced:
    """What a trace says of a network beside its calls.

    Attributes
    ----------
    input_name, output_names : str, sequence of str
        Names of the traced values.
    input_shape : tuple of int
        Of one input, without the batch axis.
    names : mapping of str to str
        Parameters, buffers and constants: their names in the target's own state dict, by traced name.
    places : mapping of str to str
        Where each call is made, for messages.
    parameters : mapping of str to tensor
        By traced name.
    trained : set of str
        Traced names of those that are parameters, not buffers or constants.
    input_is_real : bool
        Whether inputs are real numbers, not whole ones.
    batch : int
        Size of the traced batch, of which no other size is a multiple; 0 where it is not so.
    static_batch : int
        Size of the batch for which the calls are written, where it is not told which sizes among their arguments go by
        it; 0 where it is.
    fixed_batch : int
        Size of the only batch that the calls are for; 0 for any.
    in_memory : bool
        Whether it is of a module in memory, not of a file that may come from anybody.
    """

    input_name: str
    output_names: Sequence[str]
    input_shape: tuple[int, ...]
    names: Mapping[str, str]
    places: Mapping[str, str]
    parameters: Mapping[str, torch.Tensor]
    trained: frozenset[str]
    input_is_real: bool = True
    batch: int = 0
    static_batch: int = 0
    fixed_batch: int = 0
    in_memory: bool = False


@dataclass
class Weights:
    """Weight and bias of a layer, laid out as its core has them, and the parameters (full names) that are in them."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    origins: set[str] = field(default_factory=set)
    folded: set[str] = field(default_factory=set)
    key: tuple[Any, ...] = ()
    movable: bool = False
    """Whether it scales entries and may be multiplied into a layer beside it (a normalisation's)."""


class Draft:
    """Nodes and weights so far.

    Parameters
    ----------
    traced : Traced
    selection : Selection
    """

    def __init__(self, traced: Traced, selection: Selection) -> None:
        self.traced, self.selection = traced, selection
        self.parameters = dict(traced.parameters)
        self.origins: dict[str, frozenset[str]] = {
            name: frozenset([traced.names.get(name, name)] if name in traced.trained else [])
            for name in self.parameters
        }
        self.nodes: dict[str, Node] = {}
        self.layouts = {INPUT: Layout(traced.input_shape, only=traced.fixed_batch)}
        self.values = {traced.input_name: INPUT}
        self.floating = {INPUT: traced.input_is_real}
        self.weights: dict[str, Weights] = {}
        self.kept: dict[str, torch.Tensor] = {}
        self.reasons: dict[str, dict[str, str]] = {}
        self.several: dict[str, Call] = {}
        self.outputs: dict[str, Sequence[str]] = {}
        self.read_items: Mapping[str, set[int]] = {}
        self.computed: dict[str, tuple[Sequence[torch.Tensor], frozenset[str]]] = {}
        self._constants: dict[str, str] = {}
        self._full = full = set(map(_unparametrised, traced.names.values()))
        self.tied = _tied(traced)
        selection.check(name for names in self.tied.values() for name in names)
        self._paths = {name.rsplit(".", n)[0] for name in full for n in range(name.count(".") + 1)}
        self._inside = {name.rsplit(".", n)[0] for name in full for n in range(2, name.count(".") + 1)}

    # Names

    def free_name(self, name: str) -> str:
        """A name that no other node and no module of the target has."""
        name = name.replace(".", "_") or "node"
        while name in self.nodes or name in self._paths or name == INPUT:
            name += "_"
        return name

    def layer_name(self, parameter: str, call: str) -> str:
        """What a weight layer is called: by the path of the module that owns its weight, or like the call."""
        full = self.traced.names.get(parameter, "") or next(iter(sorted(self.origins.get(parameter, ()))), "")
        full = _unparametrised(full)
        module, _, last = full.rpartition(".")
        if last in ("weight", "weight_v", "weight_g", "weight_orig"):
            # The network itself may be a layer, without a path.
            path, full = module, full if module else ""
        elif any(f"{module}.{other}" in self._full for other in ("weight", "weight_orig", "weight_v")):
            # That module's own path may be the name of a layer, which no other name may begin with.
            path = ""
        else:
            path = full.removesuffix("_weight")
        if path and (path in self._inside or not all(path.split("."))):
            path = f"{full}_" if full else ""
        if not path or path in self.nodes:
            path = self.free_name(full if not path and full else call)
        return path

    # Reading

    def wants(self, parameter: str) -> bool:
        """Whether a parameter (or what is computed from parameters), by its traced name, is to be ticketed."""
        tensor, origins = self.parameters[parameter], self.origins[parameter]
        return bool(origins) and tensor.is_floating_point() and all(map(self._selected, origins))

    def _selected(self, name: str) -> bool:
        return self.selection.wants(*self.tied.get(name, (name,)))

    def source(self, reference: Reference | Value) -> str:
        """The node of a value, parameters made nodes where needed."""
        if isinstance(reference, Value):
            return reference.node
        if reference.name in self.parameters:
            return self.constant(reference.name)
        if reference.name not in self.values:
            place = self.traced.places.get(reference.name, reference.name)
            raise UnsupportedError(place, "a value that is not a tensor of the network", "tensors", "another operation")
        return self.values[reference.name]

    def constant(self, parameter: str) -> str:
        """The node of a parameter that is used as it is: ticketed if it is trained and wanted, else kept."""
        if parameter in self._constants:
            return self._constants[parameter]
        tensor, origins = self.parameters[parameter].detach(), self.origins[parameter]
        tensor = tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
        if tensor.is_complex():
            # Files hold real numbers; those of a complex tensor may be trained, too.
            parts = f"{parameter}_parts"
            self.parameters[parts] = torch.view_as_real(tensor.resolve_conj()).contiguous()
            self.origins[parts] = origins
            node = self.function("view_as_complex", f"{parameter}_complex", {"self": Value(self.constant(parts))})
        elif self.wants(parameter) and tensor.numel():
            shape = tuple(tensor.shape)
            attributes = {"weight_shape": (tensor.numel(), 1), "bias": False, "shape": shape}
            node = self.weigh(
                "parameter", (), attributes, tensor.reshape(-1, 1), None, [parameter], parameter, "constant"
            )
        else:
            node = self.free_name(self.traced.names.get(parameter, parameter))
            dtype = str(tensor.dtype).removeprefix("torch.")
            self.add("kept", (), {"shape": tuple(tensor.shape), "dtype": dtype}, node)
            self.kept[node] = tensor
            self.floating[node] = tensor.is_floating_point()
            self.reasons[node] = self._reasons(tensor, origins)
        self._constants[parameter] = node
        return node

    def _reasons(self, tensor: torch.Tensor, origins: frozenset[str]) -> dict[str, str]:
        """Why parameters that are in a tensor are kept, by their names."""
        if not tensor.is_floating_point():
            return dict.fromkeys(origins, f"{tensor.dtype} numbers".removeprefix("torch."))
        excluded = sorted(name for name in origins if not self._selected(name))
        others = f"computed with {', '.join(excluded)}, which is excluded" if excluded else "empty"
        return {name: "excluded" if name in excluded else others for name in origins}

    # Writing

    def add(
        self,
        op: str,
        sources: Sequence[str],
        attributes: Mapping[str, Any],
        name: str,
        layer: str = "",
        floating: bool = True,
    ) -> str:
        """A node of that very name.

        Raises
        ------
        UnsupportedError
            If the operation does not fit what it reads.
        """
        try:
            layout = OPERATORS[op].layout(attributes, [self.layouts[source] for source in sources])
        except (ValueError, RuntimeError) as error:
            raise UnsupportedError(f"layer {name!r}", f"{error}", "layers that keep the batch axis first") from error
        self.nodes[name] = Node(name, op, tuple(sources), attributes, layout.shape, layout.batched, layer)
        self.layouts[name], self.floating[name] = replace(layout, only=self.traced.fixed_batch), floating
        return name

    def weigh(
        self,
        op: str,
        sources: Sequence[str],
        attributes: Mapping[str, Any],
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        parameters: Sequence[str],
        call: str,
        role: str = "",
        movable: bool = False,
    ) -> str:
        """A weight layer, or another use of one that has the same weights in the same role; returns the node.

        Parameters
        ----------
        weight, bias : tensors
            Laid out as the operation's core has them.
        parameters : sequence of str
            Traced names of the parameters that they are, the weight's first.
        role : str
            How the weight is used, where the operation does not say it.
        """
        key = (op, role, tuple(parameters), tuple(attributes["weight_shape"]), attributes.get("groups", 1))
        first = next((name for name, own in self.weights.items() if own.key == key), "")
        if first:
            return self.add(op, sources, attributes, self.free_name(call), layer=first)
        name = self.layer_name(parameters[0], call)
        self.add(op, sources, attributes, name)
        origins = {origin for parameter in parameters for origin in self.origins[parameter]}
        self.weights[name] = Weights(
            weight.detach(), None if bias is None else bias.detach(), origins, set(), key, movable
        )
        return name

    def function(
        self, function: str, name: str, arguments: Mapping[str, Any], output: int = -1, floating: bool = True
    ) -> str:
        """A call of a torch operation that is kept as it is; arguments hold :class:`Reference` and :class:`Value`.

        Raises
        ------
        UnsupportedError
            If it is not among :data:`slth.network.operators.FUNCTIONS`.
        """
        sources: list[str] = []
        if function in ("view", "_unsafe_view") and "size" in arguments:
            # In another order of evaluation a tensor may lie otherwise in memory.
            function, arguments = "reshape", {"self": arguments["self"], "shape": arguments["size"]}
        own = {key: self._argument(value, sources) for key, value in arguments.items() if key not in _DROPPED}
        if self.traced.static_batch:
            own = guessed(function, own, [self.layouts[source] for source in sources], self.traced.static_batch)
        batch: tuple[int, ...] = ()
        if _asks_batch(own):
            batch = batch_rule([self.layouts[source] for source in sources])
            if not batch:
                sources.append(INPUT)
                batch = (len(sources) - 1, 0, 1)
        if function not in FUNCTIONS:
            raise ValueError(function)
        attributes = {"function": function, "arguments": own, "output": output, "batch": batch}
        return self.add("function", sources, attributes, self.free_name(name), floating=floating)

    def _argument(self, value: Any, sources: list[str]) -> Any:
        if isinstance(value, Reference | Value):
            node = self.source(value)
            if node not in sources:
                sources.append(node)
            return {"source": sources.index(node)}
        if isinstance(value, list | tuple):
            return tuple(self._argument(entry, sources) for entry in value)
        if isinstance(value, torch.dtype):
            return {"dtype": "float" if value in (torch.float32, torch.float64) else str(value).removeprefix("torch.")}
        if isinstance(value, float) and math.isinf(value):
            return {"number": "inf" if value > 0 else "-inf"}
        if type(value) is int and value and self.traced.batch and value % self.traced.batch == 0:
            return {"batch": value // self.traced.batch}
        return value

    # Ending

    def finish(self, output: str) -> Graph:
        """The graph of what the output depends on, which comes last; weights and kept tensors of other nodes go."""
        needed, stack = set(), [output]
        while stack:
            name = stack.pop()
            if name not in needed and name != INPUT:
                needed.add(name)
                stack += [*self.nodes[name].sources, *([self.nodes[name].layer] if self.nodes[name].layer else [])]
        # A layer whose first use is not needed for the output is still the one that others share.
        nodes = [node for name, node in self.nodes.items() if name in needed and name != output]
        if output in self.nodes:
            nodes.append(self.nodes[output])
        self.weights = {name: own for name, own in self.weights.items() if name in needed}
        self.kept = {name: own for name, own in self.kept.items() if name in needed}
        tables = [
            node.attributes["weight_shape"][1] for node in nodes if node.op == "embedding" and node.source == INPUT
        ]
        classes = 0 if self.traced.input_is_real else min(tables, default=2)
        return Graph(self.traced.input_shape, tuple(nodes), classes, self.traced.fixed_batch)

    def weights_of(self, graph: Graph) -> dict[str, tuple[torch.Tensor, torch.Tensor | None]]:
        """Weight and bias of each weight layer of a graph."""
        return {node.name: (self.weights[node.name].weight, self.weights[node.name].bias) for node in graph.weighted}

    def accounts(self) -> tuple[Account, ...]:
        """What became of every parameter, in the order of the state dict."""
        ticketed, folded = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
        for name, own in self.weights.items():
            for origin in own.origins:
                ticketed[origin].append(name)
            for origin in own.folded:
                folded[origin].append(name)
        kept = {origin: why for node in self.kept for origin, why in self.reasons.get(node, {}).items()}
        entries = []
        for traced in [name for name in self.traced.parameters if name in self.traced.trained]:
            full, n = self.traced.names.get(traced, traced), self.traced.parameters[traced].numel()
            if full in kept:
                entries.append(Account(full, n, KEPT, kept[full]))
            elif full in ticketed:
                entries.append(Account(full, n, TICKETED, ", ".join(ticketed[full])))
            elif full in folded:
                entries.append(Account(full, n, FOLDED, ", ".join(folded[full])))
            else:
                entries.append(Account(full, n, UNUSED))
        return self._shared(entries)

    def _shared(self, entries: Sequence[Account]) -> tuple[Account, ...]:
        """Each tensor accounted for once, where modules share it: under the name that the trace has for it."""
        found = {entry.name: entry for entry in entries}
        made = []
        for entry in entries:
            alike = [found[name] for name in self.tied.get(entry.name, ()) if name in found]
            first = next((other for other in alike if other.state != UNUSED), (alike or [entry])[0])
            made.append(entry if entry.name == first.name else Account(entry.name, entry.n, SHARED, first.name))
        return tuple(made)


def _tied(traced: Traced) -> dict[str, tuple[str, ...]]:
    """All names of each parameter, by each of them: more than one where modules share it."""
    groups = defaultdict[Any, list[str]](list)
    for name in sorted(traced.trained):
        tensor = traced.parameters[name]
        place = tensor.data_ptr() if tensor.device.type != "meta" and tensor.numel() else id(tensor)
        groups[place, tensor.shape, tensor.stride()].append(traced.names.get(name, name))
    return {name: tuple(sorted(names)) for names in groups.values() for name in names}


def _unparametrised(name: str) -> str:
    """A parameter as it is called without a parametrisation: a.weight for a.parametrizations.weight.original0."""
    module, found, own = name.rpartition("parametrizations.")
    return f"{module}{own.partition('.')[0]}" if found else name


def _asks_batch(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "batch" in value or any(
            _asks_batch(entry) for entry in value.values() if not isinstance(entry, int | str)
        )
    return isinstance(value, tuple) and any(map(_asks_batch, value))
