"""Users' own activations: registered by name in this process, recognised in files by the numbers that describe them.

A file never holds their code. It holds a :class:`Description`; whoever loads the file has registered the same function
before, under the same name, or the file is refused.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from slth.activations.base import OWN_ROUNDING, Activation
from slth.activations.registry import ACTIVATIONS, OWN
from slth.errors import ArgumentError, TicketError

if TYPE_CHECKING:
    import torch

NAME = r"[A-Za-z_][A-Za-z0-9_.-]{0,63}"
"""What a name may be: it stands in files, on command lines and in messages."""
POINTS = tuple(
    sign * x for x in (1e-6, 1e-3, 0.03125, 0.125, *(k / 4 for k in range(1, 33)), 20.0, 100.0) for sign in (-1, 1)
)
"""Where a function is sampled (chosen)."""
ERRORS = (1e-6, 1e-4, 1e-2, 1.0)
"""For which its reach is stored (chosen)."""
_CLOSE = 2.0**-36
"""Relative difference that another machine's elementary functions may make (chosen)."""

_MODULES: list[tuple[type, str]] = []
_HEX = r"-?(0x[01]\.[0-9a-f]{1,13}p[+-]\d{1,4}|inf)"


@dataclass(frozen=True)
class Description:
    """What a file says of a user's own activation.

    Attributes
    ----------
    name : str
    numbers : mapping of str to float
        ``m_plus``, ``m_minus``, ``d`` and ``lipschitz``.
    claims : tuple of str
        Of ``"nonnegative"`` and ``"keeps_sign"`` those that are claimed.
    reach : tuple of float
        a(eps) for :data:`ERRORS`.
    values : tuple of float
        phi at :data:`POINTS`.
    """

    name: str
    numbers: Mapping[str, float]
    claims: tuple[str, ...]
    reach: tuple[float, ...]
    values: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; numbers as hexadecimal float64."""
        return {
            "name": self.name,
            **{key: value.hex() for key, value in self.numbers.items()},
            "claims": list(self.claims),
            "reach": [value.hex() for value in self.reach],
            "values": [value.hex() for value in self.values],
        }

    @classmethod
    def from_json(cls, value: Any) -> Description:
        """Read one that may come from anybody.

        Raises
        ------
        TicketError
            If it is not one.
        """
        keys = {"name", *_NUMBERS, "claims", "reach", "values"}
        fits = isinstance(value, dict) and set(value) == keys
        fits = fits and isinstance(value["name"], str) and re.fullmatch(NAME, value["name"]) is not None
        fits = fits and value["name"] not in ACTIVATIONS and value["claims"] in _CLAIMS
        lists = [value["reach"], value["values"]] if fits else []
        fits = fits and all(isinstance(each, list) for each in lists)
        fits = fits and [len(each) for each in lists] == [len(ERRORS), len(POINTS)]
        texts = [*(value[key] for key in _NUMBERS), *lists[0], *lists[1]] if fits else []
        if not fits or not all(isinstance(text, str) and re.fullmatch(_HEX, text) for text in texts):
            raise TicketError("own_activations", "a malformed entry", "the fields of docs/format.md")
        return cls(
            value["name"],
            {key: float.fromhex(value[key]) for key in _NUMBERS},
            tuple(value["claims"]),
            tuple(map(float.fromhex, value["reach"])),
            tuple(map(float.fromhex, value["values"])),
        )

    def difference(self, other: Description) -> str:
        """The first thing in which ``other`` differs, in words: its own value, and this one's; empty if none."""
        for key, ours in self.numbers.items():
            if other.numbers[key] != ours:
                return f"{key} {other.numbers[key]!r} instead of {ours!r}"
        if self.claims != other.claims:
            return f"the claims {', '.join(other.claims) or 'none'} instead of {', '.join(self.claims) or 'none'}"
        places = [(f"reach({eps:g})", 0.0) for eps in ERRORS] + [(f"phi({x:g})", abs(x)) for x in POINTS]
        for (place, x), ours, theirs in zip(
            places, (*self.reach, *self.values), (*other.reach, *other.values), strict=True
        ):
            room = _CLOSE * (abs(ours) + self.numbers["lipschitz"] * x + (1.0 if x else 0.0))
            if ours != theirs and not abs(ours - theirs) <= room:
                return f"{place} = {theirs!r} instead of {ours!r}"
        return ""


