"""Kaiming's and Xavier's initialisations as laws: numbers of a law, times a scale that a layer's shape decides.

The laws below give the numbers before they are multiplied; :class:`~slth.source.spec.SourceLayer` multiplies them by
:meth:`~slth.source.law.Distribution.layer_scale`, and the constructions by a power of 2 besides (see
:mod:`slth.constructions.transfer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from slth.errors import ArgumentError
from slth.source import distributions, scales
from slth.source.distributions import DISTRIBUTIONS, Normal, Uniform
from slth.source.law import Distribution


@dataclass(frozen=True)
class KaimingUniform(Uniform):
    """U[-s, s] with s = sqrt(6 / fan_in), as ``torch.nn.init.kaiming_uniform_`` has it by default (He et al. 2015)."""

    name: ClassVar[str] = "kaiming-uniform"
    by_shape: ClassVar[bool] = True

    def layer_scale(self, fan_in: int, fan_out: int) -> float:
        """s."""
        return scales.kaiming_uniform(fan_in)


@dataclass(frozen=True)
class KaimingNormal(Normal):
    """N(0, s^2) with s = sqrt(2 / fan_in), as ``torch.nn.init.kaiming_normal_`` has it by default (He et al. 2015)."""

    name: ClassVar[str] = "kaiming-normal"
    by_shape: ClassVar[bool] = True

    def layer_scale(self, fan_in: int, fan_out: int) -> float:
        """s."""
        return scales.kaiming_normal(fan_in)


@dataclass(frozen=True)
class XavierUniform(Uniform):
    """U[-s, s], s = sqrt(6 / (fan_in + fan_out)): ``torch.nn.init.xavier_uniform_`` (Glorot and Bengio 2010)."""

    name: ClassVar[str] = "xavier-uniform"
    by_shape: ClassVar[bool] = True

    def layer_scale(self, fan_in: int, fan_out: int) -> float:
        """s."""
        return scales.xavier_uniform(fan_in, fan_out)


@dataclass(frozen=True)
class XavierNormal(Normal):
    """N(0, s^2), s = sqrt(2 / (fan_in + fan_out)): ``torch.nn.init.xavier_normal_`` (Glorot and Bengio 2010)."""

    name: ClassVar[str] = "xavier-normal"
    by_shape: ClassVar[bool] = True

    def layer_scale(self, fan_in: int, fan_out: int) -> float:
        """s."""
        return scales.xavier_normal(fan_in, fan_out)


INITIALISED: dict[str, type[Distribution]] = {
    law.name: law for law in (KaimingUniform, KaimingNormal, XavierUniform, XavierNormal)
}
"""Those laws by name."""

NAMES = (*DISTRIBUTIONS, *INITIALISED)
"""What a source's weights may be drawn from."""


def parse(text: str) -> Distribution:
    """The law of a source's weights, by its name: one of :mod:`slth.source.distributions` or of this module.

    Raises
    ------
    ArgumentError
        For a name or parameter that no law has.

    Examples
    --------
    >>> parse("kaiming-normal"), parse("grid:16")
    (KaimingNormal(), Grid(levels=16))
    """
    name, *given = text.strip().split(":")
    if name not in INITIALISED:
        try:
            return distributions.parse(text)
        except ArgumentError as error:
            if name in DISTRIBUTIONS:
                raise
            raise ArgumentError(
                error.where, error.got, f"{error.need}, {', '.join(INITIALISED)}", error.remedy
            ) from None
    if given:
        raise ArgumentError("distribution", repr(text), "no parameters", name)
    return INITIALISED[name]()


def from_json(stored: Mapping[str, Any]) -> Distribution:
    """The law of a source's weights that :meth:`Distribution.to_json` stored.

    Raises
    ------
    ArgumentError
        If it is none, or its parameters are not a law's.
    """
    law = INITIALISED.get(str(stored.get("name")))
    if law is None:
        return distributions.from_json(stored)
    if set(stored) != {"name"}:
        raise ArgumentError("distribution", f"{law.name} with parameters", "none of its own")
    return law()
