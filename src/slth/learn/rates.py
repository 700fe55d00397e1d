"""Convergence rates fitted from the tail of a descent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slth.errors import ArgumentError

TAIL = 0.5
"""Share of the steps, the last ones, that is fitted: the first hold modes that die out faster (chosen)."""

FLOOR = 1e-12
"""Errors below this share of the first are rounding (chosen)."""

LEAST_STEPS = 10
"""Fewer are not fitted (chosen)."""


@dataclass(frozen=True)
class Rates:
    """Linear convergence of every trial: the error is about C ν^t.

    Attributes
    ----------
    rate : (trial,)
        ν, the factor of one step; NaN where there was too little to fit.
    r_squared : (trial,)
        Of the regression of log error on the step.
    first, last : (trial,) int64
        The steps fitted, ``last`` not included.
    """

    rate: Tensor
    r_squared: Tensor
    first: Tensor
    last: Tensor


def fit_rates(errors: Tensor, tail: float = TAIL, floor: float = FLOOR) -> Rates:
    """Least squares of log error on the step, over the last steps before the floor of rounding.

    With noise the error ends on a plateau; fit the changes ‖W' - W‖ of the steps then, whose rate is the same.

    Parameters
    ----------
    errors : (trial, step)
        Positive; NaN at the end where a trial stopped earlier.
    tail : float
        Share of the steps that is fitted.
    floor : float
        Relative to the first error.

    Raises
    ------
    ArgumentError
        If the share is not above 0 and at most 1.

    Examples
    --------
    >>> fits = fit_rates(0.9 ** torch.arange(50.0, dtype=torch.float64)[None])
    >>> round(float(fits.rate), 6), round(float(fits.r_squared), 6)
    (0.9, 1.0)
    """
    if not 0.0 < tail <= 1.0:
        raise ArgumentError("tail", str(tail), "a share above 0 and at most 1", "0.5")
    values = errors.double()
    steps = torch.arange(values.shape[1], dtype=torch.float64)
    # NaN compares as false: a trial's usable steps end where it stopped, or where it reached the floor.
    usable = (values > floor * values[:, :1]).cumprod(dim=1).bool()
    last = usable.sum(dim=1)
    first = last - (last * tail).ceil().long()
    weights = (usable & (steps >= first[:, None])).double()
    n = weights.sum(dim=1)
    logs = torch.where(weights > 0, values.clamp_min(torch.finfo(torch.float64).tiny).log(), 0.0)
    middle, level = (weights * steps).sum(dim=1) / n, logs.sum(dim=1) / n
    x = weights * (steps - middle[:, None])
    y = weights * (logs - level[:, None])
    xx, yy, xy = (x * x).sum(dim=1), (y * y).sum(dim=1), (x * y).sum(dim=1)
    enough = n >= LEAST_STEPS
    nothing = torch.full_like(n, torch.nan)
    rate = torch.where(enough, (xy / xx).exp(), nothing)
    r_squared = torch.where(enough & (yy > 0), xy * xy / (xx * yy), nothing)
    return Rates(rate, r_squared, first, last)
