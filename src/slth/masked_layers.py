"""Stage 9: source layers with their masks as torch.nn.utils.prune lays them out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils import prune


class Masked(torch.nn.Sequential):
    """Layers one after the other, some of them pruned: each call multiplies their weights by the masks."""

    def prepared(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The same for many batches one after the other, the products made once."""
        steps = [_prepared(layer) for layer in self]

        def mapped(x: torch.Tensor) -> torch.Tensor:
            for step in steps:
                x = step(x)
            return x

        return mapped


def _prepared(layer: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """A layer whose weights have been multiplied; with hooks of somebody else's it stays as it is."""
    hooks = list(layer._forward_pre_hooks.values())
    own = all(isinstance(hook, prune.BasePruningMethod) for hook in hooks) and not layer._forward_hooks
    if not hooks or not own:
        return layer
    for hook in hooks:
        hook(layer, ())
    forward: Callable[[torch.Tensor], torch.Tensor] = layer.forward
    return forward


def prune_layer(
    layer: torch.nn.Module, name: str, values: NDArray[np.float32], mask: NDArray[np.bool_], dtype: torch.dtype
) -> None:
    """Lay out a parameter and its mask as torch.nn.utils.prune does: ``name_orig`` and ``name_mask``."""
    shape = getattr(layer, name).shape
    parameter = torch.nn.Parameter(torch.from_numpy(values).reshape(shape).to(dtype), requires_grad=False)
    setattr(layer, name, parameter)
    prune.custom_from_mask(layer, name, torch.from_numpy(mask).reshape(shape).to(dtype))
