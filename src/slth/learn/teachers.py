"""Sparse teachers of one hidden layer, the data that they label, and students with supersets of their supports.

Zhang, Wang, Liu, Chen, Xiong 2021, section 2: g(x) = (1/K) Σ_j φ(⟨w_j, x⟩), where neuron j reads the inputs in Ω_j.
A batch holds many independent trials; trial t of a seed is the same in every batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slth.errors import ArgumentError, DataError, MismatchError
from slth.learn.draws import Stream

ACTIVATIONS = ("relu", "sigmoid")
HALF_WIDTH = 0.5
"""Teachers' weights are uniform on [-1/2, 1/2] (section 5.1)."""


def activate(values: Tensor, activation: str) -> Tensor:
    """φ(values), entry by entry, of any shape; ``activation`` is one of :data:`ACTIVATIONS`."""
    return torch.relu(values) if activation == "relu" else torch.sigmoid(values)


def outputs(weights: Tensor, inputs: Tensor, activation: str = "relu") -> Tensor:
    """g(x) of every trial.

    Parameters
    ----------
    weights : (trial, neuron, input)
    inputs : (trial, sample, input)
        The trial axis may be 1: all trials share the inputs then.
    activation : str

    Returns
    -------
    (trial, sample)
    """
    if len(inputs) == 1 < len(weights):
        inputs = inputs.expand(len(weights), -1, -1)
    return activate(torch.bmm(weights, inputs.transpose(1, 2)), activation).mean(dim=1)


@dataclass(frozen=True)
class Teachers:
    """Teachers of one shape, one a trial.

    Attributes
    ----------
    weights : (trial, neuron, input) float64
        W̃*: zero outside the supports.
    supports : (trial, neuron, input) bool
        Ω*.
    order : (trial, neuron, input) int64
        The inputs in a random order that begins with the support: students take the first r of it.
    activation : str
    seed, first_trial : int
    """

    weights: Tensor
    supports: Tensor
    order: Tensor
    activation: str
    seed: int
    first_trial: int

    @property
    def n_trials(self) -> int:
        """Number of trials."""
        return len(self.weights)

    @property
    def trials(self) -> range:
        """Numbers of the trials."""
        return range(self.first_trial, self.first_trial + self.n_trials)


@dataclass(frozen=True)
class Samples:
    """Inputs and labels of every trial.

    Attributes
    ----------
    inputs : (trial, sample, input)
        The trial axis may be 1: all trials share them.
    labels : (trial, sample)
        So it may be here.
    signal : (trial,)
        E_y = √(mean g²); what a noise level is relative to.
    """

    inputs: Tensor
    labels: Tensor
    signal: Tensor

    def check(self, binary: bool = False) -> None:
        """Refuse what nothing can be learnt from.

        Raises
        ------
        DataError
            If shapes do not fit, a number is not finite, or binary labels are not 0 and 1.
        """
        if self.inputs.ndim != 3 or 0 in self.inputs.shape:
            got = f"shape {tuple(self.inputs.shape)}"
            raise DataError("inputs", got, "(trial, sample, input), none of them 0")
        n_trials, n_samples, _ = self.inputs.shape
        fits = self.labels.ndim == 2 and self.labels.shape[1] == n_samples
        if not fits or (n_trials > 1 and len(self.labels) not in (1, n_trials)):
            got = f"shape {tuple(self.labels.shape)}"
            raise DataError("labels", got, f"({n_trials} trials, {n_samples} samples), one label a sample")
        for name, values in (("inputs", self.inputs), ("labels", self.labels)):
            if not values.is_floating_point():
                raise DataError(name, f"{values.dtype}", "floating-point numbers", f"{name}.double()")
            bad = ~torch.isfinite(values)
            if bool(bad.any()):
                place = tuple(int(i) for i in bad.nonzero()[0])
                raise DataError(f"{name}{list(place)}", f"{values[place].item()}", "finite numbers", "leaving it out")
        if binary and bool(((self.labels != 0) & (self.labels != 1)).any()):
            wrong = self.labels[(self.labels != 0) & (self.labels != 1)][0].item()
            raise DataError("labels", f"{wrong:g} among the labels", "0 or 1", "loss='square' for other labels")


