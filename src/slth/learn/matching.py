"""Which component is whose neuron's: the assignment of least empirical risk, and names where that leaves a tie."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from slth.learn.moments import ChunkedSamples

EXHAUSTIVE = 6
"""Up to so many neurons all assignments are tried (chosen)."""


def expected_products(chunked: ChunkedSamples, options: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    """E[h h'] and E[h y] of h_ij = sign_i relu(w_ij . x), from one pass.

    Parameters
    ----------
    chunked : ChunkedSamples
    options : Tensor (..., component, neuron, input)
        w_ij: neuron j's weights if component i is its own.
    signs : Tensor (..., component)

    Returns
    -------
    products : Tensor (..., component * neuron, component * neuron)
    with_output : Tensor (..., component * neuron)
    """
    n_neurons = options.shape[-2]
    flat = options.flatten(-3, -2)
    sign = signs.repeat_interleave(n_neurons, -1)
    products, with_output, count = None, None, 0
    for x, y in chunked.chunks(flat.shape[-2]):
        h = (x @ flat.mT).relu() * sign[..., None, :]
        square, line = h.mT @ h, (y[..., None, :] @ h)[..., 0, :]
        products = square if products is None else products + square
        with_output = line if with_output is None else with_output + line
        count += y.shape[-1]
    assert products is not None and with_output is not None
    return products / count, with_output / count


def least_risk(products: Tensor, with_output: Tensor) -> Tensor:
    """For each neuron its component, (..., neuron), int: of least E[((1/K) sum_j h_{i(j) j} - y)^2].

    Proved up to six neurons, where all assignments are tried; beyond, a linear assignment that takes what the other
    neurons do for its mean over their components, then exchanges of two until none helps.

    Parameters
    ----------
    products : Tensor (..., component * neuron, component * neuron)
        E[h h'].
    with_output : Tensor (..., component * neuron)
        E[h y].
    """
    n_neurons = round(with_output.shape[-1] ** 0.5)
    batch = with_output.shape[:-1]
    quadratic = products.detach().cpu().reshape(-1, n_neurons**2, n_neurons**2).numpy() / n_neurons**2
    linear = with_output.detach().cpu().reshape(-1, n_neurons**2).numpy() * (-2 / n_neurons)
    if n_neurons <= EXHAUSTIVE:
        permutations = np.array(list(itertools.permutations(range(n_neurons))))
        risks = _risks(quadratic, linear, np.broadcast_to(permutations, (len(linear), *permutations.shape)))
        best = permutations[risks.argmin(1)]
    else:
        best = np.stack([_exchange(*problem) for problem in zip(quadratic, linear, strict=True)])
    return torch.from_numpy(best).to(with_output.device).reshape(*batch, n_neurons)


def name_alike(weights: Tensor, masks: Tensor, truth: Tensor) -> Tensor:
    """Neurons of equal masks in the order that is nearest to the teacher's, (trial, neuron, input).

    Which of them is which no sample says: outputs and masks stay what they are, only names change, so that
    ‖W - W*‖ measures the weights and not the names.

    Parameters
    ----------
    weights, truth : Tensor (trial, neuron, input)
        W, zero outside the masks, and W*.
    masks : Tensor (trial, neuron, input), bool
    """
    alike = (masks[:, :, None] == masks[:, None]).all(-1)
    costs = torch.cdist(weights, truth).square().where(alike, torch.inf).cpu().numpy()
    order = np.stack([rows[np.argsort(columns)] for rows, columns in map(linear_sum_assignment, costs)])
    return weights.gather(1, torch.from_numpy(order).to(weights.device)[:, :, None].expand_as(weights))


def _risks(
    quadratic: NDArray[np.float64], linear: NDArray[np.float64], permutations: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Risks less E[y^2], (trial, permutation)."""
    n_neurons = permutations.shape[-1]
    chosen = permutations * n_neurons + np.arange(n_neurons)
    trial = np.arange(len(linear))[:, None, None]
    pairs = quadratic[trial[..., None], chosen[..., :, None], chosen[..., None, :]]
    total: NDArray[np.float64] = pairs.sum((-2, -1)) + linear[trial, chosen].sum(-1)
    return total


def _exchange(quadratic: NDArray[np.float64], linear: NDArray[np.float64]) -> NDArray[np.int64]:
    n = round(len(linear) ** 0.5)
    # What neuron k != j adds to the cost of giving i to j, on average over k's components.
    blocks = quadratic.reshape(n * n, n, n).mean(1)
    own = blocks.reshape(n, n, n)[:, np.arange(n), np.arange(n)]
    cost = np.diag(quadratic).reshape(n, n) + linear.reshape(n, n) + 2 * (blocks.sum(1).reshape(n, n) - own)
    rows, columns = linear_sum_assignment(cost)
    current = np.empty(n, dtype=np.int64)
    current[columns] = rows
    pairs = np.array(list(itertools.combinations(range(n), 2)))
    while True:
        swapped = np.repeat(current[None], len(pairs) + 1, 0)
        index = np.arange(len(pairs))
        swapped[index, pairs[:, 0]], swapped[index, pairs[:, 1]] = current[pairs[:, 1]], current[pairs[:, 0]]
        risks = _risks(quadratic[None], linear[None], swapped[None])[0]
        best = int(risks.argmin())
        if risks[best] >= risks[-1]:
            return current
        current = swapped[best]
