"""Accelerated gradient descent on the CPU: every trial on one thread, one pass over its inputs a step.

Samples lie in blocks of :data:`LANES`, input by input. A neuron touches the rows of its own support only, each a run of
consecutive samples, and the backward pass reads them again while the block is still in the cache. The order of the
additions is the same for every batch and number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

LANES = 64
"""Samples of a block (chosen: the block of 500 inputs fits the second-level cache)."""

RUNNING, CONVERGED, EXHAUSTED, DIVERGED = 0, 1, 2, 3
"""What a trial came to: still running, stopped by the rule, out of iterations, or stopped as its loss exploded."""

RELU, SIGMOID = 0, 1
SQUARE, CROSS_ENTROPY = 0, 1

BLOW_UP = 1e6
"""A loss so many times the first one and the labels' power is a divergence (chosen)."""

_FAST = {"reassoc", "contract", "nsz"}
"""Sums may be split over lanes; what is not a number stays one."""


def blocks(inputs: NDArray[Any], labels: NDArray[Any], n_folds: int) -> tuple[NDArray[Any], ...]:
    """Samples as the kernel reads them.

    Parameters
    ----------
    inputs : (trial, sample, input)
    labels : (trial, sample)
    n_folds : int
        Disjoint parts, whose sizes differ by at most 1; each begins a block.

    Returns
    -------
    inputs : (trial, block, input, LANES)
        Zeros where a fold's last block is not full.
    labels : (trial, block, LANES)
    filled : (block,) int64
        Samples of a block.
    starts : (fold + 1,) int64
        First block of each fold, and the number of blocks.
    """
    n_trials, n_samples, n_inputs = inputs.shape
    edges = fold_edges(n_samples, n_folds)
    counts = np.diff(edges)
    starts = np.concatenate([[0], np.cumsum(-(-counts // LANES))]).astype(np.int64)
    x = np.zeros((n_trials, starts[-1], n_inputs, LANES), dtype=inputs.dtype)
    y = np.zeros((len(labels), starts[-1], LANES), dtype=inputs.dtype)
    filled = np.zeros(starts[-1], dtype=np.int64)
    for fold in range(n_folds):
        for block in range(starts[fold], starts[fold + 1]):
            first = edges[fold] + (block - starts[fold]) * LANES
            last = min(first + LANES, edges[fold + 1])
            x[:, block, :, : last - first] = inputs[:, first:last].transpose(0, 2, 1)
            y[:, block, : last - first] = labels[:, first:last]
            filled[block] = last - first
    return x, y, filled, starts


def fold_edges(n_samples: int, n_folds: int) -> NDArray[np.int64]:
    """(fold + 1,) Where consecutive folds, of sizes that differ by at most 1, begin, and the number of samples."""
    return np.arange(n_folds + 1, dtype=np.int64) * n_samples // n_folds


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def _forward(x: Any, index: Any, weights: Any, count: Any, out: Any) -> None:
    """Pre-activations of a neuron for the samples of a block, four inputs a pass."""
    for lane in range(LANES):
        out[lane] = 0.0
    i = 0
    while i + 4 <= count:
        x0, x1, x2, x3 = x[index[i]], x[index[i + 1]], x[index[i + 2]], x[index[i + 3]]
        w0, w1, w2, w3 = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        for lane in range(LANES):
            out[lane] += w0 * x0[lane] + w1 * x1[lane] + w2 * x2[lane] + w3 * x3[lane]
        i += 4
    while i < count:
        x0, w0 = x[index[i]], weights[i]
        for lane in range(LANES):
            out[lane] += w0 * x0[lane]
        i += 1


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def _backward(x: Any, index: Any, factors: Any, count: Any, gradient: Any) -> None:
    """Add Σ_n factor_n x_n to a neuron's gradient, four inputs a pass."""
    i = 0
    while i + 4 <= count:
        x0, x1, x2, x3 = x[index[i]], x[index[i + 1]], x[index[i + 2]], x[index[i + 3]]
        s0 = s1 = s2 = s3 = x.dtype.type(0.0)
        for lane in range(LANES):
            factor = factors[lane]
            s0 += factor * x0[lane]
            s1 += factor * x1[lane]
            s2 += factor * x2[lane]
            s3 += factor * x3[lane]
        gradient[i] += s0
        gradient[i + 1] += s1
        gradient[i + 2] += s2
        gradient[i + 3] += s3
        i += 4
    while i < count:
        x0 = x[index[i]]
        s0 = x.dtype.type(0.0)
        for lane in range(LANES):
            s0 += factors[lane] * x0[lane]
        gradient[i] += s0
        i += 1


@numba.njit(cache=True, nogil=True)
def _output_losses(output: Any, y: Any, filled: Any, loss: Any, clip: Any) -> Any:
    """The block's loss; ``output`` becomes its derivative by the network's output."""
    total = 0.0
    for lane in range(LANES):
        if lane >= filled:
            output[lane] = 0.0
            continue
        g, label = output[lane], y[lane]
        if loss == SQUARE:
            total += 0.5 * (g - label) * (g - label)
            output[lane] = g - label
        else:
            chance = min(max(g, clip), 1.0 - clip)
            total -= math.log(chance) if label > 0.5 else math.log(1.0 - chance)
            # Where the probability is clipped, the loss does not depend on the weights.
            output[lane] = (g - label) / (g * (1.0 - g)) if chance == g else 0.0
    return total


@numba.njit(cache=True, nogil=True)
def _block_gradient(
    x: Any, y: Any, filled: Any, index: Any, counts: Any, weights: Any, kinds: Any, clip: Any, room: Any, gradient: Any
) -> Any:
    """Add a block's gradient, times N K; return its loss, times N."""
    neurons = len(counts)
    output = room[neurons]
    for lane in range(LANES):
        output[lane] = 0.0
    for j in range(neurons):
        _forward(x, index[j], weights[j], counts[j], room[j])
        for lane in range(LANES):
            z = room[j, lane]
            value = max(z, 0.0) if kinds[0] == RELU else 1.0 / (1.0 + math.exp(-z))
            # From here on the slope is needed instead; 0 at the kink.
            if kinds[0] == RELU:
                room[j, lane] = 1.0 if z > 0.0 else 0.0
            else:
                room[j, lane] = value * (1.0 - value)
            output[lane] += value / neurons
    total = _output_losses(output, y, filled, kinds[1], clip)
    for j in range(neurons):
        for lane in range(LANES):
            room[j, lane] *= output[lane]
        _backward(x, index[j], room[j], counts[j], gradient[j])
    return total


@numba.njit(cache=True, nogil=True)
def _move(weights: Any, previous: Any, gradient: Any, truth: Any, counts: Any, step: Any, momentum: Any) -> Any:
    """One step; returns ‖ΔW‖², ‖W‖² before it, and ‖W - W*‖² after it."""
    change = size = error = 0.0
    for j in range(len(counts)):
        for i in range(counts[j]):
            old = weights[j, i]
            new = old - step * gradient[j, i] + momentum * (old - previous[j, i])
            weights[j, i], previous[j, i] = new, old
            change += (new - old) ** 2
            size += old * old
            error += (new - truth[j, i]) ** 2
    return change, size, error


@numba.njit(cache=True, nogil=True)
def descend_trials(
    chosen: Any,
    n_steps: Any,
    x: Any,
    y: Any,
    filled: Any,
    starts: Any,
    index: Any,
    counts: Any,
    weights: Any,
    previous: Any,
    truth: Any,
    outside: Any,
    norms: Any,
    steps: Any,
    status: Any,
    errors: Any,
    losses: Any,
    changes: Any,
    numbers: Any,
    kinds: Any,
) -> None:
    """Let the chosen trials run for so many more steps, each until it stops.

    Parameters
    ----------
    chosen : (c,) int64
        Trials that still run.
    n_steps : int
    x, y, filled, starts
        As of :func:`blocks`; a trial axis of 1 is shared.
    index : (trial, neuron, r) int64
        The supports; of a neuron's row the first ``counts`` hold.
    counts : (trial, neuron) int64
    weights, previous, truth : (trial, neuron, r)
        W, W before the last step, W*.
    outside, norms : (trial,) float64
        ‖W* outside the supports‖² and ‖W*‖.
    steps : (trial,) int64
        Steps done.
    status : (trial,) int8
    errors : (trial, iterations + 1) float64
        ‖W - W*‖ / ‖W*‖; so far up to ``steps``.
    losses, changes : (trial, iterations) float64
        Before, and ‖ΔW‖ / ‖W‖ of, each step.
    numbers : (4,) float64
        Step size, momentum, tolerance of the stopping rule, clip of probabilities.
    kinds : (2,) int64
        Activation and loss.
    """
    neurons = index.shape[1]
    room = np.empty((neurons + 1, LANES), x.dtype)
    gradient = np.empty((neurons, index.shape[2]), x.dtype)
    n_folds = len(starts) - 1
    for t in chosen:
        xt, yt = x[t if len(x) > 1 else 0], y[t if len(y) > 1 else 0]
        power = 0.0
        for block in range(len(filled)):
            for lane in range(filled[block]):
                power += 0.5 * yt[block, lane] * yt[block, lane]
        power /= filled.sum()
        for _ in range(n_steps):
            if status[t] != RUNNING:
                break
            at = steps[t]
            fold = at % n_folds
            gradient[:] = 0.0
            loss, n = 0.0, 0
            for block in range(starts[fold], starts[fold + 1]):
                n += filled[block]
                loss += _block_gradient(
                    xt[block], yt[block], filled[block], index[t], counts[t], weights[t], kinds, numbers[3], room,
                    gradient,
                )  # fmt: skip
            loss /= n
            losses[t, at] = loss
            if not loss <= BLOW_UP * max(losses[t, 0], power):
                status[t] = DIVERGED
                break
            change, size, error = _move(
                weights[t], previous[t], gradient, truth[t], counts[t],
                x.dtype.type(numbers[0] / (n * neurons)), x.dtype.type(numbers[1]),
            )  # fmt: skip
            steps[t] = at + 1
            errors[t, at + 1] = math.sqrt(error + outside[t]) / norms[t]
            changes[t, at] = math.sqrt(change / size) if size > 0.0 else (0.0 if change == 0.0 else np.inf)
            if changes[t, at] < numbers[2]:
                status[t] = CONVERGED
            elif at + 1 == changes.shape[1]:
                status[t] = EXHAUSTED
