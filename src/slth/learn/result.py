"""Files of networks that training has sparsified: a state dict, what belongs to it beside it, and facts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slth.errors import TargetError
from slth.files import write_atomically
from slth.learn.checkpoint import below, under
from slth.network.load import BESIDE

FORMAT = "slth sparse network"
VERSION = 1


@dataclass(frozen=True)
class SparseNetwork:
    """What a ``.safetensors`` of ``slth learn`` holds; as a target it is its state dict.

    Attributes
    ----------
    state : dict of str to Tensor
        The state dict; pruned weights are zero.
    beside : dict of str to Tensor
        Other tensors by name: ``mask/NAME`` (bool), ``rewind/NAME``.
    facts : dict
        What was done and reached, of JSON's kinds.
    """

    state: dict[str, torch.Tensor]
    beside: dict[str, torch.Tensor]
    facts: dict[str, Any]

    @property
    def masks(self) -> dict[str, torch.Tensor]:
        """Which entries of which parameters survived."""
        return {name: mask.to(torch.bool) for name, mask in under("mask", self.beside).items()}

    @property
    def rewind(self) -> dict[str, torch.Tensor]:
        """The state dict at the rewinding point."""
        return under("rewind", self.beside)

    def save(self, path: Path) -> int:
        """Write the file whole or not at all; returns its size in bytes.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        from safetensors.torch import save

        tensors = {**self.state, **below(BESIDE.rstrip("/"), self.beside)}
        whole = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        text = json.dumps({"format": FORMAT, "version": VERSION, **self.facts})
        return write_atomically(path, save(whole, {"slth": text}))


def load_sparse(path: Path) -> SparseNetwork:
    """Read such a file; nothing in it is ever executed.

    Raises
    ------
    TargetError
        If it is damaged or was not written by :meth:`SparseNetwork.save`.
    """
    from safetensors import SafetensorError, safe_open

    need = "a file that slth learn wrote"
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("slth", "null"))
            tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise TargetError(str(path), f"a damaged or missing file ({error})", need) from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT or facts.get("version") != VERSION:
        raise TargetError(str(path), "a file without the facts of one", need)
    beside = under(BESIDE.rstrip("/"), tensors)
    state = {name: tensor for name, tensor in tensors.items() if not name.startswith(BESIDE)}
    return SparseNetwork(state, beside, facts)
