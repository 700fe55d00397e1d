"""Symmetric tensors of k x k x k or k x k x k x k numbers as sums of k rank-one terms.

The slices of sum_j c_j u_j u_j u_j (u_j) are all diagonal in one basis: T(., ., g) = U diag(c_j <u_j, g>) U'. Kuleshov,
Chaganty and Liang 2015 ("Tensor factorization via matrix factorization") diagonalise many of them jointly, first
projections on random vectors and then on what these gave. With a positive definite matrix that the same basis
diagonalises, such as a second moment, the basis is made orthogonal first, and Jacobi's rotations do; without one the
joint diagonalisation is not orthogonal, and starts from several draws. If all of them break down, alternating least
squares from random vectors are the fallback. Everything is batched over leading axes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from slth.errors import ArgumentError
from slth.learn.draws import Stream

DRAWS = 8
"""Random starts where the basis is not orthogonal (chosen)."""
_SWEEPS = 40
_STEPS = 100
_ITERATIONS = 500
_SINGULAR = 1e10
"""Components of a larger condition number count as a breakdown (chosen)."""


@dataclass(frozen=True)
class Decomposition:
    """T = sum_j weights_j u_j (x) ... (x) u_j, and what it leaves over.

    Attributes
    ----------
    components : Tensor (..., component, coordinate)
        Unit vectors, in order of falling |weight|. Of an odd order weights are not negative; of an even one the entry
        of a component that is largest in magnitude is positive.
    weights : Tensor (..., component)
    residual : Tensor (...)
        Frobenius norm of what is left, relative to T's.
    methods : tuple of str
        One a trial, in flat order: "rotations", "diagonalisation" or "alternating".
    """

    components: Tensor
    weights: Tensor
    residual: Tensor
    methods: tuple[str, ...]


def decompose(tensor: Tensor, metric: Tensor | None = None, *, seed: int = 0, draws: int = DRAWS) -> Decomposition:
    """Find k linearly independent vectors of whose powers a symmetric tensor is the sum.

    Parameters
    ----------
    tensor : Tensor (..., k, k, k) or (..., k, k, k, k)
        Symmetric; for batches there is :func:`decompose_order`.
    metric : Tensor (..., k, k), optional
        sum_j m_j u_j u_j' with the same u_j. Used where it is positive definite.
    seed : int
        Of random projections and starts.
    draws : int
        Random starts; the one with the least residual is kept.

    Raises
    ------
    ArgumentError
        For a tensor of another shape, or one that is not finite.
    """
    return decompose_order(tensor, tensor.ndim, metric, seed=seed, draws=draws)


def decompose_order(
    tensor: Tensor, order: int, metric: Tensor | None = None, *, seed: int = 0, draws: int = DRAWS
) -> Decomposition:
    """:func:`decompose` for tensors of ``order`` 3 or 4 behind any number of batch axes.

    Raises
    ------
    ArgumentError
        For a tensor of another shape, or one that is not finite.
    """
    shape = tensor.shape[-order:]
    if order not in (3, 4) or tensor.ndim < order or len(set(shape)) != 1:
        raise ArgumentError("tensor", f"shape {tuple(tensor.shape)}, order {order}", "k x k x k or k x k x k x k")
    tensor = tensor.to(torch.float64)
    if not bool(tensor.isfinite().all()):
        raise ArgumentError("tensor", "numbers that are not finite", "finite ones")
    batch = tensor.shape[:-order]
    flat = tensor.reshape(-1, *shape)
    definite = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    components = torch.empty(len(flat), shape[0], shape[0], dtype=torch.float64, device=flat.device)
    if metric is not None:
        metric = metric.to(torch.float64).expand(*batch, *metric.shape[-2:]).reshape(-1, *metric.shape[-2:])
        values = torch.linalg.eigvalsh(metric)
        definite = values[:, 0] > values[:, -1] / _SINGULAR
        if bool(definite.any()):
            components[definite] = _rotate(flat[definite], metric[definite])
    methods = ["rotations"] * len(flat)
    rest = (~definite).nonzero()[:, 0]
    if len(rest):
        # Draws are the same for all, so that no trial's result depends on the others of its batch.
        components[rest], sound = _diagonalise(flat[rest], seed, draws)
        broken = rest[~sound]
        if len(broken):
            components[broken] = _alternate(flat[broken], seed, draws)
        for trial in rest.tolist():
            methods[trial] = "diagonalisation"
        for trial in broken.tolist():
            methods[trial] = "alternating"
    return _finish(flat, components, tuple(methods), batch)


def joint_rotation(slices: Tensor) -> Tensor:
    """Orthogonal Q that makes Q S_l Q' as diagonal as can be in squares, (..., k, k), by Jacobi's rotations.

    Parameters
    ----------
    slices : Tensor (..., slice, k, k)
        Symmetric.

    Notes
    -----
    Cardoso and Souloumiac 1996, "Jacobi angles for simultaneous diagonalization": each angle is the best for its pair.
    """
    k = slices.shape[-1]
    rotation = torch.eye(k, dtype=slices.dtype, device=slices.device).expand(*slices.shape[:-3], k, k).clone()
    slices = slices.clone()
    for _ in range(_SWEEPS):
        largest = 0.0
        for p, q in itertools.combinations(range(k), 2):
            difference = slices[..., p, p] - slices[..., q, q]
            double = slices[..., p, q] + slices[..., q, p]
            on = difference.square().sum(-1) - double.square().sum(-1)
            off = 2 * (difference * double).sum(-1)
            angle = 0.25 * torch.atan2(off, on)
            turn = torch.stack((angle.cos(), angle.sin(), -angle.sin(), angle.cos()), -1).unflatten(-1, (2, 2))
            pair = [p, q]
            rotation[..., pair, :] = turn @ rotation[..., pair, :]
            slices[..., pair, :] = turn[..., None, :, :] @ slices[..., pair, :]
            slices[..., :, pair] = slices[..., :, pair] @ turn.mT[..., None, :, :]
            largest = max(largest, float(angle.abs().max()) if angle.numel() else 0.0)
        if largest < 1e-14:
            break
    return rotation


def joint_diagonaliser(slices: Tensor, start: Tensor) -> Tensor:
    """B that makes B S_l B' nearly diagonal for all l, (..., k, k), not orthogonal, from a given start.

    Parameters
    ----------
    slices : Tensor (..., slice, k, k)
        Symmetric.
    start : Tensor (..., k, k)

    Notes
    -----
    Ziehe, Laskov, Nolte and Müller 2004 (FFDIAG): B <- (I + V) B, where V solves the problem to first order pair by
    pair. Differs: steps of a Frobenius norm above 1/2 are shortened to it, and rows of B kept at unit length.
    """
    k = slices.shape[-1]
    eye = torch.eye(k, dtype=slices.dtype, device=slices.device)
    result = _unit(start)
    for _ in range(_STEPS):
        turned = result[..., None, :, :] @ slices @ result.mT[..., None, :, :]
        diagonal = turned.diagonal(dim1=-2, dim2=-1)
        z = diagonal.mT @ diagonal
        # y_ij = sum_l D_l,j E_l,ij, the derivative's right-hand side for entry i, j.
        y = (turned * diagonal[..., None, :]).sum(-3)
        own = z.diagonal(dim1=-2, dim2=-1)
        determinant = own[..., :, None] * own[..., None, :] - z.square()
        step = (z * y.mT - own[..., :, None] * y) / determinant.clamp_min(1e-300)
        step = step * (1 - eye)
        size = torch.linalg.matrix_norm(step)
        step = step * (0.5 / size.clamp_min(0.5))[..., None, None]
        result = _unit(result + step @ result)
        if float(size.nan_to_num().max()) < 1e-14:
            break
    return result


def _rotate(tensor: Tensor, metric: Tensor) -> Tensor:
    """Components by way of a basis in which ``metric`` is the identity, and they are orthogonal."""
    values, vectors = torch.linalg.eigh(metric)
    whiten = vectors / values.sqrt()[:, None, :]
    rotation = joint_rotation(_slices(_through(tensor, whiten)))
    components: Tensor = rotation @ (vectors * values.sqrt()[:, None, :]).mT
    return components


def _diagonalise(tensor: Tensor, seed: int, draws: int) -> tuple[Tensor, Tensor]:
    """Components of the best of several draws, and whether it is usable: projections, then plug-in projections."""
    n, k, order = len(tensor), tensor.shape[-1], tensor.ndim - 1
    projections = 2 * k
    g = _normals(seed, 1, tensor.device, draws, projections, k)
    slices = _project(tensor[:, None], [g] * (order - 2))
    pencil = slices[:, :, 0] @ torch.linalg.pinv(slices[:, :, 1])
    values, vectors = torch.linalg.eig(pencil)
    # Complex pairs are no components: such a draw begins at random instead.
    other = torch.linalg.qr(_normals(seed, 2, tensor.device, draws, k, k)).Q
    real = (values.imag.abs().amax(-1) == 0) & (torch.linalg.cond(vectors.real) < _SINGULAR)
    start = torch.where(real[..., None, None], torch.linalg.pinv(vectors.real), other)
    first = joint_diagonaliser(slices, start)
    again = joint_diagonaliser(_project(tensor[:, None], [first] * (order - 2)), first)
    options = torch.cat((first, again), 1)
    usable = options.isfinite().all(-1).all(-1)
    options = torch.where(usable[..., None, None], options, other.repeat(2, 1, 1))
    usable &= torch.linalg.cond(options) < _SINGULAR
    options = torch.where(usable[..., None, None], options, other.repeat(2, 1, 1))
    components = _unit(torch.linalg.inv(options).mT)
    residual = _terms(tensor[:, None].expand(n, 2 * draws, *tensor.shape[1:]), components)[1]
    best = residual.where(usable, torch.inf).argmin(1)
    rows = torch.arange(n, device=tensor.device)
    return components[rows, best], usable[rows, best]


def _alternate(tensor: Tensor, seed: int, draws: int) -> Tensor:
    """Components by alternating least squares: all factors but one are held at the last step's."""
    n, k, order = len(tensor), tensor.shape[-1], tensor.ndim - 1
    u = _unit(_normals(seed, 3, tensor.device, draws, k, k)).expand(n, draws, k, k)
    unfolded = tensor.reshape(n, 1, k, -1)
    for _ in range(_ITERATIONS):
        powers = _powers(u, order - 1)
        new = _unit((unfolded @ torch.linalg.pinv(powers)).mT)
        moved = float((1 - (new * u).sum(-1).abs()).abs().max())
        u = new
        if moved < 1e-15:
            break
    residual = _terms(tensor[:, None].expand(n, draws, *tensor.shape[1:]), u)[1]
    return u[torch.arange(n, device=u.device), residual.argmin(1)]


