"""Kaiming's and Xavier's initialisations: a law of the source times one of these scales, as torch.nn.init has them."""

from __future__ import annotations

import math

import numpy as np

from slth.errors import ArgumentError

_GAINS = {
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d", "sigmoid"), 1.0),
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 0.75,
}


def gain(activation: str, slope: float = 0.01) -> float:
    """The gain of an activation, as ``torch.nn.init.calculate_gain`` defines it.

    Parameters
    ----------
    activation : str
        linear, conv1d, conv2d, conv3d, sigmoid, tanh, relu, selu or leaky_relu.
    slope : float
        Of leaky_relu's negative side.
    """
    if activation == "leaky_relu":
        return math.sqrt(2.0 / (1.0 + slope * slope))
    if activation not in _GAINS:
        raise ArgumentError("activation", repr(activation), f"one of {', '.join([*_GAINS, 'leaky_relu'])}", "relu")
    return _GAINS[activation]


def kaiming_uniform(fan: int, gain: float = math.sqrt(2.0)) -> float:
    """The half-width gain sqrt(3 / fan), for ``uniform`` (He et al. 2015)."""
    return _float32(gain * math.sqrt(3.0) / math.sqrt(_positive(fan)))


def kaiming_normal(fan: int, gain: float = math.sqrt(2.0)) -> float:
    """The standard deviation gain / sqrt(fan), for ``normal`` (He et al. 2015)."""
    return _float32(gain / math.sqrt(_positive(fan)))


def xavier_uniform(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    """The half-width gain sqrt(6 / (fan_in + fan_out)), for ``uniform`` (Glorot and Bengio 2010)."""
    return _float32(gain * math.sqrt(6.0 / _positive(fan_in + fan_out)))


def xavier_normal(fan_in: int, fan_out: int, gain: float = 1.0) -> float:
    """The standard deviation gain sqrt(2 / (fan_in + fan_out)), for ``normal`` (Glorot and Bengio 2010)."""
    return _float32(gain * math.sqrt(2.0 / _positive(fan_in + fan_out)))


def _positive(fan: int) -> int:
    if fan < 1:
        raise ArgumentError("fan", str(fan), "at least 1")
    return fan


def float32_above(value: float) -> float:
    """The least float32 that is not below."""
    rounded = np.float32(value)
    return float(rounded if float(rounded) >= value else np.nextafter(rounded, np.float32(np.inf)))


def _float32(scale: float) -> float:
    """Scales are float32 values, as :class:`~slth.source.spec.SourceLayer` has them; roots are rounded correctly."""
    return float(np.float32(scale))
