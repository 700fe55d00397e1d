"""How far functions are from their derivatives: products of several values, softmax and normalisations.

**Products.** With t = c + r and e = f + h, each operand of a function that is linear in all of them is one of c, f, r
and h; what is left out of the tangent are the terms with two or more of r and h, and of the difference those with an f
or h.

**Softmax** has J_ij = p_i (1[i = j] - p_j). With q_i the farthest that p_i moves from the middle's over the hull,

    |(J - J(c)) v|_i <= q_i |v_i| + sum over j of (p_i q_j + q_i (p_j + q_j)) |v_j|,

and with E of probabilities that none of the hull is above, at most 1 in all, by the second derivative

    |D^2 p[u, v]|_i <= p_i ((|u_i| + E |u|) (|v_i| + E |v|) + sqrt(E u^2 E v^2)).

By the mean value theorem the function is off from its tangent by as much with v the half-widths of the values, and the
difference with v the largest differences.

**Normalisations** y = P x / s have J = (P - y y^T / n) / s (:mod:`normalisation`), P subtracting the mean where that is
done. For directions u = P u and v = P v, with m_u = mean(y u),

    D^2 y[u, v]_i = (-u_i m_v - v_i m_u + 3 y_i m_u m_v - y_i mean(u v)) / s^2,

and as the entries of y have a root mean square of at most 1, |m_u| <= rms(u) and the form 3 m_u m_v - mean(u v) is at
most 2 rms(u) rms(v). The function is off from its tangent by half of that in u = v = t - c, the difference by all of it
in u = t + tau e - c and v = e. Besides, |y| <= sqrt(n), and as |J| <= 1 / s the difference is no longer than |P e| / s.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from slth.certify.functions.call import Call
from slth.certify.functions.normalisation import Rows, normalised, rows_of, scales
from slth.certify.functions.products import PRODUCTS
from slth.certify.functions.softmax import ends
from slth.certify.state import TINY, UNIT, inflate


@dataclass(frozen=True)
class Argument:
    """A value that a function reads, whole: c, the half-width of its bounds, f and the half-width about that.

    ``fixed`` are indices and masks, which stand in place of c.
    """

    centre: torch.Tensor
    half: torch.Tensor
    shift: torch.Tensor
    spread: torch.Tensor
    fixed: bool = False

    @property
    def error(self) -> torch.Tensor:
        """The largest difference."""
        return inflate(self.shift.abs() + self.spread, 2)


@dataclass(frozen=True)
class Sphere:
    """Groups of entries that are bounded together: in the Euclidean norm, of the result's whole entries in order.

    Attributes
    ----------
    n : int
        Entries of a group.
    centred : bool
        Whether their mean is 0.
    value, difference : tensors, (groups,)
        Radii.
    slack : tensor, (groups,)
        What every entry of either network's may be off by besides, as it is evaluated.
    """

    n: int
    centred: bool
    value: torch.Tensor
    difference: torch.Tensor
    slack: torch.Tensor


@dataclass(frozen=True)
class Loose:
    """How far a function is from its tangent, rounding of the derivative and of the networks' evaluations included.

    ``size`` are sums of the absolute values of all that is added up in F(c) and J(c) t, of the difference in J(c) e;
    whole. ``shifted`` says whether the difference is expanded about f, and not about 0.
    """

    loose: torch.Tensor
    loose_difference: torch.Tensor
    size: torch.Tensor
    size_difference: torch.Tensor
    shifted: bool = False
    sphere: Sphere | None = None


Rule = Callable[[Call, Sequence[Argument]], Loose | None]


def product(call: Call, arguments: Sequence[Argument]) -> Loose | None:
    """Matrix products and the like, of up to three values."""
    if any(one.fixed for one in arguments) or len(arguments) not in (2, 3):
        return None
    kinds = [[one.centre.abs(), one.shift.abs(), one.half, one.spread] for one in arguments]
    used = [[bool((part != 0).any()) for part in own] for own in kinds]
    zero = torch.zeros_like(call([own[0] for own in kinds]))
    value, difference, count = zero, zero, 1
    for chosen in itertools.product(range(4), repeat=len(arguments)):
        some = all(flags[kind] for flags, kind in zip(used, chosen, strict=True))
        if not some or sum(kind >= 2 for kind in chosen) < 2:
            continue
        term, count = call([own[kind] for own, kind in zip(kinds, chosen, strict=True)]), count + 1
        if set(chosen) & {1, 3}:
            difference = difference + term
        else:
            value = value + term
    reaches = [inflate(one.centre.abs() + one.half + one.error, 4) for one in arguments]
    n_terms = int(call([torch.ones_like(one.centre) for one in arguments]).max()) + len(arguments) + 8
    reach = inflate(call(reaches), n_terms)
    change = zero
    for number, one in enumerate(arguments):
        change = change + call([one.error if other == number else part for other, part in enumerate(reaches)])
    rounding = 2 * (n_terms + 8) * UNIT * reach + n_terms * TINY
    value, difference = (inflate(part, n_terms + count) for part in (value, difference))
    size, change = (2 * len(arguments) + 2) * reach, 3 * inflate(change, n_terms + 2)
    if any(flags[1] for flags in used):
        # Two derivatives are computed, and subtracted.
        change = change + 2 * size
    return Loose(value + 2 * rounding, difference + 4 * rounding, size, change, shifted=True)


def softmax(call: Call, arguments: Sequence[Argument]) -> Loose | None:
    """Probabilities along an axis; see the module's docstring."""
    (logits,) = arguments
    dim, out = int(call.arguments["dim"]), torch.isinf(logits.centre)
    if call.arguments.get("dtype") not in (None, {"dtype": "float"}):
        return None
    error = logits.error
    reach = inflate(logits.half + error, 4)
    wide = [torch.where(out, -math.inf, logits.centre + side * reach) for side in (-1, 1)]
    low, high = ends(wide[0], wide[1], dim)
    p = torch.softmax(logits.centre, dim)
    n = p.shape[dim]
    size = torch.where(out, 0.0, logits.centre.abs() + reach)
    share = (2 * n + 64) * UNIT * (2 + math.log(n) + 2 * size.amax(dim=dim, keepdim=True))
    q = inflate(torch.maximum(high - p, p - low).clamp(min=0) + share * p + TINY, 4)

    def moved(v: torch.Tensor) -> torch.Tensor:
        whole = p * (q * v).sum(dim=dim, keepdim=True) + q * ((p + q) * v).sum(dim=dim, keepdim=True)
        return inflate(q * v + whole, n + 8)

    def mean(v: torch.Tensor) -> torch.Tensor:
        return torch.minimum(inflate((high * v).sum(dim=dim, keepdim=True), n + 4), v.amax(dim=dim, keepdim=True))

    def bent(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """The second derivative in two directions."""
        both = inflate((mean(inflate(u.square(), 1)) * mean(inflate(v.square(), 1))).sqrt(), 8)
        return inflate(high * ((u + mean(u)) * (v + mean(v)) + both), 16)

    def derived(v: torch.Tensor) -> torch.Tensor:
        return inflate(p * (v + (p * v).sum(dim=dim, keepdim=True)), n + 8)

    half, change, reach = (torch.where(out, 0.0, part) for part in (logits.half, error, reach))
    rounding = inflate(share * high + TINY, 4)
    loose = torch.minimum(moved(half), bent(half, half) / 2) + share * derived(half) + 2 * rounding
    loose_difference = torch.minimum(moved(change), bent(reach, change)) + share * derived(change) + 2 * rounding
    return Loose(
        inflate(loose, 4),
        inflate(loose_difference, 4),
        inflate(2 * (p + derived(size)), 4),
        inflate(2 * derived(change), 4),
    )


def normalisation(call: Call, arguments: Sequence[Argument]) -> Loose | None:
    """Over the entries that belong together; see the module's docstring."""
    if len(arguments) != 1:
        return None
    (x,) = arguments
    layout = rows_of(call, x.centre.shape)
    if layout is None:
        return None
    rows, eps, centred = layout
    centre, half, error = (part.reshape(rows) for part in (x.centre, x.half, x.error))
    n, reach = centre.shape[-1], inflate(half + error, 4)
    around = normalised(Rows(centre, centre, reach), eps, centred, UNIT, call.floor)
    least, _ = scales(centre, reach, eps, centred, call.floor)
    own = scales(centre, torch.zeros_like(reach), eps, centred)
    g, y = 1 / own[0], inflate(torch.maximum(around.lower.abs(), around.upper.abs()), 2)
    # The farthest that entries of y move, and with it the largest that they are.
    far = inflate(y + around.error, 2).clamp(max=math.sqrt(n) * (1 + 8 * UNIT))
    mean = 1.0 if centred else 0.0

    def spread(v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Largest entries of P v, and their root mean square."""
        others = (v.sum(dim=-1, keepdim=True) - v).clamp(min=0) + 4 * (n + 8) * UNIT * v
        entries = inflate(v * (1 - mean / n) + mean * others / n, n + 16) + 4 * UNIT * v
        return entries, inflate(inflate(v.square().mean(dim=-1, keepdim=True), n + 8).sqrt(), 8)

    def bent(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The second derivative in two directions."""
        (u, rms_u), (v, rms_v) = spread(one), spread(other)
        return inflate((u * rms_v + v * rms_u + 2 * far * rms_u * rms_v) / least.square(), 32)

    def derived(v: torch.Tensor) -> torch.Tensor:
        return inflate(
            g * (v + mean * v.mean(dim=-1, keepdim=True)) + g * y * (y * v).mean(dim=-1, keepdim=True), n + 16
        )

    largest = (centre.abs() + reach).amax(dim=-1, keepdim=True)
    a = 4 * (n + 8) * UNIT
    share = 4 * (a * (1 + largest / least) + (a * largest / least).square())
    rounding = share * far + 2 * a * largest / least
    loose = bent(half, half) / 2 + share * derived(half) + 2 * rounding
    loose_difference = bent(reach, error) + share * derived(error) + 2 * rounding
    size, change = 2 * (y + derived(centre.abs() + reach)), 2 * derived(error)
    parts = [inflate(part, 8).reshape(x.centre.shape) for part in (loose, loose_difference, size, change)]
    radius = torch.full_like(least, math.sqrt(n) * (1 + 8 * UNIT))
    apart = torch.minimum(inflate(radius * spread(error)[1] / least, 8), 2 * radius)
    slack = inflate(rounding.amax(dim=-1), 2)
    sphere = Sphere(n, centred, radius.flatten(), apart.flatten(), slack.flatten())
    return Loose(parts[0], parts[1], parts[2], parts[3], sphere=sphere)


TANGENTS: Mapping[str, Rule] = {
    **dict.fromkeys(PRODUCTS, product),
    **dict.fromkeys(("softmax", "_softmax"), softmax),
    **dict.fromkeys(("layer_norm", "group_norm", "instance_norm", "rms_norm"), normalisation),
}
"""By function."""
