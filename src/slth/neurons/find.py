"""From samples, or a function of w, to a neuron-subnetwork: the whole of Malach et al. 2020, Remark 3.5."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slth import __version__
from slth.activations import Activation, parse
from slth.errors import ArgumentError, DataError
from slth.neurons.fit import Progress, fit, silent
from slth.neurons.law import FeatureLaw
from slth.neurons.measure import measure
from slth.neurons.pilot import Trial, choose
from slth.neurons.prune import aims, best_tau, check_tau, largest_coefficients, rounded_up, window_mask
from slth.neurons.samples import Samples, unit_ball
from slth.neurons.source import NeuronSource
from slth.neurons.threads import linear_algebra
from slth.neurons.ticket import AIM_UNIT, FUNCTION, NeuronTicket, sampled_pairs

Floats = NDArray[np.float64]

FEATURES, BLOCKS, DELTA = 600, 100, 0.05
"""Chosen: on scikit-learn's digits pruning then costs about one percent of accuracy."""
SAMPLES_PER_FEATURE = 10
"""Of a block, where the data have more (chosen)."""


def find_neurons(
    inputs: Any,
    labels: Any = None,
    *,
    test: Samples | tuple[Any, Any] | None = None,
    task: str | None = None,
    features: int = FEATURES,
    blocks: int = BLOCKS,
    tau: float | None = None,
    ridge: float | None = None,
    activation: str = "relu",
    law: str = "sphere",
    constant: bool | None = None,
    block_samples: int | None = None,
    seed: int = 0,
    delta: float = DELTA,
    threads: int | None = None,
    on_progress: Progress = silent,
) -> NeuronTicket:
    """Prune the neurons of a random two-layer network until it answers as random features fitted to samples do.

    Malach et al. 2020, Theorem 3.2 by the algorithm of Remark 3.5: a network of k m neurons is drawn, each of its m
    blocks of k features is fitted without looking at the second layer v, and a neuron stays iff v is within τ of where
    its coefficient asks for it. In expectation over v the pruned network is the average of the m predictors.

    Parameters
    ----------
    inputs : (n, ...) numbers, or Samples
    labels : (n,) or (n, outputs) numbers, or (n,) strings
        Strings and whole numbers by type are classes, real numbers the values of a regression.
    test : Samples or (inputs, labels), optional
        Measured as well.
    task : str, optional
        ``"classification"`` or ``"regression"``, where the labels' type does not say it.
    features, blocks : int
        k and m.
    tau : float, optional
        τ in (0, 1/2], the kept fraction; by default that of least variance, :func:`slth.neurons.prune.best_tau`.
    ridge : float, optional
        Penalty of the fits, relative to the mean square of a feature; 0 interpolates where there are more features than
        samples (Theorem 3.3 (i)). By default :func:`slth.neurons.pilot.choose` finds one.
    activation, law : str
        σ, and the law of the first layer.
    constant : bool, optional
        Append a constant input, which functions need that do not scale with x; found in the same way by default.
    block_samples : int, optional
        How many samples each block is fitted to; by default 10 for each of its features, or all if there are fewer.
    seed : int
        Of the network.
    delta : float
        Failure probability of the ticket's error bound.
    threads : int, optional
        Of the linear algebra.
    on_progress : callable, optional
        Called with what is being done, how much of it is done and how much there is.

    Raises
    ------
    ArgumentError, DataError
        If an argument is out of range, or the samples are not finite or do not fit together.
    """
    begin = time.perf_counter()
    samples = inputs if isinstance(inputs, Samples) else Samples.build(inputs, labels, task)
    if test is not None and not isinstance(test, Samples):
        test = Samples.build(*test, samples.task, samples.targets.shape[1], "test data", samples.labels)
    _check_alike(samples, test)
    shape = samples.inputs.shape[1], samples.targets.shape[1]
    source = NeuronSource(seed, *shape, features, blocks, FeatureLaw.parse(law), constant is True)
    _check(tau, delta)
    if not (ridge is None or (isinstance(ridge, int | float) and 0 <= ridge < math.inf)):
        raise ArgumentError("ridge", repr(ridge), "a number from 0", "ridge=0.2")
    if constant not in (None, True, False):
        raise ArgumentError("constant", repr(constant), "true or false")
    if not (block_samples is None or (type(block_samples) is int and block_samples >= 1)):
        raise ArgumentError("block_samples", repr(block_samples), "a whole number from 1")
    given = block_samples or SAMPLES_PER_FEATURE * features
    block_samples = given if given < len(samples.inputs) else None
    sigma, scale = parse(activation), rounded_up(samples.largest_norm) or 1.0
    with linear_algebra(threads, block_samples or len(samples.inputs), features):
        ridge, with_constant = choose(Trial(samples, scale, source, sigma, tau, block_samples), ridge, constant)
        source = replace(source, constant=with_constant)
        ticket = _find(samples, test, source, sigma, tau, float(ridge), delta, scale, block_samples, on_progress)
    return replace(ticket, seconds=time.perf_counter() - begin)


