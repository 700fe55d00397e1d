"""Domains read from the plain values that they were written as."""

from __future__ import annotations

import math
from typing import Any

import torch

from slth.certify.plain import check_names, digest_of, read
from slth.certify.regions import BoxSet, InputSet, around, ball
from slth.domain import Domain
from slth.errors import ArgumentError, MismatchError


def from_json(value: Any, inputs: torch.Tensor | None = None) -> InputSet:
    """The set that :meth:`InputSet.to_json` wrote.

    Parameters
    ----------
    value : dict
    inputs : tensor, (n, ...), optional
        For a set that is made of inputs; the first so many of them are taken.

    Raises
    ------
    ArgumentError
        If the value is none that is written, or the set is made of inputs and there are none.
    MismatchError
        If they are not the inputs that the set was made of.
    """
    check_json(value)
    if value["kind"] == "box":
        return BoxSet(_domain(value), value.get("words", ""))
    if value["kind"] == "ball":
        return ball(read(value["centre"]), value["radius"], value["p"])
    count, where = value["inputs"], value.get("where", "")
    if inputs is None:
        raise ArgumentError("data", "none", f"the {count:,} inputs that the claim is made for", "--data")
    if len(inputs) < count:
        raise MismatchError("data", f"{len(inputs):,} inputs", f"the {count:,} that the claim is made for")
    taken = inputs[:count]
    if digest_of(taken) != value["digest"]:
        got = f"inputs with digest {digest_of(taken)[:16]}"
        raise MismatchError("data", got, f"{value['digest'][:16]}, for which the claim is made", "the same data")
    clip = None if "clip" not in value else _domain(value["clip"])
    return around(taken, value["radius"], value["p"], clip, where)


_FIELDS = {
    "box": ({"lower", "upper"}, {"words"}),
    "ball": ({"centre", "radius", "p"}, set()),
    "around": ({"inputs", "digest", "radius", "p"}, {"clip", "where"}),
}
"""By kind the fields that there must be besides it, and those that there may be."""


def check_json(value: Any) -> None:
    """Refuse what :meth:`InputSet.to_json` does not write.

    Raises
    ------
    ArgumentError
        Naming the field.
    """
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise ArgumentError("domain", repr(kind), " or ".join(_FIELDS))
    needed, allowed = _FIELDS[kind]
    check_names("domain", value.keys() - {"kind"}, needed, allowed)
    for name in needed | allowed:
        if name in value:
            _check_field(kind, name, value[name])
    if kind == "ball":
        ball(read(value["centre"]), value["radius"], value["p"])
    if kind == "box":
        _domain(value)


def _check_field(kind: str, name: str, value: Any) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    fits = {
        "radius": isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value < math.inf,
        "p": value in ((1, 2) if kind == "ball" else (1, 2, "max")) and not isinstance(value, float | bool),
        "inputs": whole and value > 0,
        "digest": isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"),
        "words": isinstance(value, str),
        "where": isinstance(value, str),
    }
    if not fits.get(name, True):
        raise ArgumentError(f"domain, {name}", repr(value)[:80], "what slth certify writes there")
    if name == "clip":
        if not isinstance(value, dict):
            raise ArgumentError("domain, clip", repr(value)[:80], "a box")
        check_names("domain, clip", set(value), {"lower", "upper"}, {"words"})
        _domain(value)


def _domain(value: dict[str, Any]) -> Domain:
    return Domain.parse((read(value["lower"]), read(value["upper"])))
