"""Sources of layers whose input may have either sign and whose expanding layer has the target's kernel all the same.

Da Cunha, Natale and Viennot 2022 leave such inputs out; the ways around are those of the theory, section 5.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from slth.errors import ArgumentError
from slth.source.kernels import KernelSource
from slth.source.spec import BlockSource


@dataclass(frozen=True)
class TapSource(BlockSource):
    """Kernels of the target's size of which each keeps one entry, a block of them for every entry, then 1x1 kernels.

    A neuron reads one entry alone, and any output may read any neuron: univariate neurons of both signs, as in the
    other order, for taps times as many inputs.
    """

    order = "taps-first"
    kernel_first = True


@dataclass(frozen=True)
class SplitSource(KernelSource):
    """Whole kernels that read relu(x) and relu(-x) of every channel, neither of which is negative.

    In each group first all channels' relu(x), then all channels' relu(-x). The split has no parameters.
    """

    order = "kernels-first-split"

    @property
    def reads_per_group(self) -> int:
        """Two channels for each of the target's."""
        return 2 * self.inputs_per_group

    def branch(self, branches: tuple[int, ...]) -> int:
        """Nothing that the kernels read is negative."""
        return 1


@dataclass(frozen=True)
class ShiftedSource(KernelSource):
    """Whole kernels that read x + shift, padded with the shift where the target pads with 0.

    With the realised kernel L that is L x and a constant, shift times the sum of L, which is taken back by the biases:
    the layer has some whether the target has or not.

    Attributes
    ----------
    shift : float
        A float32 above 0; no smaller than any -x.
    """

    shift: float = 1.0

    order = "kernels-first-shifted"

    def branch(self, branches: tuple[int, ...]) -> int:
        """Nothing that the kernels read is negative."""
        return 1

    def own_json(self) -> dict[str, Any]:
        """The shift."""
        return {"shift": self.shift}

    @classmethod
    def own_fields(cls, stored: Mapping[str, Any]) -> dict[str, Any]:
        """The shift."""
        shift = stored.get("shift")
        if not (isinstance(shift, float) and 0.0 < shift < float(np.finfo(np.float32).max)):
            raise ArgumentError("shift", repr(shift), "a number above 0")
        if float(np.float32(shift)) != shift:
            raise ArgumentError("shift", repr(shift), "a float32 value")
        return {"shift": shift}
