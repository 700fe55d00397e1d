"""Operations that only move entries: flatten, reshape, padding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from slth.errors import UnsupportedError
from slth.network.calls import Call
from slth.network.graph import Attribute, Layout, Sign
from slth.network.operators.base import Operator


class Reshape(Operator):
    """The same entries in another shape; the batch axis stays."""

    name = "reshape"
    aten = ("flatten", "view", "reshape", "_unsafe_view", "unflatten", "squeeze", "unsqueeze")
    kinds = {"shape": tuple}

    def lower(self, call: Call, shape: tuple[int, ...]) -> dict[str, Attribute]:
        """Shape that the traced call produced, without its batch axis."""
        batch = call.shape[0]
        rest = [size or 0 for size in call.shape[1:]]
        if math.prod(rest) != math.prod(shape) or (isinstance(batch, int) and batch != call.batch):
            raise UnsupportedError(
                call.name,
                f"{call.op} to {tuple(call.shape)} across the batch axis",
                "a reshape that keeps the first axis",
                "torch.flatten(x, 1)",
            )
        return {"shape": tuple(rest)}

    def module(self, attributes: Mapping[str, Any]) -> torch.nn.Module:
        """``torch.nn.Flatten`` or ``torch.nn.Unflatten``-like module."""
        shape: tuple[int, ...] = attributes["shape"]
        return torch.nn.Flatten() if len(shape) == 1 and shape != (1,) else _Reshape(shape)

    def shape(self, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
        """The attribute's, if it holds as many entries."""
        wanted: tuple[int, ...] = attributes["shape"]
        if math.prod(wanted) != math.prod(shape):
            raise ValueError(f"{shape} reshaped to {wanted}")
        return wanted


class _Reshape(torch.nn.Module):
    """Every input to one shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, ...) -> (batch, *shape)."""
        return x.reshape(x.shape[0], *self.shape)


PAD_MODES = ("constant", "reflect", "replicate", "circular")


class Pad(Operator):
    """Zeros (or reflected, replicated, circular entries) around the spatial axes."""

    name = "pad"
    aten = ("pad", "constant_pad_nd")
    kinds = {"widths": tuple, "mode": str}

    def lower(self, call: Call, shape: tuple[int, ...]) -> dict[str, Attribute]:
        """Widths in torch's order (last axis first) and the mode."""
        mode = str(call.arguments.get("mode", "constant"))
        value = call.arguments.get("value") or 0
        if mode == "constant" and value != 0:
            raise UnsupportedError(
                call.name, f"padding with {value}", "padding with 0", "subtracting the constant first"
            )
        return {"widths": tuple(int(width) for width in call.arguments["pad"]), "mode": mode}

    def module(self, attributes: Mapping[str, Any]) -> torch.nn.Module:
        """A module around ``torch.nn.functional.pad``."""
        return Padding(attributes["widths"], attributes["mode"])

    def shape(self, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
        """Each of the last axes with the widths around it; reflections stay within the spatial axes."""
        widths, mode = attributes["widths"], attributes["mode"]
        n = len(widths) // 2
        if len(widths) % 2 or n > len(shape) or mode not in PAD_MODES or (mode != "constant" and n != len(shape) - 1):
            raise ValueError(f"padding {widths} ({mode}) of {shape}")
        sizes = list(shape)
        for axis in range(1, n + 1):
            before, after = widths[2 * axis - 2 : 2 * axis]
            most = {"reflect": shape[-axis] - 1, "circular": shape[-axis]}.get(mode, max(before, after))
            sizes[-axis] += before + after
            left = shape[-axis] + min(before, 0) + min(after, 0)
            cropped = mode != "constant" and min(before, after) < 0
            if left < 0 or sizes[-axis] < 1 or max(before, after) > most or cropped:
                raise ValueError(f"padding {widths} ({mode}) of {shape}")
        return tuple(sizes)


class Join(Operator):
    """Several outputs of a network as one: flattened, one after another."""

    name = "join"

    def layout(self, attributes: Mapping[str, Any], sources: Sequence[Layout]) -> Layout:
        """All entries of one example."""
        if not sources or not all(source.batched for source in sources):
            raise ValueError("outputs without a batch axis in front")
        return Layout((sum(math.prod(source.shape) for source in sources),))

    def signs(self, attributes: Mapping[str, Any], signs: Sequence[Sign]) -> Sign:
        """Known where it is the same for all."""
        return signs[0] if len(set(signs)) == 1 else Sign.SIGNED

    def module(self, attributes: Mapping[str, Any]) -> torch.nn.Module:
        """A module of all outputs."""
        return _Join()


class _Join(torch.nn.Module):
    def forward(self, *outputs: torch.Tensor) -> torch.Tensor:
        """(batch, entries)."""
        return torch.cat([flattened(output) for output in outputs], dim=1)


def flattened(output: torch.Tensor) -> torch.Tensor:
    """(batch, entries), also of an output that is one number for each input."""
    return output[:, None] if output.dim() == 1 else output.flatten(1)


class Padding(torch.nn.Module):
    """``torch.nn.functional.pad`` as a module."""

    def __init__(self, widths: tuple[int, ...], mode: str = "constant") -> None:
        super().__init__()
        self.widths, self.mode = tuple(widths), mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pad the last axes of a batch."""
        return torch.nn.functional.pad(x, self.widths, self.mode)