_NUMBERS = ("m_plus", "m_minus", "d", "lipschitz")
_CLAIMS: tuple[list[str], ...] = ([], ["nonnegative"], ["keeps_sign"], ["nonnegative", "keeps_sign"])


def describe(activation: Activation) -> Description:
    """The numbers by which a file describes an activation."""
    values = activation.value(np.array(POINTS))
    return Description(
        activation.name,
        {key: float(getattr(activation, key)) for key in _NUMBERS},
        tuple(claim for claim in ("nonnegative", "keeps_sign") if getattr(activation, claim)),
        tuple(float(activation.reach(eps)) for eps in ERRORS),
        tuple(map(float, values)),
    )


def register(
    activation: Activation, *, module: type[torch.nn.Module] | torch.nn.Module | None = None, again: bool = False
) -> Activation:
    """Make an activation known by its name in this process: to files, to text arguments and to traced networks.

    Parameters
    ----------
    activation : Activation
        Of :meth:`Activation.custom`.
    module : class of torch modules, or a torch module, optional
        Instances of the class (or of the module's class) in a target network count as this activation where they
        compute the same. It is also what a ticket's own modules use, if the activation came without one.
    again : bool
        Replace another activation of that name.

    Returns
    -------
    Activation
        As it is known from now on.

    Raises
    ------
    ArgumentError
        If the name is taken, or is not made of letters, digits and ``_.-``; or the module computes something else.

    Examples
    --------
    >>> import math, numpy as np, torch
    >>> softsign = Activation.custom(
    ...     "softsign", lambda x: x / (1 + np.abs(x)), 1, 1, 0, lambda eps: math.sqrt(eps), 1, keeps_sign=True
    ... )
    >>> register(softsign, module=torch.nn.Softsign).name
    'softsign'
    """
    where = f"activation {activation.name!r}"
    if re.fullmatch(NAME, activation.name) is None or activation.name in ("then", "own"):
        need = "a letter, then letters, digits and _.- (64 characters at most)"
        raise ArgumentError(where, "a name that cannot stand in a file", need, "softsign")
    if activation.proved or activation.name in ACTIVATIONS:
        raise ArgumentError(where, "one that slth has, or several in a row", "one of Activation.custom")
    known = OWN.get(activation.name)
    if known is not None and not again:
        differs = describe(known).difference(describe(activation))
        if differs:
            remedy = "another name, or slth.activations.register(..., again=True)"
            raise ArgumentError(where, differs, "what is registered under this name already", remedy)
    if activation.module is None and module is not None:
        activation = replace(activation, module=_maker(module))
    for made in (activation.module, None if module is None else _maker(module)):
        if made is not None:
            check_module(activation, _made(where, made), where)
    OWN[activation.name] = activation
    if again:
        _MODULES[:] = [(kind, name) for kind, name in _MODULES if name != activation.name]
    kind = module if isinstance(module, type) else type(module)
    if module is not None and (kind, activation.name) not in _MODULES:
        _MODULES.append((kind, activation.name))
    return activation


def forget(name: str) -> None:
    """Undo :func:`register`; nothing happens if there is none of that name."""
    OWN.pop(name, None)
    _MODULES[:] = [(kind, known) for kind, known in _MODULES if known != name]


def named(name: str) -> Activation:
    """The activation that is registered under a name.

    Raises
    ------
    ArgumentError
        If there is none.
    """
    if name not in OWN:
        raise ArgumentError(f"activation {name!r}", _MISSING, _NEED, _REMEDY)
    return OWN[name]


