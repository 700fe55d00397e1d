"""The ticket of neuron pruning: source, mask, one scalar an output, and what was measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slth.activations import Activation, parse
from slth.activations.own import Description
from slth.bounds.malach import random_features_error
from slth.neurons.classes import Label
from slth.neurons.fit import lipschitz, pieces
from slth.neurons.prune import error_bound, output_constants
from slth.neurons.samples import CLASSIFICATION, unit_ball
from slth.neurons.source import NeuronSource

if TYPE_CHECKING:
    import torch

CONSTRUCTION = "neurons"
LARGEST_SAMPLE = 1024
"""Pairs of output and neuron whose û is kept for pictures: 2 KiB (chosen)."""
AIM_UNIT = 2.0**-14
"""û is at most 1 - τ in size, so that 16 bits hold it."""
FUNCTION = "function"
"""The task of a ticket whose coefficients are a function of w (Theorem 3.3 (ii)) and not fitted to samples."""


@dataclass(frozen=True)
class Measured:
    """Pruned network and average of the blocks on some samples; six digits of every number.

    Attributes
    ----------
    digest : str
        Of the samples.
    samples, outside : int
        How many there are, and how many lie outside the ball in which the bound holds.
    measured : int
        On how many of them the errors and the accuracy were measured.
    spread : float or None
        Root mean square of the targets about the mean of each output; None in files that do not say.
    error, average_error : float
        Root of the mean squared error against the labels, over samples and outputs.
    difference, expected_difference, largest_difference : float
        Between the two: root mean square as found; its expectation over v, exact; the largest found.
    accuracy, average_accuracy : float or None
        Percent; None for a regression.
    """

    digest: str
    samples: int
    outside: int
    measured: int
    spread: float | None
    error: float
    average_error: float
    difference: float
    expected_difference: float
    largest_difference: float
    accuracy: float | None
    average_accuracy: float | None

    @property
    def explained(self) -> float | None:
        """Share of the targets' squared spread that the pruned network explains, 1 - (error / spread)²; at most 1."""
        return _explained(self.error, self.spread)

    @property
    def average_explained(self) -> float | None:
        """The same of the average of the blocks."""
        return _explained(self.average_error, self.spread)