def _finish(tensor: Tensor, components: Tensor, methods: tuple[str, ...], batch: torch.Size) -> Decomposition:
    components = _unit(components)
    weights, residual = _terms(tensor, components)
    if tensor.ndim % 2 == 0:
        flip = weights < 0
        weights = weights.abs()
    else:
        flip = components.gather(-1, components.abs().argmax(-1, keepdim=True))[..., 0] < 0
    components = torch.where(flip[..., None], -components, components)
    order = weights.abs().argsort(dim=-1, descending=True, stable=True)
    components = components.gather(-2, order[..., None].expand(components.shape))
    weights = weights.gather(-1, order)
    return Decomposition(
        components.reshape(*batch, *components.shape[1:]), weights.reshape(*batch, -1), residual.reshape(batch), methods
    )


def _terms(tensor: Tensor, components: Tensor) -> tuple[Tensor, Tensor]:
    """Weights by least squares, and the relative residual, for unit ``components`` behind equal batch axes."""
    order = tensor.ndim - components.ndim + 2
    powers = _powers(components, order).mT
    target = tensor.reshape(*components.shape[:-2], -1, 1)
    weights = torch.linalg.pinv(powers) @ target
    left = torch.linalg.vector_norm(target - powers @ weights, dim=(-2, -1))
    size = torch.linalg.vector_norm(target, dim=(-2, -1))
    return weights[..., 0], left / size.clamp_min(torch.finfo(torch.float64).tiny)


