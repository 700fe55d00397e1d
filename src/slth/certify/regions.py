"""Domains: sets of inputs that a claim is made for, each a list of regions over which it can be proved.

A box, a ball, a finite set of inputs, or boxes or balls around given inputs. A domain has words for people, plain JSON,
and, where it is made of inputs, their digest instead of their numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from slth.certify.plain import digest_of, numbers
from slth.certify.region import Ball, Box, Region
from slth.certify.windows import Window
from slth.domain import Domain
from slth.errors import ArgumentError

_FLOAT32 = 2.0**-21
"""Relative to |x| + |mean|, more than the four roundings of (x - mean) / std in float32."""


class InputSet(Protocol):
    """What a claim is made for."""

    def regions(self, shape: tuple[int, ...]) -> list[Region]:
        """Regions that cover the set.

        Raises
        ------
        ArgumentError
            If the set does not fit the input's shape.
        """

    @property
    def inputs(self) -> torch.Tensor | None:
        """The inputs that the set is made of, (n, ...), where it is made of any."""

    def describe(self) -> str:
        """The set in a few words."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which :func:`slth.certify.region_file.from_json` makes the set again."""


@dataclass(frozen=True, eq=False)
class Clipped:
    """What a ball and a box that holds its centre have in common."""

    ball: Ball
    box: Box

    @property
    def lower(self) -> torch.Tensor:
        """No entry is below either."""
        return torch.maximum(self.ball.lower, self.box.lower)

    @property
    def upper(self) -> torch.Tensor:
        """No entry is above either."""
        return torch.minimum(self.ball.upper, self.box.upper)

    def highest(self, rows: torch.Tensor, sizes: torch.Tensor | None, window: Window = None) -> torch.Tensor:
        """The lesser of what is the highest over either."""
        inside = Box(self.lower, self.upper)
        return torch.minimum(self.ball.highest(rows, sizes, window), inside.highest(rows, sizes, window))


@dataclass(frozen=True, eq=False)
class BoxSet:
    """All inputs between two bounds, entry by entry."""

    domain: Domain
    words: str = ""

    @property
    def inputs(self) -> None:
        """None."""
        return None

    def regions(self, shape: tuple[int, ...]) -> list[Region]:
        """One box."""
        return [Box(*self.domain.bounds(shape))]

    def describe(self) -> str:
        """The box in a few words."""
        return self.words or self.domain.describe()

    def to_json(self) -> dict[str, Any]:
        """Bounds as numbers where each is the same for all entries, else as lists with their shape."""
        assert self.domain.lower is not None and self.domain.upper is not None
        words = {"words": self.words} if self.words else {}
        return {"kind": "box", "lower": numbers(self.domain.lower), "upper": numbers(self.domain.upper)} | words


