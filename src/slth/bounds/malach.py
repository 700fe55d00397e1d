"""Malach, Yehudai, Shalev-Shwartz, Shamir 2020, "Proving the Lottery Ticket Hypothesis: Pruning is All You Need".

Weight pruning (lemmas A.1 to A.5, theorems 2.1 = A.6 and 2.3): every target weight is found among the source's weights
by exhaustion, which takes 1/eps² neurons. Neuron pruning (theorems 3.2, 3.3): no more than random features.

Differs: the paper's text leaves the lemmas' constants out; they are re-derived (theory, section 1.2) and agree with
the expression that Orseau et al. 2020 quote. All logarithms are natural.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from slth.bounds.exact import Number, ceiling, count, exact, floating, log, positive, precise, probability, ratio
from slth.bounds.theorem import (
    Assumption,
    Constants,
    Shape,
    WidthBound,
    choose,
    dense,
    divide_remedy,
    eps_below_one,
    no_biases,
    norms_at_most,
    relu_network,
    two_layer_source,
)
from slth.errors import ArgumentError

PAPER = "Malach, Yehudai, Shalev-Shwartz, Shamir 2020"
RULE = "max(1, ‖x‖_2) and max(1, ‖W_i‖_2, √s ‖W_i‖_max)"


@precise
def lemma_a1(eps: Number, delta: Number) -> int:
    """Lemma A.1: hidden neurons k >= (4 / eps²) log(2 / delta), so that two of them give alpha x within 2 eps.

    For |alpha| <= 1 and |x| <= 1, with probability at least 1 - delta: a neuron's two U[-1, 1] weights lie within eps
    of (alpha, 1) with probability at least eps² / 4, and another's of (-alpha, -1).
    """
    error, failure = positive("eps", eps), probability("delta", delta)
    return ceiling(4 / error**2 * log(2 / failure))


@precise
def lemma_a2(sparsity: int, eps: Number, delta: Number) -> int:
    """Lemma A.2: k >= s ⌈(16 s² / eps²) log(2s / delta)⌉ for a product with s weights, within eps for ‖x‖_∞ <= 1."""
    s, error, failure = count("sparsity", sparsity), positive("eps", eps), probability("delta", delta)
    return s * ceiling(16 * s**2 / error**2 * log(2 * s / failure))


@precise
def lemma_a3(sparsity: int, eps: Number, delta: Number) -> tuple[int, int]:
    """Lemma A.3: widths of two hidden layers that give one neuron v σ(⟨w, x⟩) within eps.

    k_1 >= s ⌈(64 s² / eps²) log(4s / delta)⌉ and k_2 >= (4 / eps) log(2 / delta).
    """
    return lemma_a4(sparsity, 1, eps, delta)


@precise
def lemma_a4(sparsity: int, neurons: int, eps: Number, delta: Number) -> tuple[int, int]:
    """Lemma A.4: widths of two hidden layers that give a sum of n neurons v_i σ(⟨w_i, x⟩) within eps (Theorem 2.3).

    k_1 >= n s ⌈(64 s² n² / eps²) log(4 n s / delta)⌉ and k_2 >= n ⌈(4n / eps) log(2n / delta)⌉.
    """
    s, n = count("sparsity", sparsity), count("neurons", neurons)
    error, failure = positive("eps", eps), probability("delta", delta)
    first = n * s * ceiling(64 * s**2 * n**2 / error**2 * log(4 * n * s / failure))
    return first, n * ceiling(4 * n / error * log(2 * n / failure))


@precise
def lemma_a5(sparsity: int, outputs: int, eps: Number, delta: Number) -> int:
    """Lemma A.5: k >= n s ⌈(16 s² n / eps²) log(2 n s / delta)⌉ for one ReLU layer, within eps in the 2-norm."""
    s, n = count("sparsity", sparsity), count("outputs", outputs)
    error, failure = positive("eps", eps), probability("delta", delta)
    return n * s * ceiling(16 * s**2 * n / error**2 * log(2 * n * s / failure))


@precise
def layer_width(sparsity: int, outputs: int, depth: int, eps: Number, delta: Number) -> int:
    """Theorem A.6, one layer: k >= n s ⌈(64 s² l² n / eps²) log(2 n s l / delta)⌉.

    Lemma A.5 at eps / (2l) and delta / l: activations of the ticket have norm up to 1 + eps <= 2, which homogeneity
    turns into twice the error. The output layer of one neuron is the case n = 1; s = n is what Orseau et al. quote.
    """
    depth = count("depth", depth)
    return lemma_a5(sparsity, outputs, positive("eps", eps) / (2 * depth), probability("delta", delta) / depth)


def _assumptions(
    shape: Shape, sparsities: Sequence[int], factors: Sequence[float], eps: Decimal
) -> tuple[Assumption, ...]:
    remedy = divide_remedy(shape, factors, RULE)
    numbered = list(enumerate(zip(shape.layers, sparsities, strict=True), 1))
    return (
        dense(shape),
        no_biases(shape),
        relu_network(shape),
        eps_below_one(floating(eps)),
        norms_at_most("‖x‖_2 <= 1", [(shape.input_2norm, "sup ‖x‖_2")], remedy),
        norms_at_most("‖W_i‖_2 <= 1", [(layer.spectral, f"‖W_{i}‖_2") for i, (layer, _) in numbered], remedy),
        norms_at_most(
            "√s ‖W_i‖_max <= 1",
            [(math.sqrt(s) * layer.largest, f"√{s} ‖W_{i}‖_max") for i, (layer, s) in numbered],
            remedy,
        ),
    )


def _factors(shape: Shape, sparsities: Sequence[int]) -> tuple[float, ...]:
    layers = zip(shape.layers, sparsities, strict=True)
    return (
        max(1.0, shape.input_2norm),
        *(max(1.0, layer.spectral, math.sqrt(s) * layer.largest) for layer, s in layers),
    )


@precise
def theorem_a6(
    shape: Shape, eps: Number, delta: Number, constants: Constants = None, *, sparse: bool = True
) -> WidthBound:
    """Theorem A.6 (2.1): a source of twice the depth with U[-1, 1] weights holds a ticket for any such target.

    Parameters
    ----------
    shape : Shape
    eps, delta
        With probability at least 1 - delta, sup over ‖x‖_2 <= 1 of ‖F(x) - G(x)‖_2 is at most eps.
    constants : mapping, optional
        The theorem has none to choose.
    sparse : bool
        Take s, the nonzero weights of a row, from the target; otherwise s is the fan-in (Theorem 2.1).

    Returns
    -------
    WidthBound
        Four source weights serve one target weight.

    Notes
    -----
    Differs: each layer has its own n and s instead of the largest, and the output layer may have several neurons,
    with the error in the 2-norm. A.6's l counts target layers.
    """
    positive("eps", eps), probability("delta", delta), choose(constants)
    sparsities = [max(1, layer.row_nonzeros) if sparse else layer.fan_in for layer in shape.layers]
    hidden = [
        layer_width(s, layer.outputs, shape.depth, eps, delta)
        for s, layer in zip(sparsities, shape.layers, strict=True)
    ]
    error = exact(eps)
    factors = _factors(shape, sparsities)
    widths, weights = two_layer_source(shape, hidden)
    return WidthBound(
        theorem="Theorem A.6" if sparse else "Theorem 2.1",
        paper=PAPER,
        assumptions=_assumptions(shape, sparsities, factors, error),
        norm="sup over ‖x‖_2 <= 1 of the 2-norm",
        source_law="U[-1, 1]",
        widths=widths,
        weights=weights,
        target_weights=shape.weights,
        per_weight=tuple(ratio(k, layer.weights) for k, layer in zip(hidden, shape.layers, strict=True)),
        tolerances=tuple(
            floating(error / (2 * shape.depth * s * Decimal(layer.outputs).sqrt()))
            for s, layer in zip(sparsities, shape.layers, strict=True)
        ),
        factors=factors,
    )


def theorem_21(shape: Shape, eps: Number, delta: Number, constants: Constants = None) -> WidthBound:
    """Theorem 2.1: :func:`theorem_a6` with s = d in the first layer and s = n in the others."""
    return theorem_a6(shape, eps, delta, constants, sparse=False)


@precise
def theorem_23(shape: Shape, eps: Number, delta: Number, constants: Constants = None) -> WidthBound:
    """Theorem 2.3: a target of two layers from a source of three, with the widths of lemma A.4.

    Returns
    -------
    WidthBound
        Without widths for a target of any other depth.

    Notes
    -----
    Differs: of several outputs each gets two hidden layers of its own, at eps / √(outputs) and delta / outputs.
    """
    error, failure = positive("eps", eps), probability("delta", delta)
    choose(constants)
    first, last = shape.layers[0], shape.layers[-1]
    s, outputs = max(1, first.row_nonzeros), last.outputs
    factors = (max(1.0, shape.input_2norm), max(1.0, math.sqrt(s) * first.largest), max(1.0, last.largest))
    two = Assumption(
        "two layers", shape.depth == 2, f"{shape.depth} layers", "" if shape.depth == 2 else "malach-a6, for any depth"
    )
    widths: tuple[int, ...] = ()
    assumed: tuple[Assumption, ...] = (two,)
    weights = 0
    if two.holds:
        k1, k2 = lemma_a4(s, first.outputs, error / Decimal(outputs).sqrt(), failure / outputs)
        widths = (first.inputs, outputs * k1, outputs * k2, outputs)
        weights = sum(a * b for a, b in itertools.pairwise(widths))
        remedy = divide_remedy(shape, factors, "max(1, ‖x‖_2), max(1, √s ‖W_1‖_max) and max(1, ‖W_2‖_max)")
        assumed += (
            dense(shape),
            no_biases(shape),
            relu_network(shape),
            eps_below_one(floating(error)),
            norms_at_most("‖x‖_2 <= 1", [(shape.input_2norm, "sup ‖x‖_2")], remedy),
            norms_at_most("√s ‖W_1‖_max <= 1", [(math.sqrt(s) * first.largest, f"√{s} ‖W_1‖_max")], remedy),
            norms_at_most("‖W_2‖_max <= 1", [(last.largest, "‖W_2‖_max")], remedy),
        )
    return WidthBound(
        theorem="Theorem 2.3",
        paper=PAPER,
        assumptions=assumed,
        norm="sup over ‖x‖_2 <= 1 of the 2-norm",
        source_law="U[-1, 1]",
        widths=widths,
        weights=weights,
        target_weights=shape.weights,
        factors=factors if two.holds else (),
    )


@dataclass(frozen=True)
class NeuronPruning:
    """How wide a two-layer source must be so that pruning whole neurons suffices.

    Attributes
    ----------
    features : int
        k, neurons of one block: random features that fit the target on their own.
    blocks : int
        m, over which the pruned predictors are averaged.
    """

    features: int
    blocks: int

    @property
    def width(self) -> int:
        """k m."""
        return self.features * self.blocks


@precise
def pruning_error(
    features: int, blocks: int, largest: Number, lipschitz: Number, delta: Number, window: Number = 0.5
) -> float:
    """Remark 3.5, made exact: sup over ‖x‖_2 <= 1 of |c g(x) - average of the blocks' predictors|.

    (C L / (τ (1 - τ))) √(k / m) (6 + √(2 log(1 / delta))), with probability at least 1 - delta.

    Parameters
    ----------
    features, blocks : int
        k and m.
    largest : float
        C, the largest |u| of a block's fitted second layer, which must not depend on the random one.
    lipschitz : float
        L >= |σ(0)| of the activation.
    delta : float
    window : float
        τ in (0, 1/2]: a neuron stays if its second weight is within τ of (1 - τ) u / C, which happens with
        probability τ.

    Notes
    -----
    Differs: the paper keeps |v - u| <= eps without the factor 1 - τ, which biases the estimate where |u| is near C.
    """
    k, m = count("features", features), count("blocks", blocks)
    return floating(_pruning_factor(largest, lipschitz, delta, window) * (Decimal(k) / m).sqrt())


def _pruning_factor(largest: Number, lipschitz: Number, delta: Number, window: Number) -> Decimal:
    τ = probability("window", window)
    if τ > Decimal("0.5"):
        raise ArgumentError("window", str(window), "at most 1/2, so that it stays inside [-1, 1]", "0.5")
    scale = positive("largest", largest) * positive("lipschitz", lipschitz) / (τ * (1 - τ))
    return scale * (6 + (2 * log(1 / probability("delta", delta))).sqrt())


@precise
def blocks(features: int, largest: Number, lipschitz: Number, eps: Number, delta: Number, window: Number = 0.5) -> int:
    """Theorem 3.2: m >= k [C L (6 + √(2 log(1 / delta))) / (τ (1 - τ) eps)]² blocks of k features.

    Then :func:`pruning_error` is at most eps. Parameters as there.
    """
    k = count("features", features)
    return ceiling(k * (_pruning_factor(largest, lipschitz, delta, window) / positive("eps", eps)) ** 2)


@precise
def features_finite(samples: int, lipschitz: Number, smallest_eigenvalue: Number, delta: Number) -> int:
    """Theorem 3.3 (i): k >= 512 L⁴ M² λ^-2 log(2 M² / delta) features interpolate M samples.

    With probability at least 1 - delta the empirical kernel matrix keeps three quarters of λ = λ_min(H) (Hoeffding for
    entries of at most 4 L², then the Frobenius norm), and interpolating coefficients are at most 8 L M / (3 k λ).
    """
    m, λ = count("samples", samples), positive("smallest_eigenvalue", smallest_eigenvalue)
    scale = 512 * positive("lipschitz", lipschitz) ** 4 * m**2 / λ**2
    return ceiling(scale * log(2 * m**2 / probability("delta", delta)))


@precise
def random_features_error(features: int, bound: Number, lipschitz: Number, delta: Number) -> float:
    """sup over ‖x‖_2 <= 1 of |f(x) - Σ h(w_i) σ(⟨w_i, x⟩) / k|, with probability at least 1 - delta.

    (L C / √k) (4 + √(2 log(1 / delta))) for sup |h| <= C, f as in :func:`features_rkhs` and k features.
    """
    scale = positive("bound", bound) * positive("lipschitz", lipschitz)
    root = Decimal(count("features", features)).sqrt()
    return floating(scale / root * (4 + (2 * log(1 / probability("delta", delta))).sqrt()))


@precise
def features_rkhs(bound: Number, lipschitz: Number, eps: Number, delta: Number) -> int:
    """Theorem 3.3 (ii): k >= [(L C / eps) (4 + √(2 log(1 / delta)))]² features approximate a function of the class.

    The class is all f = E h(w) σ(⟨w, x⟩) with sup |h| <= C, w uniform on [-1/√d, 1/√d]^d; the error is in the supremum
    over ‖x‖_2 <= 1, with u_i = h(w_i) / k.
    """
    scale = positive("bound", bound) * positive("lipschitz", lipschitz) / positive("eps", eps)
    return ceiling((scale * (4 + (2 * log(1 / probability("delta", delta))).sqrt())) ** 2)


@precise
def theorem_33_finite(
    samples: int, lipschitz: Number, smallest_eigenvalue: Number, eps: Number, delta: Number, window: Number = 0.5
) -> NeuronPruning:
    """Theorem 3.3 (i): width so that c g(x_i) is within eps of y_i on M samples with ‖x‖ <= 1 and |y| <= 1.

    Half of delta is for the features of all blocks, half for the average. The number of blocks falls as the features
    grow, so the blocks that k at delta / 2 asks for remain enough when k is raised to serve all of them.
    """
    failure, λ = probability("delta", delta) / 2, positive("smallest_eigenvalue", smallest_eigenvalue)

    def blocks_for(k: int) -> int:
        return blocks(k, 8 * exact(lipschitz) * samples / (3 * k * λ), lipschitz, eps, failure, window)

    return _serving(lambda share: features_finite(samples, lipschitz, λ, share), blocks_for, failure)


@precise
def theorem_33_rkhs(
    bound: Number, lipschitz: Number, eps: Number, delta: Number, window: Number = 0.5
) -> NeuronPruning:
    """Theorem 3.3 (ii): width so that c g is within eps of a function of the class on ‖x‖_2 <= 1, whatever d is.

    Half of eps and of delta is for the features, half for the average; as in :func:`theorem_33_finite`.
    """
    error, failure = positive("eps", eps) / 2, probability("delta", delta) / 2

    def blocks_for(k: int) -> int:
        return blocks(k, exact(bound) / k, lipschitz, error, failure, window)

    return _serving(lambda share: features_rkhs(bound, lipschitz, error, share), blocks_for, failure)


def _serving(
    features_for: Callable[[Decimal], int], blocks_for: Callable[[int], int], failure: Decimal
) -> NeuronPruning:
    """Features such that every block's fail with its share of the probability, and the blocks that these need."""
    most = blocks_for(features_for(failure))
    features = features_for(failure / most)
    return NeuronPruning(features, blocks_for(features))
