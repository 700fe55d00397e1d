"""Modules of a target that are registered as activations, kept whole while the network is traced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from slth.activations.own import named, of_module
from slth.errors import ArgumentError, UnsupportedError
from slth.network.operators.activation import OWN_CALL

_SPACE = "slth"
_LIBRARY: list[torch.library.Library] = []


@contextlib.contextmanager
def own_activations_whole(model: torch.nn.Module) -> Iterator[None]:
    """Within it, registered modules of a network are calls of :data:`OWN_CALL`; the model is left as it was.

    Raises
    ------
    UnsupportedError
        If a module of a registered class computes something else than what it is registered as.
    """
    found = {}
    for path, module in model.named_modules():
        try:
            activation = of_module(module, f"layer {path!r} ({type(module).__name__})")
        except ArgumentError as error:
            remedy = "registering this instance, slth.activations.register(..., module=MyModule(0.1))"
            raise UnsupportedError(error.where, error.got, error.need, remedy) from error
        if activation is not None:
            found[module] = activation.name
    if found:
        _define()
    before = {module: module.__dict__.get("forward") for module in found}
    try:
        for module, name in found.items():
            module.forward = _call(name)
        yield
    finally:
        for module, forward in before.items():
            del module.forward
            if forward is not None:
                module.forward = forward


def _call(name: str) -> object:
    def forward(x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = getattr(getattr(torch.ops, _SPACE), OWN_CALL)(x, name)
        return result

    return forward


def _define() -> None:
    """Tell torch of the operation, once."""
    if _LIBRARY:
        return
    library = torch.library.Library(_SPACE, "FRAGMENT")
    library.define(f"{OWN_CALL}(Tensor x, str name) -> Tensor")
    library.impl(OWN_CALL, lambda x, name: torch.empty_like(x), "Meta")
    library.impl(OWN_CALL, _evaluate, "CPU")
    _LIBRARY.append(library)


def _evaluate(x: torch.Tensor, name: str) -> torch.Tensor:
    return torch.from_numpy(named(name).value(x.detach().double().numpy())).to(x.dtype)