@dataclass(frozen=True, eq=False)
class Around:
    """All inputs within a distance of one of the given ones, in a norm, and within a box if there is one.

    Attributes
    ----------
    centres : float64 tensor, (n, ...)
    radius : float
        0 for the inputs themselves.
    p : float
        1, 2 or infinity, for boxes.
    clip : Domain or None
        A box that holds all centres.
    where : str
        Where the centres come from, for people.
    """

    centres: torch.Tensor
    radius: float = 0.0
    p: float = math.inf
    clip: Domain | None = None
    where: str = ""

    def __post_init__(self) -> None:
        _check_inputs(self.centres)
        _check_radius(self.radius)
        if self.p not in (1, 2, math.inf):
            raise ArgumentError("p", repr(self.p), "1, 2 or infinity")
        if self.clip is not None and not self.clip.bounded:
            raise ArgumentError("clip", "all reals", "a box, or None")

    @property
    def inputs(self) -> torch.Tensor:
        """The given inputs."""
        return self.centres

    def regions(self, shape: tuple[int, ...]) -> list[Region]:
        """One around each of the inputs."""
        centres = _fitted(self.centres, shape)
        box = None if self.clip is None else Box(*self.clip.bounds(shape))
        if box is not None:
            outside = ~((centres >= box.lower) & (centres <= box.upper)).flatten(1).all(dim=1)
            if bool(outside.any()):
                number = int(outside.nonzero()[0])
                got = f"{int(outside.sum()):,} of {len(centres):,} inputs outside {self.clip.describe()}"  # type: ignore[union-attr]
                raise ArgumentError("domain", f"{got} (the first is number {number})", "inputs within the box")
        return [self._region(centre, box) for centre in centres]

    def _region(self, centre: torch.Tensor, box: Box | None) -> Region:
        if self.radius > 0.0 and math.isfinite(self.p):
            ball = Ball(centre, self.radius, int(self.p))
            return ball if box is None else Clipped(ball, box)
        if self.radius == 0.0:
            return Box(centre, centre)
        steps = (-self.radius, self.radius)
        # Rounded outward, so that centre - radius itself is inside.
        lower, upper = (torch.nextafter(centre + step, torch.full_like(centre, step * math.inf)) for step in steps)
        if box is not None:
            lower, upper = torch.maximum(lower, box.lower), torch.minimum(upper, box.upper)
        return Box(lower, upper)

    def describe(self) -> str:
        """The set in a few words."""
        n = len(self.centres)
        source = f" of {self.where}" if self.where else ""
        which = f"{n:,} inputs{source}" if n > 1 or self.where else "one input"
        if self.radius == 0.0:
            return which
        many = {1: "L1 balls", 2: "Euclidean balls"}.get(int(self.p)) if math.isfinite(self.p) else "boxes"
        shape = many if n > 1 else {"boxes": "the box"}.get(str(many), f"the {str(many)[:-1]}")
        clipped = "" if self.clip is None else f", within {self.clip.describe()}"
        return f"{shape} of radius {self.radius:g} around {which}{clipped}"

    def to_json(self) -> dict[str, Any]:
        """Digest and count of the inputs, and what is around them."""
        value: dict[str, Any] = {"kind": "around", "inputs": len(self.centres), "digest": digest_of(self.centres)}
        value |= {"radius": self.radius, "p": "max" if math.isinf(self.p) else int(self.p)}
        if self.clip is not None:
            value["clip"] = {key: part for key, part in BoxSet(self.clip).to_json().items() if key != "kind"}
        return value | ({"where": self.where} if self.where else {})


@dataclass(frozen=True, eq=False)
class BallSet:
    """All inputs within a distance of one point, Euclidean (p = 2) or the sum of absolute values (p = 1)."""

    centre: torch.Tensor
    radius: float
    p: int = 2

    def __post_init__(self) -> None:
        _check_inputs(self.centre.reshape(1, -1))
        _check_radius(self.radius)
        if self.p not in (1, 2):
            raise ArgumentError("p", repr(self.p), "1 or 2")

    @property
    def inputs(self) -> None:
        """None."""
        return None

    def regions(self, shape: tuple[int, ...]) -> list[Region]:
        """One ball."""
        centre = self.centre.expand(shape) if self.centre.dim() == 0 else _fitted(self.centre[None], shape)[0]
        return [Ball(centre.clone(), self.radius, self.p)]

    def describe(self) -> str:
        """The ball in a few words."""
        low, high = float(self.centre.min()), float(self.centre.max())
        centre = f"{low:g}" if low == high else f"a point in [{low:g}, {high:g}]"
        return f"the {'Euclidean' if self.p == 2 else 'L1'} ball of radius {self.radius:g} around {centre}"

    def to_json(self) -> dict[str, Any]:
        """The centre as a number where all entries are the same, else as a list with its shape."""
        return {"kind": "ball", "centre": numbers(self.centre), "radius": self.radius, "p": self.p}


def parse(value: Any) -> InputSet:
    """A set of inputs from one, from a bounded :class:`Domain`, or from what that is made of.

    Raises
    ------
    ArgumentError
        If it is none, or all reals.
    """
    if isinstance(value, BoxSet | Around | BallSet):
        return value
    domain = Domain.parse(value)
    if not domain.bounded:
        raise ArgumentError("domain", "all reals", "a bounded set of inputs", "--domain 0,1")
    return BoxSet(domain)


def box(lower: Any, upper: Any) -> BoxSet:
    """All inputs between two bounds: numbers, or tensors that fit the input's shape.

    Raises
    ------
    ArgumentError
        If they are no numbers, or the box is empty.
    """
    return BoxSet(Domain.parse((lower, upper)))


