"""A neuron ticket as a torch module, in three forms that compute the same function."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils import prune

from slth.errors import ArgumentError
from slth.neurons.ticket import NeuronTicket

FORMS = ("masked", "sparse", "folded")
LARGEST_BYTES = 8 << 30


class NeuronNetwork(torch.nn.Module):
    """Inputs into the unit ball, ``first``, the activation, ``second``, and one constant an output.

    Buffer ``constants`` is c; in the folded form it is in ``second`` already and all ones here.
    """

    constants: torch.Tensor

    def __init__(
        self,
        ticket: NeuronTicket,
        first: torch.nn.Linear,
        second: torch.nn.Linear,
        constants: NDArray[np.float64],
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.input_scale, self.constant = ticket.input_scale, ticket.source.constant
        self.first, self.activation, self.second = first, ticket.sigma.torch_module(), second
        self.register_buffer("constants", torch.from_numpy(constants).to(dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs of a batch (n, ...) whose inputs have the source's number of entries, (n, outputs)."""
        x = x.flatten(1) / self.input_scale
        if self.constant:
            x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1) / math.sqrt(2.0)
        result: torch.Tensor = self.second(self.activation(self.first(x))) * self.constants
        return result


def module(ticket: NeuronTicket, form: str = "folded", dtype: torch.dtype | None = None) -> NeuronNetwork:
    """A ticket as a torch module in evaluation mode.

    Parameters
    ----------
    ticket : NeuronTicket
    form : str
        ``"masked"``: the whole source, pruned by ``torch.nn.utils.prune``. ``"sparse"``: the neurons that some output
        keeps, with their second-layer weights v. ``"folded"``: those neurons with the coefficients u = c b v, a
        random-features predictor (Malach et al. 2020, Theorem 3.2, the converse direction).
    dtype : torch.dtype, optional
        float32 by default.

    Raises
    ------
    ArgumentError
        If there is no such form, or it would take more than 8 GiB.
    """
    if form not in FORMS:
        raise ArgumentError("form", repr(form), " or ".join(FORMS))
    dtype = dtype or torch.float32
    source = ticket.source
    n_neurons = source.width if form == "masked" else ticket.n_live
    n_bytes = 16 * n_neurons * (source.row_size + source.outputs)
    if n_bytes > LARGEST_BYTES:
        got = f"{n_neurons:,} neurons of {source.row_size:,} inputs, {n_bytes:,} bytes"
        raise ArgumentError("form", got, f"at most {LARGEST_BYTES:,} bytes", "NeuronTicket.outputs, block by block")
    second = source.second()
    if form == "masked":
        rows = np.repeat(ticket.live[:, None], source.row_size, axis=1)
        first = _linear(source.first(0, source.width), dtype, rows)
        return NeuronNetwork(ticket, first, _linear(second, dtype, ticket.mask), ticket.constants, dtype).eval()
    live = np.flatnonzero(ticket.live)
    first = _linear(np.concatenate([np.empty((0, source.row_size), np.float32), *source.kept_rows(ticket.live)]), dtype)
    if form == "folded":
        weight, constants = ticket.coefficients()[:, live], np.ones(source.outputs)
    else:
        weight, constants = np.where(ticket.mask, second, 0)[:, live].astype(np.float64), ticket.constants
    return NeuronNetwork(ticket, first, _linear(weight, dtype), constants, dtype).eval()


def _linear(
    weight: NDArray[np.float32] | NDArray[np.float64], dtype: torch.dtype, mask: NDArray[np.bool_] | None = None
) -> torch.nn.Linear:
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = torch.nn.Parameter(torch.from_numpy(np.ascontiguousarray(weight)).to(dtype), requires_grad=False)
    if mask is not None:
        prune.custom_from_mask(layer, "weight", torch.from_numpy(mask).to(dtype))
    return layer
