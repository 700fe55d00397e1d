"""What the constructions and the proofs need to know of an activation function."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slth.activations.search import largest, smallest
from slth.errors import ArgumentError

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]

TRIED_ERRORS = (1e3, 1e2, 1e1, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-9, 1e-12)
"""Errors for which a user's own ``reach`` is tried (chosen)."""
_TRIED_POINTS = 2000
_TRIED_WIDTH = 100.0
"""Half-width of the grid where ``reach`` is infinite (chosen)."""
OWN_ROUNDING = 2.0**-40
"""Allowance for the rounding of a user's own function, relative to its size (chosen)."""


@dataclass(frozen=True)
class Activation:
    """A function phi that is nearly phi^(x) = m_plus x + d for x >= 0 and m_minus x + d for x < 0, near 0.

    Burkholz 2022, Assumption 2.3 and the table below it. Two activations are equal if their names, parameters and
    numbers are.

    Attributes
    ----------
    name : str
        A key of :data:`slth.activations.ACTIVATIONS`, or a name of the user's own.
    parameters : mapping of str to float
        By name, in the order of the text form.
    m_plus, m_minus, d : float
        Slopes to the right and to the left of 0, and phi(0), which is rounded for softplus alone; remainders are those
        of the line through phi(0) itself.
    lipschitz, jump : float
        |phi(a) - phi(b)| <= lipschitz |a - b| + jump; ``jump`` is 0 but for softplus as torch computes it.
    nonnegative, keeps_sign : bool
        Whether phi(x) >= 0 for all x; whether phi(x) >= 0 for x >= 0 and phi(x) <= 0 for x <= 0.
    proved : bool
        Whether the bounds are theorems (docstrings of :mod:`slth.activations.remainders`) and not a user's claim.
    saturation : float
        A bound on |phi(x)| over all x; infinite where there is none.
    """

    name: str
    parameters: Mapping[str, float] = field(hash=False)
    m_plus: float
    m_minus: float
    d: float
    lipschitz: float
    jump: float
    nonnegative: bool
    keeps_sign: bool
    function: Callable[[Floats], Floats] = field(repr=False, compare=False)
    remainder_bound: Callable[[float], float] = field(repr=False, compare=False)
    odd_remainder_bound: Callable[[float], float] = field(repr=False, compare=False)
    module: Callable[[], Any] | None = field(repr=False, compare=False)
    proved: bool = True
    saturation: float = math.inf

    @property
    def text(self) -> str:
        """The form that :func:`slth.activations.parse` reads: the name, and its parameters behind a colon."""
        return ":".join([self.name, *([",".join(map(repr, self.parameters.values()))] if self.parameters else [])])

    @property
    def rounding_units(self) -> int:
        """Units in the last place, 2^-53, by which one evaluation may be off (chosen): a library's, or a user's own.

        :mod:`slth.certify.activation` has the same.
        """
        return 16 if self.proved else round(OWN_ROUNDING * 2**53)

    @property
    def slope_sum(self) -> float:
        """m_plus + m_minus: phi(x) - phi(-x) is about this times x (Lemma 2.4)."""
        return self.m_plus + self.m_minus

    @property
    def split(self) -> bool:
        """Whether the two signs of an input need subset sums of their own: m_plus other than m_minus."""
        return self.m_plus != self.m_minus

    @property
    def one_sum(self) -> bool:
        """Whether one subset sum serves both signs of an input: m_plus = m_minus and d = 0 (Theorem 2.5)."""
        return not self.split and self.d == 0

    @property
    def homogeneous(self) -> bool:
        """Whether phi(c x) = c phi(x) for every c > 0: d = 0, and phi is phi^ everywhere."""
        return self.d == 0 and self.remainder(math.inf) == 0

    def value(self, x: ArrayLike) -> Floats:
        """phi(x) in float64, of the shape of x."""
        return self.function(np.asarray(x, dtype=np.float64))

    def remainder(self, z: float) -> float:
        """An upper bound on sup over |t| <= z of |phi(t) - phi^(t)|, rounded up; it never decreases with z."""
        return self.remainder_bound(_distance(self.name, z))

    def odd_remainder(self, z: float) -> float:
        """An upper bound on sup over |t| <= z of |phi(t) - phi(-t) - (m_plus + m_minus) t|, rounded up.

        This is what is left in a mirrored pair (Theorem 2.6), where d and the even part of phi cancel.
        """
        return self.odd_remainder_bound(_distance(self.name, z))

    def reach(self, eps: float) -> float:
        """a(eps) of Assumption 2.3: the largest a with ``remainder(a) <= eps``; infinite where phi is phi^.

        Differs from the paper's table for tanh and sigmoid, where a is also capped at the radius of convergence of
        the Taylor series (pi / 2, pi): the remainder holds beyond it.
        """
        if not eps > 0:
            raise ArgumentError(f"activation {self.name!r}", f"an error of {eps}", "a number above 0")
        return largest(lambda a: self.remainder(a) <= eps)

    def g_inverse(self, t: float) -> float:
        """The largest eps with g(eps) = eps / a(eps) <= t; infinite where there is none (sqrt(3) t^1.5 for tanh)."""
        if not t > 0:
            raise ArgumentError(f"activation {self.name!r}", f"a ratio of {t}", "a number above 0")
        # At the largest a with remainder(a) <= t a, eps = remainder(a) = t a.
        return t * largest(lambda a: self.remainder(a) <= t * a)

    def torch_module(self) -> torch.nn.Module:
        """A new torch module that computes it, in evaluation mode.

        Raises
        ------
        ArgumentError
            If a user's own activation came without one.
        """
        if self.module is None:
            raise ArgumentError(
                f"activation {self.name!r}", "no torch module", "a module", "Activation.custom(..., module=MyModule)"
            )
        module: torch.nn.Module = self.module()
        return module.eval()

    @classmethod
    def custom(
        cls,
        name: str,
        function: Callable[[Floats], Floats],
        m_plus: float,
        m_minus: float,
        d: float,
        reach: Callable[[float], float],
        lipschitz: float,
        *,
        nonnegative: bool = False,
        keeps_sign: bool = False,
        module: Callable[[], Any] | None = None,
    ) -> Activation:
        """A user's own activation, tried on a grid before it is used; a trial is not a proof.

        A file can hold a ticket with it once it has been registered, see :func:`slth.activations.register`.

        Parameters
        ----------
        name : str
            None of :data:`slth.activations.ACTIVATIONS`.
        function : callable
            float64 array -> float64 array of the same shape.
        m_plus, m_minus, d : float
            As in Assumption 2.3.
        reach : callable
            a(eps): for every eps, |phi - phi^| <= eps on [-a(eps), a(eps)]; infinite where phi is phi^. Neither a(eps)
            nor eps / a(eps) may fall as eps grows: bounds for large inputs must hold for small ones in proportion.
        lipschitz : float
        nonnegative, keeps_sign : bool, optional
            Tried as well where they are claimed.
        module : callable, optional
            Makes the torch module.

        Raises
        ------
        ArgumentError
            At the first point where a claim is false, which it names.
        """
        from slth.activations.registry import ACTIVATIONS

        if name in ACTIVATIONS:
            raise ArgumentError(
                f"activation {name!r}", "the name of one that slth has", "a name of its own", f"my_{name}"
            )
        where = f"activation {name!r}"
        m_plus, m_minus, d, lipschitz = (
            _real(where, word, number)
            for word, number in (("m_plus", m_plus), ("m_minus", m_minus), ("d", d), ("lipschitz", lipschitz))
        )

        def remainder(z: float) -> float:
            return 0.0 if z == 0 else smallest(lambda eps: reach(eps) >= z)

        made = cls(
            name=name,
            parameters={},
            m_plus=m_plus,
            m_minus=m_minus,
            d=d,
            lipschitz=lipschitz,
            jump=0.0,
            nonnegative=nonnegative,
            keeps_sign=keeps_sign,
            function=function,
            remainder_bound=remainder,
            # |phi(t) - phi(-t) - phi^(t) + phi^(-t)| is at most two remainders.
            odd_remainder_bound=lambda z: 2 * remainder(z),
            module=module,
            proved=False,
        )
        _try(made, reach)
        return made


