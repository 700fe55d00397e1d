"""Normalisations without factors: (x - mean) / sqrt(var + eps) over some entries, and x / sqrt(mean x^2 + eps).

With n entries, s^2 = var + eps and y the result, the derivative is J = (1 - 11^T / n - y y^T / n) / s, so that with the
difference d of two inputs, by the mean value theorem on the segment between them,

    |dy_i| <= sup (|d_i - mean d| + |y_i| |mean y_j (d_j - mean d)|) / s,    |mean y_j (d_j - mean d)| <= rms(e),

because mean y = 0 and rms(y) <= 1, and |d_i - mean d| <= (1 - 1/n) e_i + the mean of the other e_j. Of x / rms(x) the
mean is not subtracted. On the segment s is no less than at the least deviation of any input in the hull of both:
sqrt(var) is a seminorm, so that it is at least that of the middle less the root mean square of the half-widths.

**Rounding.** Variances by two passes or by Welford's algorithm are off by at most a (v + M sqrt(v)) + a^2 M^2 with
a = 4 (n + 8) units and M the largest number, entries less their mean by a M; what comes after is a few roundings more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from slth.certify.functions.algebra import outward, product, total
from slth.certify.functions.call import Call
from slth.certify.functions.moves import Rule
from slth.certify.state import State, inflate

_LARGEST = {True: 1e140, False: 1e15}
"""Numbers whose squares are far from overflowing, in float64 and in float32."""


@dataclass(frozen=True)
class Rows:
    """Bounds, (..., n): the last axis is what is normalised."""

    lower: torch.Tensor
    upper: torch.Tensor
    error: torch.Tensor


def normalised(state: Rows, eps: float, centred: bool, unit: float, floor: torch.Tensor | None = None) -> State:
    """Of the last axis; ``centred`` where the mean is subtracted, ``floor`` the least deviation where it is known."""
    n = state.lower.shape[-1]
    error = inflate(state.error, 2)
    centre = (state.lower + state.upper) / 2
    half = inflate((state.upper - state.lower) / 2, 4)
    reach = inflate(centre.abs() + half + error, 8)
    largest = reach.amax(dim=-1, keepdim=True)
    a = 4 * (n + 8) * unit
    low, high = scales(centre, half, eps, centred, floor)
    least, _ = scales(centre, inflate(half + error, 4), eps, centred, floor)
    if centred:
        others = inflate((error.sum(dim=-1, keepdim=True) - error).clamp(min=0), n) + 16 * (n + 8) * unit * error
        own = error * (1 - 1 / n) + others / n
        numerators = _centred(state, n)
    else:
        own, numerators = error, (state.lower, state.upper)
    bound = math.sqrt(n - 1 if centred and n > 1 else n) * (1 + 8 * unit)
    apart = torch.maximum(numerators[0].abs(), numerators[1].abs()) + 2 * inflate(own, 4)
    size = torch.minimum(inflate(apart / least, 4), torch.full_like(apart, bound))
    spread = inflate(error.square().mean(dim=-1, keepdim=True), n + 8).sqrt() * (1 + 8 * unit)
    moved = inflate((inflate(own, 8) + size * spread) / least, 8)
    # Relative error of 1 / s, and of what it multiplies.
    share = a * (1 + largest / least) + (a * largest / least).square()
    share = torch.where((share < 0.25) & (largest < _LARGEST[unit < 1e-12]), share, math.inf)
    rounding = 2 * share * size + 2 * a * largest / least + 16 * unit * size
    ends = [torch.stack([end / low, end / high]) for end in numerators]
    bottom, top = ends[0].amin(dim=0).clamp(min=-bound), ends[1].amax(dim=0).clamp(max=bound)
    return outward(bottom, top, rounding, torch.minimum(moved, 2 * size)).sound()


def scales(
    centre: torch.Tensor, half: torch.Tensor, eps: float, centred: bool, floor: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Least and largest s, (..., 1), rounded outward; ``floor`` is a deviation that none is below."""
    n = centre.shape[-1]
    room = 16 * (n + 8) * 2.0**-52
    far = inflate(half.square().mean(dim=-1, keepdim=True), n + 8).sqrt()
    size = (centre.abs() + half).amax(dim=-1, keepdim=True)
    if centred:
        middle = (centre - centre.mean(dim=-1, keepdim=True)).square().mean(dim=-1, keepdim=True).sqrt()
        low, high = middle - far - room * size, middle + far + room * size
    else:
        nearest = (centre.abs() - half).clamp(min=0)
        low, high = ((part.square().mean(dim=-1, keepdim=True)).sqrt() for part in (nearest, centre.abs() + half))
        low, high = low - room * size, high + room * size
    if floor is not None:
        low = torch.fmax(low, floor)
    shares = 1 - room, 1 + room
    least, most = (
        (part.clamp(min=0).square() + eps).sqrt() * share for part, share in zip((low, high), shares, strict=True)
    )
    return least, most


