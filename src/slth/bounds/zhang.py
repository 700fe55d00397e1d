"""Zhang, Wang, Liu, Chen, Xiong 2021, "Why Lottery Ticket Wins? A Theoretical Perspective of Sample Complexity".

How many samples training a pruned network of one hidden layer takes: linear in r, the weights a neuron keeps, instead
of d. The paper states orders only, so every constant here is 1 unless the caller chooses another, and only ratios of
the numbers mean something. No width comes from this paper.
"""

from __future__ import annotations

import math
from decimal import Decimal

from slth.bounds.exact import Number, ceiling, count, exact, floating, log, positive, precise
from slth.bounds.theorem import ROUNDING, Assumption, Constant, Constants, Requirement, choose, norms_at_most
from slth.errors import ArgumentError

PAPER = "Zhang, Wang, Liu, Chen, Xiong 2021"
STEP_DIVISOR = 14
"""Theorem 2's step size is K / 14."""


def _chosen(constants: Constants) -> Constant:
    return choose(constants, Constant("C", 1.0, "chosen"))["C"]


def _sizes(neurons: int, kept: int, inputs: int) -> tuple[int, int, int]:
    sizes = count("neurons", neurons), count("kept", kept), count("inputs", inputs, least=2)
    if kept > inputs:
        raise ArgumentError("kept", str(kept), f"at most the {inputs} inputs")
    return sizes


def _half(name: str, value: Number) -> Assumption:
    return norms_at_most(f"{name} < 1/2", [(floating(exact(value)), name)], "a smaller one", 0.5, strict=True)


def _samples(theorem: str, value: Decimal, constant: Constant, *assumptions: Assumption) -> Requirement:
    return Requirement(
        theorem=theorem,
        paper=PAPER,
        assumptions=assumptions,
        constants=(constant,),
        quantity="samples",
        value=max(1, ceiling(exact(constant.value) * value)),
    )


@precise
def theorem_1(neurons: int, kept: int, inputs: int, eps_1: Number, constants: Constants = None) -> Requirement:
    """Theorem 1: N = Ω(eps_1^-2 K⁴ r log d) samples make the risk strictly convex around the teacher.

    Its Hessian then lies between Θ((1 - eps_0 - eps_1) / K²) and Θ(1 / K) within a radius O(eps_0 / K²).

    Parameters
    ----------
    neurons, kept, inputs : int
        K, r and d.
    eps_1 : float
    constants : mapping, optional
        ``C``, hidden in Ω.
    """
    k, r, d = _sizes(neurons, kept, inputs)
    value = k**4 * r * log(d) / positive("eps_1", eps_1) ** 2
    below_one = norms_at_most("eps_1 < 1", [(floating(exact(eps_1)), "eps_1")], "a smaller one", strict=True)
    return _samples("Theorem 1", value, _chosen(constants), below_one)


@precise
def theorem_2(
    neurons: int, kept: int, inputs: int, eps_0: Number, eps: Number, constants: Constants = None
) -> Requirement:
    """Theorem 2: N = Ω(eps_0^-2 K⁸ r log d log(1 / eps)) samples; accelerated gradient descent reaches the teacher.

    Within ‖W - W*‖_F <= eps ‖W*‖_F plus noise of order √(K² r log d / N), from a start in theorem 1's ball.

    Notes
    -----
    Differs: equation (8) prints V for N.
    """
    k, r, d = _sizes(neurons, kept, inputs)
    value = k**8 * r * log(d) * _folds(eps) / positive("eps_0", eps_0) ** 2
    return _samples("Theorem 2", value, _chosen(constants), _half("eps_0", eps_0))


@precise
def lemma_1(
    neurons: int,
    kept: int,
    inputs: int,
    eps_0: Number,
    constants: Constants = None,
    *,
    noise: float = 0.0,
    teacher_norm: float = 1.0,
) -> Requirement:
    """Lemma 1: N = Ω(eps_0^-2 K⁸ r log⁴ d) samples; the tensor initialisation starts within eps_0 σ_K / K².

    Parameters
    ----------
    neurons, kept, inputs, eps_0, constants
        As above.
    noise, teacher_norm : float
        Largest |ξ|, assumed to be at most ‖W*‖_2.
    """
    k, r, d = _sizes(neurons, kept, inputs)
    value = k**8 * r * log(d) ** 4 / positive("eps_0", eps_0) ** 2
    small = noise <= teacher_norm * (1 + ROUNDING)
    quiet = Assumption(
        "|ξ| <= ‖W*‖_2", small, f"|ξ| = {noise:.6g}, ‖W*‖_2 = {teacher_norm:.6g}", "" if small else "less noise"
    )
    return _samples("Lemma 1", value, _chosen(constants), quiet)


@precise
def magnitude_pruning(neurons: int, inputs: int, eps: Number, constants: Constants = None) -> Requirement:
    """Section 4.1: N = Ω(K⁸ d log d log(1 / eps)) samples; a dense network then shows which weights to keep.

    Pruning the smallest magnitudes removes no teacher weight while at most a share 1 - r*/d is pruned.
    """
    k, d, _ = _sizes(neurons, inputs, inputs)
    return _samples("Section 4.1", k**8 * d * log(d) * _folds(eps), _chosen(constants))


@precise
def pruning_iterations(largest: Number, smallest: Number, constants: Constants = None) -> Requirement:
    """Section 4.1: T_1 = Θ(log(2 Ŵ_max / Ŵ_min)) iterations before magnitude pruning.

    Parameters
    ----------
    largest, smallest : float
        Largest and smallest **nonzero** magnitude of the teacher.

    Notes
    -----
    Differs: the paper says "smallest and largest value", which the zeros and signs of a teacher would make useless.
    """
    top, bottom = positive("largest", largest), positive("smallest", smallest)
    if bottom > top:
        raise ArgumentError("smallest", str(smallest), f"at most the largest, {largest}")
    constant = _chosen(constants)
    value = max(1, ceiling(exact(constant.value) * log(2 * top / bottom)))
    return Requirement(theorem="Section 4.1", paper=PAPER, constants=(constant,), quantity="iterations", value=value)


@precise
def folds(eps: Number) -> int:
    """Algorithm 1: T = ⌈log(1 / eps)⌉ disjoint parts of the data, one a step."""
    return max(1, ceiling(_folds(eps)))


def _folds(eps: Number) -> Decimal:
    error = positive("eps", eps)
    if error >= 1:
        raise ArgumentError("eps", str(eps), "a number below 1, relative to ‖W*‖_F", "0.01")
    return -log(error)


def failure_probability(neurons: int, steps: int, inputs: int) -> float:
    """Theorem 2 fails with probability at most K² T d^-10 (capped at 1)."""
    exponent = 2 * math.log(count("neurons", neurons)) + math.log(count("steps", steps))
    return min(1.0, math.exp(exponent - 10 * math.log(count("inputs", inputs))))