def check_first_layer(activation: Activation) -> None:
    """Refuse an activation with which a two-for-one layer cannot begin (Burkholz 2022, Assumption 2.3).

    The paper's two examples are |x|, whose slopes cancel, and ReLU(x - 1), which is constant around 0.

    Raises
    ------
    ArgumentError
        With the reason, and where the theory still allows the activation.
    """
    if activation.slope_sum != 0:
        return
    slopes = f"slopes {activation.m_plus:g} and {activation.m_minus:g} at 0, which cancel in phi(x) - phi(-x)"
    constant = "a function that is constant around 0, so that no input passes it"
    raise ArgumentError(
        f"activation {activation.name!r} in the first layer",
        constant if activation.m_plus == 0 else slopes,
        "m_plus + m_minus other than 0 (Burkholz 2022, Assumption 2.3)",
        "another activation there; later one-for-one layers allow any continuous one (Theorem 2.7)",
    )


def _real(where: str, word: str, value: Any) -> float:
    real = isinstance(value, int | float | np.floating | np.integer) and not isinstance(value, bool)
    if not real or not math.isfinite(value):
        raise ArgumentError(f"{where}, {word}", repr(value), "a finite number")
    return float(value)


def _number_of(reach: Callable[[float], float], eps: float) -> float:
    return float(reach(eps))


