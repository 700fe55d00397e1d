"""From traced calls to the graph and its weights; what is not covered is refused by name, before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from slth.errors import SlthError, UnsupportedError
from slth.network.calls import ITEM, WITH_INDICES, Call, Reference
from slth.network.constants import IDENTITIES, compute, constants
from slth.network.draft import Draft, Traced
from slth.network.fold import fold_scales
from slth.network.graph import INPUT
from slth.network.operators import FUNCTIONS, OPERATORS, Operator, WeightOperator
from slth.network.refusals import refuse_states
from slth.network.remedies import refuse
from slth.network.rules import RULES, SEVERAL_RULES
from slth.network.rules.tensors import SEVERAL
from slth.network.selection import Selection
from slth.network.target import Target

_BY_ATEN: dict[str, Operator] = {aten: operator for operator in OPERATORS.values() for aten in operator.aten}
_SHAPED = frozenset(aten for name in ("reshape", "pad") for aten in OPERATORS[name].aten)
KNOWN = frozenset(_BY_ATEN) | IDENTITIES | FUNCTIONS | {f"{name}_" for name in FUNCTIONS}
KNOWN |= RULES.keys() | SEVERAL_RULES.keys()
"""Operations that a network may hold, some of them with certain arguments alone."""


def lower(calls: Sequence[Call], traced: Traced, selection: Selection | None = None) -> Target:
    """The target that a traced network is.

    Parameters
    ----------
    calls : sequence of Call
        In the order of evaluation.
    traced : Traced
    selection : Selection, optional
        Which parameters are ticketed; all, without.

    Raises
    ------
    UnsupportedError
        For the first operation that is not covered, by name and with what to do instead.
    """
    draft = Draft(traced, selection or Selection())
    draft.read_items = _read_items(calls, traced.output_names)
    computed = constants(calls, traced)
    for call in calls:
        if call.op not in KNOWN and call.name not in computed:
            raise refuse(traced.places.get(call.name, call.name), call.op)
    refuse_states([call for call in calls if call.name not in computed], traced)
    for call in calls:
        if call.op == ITEM and call.arguments["index"] not in draft.read_items.get(call.arguments["self"].name, ()):
            continue
        call = replace(call, parameters=draft.parameters)
        try:
            if call.name in computed:
                compute(draft, call)
                continue
            if not call.shape and _several(draft, call):
                continue
            draft.values[call.name] = _node(draft, call)
        except SlthError:
            raise
        except ValueError as error:
            raise refuse(traced.places.get(call.name, call.name), call.op) from error
    graph = draft.finish(fold_scales(draft, _output(draft, calls)))
    return Target.build(graph, draft.weights_of(graph), draft.kept, draft.accounts(), draft.selection)


def _output(draft: Draft, calls: Sequence[Call]) -> str:
    """The node of the network's output, which joins several."""
    dtypes = {call.name: call.dtype for call in calls}
    nodes = []
    for name in draft.traced.output_names:
        where = f"output {name!r}"
        if name not in draft.values:
            got = "a tensor that does not depend on the input, or indices of maxima"
            raise UnsupportedError(where, got, "tensors computed from the input", "leaving it out of what is returned")
        node, dtype = draft.values[name], dtypes.get(name)
        if dtype is not None and dtype.is_complex:
            raise UnsupportedError(where, "complex numbers", "real ones", "torch.view_as_real before it is returned")
        if not draft.layouts[node].batched:
            got = f"a tensor of shape {draft.layouts[node].shape} without the batch axis in front"
            raise UnsupportedError(where, got, "one output for each input", "leaving it out of what is returned")
        nodes.append(node)
    if all(node == INPUT for node in nodes):
        raise UnsupportedError("network", "the input as its output", "an output that is computed", "another module")
    return nodes[0] if len(nodes) == 1 else draft.add("join", nodes, {}, draft.free_name("outputs"))


def _read_items(calls: Sequence[Call], outputs: Sequence[str]) -> dict[str, set[int]]:
    """For each call with several outputs the numbers of those that something reads."""
    read = {reference.name for call in calls for reference in call.references} | set(outputs)
    found: dict[str, set[int]] = {}
    for call in calls:
        if call.op == ITEM and call.name in read:
            found.setdefault(call.arguments["self"].name, set()).add(call.arguments["index"])
    return found


def _several(draft: Draft, call: Call) -> bool:
    """Take note of a call with several outputs; whether it is one."""
    rule = SEVERAL_RULES.get(call.op)
    made = None if rule is None else rule(draft, call)
    if made is not None:
        draft.outputs[call.name] = made
    elif call.op in SEVERAL:
        draft.several[call.name] = call
    return made is not None or call.op in SEVERAL


def _node(draft: Draft, call: Call) -> str:
    """The node that a call becomes: by its rule, as an operation of its own kind, or as a function that is kept."""
    rule = RULES.get(call.op)
    made = None if rule is None else rule(draft, call)
    if made is not None:
        return made
    if call.op in IDENTITIES:
        return draft.source(call.references[0])
    operator, plain = _BY_ATEN.get(call.op), call.op.rstrip("_") if call.op.endswith("_") else call.op
    if operator is not None and not isinstance(operator, WeightOperator) and len(call.tensors) == 1:
        try:
            made = _operation(draft, call, operator)
        except UnsupportedError:
            if plain not in FUNCTIONS:
                raise
    if made is None:
        floating = call.dtype is None or call.dtype.is_floating_point or call.dtype.is_complex
        made = draft.function(plain, call.name, call.arguments, 0 if plain in WITH_INDICES else -1, floating)
    if call.op.endswith("_") and not call.op.startswith("_"):
        # What is changed in place is read by its own name from then on.
        draft.values[call.references[0].name] = made
    return made


def _operation(draft: Draft, call: Call, operator: Operator) -> str:
    source = draft.source(Reference(call.tensors[0]))
    if not draft.layouts[source].batched and call.op in _SHAPED:
        raise UnsupportedError(call.name, f"{call.op} across the batch axis", "the batch axis first")
    attributes = operator.lower(call, draft.layouts[source].rest)
    name = operator.name if call.op in WITH_INDICES else call.name
    return draft.add(operator.name, [source], attributes, draft.free_name(name), floating=draft.floating[source])
