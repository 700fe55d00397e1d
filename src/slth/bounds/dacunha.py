"""da Cunha, Natale, Viennot 2022, "Proving the Strong Lottery Ticket Hypothesis for Convolutional Neural Networks".

A convolution with kernel K becomes two, U (the same kernel size, random) and V (1 x 1, random), with U pruned to its
non-negative entries so that ReLU passes non-negative inputs on unchanged.
"""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from slth.bounds.exact import Number, ceiling, count, exact, floating, log, positive, precise, probability
from slth.bounds.lueker import HALF_PRODUCT, fitted
from slth.bounds.theorem import (
    ROUNDING,
    Assumption,
    Constants,
    Shape,
    WidthBound,
    choose,
    divide_remedy,
    eps_below_one,
    relu_network,
)

PAPER = "da Cunha, Natale, Viennot 2022"


def proposition_1(kernel: NDArray[np.floating], *, per_kernel: bool = True) -> float:
    """Proposition 1: a number N with ‖K * X‖_max <= N ‖X‖_max.

    Parameters
    ----------
    kernel : array, (outputs, inputs / groups, kernel axes ...)
    per_kernel : bool
        The largest 1-norm of one output channel's kernel; otherwise the paper's ‖K‖_1, the sum over all of them.

    Notes
    -----
    Differs: the paper has the sum over all entries; one output channel only sees its own kernel. A bound for numbers
    without rounding.
    """
    sums = np.abs(np.asarray(kernel, dtype=np.float64)).reshape(len(kernel), -1).sum(axis=1)
    return float(sums.max() if per_kernel else sums.sum())


@precise
def lemma_1(taps: int, inputs: int, eps: Number, constant: Number, *, biases: bool = False) -> int:
    """Lemma 1: n >= C log(d² c / eps) random kernels hold every kernel with ‖K‖_1 <= 1, within eps, w.p. 1 - eps.

    Parameters
    ----------
    taps, inputs : int
        d² and c.
    eps : float
        Both the error ‖.‖_max over inputs in [0, 1] and the probability of failure.
    constant : float
        C.
    biases : bool
        One element more for each output (the paper's footnote 1: d² becomes d² + 1).
    """
    return lemma_2(taps, inputs, 1, eps, constant, biases=biases)


@precise
def lemma_2(taps: int, inputs: int, outputs: int, eps: Number, constant: Number, *, biases: bool = False) -> int:
    """Lemma 2: n >= C c_1 log(d² c_0 c_1 / eps) intermediate channels for a layer of c_1 kernels; see :func:`lemma_1`.

    Differs: C log(...) is rounded up first, so that the c_1 blocks are equal.
    """
    entries = (count("taps", taps) + biases) * count("inputs", inputs) * count("outputs", outputs)
    return outputs * max(
        1, ceiling(positive("constant", constant) * log(max(Decimal(1), entries / positive("eps", eps))))
    )


def growth(eps: float, depth: int) -> float:
    """Proof of theorem 1: errors of eps / (2 l) a layer add up to (1 + eps / (2l))^l - 1 < eps, for eps < 1.

    Examples
    --------
    >>> growth(0.5, 4), growth(1e-20, 4)
    (0.2744293212890625, 5e-21)
    """
    step = floating(positive("eps", eps)) / (2 * count("depth", depth))
    return math.expm1(depth * math.log1p(step))


@precise
def theorem_1(
    shape: Shape,
    eps: Number,
    delta: Number,
    constants: Constants = None,
    *,
    grouped: bool = False,
    per_kernel: bool = True,
) -> WidthBound:
    """Theorem 1: n_i = C c_i log(c_{i-1} c_i d_i² l / min(eps, delta)) channels between, in a source of 2l layers.

    Parameters
    ----------
    shape : Shape
        A dense layer is a convolution of 1 x 1 images.
    eps, delta
        With probability at least 1 - delta, for every target of the class at once sup over X in [0, 1] of
        ‖f(X) - g(X)‖_max is below eps.
    constants : mapping, optional
        ``C``, fitted to V max(0, U).
    grouped : bool
        The 5-dimensional variant (section 2.1 of the paper): V in c_i groups, without the mask T.
    per_kernel : bool
        Ask for the 1-norm of every output channel's kernel, instead of the paper's ‖K‖_1 of all, to be at most 1.

    Notes
    -----
    Differs: ``per_kernel``, which is all that the proof uses; rounding as in :func:`lemma_2`. The paper's C comes from
    the density of U V, though its elements are V max(0, U); only C changes (theory, section 5.3).
    """
    error, failure = positive("eps", eps), probability("delta", delta)
    chosen = choose(constants, fitted(HALF_PRODUCT))
    least = min(error, failure) / shape.depth
    constant = exact(chosen["C"].value)
    hidden = [
        lemma_2(each.taps, each.inputs // each.groups, each.outputs, least, constant, biases=each.biases > 0)
        for each in shape.layers
    ]
    factors = (
        max(1.0, shape.input_max),
        *(max(1.0, layer.row_sum if per_kernel else layer.entry_sum) for layer in shape.layers),
    )
    widths, weights = [shape.layers[0].inputs], 0
    for layer, n in zip(shape.layers, hidden, strict=True):
        widths += [n, layer.outputs]
        weights += n * (layer.fan_in + (1 if grouped else layer.outputs))
    return WidthBound(
        theorem="Theorem 1",
        paper=PAPER,
        assumptions=_assumptions(shape, floating(error), factors, per_kernel),
        constants=tuple(chosen.values()),
        norm="sup over X in [0, 1] of the maximum norm",
        source_law="U[-1, 1]",
        widths=tuple(widths),
        weights=weights,
        target_weights=shape.weights,
        per_weight=tuple(floating(exact(n) / layer.weights) for n, layer in zip(hidden, shape.layers, strict=True)),
        tolerances=tuple(floating(error / (2 * shape.depth * layer.fan_in)) for layer in shape.layers),
        factors=factors,
    )


def _assumptions(shape: Shape, eps: float, factors: tuple[float, ...], per_kernel: bool) -> tuple[Assumption, ...]:
    remedy = divide_remedy(shape, factors, "max(1, ‖x‖_∞) and max(1, the kernel's 1-norm)")
    name = "the largest 1-norm of an output channel's kernel" if per_kernel else "the sum of all magnitudes"
    sums = [
        (layer.row_sum if per_kernel else layer.entry_sum, layer.row_sum, layer.entry_sum, i)
        for i, layer in enumerate(shape.layers, 1)
    ]
    _, row, total, at = max(sums)
    norms_hold = max(sums)[0] <= 1 + ROUNDING
    inputs_hold = shape.input_nonnegative and shape.input_max <= 1 + ROUNDING
    sign = "of both signs" if not shape.input_nonnegative else "non-negative"
    return (
        relu_network(shape),
        eps_below_one(eps),
        Assumption(
            "inputs in [0, 1]",
            inputs_hold,
            f"inputs {sign}, up to {shape.input_max:.6g}",
            ""
            if inputs_hold
            else "a first 1 x 1 layer that splits the signs (theory, section 5.5), if there are any to split; "
            + remedy,
        ),
        Assumption(
            f"‖K_i‖_1 <= 1, {name}",
            norms_hold,
            f"layer {at}: {row:.6g} for one output channel, {total:.6g} for all",
            "" if norms_hold else remedy,
        ),
    )