def draw_teachers(
    trials: int,
    neurons: int,
    inputs: int,
    kept: int | Sequence[int],
    seed: int = 0,
    *,
    first_trial: int = 0,
    activation: str = "relu",
) -> Teachers:
    """Teachers with uniform supports without replacement and weights uniform on [-1/2, 1/2] (section 5.1).

    Parameters
    ----------
    trials, neurons, inputs : int
        How many, K and d.
    kept : int or sequence of int
        r*: inputs that a neuron reads; one number for all or one a neuron (the paper's footnote 1).
    seed, first_trial : int
    activation : str
        ``"relu"``, or ``"sigmoid"`` for binary labels.

    Raises
    ------
    ArgumentError
        If a number is below 1, r* is above d, or the activation is unknown.
    """
    for name, value in (("trials", trials), ("neurons", neurons), ("inputs", inputs)):
        if value < 1:
            raise ArgumentError(name, str(value), "at least 1")
    if activation not in ACTIVATIONS:
        raise ArgumentError("activation", repr(activation), f"one of {', '.join(ACTIVATIONS)}")
    each = sizes("kept", kept, neurons, inputs)
    weights = np.zeros((trials, neurons, inputs))
    supports = np.zeros((trials, neurons, inputs), dtype=bool)
    order = np.empty((trials, neurons, inputs), dtype=np.int64)
    for number in range(trials):
        order[number] = Stream(seed, first_trial + number, "support").order(neurons, inputs)
        values = Stream(seed, first_trial + number, "weights").uniforms(neurons, inputs)
        weights[number] = (2 * HALF_WIDTH) * values - HALF_WIDTH
    np.put_along_axis(supports, order, np.arange(inputs) < np.array(each)[:, None], axis=2)
    weights *= supports
    return Teachers(
        torch.from_numpy(weights), torch.from_numpy(supports), torch.from_numpy(order), activation, seed, first_trial
    )


def sizes(name: str, kept: int | Sequence[int], neurons: int, inputs: int) -> list[int]:
    """One size of a support for every neuron.

    Parameters
    ----------
    name : str
        What an error calls the sizes.
    kept : int or sequence of int
        For all neurons, or one for each.
    neurons, inputs : int
        K and d.

    Raises
    ------
    ArgumentError
        If there are not as many as neurons, or one is not from 1 to d.
    """
    each = [kept] * neurons if isinstance(kept, int) else list(kept)
    if len(each) != neurons:
        raise ArgumentError(name, f"{len(each)} numbers", f"one, or one for each of the {neurons} neurons")
    for value in each:
        if not 1 <= value <= inputs:
            raise ArgumentError(name, str(value), f"a number from 1 to the {inputs} inputs", str(inputs))
    return each


def draw_students(teachers: Teachers, kept: int | Sequence[int]) -> Tensor:
    """Masks with r inputs a neuron: the teacher's and uniform others, so that a larger r gives a superset.

    Zhang et al. 2021, section 2: Ω_j contains Ω*_j.

    Parameters
    ----------
    teachers : Teachers
    kept : int or sequence of int
        r: inputs that a neuron of the student reads; one number for all or one a neuron.

    Returns
    -------
    (trial, neuron, input) bool

    Raises
    ------
    ArgumentError
        If a neuron would have fewer inputs than its teacher, or more than there are.
    """
    n_neurons, n_inputs = teachers.weights.shape[1:]
    each = sizes("student_kept", kept, n_neurons, n_inputs)
    least = teachers.supports.sum(dim=2).amax(dim=0).tolist()
    for value, needed in zip(each, least, strict=True):
        if value < needed:
            got = f"{value} inputs of a neuron whose teacher reads {needed}"
            raise ArgumentError("student_kept", got, "a superset of the teacher's support", str(needed))
    kept_ranks = torch.arange(n_inputs) < torch.tensor(each)[:, None]
    masks = torch.zeros_like(teachers.supports)
    return masks.scatter_(2, teachers.order, kept_ranks.expand_as(masks))