def preprocessed(mean: Any, std: Any, low: float = 0.0, high: float = 1.0) -> BoxSet:
    """The box of all pixels from ``low`` to ``high`` after (pixel - mean) / std, a number or one number a channel.

    It is wide enough for preprocessing in float32.

    Raises
    ------
    ArgumentError
        If a number is not finite, a deviation is not above 0, or low is above high.
    """
    mean, std = _channels(mean, "mean"), _channels(std, "std")
    if not bool((std > 0).all()):
        raise ArgumentError("std", _short(std), "numbers above 0")
    if mean.numel() != std.numel() and 1 not in (mean.numel(), std.numel()):
        raise ArgumentError("std", f"{std.numel()} numbers for {mean.numel()} means", "as many as means")
    ends = Domain.parse((low, high))
    assert ends.lower is not None and ends.upper is not None
    rooms = [(end.abs() + mean.abs()) * _FLOAT32 for end in (ends.lower, ends.upper)]
    lower, upper = (ends.lower - mean - rooms[0]) / std, (ends.upper - mean + rooms[1]) / std
    shape = () if lower.numel() == 1 else (-1, 1, 1)
    words = f"pixels in {ends.describe()} less {_short(mean)}, divided by {_short(std)}"
    return BoxSet(Domain(lower.reshape(shape), upper.reshape(shape)), words)


def ball(centre: Any, radius: float, p: int = 2) -> BallSet:
    """All inputs within a distance of one: a number for all entries, or an input.

    Raises
    ------
    ArgumentError
        If something is not a finite number, the radius is negative, or p is neither 1 nor 2.
    """
    return BallSet(_tensor(centre, "centre"), float(radius), p)


def points(inputs: Any, where: str = "") -> Around:
    """A finite set of inputs, (n, ...).

    Raises
    ------
    ArgumentError
        If there are none, or a number is not finite.
    """
    return Around(_tensor(inputs, "inputs"), where=where)


def around(inputs: Any, radius: float, p: float | str = math.inf, clip: Any = None, where: str = "") -> Around:
    """Boxes (or, for p = 1 or 2, balls) of a radius around inputs (n, ...), within the box ``clip`` if there is one.

    Raises
    ------
    ArgumentError
        As :func:`points`; or if the radius is negative, or p none of 1, 2, infinity and "max".
    """
    own = None if clip is None else Domain.parse(clip.domain if isinstance(clip, BoxSet) else clip)
    return Around(_tensor(inputs, "inputs"), float(radius), math.inf if p == "max" else p, own, where)  # type: ignore[arg-type]


def _tensor(value: Any, where: str) -> torch.Tensor:
    try:
        tensor = torch.as_tensor(value).detach().to("cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(where, f"{type(value).__name__} that is no array of numbers", "numbers") from error
    if tensor.is_complex():
        raise ArgumentError(where, "complex numbers", "real numbers")
    return tensor.to(torch.float64)


def _channels(value: Any, where: str) -> torch.Tensor:
    tensor = _tensor(value, where).flatten()
    if tensor.numel() == 0 or not bool(torch.isfinite(tensor).all()):
        raise ArgumentError(where, _short(tensor), "a finite number, or one a channel")
    return tensor


def _short(numbers: torch.Tensor) -> str:
    listed = [f"{number:g}" for number in numbers.flatten().tolist()]
    return listed[0] if len(listed) == 1 else f"[{', '.join(listed[:4])}{', ...' if len(listed) > 4 else ''}]"


def _check_inputs(inputs: torch.Tensor) -> None:
    if inputs.dim() < 2 or inputs.numel() == 0:
        got = f"inputs of shape {tuple(inputs.shape)}"
        raise ArgumentError("domain", got, "at least one input, the first axis counting them")
    if not bool(torch.isfinite(inputs).all()):
        raise ArgumentError("domain", "inputs that are not finite", "finite numbers")


def _check_radius(radius: float) -> None:
    if not (math.isfinite(radius) and radius >= 0):
        raise ArgumentError("radius", f"{radius:g}", "a finite number that is not negative")


def _fitted(inputs: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    if math.prod(inputs.shape[1:]) != math.prod(shape):
        got = f"inputs of shape {tuple(inputs.shape[1:])}"
        raise ArgumentError("domain", got, f"the network's input shape {shape}")
    return inputs.reshape(-1, *shape)
