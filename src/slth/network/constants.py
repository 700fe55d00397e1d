"""What a network computes from its parameters alone, which is computed once, when it is read."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch

from slth.network.calls import ITEM, Call, Reference
from slth.network.draft import Draft, Traced
from slth.network.guesses import may_go_by_batch
from slth.network.operators import FUNCTIONS

IDENTITIES = frozenset(
    {"dropout", "dropout_", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout", "detach"}
    | {"detach_", "alias", "contiguous", "clone", "lift_fresh_copy", "_to_copy", "to"}
)
"""Calls that give back their input when the network is not in training."""

_MATRICES = "vdot inner mH matrix_exp linalg_matrix_exp linalg_householder_product linalg_solve linalg_solve_triangular"
_MATRICES += (
    " linalg_inv linalg_inv_ex linalg_qr linalg_svd linalg_cholesky linalg_cholesky_ex linalg_multi_dot linalg_norm"
)
_MATRICES += " linalg_matrix_norm linalg_matrix_power linalg_diagonal linalg_det frobenius_norm trace diag block_diag"
_WINDOWS = "hann_window hamming_window blackman_window bartlett_window kaiser_window logspace tril_indices triu_indices"
COMPUTED = FUNCTIONS | IDENTITIES | frozenset(f"_weight_norm _weight_norm_interface {_MATRICES} {_WINDOWS}".split())
"""Operations that are computed on constants whoever says so; a file may ask for no others."""

_LAYERS = frozenset(
    {"linear", "embedding", "layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm", "convolution"}
) | {f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)}


def constants(calls: Sequence[Call], traced: Traced) -> frozenset[str]:
    """Names of the calls that depend on parameters alone and can be computed.

    Not what goes by the batch's size, nor a trained layer on constants, which is ticketed as such.
    """
    trained: dict[str, bool] = {name: name in traced.trained for name in traced.parameters}
    found = set()
    for call in calls:
        names = [reference.name for reference in call.references]
        if not all(name in trained for name in names):
            continue
        is_trained = any(trained[name] for name in names)
        own = call.arguments.get("weight")
        layer = call.op in _LAYERS and isinstance(own, Reference) and trained[own.name]
        # By statistics of its own a normalisation of weights is part of how they are parametrised.
        layer = layer and not (call.op == "batch_norm" and call.arguments.get("running_mean") is None)
        known = call.op == ITEM or (_computable(call.op, traced.in_memory) and not layer)
        guess = traced.static_batch > 0 and may_go_by_batch(call, traced.static_batch)
        if known and not guess and not _goes_by_batch(list(call.arguments.values()), traced.batch):
            trained[call.name] = is_trained
            found.add(call.name)
    return frozenset(found)


def compute(draft: Draft, call: Call) -> None:
    """Compute a call of which :func:`constants` says that it can be; later ones find it among the parameters.

    Raises
    ------
    ValueError
        If torch refuses.
    """
    if call.op == ITEM:
        several, origins = draft.computed[call.arguments["self"].name]
        value: Any = several[call.arguments["index"]]
    else:
        arguments = {key: _known(draft, entry) for key, entry in call.arguments.items() if key != "device"}
        if _in_place(call.op):
            arguments = _own(draft, call, arguments)
        try:
            with torch.no_grad():
                value = getattr(torch.ops.aten, call.op)(**arguments)
        except (RuntimeError, TypeError, NotImplementedError) as error:
            raise ValueError(str(error)) from error
        origins = frozenset().union(*(draft.origins[reference.name] for reference in call.references))
    if isinstance(value, torch.Tensor):
        draft.parameters[call.name], draft.origins[call.name] = value, origins
    else:
        draft.computed[call.name] = value, origins


def _own(draft: Draft, call: Call, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a call that changes its first one, which must not be a tensor of the user's module."""
    key, first = next((key, entry) for key, entry in call.arguments.items() if isinstance(entry, Reference))
    place = draft.parameters[first.name].untyped_storage().data_ptr()
    if any(tensor.untyped_storage().data_ptr() == place for tensor in draft.traced.parameters.values()):
        draft.parameters[first.name] = draft.parameters[first.name].clone()
    draft.origins[first.name] = draft.origins[first.name].union(*(draft.origins[r.name] for r in call.references))
    return {**arguments, key: draft.parameters[first.name]}


def _in_place(op: str) -> bool:
    return op.endswith("_") and not op.startswith("_")


def _computable(op: str, in_memory: bool) -> bool:
    plain = op.rstrip("_") if _in_place(op) else op
    return plain in COMPUTED or (in_memory and _is_pure(op))


@functools.cache
def _is_pure(op: str) -> bool:
    """Whether it is torch's own, gives the same each time, and changes at most its first argument."""
    packet = getattr(torch.ops.aten, op, None)
    if packet is None:
        return False
    overloads = [getattr(packet, name) for name in packet.overloads() if "out" not in name]
    if any(torch.Tag.nondeterministic_seeded in overload.tags for overload in overloads):
        return False
    changed = [argument for overload in overloads for argument in overload._schema.arguments[1:] if argument.is_write]
    return bool(overloads) and not changed and (_in_place(op) or not any(o._schema.is_mutable for o in overloads))


def _goes_by_batch(value: Any, batch: int) -> bool:
    if isinstance(value, list | tuple):
        return any(_goes_by_batch(entry, batch) for entry in value)
    return type(value) is int and value != 0 and batch > 0 and value % batch == 0


def _known(draft: Draft, value: Any) -> Any:
    if isinstance(value, Reference):
        return draft.parameters[value.name]
    return [_known(draft, entry) for entry in value] if isinstance(value, list | tuple) else value