def _find(
    samples: Samples,
    test: Samples | None,
    source: NeuronSource,
    sigma: Activation,
    tau: float | None,
    ridge: float,
    delta: float,
    scale: float,
    block_samples: int | None,
    on_progress: Progress,
) -> NeuronTicket:
    x = unit_ball(samples.inputs, scale, source.constant)
    coefficients, mean_squares = fit(source, sigma, x, samples.targets, ridge, on_progress, block_samples)
    ticket = _prune(source, sigma, coefficients, mean_squares, tau, delta)
    ticket = replace(ticket, ridge=ridge, task=samples.task, input_scale=scale)
    ticket = replace(ticket, labels=samples.labels, block_samples=block_samples)
    return replace(
        ticket,
        train=measure(ticket, coefficients, samples, on_progress),
        test=None if test is None else measure(ticket, coefficients, test, on_progress, "testing"),
    )


def approximate_neurons(
    function: Callable[[Floats], Floats],
    inputs: int,
    *,
    features: int = FEATURES,
    blocks: int = BLOCKS,
    tau: float | None = None,
    activation: str = "relu",
    law: str = "uniform",
    constant: bool = False,
    seed: int = 0,
    delta: float = DELTA,
) -> NeuronTicket:
    """Prune neurons until the network is close to f(x) = E h(w) σ(⟨w, x⟩) on the unit ball.

    Malach et al. 2020, Theorem 3.3 (ii): the coefficients of a block are the Monte-Carlo ones, u_i = h(w_i) / k; no
    samples are needed. :func:`slth.bounds.malach.theorem_33_rkhs` says how many features and blocks suffice.

    Parameters
    ----------
    function : callable
        h: first-layer weights (k, inputs), float64, to (k,) or (k, outputs) numbers.
    inputs : int
        Entries of x.
    features, blocks, tau, activation, constant, seed, delta
        As :func:`find_neurons`. With a constant input h reads one entry more.
    law : str
        Of w; the theorem has ``"uniform"``, on the cube [-1/√d, 1/√d]^d.

    Raises
    ------
    ArgumentError
    """
    begin = time.perf_counter()
    _check(tau, delta)
    drawn = FeatureLaw.parse(law)
    one = NeuronSource(seed, inputs, 1, features, blocks, drawn, constant)
    source = replace(one, outputs=len(_of_function(function, one.first(0, 1))))
    coefficients = function_coefficients(source, function)
    ticket = _prune(source, parse(activation), coefficients, np.ones(source.width), tau, delta)
    return replace(ticket, seconds=time.perf_counter() - begin)


def function_coefficients(source: NeuronSource, function: Callable[[Floats], Floats]) -> Floats:
    """u = h(w) / k of every neuron, (outputs, width).

    Raises
    ------
    ArgumentError
        If h gives another number of values than the source has outputs.
    """
    values = [_of_function(function, source.first(piece.start, piece.stop)) for piece in source.pieces()]
    if {len(each) for each in values} != {source.outputs}:
        raise ArgumentError(
            "function", f"{len(values[0])} values a row", f"{source.outputs}, as the network has outputs"
        )
    return np.concatenate(values, axis=1) / source.features


def _of_function(function: Callable[[Floats], Floats], rows: NDArray[np.float32]) -> Floats:
    try:
        values = np.asarray(function(rows.astype(np.float64)), dtype=np.float64)
    except Exception as error:
        raise ArgumentError(
            "function", f"{type(error).__name__} ({error})", "numbers for weights (k, inputs)"
        ) from error
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != len(rows) or values.size == 0 or not np.isfinite(values).all():
        need = f"({len(rows)},) or ({len(rows)}, outputs) finite numbers"
        raise ArgumentError("function", f"an array of shape {values.shape}", need)
    return values.T


def _prune(
    source: NeuronSource,
    sigma: Activation,
    coefficients: Floats,
    mean_squares: Floats,
    tau: float | None,
    delta: float,
) -> NeuronTicket:
    """Steps 3 to 5 of the algorithm; here, and not before, the second layer is drawn."""
    largest = largest_coefficients(coefficients)
    if tau is None:
        tau = best_tau(coefficients, mean_squares, largest)
    aim = aims(coefficients, largest, tau)
    mask = window_mask(source.second(), aim, tau)
    return NeuronTicket(
        source=source,
        activation=sigma.text,
        tau=float(tau),
        ridge=None,
        delta=float(delta),
        task=FUNCTION,
        input_scale=1.0,
        mask=mask,
        largest=largest,
        survivors_digest=source.survivors_digest(mask),
        train=None,
        test=None,
        generator_version=__version__,
        aims=np.rint(aim[sampled_pairs(source)] / AIM_UNIT).astype(np.int16),
    )


def _check(tau: float | None, delta: float) -> None:
    if tau is not None:
        check_tau(tau)
    if not (isinstance(delta, int | float) and 0 < delta < 1):
        raise ArgumentError("delta", repr(delta), "a number between 0 and 1", "delta=0.05")


def _check_alike(train: Samples, test: Samples | None) -> None:
    if test is None:
        return
    for name in ("inputs", "targets"):
        ours, theirs = getattr(train, name).shape[1], getattr(test, name).shape[1]
        if ours != theirs:
            raise DataError(test.where, f"test {name} of {theirs} entries", f"{ours}, as in the training part")
