"""Moments of y against Hermite tensors of a Gaussian x: what one hidden layer of ReLUs shows of its weights.

For x ~ N(0, I) and y = (1/K) sum_j relu(w_j . x), with unit vectors u_j = w_j / |w_j| (Zhong et al. 2017, Definition
5.1; Zhang et al. 2021, Appendix A):

    M_1 = E[y x]                = (1/K) sum_j  |w_j| / 2          u_j
    M_2 = E[y (x x' - I)]       = (1/K) sum_j  |w_j| / sqrt(2 pi) u_j u_j'
    M_3                         = 0
    M_4 = E[y H_4(x)]           = (1/K) sum_j -|w_j| / sqrt(2 pi) u_j u_j u_j u_j

The third vanishes, so what tells the u_j apart is the fourth. Of that only M_4(V, V, V, V) and M_4(V, V, V, alpha) are
ever formed, for a basis V of K columns. Samples are read chunk by chunk; sums are float64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from slth.errors import ArgumentError, DataError

Pair = tuple[Tensor, Tensor]
Pairs = Pair | Iterable[Pair] | Callable[[], Iterable[Pair]]
"""Inputs and outputs, chunks of them, or a function that begins the chunks anew; see :class:`ChunkedSamples`."""

RELU = (1 / math.sqrt(2 * math.pi), 0.5, 1 / math.sqrt(2 * math.pi), 0.0, -1 / math.sqrt(2 * math.pi))
"""E[relu(z) He_q(z)] for a standard normal z and q = 0 to 4; of relu(w . x) it is |w| times that."""

_CHUNK_ENTRIES = 2**21
"""Numbers of a chunk's widest intermediate (chosen): 16 MB, a few times what a core's cache holds."""


@dataclass(frozen=True)
class Fit:
    """The part of y in Hermite polynomials of low degree, which no moment of a higher degree sees.

    E[p(x) H_q(x)] = 0 for every polynomial p of degree below q, so subtracting one from y leaves the q-th moment's
    expectation alone and takes away most of its variance: a ReLU has all but 2 percent of its E[y^2] in degrees 0 to 2.

    Attributes
    ----------
    constant : Tensor (...)
    linear : Tensor (..., input)
    directions, curvatures : Tensor (..., input, k) and (..., k), optional
        Orthonormal columns V and numbers c: the term sum_k c_k ((v_k . x)^2 - 1) / 2.
    """

    constant: Tensor
    linear: Tensor
    directions: Tensor | None = None
    curvatures: Tensor | None = None

    def residual(self, x: Tensor, y: Tensor) -> Tensor:
        """(..., sample) y less the fit, for x (..., sample, input) and y (..., sample)."""
        left = y - self.constant[..., None] - (x @ self.linear[..., None])[..., 0]
        if self.directions is None or self.curvatures is None:
            return left
        squares = (x @ self.directions).square() - 1
        return left - 0.5 * (squares @ self.curvatures[..., None])[..., 0]


@dataclass(frozen=True)
class ChunkedSamples:
    """Samples as float64 chunks on one device, seen through a linear map, and only one part of them if so wished.

    Parameters
    ----------
    samples
        ``x`` of shape (..., sample, input) and ``y`` of shape (..., sample), whose leading axes broadcast; or an
        iterable of such pairs; or a function that returns one. An iterable that can be read but once serves one pass.
    device : str or torch.device, optional
        Where to compute; left out, where the samples are.
    transform : Tensor (..., feature, input), optional
        x is replaced by ``transform @ x``.
    fit : Fit, optional
        Subtracted from y, in terms of x as given.
    part, n_parts : int
        Every ``n_parts``-th sample of each chunk, from the ``part``-th on.
    """

    samples: Pairs
    device: str | torch.device | None = None
    transform: Tensor | None = None
    fit: Fit | None = None
    part: int = 0
    n_parts: int = 1

    def chunks(self, width: int = 1) -> Iterator[Pair]:
        """Chunks of so few samples that ``width`` numbers for each stay in the cache.

        Raises
        ------
        DataError
            For shapes that do not fit, and numbers that are not finite.
        """
        for number, (x, y) in enumerate(self._given()):
            where = f"samples, chunk {number}"
            _check_shapes(where, x, y)
            x, y = x[..., self.part :: self.n_parts, :], y[..., self.part :: self.n_parts]
            entries = max(width, x.shape[-1]) * max(1, math.prod(x.shape[:-2]), math.prod(y.shape[:-1]))
            rows = max(1, _CHUNK_ENTRIES // entries)
            for some_x, some_y in zip(x.split(rows, -2), y.split(rows, -1), strict=True):
                piece, value = some_x.to(self.device, torch.float64), some_y.to(self.device, torch.float64)
                if not bool(piece.isfinite().all() & value.isfinite().all()):
                    raise DataError(where, "numbers that are not finite", "finite samples")
                left = value if self.fit is None else self.fit.residual(piece, value)
                yield (piece if self.transform is None else piece @ self.transform.mT), left

    def _given(self) -> Iterable[Pair]:
        if callable(self.samples):
            return self.samples()
        if isinstance(self.samples, tuple) and isinstance(self.samples[0], Tensor):
            return [self.samples]
        return cast(Iterable[Pair], self.samples)

    def through(self, transform: Tensor) -> ChunkedSamples:
        """The same samples with ``transform @ x`` for x."""
        return replace(self, transform=transform)

    def less(self, fit: Fit) -> ChunkedSamples:
        """The same samples with what a fit leaves of y."""
        return replace(self, fit=fit)

    def keep(self, part: int, n_parts: int) -> ChunkedSamples:
        """One of several disjoint parts of the samples."""
        return replace(self, part=part, n_parts=n_parts)

    def check_repeatable(self) -> ChunkedSamples:
        """Refuse samples that a second pass would find used up.

        Raises
        ------
        ArgumentError
            For an iterator.
        """
        if isinstance(self.samples, Iterator):
            need = "tensors, a list of chunks, or a function that returns an iterable"
            raise ArgumentError("samples", "an iterator, which can be read once", need, "samples=lambda: chunks()")
        return self


SampleSource = Pairs | ChunkedSamples
"""Whatever samples can be read from."""


def as_chunked(samples: SampleSource, device: str | torch.device | None = None) -> ChunkedSamples:
    """``samples`` as a :class:`ChunkedSamples` on ``device``; one that is one already stays as it is."""
    return samples if isinstance(samples, ChunkedSamples) else ChunkedSamples(samples, device)


def linear_fit(samples: SampleSource) -> Fit:
    """E[y] and M_1 = E[y x] from one pass: the fit of degree 1."""
    constant, linear, count = _Sum(), _Sum(), 0
    for x, y in as_chunked(samples).chunks():
        constant.add(y.sum(-1))
        linear.add((y[..., None, :] @ x)[..., 0, :])
        count += y.shape[-1]
    return Fit(constant.mean(count), linear.mean(count))


def first(samples: SampleSource) -> Tensor:
    """M_1 = E[y x], (..., input). Zhong et al. 2017, Definition 5.1."""
    return linear_fit(samples).linear


def second(samples: SampleSource) -> Tensor:
    """M_2 = E[y (x x' - I)], (..., input, input). Zhong et al. 2017, Definition 5.1."""
    outer, mean, count = _Sum(), _Sum(), 0
    for x, y in as_chunked(samples).chunks():
        outer.add(x.mT @ (y[..., None] * x))
        mean.add(y.sum(-1))
        count += y.shape[-1]
    moment = outer.mean(count)
    return (moment + moment.mT) / 2 - mean.mean(count)[..., None, None] * _identity(moment)


def fourth(samples: SampleSource, basis: Tensor) -> Tensor:
    """M_4(V, V, V, V), (..., k, k, k, k), from sums over k (k + 1) / 2 products of z = V'x.

    Parameters
    ----------
    samples
        See :class:`ChunkedSamples`.
    basis : Tensor (..., input, k)
        V, of any columns.
    """
    basis = basis.to(torch.float64)
    k = basis.shape[-1]
    rows, columns = torch.triu_indices(k, k, device=basis.device)
    quartic, constant, count = _Sum(), _Sum(), 0
    for x, y in as_chunked(samples).chunks(len(rows)):
        z = x @ basis
        squares = z[..., rows] * z[..., columns]
        weighted = y[..., None] * squares
        quartic.add(torch.cat((squares.mT @ weighted, weighted.sum(-2)[..., None, :]), -2))
        constant.add(y.sum(-1))
        count += y.shape[-1]
    sums = quartic.mean(count)
    place = torch.empty(k, k, dtype=torch.long, device=basis.device)
    place[rows, columns] = place[columns, rows] = torch.arange(len(rows), device=basis.device)
    place = place.flatten()
    batch = sums.shape[:-2]
    raw = sums[..., :-1, :][..., place, :][..., place].reshape(*batch, k, k, k, k)
    square = sums[..., -1, :][..., place].reshape(*batch, k, k)
    gram = basis.mT @ basis
    mean = constant.mean(count)[..., None, None]
    # Each term of x x I stands with its mirror image, and of I I there are only three.
    return raw - _six(gram, square - mean * gram / 2)


def fourth_contracted(samples: SampleSource, basis: Tensor, direction: Tensor) -> Tensor:
    """M_4(V, V, V, alpha), (..., k, k, k): with s = alpha . x, a = V'alpha and all terms through V,

        E[y (s x x x - (a x x, in 3 orders) - s (x I, in 3 orders) + (a I, in 3 orders))].

    Parameters
    ----------
    samples
        See :class:`ChunkedSamples`.
    basis : Tensor (..., input, k)
        V, of any columns.
    direction : Tensor (..., input)
        alpha.
    """
    basis, direction = basis.to(torch.float64), direction.to(torch.float64)[..., None]
    k = basis.shape[-1]
    cubes, squares, lines, constant, count = _Sum(), _Sum(), _Sum(), _Sum(), 0
    for x, y in as_chunked(samples).chunks(k * k):
        z, s = x @ basis, (x @ direction)[..., 0]
        products = (z[..., :, None] * z[..., None, :]).flatten(-2)
        cubes.add(products.mT @ ((y * s)[..., None] * z))
        squares.add(z.mT @ (y[..., None] * z))
        lines.add(((y * s)[..., None, :] @ z)[..., 0, :])
        constant.add(y.sum(-1))
        count += y.shape[-1]
    cube = cubes.mean(count)
    gram, a = basis.mT @ basis, (basis.mT @ direction)[..., 0]
    square, line, mean = squares.mean(count), lines.mean(count), constant.mean(count)
    raw = cube.reshape(*cube.shape[:-2], k, k, k)
    return raw - _three(square - mean[..., None, None] * gram, a) - _three(gram, line)


def of_neurons(weights: Tensor, seen: Tensor | None = None) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """The moments themselves, without samples: M_1, M_2, and M_4(V, V, V, V) as a function of V.

    Parameters
    ----------
    weights : Tensor (..., neuron, input)
        Of y = (1/K) sum_j relu(w_j . x).
    seen : Tensor (..., neuron, feature), optional
        E[(w_j . x) z] for standard normal features z that are linear in x; left out, z = x and this is w_j. By Stein's
        lemma E[relu(w . x) H_q(z)] = E[relu^(q)(|w| t)] p^q with p this vector and t standard normal.
    """
    weights = weights.to(torch.float64)
    p = weights if seen is None else seen.to(torch.float64)
    n_neurons, sizes = weights.shape[-2], torch.linalg.vector_norm(weights, dim=-1, keepdim=True).clamp_min(1e-300)
    scaled = p / sizes

    def fourth_of(basis: Tensor) -> Tensor:
        z = scaled @ basis
        return RELU[4] / n_neurons * torch.einsum("...n,...ni,...nj,...nk,...nl->...ijkl", sizes[..., 0], z, z, z, z)

    return (
        RELU[1] / n_neurons * p.sum(-2),
        RELU[2] / n_neurons * (scaled.mT @ (sizes * scaled)),
        fourth_of,
    )


def _check_shapes(where: str, x: Tensor, y: Tensor) -> None:
    fits = x.ndim > 1 and y.ndim > 0 and x.shape[-2] == y.shape[-1]
    pairs = zip(reversed(x.shape[:-2]), reversed(y.shape[:-1]), strict=False)
    if not fits or any(a != b and 1 not in (a, b) for a, b in pairs):
        need = "x (..., sample, input), y (..., sample)"
        raise DataError(where, f"x {tuple(x.shape)}, y {tuple(y.shape)}", need)


class _Sum:
    """A sum that takes its shape from the first term."""

    def __init__(self) -> None:
        self.total: Tensor | None = None

    def add(self, term: Tensor) -> None:
        self.total = term if self.total is None else self.total.add_(term)

    def mean(self, count: int) -> Tensor:
        if self.total is None or not count:
            raise DataError("samples", "none", "at least one sample", "a function of chunks, if they were read before")
        return self.total / count


def _identity(like: Tensor) -> Tensor:
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def _six(gram: Tensor, square: Tensor) -> Tensor:
    """Sum over the six ways to give two of four indices to ``gram`` and two to ``square``."""
    total: Tensor | float = 0.0
    for pair in itertools.combinations("ijkl", 2):
        others = "".join(index for index in "ijkl" if index not in pair)
        total = total + torch.einsum(f"...{''.join(pair)},...{others}->...ijkl", gram, square)
    assert isinstance(total, Tensor)
    return total


def _three(square: Tensor, line: Tensor) -> Tensor:
    """Sum over the three ways to give two of three indices to a symmetric matrix and one to a vector."""
    product = torch.einsum("...ij,...k->...ijk", square, line)
    return product + product.transpose(-1, -2) + product.transpose(-1, -3)
