"""A start near the teacher from moments alone: Zhang et al. 2021, Appendix A, on Algorithm 1 of Zhong et al. 2017.

Neurons read y = (1/K) sum_j relu(w_j . x) with x ~ N(0, I). The leading eigenvectors V of M_2 span what the weights
span; M_4 through V is a small tensor whose rank-one terms are their directions; M_1 has their lengths and signs. Which
direction is whose neuron's, no moment says: with supports, the assignment of least empirical risk decides.

Methods differ in how they look at x; see :mod:`slth.learn.views`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from slth.errors import ArgumentError, DataError
from slth.learn import moments
from slth.learn.decomposition import decompose_order
from slth.learn.draws import Stream
from slth.learn.matching import expected_products, least_risk
from slth.learn.moments import ChunkedSamples, SampleSource
from slth.learn.views import LARGEST_CONDITION, METHODS, View, candidates, make_view

CONTRACTIONS = ("all", "random")
LEAST_GAP = 2.0
"""The K-th eigenvalue of M_2 ought to be so many times the noise (chosen)."""

LARGEST_RESIDUAL = 0.5
"""Of the small tensor, rank-one terms ought to leave no more (chosen)."""

LARGEST_VIEW = 1e3
"""A condition number of G_j from which on errors are large (chosen)."""


@dataclass(frozen=True)
class Conditioning:
    """What the recovery's errors are multiplied by, and whether there was anything to recover.

    Attributes
    ----------
    gap : Tensor (...)
        K-th over next eigenvalue of M_2 in magnitude; the next is noise alone. Infinite where there is none, and 0
        where the K-th is 0 as well: fewer than K directions.
    spread : Tensor (...)
        First over K-th eigenvalue of M_2.
    components : Tensor (...)
        Condition number of the directions.
    residual : Tensor (...)
        What the decomposition leaves of the small tensor, relative to it.
    views : Tensor (..., neuron)
        Condition number of G_j; 1 for ``zhong``.
    """

    gap: Tensor
    spread: Tensor
    components: Tensor
    residual: Tensor
    views: Tensor

    def doubts(self) -> list[str]:
        """What speaks against the result, in words, of the worst trial; empty if nothing does."""
        worst = (self.gap.min(), self.residual.max(), self.views.max())
        gap, residual, view = (f"{float(value):.3g}" for value in worst)
        noise = "which is noise: more samples, fewer neurons, or a support"
        found = (
            (self.gap < LEAST_GAP, f"the K-th eigenvalue of M_2 is {gap} times the next one, {noise}"),
            (self.residual > LARGEST_RESIDUAL, f"rank-one terms leave {residual} of the fourth moment: more samples"),
            ((self.views > LARGEST_VIEW).any(-1), f"x-tilde's G_j has condition number {view}: method='zhong'"),
        )
        return [
            words if bad.numel() == 1 else f"{words} ({int(bad.sum())} of {bad.numel()} trials)"
            for bad, words in found
            if bool(bad.any())
        ]

    @classmethod
    def joined(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """Of trials that were done part after part."""
        return cls(**{each.name: torch.cat([getattr(part, each.name) for part in parts]) for each in fields(cls)})


@dataclass(frozen=True)
class Initialisation:
    """A start for training.

    Attributes
    ----------
    weights : Tensor (..., neuron, input)
        Zero outside the supports.
    signs : Tensor (..., neuron)
        Of the output weights: 1 unless they were recovered.
    conditioning : Conditioning
    components : Tensor (..., neuron), int
        Which rank-one term, by falling weight, became the neuron.
    matched : bool
        Whether neurons are those of the supports; without supports their order is arbitrary.
    method : str
    """

    weights: Tensor
    signs: Tensor
    conditioning: Conditioning
    components: Tensor
    matched: bool
    method: str


def tensor_initialisation(
    samples: SampleSource,
    n_neurons: int,
    support: Tensor | None = None,
    *,
    method: str = "zhong",
    contraction: str = "all",
    fitted: bool | None = None,
    split: bool = False,
    recover_signs: bool = False,
    largest_condition: float = LARGEST_CONDITION,
    device: str | torch.device | None = None,
    seed: int = 0,
) -> Initialisation:
    """Estimate the weights of a sparse layer of ReLUs with output weights 1/K from Gaussian samples.

    Parameters
    ----------
    samples
        ``x`` (..., sample, input) and ``y`` (..., sample), chunks of them, or a function that begins the chunks anew:
        they are read four or five times. See :class:`slth.learn.moments.ChunkedSamples`.
    n_neurons : int
        K.
    support : Tensor (..., neuron, input), bool, optional
        Which inputs a neuron reads. ``x-tilde`` needs equally many for each, and takes them in rising order.
    method : {"zhong", "x-tilde", "x-tilde-paper"}
        See :mod:`slth.learn.views`.
    contraction : {"all", "random"}
        M_4(V, V, V, V), or the paper's M_4(V, V, V, alpha) for one random alpha in the span of V.
    fitted : bool, optional
        Subtract from y its Hermite fit of lower degree before each moment. Left out, all but ``x-tilde-paper`` do.
    split : bool
        A third of the samples for each of M_1, M_2 and M_4, as in the algorithm's step 0, instead of all for all.
    recover_signs : bool
        Output weights are 1/K or -1/K, which is to be found out.
    largest_condition : float
        Of G_j, from which on x-tilde is refused.
    device : str or torch.device, optional
        Where samples are gone through; left out, where they are.
    seed : int
        Of alpha and of the decomposition's starts.

    Raises
    ------
    ArgumentError
        For arguments that do not fit each other.
    InformationLostError
        If x-tilde does not determine the weights of a neuron.
    DataError
        For samples of other shapes, or not finite.

    Notes
    -----
    Zhang, Wang, Liu, Chen and Xiong 2021, Lemma 1 and Appendix A; Zhong, Song, Jain, Bartlett and Dhillon 2017,
    Algorithm 1. Differs: ``contraction="all"``, ``fitted`` and ``split=False``, each for less variance; eigenvectors
    are computed, not iterated for; the tensor is decomposed in the basis that M_2 makes orthogonal; all of ``x-tilde``,
    as the printed moments are biased where supports overlap.
    """
    _check(n_neurons, method, contraction)
    chunked = moments.as_chunked(samples, device).check_repeatable()
    place, n_inputs = _place(chunked)
    if support is not None:
        support = _checked_support(support, n_neurons, n_inputs).to(place)
    view = make_view(method, support, n_neurons, n_inputs, largest_condition, place)
    if fitted is None:
        fitted = method != "x-tilde-paper"
    parts = [chunked.keep(part, 3) for part in range(3)] if split else [chunked] * 3
    low = moments.linear_fit(parts[0])
    lined = parts[1].less(low) if fitted else parts[1]
    second = moments.second(lined if view.transform is None else lined.through(view.transform))
    if view.transform is None and support is not None:
        kept = support.to(torch.float64)
        second = second * (kept.mT @ kept > 0)

    def fourth(basis: Tensor, direction: Tensor | None) -> Tensor:
        part = parts[2]
        if fitted:
            curvatures, vectors = torch.linalg.eigh(basis.mT @ second @ basis)
            part = part.less(moments.Fit(low.constant, low.linear, view.lift(basis @ vectors), curvatures))
        if view.transform is not None:
            part = part.through(view.transform)
        if direction is None:
            return moments.fourth(part, basis)
        return moments.fourth_contracted(part, basis, direction)

    first = low.linear if view.transform is None else (view.transform @ low.linear[..., None])[..., 0]
    found = recover(first, second, fourth, n_neurons, contraction=contraction, recover_signs=recover_signs, seed=seed)
    return _assemble(chunked, found, view, support, method)


@dataclass(frozen=True)
class Recovered:
    """E[(w_j . x) z] of every neuron, in an order of its own.

    Attributes
    ----------
    vectors : Tensor (..., component, feature)
    signs : Tensor (..., component)
        Of output weights.
    gap, spread, components, residual : Tensor (...)
        See :class:`Conditioning`.
    """

    vectors: Tensor
    signs: Tensor
    gap: Tensor
    spread: Tensor
    components: Tensor
    residual: Tensor


def recover(
    first: Tensor,
    second: Tensor,
    fourth: Callable[[Tensor, Tensor | None], Tensor],
    n_neurons: int,
    *,
    contraction: str = "all",
    recover_signs: bool = False,
    seed: int = 0,
) -> Recovered:
    """Steps 1 to 4 of the algorithm: from moments, estimated or exact, to weights.

    Parameters
    ----------
    first, second : Tensor (..., feature) and (..., feature, feature)
        M_1 and M_2.
    fourth : callable
        M_4(V, V, V, V) of V (..., feature, k) and None, or M_4(V, V, V, alpha) of V and alpha (..., feature).
    n_neurons : int
        K.
    contraction, recover_signs, seed
        See :func:`tensor_initialisation`.
    """
    values, vectors = torch.linalg.eigh(second)
    # Output weights of 1/K make M_2 positive; if not all are, the eigenvalues of largest magnitude are the signal.
    rank = (values.abs() if recover_signs else values).argsort(-1, descending=True)
    values = values.gather(-1, rank)
    top = vectors.gather(-1, rank[..., None, :].expand(vectors.shape))[..., :n_neurons]
    metric = torch.diag_embed(values[..., :n_neurons])
    if contraction == "all":
        tensor, order = fourth(top, None), 4
    else:
        alpha = torch.from_numpy(Stream(seed, 0, "tensor").normals(n_neurons)).to(top.device)
        tensor, order = fourth(top, top @ (alpha / torch.linalg.vector_norm(alpha))), 3
    # k x k matrices are no work for an accelerator.
    small = decompose_order(tensor.cpu(), order, metric.cpu(), seed=seed)
    units = small.components.to(top.device)
    directions = units @ top.mT
    signs = torch.ones_like(values[..., :n_neurons])
    if recover_signs:
        squares = (units[..., :, None] * units[..., None, :]).flatten(-2).mT
        signs = (torch.linalg.pinv(squares) @ metric.flatten(-2)[..., None])[..., 0].sign()
        signs = torch.where(signs == 0, torch.ones_like(signs), signs)
    lengths = (torch.linalg.pinv(directions.mT) @ first[..., None])[..., 0]
    beyond = values[..., n_neurons:].abs()
    noise = beyond.amax(-1) if beyond.shape[-1] else torch.zeros_like(values[..., 0])
    least = values[..., n_neurons - 1].abs()
    return Recovered(
        vectors=(n_neurons / moments.RELU[1]) * (signs * lengths)[..., None] * directions,
        signs=signs,
        # Nothing over nothing: a direction that is missing.
        gap=torch.where(least > 0, least / noise, 0.0),
        spread=values[..., :n_neurons].abs().amax(-1) / least,
        components=torch.linalg.cond(units),
        residual=small.residual.to(top.device),
    )


def _assemble(
    chunked: ChunkedSamples, found: Recovered, view: View, support: Tensor | None, method: str
) -> Initialisation:
    n_neurons = found.signs.shape[-1]
    batch = found.signs.shape[:-1]
    views = view.conditions.expand(*batch, n_neurons)
    conditioning = Conditioning(found.gap, found.spread, found.components, found.residual, views)
    if support is None:
        order = torch.arange(n_neurons, device=found.signs.device).expand(*batch, n_neurons)
        return Initialisation(found.vectors, found.signs, conditioning, order, False, method)
    options = candidates(found.vectors, view, support)
    order = least_risk(*expected_products(chunked, options, found.signs))
    weights = options.gather(-3, order[..., None, :, None].expand(*batch, 1, *options.shape[-2:]))[..., 0, :, :]
    return Initialisation(weights, found.signs.gather(-1, order), conditioning, order, True, method)


def _check(n_neurons: int, method: str, contraction: str) -> None:
    if n_neurons < 1:
        raise ArgumentError("n_neurons", str(n_neurons), "at least 1")
    if method not in METHODS:
        raise ArgumentError("method", repr(method), " or ".join(METHODS))
    if contraction not in CONTRACTIONS:
        raise ArgumentError("contraction", repr(contraction), " or ".join(CONTRACTIONS))


def _checked_support(support: Tensor, n_neurons: int, n_inputs: int) -> Tensor:
    if support.ndim < 2 or support.shape[-2:] != (n_neurons, n_inputs):
        raise ArgumentError("support", f"shape {tuple(support.shape)}", f"(..., {n_neurons}, {n_inputs})")
    support = support.to(torch.bool)
    if not bool(support.any(-1).all()):
        raise ArgumentError("support", "a neuron that reads nothing", "at least one input each")
    return support


def _place(chunked: ChunkedSamples) -> tuple[torch.device, int]:
    for x, _ in chunked.chunks():
        return x.device, x.shape[-1]
    raise DataError("samples", "none", "at least one sample")
