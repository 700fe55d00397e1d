"""The empirical risk of students, its gradient and its Hessian's product with a vector, over trials at once.

Zhang, Wang, Liu, Chen, Xiong 2021, equations (2) and (4), as masked dense tensors; the paper's footnote 2 for binary
labels. Plain torch for every device; :mod:`slth.learn.kernel` is faster on the CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slth.learn.teachers import activate

LOSSES = ("square", "cross-entropy")
CLIP = 1e-6
"""Probabilities are kept so far from 0 and 1 (chosen)."""


def spread(values: Tensor, trials: int) -> Tensor:
    """(trial, ...) of a tensor (trial or 1, ...): what all trials share once for each, without a copy."""
    return values.expand(trials, *values.shape[1:]) if len(values) == 1 < trials else values


def risk(
    weights: Tensor, inputs: Tensor, labels: Tensor, *, loss: str = "square", activation: str = "relu"
) -> tuple[Tensor, Tensor]:
    """Risk of every trial, and its gradient by all weights; students keep what their masks keep of it.

    Parameters
    ----------
    weights : (trial, neuron, input)
        Zero outside the supports.
    inputs : (trial, sample, input)
    labels : (trial, sample)
    loss : str
        ``"square"``: half the squared difference. ``"cross-entropy"``: of labels 0 and 1, g(x) being the probability of
        1, clipped to [1e-6, 1 - 1e-6]; a clipped sample has no gradient.
    activation : str
        ``"relu"``, whose slope at 0 is taken as 0, or ``"sigmoid"``.

    Returns
    -------
    risk : (trial,)
    gradient : (trial, neuron, input)
    """
    trials, neurons, _ = weights.shape
    inputs, labels = spread(inputs, trials), spread(labels, trials)
    before = torch.bmm(weights, inputs.transpose(1, 2))
    after = activate(before, activation)
    values, slopes = _losses(after.mean(dim=1), labels, loss)
    factors = (before > 0).to(before.dtype) if activation == "relu" else after * (1 - after)
    factors *= slopes[:, None] / (neurons * labels.shape[1])
    return values.mean(dim=1), torch.bmm(factors, inputs)


def _losses(output: Tensor, labels: Tensor, loss: str) -> tuple[Tensor, Tensor]:
    """Every sample's loss, and its derivative by the network's output."""
    if loss == "square":
        difference = output - labels
        return 0.5 * difference.square(), difference
    chance = output.clamp(CLIP, 1 - CLIP)
    values = -torch.where(labels > 0.5, chance, 1 - chance).log()
    slopes = torch.where(chance == output, (chance - labels) / (chance * (1 - chance)), torch.zeros_like(chance))
    return values, slopes


def active(weights: Tensor, inputs: Tensor) -> Tensor:
    """1 where a ReLU neuron is active: the Hessian depends on the weights through it alone.

    Parameters
    ----------
    weights : (trial, neuron, input)
    inputs : (trial or 1, sample, input)

    Returns
    -------
    (trial, neuron, sample), of the weights' number type
    """
    before = torch.bmm(weights, spread(inputs, len(weights)).transpose(1, 2))
    return (before > 0).to(before.dtype)


def hessian_product(pattern: Tensor, inputs: Tensor, masks: Tensor, vectors: Tensor) -> Tensor:
    """∇²f̂(W) v for the square loss and ReLU, one vector a trial.

    Block (j, k) is (1 / (N K²)) Σ_n 1{n active in j} 1{n active in k} x_{n,Ω_j} x_{n,Ω_k}ᵀ almost everywhere: positive
    semidefinite, as ReLU has no curvature. It is never formed.

    Parameters
    ----------
    pattern : (trial, neuron, sample)
        Of :func:`active`.
    inputs : (trial, sample, input)
    masks : (trial, neuron, input) bool
    vectors : (trial, neuron, input)
        Zero outside the masks.

    Returns
    -------
    (trial, neuron, input), zero outside the masks
    """
    trials, neurons, samples = pattern.shape
    inputs = spread(inputs, trials)
    moved = (pattern * torch.bmm(vectors, inputs.transpose(1, 2))).sum(dim=1, keepdim=True)
    return torch.bmm(pattern * (moved / (samples * neurons**2)), inputs) * masks