@dataclass(frozen=True, eq=False)
class NeuronTicket:
    """A neuron-subnetwork of a random two-layer network (Malach et al. 2020, section 3).

    Its function is c_o Σ b_oi v_oi σ(⟨w_i, x⟩), with x the inputs in the unit ball.

    Attributes
    ----------
    source : NeuronSource
    activation : str
        σ, as :func:`slth.activations.parse` reads it.
    tau : float
        Half-width of the windows.
    ridge : float or None
        Of the fits; None where the coefficients are a function of w.
    delta : float
        Failure probability of the error bound.
    task : str
        ``"classification"``, ``"regression"`` or ``"function"``.
    input_scale : float
        Norm of the largest input, rounded up, by which inputs are divided.
    labels : tuple of int or str, or None
        What the classes are called, in the order of the outputs; None where by their numbers.
    block_samples : int or None
        To how many samples each block was fitted; None for all.
    mask : (outputs, width) bool
        b.
    largest : (outputs,) float64
        C, of which c is made.
    aims : (n,) int16, or None
        û of the pairs of output and neuron that :func:`sampled_pairs` names, in units of 2^-14: for pictures.
    survivors_digest : str
        SHA-256 of the kept weights; see :meth:`NeuronSource.survivors_digest`.
    train, test : Measured or None
    generator_version : str
        Version of the program that made it.
    own_activation : Description or None
        What the file from which it was read says of a user's own σ.
    seconds : float or None
        How long it took; not part of the file.
    """

    source: NeuronSource
    activation: str
    tau: float
    ridge: float | None
    delta: float
    task: str
    input_scale: float
    mask: NDArray[np.bool_]
    largest: NDArray[np.float64]
    survivors_digest: str
    train: Measured | None
    test: Measured | None
    generator_version: str
    labels: tuple[Label, ...] | None = None
    block_samples: int | None = None
    aims: NDArray[np.int16] | None = None
    own_activation: Description | None = None
    seconds: float | None = field(default=None)

    @property
    def sigma(self) -> Activation:
        """σ."""
        return parse(self.activation)

    @property
    def constants(self) -> NDArray[np.float64]:
        """c of every output."""
        return output_constants(self.largest, self.tau, self.source.blocks)

    @property
    def classes(self) -> tuple[Label, ...]:
        """What the classes are called, in the order of the outputs; with one output that below 0 and that above it."""
        if self.task != CLASSIFICATION:
            return ()
        return self.labels if self.labels is not None else tuple(range(max(2, self.source.outputs)))

    @property
    def n_kept(self) -> int:
        """Second-layer weights that stay, over all outputs; for one output the kept neurons."""
        return int(self.mask.sum())

    @property
    def density(self) -> float:
        """Kept fraction of (output, neuron) pairs, τ in expectation."""
        return self.n_kept / self.mask.size

    @property
    def live(self) -> NDArray[np.bool_]:
        """Which neurons some output keeps, (width,)."""
        return np.asarray(self.mask.any(axis=0), dtype=np.bool_)

    @property
    def n_live(self) -> int:
        """How many neurons some output keeps."""
        return int(self.live.sum())

    @property
    def error_bound(self) -> float:
        """See :func:`slth.neurons.prune.error_bound`."""
        shape = self.source.features, self.source.blocks
        return error_bound(*shape, self.largest, lipschitz(self.sigma), self.delta, self.tau)

    @property
    def features_error(self) -> float | None:
        """How far the average of the blocks is from f, with probability 1 - delta; None where there is no f.

        :func:`slth.bounds.malach.random_features_error` of all k m features at delta / outputs, if no |h(w)| is larger
        than those of the drawn w.
        """
        largest = float(self.largest.max()) * self.source.features
        if self.task != FUNCTION or largest == 0:
            return None
        delta = self.delta / self.source.outputs
        return random_features_error(self.source.width, largest, lipschitz(self.sigma), delta)

    def coefficients(self) -> NDArray[np.float64]:
        """u = c b v, (outputs, width): the random-features predictor that this network is.

        Malach et al. 2020, Theorem 3.2, the converse direction.
        """
        return self.constants[:, None] * np.where(self.mask, self.source.second().astype(np.float64), 0.0)

    def outputs(self, inputs: NDArray[Any]) -> NDArray[np.float64]:
        """The network on inputs (n, inputs), in float64, (n, outputs); only one block at a time is in memory."""
        x = unit_ball(
            np.asarray(inputs, dtype=np.float64).reshape(len(inputs), -1), self.input_scale, self.source.constant
        )
        return predict(self.source, self.sigma, self.coefficients(), x)

    def to_json(self) -> dict[str, Any]:
        """The facts, as plain JSON values."""
        source = self.source
        return {
            "construction": CONSTRUCTION,
            "task": self.task,
            "seed": source.seed,
            "inputs": source.inputs,
            "outputs": source.outputs,
            "features": source.features,
            "blocks": source.blocks,
            "width": source.width,
            "law": source.law.text,
            "constant": source.constant,
            "classes": list(self.classes),
            "block_samples": self.block_samples,
            "activation": self.activation,
            "tau": self.tau,
            "ridge": self.ridge,
            "delta": self.delta,
            "source_weights": source.n_weights,
            "kept": self.n_kept,
            "density": self.density,
            "live_neurons": self.n_live,
            "largest_coefficient": float(self.largest.max()),
            "error_bound": self.error_bound,
            "features_error": self.features_error,
            "train": None if self.train is None else asdict(self.train),
            "test": None if self.test is None else asdict(self.test),
            "seconds": self.seconds,
        }

    def save(self, path: str | Path) -> int:
        """Write the ticket to a file, atomically; returns its size in bytes."""
        from slth.neurons.file import save

        return save(self, Path(path))

    def module(self, form: str = "folded", dtype: torch.dtype | None = None) -> torch.nn.Module:
        """The ticket as a torch module; see :func:`slth.neurons.module.module`."""
        from slth.neurons.module import module

        return module(self, form, dtype)


def sampled_pairs(source: NeuronSource) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Outputs and neurons of the pairs whose û a ticket holds: at most 1,024, evenly spread over all of them."""
    count = min(source.width * source.outputs, LARGEST_SAMPLE)
    index = np.arange(count, dtype=np.int64)
    return index % source.outputs, index * source.width // count


def _explained(error: float, spread: float | None) -> float | None:
    return 1 - (error / spread) ** 2 if spread else None


def predict(
    source: NeuronSource, activation: Activation, coefficients: NDArray[np.float64], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Σ_i u_oi σ(⟨w_i, x⟩) for inputs (n, row_size) in the unit ball and u (outputs, width): (n, outputs)."""
    total = np.zeros((len(x), len(coefficients)))
    for neurons, features in pieces(source, activation, x):
        total += features @ coefficients[:, neurons].T
    return total