def _centred(state: Rows, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Bounds on entries less their mean: (1 - 1/n) of the entry, less the others / n."""
    size = torch.maximum(state.lower.abs(), state.upper.abs()).amax(dim=-1, keepdim=True)
    room = 16 * (n + 8) * 2.0**-52 * size
    totals = [part.sum(dim=-1, keepdim=True) for part in (state.lower, state.upper)]
    low = state.lower - (totals[1] - state.upper + state.lower) / n - room
    high = state.upper - (totals[0] - state.lower + state.upper) / n + room
    return low, high


def rows_of(call: Call, shape: torch.Size) -> tuple[tuple[int, ...], float, bool] | None:
    """In which shape (..., n) entries belong together, eps, and whether their mean is subtracted."""
    eps = call.number("eps")
    if call.name in ("layer_norm", "native_layer_norm", "rms_norm"):
        ahead, centred = shape[: len(shape) - len(call.arguments["normalized_shape"])], call.name != "rms_norm"
        # Without an eps of its own RMSNorm has that of the number type.
        own = 1e-5 if centred else 2.0**-52
        return (*ahead, math.prod(shape[len(ahead) :])), own if eps is None else eps, centred
    groups = int(call.arguments["num_groups"]) if call.name == "group_norm" else shape[1]
    if call.name == "instance_norm" and not call.arguments.get("use_input_stats"):
        return None
    return (shape[0], groups, shape[1] // groups * math.prod(shape[2:])), 1e-5 if eps is None else eps, True


def _apply(state: State, rows: tuple[int, ...], eps: float, centred: bool, call: Call) -> State:
    """Of a tensor whose entries are normalised in the given shape, (..., n)."""
    parts = (getattr(state, part).reshape(rows) for part in ("lower", "upper", "error"))
    made = normalised(Rows(*parts), eps, centred, call.unit, call.floor)
    shape = state.lower.shape
    return State(made.lower.reshape(shape), made.upper.reshape(shape), made.error.reshape(shape), False, False)


def _scaled(call: Call, states: Sequence[State], made: State, shape: tuple[int, ...]) -> State | None:
    """With factors and shifts, where they are values; ``shape`` is how they stand beside the entries."""
    for name in ("weight", "bias"):
        own = call.state(states, name)
        if own is None:
            if not call.is_none(name):
                return None
            continue
        own = own.each(lambda part: part.reshape(shape))
        made = product(made, own, call.unit) if name == "weight" else total([made, own], call.unit)
    return made


def normalisation(call: Call, states: Sequence[State]) -> State | None:
    """Over the last axes, or over positions and maybe channels in groups; with factors if there are any."""
    index = call.source("input")
    if index is None or call.output > 0:
        return None
    state = states[index]
    layout = rows_of(call, state.lower.shape)
    if layout is None:
        return None
    rows, eps, centred = layout
    shape = (state.lower.shape[1], *[1] * (state.lower.dim() - 2))
    if call.name.endswith("layer_norm") or call.name == "rms_norm":
        shape = tuple(call.arguments["normalized_shape"])
    return _scaled(call, states, _apply(state, rows, eps, centred, call), shape)


NORMALISATIONS = ("layer_norm", "native_layer_norm", "rms_norm", "group_norm", "instance_norm")
RULES: dict[str, Rule] = dict.fromkeys(NORMALISATIONS, normalisation)
"""By function."""
