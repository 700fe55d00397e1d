"""Burkholz 2022, "Most Activation Functions Can Win the Lottery Without Excessive Depth".

Two layers of the source for one of the target (theorems 2.5, 2.6), or one for one after the first (2.7, 2.9), for any
continuous activation; and how far each weight may be missed (lemma 2.8).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from slth.activations import Activation
from slth.bounds.exact import Number, ceiling, count, exact, floating, log, positive, precise, probability
from slth.bounds.lueker import HALF_PRODUCT, PRODUCT, UNIFORM, fitted
from slth.bounds.theorem import (
    Assumption,
    Constant,
    Constants,
    Shape,
    WidthBound,
    choose,
    dense,
    divide_remedy,
    eps_below_one,
    norms_at_most,
)
from slth.errors import ArgumentError

PAPER = "Burkholz 2022"
Output = Literal["component", "1-norm"]


@precise
def lemma_24(activation: Activation, eps: Number) -> Decimal:
    """Lemma 2.4: bound on |x - (φ(x) - φ(-x)) / (m_+ + m_-)| over [-a(eps), a(eps)]: 2 eps / |m_+ + m_-|.

    Returns
    -------
    Decimal
        0 for an activation without approximation error.
    """
    if activation.homogeneous:
        return Decimal(0)
    return 2 * positive("eps", eps) / abs(exact(activation.slope_sum))


def block_width(base_set: int, inputs: int, *, constant: bool = True) -> int:
    """Neurons m (n + 1) of a layer of blocks, one for each of n inputs and one for constants.

    Examples
    --------
    The two widths of the paper's circle experiment:

    >>> block_width(10, 16), block_width(15, 1024)
    (170, 15375)
    """
    return count("base_set", base_set) * (count("inputs", inputs) + constant)


@dataclass(frozen=True)
class Initialisation:
    """How theorem 2.5 wants its two layers drawn, so that the activation is nearly linear where it is used.

    Attributes
    ----------
    activation_error : float
        ε''; 0 for an activation without approximation error.
    first_scale : float
        σ: first weights and biases are U[-σ, σ]; 0 where the remainders at σ M are below the smallest float64.
    second_scale : float
        1 / (|m_+ + m_-| σ): second weights are U[-that, that].
    """

    activation_error: float
    first_scale: float
    second_scale: float


@precise
def initialisation(
    activation: Activation, inputs: int, base_set: int, eps: Number, *, lipschitz: Number = 1, largest_input: Number = 1
) -> Initialisation:
    """Theorem 2.5: ε'' and σ = min(1, a(ε'') / M), so that activations err by at most eps / 2 after the second layer.

    Each of the blocks errs by at most m ε'' / (|m_+ + m_-| σ) = m M g(ε'') / |m_+ + m_-|, to be at most
    eps / (2 T (n_0 + 1)).

    Parameters
    ----------
    activation : Activation
        φ_0, of the layer between.
    inputs, base_set : int
        n_0, and m neurons a block.
    eps : float
        Error of one output component.
    lipschitz : float
        T, of the activation that follows.
    largest_input : float
        M = max(1, sup ‖x‖_∞).

    Notes
    -----
    Differs: the paper writes C log(...) for m, with the constant of its proof; here m is given.
    """
    slope, m = abs(exact(activation.slope_sum)), count("base_set", base_set)
    if slope == 0:
        raise ArgumentError("activation", activation.name, "m_+ + m_- different from 0", "another first activation")
    largest = max(Decimal(1), positive("largest_input", largest_input))
    share = positive("eps", eps) / (2 * positive("lipschitz", lipschitz) * (count("inputs", inputs) + 1))
    ratio = floating(share * slope / (m * largest))
    error = activation.g_inverse(ratio) if ratio else 0.0
    scale = activation.reach(error) / floating(largest) if error else 0.0
    if scale >= 1:
        # σ stays at 1, so only [-M, M] is used, where the activation errs less; g grows, so this fits the share.
        error, scale = activation.remainder(floating(largest)), 1.0
    return Initialisation(error, scale, floating(1 / (slope * exact(scale))) if scale else math.inf)


def base_law(activation: Activation, looks_linear: bool = False) -> Constant:
    """Fitted constant of a two-for-one block: half of it serves each sign, unless φ_0 or mirrored pairs serve both"""
    return fitted(PRODUCT if looks_linear or not activation.split else HALF_PRODUCT, "C_two")


@precise
def width_25(
    inputs: int,
    outputs: int,
    eps: Number,
    delta: Number,
    *,
    constant: Number,
    lipschitz: Number = 1,
    largest_input: Number = 1,
    bias: bool = True,
) -> int:
    """Theorem 2.5: neurons C n_0 log(n_0 / min(eps / (T M), delta / n_1)) of the layer between.

    Every output component is then within eps with probability at least 1 - delta; activations err apart from it, see
    :func:`initialisation`. For d != 0 the layer is made of mirrored pairs (Theorem 2.6), twice as many neurons.

    Notes
    -----
    Differs: blocks of equal size, so C log(...) is rounded up first; one block more for biases.
    """
    n, scale = count("inputs", inputs), positive("lipschitz", lipschitz) * max(Decimal(1), exact(largest_input))
    least = min(positive("eps", eps) / scale, probability("delta", delta) / count("outputs", outputs))
    return block_width(max(1, ceiling(positive("constant", constant) * log(n / least))), n, constant=bias)


@precise
def width_27(
    inputs: int,
    outputs: int,
    copies: int,
    eps: Number,
    delta: Number,
    *,
    constant: Number,
    lipschitz: Number = 1,
    largest_input: Number = 1,
    bias: bool = True,
) -> int:
    """Theorem 2.7: neurons C n log(n / min(eps / (M T), delta / (ρ n_next))) that serve ρ copies of the next layer.

    There are ρ n_next (n + 1) subset sums with U[-1, 1] itself. Rounding and the block for biases as in
    :func:`width_25`.
    """
    return width_25(
        inputs,
        outputs * count("copies", copies),
        eps,
        delta,
        constant=constant,
        lipschitz=lipschitz,
        largest_input=largest_input,
        bias=bias,
    )


@precise
def lemma_28(shape: Shape, eps: Number, *, output: Output = "component", printed: bool = False) -> tuple[Decimal, ...]:
    """Lemma 2.8: how far every weight and bias of layer l may be missed.

    eps_l = eps / (n_l L) / [Π_{k>=l} T_k (1 + M_{l-1}) Π_{k>l} (‖W_k‖ + eps / L)], at most eps / (n_l L).

    Parameters
    ----------
    shape : Shape
        M_{l-1} = sup ‖x^(l-1)‖_1 is given there or propagated.
    eps : float
        Bound on the error; smaller eps gives smaller eps_l as long as no norm is below eps.
    output : {"component", "1-norm"}
        What eps bounds: every output alone, where max(1, ‖W_L‖_max) + eps / L stands for the last norm, or their sum.
    printed : bool
        The paper's formula: row sums, 1 + eps / L for the last layer in every eps_l, no cap.

    Notes
    -----
    Differs (theory, section 4.4): vectors are measured in the 1-norm, so ‖W‖ is the largest **column** sum, where the
    paper's ‖W‖_∞ reads as the largest row sum; the paper's form bounds single components only, as theorem 2.9 uses
    it, and not the 1-norm that the lemma states; the cap makes n_l eps_l <= eps / L true for T < 1; layers have
    Lipschitz constants of their own.
    """
    if output not in ("component", "1-norm"):
        raise ArgumentError("output", repr(output), "'component' or '1-norm'")
    error, depth = positive("eps", eps), shape.depth
    inputs = [exact(value) for value in shape.activation_bounds("1")]
    norms = [exact(layer.row_sum if printed else layer.column_sum) + error / depth for layer in shape.layers]
    if printed or output == "component":
        largest = Decimal(1) if printed else max(Decimal(1), exact(shape.layers[-1].largest))
        norms[-1] = largest + error / depth
    tolerances = []
    for i, layer in enumerate(shape.layers):
        base = error / (layer.outputs * layer.positions * depth)
        lipschitz = math.prod((exact(later.activation.lipschitz) for later in shape.layers[i:]), start=Decimal(1))
        # The last layer multiplies no error of its own; the paper keeps the factor there, which does no harm.
        passed = norms[i + 1 :] if i + 1 < depth or not printed else norms[-1:]
        growth = lipschitz * (1 + inputs[i]) * math.prod(passed, start=Decimal(1))
        tolerances.append(base / growth if printed else min(base, base / growth))
    return tuple(tolerances)


def _assumptions(shape: Shape, eps: Decimal, factors: Sequence[float], allow_offset: bool) -> tuple[Assumption, ...]:
    first = shape.layers[0].activation
    remedy = divide_remedy(shape, factors, "max(1, ‖W_i‖_max, ‖b_i‖_∞)")
    numbered = list(enumerate(shape.layers, 1))
    sum_ok, offset_ok = first.slope_sum != 0, allow_offset or first.d == 0
    return (
        dense(shape),
        eps_below_one(floating(eps)),
        norms_at_most("|w| <= 1", [(layer.largest, f"‖W_{i}‖_max") for i, layer in numbered], remedy),
        norms_at_most("|b| <= 1", [(layer.largest_bias, f"‖b_{i}‖_∞") for i, layer in numbered], remedy),
        Assumption(
            "m_+ + m_- != 0 for the first activation",
            sum_ok,
            f"{first.slope_sum:g} ({first.text})",
            "" if sum_ok else "a first activation that is not even near 0",
        ),
        Assumption(
            "φ(0) = 0 for the first activation",
            offset_ok,
            f"{first.d:g} ({first.text})",
            "" if offset_ok else "burkholz-2.6, the looks-linear initialisation",
        ),
    )


def _factors(shape: Shape) -> tuple[float, ...]:
    """Input 1, then what brings every weight and bias into [-1, 1]; a bias shrinks with all factors before it."""
    factors = [1.0]
    for layer in shape.layers:
        passed = math.prod(factors)
        factors.append(max(1.0, layer.largest, layer.largest_bias / passed))
    return tuple(factors)


@precise
def _sizes(
    tolerances: Sequence[Decimal], constants: Sequence[Decimal], problems: Decimal, failure: Decimal
) -> tuple[int, ...]:
    """m_l = ⌈C_l log(1 / min(eps_l, delta / ρ))⌉."""
    return tuple(
        max(1, ceiling(constant * log(max(Decimal(1), 1 / min(tolerance, failure / problems)))))
        for tolerance, constant in zip(tolerances, constants, strict=True)
    )


@dataclass(frozen=True)
class Copies:
    """The fixed point of theorem 2.9.

    Attributes
    ----------
    base_sets : tuple of int
        m_l: neurons of a block that serves target layer l.
    problems : int
        ρ: subset sums to solve, of which each may fail with probability delta / ρ.
    rounds : int
        Iterations until ρ stayed.
    """

    base_sets: tuple[int, ...]
    problems: int
    rounds: int


@precise
def copies(shape: Shape, tolerances: Sequence[Decimal], constants: Sequence[Decimal], delta: Number) -> Copies:
    """How many copies of every target layer theorem 2.9 needs, and how many subset sums that makes.

    Target layer l < L exists m_{l+1} times, once for every neuron of the blocks of layer l + 1; ρ counts the subset
    sums of all copies, two for each weight of the first layer if its activation treats the signs apart, and one for
    each constant neuron built on the way to later biases. ρ enters m through a logarithm only; it is raised until it
    stays.

    Notes
    -----
    Differs: the paper bounds ρ by C N^(1+γ) log(1 / min(eps_l, delta)) for any γ > 0.
    """
    failure, signs = probability("delta", delta), 2 if shape.layers[0].activation.split else 1
    constant_blocks = _constant_blocks(shape)
    problems = rounds = 0
    while True:
        rounds += 1
        sizes = _sizes(tolerances, constants, Decimal(max(1, problems)), failure)
        times = (*sizes[1:], 1)
        counted = sum(
            many * ((signs if i == 0 else 1) * layer.nonzeros + layer.biases)
            for i, (layer, many) in enumerate(zip(shape.layers, times, strict=True))
        )
        counted += sum(size for size, needed in zip(sizes[1:], constant_blocks[1:], strict=True) if needed)
        if counted <= problems:
            return Copies(sizes, problems, rounds)
        problems = counted


def _constant_blocks(shape: Shape) -> list[bool]:
    """Whether the block layer before target layer l needs constants: that layer or a later one has biases."""
    return [any(later.biases for later in shape.layers[i:]) for i in range(shape.depth)]


@precise
def theorem_29(
    shape: Shape,
    eps: Number,
    delta: Number,
    constants: Constants = None,
    *,
    output: Output = "component",
    printed: bool = False,
) -> WidthBound:
    """Theorem 2.9: a source of depth L + 1, layer l + 1 with C n_l log(1 / min(eps_{l+1}, delta / ρ)) neurons.

    Parameters
    ----------
    shape : Shape
    eps, delta
        With probability at least 1 - delta every output component (or their sum of magnitudes, see ``output``) is
        within eps over the domain.
    constants : mapping, optional
        ``C`` of the later layers, whose elements are U[-1, 1]; ``C_two`` of the first, whose elements are products.
    output, printed
        As in :func:`lemma_28`.

    Returns
    -------
    WidthBound
        Among its constants ``rho``, and for an activation with approximation error ``sigma``, the scale of the first
        layer; half of the first layer's tolerance is then the activation's.

    Notes
    -----
    Differs: blocks m_l (n_{l-1} + 1) of equal size, the last for constants where biases need them; the first layer is
    taken for what it serves, n_0 and eps_1 (the paper prints n_1 and eps_{l+1}); ρ is counted, see :func:`copies`.
    """
    error, failure = positive("eps", eps), probability("delta", delta)
    first = shape.layers[0]
    looks_linear = first.activation.d != 0
    two = base_law(first.activation, looks_linear)
    chosen = choose(constants, fitted(UNIFORM), two)
    tolerances = list(lemma_28(shape, error, output=output, printed=printed))
    if not first.activation.homogeneous:
        tolerances[0] /= 2
    values = [exact(chosen["C_two"].value)] + [exact(chosen["C"].value)] * (shape.depth - 1)
    result = copies(shape, tolerances, values, failure)
    blocks = [
        block_width(m, layer.inputs * layer.taps, constant=needed)
        for m, layer, needed in zip(result.base_sets, shape.layers, _constant_blocks(shape), strict=True)
    ]
    if looks_linear:
        # Of n_0 + 1 blocks; constants come from φ(0), so their block needs no pairs, but has the pairs' size.
        blocks[0] *= 2
    widths = (first.inputs, *blocks, shape.layers[-1].outputs)
    rho = Constant("rho", floating(Decimal(result.problems)), "proved")
    used = (*chosen.values(), rho, *_sigma(shape, 0, result.base_sets[0], tolerances))
    return _bound(shape, "Theorem 2.9", error, widths, tolerances, used, allow_offset=True)


@precise
def theorem_25(
    shape: Shape, eps: Number, delta: Number, constants: Constants = None, *, looks_linear: bool = False
) -> WidthBound:
    """Theorem 2.5 for every layer: a source of depth 2L, two layers for one of the target.

    Parameters
    ----------
    shape : Shape
    eps, delta
        As in :func:`theorem_29`.
    constants : mapping, optional
        ``C_two``, fitted to products of two uniforms (V max(0, U) if the signs are served apart).
    looks_linear : bool
        Theorem 2.6: mirrored pairs, which cancel φ(0).

    Returns
    -------
    WidthBound
        Blocks of m_l = ⌈C_two log(1 / min(eps_l, delta / ρ))⌉ neurons, with eps_l of :func:`lemma_28` and ρ the number
        of subset sums; m_l pairs with the looks-linear initialisation.

    Notes
    -----
    Differs: the theorem is about one layer (:func:`width_25`); lemma 2.8 puts the layers together, as the paper says
    after it. The activation between the layers is the first layer's everywhere.
    """
    error, failure = positive("eps", eps), probability("delta", delta)
    first = shape.layers[0].activation
    two = base_law(first, looks_linear)
    chosen = choose(constants, two)
    tolerances = [each if first.homogeneous else each / 2 for each in lemma_28(shape, error)]
    signs = 2 if first.split and not looks_linear else 1
    problems = Decimal(max(1, sum(signs * layer.nonzeros + layer.biases for layer in shape.layers)))
    sizes = _sizes(tolerances, [exact(chosen["C_two"].value)] * shape.depth, problems, failure)
    widths = [shape.layers[0].inputs]
    for m, layer in zip(sizes, shape.layers, strict=True):
        between = block_width(m, layer.inputs * layer.taps, constant=layer.biases > 0)
        widths += [between * (2 if looks_linear else 1), layer.outputs]
    sigmas = [_sigma(shape, i, m, tolerances) for i, m in enumerate(sizes)]
    return _bound(
        shape,
        "Theorem 2.6" if looks_linear else "Theorem 2.5",
        error,
        tuple(widths),
        tolerances,
        (*chosen.values(), Constant("rho", floating(problems), "proved"), *itertools.chain(*sigmas)),
        allow_offset=looks_linear,
    )


def theorem_26(shape: Shape, eps: Number, delta: Number, constants: Constants = None) -> WidthBound:
    """Theorem 2.6: :func:`theorem_25` with mirrored pairs, for activations with φ(0) != 0."""
    return theorem_25(shape, eps, delta, constants, looks_linear=True)


def _sigma(shape: Shape, index: int, base_set: int, tolerances: Sequence[Decimal]) -> tuple[Constant, ...]:
    """Scale of the first of two layers, such that activations cost what the halved tolerance leaves."""
    layer, activation = shape.layers[index], shape.layers[0].activation
    if activation.homogeneous or activation.slope_sum == 0:
        return ()
    largest = max(1.0, shape.activation_bounds("inf")[index])
    share = tolerances[index] * 2 * (1 + exact(shape.activation_bounds("1")[index]))
    drawn = initialisation(activation, layer.inputs * layer.taps, base_set, share, largest_input=largest)
    return (Constant(f"sigma_{index + 1}", drawn.first_scale, "proved"),)


def _bound(
    shape: Shape,
    theorem: str,
    error: Decimal,
    widths: tuple[int, ...],
    tolerances: Sequence[Decimal],
    constants: tuple[Constant, ...],
    allow_offset: bool,
) -> WidthBound:
    factors = _factors(shape)
    return WidthBound(
        theorem=theorem,
        paper=PAPER,
        assumptions=_assumptions(shape, error, factors, allow_offset),
        constants=constants,
        norm="sup over the domain of every output component",
        source_law="U[-1, 1], the first layer's scale apart",
        widths=widths,
        weights=sum(a * b for a, b in itertools.pairwise(widths)),
        target_weights=shape.weights,
        tolerances=tuple(floating(each) for each in tolerances),
        factors=factors,
    )
