"""Sums, products and quotients of states.

With t the target's value, e the ticket's less it and every evaluation rounded,

    (s + s') - (t + t') = e + e',
    s s' - t t' = e t' + t e' + e e',
    1/s - 1/t = -e / (s t).

What is computed of non-negative bounds is inflated; of the values' own bounds twice a rounding of the largest is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from slth.certify.state import TINY, UNIT, State, inflate


def outward(low: torch.Tensor, high: torch.Tensor, rounding: torch.Tensor, error: torch.Tensor) -> State:
    """A state from ends that are off by ``rounding``, which each evaluation of the networks is besides."""
    room = inflate(2 * rounding, 4)
    return State(low - room, high + room, inflate(error + 2 * room, 4), False, False)


def total(states: Sequence[State], unit: float) -> State:
    """The sum of some values, added up one after another."""
    low, high, error = (sum(getattr(state, part) for state in states) for part in ("lower", "upper", "error"))
    assert isinstance(low, torch.Tensor) and isinstance(high, torch.Tensor) and isinstance(error, torch.Tensor)
    reach = sum(state.magnitude + state.error for state in states)
    assert isinstance(reach, torch.Tensor)
    return outward(low, high, (len(states) + 2) * unit * reach, error)


def negative(state: State) -> State:
    """-x, which is exact."""
    return State(-state.upper, -state.lower, state.error, state.nonpositive, state.nonnegative)


def product(one: State, other: State, unit: float) -> State:
    """x y, of bounds at the four corners; see the module's docstring."""
    corners = torch.stack(
        torch.broadcast_tensors(
            one.lower * other.lower, one.lower * other.upper, one.upper * other.lower, one.upper * other.upper
        )
    )
    error = one.error * other.magnitude + one.magnitude * other.error + one.error * other.error
    reach = (one.magnitude + one.error) * (other.magnitude + other.error)
    return outward(corners.amin(dim=0), corners.amax(dim=0), unit * reach + TINY, error)


def inverse(state: State, unit: float) -> State:
    """1 / x, for values of both networks on one side of 0."""
    error = inflate(state.error, 2)
    least = torch.maximum(state.lower, -state.upper)
    near = least - error - 4 * UNIT * least.abs() - TINY
    some = torch.where(near > 0, near, math.nan)
    ends = torch.stack([1 / state.lower, 1 / state.upper])
    change = error / (least * some)
    low, high = (torch.where(near > 0, end, math.nan) for end in (ends.amin(dim=0), ends.amax(dim=0)))
    return outward(low, high, unit / some, inflate(change, 8)).sound()


def quotient(one: State, other: State, unit: float) -> State:
    """x / y."""
    return product(one, inverse(other, unit), unit)


def square(state: State, unit: float) -> State:
    """x x: never negative, and its error is |e| |2 t + e|."""
    low = torch.maximum(state.lower, -state.upper).clamp(min=0).square()
    reach = state.magnitude + state.error
    error = state.error * (2 * state.magnitude + state.error)
    made = outward(low, state.magnitude.square(), unit * reach.square() + TINY, error)
    return State(made.lower.clamp(min=0), made.upper, made.error, True, False)


def selected(condition: torch.Tensor, yes: State, no: State) -> State:
    """One or the other, by a condition that is the same in both networks."""
    parts = [torch.where(condition, getattr(yes, part), getattr(no, part)) for part in ("lower", "upper", "error")]
    return State.of(parts, yes.nonnegative and no.nonnegative, yes.nonpositive and no.nonpositive)
