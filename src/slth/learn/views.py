"""What a tensor initialisation looks at: x itself, or the few numbers that Zhang et al. 2021 merge it into.

All look at z = T x for some linear T, and differ in it alone: E[(w_j . x) z] = T w_j is what the moments of z show, and
G_j = T A_j' takes neuron j's r weights to it, where A_j x are the inputs that the neuron reads, in rising order.

zhong
    T = I. Supports, if known, zero what no neuron can have.
x-tilde
    T = S^(-1/2) B with B = K^(-1/2) sum_j A_j and S = B B': the paper's x-tilde = B x in R^r, whitened.
x-tilde-paper
    T = B as printed, with I for S in the Hermite tensors and I / sqrt(K) for G_j: right where supports are disjoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from slth.errors import ArgumentError, InformationLostError

METHODS = ("zhong", "x-tilde", "x-tilde-paper")
LARGEST_CONDITION = 1e6
"""From this condition number of G_j on, x-tilde counts as having lost neuron j (chosen)."""


@dataclass(frozen=True)
class View:
    """z = T x, and the way back from E[(w_j . x) z] to w_j.

    Attributes
    ----------
    transform : Tensor (..., feature, input) or None
        T; None is the identity.
    back : Tensor (..., neuron, input, feature) or None
        A_j' times the pseudo-inverse of G_j; None stands for what a support keeps.
    conditions : Tensor (..., neuron)
        Condition numbers of G_j.
    """

    transform: Tensor | None
    back: Tensor | None
    conditions: Tensor

    def lift(self, directions: Tensor) -> Tensor:
        """Directions of z as ones of x, (..., input, k)."""
        return directions if self.transform is None else self.transform.mT @ directions


def make_view(
    method: str,
    support: Tensor | None,
    n_neurons: int,
    n_inputs: int,
    largest_condition: float = LARGEST_CONDITION,
    device: str | torch.device | None = None,
) -> View:
    """The linear map that a method looks through, after a check that it loses nothing.

    Parameters
    ----------
    method : {"zhong", "x-tilde", "x-tilde-paper"}
    support : Tensor (..., neuron, input), bool, or None
        Which inputs a neuron reads; equally many for each unless the method is ``zhong``.
    n_neurons, n_inputs : int
        K and d.
    largest_condition : float
        Of S and G_j.
    device : str or torch.device, optional

    Raises
    ------
    ArgumentError
        Without the support that ``x-tilde`` needs, or with fewer features than neurons.
    InformationLostError
        If S, or G_j of a neuron, has a condition number above ``largest_condition``.
    """
    if method == "zhong":
        _check_enough(n_neurons, n_inputs, "inputs")
        batch = () if support is None else support.shape[:-2]
        return View(None, None, torch.ones(*batch, n_neurons, dtype=torch.float64, device=device))
    if support is None:
        raise ArgumentError("support", "none", f"the inputs of every neuron for method {method!r}", "method='zhong'")
    embed = _selectors(support)
    n_kept = embed.shape[-2]
    _check_enough(n_neurons, n_kept, "inputs a neuron")
    merged = embed.sum(-3) / math.sqrt(n_neurons)
    if method == "x-tilde-paper":
        conditions = torch.linalg.cond(merged[..., None, :, :] @ embed.mT)
        _check_information(conditions, largest_condition, "G_j = B A_j'")
        return View(merged, math.sqrt(n_neurons) * embed.mT, conditions)
    values, vectors = torch.linalg.eigh(merged @ merged.mT)
    _check_information(values[..., -1] / values[..., 0].clamp_min(0), largest_condition, "S = B B'")
    transform = (vectors / values.sqrt()[..., None, :]) @ vectors.mT @ merged
    views = transform[..., None, :, :] @ embed.mT
    conditions = torch.linalg.cond(views)
    _check_information(conditions, largest_condition, "G_j = S^(-1/2) B A_j'")
    return View(transform, embed.mT @ torch.linalg.pinv(views), conditions)


def candidates(vectors: Tensor, view: View, support: Tensor | None) -> Tensor:
    """The weights of neuron j if component i is its own, (..., component, neuron, input).

    Parameters
    ----------
    vectors : Tensor (..., component, feature)
        E[(w . x) z] of each component.
    view : View
    support : Tensor (..., neuron, input), bool, or None
        Weights outside are zero.
    """
    if view.back is None:
        kept = torch.ones(1, device=vectors.device) if support is None else support.to(vectors.dtype)
        return vectors[..., :, None, :] * kept[..., None, :, :]
    return torch.einsum("...jdm,...im->...ijd", view.back, vectors)


def _selectors(support: Tensor) -> Tensor:
    """A_j, (..., neuron, r, input): the r inputs that neuron j reads, in rising order."""
    counts = support.sum(-1)
    n_kept = int(counts.flatten()[0])
    if bool((counts != n_kept).any()):
        got = f"between {int(counts.min())} and {int(counts.max())} inputs a neuron"
        raise ArgumentError("support", got, "equally many for x-tilde", "method='zhong'")
    inputs = support.nonzero()[:, -1].reshape(*support.shape[:-1], n_kept)
    return torch.nn.functional.one_hot(inputs, support.shape[-1]).to(torch.float64)


def _check_information(conditions: Tensor, largest: float, name: str) -> None:
    worst = float(conditions.nan_to_num(nan=torch.inf).max())
    if worst > largest:
        lost = int((conditions > largest).sum())
        raise InformationLostError(
            "support",
            f"{name} of condition number {worst:.3g} ({lost} of {conditions.numel()}): "
            "x-tilde has lost what these neurons read",
            f"at most {largest:.3g}",
            "method='zhong', which reads all inputs",
        )


def _check_enough(n_neurons: int, n_features: int, name: str) -> None:
    if n_neurons > n_features:
        need = f"at least as many as the {n_neurons} neurons, whose directions are to be independent"
        raise ArgumentError("n_neurons", f"{n_features} {name}", need, "fewer neurons")
