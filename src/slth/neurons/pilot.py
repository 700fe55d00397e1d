"""What the fits should be like, tried on blocks of another seed: the penalty, and whether a constant input helps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from slth.activations import Activation
from slth.neurons.fit import hidden
from slth.neurons.prune import aims, best_tau, kept_variance, largest_coefficients, output_constants
from slth.neurons.samples import Samples, unit_ball
from slth.neurons.source import NeuronSource

Floats = NDArray[np.float64]

RIDGES = (10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 5e-4, 2e-4, 1e-4)
"""Penalties that are tried (chosen)."""
FEWEST = 20
"""Samples below which nothing can be told apart, so that :data:`USUAL` is taken (chosen)."""
USUAL = 0.2
_BLOCKS = 2
_OTHER = 2**64 - 1
"""Differs in every bit from the network's own seed: no block that the ticket holds is looked at."""
_TIE = 1e-3
"""Weight of the squared error where answers are classes (chosen)."""


@dataclass(frozen=True)
class Trial:
    """What may be tried with every setting, and where."""

    samples: Samples
    scale: float
    source: NeuronSource
    activation: Activation
    tau: float | None
    block_samples: int | None


def choose(trial: Trial, ridge: float | None, constant: bool | None) -> tuple[float, bool]:
    """Penalty and constant input, where they are left open.

    For every setting two blocks of another seed are fitted to four fifths of the samples, and :func:`losses` says on
    the last fifth what a network of such blocks would lose. The setting that loses least is taken.

    Differs: the paper leaves all of this open. Neither the network's first layer nor its second is looked at.
    """
    if len(trial.samples.inputs) < FEWEST:
        return (USUAL if ridge is None else ridge), bool(constant)
    ridges = RIDGES if ridge is None else (ridge,)
    tried = [
        (loss, each, with_constant)
        for with_constant in ((False, True) if constant is None else (constant,))
        for each, loss in zip(ridges, losses(trial, ridges, with_constant), strict=True)
    ]
    _, best, with_constant = min(tried, key=lambda each: each[0])
    return best, with_constant


def losses(trial: Trial, ridges: Sequence[float], constant: bool) -> list[float]:
    """What pruned networks lose with each penalty, pruning's noise included.

    Of values: the mean squared error over the mean square of the targets. The product of two blocks' errors has that of
    an average of many blocks as its mean. Of classes: the share of samples that are given a wrong one, where the noise
    is taken for normal. Its variance follows from the coefficients, as for :func:`slth.neurons.prune.best_tau`.
    """
    source = replace(trial.source, seed=trial.source.seed ^ _OTHER, constant=constant)
    samples = trial.samples.take(source.sample_order(len(trial.samples.inputs))[: trial.block_samples])
    x = unit_ball(samples.inputs, trial.scale, constant)
    last = len(x) // 5
    power = np.maximum((trial.samples.targets**2).mean(axis=0), np.finfo(np.float64).tiny)
    features = [
        hidden(source, trial.activation, slice(number * source.features, (number + 1) * source.features), x)
        for number in range(_BLOCKS)
    ]
    found = [_all_ridges(each[last:], samples.targets[last:], ridges) for each in features]
    squares = np.concatenate([(each**2).mean(axis=0) for each in features])
    tested = np.concatenate([each[:last] for each in features], axis=1)
    result = []
    for index in range(len(ridges)):
        u = np.concatenate([each[index] for each in found]).T
        answers = [each[:last] @ own[index] for each, own in zip(features, found, strict=True)]
        product = np.prod([answer - samples.targets[:last] for answer in answers], axis=0).mean(axis=0)
        noise = tested**2 @ _spread(u, squares, trial.tau, source.blocks).T
        squared = float(((np.maximum(product, 0) + noise.mean(axis=0)) / power).mean())
        if samples.classes is None:
            result.append(squared)
        else:
            wrong = _share_wrong(np.mean(answers, axis=0), noise, samples.classes[:last])
            result.append(wrong + _TIE * squared)
    return result


def _share_wrong(answers: Floats, noise: Floats, classes: NDArray[np.int64]) -> float:
    """Expected share of wrong classes where ``answers`` (n, outputs) have normal noise of these variances."""
    rows = np.arange(len(answers))
    if answers.shape[1] == 1:
        margin, variance = np.where(classes == 1, 1.0, -1.0) * answers[:, 0], noise[:, 0]
    else:
        others = answers.copy()
        others[rows, classes] = -np.inf
        rival = others.argmax(axis=1)
        margin = answers[rows, classes] - answers[rows, rival]
        variance = noise[rows, classes] + noise[rows, rival]
    z = margin / np.sqrt(np.maximum(variance, np.finfo(np.float64).tiny))
    return float(np.mean([0.5 * math.erfc(each / math.sqrt(2)) for each in z]))


def _all_ridges(features: Floats, targets: Floats, ridges: Sequence[float]) -> Floats:
    """Coefficients (ridges, k, outputs) by one decomposition; see :func:`slth.neurons.fit.ridge_regression`."""
    n, k = features.shape
    penalties = [max(ridge, 1e-12) * float((features**2).mean()) or 1.0 for ridge in ridges]
    if k <= n:
        values, vectors = np.linalg.eigh(features.T @ features / n)
        right = vectors.T @ (features.T @ targets) / n
        return np.stack([vectors @ (right / (np.maximum(values, 0) + each)[:, None]) for each in penalties])
    values, vectors = np.linalg.eigh(features @ features.T)
    right = vectors.T @ targets
    dual = [vectors @ (right / (np.maximum(values, 0) + n * each)[:, None]) for each in penalties]
    return np.stack([features.T @ each for each in dual])


def _spread(u: Floats, mean_squares: Floats, tau: float | None, blocks: int) -> Floats:
    """Variance c² Var[b v] of each pair of output and neuron, (outputs, neurons of two blocks), as of all m blocks."""
    # The largest of many more coefficients is larger: as with exponential tails, which suits what fits give.
    largest = largest_coefficients(u) * max(1.0, math.log(u.shape[1] * blocks) / math.log(2 * u.shape[1]))
    tau = best_tau(u, mean_squares, largest) if tau is None else tau
    constants = output_constants(largest, tau, blocks)
    spread: Floats = constants[:, None] ** 2 * kept_variance(aims(u, largest, tau), tau) * (blocks / _BLOCKS)
    return spread