_MISSING = "no activation registered under this name"
_NEED = "the user's own activation that the ticket was made with"
_REMEDY = "slth.activations.register(...) first, or --import FILE.py (or package.module) on the command line"


def recall(stored: Description) -> Activation:
    """The registered activation that a file describes.

    Raises
    ------
    TicketError
        If there is none of that name, or it has other numbers.
    """
    where = f"activation {stored.name!r}"
    if stored.name not in OWN:
        raise TicketError(where, _MISSING, _NEED, _REMEDY)
    differs = stored.difference(describe(OWN[stored.name]))
    if differs:
        raise TicketError(where, f"one registered with {differs}", _NEED, "registering that one under this name")
    return OWN[stored.name]


def storable(activation: Activation) -> Description:
    """What a file says of a user's own activation.

    Raises
    ------
    ArgumentError
        If it is not registered, or another one is under its name: the file could not be loaded.
    """
    where = f"activation {activation.name!r}"
    if activation.name not in OWN:
        raise ArgumentError(where, _MISSING, "a registered one, for a file", "slth.activations.register(...)")
    own = describe(activation)
    differs = own.difference(describe(OWN[activation.name]))
    if differs:
        raise ArgumentError(where, f"one registered with {differs}", "the same one, for a file", "another name")
    return own


def of_module(module: torch.nn.Module, where: str) -> Activation | None:
    """The activation that a module of a target network is registered as; None if its class is not registered.

    Raises
    ------
    ArgumentError
        If the class is registered, but the instance computes something else.
    """
    names = [name for kind, name in _MODULES if type(module) is kind]
    for name in names:
        try:
            check_module(OWN[name], module, where)
        except ArgumentError:
            if name == names[-1]:
                raise
        else:
            return OWN[name]
    return None


def check_module(activation: Activation, module: torch.nn.Module, where: str) -> None:
    """Compare a module with an activation at :data:`POINTS`, entry by entry in an array of two axes.

    Raises
    ------
    ArgumentError
        At the first point where they differ.
    """
    import torch

    points = torch.tensor(POINTS, dtype=torch.float64).reshape(4, -1)
    training = module.training
    doubled = copy.deepcopy(module).double().eval()
    module.train(training)
    try:
        with torch.no_grad():
            given = doubled(points.clone())
        fits = isinstance(given, torch.Tensor) and given.shape == points.shape and given.dtype == points.dtype
        values = given.numpy().ravel() if fits else np.zeros(0)
    except Exception as error:
        raise ArgumentError(
            where, f"{type(error).__name__} from its module ({error})", "a module of one input"
        ) from error
    if not fits:
        got = f"{tuple(given.shape)}" if isinstance(given, torch.Tensor) else type(given).__name__
        raise ArgumentError(where, f"a module that gives {got} for {tuple(points.shape)}", "entry by entry, in float64")
    wanted = activation.value(np.array(POINTS))
    room = OWN_ROUNDING * (1 + np.abs(wanted) + activation.lipschitz * np.abs(POINTS))
    wrong = np.flatnonzero(~(np.abs(values - wanted) <= room))
    if len(wrong):
        k = int(wrong[0])
        got = f"{values[k]:.9g} at {POINTS[k]:g} from its module"
        raise ArgumentError(where, got, f"{wanted[k]:.9g}, as the function {activation.name!r} gives")


def _maker(module: type[torch.nn.Module] | torch.nn.Module) -> Callable[[], Any]:
    return module if isinstance(module, type) else lambda: copy.deepcopy(module)


def _made(where: str, maker: Callable[[], Any]) -> torch.nn.Module:
    import torch

    try:
        made = maker()
    except Exception as error:
        need = "a module class without arguments, or a module"
        raise ArgumentError(
            where, f"{type(error).__name__} from its module ({error})", need, "module=MyModule(0.1)"
        ) from error
    if not isinstance(made, torch.nn.Module):
        raise ArgumentError(where, f"a module of type {type(made).__name__}", "a torch.nn.Module")
    return made
