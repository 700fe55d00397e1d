"""Proved bounds on how far an activation is from its two slopes at 0, each with its proof.

Every bound is computed in a few operations and rounded up by more than those can lose.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Remainder = Callable[[float], float]

_UP = 1.0 + 2.0**-49


def up(x: float) -> float:
    """A number above the exact value that a few roundings have turned into ``x >= 0``, underflow included."""
    return math.nextafter(x * _UP, math.inf)


def none(z: float) -> float:
    """Nothing: phi is phi^ (ReLU, LeakyReLU, PReLU, identity).

    And phi(t) - phi(-t) = (m_plus + m_minus) t then. The odd part of GELU and SiLU, phi(t) - phi(-t) = t, is as exact:
    both are t F(t) with F(t) + F(-t) = 1, for F the normal law, the sigmoid, or (1 + tanh u(t)) / 2 with u odd.
    """
    return 0.0


def tanh(z: float) -> float:
    """min(z^3 / 3, z). For t >= 0, t - tanh t is the integral of tanh^2 <= s^2 from 0 to t, and at most t."""
    return up(min(z * z * z / 3, z))


def sigmoid(z: float) -> float:
    """min(z^3 / 48, z / 4): sigmoid(t) - 1/2 - t/4 is (tanh(t/2) - t/2) / 2."""
    return up(min(z * z * z / 48, z / 4))


def twice(remainder: Remainder) -> Remainder:
    """For odd phi - d the odd remainder is twice the remainder."""
    return lambda z: up(2 * remainder(z))


def gelu(z: float) -> float:
    """min(z^2 / sqrt(2 pi), z / 2): t F(t) - t/2 = t (F(t) - F(0)), and F's density is at most 1 / sqrt(2 pi)."""
    return up(min(z * z / math.sqrt(2 * math.pi), z / 2))


def gelu_tanh(z: float) -> float:
    """(z / 2) min(u(z), 1), u(z) = sqrt(2 / pi) (z + 0.044715 z^3): t/2 tanh u(t), and |tanh u| <= min(|u|, 1)."""
    return up(z / 2 * min(math.sqrt(2 / math.pi) * (z + 0.044715 * z * z * z), 1.0))


def silu(z: float) -> float:
    """min(z^2 / 4, z / 2): t sigmoid(t) - t/2 = t/2 tanh(t/2), and |tanh(t/2)| <= min(|t| / 2, 1)."""
    return up(min(z * z / 4, z / 2))


def softplus(beta: float) -> Remainder:
    """min(beta z^2 / 8, z / 2), from the line with d = phi(0) = log 2 / beta.

    log(1 + e^y) = y/2 + log 2 + log cosh(y/2), and 0 <= log cosh v <= min(v^2 / 2, |v|), whose derivative tanh v is at
    most min(v, 1). Above its threshold T torch returns t instead, which is closer to the line from above, and still
    not below it while T >= 2 log 2.
    """
    return lambda z: up(min(beta * z * z / 8, z / 2))


def softplus_odd(threshold: float, jump: float) -> Remainder:
    """0 up to the threshold, log cosh being even; beyond it torch leaves out log(1 + e^-|y|) / beta <= jump.

    ``threshold`` is that of t, the function's own divided by beta.
    """
    return lambda z: 0.0 if z * _UP <= threshold else jump


def elu(alpha: float) -> Remainder:
    """alpha min(z^2 / 2, z): for s >= 0, alpha (e^-s - 1 + s), and 0 <= e^-s - 1 + s <= min(s^2 / 2, s).

    The same for the odd part: t - alpha (e^-t - 1) - (1 + alpha) t = -alpha (e^-t - 1 + t).
    """
    return lambda z: up(alpha * min(z * z / 2, z))


def hardtanh(low: float, high: float) -> Remainder:
    """What is cut off: max(z - high, z + low, 0), where a side whose slope at 0 is 0 loses nothing."""

    def bound(z: float) -> float:
        cut = max(z - high if high > 0 else 0.0, z + low if low < 0 else 0.0)
        return up(cut) if cut > 0 else 0.0

    return bound


def hardtanh_odd(low: float, high: float) -> Remainder:
    """What is cut off on both sides together."""

    def bound(z: float) -> float:
        cut = max(z - high if high > 0 else 0.0, 0.0) + max(z + low if low < 0 else 0.0, 0.0)
        return up(cut) if cut > 0 else 0.0

    return bound