def _powers(components: Tensor, order: int) -> Tensor:
    """Each component's ``order``-fold product with itself, in a row, (..., component, k^order)."""
    result = components
    for _ in range(order - 1):
        result = (result[..., :, None] * components[..., None, :]).flatten(-2)
    return result


def _slices(tensor: Tensor) -> Tensor:
    """All slices of the last axes, (trial, slice, k, k)."""
    k = tensor.shape[-1]
    return tensor.reshape(len(tensor), k, k, -1).permute(0, 3, 1, 2)


def _through(tensor: Tensor, basis: Tensor) -> Tensor:
    """T(B, ..., B) for tensors (trial, k, ..., k) and B (trial, k, k)."""
    if tensor.ndim == 4:
        return torch.einsum("nabc,nai,nbj,nck->nijk", tensor, basis, basis, basis)
    return torch.einsum("nabcd,nai,nbj,nck,ndl->nijkl", tensor, basis, basis, basis, basis)


def _project(tensor: Tensor, vectors: list[Tensor]) -> Tensor:
    """Slices T(., ., g_l) or T(., ., g_l, g_l), (trial, draw, l, k, k), for g (trial or nothing, draw, l, k)."""
    if len(vectors) == 1:
        return torch.einsum("nzabc,...zlc->nzlab", tensor.expand(-1, vectors[0].shape[-3], -1, -1, -1), vectors[0])
    wide = tensor.expand(-1, vectors[0].shape[-3], -1, -1, -1, -1)
    return torch.einsum("nzabcd,...zlc,...zld->nzlab", wide, vectors[0], vectors[1])


def _normals(seed: int, number: int, device: torch.device, *shape: int) -> Tensor:
    return torch.from_numpy(Stream(seed, number, "tensor").normals(*shape)).to(device)


def _unit(rows: Tensor) -> Tensor:
    result: Tensor = rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return result