def _called(where: str, what: str, call: Callable[[], Any]) -> Any:
    """What a user's own function gives; its errors are the user's to see."""
    try:
        with np.errstate(all="ignore"):
            return call()
    except Exception as error:
        raise ArgumentError(where, f"{type(error).__name__} from {what} ({error})", "numbers") from error


def _distance(name: str, z: float) -> float:
    if not z >= 0:
        raise ArgumentError(f"activation {name!r}", f"a distance of {z}", "a number of at least 0")
    return float(z)


def _try(activation: Activation, reach: Callable[[float], float]) -> None:
    where = f"activation {activation.name!r}"
    if activation.lipschitz < 0 or not activation.name:
        raise ArgumentError(where, f"{activation.lipschitz:g}", "a name, and a Lipschitz constant of at least 0")
    half = np.linspace(0, 1, _TRIED_POINTS)
    fine = np.geomspace(1e-9, 1, _TRIED_POINTS)
    grids = [np.concatenate([-positive[::-1], [0.0], positive]) for positive in (half[1:], fine)]
    before, ratio = 0.0, 0.0
    for eps in sorted(TRIED_ERRORS):
        a = _called(where, f"reach({eps:g})", functools.partial(_number_of, reach, eps))
        if not a > 0 or a < before:
            raise ArgumentError(where, f"reach({eps:g}) = {a:g}", "a number above 0 that does not fall with eps")
        if eps / a < ratio * (1 - OWN_ROUNDING):
            got = f"eps / reach(eps) = {eps / a:.6g} at {eps:g}, and {ratio:.6g} at a smaller eps"
            raise ArgumentError(where, got, "one that does not fall as eps grows", "a smaller reach for large eps")
        before, ratio = a, eps / a
        for grid in grids:
            _try_on(activation, grid * min(a, _TRIED_WIDTH), eps)
    for grid in grids:
        _try_on(activation, grid * _TRIED_WIDTH, math.inf)


def _try_on(activation: Activation, x: Floats, eps: float) -> None:
    """Try every claim on a grid that holds 0."""
    where = f"activation {activation.name!r}"
    y = _called(where, "the function", lambda: np.asarray(activation.value(x)))
    if y.shape != x.shape or y.dtype != np.float64:
        got = f"{y.dtype} values of shape {y.shape}"
        raise ArgumentError(where, got, f"float64 numbers of the argument's shape {x.shape}")
    if not np.isfinite(y).all():
        worst = int(np.argmin(np.isfinite(y)))
        raise ArgumentError(where, f"phi({x[worst]:.6g}) = {y[worst]}", "finite numbers")
    slack = OWN_ROUNDING * (1 + np.abs(y) + np.abs(x) * activation.lipschitz)
    line = np.where(x >= 0, activation.m_plus, activation.m_minus) * x + activation.d
    steps = np.abs(np.diff(y)) - activation.lipschitz * np.diff(x)
    negative = np.where(x >= 0, np.maximum(-y, 0), np.maximum(y, 0)) if activation.keeps_sign else 0 * y
    claims = [
        (np.where(x == 0, np.abs(y - activation.d), 0), 0.0, f"phi(0) = d = {activation.d:g}"),
        (np.abs(y - line), eps, f"|phi - phi^| <= {eps:g} up to reach({eps:g})"),
        (np.append(steps, 0), 0.0, f"a Lipschitz constant of {activation.lipschitz:g}"),
        (np.maximum(-y, 0) if activation.nonnegative else 0 * y, 0.0, "no negative value"),
        (negative, 0.0, "values of the argument's sign"),
    ]
    for excess, allowed, claim in claims:
        worst = int(np.argmax(excess - slack))
        if excess[worst] > allowed + slack[worst]:
            raise ArgumentError(where, f"phi({x[worst]:.6g}) = {y[worst]:.9g}", claim, "numbers that describe phi")