def check_supersets(masks: Tensor, supports: Tensor) -> None:
    """Refuse students that cannot hold their teachers.

    Parameters
    ----------
    masks, supports : (trial, neuron, input) bool
        Ω and Ω*.

    Raises
    ------
    MismatchError
        If shapes differ, or a support has an input that the mask lacks.
    """
    if masks.shape != supports.shape:
        got, need = f"masks of shape {tuple(masks.shape)}", f"the teachers' {tuple(supports.shape)}"
        raise MismatchError("students", got, need)
    missing = supports & ~masks
    if bool(missing.any()):
        trial, neuron, place = (int(i) for i in missing.nonzero()[0])
        got = f"trial {trial}: neuron {neuron} without input {place}, which its teacher reads"
        raise MismatchError("students", got, "supersets of the teachers' supports", "masks | teachers.supports")


def draw_samples(
    teachers: Teachers, samples: int, noise: float = 0.0, *, binary: bool = False, dtype: torch.dtype = torch.float64
) -> Samples:
    """Standard normal inputs with the teachers' labels; fewer samples are the first of more.

    Parameters
    ----------
    teachers : Teachers
    samples : int
        N.
    noise : float
        σ / E_y: standard deviation of the labels' noise relative to √(mean g²) of the trial (section 5.1).
    binary : bool
        Labels 1 with probability g(x), clipped to [0, 1], else 0 (the paper's footnote 2); without other noise.
    dtype : torch.dtype

    Raises
    ------
    ArgumentError
        If there are no samples, or the noise is negative or not a number, or set with binary labels.
    """
    if samples < 1:
        raise ArgumentError("samples", str(samples), "at least 1")
    if not 0.0 <= noise < float("inf"):
        raise ArgumentError("noise", str(noise), "a number >= 0", "0.01")
    if binary and noise:
        raise ArgumentError("noise", str(noise), "0 with binary labels, which are random by themselves", "0")
    n_inputs = teachers.weights.shape[2]
    inputs = torch.empty((teachers.n_trials, samples, n_inputs), dtype=dtype)
    for number, trial in enumerate(teachers.trials):
        drawn = Stream(teachers.seed, trial, "inputs").normals(samples, n_inputs)
        inputs[number] = torch.from_numpy(drawn)
    clean = outputs(teachers.weights.to(dtype), inputs, teachers.activation)
    signal = clean.square().mean(dim=1).sqrt()
    if binary:
        thresholds = [Stream(teachers.seed, trial, "labels").uniforms(samples) for trial in teachers.trials]
        labels = (torch.from_numpy(np.stack(thresholds)) < clean).to(dtype)
    elif noise:
        normals = [Stream(teachers.seed, trial, "noise").normals(samples) for trial in teachers.trials]
        labels = clean + noise * signal[:, None] * torch.from_numpy(np.stack(normals)).to(dtype)
    else:
        labels = clean
    return Samples(inputs, labels, signal)


def random_starts(teachers: Teachers, masks: Tensor, radius: float, *, inside: bool = False) -> Tensor:
    """Weights at a relative distance from the teachers, in a uniform direction on the students' supports.

    Parameters
    ----------
    teachers : Teachers
    masks : (trial, neuron, input) bool
    radius : float
        λ: ‖W0 - W*‖_F / ‖W*‖_F.
    inside : bool
        Uniform in the ball of that radius (section 5.1); otherwise on its sphere.

    Returns
    -------
    (trial, neuron, input) float64, zero outside the masks

    Raises
    ------
    ArgumentError
        If the radius is negative or not a number.
    MismatchError
        If a student lacks an input of its teacher.
    """
    if not 0.0 <= radius < float("inf"):
        raise ArgumentError("radius", str(radius), "a number >= 0", "0.5")
    check_supersets(masks, teachers.supports)
    drawn, shares = [], []
    for trial, mask in zip(teachers.trials, masks.numpy(), strict=True):
        stream = Stream(teachers.seed, trial, "start")
        # The share of the radius first: its place in the stream is then the same for every student.
        shares.append(float(stream.uniforms(2)[0]))
        drawn.append(stream.normals(*mask.shape) * mask)
    directions = torch.from_numpy(np.stack(drawn))
    lengths = directions.square().sum(dim=(1, 2)).sqrt()
    scales = radius * teachers.weights.square().sum(dim=(1, 2)).sqrt() / lengths
    if inside:
        free = masks.sum(dim=(1, 2)).double()
        scales = scales * torch.tensor(shares, dtype=torch.float64) ** (1 / free)
    return teachers.weights + directions * scales[:, None, None]
